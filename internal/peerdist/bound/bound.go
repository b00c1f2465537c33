// Package bound bounds how often something is done for other machines.
package bound

import (
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
