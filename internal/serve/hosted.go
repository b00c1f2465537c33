package serve

import (
	"cmp"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/disco"
	"github.com/ebbtransfer/ebb/internal/peerdist/hosted"
)

// Defaults of BranchCache's documents: a hosted cache takes 5 % of the disk, and keeps what is there for 28 days.
const (
	hostedPercent = 5
	hostedAge     = 28 * 24 * time.Hour
	// networksTime is how long the machine's networks are taken for what they were.
	networksTime = 30 * time.Second
)

// openHosted opens the hosted cache, if there is to be one. Where nobody comes by HTTPS, nobody can bring it
// keys.
func (s *server) openHosted(listeners []listener) (err error) {
	h := s.HostedCache
	if !h.On {
		return nil
	}
	own := &networks{allowed: h.Allow}
	dir := filepath.Join(s.State, "hosted")
	s.hosted, err = hosted.Open(hosted.Options{
		Dir: dir, Allow: own.has, Log: s.Log,
		Keys:   slices.ContainsFunc(listeners, func(l listener) bool { return l.tls }),
		Limits: cache.Limits{Size: cmp.Or(h.Size, cache.Part(s.State, hostedPercent, unknownDisk)), MaxAge: cmp.Or(h.MaxAge, hostedAge)},
	})
	return err
}

// networks are those that may use a hosted cache: those that were named, or else the private ones that the
// machine is in.
type networks struct {
	allowed []netip.Prefix
	mu      sync.Mutex // guards what follows
	own     []disco.Network
	since   time.Time
}

func (n *networks) has(a netip.Addr) bool {
	if len(n.allowed) > 0 {
		return slices.ContainsFunc(n.allowed, func(p netip.Prefix) bool { return p.Contains(a.WithZone("")) })
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := time.Now(); now.Sub(n.since) > networksTime {
		n.since = now
		n.own, _ = disco.Networks(nil, func(string) bool { return false }) // none, if they cannot be listed
	}
	return slices.ContainsFunc(n.own, func(w disco.Network) bool { return w.Has(a) })
}
