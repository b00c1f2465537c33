package transfer

import (
	"context"
	"net/netip"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist"
)

const (
	// lookAgain is how long it takes at least until it is looked again who has what is missing.
	lookAgain = 2 * time.Second

	// lookFor1 and lookFor2 are for how many segments it is looked at once, by version.
	lookFor1 = 8
	lookFor2 = 256

	// lonelyFor is how long it is believed that nobody is there who has anything.
	lonelyFor = 15 * time.Second
)

// fromOwnCache takes what this machine has.
func (s *swarm) fromOwnCache(ctx context.Context) error {
	if s.cache == nil {
		return nil
	}
	var space []byte
	for n := range s.info.Segments {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		seg := &s.info.Segments[n]
		id := seg.ID()
		held, err := s.cache.Held(id)
		if err != nil {
			continue
		}
		for i := range seg.Blocks() {
			if b := n*s.per + i; s.blocks[b] == blockMissing && held.Has(i) {
				block, err := s.cache.Read(id, i, space)
				if err != nil {
					continue
				}
				space = block.Data
				// The cache's own description of the segment may be another's word.
				if seg.Verify(i, block.Data) {
					if err := s.put(b, block.Data, theCache); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// look finds out who has what is missing, again and again, from where the origin is asked on.
func (s *swarm) look(ctx context.Context) {
	most := lookFor1
	if s.per == 1 {
		most = lookFor2
	}
	for {
		began := time.Now()
		s.mu.Lock()
		first := s.next / s.per % len(s.segments)
		s.mu.Unlock()
		var some []int
		for k := range s.segments {
			n := (first + k) % len(s.segments)
			if s.incomplete(n) {
				some = append(some, n)
			}
			if len(some) == most || len(some) > 0 && k == len(s.segments)-1 {
				s.find(ctx, some)
				some = some[:0]
			}
			if ctx.Err() != nil {
				return
			}
		}
		s.mu.Lock()
		s.looked = true
		if s.found {
			s.lonely.Store(0)
		} else {
			s.lonely.Store(time.Now().Add(lonelyFor).UnixNano())
		}
		s.toOrigin.Broadcast()
		s.mu.Unlock()
		if sleep(ctx, max(lookAgain, time.Since(began))) != nil {
			return
		}
	}
}

// incomplete reports whether it is to be found out who has a segment.
func (s *swarm) incomplete(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.segments[n].state; st == queued || st == fetched {
		return false
	}
	for i := range s.info.Segments[n].Blocks() {
		if s.blocks[n*s.per+i] == blockMissing {
			return true
		}
	}
	return false
}

// find finds out who has some segments.
func (s *swarm) find(ctx context.Context, some []int) {
	segments := make([]*peerdist.Segment, len(some))
	for i, n := range some {
		segments[i] = &s.info.Segments[n]
	}
	who := s.node.Find(ctx, segments)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.answered {
		s.answered, s.since = true, time.Now()
	}
	for i, n := range some {
		g := &s.segments[n]
		switch {
		case len(who[i]) > 0:
			g.state, g.who, s.found = queued, who[i], true
			s.ready = append(s.ready, n)
		case g.state == unknown:
			g.state = free
		}
	}
	s.toPeers.Broadcast()
	s.toOrigin.Broadcast()
}

// askPeers fetches segments from those who have them, one after the other.
func (s *swarm) askPeers(ctx context.Context) {
	for {
		n, blocks, who := s.claim(ctx)
		if blocks == nil {
			return
		}
		_, err := s.node.Fetch(ctx, &s.info.Segments[n], blocks, who, func(i int, data []byte) error {
			if err := s.put(n*s.per+i, data, aPeer); err != nil {
				return err
			}
			s.keep(&s.info.Segments[n], i, data)
			if s.node.Settings().ThrottleLAN {
				return s.gov.Hold(ctx, s.job.Class, len(data))
			}
			return nil
		})
		some := false
		s.mu.Lock()
		for _, i := range blocks {
			if b := n*s.per + i; s.blocks[b] == blockAtPeers {
				s.blocks[b], some = blockMissing, true
			}
		}
		s.segments[n] = segment{state: free}
		s.active--
		if some || s.active == 0 {
			s.toOrigin.Broadcast()
		}
		s.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.fail(err)
			return
		}
	}
}

// claim waits for a segment that can be had from peers; no blocks are returned at the end.
func (s *swarm) claim(ctx context.Context) (n int, blocks []int, who []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ctx.Err() == nil {
		if len(s.ready) == 0 {
			s.toPeers.Wait()
			continue
		}
		n, s.ready = s.ready[0], s.ready[1:]
		g := &s.segments[n]
		for i := range s.info.Segments[n].Blocks() {
			if b := n*s.per + i; s.blocks[b] == blockMissing {
				s.blocks[b] = blockAtPeers
				blocks = append(blocks, i)
			}
		}
		if blocks == nil {
			g.state = free
			continue
		}
		g.state = fetched
		s.active++
		return n, blocks, g.who
	}
	return 0, nil, nil
}
