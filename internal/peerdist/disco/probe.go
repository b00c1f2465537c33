package disco

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/pccrd"
)

// Limits of asking (section 9.3).
const (
	wait        = 300 * time.Millisecond // for answers
	again       = 100 * time.Millisecond // after which a probe is repeated, once
	perProbe1   = 3                      // ids, so that the answer goes in one packet
	perProbe2   = 16
	maxSent     = 16               // probes in a second
	late        = 5 * time.Second  // for which answers are taken
	askIdle     = 30 * time.Second // after which the sockets are closed
	maxReplies  = 200              // in a second that are read
	repliesOf   = 2 * maxSent      // those of one address
	maxAnswered = 64               // machines whose answers to a probe are used
)

// Want is a segment that is asked for.
type Want struct {
	ID     []byte
	Blocks int // that it has
}

// asking is a probe that was sent.
type asking struct {
	probe   *pccrd.Probe
	wants   []Want
	until   time.Time
	tallies []tally         // of wants
	peers   map[string]bool // endpoints that answered, and addresses
	matches int
	enough  chan struct{} // closed once somebody has all of each segment
}

// Probe asks for segments of one version of content information and waits for the answers, which Config.Found
// is told. It returns how many of them it asked for, from the first on: there is a limit on probes.
func (d *Discovery) Probe(ctx context.Context, version int, wants []Want) int {
	each := perProbe1
	if version == 2 {
		each = perProbe2
	}
	var sent []*asking
	asked := 0
	for some := range slices.Chunk(wants, each) {
		if !d.probesOut.Take(netip.Addr{}, maxSent, maxSent) {
			break
		}
		p := &pccrd.Probe{MessageID: pccrd.NewID(), Version: version}
		for _, w := range some {
			p.IDs = append(p.IDs, w.ID)
		}
		a := &asking{probe: p, wants: some, until: time.Now().Add(late), tallies: make([]tally, len(some)), peers: map[string]bool{}, enough: make(chan struct{})}
		if !d.begin(a) {
			break
		}
		d.probes.Add(1)
		sent = append(sent, a)
		asked += len(some)
	}
	d.await(ctx, sent)
	return asked
}

// await waits until enough was answered, or nothing more is to be expected.
func (d *Discovery) await(ctx context.Context, sent []*asking) {
	end := time.NewTimer(wait)
	defer end.Stop()
	repeat := time.NewTimer(again)
	defer repeat.Stop()
	for _, a := range sent {
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-end.C:
				return
			case <-repeat.C:
				for _, a := range sent {
					if !a.answered() {
						d.send(a)
					}
				}
			case <-a.enough:
				waiting = false
			}
		}
	}
	if len(sent) == 0 {
		return
	}
	// Others that have it will have said so by then.
	others := time.NewTimer(maxDelay)
	defer others.Stop()
	select {
	case <-ctx.Done():
	case <-end.C:
	case <-others.C:
	}
}

func (a *asking) answered() bool {
	select {
	case <-a.enough:
		return true
	default:
		return false
	}
}

// begin sends a probe and remembers it for its answers. It reports whether there was a way to send it.
func (d *Discovery) begin(a *asking) bool {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return false
	}
	now := time.Now()
	for id, old := range d.asking {
		if now.After(old.until) {
			delete(d.asking, id)
		}
	}
	d.asking[a.probe.MessageID] = a
	d.told.add(a.probe.MessageID) // it comes back to us
	for _, l := range d.links {
		if l.ask != nil {
			continue
		}
		c, err := listenOwn(l)
		if err != nil {
			d.Log.Debug("peers of a network cannot be asked", "interface", l.Name, "err", err)
			continue
		}
		l.ask = c
		d.running.Go(func() { d.receive(c, l, d.reply) })
	}
	if d.idle == nil {
		d.idle = time.AfterFunc(askIdle, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.hush()
		})
	} else {
		d.idle.Reset(askIdle)
	}
	d.mu.Unlock()
	return d.send(a)
}

// hush closes the sockets that are asked through; mu is held.
func (d *Discovery) hush() {
	for _, l := range d.links {
		if l.ask != nil {
			l.ask.Close()
			l.ask = nil
		}
	}
	clear(d.asking)
}

// send sends a probe to all networks. It reports whether it went to one of them.
func (d *Discovery) send(a *asking) bool {
	b := a.probe.Append(nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	ok := false
	for _, l := range d.links {
		if l.ask == nil {
			continue
		}
		if _, err := l.ask.WriteToUDPAddrPort(b, l.groupAddr()); err != nil {
			d.Log.Debug("a probe cannot be sent", "interface", l.Name, "err", err)
			continue
		}
		ok = true
	}
	return ok
}

// reply takes an answer.
func (d *Discovery) reply(_ *net.UDPConn, l *link, from netip.AddrPort, b []byte) bool {
	if !d.answersIn.Take(from.Addr(), repliesOf, maxReplies) {
		return false
	}
	d.mu.Lock()
	var a *asking
	_, matches, err := pccrd.DecodeReply(b, func(id string) *pccrd.Probe {
		if a = d.asking[id]; a == nil {
			return nil
		}
		return a.probe
	})
	var found []func()
	if err == nil {
		for i := range matches {
			found = append(found, d.match(l, a, from.Addr(), &matches[i])...)
		}
		a.settle()
	}
	d.mu.Unlock()
	for _, f := range found {
		f()
	}
	if len(found) == 0 {
		return false
	}
	d.answers.Add(1)
	return true
}

// match takes what one machine answered, and returns what is to be told; mu is held.
func (d *Discovery) match(l *link, a *asking, from netip.Addr, m *pccrd.Match) []func() {
	at := m.Address.Addr()
	if at.Is6() && at.IsLinkLocalUnicast() {
		at = at.WithZone(l.Name)
	}
	if m.Endpoint == d.endpoint || !l.Has(at) || a.matches >= maxAnswered {
		return nil
	}
	a.matches++
	// Of a machine that answers by IPv4 and by IPv6 both ways are of use, but it counts once; so does one that gives itself
	// many names.
	once := !a.peers[m.Endpoint] && !a.peers[from.String()]
	a.peers[m.Endpoint], a.peers[from.String()] = true, true
	peer := netip.AddrPortFrom(at, m.Address.Port())
	var found []func()
	for _, h := range m.Held {
		w, t := &a.wants[h.Index], &a.tallies[h.Index]
		if once {
			t.all++
			if h.All || int(h.Blocks) >= w.Blocks {
				t.full++
			}
			t.at = time.Now()
			d.tell(string(w.ID), *t)
		}
		found = append(found, func() { d.Found(w.ID, peer) })
	}
	return found
}

// settle closes enough if it is time to; Discovery.mu is held.
func (a *asking) settle() {
	if a.answered() {
		return
	}
	for _, t := range a.tallies {
		if t.full == 0 {
			return
		}
	}
	close(a.enough)
}
