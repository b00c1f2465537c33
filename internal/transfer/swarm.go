package transfer

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/extent"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
)

// peerSegments is how many segments come from peers at once.
const peerSegments = 4

// swarm is a download whose bytes come from everybody who has them: the cache of this machine, peers and the
// origin, in any order. The origin has described all blocks, so that each is verified before it counts.
//
// One goroutine looks who has what, some fetch from peers, one asks the origin for what nobody has.
type swarm struct {
	*download
	info  *peerdist.Info
	per   int // blocks of each segment but the last
	cache *cache.Cache
	end   context.CancelFunc

	disk sync.Mutex        // held by who writes; guards file, saved and the record of the file
	file *localfile.Sparse // nil until there is something to write

	mu       sync.Mutex // guards what follows
	toPeers  sync.Cond  // when there is something to ask peers for, or it may end
	toOrigin sync.Cond  // when there may be something to ask the origin for; now and then
	blocks   []blockState
	segments []segment
	ready    []int // segments that peers have blocks of, to be fetched
	left     int   // blocks that are not here
	active   int   // segments that are fetched from peers
	found    bool  // somebody has something
	answered bool  // it was looked for some segments
	looked   bool  // for all segments
	err      error // why it cannot go on
	uncached bool  // blocks are not kept any more

	next      int // the block after the last that the origin was asked for
	wrong     int // the block that the origin sent wrong, and is asked for again; -1 for none
	rate      float64
	length    int64     // of the next run
	since     time.Time // when the rate of peers was last held against that of the origin
	before    int64     // bytes from peers then
	slow      bool      // they were slower
	fromPeers int64
	fromCache int64
}

// blockState says where a block is.
type blockState uint8

const (
	blockMissing blockState = iota
	blockAtPeers            // asked of peers
	blockAtOrigin
	blockHere
)

// segment is what is known of one.
type segment struct {
	state segmentState
	who   []netip.AddrPort
}

type segmentState uint8

const (
	unknown segmentState = iota // whether somebody has blocks of it
	free                        // what is missing of it nobody has
	queued                      // in ready
	fetched                     // from peers, now
)

// origins of blocks
type from uint8

const (
	theOrigin from = iota
	aPeer
	theCache
	thePart // the part file had it
)

// swarm moves the file that was described.
func (d *download) swarm(ctx context.Context) error {
	info := d.about.info
	s := &swarm{download: d, info: info, per: info.Segments[0].Blocks(), cache: d.node.Cache(), segments: make([]segment, len(info.Segments)), wrong: -1, length: minRun}
	last := len(info.Segments) - 1
	s.blocks = make([]blockState, last*s.per+info.Segments[last].Blocks())
	s.left = len(s.blocks)
	s.next = rand.IntN(len(s.blocks)) // so that machines that begin together fetch different parts
	s.toPeers.L, s.toOrigin.L = &s.mu, &s.mu
	if d.f.Part != nil {
		s.fromPeers, s.fromCache = d.f.Part.Peers, d.f.Part.Cached
	}
	err := s.begin()
	if err == nil {
		err = s.move(ctx)
	}
	if err == nil {
		err = s.finish(ctx)
	}
	return errors.Join(err, s.leave())
}

// block returns a block's segment, its index in it and where it is in the file.
func (s *swarm) block(b int) (*peerdist.Segment, int, bits.Range) {
	seg := &s.info.Segments[b/s.per]
	i := b % s.per
	offset, n := seg.Block(i)
	return seg, i, bits.Range{Offset: seg.Offset + int64(offset), Length: int64(n)}
}

// begin takes over what is here, as far as it is right.
func (s *swarm) begin() error {
	size := s.about.validator.Size
	if err := s.feed.sized(&s.alone, size); err != nil {
		return err
	}
	if err := s.budget.set(s.index, size); err != nil {
		return err
	}
	filled := Filled(&s.f)
	if s.part != nil { // bytes came before the description
		if err := s.download.checkpoint(); err != nil {
			return err
		}
		filled = Filled(&s.f)
		if err := s.part.Close(); err != nil {
			return localfile.Err(err, s.path)
		}
		s.part = nil
	}
	s.parts = false
	if _, err := s.job.Owner.Watermark(s.path); err != nil {
		filled = nil // the part file is gone
	}
	if s.byWord() && !s.agrees(filled) {
		s.node.Lied(s.about.from, errors.New("an index of another file: what the server sent is not in it"))
		return errPlain // which goes on with what is here
	}
	stands, err := s.job.Owner.Version(s.path)
	proven := err == nil && s.proofs.same(s.path, stands)
	file, err := localfile.OpenSparse(s.job.Owner, s.path, len(filled) > 0, size)
	if err != nil {
		return localfile.Err(err, s.path)
	}
	s.file = file
	s.validator, s.modified = s.about.validator, s.about.modified
	s.f.Size = size
	s.live.size.Store(size)
	s.live.done.Store(0)
	s.live.fixed.Store(false)
	s.once.Do(s.sink.Connected)
	if err := s.takeOver(filled, proven); err != nil {
		return err
	}
	s.saved = time.Now()
	s.record()
	f := s.f
	// Blocks come in any order from now on: a record that says how far the file goes must not survive.
	return s.sink.Save(s.index, &f)
}

// takeOver counts the blocks that the part file has. Unless they are known to be as they were when they were
// verified, they are verified again.
func (s *swarm) takeOver(filled extent.Set, proven bool) error {
	var space []byte
	for b := range s.blocks {
		seg, i, at := s.block(b)
		if len(filled) == 0 || !filled.Has(at) {
			continue
		}
		if !proven {
			if int64(cap(space)) < at.Length {
				space = make([]byte, at.Length)
			}
			data := space[:at.Length]
			if s.file.ReadAt(data, at.Offset) != nil || !seg.Verify(i, data) {
				continue
			}
			s.keep(seg, i, data)
		}
		s.came(b, at.Length, thePart)
	}
	return nil
}

// move gets all blocks.
func (s *swarm) move(ctx context.Context) error {
	if err := s.fromOwnCache(ctx); err != nil {
		return err
	}
	if s.left == 0 {
		return nil
	}
	running, end := context.WithCancel(ctx)
	defer end()
	s.end = end
	defer context.AfterFunc(running, s.wake)()
	s.since = time.Now()
	tick := time.NewTicker(patience / 2) // for what changes with time
	defer tick.Stop()
	var work sync.WaitGroup
	work.Go(func() { s.look(running) })
	for range peerSegments {
		work.Go(func() { s.askPeers(running) })
	}
	work.Go(func() { s.askOrigin(running) })
	work.Go(func() {
		for {
			select {
			case <-running.Done():
				return
			case <-tick.C:
				s.wake()
			}
		}
	})
	work.Wait()
	switch {
	case s.err != nil:
		return s.err
	case s.left > 0:
		return context.Cause(ctx)
	}
	return nil
}

func (s *swarm) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toPeers.Broadcast()
	s.toOrigin.Broadcast()
}

// fail ends it.
func (s *swarm) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.end()
}
