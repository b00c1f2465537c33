package transfer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/extent"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

const (
	// minRun and maxRun bound what the origin is asked for at once, in bytes; in between it is what takes
	// about runTime: what peers get meanwhile is not asked for then, and a round trip costs little.
	minRun  = 1 << 20
	maxRun  = 256 << 20
	runTime = 2 * time.Second

	// lookAgain is how long it takes at least until it is looked again who has what is missing.
	lookAgain = 2 * time.Second

	// lookFor1 and lookFor2 are for how many segments it is looked at once, by version.
	lookFor1 = 8
	lookFor2 = 256

	// patience is how long the rate of peers is measured before it is held against that of the origin;
	// firstPatience, how long it may take to find the first ones.
	patience      = 500 * time.Millisecond
	firstPatience = 1500 * time.Millisecond

	// peerSegments is how many segments come from peers at once.
	peerSegments = 4

	// firstRate is what the origin is taken to give, in bytes per second, before it gave anything.
	firstRate = 1 << 20

	// lonelyFor is how long it is believed that nobody is there who has anything.
	lonelyFor = 15 * time.Second
)

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
	stands, info := stat(s.job.Owner, s.path)
	proven := info != nil && s.proofs.same(s.path, stands)
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

// askOrigin asks the origin for what nobody else has, and for more if that is faster.
func (s *swarm) askOrigin(ctx context.Context) {
	for tries := 0; ; {
		first, end, ok := s.choose(ctx)
		if !ok {
			return
		}
		began := time.Now()
		n, err := s.request(ctx, first, end)
		s.settle(first, end, n, time.Since(began))
		if n > 0 {
			tries = 0
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			tries = 0
			continue
		case errors.Is(err, errPlain) || errors.Is(err, errAnew):
			s.fail(err)
			return
		}
		if tries++; !quick(err) || tries > quickTries {
			s.without(ctx, err)
			return
		}
		if sleep(ctx, time.Duration(float64(quickPause)*(0.5+rand.Float64()))) != nil {
			return
		}
	}
}

// without waits for what peers still give, now that the origin has failed.
func (s *swarm) without(ctx context.Context, err error) {
	s.mu.Lock()
	for ctx.Err() == nil && (s.active > 0 || len(s.ready) > 0 || s.found && !s.looked) {
		s.toOrigin.Wait()
	}
	s.mu.Unlock()
	if ctx.Err() == nil {
		s.fail(err)
	}
}

// choose waits until there is something to ask the origin for, and returns the blocks from first on before
// end.
func (s *swarm) choose(ctx context.Context) (first, end int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; ctx.Err() == nil; s.toOrigin.Wait() {
		if b := s.wrong; b >= 0 && s.blocks[b] == blockMissing {
			return s.take(b, func(c int) bool { return c == b })
		}
		for _, may := range []func(int) bool{s.nobodys, s.anybodys, s.peers} {
			if first, ok := s.pick(may); ok {
				return s.take(first, may)
			}
			if !s.peersAreSlow() {
				break
			}
		}
	}
	return 0, 0, false
}

// nobodys reports whether a block is missing that nobody has; anybodys, whether it is missing; peers, whether
// peers are asked for it.
func (s *swarm) nobodys(b int) bool {
	st := s.segments[b/s.per].state
	return s.blocks[b] == blockMissing && (st == free || st == unknown && time.Now().UnixNano() < s.lonely.Load())
}

func (s *swarm) anybodys(b int) bool { return s.blocks[b] == blockMissing }
func (s *swarm) peers(b int) bool    { return s.blocks[b] == blockAtPeers }

// pick chooses a block: the next one if that will do, else any.
func (s *swarm) pick(may func(int) bool) (int, bool) {
	if b := s.next % len(s.blocks); may(b) {
		return b, true
	}
	n, chosen := 0, -1
	for b := range s.blocks {
		if may(b) {
			if n++; rand.IntN(n) == 0 {
				chosen = b
			}
		}
	}
	return chosen, chosen >= 0
}

// take marks a run of blocks for the origin.
func (s *swarm) take(first int, may func(int) bool) (int, int, bool) {
	end := first
	for n := int64(0); n < s.length && end < len(s.blocks) && may(end); end++ {
		_, _, at := s.block(end)
		n += at.Length
		s.blocks[end] = blockAtOrigin
	}
	s.next = end
	return first, end, true
}

// peersAreSlow reports whether peers gave less, the last time that it was measured, than the origin would.
func (s *swarm) peersAreSlow() bool {
	if passed := time.Since(s.since); passed >= patience && (s.answered || passed >= firstPatience) {
		rate := s.rate
		if rate == 0 {
			rate = firstRate
		}
		s.slow = float64(s.fromPeers-s.before) < rate*passed.Seconds()
		s.since, s.before = time.Now(), s.fromPeers
	}
	return s.slow
}

// settle takes stock after the origin was asked: n bytes came in a time.
func (s *swarm) settle(first, end int, n int64, passed time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := first; b < end; b++ {
		if s.blocks[b] == blockAtOrigin {
			s.blocks[b] = blockMissing
		}
	}
	if n >= minRun/2 {
		s.rate = float64(n) / max(passed, time.Millisecond).Seconds()
		s.length = max(minRun, min(maxRun, 2*s.length, int64(s.rate*runTime.Seconds())))
	}
}

// request asks the origin for blocks, and returns how many bytes of them came.
func (s *swarm) request(ctx context.Context, first, end int) (n int64, err error) {
	_, _, a := s.block(first)
	_, _, z := s.block(end - 1)
	ctx, under := s.ask(ctx, s.src.url)
	defer under.end()
	resp, err := s.http.GetParts(s.guard(ctx), httpget.PartsRequest{URL: s.src.url, Header: s.job.Header, Ranges: []bits.Range{{Offset: a.Offset, Length: z.End() - a.Offset}},
		Validator: s.named(), PeerDist: httpget.PeerDist{Missing: true}, Class: s.job.Class, Got: under.got, Answered: s.answer.came})
	var e *bits.Error
	switch {
	case errors.As(err, &e) && (e.Code == bits.InsufficientRangeSupport || e.Code == bits.InvalidRange):
		return 0, s.discard("the server describes the file but does not send parts of it", false)
	case err != nil:
		return 0, err
	case resp.Restart != "":
		if err := s.discard(resp.Restart, true); err != errPlain {
			return 0, err
		}
		return 0, errAnew // it may be described anew
	}
	defer resp.Close()
	part, body, err := resp.Next(ctx)
	switch {
	case err != nil:
		return 0, err
	case part.Offset != a.Offset:
		return 0, &bits.Error{Code: bits.InvalidServerResponse, Context: bits.ContextRemoteFile, File: s.src.url,
			Message: fmt.Sprintf("the server sent the file from byte %d though byte %d was asked for", part.Offset, a.Offset)}
	}
	space := make([]byte, max(peerdist.BlockSize, peerdist.MaxSegment2))
	for b := first; b < end; b++ {
		seg, i, at := s.block(b)
		data := space[:at.Length]
		if at.End() > part.End() {
			return n, errShort
		}
		if err := s.read(ctx, body, data, under); err != nil {
			return n, err
		}
		n += at.Length
		s.run.live.moved.Add(at.Length)
		if !seg.Verify(i, data) {
			return n, s.sentWrong(b)
		}
		if err := s.put(b, data, theOrigin); err != nil {
			return n, err
		}
		s.keep(seg, i, data)
	}
	return n, nil
}

// named is the validator that requests carry, if the server names versions at all.
func (s *swarm) named() httpget.Validator {
	if v := s.validator; v.ETag != "" || v.LastModified != "" {
		return v
	}
	return httpget.Validator{}
}

// read fills data.
func (s *swarm) read(ctx context.Context, body io.Reader, data []byte, under *asked) error {
	for len(data) > 0 {
		under.patience.Wait(httpconn.Arrival, s.stallTime())
		n, err := body.Read(data)
		under.patience.Rest() // what follows is the disk's time
		data = data[n:]
		if err != nil && len(data) > 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return httpconn.TransportError(ctx, err, s.src.url)
		}
	}
	return nil
}

// sentWrong deals with a block of the origin that has another hash: it is asked for once more. If it is as
// wrong then, the file is another one than was described.
func (s *swarm) sentWrong(b int) error {
	s.mu.Lock()
	again := s.wrong == b
	s.wrong = b
	s.mu.Unlock()
	if again {
		return s.discard("the server sent another file than it had described", true)
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	s.note("some of what the server sent was damaged, and was fetched again")
	return nil
}

// note leaves a word for people; disk is held.
func (s *swarm) note(text string) {
	part := store.Part{}
	if s.f.Part != nil {
		part = *s.f.Part
	}
	part.Note = text
	s.f.Part = &part
}

// discard throws away what is here. It returns errPlain.
func (s *swarm) discard(why string, changed bool) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	if err := s.restart(why, changed); err != nil {
		return err
	}
	s.mu.Lock()
	clear(s.blocks)
	s.left = len(s.blocks)
	s.mu.Unlock()
	if err := s.file.Restart(); err != nil {
		return localfile.Err(err, s.path)
	}
	return errPlain
}

// put writes a block that was verified, unless it is here.
func (s *swarm) put(b int, data []byte, from from) error {
	_, _, at := s.block(b)
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	here := s.blocks[b] == blockHere
	s.mu.Unlock()
	if here {
		return nil
	}
	if err := s.file.GoTo(at.Offset); err != nil {
		return localfile.Err(err, s.path)
	}
	for len(data) > 0 {
		n := copy(s.file.Space(), data)
		if err := s.file.Advance(n); err != nil {
			return localfile.Err(err, s.path)
		}
		data = data[n:]
	}
	if from != theOrigin {
		s.run.live.moved.Add(at.Length)
	}
	s.came(b, at.Length, from)
	if time.Since(s.saved) >= checkpointEvery {
		return s.checkpoint()
	}
	return nil
}

// came counts a block that is written.
func (s *swarm) came(b int, n int64, from from) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks[b] = blockHere
	s.left--
	switch from {
	case aPeer:
		s.fromPeers += n
		s.node.Count(n, 0)
	case theOrigin:
		s.node.Count(0, n)
	case theCache:
		s.fromCache += n
	}
	s.live.done.Add(n)
	s.live.peers.Store(s.fromPeers)
	s.live.cached.Store(s.fromCache)
	if s.left == 0 && s.end != nil {
		s.end()
	}
}

// keep gives a block to the cache, for this machine and its peers.
func (s *swarm) keep(seg *peerdist.Segment, i int, data []byte) {
	s.mu.Lock()
	off := s.cache == nil || s.uncached
	s.mu.Unlock()
	if off {
		return
	}
	if err := s.cache.Keep(seg, i, data); err != nil {
		s.mu.Lock()
		s.uncached = true // it is full, or its disk fails; the file matters
		s.mu.Unlock()
	}
}

// checkpoint makes what is here durable, then says so; disk is held.
func (s *swarm) checkpoint() error {
	s.saved = time.Now()
	if err := s.file.Sync(); err != nil {
		return localfile.Err(err, s.path)
	}
	s.record()
	f := s.f
	s.sink.File(s.index, &f)
	return nil
}

// record makes the file's record, with what is here, which is durable; disk is held.
func (s *swarm) record() {
	part := store.Part{Headers: s.answer.text()}
	if s.validator.Usable() {
		part.ETag, part.LastModified = s.validator.ETag, s.validator.LastModified
	}
	if old := s.f.Part; old != nil {
		part.Note, part.Peak = old.Note, old.Peak
	}
	s.mu.Lock()
	var filled extent.Set
	for b := range s.blocks {
		if s.blocks[b] != blockHere {
			continue
		}
		_, _, at := s.block(b)
		if k := len(filled) - 1; k >= 0 && filled[k].End() == at.Offset {
			filled[k].Length += at.Length
		} else {
			filled = append(filled, at)
		}
	}
	part.Peers, part.Cached = s.fromPeers, s.fromCache
	s.mu.Unlock()
	part.Filled = filled
	s.f.Done = filled.Bytes()
	part.Peak = max(part.Peak, s.f.Done)
	s.f.Part = &part
}

// finish makes the file durable. All of it was verified, so that the server need not be asked whether it has
// changed.
func (s *swarm) finish(ctx context.Context) error {
	if h := newHash(s.f.Checksum); h != nil {
		if err := s.file.Hash(ctx, h, s.f.Size); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return localfile.Err(err, s.path)
		}
		algorithm, _, _ := strings.Cut(s.f.Checksum, ":")
		if got := algorithm + ":" + hex.EncodeToString(h.Sum(nil)); got != s.f.Checksum {
			s.file.Close()
			s.file = nil
			return s.mismatch(got)
		}
	}
	if err := s.file.Finish(s.f.Size, s.modified); err != nil {
		return localfile.Err(err, s.path)
	}
	if _, err := s.job.Owner.Watermark(s.path); errors.Is(err, fs.ErrNotExist) {
		// Somebody deleted it, perhaps with its directory, while it was written.
		s.file.Close()
		s.file = nil
		if err := s.restart("the part file was deleted", true); err != nil {
			return err
		}
		return errAnew
	}
	part := store.Part{Inode: s.file.Inode(), Headers: s.answer.text(), Peers: s.fromPeers, Cached: s.fromCache}
	if old := s.f.Part; old != nil {
		part.Note = old.Note
	}
	s.f.State, s.f.Done, s.f.Part = store.FileDone, s.f.Size, &part
	f := s.f
	s.sink.File(s.index, &f)
	segments := make([]*peerdist.Segment, len(s.info.Segments))
	for i := range segments {
		segments[i] = &s.info.Segments[i]
	}
	s.node.Offer(segments)
	return nil
}

// leave closes the file, recording how far it is if it is not done.
func (s *swarm) leave() error {
	if s.file == nil {
		return nil
	}
	if s.f.State != store.FilePending {
		return localErr(s.file.Close(), s.path)
	}
	if s.left == len(s.blocks) { // nothing worth keeping
		s.file.Close()
		return s.job.Owner.Remove(s.path)
	}
	if err := s.checkpoint(); err != nil {
		s.file.Close()
		return err
	}
	err := localErr(s.file.Close(), s.path)
	if stands, info := stat(s.job.Owner, s.path); err == nil && info != nil && stands.changed != 0 {
		s.proofs.add(s.path, stands)
	}
	return err
}

// proofs remembers part files of which all that is recorded was verified, as long as nobody wrote to them.
type proofs struct {
	mu    sync.Mutex
	files map[string]identity // guarded by mu: by path
}

// maxProofs bounds what is remembered; what is forgotten is verified again.
const maxProofs = 1024

func (p *proofs) add(path string, id identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.files == nil || len(p.files) >= maxProofs {
		p.files = map[string]identity{}
	}
	p.files[path] = id
}

func (p *proofs) same(path string, id identity) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.files[path]
	delete(p.files, path)
	return ok && known == id
}
