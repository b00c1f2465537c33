// Package disco finds out which machines of the own networks have segments, and tells them what this one has:
// the sockets, times and limits of BranchCache's discovery (MS-PCCRD), whose messages are package pccrd's.
//
// Whoever is on such a network can send it anything. What is malformed, from elsewhere or too much is dropped
// without a word.
//
// Sections named here are those of peercache.md.
package disco

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/bound"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrd"
)

// Config says where and for whom a Discovery works.
type Config struct {
	Networks []Network
	// Held tells what this machine has of a segment. Without it nobody is answered.
	Held func(id []byte) (Holding, bool)
	Port uint16 // of TCP where this machine serves blocks
	// Found is told of each machine that has blocks of a segment, also if it answers late.
	Found func(id []byte, peer netip.AddrPort)
	// Heard is told of machines that ask for segments, which they will have soon.
	Heard func(ids [][]byte, from netip.Addr)
	Log   *slog.Logger
}

// Holding is what a machine has of a segment.
type Holding struct {
	Blocks int // that are here, at least 1
	All    bool
	Age    time.Duration // for how long they have been
}

// Counts are those of a Discovery's datagrams.
type Counts struct {
	Probes   int64 // that were sent, once for all networks
	Answers  int64 // to them, that were good
	Probed   int64 // probes of others that came
	Answered int64 // those that were answered
	Dropped  int64 // what was malformed, from elsewhere or too much
}

// Add returns the sums.
func (c Counts) Add(o Counts) Counts {
	return Counts{c.Probes + o.Probes, c.Answers + o.Answers, c.Probed + o.Probed, c.Answered + o.Answered, c.Dropped + o.Dropped}
}

// Discovery asks and answers on some networks.
type Discovery struct {
	Config
	endpoint string
	instance int64
	links    []*link
	running  sync.WaitGroup

	number                                       atomic.Uint32 // of the last answer
	probes, answers, probed, answered, discarded atomic.Int64

	probesIn, answersIn, answersOut, probesOut bound.PerSecond

	mu     sync.Mutex // guards what follows
	closed bool
	asking map[string]*asking // by the probe's MessageID
	idle   *time.Timer        // ends the sockets that are asked through
	told   memory             // MessageIDs of probes that came, or are our own
	quorum map[string]tally   // by segment, those that many have
}

// link is one network and one family of addresses.
type link struct {
	Network
	v6    bool
	group *net.UDPConn // for what all are asked; nil if nobody is answered
	ask   *net.UDPConn // for asking and the answers to that; nil while nothing is asked; guarded by Discovery.mu
}

// Open begins to answer, and to be able to ask. It returns an error if that works on none of the networks;
// those that do not work are told to the log.
func Open(c Config) (*Discovery, error) {
	d := &Discovery{Config: c, endpoint: pccrd.NewID(), instance: time.Now().Unix(), asking: map[string]*asking{}, quorum: map[string]tally{}}
	var errs []error
	for _, n := range c.Networks {
		for _, v6 := range []bool{false, true} {
			l := &link{Network: n, v6: v6}
			if !l.source().IsValid() {
				continue
			}
			if c.Held != nil {
				group, err := listenGroup(l)
				if err != nil {
					errs = append(errs, fmt.Errorf("discovery on %s: %w", n.Name, err))
					continue
				}
				l.group = group
				d.running.Go(func() { d.receive(group, l, d.answer) })
			}
			d.links = append(d.links, l)
		}
	}
	for _, err := range errs {
		c.Log.Warn("peers of a network are not answered or asked", "err", err)
	}
	if len(d.links) == 0 && len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return d, nil
}

// Close ends all.
func (d *Discovery) Close() {
	d.mu.Lock()
	d.closed = true
	if d.idle != nil {
		d.idle.Stop()
	}
	d.hush()
	d.mu.Unlock()
	for _, l := range d.links {
		if l.group != nil {
			l.group.Close()
		}
	}
	d.running.Wait()
}

// Counts returns how many datagrams there were.
func (d *Discovery) Counts() Counts {
	return Counts{Probes: d.probes.Load(), Answers: d.answers.Load(), Probed: d.probed.Load(), Answered: d.answered.Load(), Dropped: d.discarded.Load()}
}

// receive hands each datagram to handle until the socket is closed.
func (d *Discovery) receive(c *net.UDPConn, l *link, handle func(c *net.UDPConn, l *link, from netip.AddrPort, datagram []byte) bool) {
	b := make([]byte, pccrd.MaxDatagram+1)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// An error of the network that the kernel kept for us, or it has no memory.
			time.Sleep(10 * time.Millisecond)
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if n > pccrd.MaxDatagram || from.Port() == 0 || !l.Has(from.Addr()) || !handle(c, l, from, b[:n]) {
			d.discarded.Add(1)
		}
	}
}

// group returns where all are asked.
func (l *link) groupAddr() netip.AddrPort {
	if l.v6 {
		return netip.AddrPortFrom(pccrd.Group6.WithZone(l.Name), pccrd.Port)
	}
	return netip.AddrPortFrom(pccrd.Group4, pccrd.Port)
}

// source returns the address of ours that is asked from; the zero address if there is none of the family. Of
// IPv6 it is the one that is valid on the link alone (section 9.5).
func (l *link) source() netip.Addr {
	for _, p := range l.Addresses {
		if a := p.Addr(); a.Is6() == l.v6 && (!l.v6 || a.IsLinkLocalUnicast()) {
			if l.v6 {
				return a.WithZone(l.Name)
			}
			return a
		}
	}
	return netip.Addr{}
}

// memory is the last strings of many.
type memory struct {
	known map[string]bool
	ring  [512]string
	next  int
}

// add reports whether s is new.
func (m *memory) add(s string) bool {
	if m.known[s] {
		return false
	}
	if m.known == nil {
		m.known = make(map[string]bool, len(m.ring))
	}
	delete(m.known, m.ring[m.next])
	m.ring[m.next], m.known[s] = s, true
	m.next = (m.next + 1) % len(m.ring)
	return true
}
