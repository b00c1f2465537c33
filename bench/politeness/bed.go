package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bench/politeness/link"
)

// The parts of the bed, each a network namespace. Between provider and router lies the link:
//
//	cubic ─┐                              ┌─ machine      runs ebb or a rival
//	       provider ── the link ── router ┤
//	bbr ───┘                              └─ neighbour
const (
	cubic     = "cubic"    // a server whose connections use CUBIC
	bbr       = "bbr"      // a server whose connections use BBR
	provider  = "provider" // the far end of the link
	router    = "router"   // the near end
	machine   = "machine"
	neighbour = "neighbour"

	local = "local" // as --from: on the machine
)

// addresses are those of the outer parts, in the range for benchmarks (RFC 2544). Each is alone with
// the router or the provider, which has the address before it.
var addresses = map[string]string{cubic: "198.18.1.2", bbr: "198.18.2.2", machine: "198.18.3.2", neighbour: "198.18.4.2"}

// prefix begins the names of namespaces and of the lab's directory. The number of the process
// follows.
const prefix = "ebblab"

// bed is a set of connected namespaces.
type bed struct {
	cable     bool      // in the place of the link
	far, near *link.TUN // ends of the link, if there is one
}

// namespace returns the name of a part's network namespace.
func namespace(part string) string { return fmt.Sprintf("%s-%d-%s", prefix, os.Getpid(), part) }

// newBed makes the namespaces. Between provider and router lies a link that a Wire must run, or with
// cable a veth pair, as fast as the machine. sysctls are for the part "machine", as KEY=VALUE.
func newBed(ctx context.Context, cable bool, sysctls []string) (_ *bed, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	sweep()
	b := &bed{cable: cable}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	parts := []string{cubic, bbr, provider, router, machine, neighbour}
	for _, p := range parts {
		if err := ip(ctx, "netns", "add", namespace(p)); err != nil {
			return nil, err
		}
		if err := configure(ctx, p, sysctls); err != nil {
			return nil, err
		}
	}
	if cable {
		err = b.connect(ctx, provider, "198.18.0.1", router, "198.18.0.2")
	} else {
		err = b.layLink(ctx)
	}
	if err != nil {
		return nil, err
	}
	for part, address := range addresses {
		hub := provider
		if part == machine || part == neighbour {
			hub = router
		}
		gateway := strings.TrimSuffix(address, "2") + "1"
		if err := b.connect(ctx, hub, gateway, part, address); err != nil {
			return nil, err
		}
		route := []string{"-n", namespace(part), "route", "add", "default", "via", gateway}
		if hub == router {
			route = append(route, "congctl", cubic) // who sends from there does not take what this machine happens to have
		}
		if err := ip(ctx, route...); err != nil {
			return nil, err
		}
	}
	for _, route := range [][2]string{{provider, "198.18.0.2"}, {router, "198.18.0.1"}} {
		if err := ip(ctx, "-n", namespace(route[0]), "route", "add", "default", "via", route[1]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// configure sets what a namespace must not inherit from this machine.
func configure(ctx context.Context, part string, more []string) error {
	settings := []string{
		"net.ipv4.ip_forward=1",
		"net.ipv4.conf.all.rp_filter=0",
		"net.ipv4.conf.default.rp_filter=0",
		"net.ipv4.tcp_no_metrics_save=1", // a connection must not learn from the one before
		"net.ipv4.tcp_rmem=4096 131072 6291456",
		"net.ipv4.tcp_wmem=4096 16384 4194304",
		"net.ipv4.ping_group_range=0 2147483647", // as most distributions have it
	}
	if part == machine {
		settings = append(settings, more...)
	}
	err := within(part, func() error {
		for _, s := range settings {
			key, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), []byte(value), 0); err != nil {
				return fmt.Errorf("set %s for the part %s of the bed: %w", s, part, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return ip(ctx, "-n", namespace(part), "link", "set", "lo", "up")
}

// connect lays a cable between two parts.
func (b *bed) connect(ctx context.Context, one, address, other, otherAddress string) error {
	name, otherName := "to-"+other, "to-"+one
	if err := ip(ctx, "-n", namespace(one), "link", "add", name, "type", "veth", "peer", "name", otherName, "netns", namespace(other)); err != nil {
		return err
	}
	return errors.Join(b.up(ctx, one, name, address), b.up(ctx, other, otherName, otherAddress))
}

// reset ends the connections of the servers. What a killed program wrote its kernel would else send in the next run.
func (b *bed) reset(ctx context.Context) error {
	for _, server := range []string{cubic, bbr} {
		if err := ip(ctx, "netns", "exec", namespace(server), "ss", "--tcp", "--kill"); err != nil {
			return err
		}
	}
	return nil
}

// up gives a device its address and starts it. Beside an emulated link TCP makes the segments, not
// the device, so that bytes are counted as a network card counts them; a path that is only to be
// fast has whatever makes it fast.
func (b *bed) up(ctx context.Context, part, device, address string) error {
	set := []string{"-n", namespace(part), "link", "set", "dev", device, "txqueuelen", "10000", "up"}
	if !b.cable {
		set = append(set, "gso_max_segs", "1")
	}
	return errors.Join(ip(ctx, "-n", namespace(part), "addr", "add", address+"/24", "dev", device), ip(ctx, set...))
}

// layLink makes the TUN devices at the ends of the link.
func (b *bed) layLink(ctx context.Context) error {
	for _, end := range []struct {
		part, address, peer string
		tun                 **link.TUN
	}{{provider, "198.18.0.1", "198.18.0.2", &b.far}, {router, "198.18.0.2", "198.18.0.1", &b.near}} {
		err := within(end.part, func() (err error) {
			*end.tun, err = link.OpenTUN("link")
			return err
		})
		if err != nil {
			return err
		}
		if err := b.up(ctx, end.part, "link", end.address); err != nil {
			return err
		}
	}
	return nil
}

// close removes everything.
func (b *bed) close() {
	for _, tun := range []*link.TUN{b.far, b.near} {
		if tun != nil {
			_ = tun.Close()
		}
	}
	names, _ := filepath.Glob("/run/netns/" + namespace("*"))
	for _, n := range names {
		_ = ip(context.Background(), "netns", "del", filepath.Base(n))
	}
}

// sweep removes the namespaces of processes that did not live to do it themselves.
func sweep() {
	for _, n := range leftBehind("/run/netns") {
		_ = ip(context.Background(), "netns", "del", filepath.Base(n))
	}
}

// leftBehind returns the paths in a directory that are named after processes of the lab that are
// gone.
func leftBehind(dir string) []string {
	names, _ := filepath.Glob(filepath.Join(dir, prefix+"-*"))
	return slices.DeleteFunc(names, func(name string) bool {
		pid := strings.Split(filepath.Base(name), "-")[1]
		commandLine, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		return len(commandLine) > 0 // also that of a process that waits to be buried is empty
	})
}

// ip runs ip(8).
func ip(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// command is a program in a part of the bed.
func command(ctx context.Context, part string, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", namespace(part)}, argv...)...)
}

// within calls f on a thread in a part of the bed.
func within(part string, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		result <- func() error {
			ns, err := os.Open("/run/netns/" + namespace(part))
			if err != nil {
				return err
			}
			defer func() { _ = ns.Close() }()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the namespace %s: %w", ns.Name(), err)
			}
			return f()
		}()
	}()
	return <-result
}
