package bup_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/serve/bits"
	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/internal/transfer/bup"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

// receiver is Ebb's own server of uploads, whose store is opened anew when it restarts.
type receiver struct {
	t    *testing.T
	root string
	http *httptest.Server

	mu      sync.RWMutex
	store   *session.Dir
	handler http.Handler
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t, root: t.TempDir()}
	r.open()
	r.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.RLock()
		defer r.mu.RUnlock()
		r.handler.ServeHTTP(w, req)
	}))
	t.Cleanup(func() {
		r.http.Close()
		r.store.Close()
	})
	return r
}

func (r *receiver) open() {
	log := slog.New(slog.DiscardHandler)
	store, err := session.OpenDir(r.root, session.Options{Log: log})
	if err != nil {
		r.t.Error(err)
		return
	}
	r.store = store
	r.handler = bits.New(&session.Prefix{Path: "/up/", Root: r.root, Store: store, Log: log, SessionTimeout: time.Hour, MaxSize: -1, MaxFragment: 13 << 20, Overwrite: true})
}

// restart ends every request and opens the store anew.
func (r *receiver) restart() {
	r.http.CloseClientConnections()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store.Close()
	r.open()
}

// scissors is a relay that cuts connections after a random number of bytes in both directions
// together.
type scissors struct {
	l    net.Listener
	to   string
	most atomic.Int64 // bytes that a connection lives for; 0 is any
	cuts atomic.Int64
	wg   sync.WaitGroup
}

func newScissors(t *testing.T, to string) *scissors {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scissors{l: l, to: to}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.relay(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.wg.Wait()
	})
	return s
}

func (s *scissors) relay(client *net.TCPConn) {
	defer client.Close()
	conn, err := net.Dial("tcp", s.to)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	var left atomic.Int64
	left.Store(1 << 60)
	if most := s.most.Load(); most > 0 {
		left.Store(rand.Int64N(most))
	}
	end := sync.OnceFunc(func() {
		s.cuts.Add(1)
		if rand.IntN(2) == 0 { // a reset: also what was not read yet is lost
			_ = client.SetLinger(0)
			_ = server.SetLinger(0)
		}
		client.Close()
		server.Close()
	})
	pass := func(to, from *net.TCPConn) {
		buf := make([]byte, 16<<10)
		for {
			n, err := from.Read(buf)
			if rest := left.Add(int64(-n)) + int64(n); rest < int64(n) {
				_, _ = to.Write(buf[:max(rest, 0)])
				end()
				return
			}
			if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
				_ = to.CloseWrite()
				_ = from.CloseRead()
				return
			}
		}
	}
	var both sync.WaitGroup
	both.Go(func() { pass(server, client) })
	pass(client, server)
	both.Wait()
}

// TestBothEndsOverAConnectionThatIsCut uploads files of all sizes to Ebb's own server while
// connections end after random numbers of bytes, the client forgets all that it did not save, and
// the server restarts. The file that is published is the source, whole.
func TestBothEndsOverAConnectionThatIsCut(t *testing.T) {
	r := newReceiver(t)
	s := newScissors(t, r.http.Listener.Addr().String())
	c := bup.New(uploadtest.Client())
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		size := []int{0, 1, rand.IntN(10 << 10), rand.IntN(1 << 20), rand.IntN(8 << 20)}[rand.IntN(5)]
		data := uploadtest.Bytes(size, byte(round))
		name := fmt.Sprintf("f%d", round)
		task := uploadtest.New(t, "http://"+s.l.Addr().String()+"/up/"+name, uploadtest.NewSource(name, data))
		if rand.IntN(3) == 0 {
			task.Class = governor.Background
		}
		s.most.Store(int64(2<<10 + rand.IntN(2*size+1)))
		for tries := 0; ; tries++ {
			if tries == 25 {
				s.most.Store(0) // a network that mends
			}
			err := uploadOnce(t.Context(), c, task, rand.IntN(3) == 0 && tries < 25)
			if err == nil {
				break
			}
			if tries > 30 {
				t.Fatalf("round %d, %d bytes: %v", round, size, err)
			}
			task.Restart()
			if rand.IntN(4) == 0 {
				r.restart()
			}
		}
		got, err := os.ReadFile(filepath.Join(r.root, name))
		if err != nil || string(got) != string(data) {
			t.Fatalf("round %d: %d bytes of %d are published: %v", round, len(got), size, err)
		}
		s.most.Store(0)
		task.Source = nil
		if err := c.Close(t.Context(), task.Task); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
	if s.cuts.Load() == 0 {
		t.Error("nothing was cut")
	}
	t.Logf("%d cuts in %d rounds", s.cuts.Load(), rounds)
}

// uploadOnce uploads; if dies, only until some more or less random moment.
func uploadOnce(ctx context.Context, c *bup.Client, task *uploadtest.Task, dies bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if dies {
		sent, left := task.Sent, rand.IntN(6)
		task.Sent = func(o int64) {
			if sent(o); left == 0 {
				cancel()
			}
			left--
		}
		defer func() { task.Sent = sent }()
	}
	return c.Upload(ctx, task.Task)
}

// TestTwoUploadsToOneTarget lets two clients upload to the same URL at a time, over connections that
// are cut. What is published in the end is the file of one of them, whole.
func TestTwoUploadsToOneTarget(t *testing.T) {
	r := newReceiver(t)
	s := newScissors(t, r.http.Listener.Addr().String())
	for round := range 3 {
		s.most.Store(1 << 20)
		var both sync.WaitGroup
		files := [2]string{string(uploadtest.Bytes(2<<20, 1)), string(uploadtest.Bytes(1<<20+1, 2))}
		for i := range files {
			task := uploadtest.New(t, "http://"+s.l.Addr().String()+"/up/same", uploadtest.NewSource("f", []byte(files[i])))
			task.State.Fragment = 100 << 10
			both.Go(func() {
				if err := task.Patiently(t.Context(), bup.New(uploadtest.Client()), 50); err != nil {
					t.Errorf("round %d, upload %d: %v", round, i, err)
				}
			})
		}
		both.Wait()
		if got, err := os.ReadFile(filepath.Join(r.root, "same")); err != nil || string(got) != files[0] && string(got) != files[1] {
			t.Fatalf("round %d: %d bytes that are neither file: %v", round, len(got), err)
		}
	}
}

// TestAnotherMethod uploads with a method that the job's owner gave: all packets have it, and what was
// interrupted is ended and begins anew (client.md 1.9).
func TestAnotherMethod(t *testing.T) {
	r := newReceiver(t)
	var mu sync.Mutex
	var packets []string // guarded by mu
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		packets = append(packets, req.Method+" "+req.Header.Get("BITS-Packet-Type"))
		mu.Unlock()
		req.Method = bupwire.Method
		r.handler.ServeHTTP(w, req)
	}))
	t.Cleanup(front.Close)
	c := bup.New(uploadtest.Client())
	data := uploadtest.Bytes(1<<20, 1)
	task := uploadtest.New(t, front.URL+"/up/f", uploadtest.NewSource("f", data))
	task.Method, task.State.Fragment = "POST", 256<<10
	ctx, cancel := context.WithCancel(t.Context())
	sent := task.Sent
	task.Sent = func(o int64) {
		if sent(o); o > 512<<10 {
			cancel()
		}
	}
	if err := c.Upload(ctx, task.Task); err == nil {
		t.Fatal("it was not interrupted")
	}
	first := task.State.ID
	task.Sent = sent
	if err := c.Upload(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	if task.State.ID == first || first == "" {
		t.Errorf("the session %q was gone on with", first)
	}
	if err := c.Close(t.Context(), task.Task); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(r.root, "f")); err != nil || string(got) != string(data) {
		t.Errorf("%d bytes arrived (%v)", len(got), err)
	}
	var ends []string
	for _, p := range packets {
		switch {
		case !strings.HasPrefix(p, "POST "):
			t.Errorf("a packet is a %s", p)
		case p != "POST Fragment" && p != "POST Ping":
			ends = append(ends, strings.TrimPrefix(p, "POST "))
		}
	}
	if want := []string{"Create-Session", "Cancel-Session", "Create-Session", "Close-Session"}; !slices.Equal(ends, want) {
		t.Errorf("the packets but for fragments were %q, want %q", ends, want)
	}
}
