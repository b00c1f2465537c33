package governor

import (
	"sync"
	"sync/atomic"
	"time"
)

// neighbour is the other traffic of this machine on an interface in one direction: what the
// interface moved less what background jobs did.
type neighbour struct {
	device string
	up     bool
	own    atomic.Int64 // bytes of background jobs

	mu      sync.Mutex
	counter counter   // guarded by mu
	at      time.Time // guarded by mu
	moved   int64     // guarded by mu: the counter at that time
	was     int64     // guarded by mu: own at that time
	smooth  float64   // guarded by mu: bytes per second
	ok      bool      // guarded by mu
}

// neighbourKey tells neighbours apart.
type neighbourKey struct {
	device string
	up     bool
}

// lookEvery is how often the counters are read. Their values are made by the kernel at once.
const lookEvery = 100 * time.Millisecond

// overhead is what a segment's headers add on the wire, per byte of payload.
const overhead = 66.0 / segment

// look reads the counters if it is time to.
func (n *neighbour) look(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	dt := now.Sub(n.at)
	if dt < lookEvery {
		return
	}
	moved, err := n.counter.read(n.device, n.up)
	if err != nil {
		n.at, n.ok = now, false
		return
	}
	own := n.own.Load()
	if n.ok && dt < 10*lookEvery && moved >= n.moved {
		others := float64(moved-n.moved) - float64(own-n.was)*(1+overhead)
		n.smooth += (max(0, others)/dt.Seconds() - n.smooth) / 2
	} else {
		n.smooth = 0
	}
	n.at, n.moved, n.was, n.ok = now, moved, own, true
}

func (n *neighbour) rate() float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ok {
		return 0
	}
	return n.smooth
}

func (n *neighbour) known() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ok
}
