package peers

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
)

const (
	emptyFor = 15 * time.Second // that nobody has a segment is believed so long (section 8)
	peerFor  = time.Minute      // that somebody has it
	// missedFor is how long machines that may have it are not asked again, after they had not.
	missedFor = 3 * time.Second
	maxKnown  = 16384 // segments that answers are kept of: 1 GiB in version 2
)

// known is who has which segments, as far as it was asked for lately.
type known struct {
	mu       sync.Mutex
	segments map[string]*answers
}

// answers are those to a question for one segment.
type answers struct {
	asked  time.Time
	wanted time.Time // when a download looked for it
	missed time.Time // when peers were asked for blocks in vain
	peers  []answer  // the one that was told last is the last
}

type answer struct {
	at    netip.AddrPort
	until time.Time
}

// fresh reports whether there is no need to ask again, after removing what is too old.
func (a *answers) fresh(now time.Time) bool {
	a.peers = slices.DeleteFunc(a.peers, func(p answer) bool { return now.After(p.until) })
	return len(a.peers) > 0 || now.Sub(a.asked) < emptyFor
}

// has reports whether there is no need to ask all for a segment.
func (k *known) has(id []byte, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.segments[string(id)]
	return a != nil && a.fresh(now)
}

// get returns who has a segment.
func (k *known) get(id []byte, now time.Time) []netip.AddrPort {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.segments[string(id)]
	if a == nil || !a.fresh(now) {
		return nil
	}
	out := make([]netip.AddrPort, len(a.peers))
	for i := range a.peers {
		out[i] = a.peers[i].at
	}
	return out
}

// asked says when everybody was asked for a segment, the last time.
func (k *known) asked(id []byte, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of(id, now).asked = now
}

// want says that a download looks for a segment.
func (k *known) want(id []byte, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of(id, now).wanted = now
}

// wanted reports whether a download looked for a segment lately.
func (k *known) wanted(id []byte, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.segments[string(id)]
	return a != nil && now.Sub(a.wanted) < peerFor
}

// add says that a peer has a segment.
func (k *known) add(id []byte, peer netip.AddrPort, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.of(id, now)
	a.peers = slices.DeleteFunc(a.peers, func(p answer) bool { return p.at == peer })
	if len(a.peers) >= pccrr.MaxPeers {
		a.peers = slices.Delete(a.peers, 0, 1)
	}
	a.peers = append(a.peers, answer{peer, now.Add(peerFor)})
}

// miss says that none of the peers had a segment after all.
func (k *known) miss(id []byte, peers []netip.AddrPort, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.of(id, now)
	a.missed = now
	a.peers = slices.DeleteFunc(a.peers, func(p answer) bool { return slices.Contains(peers, p.at) })
}

// missed reports whether peers were asked for a segment in vain, lately.
func (k *known) missed(id []byte, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.segments[string(id)]
	return a != nil && !a.missed.IsZero() && now.Sub(a.missed) < missedFor
}

// of returns the answers for a segment; mu is held.
func (k *known) of(id []byte, now time.Time) *answers {
	a := k.segments[string(id)]
	if a != nil {
		return a
	}
	if k.segments == nil {
		k.segments = map[string]*answers{}
	}
	if len(k.segments) >= maxKnown {
		for id, a := range k.segments {
			if !a.fresh(now) {
				delete(k.segments, id)
			}
		}
		for id := range k.segments { // any; many at once, so that this is not done for each
			if len(k.segments) < maxKnown*3/4 {
				break
			}
			delete(k.segments, id)
		}
	}
	a = &answers{}
	k.segments[string(id)] = a
	return a
}

func (k *known) clear() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.segments = nil
}
