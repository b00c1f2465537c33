// Package bound bounds how often something is done for other machines, or with them.
package bound

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// PerSecond counts what is done in a second, for all and for each address. Its zero value is ready.
type PerSecond struct {
	mu     sync.Mutex
	second int64
	all    int
	of     map[netip.Addr]int
}

// Take counts one more for an address, and reports whether that is within the bounds: each for one address, most
// for all. What is not within them does not count.
func (p *PerSecond) Take(from netip.Addr, each, most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn()
	if p.all >= most || p.of[from] >= each {
		return false
	}
	if p.of == nil {
		p.of = map[netip.Addr]int{}
	}
	p.all++
	p.of[from]++
	return true
}

// Full reports whether an address may have no more in this second.
func (p *PerSecond) Full(from netip.Addr, each int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn()
	return p.of[from] >= each
}

// turn begins a new second if it is time to; mu is held.
func (p *PerSecond) turn() {
	if now := time.Now().Unix(); now != p.second {
		p.second, p.all = now, 0
		clear(p.of)
	}
}

// Turns lets so many things be done at a time for each of many machines; whoever comes then waits for his turn.
type Turns[K comparable] struct {
	each int
	mu   sync.Mutex // guards what follows
	of   map[K]*turns
}

type turns struct {
	taken chan struct{}
	users int // who have one or wait
}

// NewTurns returns turns of which each machine has so many at a time, at least 1.
func NewTurns[K comparable](each int) *Turns[K] {
	return &Turns[K]{each: each, of: map[K]*turns{}}
}

// Take waits for a turn of k, which ends when done is called. It is nil if the context ended before.
func (t *Turns[K]) Take(ctx context.Context, k K) (done func()) {
	t.mu.Lock()
	own := t.of[k]
	if own == nil {
		own = &turns{taken: make(chan struct{}, t.each)}
		t.of[k] = own
	}
	own.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if own.users--; own.users == 0 {
			delete(t.of, k)
		}
	}
	select {
	case own.taken <- struct{}{}:
		return func() {
			<-own.taken
			leave()
		}
	case <-ctx.Done():
		leave()
		return nil
	}
}
