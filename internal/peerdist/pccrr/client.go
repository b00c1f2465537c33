package pccrr

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/bound"
)

// Limits of a client.
const (
	MaxPeers     = 16 // of a segment that are asked (section 8)
	firstByte    = 2 * time.Second
	exchangeTime = 5 * time.Second // (section 7.6)
	sessionTime  = 5 * time.Second // for a segment, and again for each sessionBytes that came
	sessionBytes = 1 << 20
	exchanges    = 12 // with a peer at a time, of all downloads: it may close what is too much
	simple       = 3  // blocks in a row up to which nobody is asked for a list (section 8)
	liarTime     = 10 * time.Minute
	firstRest    = 15 * time.Second // of a peer that did not answer; twice as long the next time, up to liarTime
	maxRested    = 1024             // peers that are remembered
)

// Client fetches blocks from peers. It remembers which of them lied or did not answer, and does not ask
// those for a while.
type Client struct {
	http   *http.Client
	log    *slog.Logger
	mu     sync.Mutex              // guards rested
	rested map[netip.AddrPort]rest // of who lied the port is 0: the machine has others
	spaces sync.Pool               // of []byte with room for a response
	turns  *bound.Turns[netip.AddrPort]

	// Blind reports whether a machine passes on what others sealed and cannot tell whether it is right: a wrong block is not
	// its own lie, and does not keep all else that it has from us for long; nil: none does.
	Blind func(netip.Addr) bool
}

// rest is why and for how long a peer is not asked.
type rest struct {
	until time.Time
	last  time.Duration
}

// NewClient returns a client, which tells the log of peers that lie.
func NewClient(log *slog.Logger) *Client {
	return &Client{
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:            (&net.Dialer{Timeout: firstByte}).DialContext,
				ResponseHeaderTimeout:  firstByte,
				DisableCompression:     true,
				MaxIdleConnsPerHost:    exchanges,
				MaxIdleConns:           4 * MaxPeers,
				IdleConnTimeout:        30 * time.Second,
				MaxResponseHeaderBytes: 8 << 10,
				ReadBufferSize:         64 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		log:    log,
		rested: map[netip.AddrPort]rest{},
		turns:  bound.NewTurns[netip.AddrPort](exchanges),
		spaces: sync.Pool{New: func() any { return new([]byte) }},
	}
}

// Close closes the connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// lie is what a peer said that is not true, or no answer to what it was asked.
type lie struct{ error }

func lied(format string, args ...any) error { return lie{fmt.Errorf(format, args...)} }

// Banned reports whether a peer is not asked at present, and whether that is because it lied.
func (c *Client) Banned(peer netip.AddrPort) (banned, lied bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Before(c.rested[machine(peer)].until) {
		return true, true
	}
	return now.Before(c.rested[peer].until), false
}

// machine returns what stands for all ports of a peer.
func machine(peer netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(peer.Addr(), 0) }

// blame remembers what came of asking a peer: nil makes all good.
func (c *Client) blame(ctx context.Context, peer netip.AddrPort, err error) {
	if errors.Is(err, ErrNoTurn) || err != nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSlow) {
		return // it was the caller who gave up
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.rested, peer)
		return
	}
	now := time.Now()
	var l lie
	lied := errors.As(err, &l)
	passed := errors.Is(err, errWrongBlock) && c.Blind != nil && c.Blind(peer.Addr())
	own := lied && !passed
	if own {
		peer = machine(peer)
	}
	old, known := c.rested[peer]
	if now.Before(old.until) {
		return // several of its blocks were on the way
	}
	r := rest{last: min(max(firstRest, 2*old.last), liarTime)}
	if own {
		r.last = liarTime
	}
	r.until = now.Add(r.last)
	if len(c.rested) >= maxRested && !known {
		for a, r := range c.rested {
			if now.After(r.until) {
				delete(c.rested, a)
			}
		}
		for a := range c.rested { // any: there are not as many peers
			if len(c.rested) < maxRested {
				break
			}
			delete(c.rested, a)
		}
	}
	c.rested[peer] = r
	if lied {
		c.log.Warn("a peer sent what is wrong and is not asked for a while", "peer", peer.Addr(), "for", r.last, "error", err)
	} else {
		c.log.Debug("a peer does not answer and is not asked for a while", "peer", peer, "for", r.last, "error", err)
	}
}

// ErrUnknown says that a peer does not know what it was asked.
var ErrUnknown = errors.New("the peer does not know the request")

// ErrNoTurn says that a peer could not be asked, as this machine asked it for other things all the time.
var ErrNoTurn = errors.New("the peer is busy with other questions of ours")

// turn waits for a turn with a peer, which ends when done is called.
func (c *Client) turn(ctx context.Context, peer netip.AddrPort) (done func(), err error) {
	if done = c.turns.Take(ctx, peer); done == nil {
		err = ErrNoTurn
	}
	return done, err
}

// exchange sends a request, for which the caller has a turn, and reads the response into space.
func (c *Client) exchange(ctx context.Context, peer netip.AddrPort, m Message, space []byte) (Message, Cipher, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	for try := 0; ; try++ {
		answer, cipher, space, err := c.once(ctx, peer, m, space)
		n, ok := answer.(NegotiateResponse)
		if err != nil || !ok {
			return answer, cipher, space, err
		}
		// It does not take our version, although it may say that it does: once more, then no more.
		major := uint16(1)
		if m.Type() >= TypeGetSegmentList {
			major = 2
		}
		if try > 0 || major < n.Min.Major || major > n.Max.Major {
			return nil, 0, space, fmt.Errorf("%w: it has versions %d to %d", ErrUnknown, n.Min.Major, n.Max.Major)
		}
	}
}

func (c *Client) once(ctx context.Context, peer netip.AddrPort, m Message, space []byte) (Message, Cipher, []byte, error) {
	body := AppendRequest(nil, AES128, m)
	to := url.URL{Scheme: "http", Host: peer.String(), Path: Path} // which escapes the zone of an address
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, 0, space, err
	}
	r.Header.Set("User-Agent", "Ebb")
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Header["Idempotency-Key"] = []string{} // not sent; tells net/http that it may ask again if an idle connection has just ended
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, 0, space, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, space, fmt.Errorf("%w: it answers with the status %d", ErrUnknown, resp.StatusCode)
	}
	space, err = readAll(resp, space)
	if err != nil {
		return nil, 0, space, err
	}
	answer, cipher, err := DecodeResponse(space)
	if err != nil {
		return nil, 0, space, lie{err}
	}
	return answer, cipher, space, nil
}

// readAll reads a response into space, which grows as much as bytes come.
func readAll(resp *http.Response, space []byte) ([]byte, error) {
	const most = MaxResponse + 4 + 3
	if resp.ContentLength > most {
		return space, lied("a response of %d bytes", resp.ContentLength)
	}
	b := bytes.NewBuffer(space[:0])
	if n := resp.ContentLength; n > 0 && n <= peerdist.MaxSegment2+4096 {
		b.Grow(int(n) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(resp.Body, most+1))
	if err == nil && n > most {
		err = lied("a response of more than %d bytes", most)
	}
	return b.Bytes(), err
}

// blockList asks a peer which of the wanted blocks it has.
func (c *Client) blockList(ctx context.Context, peer netip.AddrPort, id []byte, wanted []int) ([]int, error) {
	var ranges []Range
	for _, i := range wanted {
		if n := len(ranges); n > 0 && ranges[n-1].End() == uint64(i) {
			ranges[n-1].Count++
		} else if n < maxRanges {
			ranges = append(ranges, Range{uint32(i), 1})
		}
	}
	m, _, _, err := c.exchange(ctx, peer, GetBlockList{id, ranges}, nil)
	if err != nil {
		return nil, err
	}
	list, ok := m.(BlockList)
	if !ok || !bytes.Equal(list.Segment, id) {
		return nil, lied("an answer to another request, of type %d", m.Type())
	}
	var out []int
	for _, i := range wanted {
		if slices.ContainsFunc(list.Ranges, func(r Range) bool { return uint64(i) >= uint64(r.Index) && uint64(i) < r.End() }) {
			out = append(out, i)
		}
	}
	return out, nil
}

var errWrongBlock = lied("a block that is not the right one")

// block fetches one block and verifies it.
func (c *Client) block(ctx context.Context, peer netip.AddrPort, s *peerdist.Segment, id []byte, i int, space []byte) (plain, room []byte, err error) {
	b, cipher, space, err := c.sealed(ctx, peer, id, i, space)
	if err != nil {
		return nil, space, err
	}
	plain, err = Open(cipher, s.Secret, b)
	if err != nil || !s.Verify(i, plain) {
		return nil, space, errWrongBlock
	}
	return plain, space, nil
}

// Segments asks a hosted cache which segments it has. It returns their indexes in ids.
func (c *Client) Segments(ctx context.Context, peer netip.AddrPort, ids [][]byte) ([]int, error) {
	has, err := c.segments(ctx, peer, ids)
	c.blame(ctx, peer, err)
	return has, err
}

// List is Segments for a peer that is no hosted cache. It need not know the request (section 7.6), and is not blamed if it
// does not.
func (c *Client) List(ctx context.Context, peer netip.AddrPort, ids [][]byte) ([]int, error) {
	has, err := c.segments(ctx, peer, ids)
	var l lie
	if err == nil || errors.As(err, &l) {
		c.blame(ctx, peer, err)
	}
	return has, err
}

func (c *Client) segments(ctx context.Context, peer netip.AddrPort, ids [][]byte) ([]int, error) {
	done, err := c.turn(ctx, peer)
	if err != nil {
		return nil, err
	}
	defer done()
	q := GetSegmentList{Segments: ids}
	_, _ = rand.Read(q.RequestID[:]) // never fails
	m, _, _, err := c.exchange(ctx, peer, q, nil)
	if err == nil {
		if list, ok := m.(SegmentList); !ok || list.RequestID != q.RequestID {
			err = lied("an answer to another request, of type %d", m.Type())
		}
	}
	if err != nil {
		return nil, err
	}
	has := make([]bool, len(ids))
	for _, r := range m.(SegmentList).Ranges {
		for i := uint64(r.Index); i < min(r.End(), uint64(len(ids))); i++ {
			has[i] = true
		}
	}
	var out []int
	for i, ok := range has {
		if ok {
			out = append(out, i)
		}
	}
	return out, nil
}

// Blocks asks a peer which of the wanted blocks of a segment it has: indexes in order.
func (c *Client) Blocks(ctx context.Context, peer netip.AddrPort, id []byte, wanted []int) ([]int, error) {
	done, err := c.turn(ctx, peer)
	if err != nil {
		return nil, err
	}
	defer done()
	has, err := c.blockList(ctx, peer, id, wanted)
	c.blame(ctx, peer, err)
	return has, err
}

// ErrNone says that a peer does not have a block, or is busy.
var ErrNone = errors.New("the peer has no such block")

// Sealed fetches a block of n bytes as the peer sealed it, without its segment's secret: nothing but its
// form tells then whether it is the right one. The result is in space if that is long enough, and is to be
// used before space is again. The error is ErrNone if the peer does not have the block.
func (c *Client) Sealed(ctx context.Context, peer netip.AddrPort, id []byte, i, n int, space []byte) (b Block, cipher Cipher, room []byte, err error) {
	done, err := c.turn(ctx, peer)
	if err != nil {
		return Block{}, 0, space, err
	}
	defer done()
	b, cipher, room, err = c.sealed(ctx, peer, id, i, space)
	if err == nil && (cipher < AES128 || cipher > AES256 || len(b.IV) != aes.BlockSize || len(b.Data) != n+aes.BlockSize-n%aes.BlockSize) {
		err = lied("a block of %d bytes with cipher %d", len(b.Data), cipher)
	}
	if !errors.Is(err, ErrNone) {
		c.blame(ctx, peer, err)
	}
	return b, cipher, room, err
}

// Whole fetches the blocks of a segment of version 1 of which nothing but its id and its secret is known, from one peer.
// Nothing but their form tells whether they are right: the caller finds out, and says Lied if they are not. The error
// is ErrNone if the peer does not have all of them. More than most bytes are a lie.
func (c *Client) Whole(ctx context.Context, peer netip.AddrPort, s *peerdist.Segment, most int) ([]byte, error) {
	done, err := c.turn(ctx, peer)
	if err != nil {
		return nil, err
	}
	defer done()
	all, err := c.whole(ctx, peer, s, most)
	if !errors.Is(err, ErrNone) {
		c.blame(ctx, peer, err)
	}
	return all, err
}

func (c *Client) whole(ctx context.Context, peer netip.AddrPort, s *peerdist.Segment, most int) ([]byte, error) {
	id := s.ID()
	var all, space []byte
	for i := 0; ; i++ {
		var b Block
		var cipher Cipher
		var err error
		if b, cipher, space, err = c.sealed(ctx, peer, id, i, space); err != nil {
			return nil, err
		}
		plain, err := Open(cipher, s.Secret, b)
		if err != nil || len(plain) > peerdist.BlockSize || len(all)+len(plain) > most {
			return nil, lied("a block that is not the right one")
		}
		all = append(all, plain...)
		if len(plain) < peerdist.BlockSize || b.Next == 0 {
			return all, nil
		}
	}
}

// Lied says that what came from a peer has turned out to be wrong, and why.
func (c *Client) Lied(peer netip.AddrPort, why error) { c.blame(context.Background(), peer, lie{why}) }

func (c *Client) sealed(ctx context.Context, peer netip.AddrPort, id []byte, i int, space []byte) (Block, Cipher, []byte, error) {
	m, cipher, space, err := c.exchange(ctx, peer, GetBlocks{id, []Range{{uint32(i), 1}}}, space)
	if err != nil {
		return Block{}, 0, space, err
	}
	b, ok := m.(Block)
	switch {
	case !ok || !bytes.Equal(b.Segment, id) || b.Index != uint32(i):
		return Block{}, 0, space, lied("an answer to another request, of type %d", m.Type())
	case len(b.Data) == 0:
		return Block{}, 0, space, ErrNone
	}
	return b, cipher, space, nil
}

// Fetch fetches blocks of a segment, the given indexes in order, from those of the peers that have them: up
// to MaxPeers at a time, one block of each on the way, two if there is only one. got is called with each
// block, which was verified, one call at a time; the block is its own only until it returns, and an
// error of it ends all. Fetch returns how many blocks it got from each peer, and an error only of got or of
// the context: what did not come is to be fetched from the origin, and there is no more to say about it.
func (c *Client) Fetch(ctx context.Context, s *peerdist.Segment, blocks []int, peers []netip.AddrPort, got func(i int, data []byte) error) (map[netip.AddrPort]int, error) {
	f := &fetching{client: c, segment: s, id: s.ID(), wanted: blocks, idle: slices.Clone(blocks), flying: map[int]bool{}, got: got, from: map[netip.AddrPort]int{}}
	f.changed.L = &f.mu
	usable := slices.DeleteFunc(slices.Clone(peers), func(p netip.AddrPort) bool {
		banned, _ := c.Banned(p)
		return banned
	})
	usable = usable[:min(len(usable), MaxPeers)]
	ctx, f.cancel = context.WithCancelCause(ctx)
	defer f.cancel(nil)
	f.due = time.Now().Add(sessionTime)
	f.timer = time.AfterFunc(sessionTime, func() { f.cancel(errSlow) })
	defer f.timer.Stop()
	defer context.AfterFunc(ctx, f.wake)()
	each := 1
	if len(usable) == 1 {
		each = 2
	}
	var wait sync.WaitGroup
	for _, peer := range usable {
		wait.Go(func() { f.peer(ctx, peer, each) })
	}
	wait.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, errSlow) {
		return f.from, err
	}
	return f.from, nil
}

// errSlow ends the fetching of a segment that takes too long.
var errSlow = errors.New("the peers are too slow")

// fetching is the fetching of one segment.
type fetching struct {
	client  *Client
	segment *peerdist.Segment
	id      []byte
	wanted  []int
	got     func(int, []byte) error
	cancel  context.CancelCauseFunc
	timer   *time.Timer

	mu      sync.Mutex   // guards what follows, and calls of got
	changed sync.Cond    // a block is here, or idle again, or all has ended
	idle    []int        // blocks that nobody fetches, in order
	flying  map[int]bool // those that somebody fetches
	from    map[netip.AddrPort]int
	room    int       // bytes until the timer starts again
	due     time.Time // when the timer ends all
	failed  bool      // got returned an error
}

// peer fetches what a peer has, until that is all here, or the peer fails.
func (f *fetching) peer(ctx context.Context, peer netip.AddrPort, each int) {
	wanted := f.wanted
	if n := len(wanted); n > simple || n > 0 && wanted[n-1]-wanted[0] != n-1 {
		done := f.turn(ctx, peer)
		if done == nil {
			return
		}
		var err error
		wanted, err = f.client.blockList(ctx, peer, f.id, wanted)
		done()
		if err != nil {
			f.client.blame(ctx, peer, err)
			return
		}
	}
	has := map[int]bool{}
	for _, i := range wanted {
		has[i] = true
	}
	var failed atomic.Bool
	var wait sync.WaitGroup
	for range min(each, len(wanted)) {
		wait.Go(func() { f.blocks(ctx, peer, has, &failed) })
	}
	wait.Wait()
}

// blocks fetches one block after the other, until the peer fails.
func (f *fetching) blocks(ctx context.Context, peer netip.AddrPort, has map[int]bool, failed *atomic.Bool) {
	space := f.client.spaces.Get().(*[]byte)
	defer f.client.spaces.Put(space)
	for !failed.Load() {
		i, ok := f.next(ctx, has)
		if !ok {
			return
		}
		done := f.turn(ctx, peer)
		if done == nil {
			f.back(i)
			return
		}
		asked := time.Now()
		plain, room, err := f.client.block(ctx, peer, f.segment, f.id, i, *space)
		done()
		*space = room
		if err == nil {
			f.client.blame(ctx, peer, nil)
			f.done(peer, i, plain)
			continue
		}
		failed.Store(true)
		f.back(i)
		if slow := errors.Is(context.Cause(ctx), errSlow); !errors.Is(err, ErrNone) && (!slow || time.Since(asked) >= firstByte) {
			f.client.blame(ctx, peer, err)
		}
	}
}

// turn waits for a turn with a peer, which ends when done is called; nil if the context ended before. The time is not the
// peer's.
func (f *fetching) turn(ctx context.Context, peer netip.AddrPort) (done func()) {
	began := time.Now()
	done = f.client.turns.Take(ctx, peer)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.due = f.due.Add(time.Since(began))
	f.timer.Stop()
	f.timer.Reset(time.Until(f.due))
	return done
}

// next takes the first idle block that a peer has. While there is none, but one is on its way that may
// still fail, it waits.
func (f *fetching) next(ctx context.Context, has map[int]bool) (int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ctx.Err() == nil {
		at := slices.IndexFunc(f.idle, func(i int) bool { return has[i] })
		if at >= 0 {
			i := f.idle[at]
			f.idle = slices.Delete(f.idle, at, at+1)
			f.flying[i] = true
			return i, true
		}
		more := false
		for i := range f.flying {
			more = more || has[i]
		}
		if !more {
			break
		}
		f.changed.Wait()
	}
	return 0, false
}

// back gives a block back that did not come.
func (f *fetching) back(i int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.flying, i)
	at, _ := slices.BinarySearch(f.idle, i)
	f.idle = slices.Insert(f.idle, at, i)
	f.changed.Broadcast()
}

// done gives a block to the caller.
func (f *fetching) done(peer netip.AddrPort, i int, plain []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.flying, i)
	f.changed.Broadcast()
	if f.failed {
		return
	}
	f.from[peer]++
	now := time.Now()
	if f.room -= len(plain); f.room <= 0 {
		f.room, f.due = sessionBytes, now.Add(sessionTime)
	}
	f.timer.Stop()
	err := f.got(i, plain)
	f.due = f.due.Add(time.Since(now)) // what the caller takes, as for a limit of its own, is not the peers' time
	f.timer.Reset(time.Until(f.due))
	if err != nil {
		f.failed = true
		f.cancel(err)
	}
}

// wake lets all look at the context.
func (f *fetching) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed.Broadcast()
}
