// Package peers is this machine's part in peer caching: it keeps segments that were downloaded, gives them to
// other machines, and finds machines that have what a download wants. Downloads ask it; what they got is
// verified before they see it.
//
// While peer caching is off nothing of it is there: no directory, no socket, no goroutine.
// Sections named here are those of peercache.md.
package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
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
	DigestMode     bool // section 20.5
}

// Defaults are the settings of a machine whose administrator decided nothing: peer caching is off.
func Defaults() Settings {
	return Settings{Port: DefaultPort, Limits: DefaultLimits, Uploads: pccrr.DefaultUploads}
}

// equal reports whether nothing changes.
func (s Settings) equal(o Settings) bool {
	if !slices.Equal(s.Interfaces, o.Interfaces) || !slices.Equal(s.HostedCaches, o.HostedCaches) {
		return false
	}
	s.Interfaces, o.Interfaces, s.HostedCaches, o.HostedCaches = nil, nil, nil, nil
	return s.Mode == o.Mode && s.Port == o.Port && s.Limits == o.Limits && s.Uploads == o.Uploads && s.UploadRate == o.UploadRate &&
		s.ServeOnly == o.ServeOnly && s.ServeOnBattery == o.ServeOnBattery && s.PlainHTTP == o.PlainHTTP && s.Version1Only == o.Version1Only && s.ThrottleLAN == o.ThrottleLAN && s.DigestMode == o.DigestMode
}

// Node is the part of one machine.
type Node struct {
	dir string
	log *slog.Logger

	applying sync.Mutex // held by who starts or stops something

	mu       sync.RWMutex // guards what follows
	settings Settings
	cache    *cache.Cache // nil while off
	client   *pccrr.Client
	serving  *serving // nil while nothing is served
	refused  map[string]time.Time
	problem  error

	known known
	stats counters
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
	if s.Mode == Off {
		n.stop()
		n.mu.Lock()
		n.settings, n.problem = s, nil
		n.mu.Unlock()
		return nil
	}
	if n.Cache() == nil {
		c, err := cache.Open(n.dir, s.Limits)
		if err != nil {
			err = fmt.Errorf("peer caching cannot use its directory: %w", err)
			n.mu.Lock()
			n.settings, n.problem = s, err
			n.mu.Unlock()
			return err
		}
		n.mu.Lock()
		n.cache, n.client = c, pccrr.NewClient(n.log)
		n.mu.Unlock()
	}
	n.mu.Lock()
	old := n.settings
	n.settings = s
	n.mu.Unlock()
	n.cache.SetLimits(s.Limits)
	if n.serving != nil && !old.equal(s) {
		n.unserve()
	}
	var err error
	if n.serving == nil && s.Mode != Local && s.Uploads > 0 {
		err = n.serve(s)
	}
	n.mu.Lock()
	n.problem = err
	n.mu.Unlock()
	return err
}

// Close stops all.
func (n *Node) Close() {
	n.applying.Lock()
	defer n.applying.Unlock()
	n.stop()
}

// stop stops all; applying is held.
func (n *Node) stop() {
	n.unserve()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cache == nil {
		return
	}
	n.client.Close()
	n.cache.Close()
	n.cache, n.client = nil, nil
	clear(n.refused)
	n.known.clear()
}

// serving is the server of blocks that runs.
type serving struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// serve starts the server of blocks; applying is held.
func (n *Node) serve(s Settings) error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", s.Port))
	if err != nil {
		return fmt.Errorf("blocks cannot be served to peers: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &serving{cancel: cancel}
	server := pccrr.NewServer(n.cache, s.Uploads, n.allowed)
	r.done.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			n.log.Error("blocks are not served to peers any more", "err", err)
		}
	})
	n.mu.Lock()
	n.serving = r
	n.mu.Unlock()
	return nil
}

// unserve stops it; applying is held.
func (n *Node) unserve() {
	n.mu.Lock()
	r := n.serving
	n.serving = nil
	n.mu.Unlock()
	if r != nil {
		r.cancel()
		r.done.Wait()
	}
}

// allowed reports whether an address may fetch blocks.
func (n *Node) allowed(netip.Addr) bool { return true }

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

// Find returns, for each segment, the machines that say to have blocks of it, at most pccrr.MaxPeers. What
// is not known yet is asked for, which takes a moment.
func (n *Node) Find(ctx context.Context, segments []*peerdist.Segment) [][]netip.AddrPort {
	out := make([][]netip.AddrPort, len(segments))
	n.mu.RLock()
	client, s := n.client, n.settings
	n.mu.RUnlock()
	if client == nil || s.Mode == Local || s.ServeOnly {
		return out
	}
	ids := make([][]byte, len(segments))
	var unknown [][]byte
	now := time.Now()
	for i := range segments {
		ids[i] = segments[i].ID()
		if !n.known.has(ids[i], now) {
			unknown = append(unknown, ids[i])
		}
	}
	if len(unknown) > 0 && s.Mode == Hosted {
		n.askHosted(ctx, client, s.HostedCaches, unknown)
	}
	now = time.Now()
	for i, id := range ids {
		out[i] = slices.DeleteFunc(n.known.get(id, now), func(p netip.AddrPort) bool {
			banned, _ := client.Banned(p.Addr())
			return banned
		})
	}
	return out
}

// Fetch fetches blocks of a segment from peers, as pccrr.Client.Fetch does.
func (n *Node) Fetch(ctx context.Context, s *peerdist.Segment, blocks []int, peers []netip.AddrPort, got func(i int, data []byte) error) (map[netip.AddrPort]int, error) {
	n.mu.RLock()
	client := n.client
	n.mu.RUnlock()
	if client == nil {
		return nil, nil
	}
	return client.Fetch(ctx, s, blocks, peers, func(i int, data []byte) error {
		n.stats.fetched.Add(int64(len(data)))
		return got(i, data)
	})
}

// Offer says that a download has blocks of these segments now, so that hosted caches can be told.
func (n *Node) Offer([]*peerdist.Segment) {}

// Count counts bytes of a download: those that came from peers and those that came from the origin.
func (n *Node) Count(fromPeers, fromOrigin int64) {
	n.stats.fromPeers.Add(fromPeers)
	n.stats.fromOrigin.Add(fromOrigin)
}

// askHosted asks hosted caches who has segments.
func (n *Node) askHosted(ctx context.Context, client *pccrr.Client, caches []string, ids [][]byte) {
	now := time.Now()
	for _, id := range ids {
		n.known.asked(id, now)
	}
	for _, name := range caches {
		at, err := resolve(ctx, name)
		if err != nil {
			n.log.Debug("a hosted cache has no address", "name", name, "err", err)
			continue
		}
		if banned, _ := client.Banned(at.Addr()); banned {
			continue
		}
		for some := range slices.Chunk(ids, perList) {
			has, err := client.Segments(ctx, at, some)
			if err != nil {
				break
			}
			now := time.Now()
			for _, i := range has {
				n.known.add(some[i], at, now)
			}
		}
	}
}

// perList is how many segments a hosted cache is asked for at a time.
const perList = 256

// resolve returns the address of a hosted cache.
func resolve(ctx context.Context, name string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		host, port = name, "80"
	}
	p, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(addrs) == 0 {
		return netip.AddrPort{}, errors.New("no address")
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(p)), nil
}
