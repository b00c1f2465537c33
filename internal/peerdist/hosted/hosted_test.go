package hosted

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
	"github.com/ebbtransfer/ebb/internal/peerdist/pchc"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

var roomy = cache.Limits{Size: 1 << 40, MaxAge: time.Hour}

func everybody(netip.Addr) bool { return true }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func segments(t testing.TB, body []byte, a peerdist.Algorithm) []peerdist.Segment {
	t.Helper()
	h, err := peerdist.Generate(context.Background(), bytes.NewReader(body), a)
	if err != nil {
		t.Fatal(err)
	}
	f, err := h.Info(a.ServerKey([]byte("p")), bits.Range{Length: h.Size})
	if err != nil {
		t.Fatal(err)
	}
	return f.Segments
}

// log is a log that a test reads.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// hosting is a hosted cache behind real sockets.
type hosting struct {
	t      *testing.T
	s      *Server
	dir    string
	log    *log
	plain  *httptest.Server
	secure *httptest.Server
	client *pccrr.Client // of a machine that asks it
}

func host(t *testing.T, o Options) *hosting {
	t.Helper()
	h := &hosting{t: t, dir: filepath.Join(t.TempDir(), "hosted"), log: new(log)}
	o.Dir, o.Log = h.dir, slog.New(slog.NewTextHandler(h.log, nil))
	if o.Allow == nil {
		o.Allow = everybody
	}
	if o.Limits == (cache.Limits{}) {
		o.Limits = roomy
	}
	var err error
	if h.s, err = Open(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.s.Close)
	h.plain = httptest.NewServer(h.s)
	t.Cleanup(h.plain.Close)
	h.secure = httptest.NewTLSServer(h.s)
	t.Cleanup(h.secure.Close)
	h.client = pccrr.NewClient(slog.New(slog.DiscardHandler))
	t.Cleanup(h.client.Close)
	return h
}

// addr is where blocks are served.
func (h *hosting) addr() netip.AddrPort {
	return netip.MustParseAddrPort(h.plain.Listener.Addr().String())
}

// post posts a message from an address of this machine.
func (h *hosting) post(from, url string, body []byte) (int, []byte) {
	h.t.Helper()
	c := &http.Client{Transport: &http.Transport{
		DialContext:       (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}}
	resp, err := c.Post(url, "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// want posts a message that must be answered.
func (h *hosting) want(answer pchc.Answer, from, url string, body []byte) {
	h.t.Helper()
	status, b := h.post(from, url, body)
	if got, err := pchc.DecodeAnswer(b); status != 200 || err != nil || got != answer {
		h.t.Fatalf("%d %x, want the answer %d", status, b, answer)
	}
}

// offering serves the blocks of segments that has wants, as a machine of some address.
func offering(t *testing.T, address string, body []byte, all []peerdist.Segment, has func(i int) bool) uint16 {
	t.Helper()
	c, err := cache.Open(filepath.Join(t.TempDir(), "cache"), roomy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for k := range all {
		s := &all[k]
		for i := range s.Blocks() {
			at, n := s.Block(i)
			if !has(i) {
				continue
			}
			if err := c.Put(s, i, body[s.Offset:][at:at+n]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return listening(t, address, pccrr.NewServer(c, 64, everybody))
}

func listening(t *testing.T, address string, h http.Handler) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func whole(int) bool { return true }

// batch is an offer of segments.
func batch(port uint16, all []peerdist.Segment) []byte {
	m := pchc.BatchedOffer{Port: port}
	for i := range all {
		s := &all[i]
		block := peerdist.BlockSize
		if s.Algorithm.Version() == 2 {
			block = s.Length
		}
		m.Segments = append(m.Segments, pchc.Offered{BlockSize: uint32(block), SegmentSize: uint32(s.Length), Tag: pchc.TagBITS, Version: s.Algorithm.Version(), ID: s.ID()})
	}
	return m.Append(nil)
}

// has waits until the cache has all blocks of segments.
func (h *hosting) has(all []peerdist.Segment) {
	h.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		complete := true
		for i := range all {
			held, _ := store{h.s}.Held(all[i].ID())
			complete = complete && len(missing(all[i].Blocks(), held)) == 0
		}
		if complete {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("the cache does not have what it was offered\n%s", h.log)
		}
	}
}

// fetch gets segments from the cache, which must have them all, and checks them.
func (h *hosting) fetch(body []byte, all []peerdist.Segment) {
	h.t.Helper()
	for k := range all {
		s := &all[k]
		wanted := missing(s.Blocks(), cache.Bitmap{})
		came := 0
		for end := time.Now().Add(patience); came < len(wanted); {
			from, err := h.client.Fetch(context.Background(), s, wanted, []netip.AddrPort{h.addr()}, func(i int, data []byte) error {
				at, n := s.Block(i)
				if !bytes.Equal(data, body[s.Offset:][at:at+n]) {
					h.t.Errorf("block %d has other bytes", i)
				}
				return nil
			})
			if came = from[h.addr()]; err != nil || time.Now().After(end) {
				h.t.Fatalf("%d of %d blocks came, %v", came, len(wanted), err)
			}
		}
	}
}

// idle waits until nothing waits to be fetched.
func (h *hosting) idle() {
	h.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		h.s.mu.Lock()
		running := h.s.waiting > 0
		for _, o := range h.s.offerers {
			running = running || o.running
		}
		h.s.mu.Unlock()
		if !running {
			return
		}
		if time.Now().After(end) {
			h.t.Fatal("the cache goes on fetching")
		}
	}
}

// What a machine offered by public ids alone is there for others when that machine is gone, and the cache has
// neither a key nor a byte of the content.
func TestBlindCache(t *testing.T) {
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
		t.Run(fmt.Sprintf("version %d", a.Version()), func(t *testing.T) {
			body := bytes.Repeat([]byte("a text that one would find. "), 30000)
			body = append(body, random(1<<20)...)
			all := segments(t, body, a)
			h := host(t, Options{})
			port := offering(t, "127.0.0.1", body, all, whole)
			h.want(pchc.OK, "127.0.0.1", h.plain.URL+pchc.Path2, batch(port, all))
			h.has(all)
			ids := make([][]byte, 0, len(all)+1)
			for i := range all {
				ids = append(ids, all[i].ID())
			}
			ids = append(ids, random(32))
			got, err := h.client.Segments(t.Context(), h.addr(), ids)
			if err != nil || len(got) != len(all) || got[len(all)-1] != len(all)-1 {
				t.Errorf("the list is %v of %d, %v", got, len(ids), err)
			}
			h.fetch(body, all)
			h.client.Close() // so that its connections do not hold the end up
			err = filepath.WalkDir(h.dir, func(name string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				b, err := os.ReadFile(name)
				for i := range all {
					if bytes.Contains(b, all[i].Secret[:16]) || bytes.Contains(b, all[i].HashOfData) {
						t.Errorf("%s has a key or a hash", name)
					}
				}
				if bytes.Contains(b, []byte("one would find")) {
					t.Errorf("%s can be read", name)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			if st := h.s.Stats(); st.Used < int64(len(body)) || st.Waiting != 0 || st.Offers != int64(len(all)) || st.Fetched < int64(len(body)) {
				t.Errorf("%+v", st)
			}
		})
	}
}

// Parts of a segment come from several machines, and what is there is not fetched again.
func TestBlindCacheOfParts(t *testing.T) {
	body := random(10*peerdist.BlockSize + 7)
	all := segments(t, body, peerdist.SHA256)
	h := host(t, Options{})
	for turn, has := range []func(int) bool{func(i int) bool { return i < 4 }, func(i int) bool { return i%2 == 0 }, whole} {
		port := offering(t, "127.0.0.1", body, all, has)
		h.want(pchc.OK, "127.0.0.1", h.plain.URL+pchc.Path2, batch(port, all))
		h.idle()
		held, _ := h.s.blind.Held(all[0].ID())
		if got := []int{7, 3, 0}[turn]; len(missing(11, held)) != got {
			t.Errorf("turn %d: %d blocks are missing, want %d", turn, len(missing(11, held)), got)
		}
	}
	sealed := int64(10*(peerdist.BlockSize+16) + 16)
	if st := h.s.Stats(); st.Fetched != sealed {
		t.Errorf("%d bytes were fetched, want %d", st.Fetched, sealed)
	}
	h.fetch(body, all)
}

// Offers of version 1 come in two steps, over HTTPS alone, and bring what it takes to verify what comes.
func TestVerifyingCache(t *testing.T) {
	body := random(3<<20 + 5)
	all := segments(t, body, peerdist.SHA256)
	h := host(t, Options{Keys: true})
	port := offering(t, "127.0.0.1", body, all, whole)
	offer := (&pchc.InitialOffer{Port: port, ID: all[0].ID()}).Append(nil)
	info := (&pchc.SegmentInfo{Port: port, Tag: pchc.TagBITS, Segment: all[0]}).Append(nil)
	for _, m := range [][]byte{offer, info} {
		if status, b := h.post("127.0.0.1", h.plain.URL+pchc.Path1, m); status != 404 || len(b) > 0 {
			t.Errorf("without HTTPS: %d %q", status, b)
		}
	}
	h.want(pchc.Interested, "127.0.0.1", h.secure.URL+pchc.Path1, offer)
	h.want(pchc.OK, "127.0.0.1", h.secure.URL+pchc.Path1, info)
	h.has(all)
	h.fetch(body, all)
	if h.s.blind.Used() != 0 || h.s.plain.Used() != int64(len(body)) {
		t.Errorf("%d bytes are sealed, %d are not", h.s.blind.Used(), h.s.plain.Used())
	}
	// Another machine gives other bytes than those that it described: not one of them is kept.
	liar := random(2 << 20)
	wrong := segments(t, liar, peerdist.SHA256)[0]
	port = listening(t, "127.0.0.3", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		m, _, err := pccrr.DecodeRequest(b)
		if err != nil {
			t.Error(err)
			return
		}
		var answer pccrr.Message
		switch m := m.(type) {
		case pccrr.GetBlockList:
			answer = pccrr.BlockList{Segment: m.Segment, Ranges: m.Ranges}
		case pccrr.GetBlocks:
			i := m.Ranges[0].Index
			at, n := wrong.Block(int(i))
			data, iv, err := pccrr.Seal(pccrr.AES128, wrong.Secret, random(len(liar) + 1)[at:at+n], nil)
			if err != nil {
				t.Error(err)
			}
			answer = pccrr.Block{Segment: m.Segment, Index: i, Data: data, IV: iv}
		}
		_, _ = w.Write(pccrr.AppendResponse(nil, pccrr.AES128, answer))
	}))
	h.want(pchc.OK, "127.0.0.3", h.secure.URL+pchc.Path1, (&pchc.SegmentInfo{Port: port, Tag: pchc.TagBITS, Segment: wrong}).Append(nil))
	h.idle()
	if _, err := h.s.plain.Held(wrong.ID()); err == nil {
		t.Error("a block that is not the right one is kept")
	}
	if status, _ := h.post("127.0.0.3", h.secure.URL+pchc.Path1, offer); status != 403 {
		t.Errorf("a machine that lied offers again: %d", status)
	}
	if !strings.Contains(h.log.String(), "127.0.0.3") {
		t.Errorf("it is not named in the log: %s", h.log)
	}
}

func TestOffersThatAreRefused(t *testing.T) {
	body := random(200000)
	all := segments(t, body, peerdist.TruncatedSHA512)
	h := host(t, Options{Keys: true, Allow: func(a netip.Addr) bool { return a != netip.MustParseAddr("127.0.0.9") }})
	good := batch(1, all)
	for _, c := range []struct {
		name, from, url string
		body            []byte
		status          int
	}{
		{"another network", "127.0.0.9", h.plain.URL + pchc.Path2, good, 403},
		{"another network asks for blocks", "127.0.0.9", h.plain.URL + pccrr.Path, good, 403},
		{"nothing", "127.0.0.1", h.plain.URL + pchc.Path2, nil, 400},
		{"nonsense", "127.0.0.1", h.plain.URL + pchc.Path2, []byte("nonsense"), 400},
		{"cut", "127.0.0.1", h.plain.URL + pchc.Path2, good[:len(good)-1], 400},
		{"too long", "127.0.0.1", h.plain.URL + pchc.Path2, make([]byte, pchc.MaxMessage+1), 400},
		{"version 1 at the path of version 2", "127.0.0.1", h.plain.URL + pchc.Path2, (&pchc.InitialOffer{Port: 1, ID: all[0].ID()}).Append(nil), 400},
		{"version 2 at the path of version 1", "127.0.0.1", h.secure.URL + pchc.Path1, good, 400},
		{"no port", "127.0.0.1", h.plain.URL + pchc.Path2, batch(0, all), 400},
		{"no port in version 1", "127.0.0.1", h.secure.URL + pchc.Path1, (&pchc.InitialOffer{ID: all[0].ID()}).Append(nil), 400},
	} {
		if status, b := h.post(c.from, c.url, c.body); status != c.status || len(b) > 0 {
			t.Errorf("%s: %d %q, want %d", c.name, status, b, c.status)
		}
	}
	if resp, err := http.Get(h.plain.URL + pchc.Path2); err != nil || resp.StatusCode != 400 {
		t.Errorf("GET: %v %v", resp, err)
	}
	if st := h.s.Stats(); st.Offers != 0 {
		t.Errorf("%+v", st)
	}
}

// A machine that says to have what it does not give, or gives what cannot be a block, is left alone after that,
// and only its own address is ever asked.
func TestOfferersThatLie(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(m pccrr.GetBlocks, size int) (pccrr.Message, pccrr.Cipher)
	}{
		{"without a cipher", func(m pccrr.GetBlocks, size int) (pccrr.Message, pccrr.Cipher) {
			return pccrr.Block{Segment: m.Segment, Data: make([]byte, size), IV: make([]byte, 16)}, 0
		}},
		{"truncated", func(m pccrr.GetBlocks, size int) (pccrr.Message, pccrr.Cipher) {
			return pccrr.Block{Segment: m.Segment, Data: make([]byte, size/32*16), IV: make([]byte, 16)}, pccrr.AES128
		}},
		{"oversized", func(m pccrr.GetBlocks, size int) (pccrr.Message, pccrr.Cipher) {
			return pccrr.Block{Segment: m.Segment, Data: make([]byte, size/16*16+32), IV: make([]byte, 16)}, pccrr.AES128
		}},
		{"without a vector", func(m pccrr.GetBlocks, size int) (pccrr.Message, pccrr.Cipher) {
			return pccrr.Block{Segment: m.Segment, Data: make([]byte, size/16*16+16)}, pccrr.AES128
		}},
		{"another segment", func(_ pccrr.GetBlocks, size int) (pccrr.Message, pccrr.Cipher) {
			return pccrr.Block{Segment: random(32), Data: make([]byte, size/16*16+16), IV: make([]byte, 16)}, pccrr.AES128
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := random(300000)
			all := segments(t, body, peerdist.TruncatedSHA512)
			h := host(t, Options{})
			var asked atomic.Int32
			port := listening(t, "127.0.0.2", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				b, _ := io.ReadAll(r.Body)
				m, _, err := pccrr.DecodeRequest(b)
				q, ok := m.(pccrr.GetBlocks)
				if err != nil || !ok {
					t.Errorf("asked for %v, %v", m, err)
					return
				}
				size := 0
				for i := range all {
					if bytes.Equal(all[i].ID(), q.Segment) {
						size = all[i].Length
					}
				}
				answer, cipher := c.answer(q, size)
				_, _ = w.Write(pccrr.AppendResponse(nil, cipher, answer))
			}))
			h.want(pchc.OK, "127.0.0.2", h.plain.URL+pchc.Path2, batch(port, all))
			h.idle()
			if h.s.Stats().Used != 0 || asked.Load() != 1 {
				t.Errorf("%d bytes are kept after %d requests", h.s.Stats().Used, asked.Load())
			}
			if status, _ := h.post("127.0.0.2", h.plain.URL+pchc.Path2, batch(port, all)); status != 403 || !strings.Contains(h.log.String(), "peer=127.0.0.2") {
				t.Errorf("it offers again: %d; the log is %s", status, h.log)
			}
			// Others are not concerned.
			port = offering(t, "127.0.0.1", body, all, whole)
			h.want(pchc.OK, "127.0.0.1", h.plain.URL+pchc.Path2, batch(port, all))
			h.has(all)
			h.fetch(body, all)
		})
	}
}

// One machine fills no more than its share of the cache, and lets no more wait than it may.
func TestQuotas(t *testing.T) {
	h := host(t, Options{Limits: cache.Limits{Size: 2 << 20, MaxAge: time.Hour}})
	body := random(1 << 20)
	all := segments(t, body, peerdist.SHA256)
	port := offering(t, "127.0.0.1", body, all, whole)
	h.want(pchc.OK, "127.0.0.1", h.plain.URL+pchc.Path2, batch(port, all))
	h.idle()
	if status, _ := h.post("127.0.0.1", h.plain.URL+pchc.Path2, batch(port, all)); status != 503 {
		t.Errorf("after 1 MiB of 2: %d", status)
	}
	port = offering(t, "127.0.0.2", body, all, whole)
	h.want(pchc.OK, "127.0.0.2", h.plain.URL+pchc.Path2, batch(port, all))
	// A machine that answers nothing holds nobody else up, and its offers end somewhere.
	gate := make(chan struct{})
	port = listening(t, "127.0.0.4", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-gate }))
	t.Cleanup(func() { close(gate) })
	many := make([]peerdist.Segment, 0, pchc.MaxBatch)
	for i := range pchc.MaxBatch {
		s := all[0]
		s.Secret = append(bytes.Clone(s.Secret[:31]), byte(i))
		many = append(many, s)
	}
	for range maxWaitingOf/pchc.MaxBatch + 2 {
		h.post("127.0.0.4", h.plain.URL+pchc.Path2, batch(port, many))
		if n := h.s.Stats().Waiting; n > maxWaitingOf {
			t.Errorf("%d segments wait", n)
		}
	}
	h.idle() // it is given up
}

func put(t *testing.T, b *Blind, id []byte, i, n int) {
	t.Helper()
	if err := b.Put(id, i, &cache.Sealed{Cipher: 1, IV: [16]byte{byte(i)}}, random(n)); err != nil {
		t.Fatal(err)
	}
}

// TestBlindMakesRoom: for blocks that are more than what is made free otherwise.
func TestBlindMakesRoom(t *testing.T) {
	const size = 100_000
	limits := cache.Limits{Size: 5 * size / 2, MaxAge: time.Hour}
	b, err := OpenBlind(filepath.Join(t.TempDir(), "blind"), limits)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for i := range 4 {
		put(t, b, random(32 + i)[i:], 0, size)
		if used := b.Used(); used > limits.Size || i > 0 && used < 2*size {
			t.Errorf("%d bytes are used of %d after %d blocks", used, limits.Size, i+1)
		}
	}
}

func TestBlindOnDisk(t *testing.T) {
	root := filepath.Join(t.TempDir(), "blind")
	b, err := OpenBlind(root, roomy)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBlind(root, roomy); err == nil {
		t.Error("two have the directory")
	}
	id := random(32)
	for _, i := range []int{0, 1, 5, 511} {
		put(t, b, id, i, 1000+i)
	}
	for _, bad := range []struct {
		id []byte
		i  int
	}{{nil, 0}, {id[:31], 0}, {id, -1}, {id, 512}, {append(id, 0), 0}} {
		if err := b.Put(bad.id, bad.i, &cache.Sealed{}, []byte("x")); err == nil {
			t.Errorf("block %d of an id of %d bytes was put", bad.i, len(bad.id))
		}
		if _, err := b.Read(bad.id, bad.i, nil); !errors.Is(err, cache.ErrNotHeld) {
			t.Error(err)
		}
	}
	b.Close()
	if err := os.WriteFile(filepath.Join(root, "new", "half"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err = OpenBlind(root, roomy); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if left, _ := os.ReadDir(filepath.Join(root, "new")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	for i, next := range map[int]int{0: 1, 1: 5, 5: 511, 511: 0} {
		got, err := b.Read(id, i, nil)
		if err != nil || !bytes.Equal(got.Data, random(1000+i)) || got.Next != next || got.Sealed.Cipher != 1 || got.Sealed.IV[0] != byte(i) {
			t.Errorf("block %d: %d bytes, then %d, %v", i, len(got.Data), got.Next, err)
		}
	}
	// What rots is forgotten; and so is a block in the place of another.
	dir := b.dir(id)
	text, err := os.ReadFile(filepath.Join(dir, "5"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(text) {
		if i > blindHeader && i%97 > 0 {
			continue
		}
		was := text[i]
		text[i] ^= 0x10
		if err := os.WriteFile(filepath.Join(dir, "5"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(id, 5, nil); !errors.Is(err, cache.ErrNotHeld) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if held, _ := b.Held(id); held.Has(5) {
			t.Fatalf("byte %d changed, and it is still here", i)
		}
		text[i] = was
	}
	if err := os.WriteFile(filepath.Join(dir, "6"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(id, 6, nil); !errors.Is(err, cache.ErrNotHeld) {
		t.Errorf("a block in the place of another: %v", err)
	}
	// Too old, or from the future.
	for i, ago := range map[int]time.Duration{0: 2 * time.Hour, 1: -48 * time.Hour} {
		if err := os.Chtimes(filepath.Join(dir, fmt.Sprint(i)), time.Now(), time.Now().Add(-ago)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(id, i, nil); !errors.Is(err, cache.ErrNotHeld) {
			t.Errorf("%v ago: %v", ago, err)
		}
		if held, err := b.Held(id); err != nil || held.Has(i) {
			t.Errorf("what is from %v ago is said to be here: %v", ago, err)
		}
	}
	if err := b.Clean(); err != nil {
		t.Fatal(err)
	}
	if held, err := b.Held(id); err != nil || held.Has(0) || held.Has(1) || !held.Has(511) {
		t.Errorf("%v %v", held, err)
	}
}

// A block that is too old makes room for the same that comes again.
func TestBlindAgain(t *testing.T) {
	b, err := OpenBlind(t.TempDir(), cache.Limits{Size: 1 << 20, MaxAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	id := random(32)
	put(t, b, id, 0, 60000)
	used := b.Used()
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(b.dir(id), "0"), old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Held(id); !errors.Is(err, cache.ErrNotHeld) {
		t.Errorf("a segment of which all is too old: %v", err)
	}
	put(t, b, id, 0, 60000)
	if _, err := b.Read(id, 0, nil); err != nil || b.Used() != used {
		t.Errorf("%v, %d bytes, want %d", err, b.Used(), used)
	}
}

func TestBlindLimit(t *testing.T) {
	b, err := OpenBlind(t.TempDir(), cache.Limits{Size: 1 << 20, MaxAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for i := range 64 {
		id := append(bytes.Repeat([]byte{byte(i)}, 31), 0)
		put(t, b, id, 0, 60000)
		ago := time.Now().Add(time.Duration(i-100) * time.Second)
		if err := os.Chtimes(b.dir(id), ago, ago); err != nil {
			t.Fatal(err)
		}
		if i == 10 { // the first is used, and stays
			now := time.Now()
			if err := os.Chtimes(b.dir(append(make([]byte, 31), 0)), now, now); err != nil {
				t.Fatal(err)
			}
		}
		if b.Used() > 1<<20 {
			t.Fatalf("%d bytes after %d", b.Used(), i)
		}
	}
	var left []int
	for i := range 64 {
		if _, err := b.Held(append(bytes.Repeat([]byte{byte(i)}, 31), 0)); err == nil {
			left = append(left, i)
		}
	}
	if len(left) < 10 || left[0] != 0 || left[1] < 20 || left[len(left)-1] != 63 {
		t.Errorf("left are %v", left)
	}
	if err := b.Put(random(32), 0, &cache.Sealed{}, make([]byte, maxSealed+1)); err == nil {
		t.Error("a block that is too large")
	}
}

func FuzzBlind(f *testing.F) {
	id := random(32)
	f.Add(encodeBlind(id, 7, &cache.Sealed{Cipher: 2, IV: [16]byte{1}}, []byte("data"))[:blindHeader], []byte("data"), uint16(7))
	f.Add([]byte("EBBSEAL1"), []byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, head, data []byte, index uint16) {
		// With a checksum that is right, so that the rest is looked at.
		b := append(bytes.Clone(head), data...)
		if len(b) > blindHeader {
			be.PutUint32(b[atSum:], blindSum(b[:atSum], b[blindHeader:], id, int(index)))
		}
		s, got, err := readBlind(bytes.NewReader(b), int64(len(b)), id, int(index), nil)
		if err != nil {
			return
		}
		if again := encodeBlind(id, int(index), s, got); !bytes.Equal(again, b) {
			t.Errorf("%x becomes %x", b, again)
		}
	})
}
