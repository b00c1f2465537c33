// Package hosted is a hosted cache (MS-PCHC): machines offer it segments that they have, it fetches them from
// there, and gives them to whoever asks for their public ids, by the retrieval protocol.
//
// Offers of version 2 tell it public ids alone. What it keeps of them is sealed, by keys that it never
// has: it can neither read it nor tell whether it is right, which is for those who get it to check. Offers
// of version 1 give it keys and hashes, so they must come over HTTPS; what it keeps of them is verified.
//
// It knows nobody, and takes offers of its own networks alone. Sections named here are those of
// peercache.md.
package hosted

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
	"github.com/ebbtransfer/ebb/internal/peerdist/pchc"
)

// Options say how a hosted cache runs.
type Options struct {
	Dir    string
	Limits cache.Limits
	Keys   bool // takes offers of version 1 too
	// Allow reports whether an address may offer and fetch: those of the own networks may.
	Allow func(netip.Addr) bool
	Log   *slog.Logger
}

// Limits of what others may make a hosted cache do.
const (
	uploads      = 1024 // answers at a time (section 7.5)
	fetches      = 16   // machines that are fetched from at a time, one block from each
	maxOfferers  = 4096 // that are remembered
	maxWaiting   = 64 << 10
	maxWaitingOf = 8 << 10        // segments that one machine may have waiting
	share        = 4              // a quarter of the cache is what one machine may fill in a period
	period       = 24 * time.Hour // after which it may again
	requestTime  = 5 * time.Second
	answerTime   = 15 * time.Second // (section 7.5)
)

// Server is a hosted cache.
type Server struct {
	Options
	plain     *cache.Cache // of version 1; nil without Keys
	blind     *Blind
	retrieval *pccrr.Server
	client    *pccrr.Client
	life      context.Context
	end       context.CancelFunc
	work      sync.WaitGroup
	slots     chan struct{} // one for each machine that is fetched from
	offers    atomic.Int64
	fetched   atomic.Int64 // bytes

	mu       sync.Mutex // guards what follows
	offerers map[netip.Addr]*offerer
	waiting  int
}

// offerer is a machine that offered something.
type offerer struct {
	queue   []offer
	running bool
	since   time.Time // when taken began to count
	taken   int64     // bytes that were fetched from it
}

// offer is a segment that a machine has.
type offer struct {
	from    netip.AddrPort
	blind   pchc.Offered
	segment *peerdist.Segment // of version 1; nil: it is blind
}

// Open opens or makes a hosted cache.
func Open(o Options) (*Server, error) {
	s := &Server{Options: o, offerers: map[netip.Addr]*offerer{}, slots: make(chan struct{}, fetches)}
	limits := o.Limits
	if o.Keys {
		limits.Size /= 2
	}
	var err error
	if s.blind, err = OpenBlind(filepath.Join(o.Dir, "blind"), limits); err != nil {
		return nil, err
	}
	if o.Keys {
		if s.plain, err = cache.Open(filepath.Join(o.Dir, "plain"), limits); err != nil {
			s.blind.Close()
			return nil, err
		}
	}
	s.retrieval = pccrr.NewServer(store{s}, uploads, o.Allow)
	s.client = pccrr.NewClient(o.Log)
	s.life, s.end = context.WithCancel(context.Background())
	s.work.Go(s.keepClean)
	return s, nil
}

// cleanEvery is how often what is too old is removed.
const cleanEvery = time.Hour

func (s *Server) keepClean() {
	t := time.NewTicker(cleanEvery)
	defer t.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-t.C:
		}
		err := s.blind.Clean()
		if s.plain != nil {
			err = errors.Join(err, s.plain.Clean())
		}
		if err != nil {
			s.Log.Warn("the hosted cache could not be cleaned", "err", err)
		}
	}
}

// Close ends what is going on.
func (s *Server) Close() {
	s.end()
	s.work.Wait()
	s.client.Close()
	s.blind.Close()
	if s.plain != nil {
		s.plain.Close()
	}
}

// Stats are what the cache has and did.
type Stats struct {
	Used    int64 // bytes on disk
	Waiting int   // segments that are to be fetched
	Offers  int64 // segments that were offered since the start
	Fetched int64 // bytes that were fetched since the start
}

// Stats returns what the cache has and did.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Used: s.blind.Used(), Waiting: s.waiting, Offers: s.offers.Load(), Fetched: s.fetched.Load()}
	if s.plain != nil {
		st.Used += s.plain.Used()
	}
	return st
}

// store is what is retrieved: what was verified, and else what was sealed by others.
type store struct{ *Server }

func (s store) Held(id []byte) (cache.Bitmap, error) {
	held, err := s.blind.Held(id)
	if s.plain == nil {
		return held, err
	}
	more, errPlain := s.plain.Held(id)
	for i := range held {
		held[i] |= more[i]
	}
	if err == nil || errPlain == nil {
		return held, nil
	}
	return held, cache.ErrNotHeld
}

func (s store) Read(id []byte, i int, space []byte) (cache.Block, error) {
	if s.plain != nil {
		if b, err := s.plain.Read(id, i, space); err == nil {
			return b, nil
		}
	}
	return s.blind.Read(id, i, space)
}

// Handles reports whether a request is for the hosted cache.
func Handles(r *http.Request) bool {
	return slices.ContainsFunc([]string{pccrr.Path, pchc.Path1, pchc.Path2}, func(p string) bool { return strings.EqualFold(p, r.URL.Path) })
}

// ServeHTTP answers a request that it Handles. What is wrong gets an error without a body.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	// Those of HTTP/2 hold for the whole exchange, and would do for this one.
	_ = c.SetReadDeadline(time.Now().Add(requestTime))
	_ = c.SetWriteDeadline(time.Now().Add(answerTime))
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !s.Allow(from.Addr().Unmap()) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if strings.EqualFold(r.URL.Path, pccrr.Path) {
		s.retrieval.ServeHTTP(w, r)
		return
	}
	answer, status := s.offered(w, r, from.Addr().Unmap())
	if status != http.StatusOK {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(pchc.AppendAnswer(nil, answer))
}

// offered reads an offer, and sees to it that what is offered is fetched.
func (s *Server) offered(w http.ResponseWriter, r *http.Request, from netip.Addr) (pchc.Answer, int) {
	first := strings.EqualFold(r.URL.Path, pchc.Path1)
	if first && (r.TLS == nil || s.plain == nil) { // it would bring keys
		return 0, http.StatusNotFound
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, pchc.MaxMessage))
	if err != nil || r.Method != http.MethodPost {
		return 0, http.StatusBadRequest
	}
	if banned, lied := s.client.Banned(netip.AddrPortFrom(from, 0)); banned && lied {
		return 0, http.StatusForbidden
	}
	var offers []offer
	var port uint16
	answer := pchc.OK
	if first {
		m, err := pchc.Decode1(body)
		switch m := m.(type) {
		case *pchc.InitialOffer:
			port, answer = m.Port, pchc.Interested
		case *pchc.SegmentInfo:
			port = m.Port
			offers = []offer{{segment: &m.Segment}}
		}
		if err != nil {
			return 0, http.StatusBadRequest
		}
	} else {
		m, err := pchc.Decode2(body)
		if err != nil {
			return 0, http.StatusBadRequest
		}
		port = m.Port
		for _, o := range m.Segments {
			offers = append(offers, offer{blind: o})
		}
	}
	if port == 0 {
		return 0, http.StatusBadRequest
	}
	for i := range offers {
		offers[i].from = netip.AddrPortFrom(from, port) // never another address than the offer's own
	}
	if !s.enqueue(from, offers) {
		return 0, http.StatusServiceUnavailable
	}
	return answer, http.StatusOK
}

// enqueue lets offers wait for their turn. It reports whether there is room for them.
func (s *Server) enqueue(from netip.Addr, offers []offer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.offerers[from]
	if o == nil {
		if s.forget(); len(s.offerers) >= maxOfferers {
			return false
		}
		o = &offerer{since: time.Now()}
		s.offerers[from] = o
	}
	if s.life.Err() != nil || len(o.queue)+len(offers) > maxWaitingOf || s.waiting+len(offers) > maxWaiting || s.full(o) {
		return false
	}
	s.offers.Add(int64(len(offers)))
	o.queue = append(o.queue, offers...)
	s.waiting += len(offers)
	if !o.running && len(o.queue) > 0 {
		o.running = true
		s.work.Go(func() { s.run(o) })
	}
	return true
}

// full reports whether a machine has filled its share of the cache. The lock is held.
func (s *Server) full(o *offerer) bool {
	if time.Since(o.since) > period {
		o.since, o.taken = time.Now(), 0
	}
	return o.taken > s.Limits.Size/share
}

// forget forgets machines of which nothing needs to be known, if there are many. The lock is held.
func (s *Server) forget() {
	if len(s.offerers) < maxOfferers {
		return
	}
	for a, o := range s.offerers {
		if !o.running && time.Since(o.since) > period {
			delete(s.offerers, a)
		}
	}
}

// run fetches what a machine offered, one segment after the other, in turns with other machines.
func (s *Server) run(o *offerer) {
	var space []byte
	for {
		s.mu.Lock()
		if len(o.queue) == 0 || s.life.Err() != nil {
			s.waiting -= len(o.queue)
			o.queue, o.running = nil, false
			s.mu.Unlock()
			return
		}
		next := o.queue[0]
		o.queue = o.queue[1:]
		s.waiting--
		s.mu.Unlock()
		s.slots <- struct{}{}
		var n int64
		if next.segment != nil {
			n = s.fetch(next)
		} else {
			n, space = s.fetchBlind(next, space)
		}
		<-s.slots
		s.fetched.Add(n)
		banned, _ := s.client.Banned(next.from)
		s.mu.Lock()
		o.taken += n
		if banned || s.full(o) { // the rest would fare no better
			s.waiting -= len(o.queue)
			o.queue = nil
		}
		s.mu.Unlock()
	}
}

// missing returns those of the first n blocks of a segment that are not here.
func missing(n int, held cache.Bitmap) (out []int) {
	for i := range n {
		if !held.Has(i) {
			out = append(out, i)
		}
	}
	return out
}

// fetch fetches and verifies what is missing of a segment, and returns how many bytes that were.
func (s *Server) fetch(o offer) (bytes int64) {
	held, _ := s.plain.Held(o.segment.ID())
	wanted := missing(o.segment.Blocks(), held)
	if len(wanted) == 0 {
		return 0
	}
	_, err := s.client.Fetch(s.life, o.segment, wanted, []netip.AddrPort{o.from}, func(i int, data []byte) error {
		bytes += int64(len(data))
		return s.plain.Put(o.segment, i, data)
	})
	s.told(o, err)
	return bytes
}

// fetchBlind fetches what is missing of a segment whose secret nobody here has.
func (s *Server) fetchBlind(o offer, space []byte) (bytes int64, room []byte) {
	id, size := o.blind.ID, int(o.blind.SegmentSize)
	block := size
	if o.blind.Version == 1 {
		block = peerdist.BlockSize // whatever the offer says: it is the only one that there is
	}
	held, _ := store{s}.Held(id)
	wanted := missing((size+block-1)/block, held)
	if len(wanted) > 1 { // it may have a part of them
		var err error
		if wanted, err = s.client.Blocks(s.life, o.from, id, wanted); err != nil {
			s.told(o, err)
			return 0, space
		}
	}
	for _, i := range wanted {
		b, cipher, more, err := s.client.Sealed(s.life, o.from, id, i, min(block, size-i*block), space)
		space = more
		if errors.Is(err, pccrr.ErrNone) {
			return bytes, space // it is busy, or has it no more
		}
		if err == nil {
			bytes += int64(len(b.Data))
			err = s.blind.Put(id, i, &cache.Sealed{Cipher: uint32(cipher), IV: [16]byte(b.IV)}, b.Data)
		}
		if err != nil {
			s.told(o, err)
			return bytes, space
		}
	}
	return bytes, space
}

// told logs why an offer was of no use. Of machines that lie the client tells by itself.
func (s *Server) told(o offer, err error) {
	if err != nil && s.life.Err() == nil {
		s.Log.Debug("what was offered could not be fetched", "from", o.from, "err", err)
	}
}
