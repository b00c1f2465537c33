package peers

import (
	"cmp"
	"context"
	"errors"
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
// most where all that are asked answer.
func (n *Node) Find(ctx context.Context, segments []*peerdist.Segment) [][]netip.AddrPort {
	out := make([][]netip.AddrPort, len(segments))
	n.mu.RLock()
	client, s, d, h := n.client, n.settings, n.discovery, n.hosted
	n.mu.RUnlock()
	if client == nil || s.Mode == Local || s.ServeOnly {
		return out
	}
	usable := func(p netip.AddrPort) bool {
		banned, _ := client.Banned(p)
		return !banned
	}
	ids := make([][]byte, len(segments))
	var unknown []int
	now := time.Now()
	for i := range segments {
		ids[i] = segments[i].ID()
		if len(n.known.get(ids[i], now)) == 0 {
			unknown = append(unknown, i)
		}
	}
	near := n.sticky.get(now, usable)
	switch {
	case h != nil:
		var some [][]byte
		for _, i := range unknown {
			if !n.known.has(ids[i], now) {
				some = append(some, ids[i])
			}
		}
		if len(some) > 0 {
			h.find(ctx, client, &n.known, some)
		}
	case d != nil:
		for _, i := range unknown {
			n.known.want(ids[i], now)
		}
		if len(near) == 0 {
			n.probe(ctx, d, segments, ids, unknown)
			near = n.sticky.get(time.Now(), usable)
			n.list(ctx, client, near, segments, ids, unknown)
			break
		}
		n.list(ctx, client, near, segments, ids, unknown)
		if n.mayProbe(now) {
			// For others than those that are known, who need not be waited for: it ends by itself in a moment.
			go n.probe(context.WithoutCancel(ctx), d, segments, ids, unknown)
		}
	}
	now = time.Now()
	for i, id := range ids {
		peers := n.known.get(id, now)
		if !n.known.missed(id, now) {
			for _, p := range near {
				// Those that list their segments have said that they do not have it.
				if (segments[i].Algorithm.Version() == 1 || n.sticky.isMute(p)) && !slices.Contains(peers, p) && len(peers) < pccrr.MaxPeers {
					peers = append(peers, p)
				}
			}
		}
		out[i] = slices.DeleteFunc(peers, func(p netip.AddrPort) bool { return !usable(p) })
	}
	return out
}

// list asks machines that are known for the segments of version 2 that they have, which is much less than to ask
// all machines for so many. The segments of version 1 are few, and each is asked for when its blocks are.
func (n *Node) list(ctx context.Context, client *pccrr.Client, near []netip.AddrPort, segments []*peerdist.Segment, ids [][]byte, unknown []int) {
	var some [][]byte
	for _, i := range unknown {
		if segments[i].Algorithm.Version() == 2 {
			some = append(some, ids[i])
		}
	}
	if len(near) == 0 || len(some) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	var wait sync.WaitGroup
	for _, p := range near {
		if !n.sticky.lists(p, time.Now()) {
			continue
		}
		wait.Go(func() {
			for chunk := range slices.Chunk(some, perList) {
				has, err := client.List(ctx, p, chunk)
				now := time.Now()
				if errors.Is(err, pccrr.ErrNoTurn) {
					return // it was not asked
				}
				if err != nil {
					n.sticky.unlisted(p, errors.Is(err, context.DeadlineExceeded), now)
					return
				}
				lacks := false
				for i, id := range chunk {
					if slices.Contains(has, i) {
						n.known.add(id, p, now)
					} else if slices.Contains(n.known.get(id, now), p) {
						lacks = true // it answered a probe for it just now: its lists are not of what it has
					}
				}
				if lacks {
					n.sticky.unlisted(p, false, now)
				} else {
					n.sticky.listed(p)
				}
			}
		})
	}
	wait.Wait()
}

const (
	// listTime is how long machines have to list their segments.
	listTime = time.Second
	// listRest is how long one that was too slow is not asked again, muteFor one that does not list what it has.
	listRest = 3 * time.Second
	muteFor  = time.Minute
	// probeAgain is how long it takes at least until more machines are looked for while some are known.
	probeAgain = 2 * time.Second
	// fewWants is one probe of version 2.
	fewWants = 16
)

// mayProbe reports whether it is time to look for more machines.
func (n *Node) mayProbe(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now.Sub(n.probed) < probeAgain {
		return false
	}
	n.probed = now
	return true
}

// probe asks the networks for some of the segments, by their indexes, that were not asked for lately: it is to find
// machines, which tell the rest themselves.
func (n *Node) probe(ctx context.Context, d *disco.Discovery, segments []*peerdist.Segment, ids [][]byte, unknown []int) {
	for version := 1; version <= 2; version++ {
		var wants []disco.Want
		now := time.Now()
		for _, i := range unknown {
			if segments[i].Algorithm.Version() == version && !n.known.has(ids[i], now) {
				wants = append(wants, disco.Want{ID: ids[i], Blocks: segments[i].Blocks()})
			}
		}
		if each := len(wants) / fewWants; each > 1 { // here and there
			for i := range fewWants {
				wants[i] = wants[i*each]
			}
			wants = wants[:fewWants]
		}
		if len(wants) == 0 {
			continue
		}
		for _, w := range wants {
			n.known.asked(w.ID, now)
		}
		for _, w := range wants[d.Probe(ctx, version, wants):] {
			n.known.asked(w.ID, time.Time{})
		}
	}
}

// heard notes that a machine of the networks asks for segments: if this machine wants the same, the other will
// have some of it soon, and is asked. It is taken to serve at the port that we do.
func (n *Node) heard(ids [][]byte, from netip.Addr) {
	now := time.Now()
	if slices.ContainsFunc(ids, func(id []byte) bool { return n.known.wanted(id, now) }) {
		n.sticky.met(netip.AddrPortFrom(from, n.Settings().Port), now)
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
	stickyFor   = time.Minute // after a machine gave something, or was heard
	mostMisses  = 4           // in a row, of one that does not list its segments
	maxReported = 256         // machines that are remembered
)

// sticky is the machines that gave blocks lately, or want the same as this one.
type sticky struct {
	mu    sync.Mutex
	peers map[netip.AddrPort]*giver
}

// giver is a machine that gave blocks, or may.
type giver struct {
	bytes  int64
	gave   time.Time // zero: never
	used   time.Time // when it gave something or was heard
	silent bool      // it does not list its segments, as it need not
	rests  time.Time // until when it is not asked to
	misses int
}

// of returns the entry of a machine; mu is held.
func (s *sticky) of(p netip.AddrPort) *giver {
	g := s.peers[p]
	if g != nil {
		return g
	}
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
	return g
}

// gave notes that a machine gave bytes.
func (s *sticky) gave(p netip.AddrPort, bytes int64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.of(p)
	g.bytes += bytes
	g.gave, g.used, g.misses = now, now, 0
}

// met notes that a machine was heard.
func (s *sticky) met(p netip.AddrPort, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of(p).used = now
}

// missed notes that machines did not have what they were asked for.
func (s *sticky) missed(peers []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range peers {
		if g := s.peers[p]; g != nil {
			g.misses++
		}
	}
}

// unlisted notes that a machine did not list its segments. One that was too slow may be able to; one that gave something
// before is there, and does not know how to.
func (s *sticky) unlisted(p netip.AddrPort, slow bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.peers[p]; g != nil {
		g.silent = !slow || g.bytes > 0
		g.rests = now.Add(muteFor)
		if slow {
			g.rests = now.Add(listRest)
		}
	}
}

// listed notes that a machine lists its segments.
func (s *sticky) listed(p netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.peers[p]; g != nil {
		g.silent = false
	}
}

// lists reports whether a machine may be asked for a list.
func (s *sticky) lists(p netip.AddrPort, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.peers[p]
	return g == nil || now.After(g.rests)
}

func (s *sticky) isMute(p netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.peers[p]
	return g != nil && g.silent
}

// get returns those that may be asked, the one that gave most first.
func (s *sticky) get(now time.Time, usable func(netip.AddrPort) bool) []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []netip.AddrPort
	for p, g := range s.peers {
		if now.Sub(g.used) < stickyFor && (!g.silent || g.misses < mostMisses) && usable(p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b netip.AddrPort) int { return cmp.Compare(s.peers[b].bytes, s.peers[a].bytes) })
	return out[:min(len(out), pccrr.MaxPeers)]
}

// list returns all that gave something, the last one first.
func (s *sticky) list() []Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Peer
	for p, g := range s.peers {
		if g.bytes > 0 {
			out = append(out, Peer{Address: p, Fetched: g.bytes, Used: g.gave})
		}
	}
	slices.SortFunc(out, func(a, b Peer) int { return b.Used.Compare(a.Used) })
	return out
}

func (s *sticky) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers = nil
}
