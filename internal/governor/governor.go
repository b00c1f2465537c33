// Package governor decides how fast background bytes may move right now, for everything the
// service does together: it takes the bandwidth that nobody else wants and gives way within a
// few round trips. docs/decisions/007-politeness.md explains the control law.
//
// It knows connections and bytes; it knows no jobs, no files and no HTTP.
package governor

import (
	"sync"

	"github.com/ebbtransfer/ebb/bits"
)

// Unlimited is a rate without a ceiling.
const Unlimited int64 = -1

// Caps are the ceilings that policy sets, in bytes per second, or Unlimited.
type Caps struct {
	Foreground int64
	Background int64
	// LANExempt says that servers in a subnet of this machine are not held back by the caps.
	LANExempt bool
}

// Governor watches over all connections of the service.
type Governor struct {
	mu   sync.Mutex
	caps Caps // guarded by mu
}

// New returns a Governor without caps.
func New() *Governor {
	return &Governor{caps: Caps{Foreground: Unlimited, Background: Unlimited}}
}

// SetCaps changes the ceilings, also for connections that are open.
func (g *Governor) SetCaps(c Caps) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.caps = c
}

// Paths returns what is known of the paths that are in use.
func (g *Governor) Paths() []bits.Path { return []bits.Path{} }
