package peers

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/disco"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
)

// Find returns, for each segment, the machines that say to have blocks of it, and those that may have because
// they had others: at most pccrr.MaxPeers. What is not known yet is asked for, which takes a third of a second at
// most in the networks of this machine.
func (n *Node) Find(ctx context.Context, segments []*peerdist.Segment) [][]netip.AddrPort {
	out := make([][]netip.AddrPort, len(segments))
	n.mu.RLock()
	client, s, d, h := n.client, n.settings, n.discovery, n.hosted
	n.mu.RUnlock()
	if client == nil || s.Mode == Local || s.ServeOnly {
		return out
	}
	ids := make([][]byte, len(segments))
	var unknown []int
	now := time.Now()
	for i := range segments {
		ids[i] = segments[i].ID()
		// Who had one segment is asked for others, without asking all: a question costs it little (section 9.3).
		if !n.known.has(ids[i], now) && (n.known.missed(ids[i], now) || !n.sticky.any(now)) {
			unknown = append(unknown, i)
		}
	}
	switch {
	case len(unknown) == 0:
	case h != nil:
		var some [][]byte
		for _, i := range unknown {
			some = append(some, ids[i])
		}
		h.find(ctx, client, &n.known, some)
	case d != nil:
		n.probe(ctx, d, segments, ids, unknown)
	}
	now = time.Now()
	for i, id := range ids {
		peers := n.known.get(id, now)
		if len(peers) == 0 && !n.known.missed(id, now) {
			peers = n.sticky.get(now)
		}
		out[i] = slices.DeleteFunc(peers, func(p netip.AddrPort) bool {
			banned, _ := client.Banned(p)
			return banned
		})
	}
	return out
}

// probe asks the networks for segments, by their indexes.
func (n *Node) probe(ctx context.Context, d *disco.Discovery, segments []*peerdist.Segment, ids [][]byte, unknown []int) {
	for version := 1; version <= 2; version++ {
		var wants []disco.Want
		for _, i := range unknown {
			if segments[i].Algorithm.Version() == version {
				wants = append(wants, disco.Want{ID: ids[i], Blocks: segments[i].Blocks()})
			}
		}
		if len(wants) == 0 {
			continue
		}
		now := time.Now()
		asked := d.Probe(ctx, version, wants)
		for _, w := range wants[:asked] {
			n.known.asked(w.ID, now)
		}
	}
}

// heard notes that a machine of the networks asks for segments: it will have soon what it asks for, and may be
// asked if this machine wants the same. It is taken to serve at the port that we do.
func (n *Node) heard(ids [][]byte, from netip.Addr) {
	peer := netip.AddrPortFrom(from, n.Settings().Port)
	now := time.Now()
	for _, id := range ids {
		n.known.hint(id, peer, now)
	}
}

// Fetch fetches blocks of a segment from peers, as pccrr.Client.Fetch does.
func (n *Node) Fetch(ctx context.Context, s *peerdist.Segment, blocks []int, peers []netip.AddrPort, got func(i int, data []byte) error) (map[netip.AddrPort]int, error) {
	n.mu.RLock()
	client := n.client
	n.mu.RUnlock()
	if client == nil || len(peers) == 0 {
		return nil, nil
	}
	bytes := 0
	from, err := client.Fetch(ctx, s, blocks, peers, func(i int, data []byte) error {
		bytes += len(data)
		return got(i, data)
	})
	n.stats.fetched.Add(int64(bytes))
	now := time.Now()
	total := 0
	for _, b := range from {
		total += b
	}
	for p, b := range from {
		n.sticky.gave(p, int64(bytes)*int64(b)/int64(total), now)
	}
	if total == 0 && err == nil {
		n.known.miss(s.ID(), peers, now)
		n.sticky.missed(peers)
	}
	return from, err
}

const (
	stickyFor   = time.Minute // after the last block
	mostMisses  = 4           // in a row, of segments that nobody else had either
	maxSticky   = pccrr.MaxPeers
	maxReported = 256 // peers that are remembered for Status
)

// sticky is the peers that gave blocks lately.
type sticky struct {
	mu    sync.Mutex
	peers map[netip.AddrPort]*giver
}

// giver is a peer that gave blocks.
type giver struct {
	bytes  int64
	used   time.Time
	misses int
}

// gave notes that a peer gave bytes.
func (s *sticky) gave(p netip.AddrPort, bytes int64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.peers[p]
	if g == nil {
		if s.peers == nil {
			s.peers = map[netip.AddrPort]*giver{}
		}
		if len(s.peers) >= maxReported {
			var oldest netip.AddrPort
			for a, g := range s.peers {
				if o := s.peers[oldest]; o == nil || g.used.Before(o.used) {
					oldest = a
				}
			}
			delete(s.peers, oldest)
		}
		g = &giver{}
		s.peers[p] = g
	}
	g.bytes += bytes
	g.used, g.misses = now, 0
}

// missed notes that peers did not have what they were asked for.
func (s *sticky) missed(peers []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range peers {
		if g := s.peers[p]; g != nil {
			g.misses++
		}
	}
}

func (g *giver) fresh(now time.Time) bool {
	return now.Sub(g.used) < stickyFor && g.misses < mostMisses
}

// any reports whether there is one to ask.
func (s *sticky) any(now time.Time) bool { return len(s.get(now)) > 0 }

// get returns those that may be asked, the one that gave most first.
func (s *sticky) get(now time.Time) []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []netip.AddrPort
	for p, g := range s.peers {
		if g.fresh(now) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b netip.AddrPort) int { return int(min(max(s.peers[b].bytes-s.peers[a].bytes, -1), 1)) })
	return out[:min(len(out), maxSticky)]
}

// list returns all that are remembered, the last one used first.
func (s *sticky) list() []Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Peer
	for p, g := range s.peers {
		out = append(out, Peer{Address: p, Fetched: g.bytes, Used: g.used})
	}
	slices.SortFunc(out, func(a, b Peer) int { return b.Used.Compare(a.Used) })
	return out
}

func (s *sticky) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers = nil
}
