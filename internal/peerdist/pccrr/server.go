package pccrr

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/bound"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
)

// Limits of a server.
const (
	DefaultUploads = 64               // answers with blocks or lists at a time (section 7.5)
	connsPerUpload = 4                // connections for each of them: some are idle between two requests
	leastConns     = 64               // connections of a client, however few the uploads are
	clientsPart    = 4                // one client has a quarter of the answers at a time; what it wants more waits
	turnTime       = time.Second      // for so long
	uploadTime     = 15 * time.Second // for an answer (section 7.5)
	requestTime    = 5 * time.Second  // for a request to come
	idleTime       = time.Minute      // between two requests of a connection
	idsPerLook     = 256              // of a GetSegmentList
	looksPerClient = 500              // answers without a block in a second: they cost looks at the disk, and bring nothing
)

// Store has blocks: the cache of a machine, or a hosted one. Its methods may be called by several at the
// same time.
type Store interface {
	// Held returns which blocks of a segment are here; an error if none are.
	Held(id []byte) (cache.Bitmap, error)
	// Read reads a block, into space if that is long enough; an error if it is not here.
	Read(id []byte, i int, space []byte) (cache.Block, error)
}

// Server gives the blocks of a store to peers. It knows nobody: blocks are encrypted under the secrets of
// their segments, which the origin gives to those who may have them.
type Server struct {
	cache  Store
	allow  func(netip.Addr) bool
	slots  chan struct{} // holds one for each upload that is going on
	turns  *bound.Turns[netip.Addr]
	spaces sync.Pool
	looks  bound.PerSecond

	bytes, blocks, refused atomic.Int64
}

// Counts are those of a server since it was made.
type Counts struct {
	Bytes, Blocks int64 // that were given
	Refused       int64 // requests that came when the limits were reached
}

// Counts returns how much was served.
func (s *Server) Counts() Counts {
	return Counts{Bytes: s.bytes.Load(), Blocks: s.blocks.Load(), Refused: s.refused.Load()}
}

// NewServer returns a server with a limit of uploads at a time. Connections of addresses that allow does
// not want are closed: they should be those of the own networks alone.
func NewServer(c Store, uploads int, allow func(netip.Addr) bool) *Server {
	return &Server{cache: c, allow: allow, slots: make(chan struct{}, uploads),
		turns: bound.NewTurns[netip.Addr](max(1, uploads/clientsPart)), spaces: sync.Pool{New: func() any { return new(spaces) }}}
}

// spaces are what an answer is made in, so that nothing of its size is allocated for each.
type spaces struct{ block, message []byte }

// Serve answers until the context ends; then it closes the listener and all connections.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: requestTime,
		ReadTimeout:       requestTime,
		WriteTimeout:      uploadTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    8 << 10,
		// What clients do wrong is no news for whoever reads our log.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	defer context.AfterFunc(ctx, func() { h.Close() })()
	each := max(leastConns, cap(s.slots))
	err := h.Serve(&guarded{Listener: l, allow: s.allow, each: each, most: each * connsPerUpload, open: map[netip.Addr]int{}})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// ServeHTTP answers one request. What is wrong in any way gets an empty error (section 7.5).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Read before anything is refused: a connection that is closed while its request comes is reset, and
	// the client may never see the answer. MaxBytesReader lets it linger.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest+3))
	if err != nil || r.Method != http.MethodPost || !strings.EqualFold(r.URL.Path, Path) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	m, c, err := DecodeRequest(body)
	if err != nil && !errors.Is(err, ErrVersion) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	sp := s.spaces.Get().(*spaces)
	defer s.spaces.Put(sp)
	from := netip.Addr{}
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		from = a.Addr()
	}
	answer := empty(m)
	done := s.turn(r.Context(), from)
	if done == nil {
		s.refused.Add(1)
	} else {
		defer done()
		answer, c = s.answer(m, c, sp)
	}
	b, _ := answer.(Block)
	if len(b.Data) == 0 {
		list, _ := m.(GetSegmentList)
		for range 1 + len(list.Segments)/idsPerLook {
			s.looks.Take(from, looksPerClient, math.MaxInt)
		}
	}
	sp.message = AppendResponse(sp.message[:0], c, answer)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(sp.message))) // not in chunks: the client knows how much room it needs
	if _, err := w.Write(sp.message); err == nil && len(b.Data) > 0 {
		s.blocks.Add(1)
		s.bytes.Add(int64(len(b.Data)))
	}
}

// turn waits a moment until a client may have an answer with something in it, which ends when done is called. It is nil if the
// client asked for too much, or all are busy.
func (s *Server) turn(ctx context.Context, from netip.Addr) (done func()) {
	if s.looks.Full(from, looksPerClient) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	own := s.turns.Take(ctx, from)
	if own == nil {
		return nil
	}
	select {
	case s.slots <- struct{}{}:
		return func() {
			<-s.slots
			own()
		}
	default:
		own()
		return nil
	}
}

// empty is the answer that says that we have nothing of what was asked for, or are busy: nobody can tell
// one from the other.
func empty(m Message) Message {
	switch m := m.(type) {
	case GetBlockList:
		return BlockList{Segment: m.Segment}
	case GetBlocks:
		return Block{Segment: m.Segment, Index: first(m.Ranges)}
	case GetSegmentList:
		return SegmentList{RequestID: m.RequestID}
	}
	return NegotiateResponse{Version1, Version2} // also to versions that there are not
}

// first returns the smallest index that ranges name.
func first(ranges []Range) uint32 {
	return slices.MinFunc(ranges, func(a, b Range) int { return int(a.Index) - int(b.Index) }).Index
}

// answer returns the answer to a request and its cipher.
func (s *Server) answer(m Message, c Cipher, sp *spaces) (Message, Cipher) {
	out := empty(m)
	switch m := m.(type) {
	case GetBlockList:
		held, err := s.cache.Held(m.Segment)
		if err == nil {
			out = BlockList{Segment: m.Segment, Ranges: heldOf(&held, m.Ranges)}
		}
	case GetBlocks:
		return s.block(m.Segment, first(m.Ranges), c, sp)
	case GetSegmentList:
		out = s.segments(m)
	}
	return out, c
}

// heldOf returns which of the wanted blocks are held.
func heldOf(held *cache.Bitmap, wanted []Range) []Range {
	var want cache.Bitmap
	for _, r := range wanted {
		for i := uint64(r.Index); i < min(r.End(), MaxBlocks); i++ {
			want[i/8] |= 1 << (i % 8)
		}
	}
	var out []Range
	for i := range MaxBlocks {
		if !want.Has(i) || !held.Has(i) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].End() == uint64(i) {
			out[n-1].Count++
		} else {
			out = append(out, Range{uint32(i), 1})
		}
	}
	return out
}

// block returns a block, encrypted in the way that the client would like if there is such a way.
func (s *Server) block(id []byte, i uint32, c Cipher, sp *spaces) (Message, Cipher) {
	none := Block{Segment: id, Index: i}
	b, err := s.cache.Read(id, int(i), sp.block)
	if err != nil {
		if held, err := s.cache.Held(id); err == nil {
			none.Next = uint32(held.Next(int(i)))
		}
		return none, c
	}
	sp.block = b.Data
	if o := b.Sealed; o != nil {
		return Block{Segment: id, Index: i, Next: uint32(b.Next), Data: b.Data, IV: o.IV[:]}, Cipher(o.Cipher)
	}
	if c != AES192 && c != AES256 {
		c = AES128
	}
	sealed, iv, err := Seal(c, b.Secret, b.Data, b.Data) // in place
	if err != nil {
		return none, c
	}
	sp.block = sealed
	return Block{Segment: id, Index: i, Next: uint32(b.Next), Data: sealed, IV: iv}, c
}

// segments tells which segments we have blocks of.
func (s *Server) segments(m GetSegmentList) Message {
	out := SegmentList{RequestID: m.RequestID}
	for i, id := range m.Segments {
		if _, err := s.cache.Held(id); err != nil {
			continue
		}
		if n := len(out.Ranges); n > 0 && out.Ranges[n-1].End() == uint64(i) {
			out.Ranges[n-1].Count++
		} else {
			out.Ranges = append(out.Ranges, Range{uint32(i), 1})
		}
	}
	return out
}

// guarded is a listener with bounds on connections: of all and of each client.
type guarded struct {
	net.Listener
	allow func(netip.Addr) bool
	each  int // of a client
	most  int
	mu    sync.Mutex // guards the two below
	open  map[netip.Addr]int
	all   int
}

func (g *guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addrOf(c.RemoteAddr())
		if !g.allow(from) || !g.enter(from) {
			c.Close()
			continue
		}
		return &guardedConn{Conn: c, leave: sync.OnceFunc(func() { g.left(from) })}, nil
	}
}

func (g *guarded) enter(from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= g.most || g.open[from] >= g.each {
		return false
	}
	g.all++
	g.open[from]++
	return true
}

func (g *guarded) left(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.open[from]--; g.open[from] == 0 {
		delete(g.open, from)
	}
}

type guardedConn struct {
	net.Conn
	leave func()
}

// CloseWrite is what net/http ends a connection with whose request it did not read to the end.
func (c *guardedConn) CloseWrite() error {
	if t, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}

func (c *guardedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
