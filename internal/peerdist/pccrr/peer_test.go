package pccrr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
)

func everybody(netip.Addr) bool { return true }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
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

// filled is a cache with the blocks of a segment that want wants.
func filled(t testing.TB, body []byte, all []peerdist.Segment, want func(i int) bool) *cache.Cache {
	t.Helper()
	c, err := cache.Open(filepath.Join(t.TempDir(), "cache"), cache.Limits{Size: 1 << 40, MaxAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for k := range all {
		s := &all[k]
		for i := range s.Blocks() {
			if !want(i) {
				continue
			}
			at, n := s.Block(i)
			if err := c.Put(s, i, body[s.Offset:][at:at+n]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

func whole(int) bool { return true }

// serving serves until the test ends.
func serving(t testing.TB, s *Server, address string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

func client(t testing.TB) (*Client, *bytes.Buffer) {
	t.Helper()
	var mu sync.Mutex
	log := new(bytes.Buffer)
	c := NewClient(slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(b)
	}), nil)))
	t.Cleanup(c.Close)
	return c, log
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// fetch fetches blocks and holds them against the content. It returns which came.
func fetch(t testing.TB, c *Client, s *peerdist.Segment, body []byte, blocks []int, peers ...netip.AddrPort) ([]int, map[netip.AddrPort]int) {
	t.Helper()
	var came []int
	from, err := c.Fetch(context.Background(), s, blocks, peers, func(i int, data []byte) error {
		at, n := s.Block(i)
		if !bytes.Equal(data, body[s.Offset:][at:at+n]) {
			t.Errorf("block %d has other bytes", i)
		}
		came = append(came, i)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range from {
		total += n
	}
	if total != len(came) {
		t.Errorf("%d blocks came, of %v", len(came), from)
	}
	slices.Sort(came)
	return came, from
}

// fetchAll fetches until the wanted blocks are here, for a busy machine may be slower than a peer may be.
func fetchAll(t testing.TB, c *Client, s *peerdist.Segment, body []byte, blocks, want []int, peers ...netip.AddrPort) map[netip.AddrPort]int {
	t.Helper()
	var all []int
	total := map[netip.AddrPort]int{}
	for end := time.Now().Add(time.Minute); ; {
		came, from := fetch(t, c, s, body, blocks, peers...)
		all = append(all, came...)
		for p, n := range from {
			total[p] += n
		}
		blocks = slices.DeleteFunc(slices.Clone(blocks), func(i int) bool { return slices.Contains(came, i) })
		if slices.Sort(all); slices.Equal(all, want) {
			return total
		}
		if time.Now().After(end) || len(all) > len(want) {
			t.Fatalf("blocks %v came, want %v", all, want)
		}
		c.mu.Lock()
		for a := range c.rested {
			if a.Port() != 0 {
				delete(c.rested, a)
			}
		}
		c.mu.Unlock()
	}
}

// TestWrongBlockOfABlindCache: who cannot tell what is in a block is not asked for a moment, and not for as long as who lies.
func TestWrongBlockOfABlindCache(t *testing.T) {
	body := random(65536)
	sg := &segments(t, body, peerdist.SHA256)[0]
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		data, iv, err := Seal(AES128, sg.Secret, random(2 * 65536)[65536:], nil)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(AppendResponse(nil, AES128, Block{Segment: sg.ID(), Data: data, IV: iv}))
	}))
	defer peer.Close()
	at := netip.MustParseAddrPort(peer.Listener.Addr().String())
	for blind, want := range map[bool]time.Duration{false: liarTime, true: firstRest} {
		c, log := client(t)
		c.Blind = func(netip.Addr) bool { return blind }
		if came, _ := fetch(t, c, sg, body, upTo(1), at); len(came) > 0 {
			t.Fatal("a wrong block is taken")
		}
		c.mu.Lock()
		rest := c.rested[at].last + c.rested[machine(at)].last
		c.mu.Unlock()
		if rest != want || !strings.Contains(log.String(), "sent what is wrong") {
			t.Errorf("blind %v: it rests for %v, want %v; the log is %q", blind, rest, want, log)
		}
	}
}

// TestALongList: as many segments as a request has room for are looked up.
func TestALongList(t *testing.T) {
	body := random(65536)
	all := segments(t, body, peerdist.SHA256)
	at := serving(t, NewServer(filled(t, body, all, whole), 8, everybody), "127.0.0.1:0")
	c, _ := client(t)
	ids := make([][]byte, (MaxRequest-100)/36)
	for i := range ids {
		ids[i] = random(32)
	}
	ids[len(ids)-1] = all[0].ID()
	if has, err := c.Segments(t.Context(), at, ids); err != nil || !slices.Equal(has, []int{len(ids) - 1}) {
		t.Errorf("of %d segments it has %v: %v", len(ids), has, err)
	}
}

// TestSlowTaker: who takes blocks slowly, as for a limit of its own, has all of them come all the same.
func TestSlowTaker(t *testing.T) {
	t.Parallel()
	body := random(5 * 65536)
	all := segments(t, body, peerdist.SHA256)
	at := serving(t, NewServer(filled(t, body, all, whole), 8, everybody), "127.0.0.1:0")
	c, _ := client(t)
	came := 0
	if _, err := c.Fetch(t.Context(), &all[0], upTo(5), []netip.AddrPort{at}, func(int, []byte) error {
		if came == 0 {
			time.Sleep(sessionTime + time.Second/5)
		}
		came++
		return nil
	}); err != nil || came != 5 {
		t.Errorf("%d of 5 blocks came: %v", came, err)
	}
}

func TestBlocksComeFromSeveralPeers(t *testing.T) {
	body := random(41*65536 + 5)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.SHA384, peerdist.TruncatedSHA512} {
			all := segments(t, body, a)
			odd := serving(t, NewServer(filled(t, body, all, func(i int) bool { return i%2 == 1 }), 64, everybody), address)
			low := serving(t, NewServer(filled(t, body, all, func(i int) bool { return i < 20 }), 64, everybody), address)
			c, log := client(t)
			for k := range all {
				s := &all[k]
				var want []int
				for i := range s.Blocks() {
					if i%2 == 1 || i < 20 {
						want = append(want, i)
					}
				}
				from := fetchAll(t, c, s, body, upTo(s.Blocks()), want, odd, low)
				if a == peerdist.SHA256 && (from[odd] == 0 || from[low] == 0) {
					t.Errorf("they came from %v", from)
				}
			}
			if log.Len() > 0 {
				t.Errorf("the log says %s", log)
			}
		}
	}
}

func TestFewBlocksInARowAreFetchedWithoutAList(t *testing.T) {
	body := random(20 * 65536)
	s := &segments(t, body, peerdist.SHA256)[0]
	server := NewServer(filled(t, body, []peerdist.Segment{*s}, whole), 64, everybody)
	var lists, blocks atomic.Int32
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		m, _, _ := DecodeRequest(b)
		if m.Type() == TypeGetBlockList {
			lists.Add(1)
		} else {
			blocks.Add(1)
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		server.ServeHTTP(w, r)
	}))
	defer h.Close()
	peer := netip.MustParseAddrPort(h.Listener.Addr().String())
	c, _ := client(t)
	for _, v := range []struct {
		blocks []int
		lists  int32
	}{{nil, 0}, {[]int{5}, 0}, {[]int{17, 18, 19}, 0}, {[]int{4, 6}, 1}, {[]int{4, 5, 6, 7}, 1}} {
		lists.Store(0)
		blocks.Store(0)
		fetchAll(t, c, s, body, v.blocks, v.blocks, peer)
		if lists.Load() < v.lists || v.lists == 0 && lists.Load() > 0 || int(blocks.Load()) < len(v.blocks) {
			t.Errorf("%v: %d lists and %d blocks were asked for", v.blocks, lists.Load(), blocks.Load())
		}
	}
}

// post sends bytes to a peer.
func post(t *testing.T, peer netip.AddrPort, method, path string, body []byte) (int, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+peer.String()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s of %d bytes: %v", method, len(body), err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

func TestWhatTheServerAnswers(t *testing.T) {
	body := random(41 * 65536)
	s := segments(t, body, peerdist.SHA256)[0]
	id, other := s.ID(), random(32)
	c := filled(t, body, []peerdist.Segment{s}, func(i int) bool { return i == 3 || i == 4 || i == 7 || i == 40 })
	free := serving(t, NewServer(c, 64, everybody), "127.0.0.1:0")
	full := NewServer(c, 1, everybody)
	full.slots <- struct{}{}
	busy := serving(t, full, "127.0.0.1:0")
	guid := [16]byte{7}
	for _, v := range []struct {
		name string
		m    Message
		want Message
		busy Message
	}{
		{"versions", NegotiateRequest{Version1, Version1}, NegotiateResponse{Version1, Version2}, NegotiateResponse{Version1, Version2}},
		{"all blocks", GetBlockList{id, []Range{{0, 512}}}, BlockList{id, []Range{{3, 2}, {7, 1}, {40, 1}}, 0}, BlockList{Segment: id}},
		{"in any order", GetBlockList{id, []Range{{40, 1}, {4, 4}, {3, 1}, {4, 1}, {511, 1<<32 - 1}}}, BlockList{id, []Range{{3, 2}, {7, 1}, {40, 1}}, 0}, BlockList{Segment: id}},
		{"blocks that are not here", GetBlockList{id, []Range{{0, 3}}}, BlockList{Segment: id}, BlockList{Segment: id}},
		{"blocks of another segment", GetBlockList{other, []Range{{0, 3}}}, BlockList{Segment: other}, BlockList{Segment: other}},
		{"a block that is not here", GetBlocks{id, []Range{{5, 1}}}, Block{Segment: id, Index: 5, Next: 7}, Block{Segment: id, Index: 5}},
		{"a block after the end", GetBlocks{id, []Range{{500, 1}}}, Block{Segment: id, Index: 500}, Block{Segment: id, Index: 500}},
		{"a block of another segment", GetBlocks{other[:5], []Range{{5, 1}}}, Block{Segment: other[:5], Index: 5}, Block{Segment: other[:5], Index: 5}},
		{"segments", GetSegmentList{guid, [][]byte{other, id, id, other, id}, []byte{1}}, SegmentList{RequestID: guid, Ranges: []Range{{1, 2}, {4, 1}}}, SegmentList{RequestID: guid}},
		{"no segments", GetSegmentList{RequestID: guid}, SegmentList{RequestID: guid}, SegmentList{RequestID: guid}},
	} {
		for peer, want := range map[netip.AddrPort]Message{free: v.want, busy: v.busy} {
			status, b := post(t, peer, "POST", Path, AppendRequest(nil, AES192, v.m))
			if status != 200 {
				t.Errorf("%s: status %d", v.name, status)
				continue
			}
			if want := AppendResponse(nil, AES192, want); !bytes.Equal(b, want) {
				t.Errorf("%s: %x, want %x", v.name, b, want)
			}
		}
	}
	for c, want := range map[Cipher]Cipher{AES128: AES128, AES192: AES192, AES256: AES256, 0: AES128, 77: AES128} {
		_, b := post(t, free, "POST", strings.ToLower(Path), AppendRequest(nil, c, GetBlocks{id, []Range{{40, 1}, {7, 3}}}))
		m, got, err := DecodeResponse(b)
		if err != nil || got != want {
			t.Fatal(got, err)
		}
		block := m.(Block)
		if block.Index != 7 || block.Next != 40 || len(block.Data) != 65552 {
			t.Errorf("block %d, next %d, %d bytes", block.Index, block.Next, len(block.Data))
		}
		if plain, err := Open(got, s.Secret, block); err != nil || !s.Verify(7, plain) {
			t.Errorf("cipher %d: %v", c, err)
		}
	}
	good := AppendRequest(nil, AES128, GetBlocks{id, []Range{{7, 1}}})
	for name, v := range map[string]struct {
		method, path string
		body         []byte
	}{
		"another method":  {"PUT", Path, good},
		"a GET":           {"GET", Path, nil},
		"another path":    {"POST", "/", good},
		"nothing":         {"POST", Path, nil},
		"half a message":  {"POST", Path, good[:len(good)-1]},
		"another type":    {"POST", Path, AppendRequest(nil, AES128, Block{Segment: id})},
		"a large message": {"POST", Path, append(slices.Clone(good), make([]byte, MaxRequest)...)},
	} {
		if status, b := post(t, free, v.method, v.path, v.body); status != 400 || len(b) > 0 {
			t.Errorf("%s: status %d, %q", name, status, b)
		}
	}
	good[3] = 3
	_, b := post(t, free, "POST", Path, good)
	if m, _, err := DecodeResponse(b); err != nil || m != (NegotiateResponse{Version1, Version2}) {
		t.Errorf("version 3: %+v, %v", m, err)
	}
}

func TestServerBoundsConnections(t *testing.T) {
	c := filled(t, nil, nil, whole)
	strangers := serving(t, NewServer(c, 64, func(a netip.Addr) bool { return a != netip.MustParseAddr("127.0.0.1") }), "127.0.0.1:0")
	closed := func(peer netip.AddrPort) (net.Conn, bool) {
		conn, err := net.Dial("tcp", peer.String())
		if err != nil {
			return nil, true
		}
		t.Cleanup(func() { conn.Close() })
		// An idle connection says nothing; one that is not wanted ends. A request tells them apart.
		_, _ = conn.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		_, err = conn.Read(make([]byte, 1))
		return conn, err != nil
	}
	if _, gone := closed(strangers); !gone {
		t.Error("a stranger was served")
	}
	open := serving(t, NewServer(c, 64, everybody), "127.0.0.1:0")
	var last net.Conn
	for i := range leastConns {
		conn, gone := closed(open)
		if gone {
			t.Fatalf("connection %d was closed", i)
		}
		last = conn
	}
	if _, gone := closed(open); !gone {
		t.Error("one client has more connections than it may")
	}
	last.Close()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, gone := closed(open); !gone {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a connection that ended still counts")
		}
	}
}

// TestManyAtOnce: what a machine fetches of one peer for many files at once all comes, as it waits for its turn.
func TestManyAtOnce(t *testing.T) {
	body := random(4 * 65536)
	s := &segments(t, body, peerdist.SHA256)[0]
	peer := serving(t, NewServer(filled(t, body, []peerdist.Segment{*s}, whole), 4, everybody), "127.0.0.1:0")
	client := NewClient(slog.New(slog.DiscardHandler))
	defer client.Close()
	blocks := []int{0, 1, 2, 3}
	var wait sync.WaitGroup
	for range 40 {
		wait.Go(func() {
			n := 0
			from, err := client.Fetch(t.Context(), s, blocks, []netip.AddrPort{peer}, func(int, []byte) error {
				n++
				return nil
			})
			if err != nil || n != len(blocks) || from[peer] != n {
				t.Errorf("%d blocks came, %v", n, err)
			}
		})
	}
	wait.Wait()
	if banned, _ := client.Banned(peer); banned {
		t.Error("the peer rests")
	}
}

// TestPeersThatFail puts one bad peer next to a good one: everything comes, and the bad one is not asked
// again; by name in the log if it lied.
func TestPeersThatFail(t *testing.T) {
	body := random(12*65536 + 77)
	s := &segments(t, body, peerdist.SHA256)[0]
	wrong := segments(t, random(13 * 65536)[1:], peerdist.SHA256)[0]
	right := NewServer(filled(t, body, []peerdist.Segment{*s}, whole), 64, everybody)
	good := serving(t, right, "127.0.0.1:0")
	id := s.ID()
	answer := func(m Message, c Cipher) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(AppendResponse(nil, c, m)) }
	}
	sealed := func(i int, under peerdist.Secret, from []byte) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			data, iv, err := Seal(AES128, under, from[:65536], nil)
			if err != nil {
				t.Error(err)
			}
			answer(Block{Segment: id, Index: uint32(i), Data: data, IV: iv}, AES128)(w, r)
		}
	}
	// What a bad peer answers to GetBlocks. It says that it has block 0 alone, so that this is what it is
	// asked for; the good one is slow to tell what it has.
	for name, v := range map[string]struct {
		bad  func(http.ResponseWriter, *http.Request)
		lies bool
	}{
		"a wrong block":             {sealed(0, s.Secret, body[100:]), true},
		"another key":               {sealed(0, wrong.Secret, body), true},
		"another block":             {sealed(1, s.Secret, body[65536:]), true},
		"another block as this one": {sealed(0, s.Secret, body[65536:]), true},
		"another segment":           {answer(Block{Segment: wrong.ID(), Data: make([]byte, 65552), IV: make([]byte, 16)}, AES128), true},
		"a plain block":             {answer(Block{Segment: id, Data: body[:65536], IV: make([]byte, 16)}, 0), true},
		"no vector":                 {answer(Block{Segment: id, Data: body[:65552]}, AES128), true},
		"an answer of another type": {answer(BlockList{Segment: id}, AES128), true},
		"half a message": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(AppendResponse(nil, AES128, Block{Segment: id, Data: body[:65552], IV: make([]byte, 16)})[:1000])
		}, true},
		"a huge message": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, MaxResponse+8)) }, true},
		"a message without end": {func(w http.ResponseWriter, _ *http.Request) {
			for b := make([]byte, 1<<16); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}, true},
		"it hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false},
		"an error":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, false},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+good.String()+Path, http.StatusTemporaryRedirect)
		}, false},
		"other versions":  {answer(NegotiateResponse{Version2, Version2}, AES128), false},
		"only versions":   {answer(NegotiateResponse{Version1, Version2}, AES128), false},
		"it says nothing": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Pointer[context.CancelFunc]
			var waiting atomic.Pointer[context.Context]
			// Its address is another than the good one's, for addresses are what is banned.
			l, err := net.Listen("tcp", "127.0.0.2:0")
			if err != nil {
				t.Skip("this system has one address of its own only")
			}
			h := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				m, _, _ := DecodeRequest(b)
				if m.Type() == TypeGetBlockList {
					answer(BlockList{Segment: id, Ranges: []Range{{0, 1}}}, AES128)(w, r)
					return
				}
				(*asked.Load())()
				v.bad(w, r)
			})}
			go func() { _ = h.Serve(l) }()
			defer h.Close()
			slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-(*waiting.Load()).Done():
				case <-r.Context().Done():
				}
				right.ServeHTTP(w, r)
			}))
			defer slow.Close()
			bad, fine := netip.MustParseAddrPort(l.Addr().String()), netip.MustParseAddrPort(slow.Listener.Addr().String())
			var c *Client
			var log *bytes.Buffer
			for end := time.Now().Add(time.Minute); ; { // a busy machine may make the good one slow
				c, log = client(t)
				ctx, cancel := context.WithCancel(context.Background())
				waiting.Store(&ctx)
				asked.Store(&cancel)
				came, from := fetch(t, c, s, body, upTo(s.Blocks()), bad, fine)
				cancel()
				banned, lied := c.Banned(bad)
				if banned && lied == v.lies && from[fine] == s.Blocks() {
					break
				}
				if from[bad] > 0 || lied && !v.lies || time.Now().After(end) {
					t.Fatalf("banned: %v, lied: %v; blocks %v came from %v", banned, lied, came, from)
				}
			}
			peers := []netip.AddrPort{good}
			if v.lies { // it stays banned
				peers = append(peers, bad)
			}
			if from := fetchAll(t, c, s, body, upTo(s.Blocks()), upTo(s.Blocks()), peers...); from[good] != s.Blocks() {
				t.Errorf("after that they came from %v", from)
			}
			if banned, _ := c.Banned(bad); !banned {
				t.Error("it is not banned")
			}
			if named := strings.Contains(log.String(), bad.Addr().String()); named != v.lies {
				t.Errorf("the log says %q", log)
			}
		})
	}
}

func TestAPeerThatTricklesIsLeft(t *testing.T) {
	body := random(65536)
	s := &segments(t, body, peerdist.SHA256)[0]
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte{0})
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(50 * time.Millisecond): // the pace of a peer that wastes our time
			case <-r.Context().Done():
			}
		}
	}))
	defer h.Close()
	c, _ := client(t)
	peer := netip.MustParseAddrPort(h.Listener.Addr().String())
	if came, _ := fetch(t, c, s, body, []int{0}, peer); len(came) > 0 {
		t.Errorf("%v came", came)
	}
	if banned, lied := c.Banned(peer); !banned || lied {
		t.Errorf("banned: %v, lied: %v", banned, lied)
	}
}

func TestFetchEndsWithItsCaller(t *testing.T) {
	body := random(12 * 65536)
	s := &segments(t, body, peerdist.SHA256)[0]
	peer := serving(t, NewServer(filled(t, body, []peerdist.Segment{*s}, whole), 64, everybody), "127.0.0.1:0")
	c, _ := client(t)
	full := errors.New("the disk is full")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, v := range []struct {
		ctx  context.Context
		got  error
		want error
	}{{context.Background(), full, full}, {ctx, nil, context.Canceled}} {
		calls := 0
		var err error
		for end := time.Now().Add(time.Minute); calls == 0 && time.Now().Before(end); { // a busy machine may be too slow
			c, _ = client(t)
			_, err = c.Fetch(v.ctx, s, upTo(12), []netip.AddrPort{peer}, func(int, []byte) error {
				calls++
				if v.got == nil {
					cancel()
				}
				return v.got
			})
		}
		if !errors.Is(err, v.want) || v.got != nil && calls != 1 {
			t.Errorf("%d calls, %v", calls, err)
		}
	}
	if banned, _ := c.Banned(peer); banned {
		t.Error("the peer is banned for what it did not do")
	}
	if came, _ := fetch(t, c, s, body, upTo(12)); len(came) != 0 {
		t.Errorf("of no peers %v came", came)
	}
}

func TestSegmentsOfAHostedCache(t *testing.T) {
	body := random(3 * 65536)
	all := segments(t, body, peerdist.TruncatedSHA512)
	peer := serving(t, NewServer(filled(t, body, all[1:], whole), 64, everybody), "127.0.0.1:0")
	c, _ := client(t)
	var ids [][]byte
	for i := range all {
		ids = append(ids, all[i].ID())
	}
	got, err := c.Segments(context.Background(), peer, ids)
	for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); { // a busy machine may be too slow
		got, err = c.Segments(context.Background(), peer, ids)
	}
	if d := cmp.Diff(upTo(len(all))[1:], got); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	none := netip.MustParseAddrPort("127.0.0.1:1")
	if _, err := c.Segments(context.Background(), none, ids); err == nil {
		t.Error("nobody answered")
	}
	if banned, _ := c.Banned(none); !banned {
		t.Error("it would be asked again at once")
	}
}

func TestBansAreBounded(t *testing.T) {
	c, _ := client(t)
	for i := range 3 * maxRested {
		c.blame(context.Background(), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80), lied("a test"))
	}
	if n := len(c.rested); n > maxRested {
		t.Errorf("%d addresses are remembered", n)
	}
}

// BenchmarkRetrieve is one peer on loopback, with both ends and encryption.
func BenchmarkRetrieve(b *testing.B) {
	body := random(32 << 20)
	s := &segments(b, body, peerdist.SHA256)[0]
	peer := serving(b, NewServer(filled(b, body, []peerdist.Segment{*s}, whole), 64, everybody), "127.0.0.1:0")
	c, _ := client(b)
	for _, n := range []int{512, 1} {
		b.Run(fmt.Sprint("blocks", n), func(b *testing.B) {
			b.SetBytes(int64(n) * 65536)
			for b.Loop() {
				if _, err := c.Fetch(context.Background(), s, upTo(n), []netip.AddrPort{peer}, func(int, []byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
