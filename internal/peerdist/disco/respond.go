package disco

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/pccrd"
)

// Limits of answering (section 9.3, and section 11, row 4).
const (
	maxDelay        = 65 * time.Millisecond // an answer waits for so long at most, so that not all come at once
	maxAnswers      = 20                    // in a second
	answersToOne    = 5                     // of these to one address, so that it does not take those of others
	maxProbes       = 100                   // in a second that are read
	probesOfOne     = 20                    // those of one address
	maxLooked       = 64                    // ids of a probe that are looked up
	quorum          = 20                    // machines that have a segment; with so many nobody else need answer
	quorumFor       = time.Hour
	maxQuorums      = 4096
	partlyAnswering = 0.33 // the probability of an answer where that many have some of it
)

// tally is how many answered when this machine asked for a segment.
type tally struct {
	all, full int
	at        time.Time
}

// answer answers a probe that came, if there is something to say.
func (d *Discovery) answer(c *net.UDPConn, l *link, from netip.AddrPort, b []byte) bool {
	if !d.probesIn.Take(from.Addr(), probesOfOne, maxProbes) {
		return false
	}
	p, err := pccrd.DecodeProbe(b)
	if err != nil {
		return false
	}
	d.mu.Lock()
	fresh := d.told.add(p.MessageID)
	d.mu.Unlock()
	if !fresh {
		return true // once more, by another way, or our own
	}
	d.probed.Add(1)
	d.Heard(p.IDs[:min(len(p.IDs), maxLooked)], from.Addr())
	ours := l.ours(from.Addr())
	m := pccrd.Match{Endpoint: d.endpoint, Address: netip.AddrPortFrom(ours, d.Port)}
	for i, id := range p.IDs[:min(len(p.IDs), maxLooked)] {
		h, ok := d.Held(id)
		if !ok || d.enough(id) {
			continue
		}
		m.Held = append(m.Held, pccrd.Held{Index: i, Blocks: uint32(h.Blocks), All: h.All, Age: h.Age})
	}
	if len(m.Held) == 0 {
		return true
	}
	if !d.answersOut.Take(from.Addr(), answersToOne, maxAnswers) {
		return false
	}
	time.AfterFunc(time.Millisecond+rand.N(maxDelay-time.Millisecond), func() {
		r := pccrd.Reply{MessageID: pccrd.NewID(), Instance: d.instance, Number: d.number.Add(1)}
		if _, err := c.WriteToUDPAddrPort(pccrd.AppendReply(nil, p, r, m), from); err == nil {
			d.answered.Add(1)
		}
	})
	return true
}

// enough reports whether others that have the segment are so many that this machine need not answer.
func (d *Discovery) enough(id []byte) bool {
	d.mu.Lock()
	t, ok := d.quorum[string(id)]
	d.mu.Unlock()
	if !ok || time.Since(t.at) > quorumFor || t.all < quorum {
		return false
	}
	return t.full >= quorum || rand.Float64() >= partlyAnswering
}

// tell remembers how many answered for a segment, if they are many; mu is held.
func (d *Discovery) tell(id string, t tally) {
	if t.all < quorum {
		return
	}
	if _, known := d.quorum[id]; !known && len(d.quorum) >= maxQuorums {
		for id := range d.quorum { // any
			delete(d.quorum, id)
			break
		}
	}
	d.quorum[id] = t
}
