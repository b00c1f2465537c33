// Package netlab makes networks of network namespaces, for tests and measurements with several machines: a
// switch, and machines with one cable to it each. It needs root and iproute2.
package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
)

// Interface is the name of a machine's interface to the switch.
const Interface = "lan0"

// made counts the networks of this process, for their names.
var made atomic.Int32

// Net is a network. Its addresses are those of 10.99.0.0/24 and fd99::/64, and link-local ones of IPv6.
type Net struct {
	name     string // and the namespace of the switch
	machines int
	spaces   []string
}

// Machine is one of its machines.
type Machine struct {
	Space     string     // name of its namespace
	Four, Six netip.Addr // its addresses; the zero address where it has none
	cable     string     // the switch's end of its cable
	net       *Net
}

// New makes a network without machines.
func New() (_ *Net, err error) {
	n := &Net{name: fmt.Sprintf("ebblab%d.%d", os.Getpid(), made.Add(1))}
	defer func() {
		if err != nil {
			_ = n.Close()
		}
	}()
	if err := n.space(n.name); err != nil {
		return nil, err
	}
	// Without snooping multicast goes to all, at once.
	if err := run("ip", "-n", n.name, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"); err != nil {
		return nil, err
	}
	return n, run("ip", "-n", n.name, "link", "set", "br0", "up")
}

func (n *Net) space(name string) error {
	if err := run("ip", "netns", "add", name); err != nil {
		return err
	}
	n.spaces = append(n.spaces, name)
	return run("ip", "-n", name, "link", "set", "lo", "up")
}

// Machine adds a machine, with IPv4, IPv6 or both.
func (n *Net) Machine(four, six bool) (*Machine, error) {
	n.machines++
	m := &Machine{Space: fmt.Sprintf("%s.%d", n.name, n.machines), cable: fmt.Sprintf("port%d", n.machines), net: n}
	if err := n.space(m.Space); err != nil {
		return nil, err
	}
	// An address counts at once, without a look whether another machine has it.
	off := 1
	if six {
		off = 0
	}
	for _, what := range []string{"all", "default"} {
		set := fmt.Sprintf("cd /proc/sys/net/ipv6/conf/%s && echo %d >disable_ipv6 && echo 0 >accept_dad", what, off)
		if err := m.Run("sh", "-c", set); err != nil {
			return nil, err
		}
	}
	steps := [][]string{
		{"ip", "-n", n.name, "link", "add", m.cable, "type", "veth", "peer", "name", Interface, "netns", m.Space},
		{"ip", "-n", n.name, "link", "set", m.cable, "master", "br0", "up"},
	}
	if four {
		m.Four = netip.AddrFrom4([4]byte{10, 99, 0, byte(n.machines)})
		steps = append(steps, []string{"ip", "-n", m.Space, "addr", "add", m.Four.String() + "/24", "dev", Interface})
	}
	if six {
		m.Six = netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x99, 15: byte(n.machines)})
		steps = append(steps, []string{"ip", "-n", m.Space, "addr", "add", m.Six.String() + "/64", "dev", Interface, "nodad"})
	}
	steps = append(steps, []string{"ip", "-n", m.Space, "link", "set", Interface, "up"})
	for _, s := range steps {
		if err := run(s[0], s[1:]...); err != nil {
			return nil, err
		}
	}
	return m, m.await(six)
}

// await returns when the machine's interface runs, and has its address of the link if it has IPv6: the kernel
// makes both so in its own time.
func (m *Machine) await(six bool) error {
	ready := func() (bool, error) {
		up, err := exec.Command("ip", "-n", m.Space, "-o", "link", "show", "dev", Interface, "up").Output()
		if err != nil || !strings.Contains(string(up), "LOWER_UP") || !strings.Contains(string(up), "state UP") {
			return false, err
		}
		if !six {
			return true, nil
		}
		own, err := exec.Command("ip", "-n", m.Space, "-6", "-o", "addr", "show", "dev", Interface, "scope", "link", "-tentative").Output()
		return len(own) > 0, err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		ok, err := ready()
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the interface %s of %s does not run after a minute", Interface, m.Space)
		}
	}
}

// Inside returns the words that a command begins with that is to run on the machine.
func (m *Machine) Inside() []string { return []string{"ip", "netns", "exec", m.Space} }

// Run runs a command on the machine.
func (m *Machine) Run(name string, args ...string) error {
	return run("ip", append([]string{"netns", "exec", m.Space, name}, args...)...)
}

// Shape lets no more than so many bits per second through the machine's cable, in each direction, with a queue
// of 50 ms.
func (m *Machine) Shape(bits int64) error {
	limit := fmt.Sprintf("%dbit", bits)
	for _, end := range [][2]string{{m.Space, Interface}, {m.net.name, m.cable}} {
		if err := run("ip", "netns", "exec", end[0], "tc", "qdisc", "replace", "dev", end[1], "root", "tbf", "rate", limit, "burst", "16kb", "latency", "50ms"); err != nil {
			return err
		}
	}
	return nil
}

// Close removes all. What still runs on the machines loses its network.
func (n *Net) Close() error {
	var errs []error
	for _, s := range n.spaces {
		errs = append(errs, run("ip", "netns", "del", s)) // and its interfaces with it
	}
	n.spaces = nil
	return errors.Join(errs...)
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Missing returns why there can be no networks here; empty if there can.
func Missing() string {
	if os.Geteuid() != 0 {
		return "network namespaces are root's"
	}
	for _, p := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(p); err != nil {
			return p + " is not installed: apt-get install iproute2"
		}
	}
	return ""
}
