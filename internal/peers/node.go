// Package peers is this machine's part in peer caching: it keeps segments that were downloaded, gives them to
// other machines, and finds machines that have what a download wants. Downloads ask it; what they got is
// verified before they see it.
//
// While peer caching is off nothing of it is there: no directory, no socket, no goroutine.
// Sections named here are those of peercache.md.
package peers

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/disco"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
)

// Mode says whom a machine shares with.
type Mode uint8

// The modes.
const (
	Off         Mode = iota
	Local            // with nobody: what was downloaded is kept for this machine's own downloads
	Distributed      // with the machines of its networks
	Hosted           // with hosted caches
)

// DefaultPort is the one of TCP that blocks are served at (section 12).
const DefaultPort = 2178

// DefaultLimits are those of the cache: a twentieth of the disk, 28 days (section 12).
var DefaultLimits = cache.Limits{Percent: 5, MaxAge: 28 * 24 * time.Hour}

// Settings are what the administrator decides.
type Settings struct {
	Mode         Mode
	Port         uint16   // that blocks are served at, 1 to 65535
	Interfaces   []string // names of those whose networks are shared with; none: the private ones that are not virtual
	HostedCaches []string // host or host:port
	Limits       cache.Limits
	Uploads      int   // answers at a time, 1 to 16384; 0: nothing is served
	UploadRate   int64 // bytes per second that are served at most; 0: what is idle

	ServeOnly      bool // downloads get nothing of others
	ServeOnBattery bool
	PlainHTTP      bool // content information that came over http:// counts too
	Version1Only   bool // of content information
	ThrottleLAN    bool // bytes of peers are held back as those of the origin are
	DigestMode     bool // files that only a digest is known of are shared too (section 20.5)
}

// Defaults are the settings of a machine whose administrator decided nothing: peer caching is off.
func Defaults() Settings {
	return Settings{Port: DefaultPort, Limits: DefaultLimits, Uploads: pccrr.DefaultUploads}
}

// Node is the part of one machine.
type Node struct {
	dir string
	log *slog.Logger

	applying sync.Mutex // held by who starts or stops something
	closed   bool       // guarded by applying

	mu        sync.RWMutex // guards what follows, together with applying where it changes
	settings  Settings
	state     conditions.State
	problem   error
	cache     *cache.Cache // nil while off
	client    *pccrr.Client
	serving   *serving         // nil while nothing is served
	networks  []disco.Network  // that are shared with
	discovery *disco.Discovery // nil while nobody is asked or answered
	past      disco.Counts     // of those that ended
	hosted    *hosted          // nil in other modes
	refused   map[string]time.Time
	probed    time.Time // when more machines were looked for than were known

	known  known
	sticky sticky
	stats  counters
}

// Open returns a node that keeps its cache in dir. Nothing runs until Apply.
func Open(dir string, log *slog.Logger) *Node {
	return &Node{dir: dir, log: log, settings: Defaults(), refused: map[string]time.Time{}}
}

// Apply puts settings in force: it starts, changes and stops what they want. What cannot be started is an
// error that Status tells too; the rest runs nevertheless.
func (n *Node) Apply(s Settings) error {
	n.applying.Lock()
	defer n.applying.Unlock()
	if n.closed {
		return nil
	}
	if s.Mode == Off {
		n.stop()
		n.mu.Lock()
		n.settings, n.problem = s, nil
		n.mu.Unlock()
		return nil
	}
	n.mu.Lock()
	old := n.settings
	n.settings = s
	c := n.cache
	n.mu.Unlock()
	if c == nil {
		var err error
		if c, err = cache.Open(n.dir, s.Limits); err != nil {
			err = fmt.Errorf("peer caching cannot use its directory: %w", err)
			n.mu.Lock()
			n.problem = err
			n.mu.Unlock()
			return err
		}
		n.mu.Lock()
		n.cache, n.client = c, pccrr.NewClient(n.log)
		n.client.Blind = n.isHosted
		n.mu.Unlock()
	}
	c.SetLimits(s.Limits)
	if n.hosted == nil || old.Port != s.Port || old.Version1Only != s.Version1Only || old.Mode != s.Mode || !slices.Equal(old.HostedCaches, s.HostedCaches) {
		n.unhost()
		if s.Mode == Hosted {
			n.mu.Lock()
			n.hosted = newHosted(s, n.log, &n.stats.offers)
			n.mu.Unlock()
		}
	}
	if old.Mode != s.Mode || old.Port != s.Port || old.Uploads != s.Uploads || old.UploadRate != s.UploadRate {
		n.unserve()
	}
	return n.adjust()
}

// NetworkChanged says that interfaces, addresses or routes changed.
func (n *Node) NetworkChanged() { n.adapt(func() {}) }

// SetConditions says what the network costs and how the machine is powered.
func (n *Node) SetConditions(c conditions.State) {
	n.adapt(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.state = c
	})
}

// adapt makes the node what it should be after a change of the machine.
func (n *Node) adapt(change func()) {
	n.applying.Lock()
	defer n.applying.Unlock()
	change()
	if n.Cache() == nil {
		return
	}
	if err := n.adjust(); err != nil {
		n.log.Warn("peer caching does not work as it is wanted", "err", err)
	}
}

// adjust starts and stops what serves and what discovers, after settings or the machine changed; applying is
// held.
func (n *Node) adjust() error {
	s := n.Settings()
	var errs []error
	var networks []disco.Network
	if s.Mode == Distributed {
		var err error
		networks, err = disco.Networks(s.Interfaces, func(name string) bool {
			return name == n.state.Interface && n.state.Cost != 0 && n.state.Cost&bits.CostUnrestricted == 0
		})
		errs = append(errs, err)
	}
	n.mu.Lock()
	moved := !slices.EqualFunc(n.networks, networks, disco.Network.Equal)
	n.networks = networks
	n.mu.Unlock()
	n.mu.RLock()
	serves := n.holds() == ""
	n.mu.RUnlock()
	switch {
	case !serves:
		n.unserve()
	case n.serving == nil:
		errs = append(errs, n.serve(s))
	}
	// What is answered is where blocks are served; so the two change together.
	answers := n.serving != nil
	wanted := len(networks) > 0 && (answers || !s.ServeOnly)
	if d := n.discovery; d != nil && (moved || !wanted || answers != (d.Held != nil) || answers && d.Port != s.Port) {
		n.mu.Lock()
		n.discovery = nil
		n.mu.Unlock()
		d.Close()
		n.mu.Lock()
		n.past = n.past.Add(d.Counts())
		n.mu.Unlock()
	}
	if n.discovery == nil && wanted {
		errs = append(errs, n.discover(s, networks, answers))
	}
	err := errors.Join(errs...)
	n.mu.Lock()
	n.problem = err
	n.mu.Unlock()
	return err
}

// holds returns what holds the node back from serving, in words; empty if nothing does. mu is held.
func (n *Node) holds() string {
	s := &n.settings
	switch {
	case s.Mode != Distributed && s.Mode != Hosted:
		return "the mode is for this machine alone"
	case s.Uploads == 0:
		return "the policy allows no uploads"
	case n.state.OnBattery && !s.ServeOnBattery:
		return "the machine runs on battery"
	}
	return ""
}

// discover starts to ask and, if blocks are served, to answer; applying is held.
func (n *Node) discover(s Settings, networks []disco.Network, answers bool) error {
	c := disco.Config{Networks: networks, Port: s.Port, Log: n.log,
		Found: func(id []byte, peer netip.AddrPort) {
			now := time.Now()
			n.known.add(id, peer, now)
			n.sticky.met(peer, now)
		},
		Heard: n.heard,
	}
	if answers {
		kept := n.cache
		c.Held = func(id []byte) (disco.Holding, bool) {
			if e, err := kept.Look(id); err == nil {
				return disco.Holding{Blocks: e.Blocks, All: e.Held == int64(e.Length), Age: time.Since(e.Created)}, true
			}
			if !n.Settings().DigestMode {
				return disco.Holding{}, false
			}
			_, b, err := n.readIndex(id)
			return disco.Holding{Blocks: indexBlocks(b), All: true}, err == nil
		}
	}
	d, err := disco.Open(c)
	if err != nil {
		return fmt.Errorf("peers cannot be discovered: %w", err)
	}
	n.mu.Lock()
	n.discovery = d
	n.mu.Unlock()
	return nil
}

// Close stops all, for good.
func (n *Node) Close() {
	n.applying.Lock()
	defer n.applying.Unlock()
	n.closed = true
	n.stop()
}

// unhost forgets the hosted caches, and who has what; applying is held.
func (n *Node) unhost() {
	n.mu.Lock()
	h := n.hosted
	n.hosted = nil
	n.mu.Unlock()
	if h != nil {
		h.close()
	}
	n.known.clear()
	n.sticky.clear()
}

// stop stops all; applying is held.
func (n *Node) stop() {
	n.unserve()
	n.unhost()
	n.mu.Lock()
	d := n.discovery
	n.discovery, n.networks = nil, nil
	n.mu.Unlock()
	if d != nil {
		d.Close()
	}
	n.mu.Lock()
	if d != nil {
		n.past = n.past.Add(d.Counts())
	}
	kept, client := n.cache, n.client
	n.cache, n.client = nil, nil
	clear(n.refused)
	n.mu.Unlock()
	if kept == nil {
		return
	}
	client.Close()
	kept.Close()
}

// Settings returns those in force.
func (n *Node) Settings() Settings {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.settings
}

// Cache returns the cache, nil while peer caching is off. Who has it may go on using it when it is turned
// off.
func (n *Node) Cache() *cache.Cache {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.cache
}

const (
	refusedFor = 10 * time.Minute // (section 6.5)
	maxRefused = 4096             // origins that are remembered
)

// Wants reports whether a download from u should ask for content information.
func (n *Node) Wants(u *url.URL) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.cache == nil || u.Scheme != "https" && (u.Scheme != "http" || !n.settings.PlainHTTP) {
		return false
	}
	return time.Now().After(n.refused[origin(u)])
}

// Refused says that the origin of u gives no content information. It is not asked for a while.
func (n *Node) Refused(u *url.URL) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if len(n.refused) >= maxRefused {
		for o, until := range n.refused {
			if now.After(until) || len(n.refused) >= maxRefused {
				delete(n.refused, o)
			}
		}
	}
	n.refused[origin(u)] = now.Add(refusedFor)
}

func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }

// Count counts bytes of a download by where they came from: peers, this machine's cache, the origin.
func (n *Node) Count(fromPeers, fromCache, fromOrigin int64) {
	n.stats.fromPeers.Add(fromPeers)
	n.stats.fromCache.Add(fromCache)
	n.stats.fromOrigin.Add(fromOrigin)
}
