package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/build"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/internal/serve/session/bucket"
	"github.com/ebbtransfer/ebb/internal/serve/session/sessiontest"
)

// gateway is a versitygw over a local directory, where an object is a file.
type gateway struct {
	config bucket.Config
	root   string // of the bucket's objects
}

// startGateway starts versitygw, which test/all.sh builds.
func startGateway(t *testing.T) gateway {
	t.Helper()
	path, err := exec.LookPath("versitygw")
	if err != nil {
		path, err = exec.LookPath(filepath.Join(build.Default.GOPATH, "bin", "versitygw"))
	}
	if err != nil {
		t.Skip("there is no versitygw: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	g := gateway{root: filepath.Join(dir, "store", "uploads"), config: bucket.Config{
		Endpoint: "http://" + addr, Bucket: "uploads", Prefix: "in", AccessKey: "key", SecretKey: "secret",
	}}
	if err := os.MkdirAll(g.root, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(path, "--port", addr, "--access", "key", "--secret", "secret", "--quiet", "posix", filepath.Dir(g.root))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = c.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-exited
	})
	for begun := time.Now(); ; {
		resp, err := http.Get(g.config.Endpoint)
		if err == nil {
			resp.Body.Close()
			return g
		}
		select {
		case <-exited:
			t.Fatalf("versitygw ended: %s", &out)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("versitygw does not answer: %v: %s", err, &out)
		}
	}
}

// node returns the store as another node has it.
func (g gateway) node(t *testing.T) *bucket.Bucket {
	t.Helper()
	b, err := bucket.Open(t.Context(), g.config, session.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// targets returns what was published, by name.
func (g gateway) targets(t *testing.T) map[string][]byte {
	t.Helper()
	m := map[string][]byte{}
	top := filepath.Join(g.root, "in")
	err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		m[filepath.ToSlash(name)] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// objects returns how many objects the store keeps for sessions.
func (g gateway) objects(t *testing.T) (n int) {
	t.Helper()
	_ = filepath.WalkDir(filepath.Join(g.root, "in", session.Hidden), func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil
	})
	return n
}

// leftParts returns how many multipart uploads there are.
func (g gateway) leftParts(t *testing.T) (n int) {
	t.Helper()
	_ = filepath.WalkDir(filepath.Join(g.root, ".sgwtmp", "multipart"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil
	})
	return n
}

func spec(target string, size int) session.Spec {
	return session.Spec{Protocol: "tus", Target: target, URL: "/x", Principal: "alice", Size: int64(size), Limit: -1}
}

var alice = session.Who{Principal: "alice", URL: "/x"}

func create(t *testing.T, s session.Store, spec session.Spec) string {
	t.Helper()
	i, err := s.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return i.ID
}

func with(t *testing.T, st session.Store, id string, f func(ctx context.Context, s session.Session)) {
	t.Helper()
	ctx, s, err := st.Acquire(t.Context(), id, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	f(ctx, s)
}

func add(t *testing.T, st session.Store, id string, b []byte) {
	t.Helper()
	with(t, st, id, func(ctx context.Context, s session.Session) {
		n, err := s.Append(ctx, bytes.NewReader(b))
		if err != nil || n != int64(len(b)) {
			t.Fatalf("Append = %d, %v, want %d", n, err, len(b))
		}
	})
}

func publish(t *testing.T, st session.Store, id string) {
	t.Helper()
	with(t, st, id, func(ctx context.Context, s session.Session) {
		for range 2 {
			if err := s.Publish(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func wantTarget(t *testing.T, g gateway, name string, want []byte) {
	t.Helper()
	if got, ok := g.targets(t)[name]; !ok || !bytes.Equal(got, want) {
		t.Fatalf("target %s has %d bytes that are not the %d of the source (there: %v)", name, len(got), len(want), ok)
	}
}

// TestTwoNodes sends each piece of an upload to another node.
func TestTwoNodes(t *testing.T) {
	g := startGateway(t)
	nodes := []session.Store{g.node(t), g.node(t)}
	for _, c := range []struct {
		size, piece int
		staged      bool
	}{
		{0, 1, false}, {1, 1, false}, {100_000, 2_500, false}, {20<<20 + 3, 3<<20 + 1, false}, {16 << 20, 16 << 20, false}, {8 << 20, 8 << 20, false},
		{0, 1, true}, {100_000, 60_000, true}, {21<<20 + 3, 3<<20 + 1, true},
	} {
		for _, known := range []bool{true, false} {
			name := fmt.Sprintf("dir/%d %v+%v", c.size, c.staged, known)
			want := sessiontest.Source(1, c.size)
			s := spec(name, c.size)
			s.Staged = c.staged
			if !known {
				s.Size = -1
			}
			id := create(t, nodes[0], s)
			for i := 0; i < len(want); i += c.piece {
				add(t, nodes[i/c.piece%2], id, want[i:min(i+c.piece, len(want))])
			}
			with(t, nodes[0], id, func(ctx context.Context, s session.Session) {
				if err := s.SetSize(ctx, int64(len(want))); err != nil {
					t.Fatal(err)
				}
				if c.staged {
					wantRead(t, s, want)
				}
			})
			if _, ok := g.targets(t)[name]; ok {
				t.Fatal("the target is there before it is published")
			}
			publish(t, nodes[1], id)
			wantTarget(t, g, name, want)
			with(t, nodes[0], id, func(ctx context.Context, s session.Session) {
				if i := s.Info(); !i.Published || i.Offset != int64(len(want)) {
					t.Errorf("the other node sees %+v", i)
				}
				wantRead(t, s, want)
				if err := s.Remove(ctx); err != nil {
					t.Fatal(err)
				}
			})
			wantTarget(t, g, name, want)
			if n := g.objects(t); n > 0 {
				t.Errorf("%s: %d objects are left over", name, n)
			}
			if n := g.leftParts(t); n > 0 {
				t.Errorf("%s: %d files of multipart uploads are left over", name, n)
			}
		}
	}
}

func wantRead(t *testing.T, s session.Session, want []byte) {
	t.Helper()
	r, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the session reads %d bytes that are not the %d of the source, %v", len(got), len(want), err)
	}
	at := rand.IntN(len(want) + 1)
	if _, err := r.Seek(int64(at), io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got, err = io.ReadAll(r); err != nil || !bytes.Equal(got, want[at:]) {
		t.Fatalf("from %d it reads %d bytes of %d, %v", at, len(got), len(want)-at, err)
	}
}

func TestWholeUpload(t *testing.T) {
	g := startGateway(t)
	b := g.node(t)
	for _, size := range []int{0, 1000, 18 << 20} {
		for _, target := range []string{"whole", ""} {
			for _, finished := range []bool{true, false} {
				s := spec(target, -1)
				s.Whole, s.Overwrite = true, true
				want := sessiontest.Source(2, size)
				with(t, b, create(t, b, s), func(ctx context.Context, s session.Session) {
					if _, err := s.Append(ctx, bytes.NewReader(want)); err != nil {
						t.Fatal(err)
					}
					if target == "" {
						wantRead(t, s, want)
					} else if finished {
						wantErr(t, s.Publish(ctx), session.ErrIncomplete)
						if err := s.SetSize(ctx, int64(size)); err != nil {
							t.Fatal(err)
						}
						if err := s.Publish(ctx); err != nil {
							t.Fatal(err)
						}
						wantTarget(t, g, "whole", want)
					}
				})
				if n, m := g.objects(t), g.leftParts(t); n > 0 || m > 0 {
					t.Errorf("%d objects and %d files of multipart uploads are left over", n, m)
				}
			}
		}
	}
}

// TestVerifiedOrNothing adds what memory holds until it is verified, and what it does not.
func TestVerifiedOrNothing(t *testing.T) {
	g := startGateway(t)
	b := g.node(t)
	wrong := errors.New("the sum is another one")
	for _, size := range []int{0, 5, 256<<10 - 1, 256 << 10, 256<<10 + 1, 6 << 20} {
		want := sessiontest.Source(3, size+16)
		s := spec(fmt.Sprint("verified", size), len(want))
		id := create(t, b, s)
		with(t, b, id, func(ctx context.Context, s session.Session) {
			for _, c := range []struct {
				r       io.Reader
				verdict error
				want    error
				offset  int64
			}{
				{bytes.NewReader(make([]byte, size)), wrong, wrong, 0},
				{io.MultiReader(bytes.NewReader(want[:size]), iotest.ErrReader(io.ErrUnexpectedEOF)), nil, io.ErrUnexpectedEOF, 0},
				{bytes.NewReader(make([]byte, size+17)), nil, session.ErrTooLarge, 0},
				{bytes.NewReader(want[:size]), nil, nil, int64(size)},
				{bytes.NewReader(want[size:]), nil, nil, int64(size + 16)},
			} {
				if err := s.AppendVerified(ctx, c.r, func() error { return c.verdict }); !errors.Is(err, c.want) {
					t.Errorf("%d: %v, want %v", size, err, c.want)
				}
				if got := s.Info().Offset; got != c.offset {
					t.Errorf("%d: %d bytes count, want %d", size, got, c.offset)
				}
			}
			if err := s.Publish(ctx); err != nil {
				t.Fatal(err)
			}
			if err := s.Remove(ctx); err != nil {
				t.Fatal(err)
			}
		})
		wantTarget(t, g, s.Target, want)
	}
	if n, m := g.objects(t), g.leftParts(t); n > 0 || m > 0 {
		t.Errorf("%d objects and %d files of multipart uploads are left over", n, m)
	}
}

func TestOneTargetForManyNodes(t *testing.T) {
	g := startGateway(t)
	for _, size := range []int{16, 9 << 20} {
		name := fmt.Sprint("race", size)
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := -1
		var ids []string
		var nodes []session.Store
		for i := range 4 {
			nodes = append(nodes, g.node(t))
			ids = append(ids, create(t, nodes[i], spec(name, size)))
			add(t, nodes[i], ids[i], sessiontest.Source(uint64(i), size))
		}
		for i := range nodes {
			wg.Go(func() {
				ctx, s, err := nodes[i].Acquire(t.Context(), ids[i], alice)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Release()
				err = s.Publish(ctx)
				mu.Lock()
				defer mu.Unlock()
				if err == nil && won < 0 {
					won = i
				} else if !errors.Is(err, session.ErrExists) {
					t.Errorf("node %d: %v, and node %d won", i, err, won)
				}
			})
		}
		wg.Wait()
		if won < 0 {
			t.Fatal("nobody won")
		}
		wantTarget(t, g, name, sessiontest.Source(uint64(won), size))
		_, err := nodes[0].Create(t.Context(), spec(name, size))
		wantErr(t, err, session.ErrExists)
	}
}

func TestOtherNodeTakesOver(t *testing.T) {
	g := startGateway(t)
	a, b := g.node(t), g.node(t)
	id := create(t, a, spec("f", 6))
	ctx, s, err := a.Acquire(t.Context(), id, alice)
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	defer stop()
	ended := make(chan error)
	go func() {
		_, err := s.Append(ctx, r)
		s.Release()
		ended <- err
	}()
	if _, err := w.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	with(t, b, id, func(ctx context.Context, s session.Session) {
		if got := s.Info().Offset; got != 3 {
			t.Errorf("the other node finds %d bytes, want 3", got)
		}
		if _, err := s.Append(ctx, strings.NewReader("def")); err != nil {
			t.Error(err)
		}
	})
	wantErr(t, <-ended, session.ErrTaken)
	publish(t, a, id)
	wantTarget(t, g, "f", []byte("abcdef"))
}

func TestConcat(t *testing.T) {
	g := startGateway(t)
	b, c := g.node(t), g.node(t)
	want := sessiontest.Source(3, 33<<20)
	cuts := []int{0, 100, 200, 7 << 20, 7<<20 + 5, 26 << 20, 33 << 20}
	var ids []string
	for i := range cuts[1:] {
		id := create(t, b, spec("", cuts[i+1]-cuts[i]))
		add(t, c, id, want[cuts[i]:cuts[i+1]])
		ids = append(ids, id)
	}
	for n := 1; n <= len(ids); n++ {
		name := fmt.Sprint("concat", n)
		i, err := c.Concat(t.Context(), spec(name, -1), ids[:n])
		if err != nil {
			t.Fatal(err)
		}
		publish(t, b, i.ID)
		wantTarget(t, g, name, want[:cuts[n]])
	}
	eve := spec("eve", -1)
	eve.Principal = "eve"
	_, err := c.Concat(t.Context(), eve, ids)
	wantErr(t, err, session.ErrNotFound)
	_, err = c.Concat(t.Context(), spec("x", -1), []string{create(t, b, spec("", 1))})
	wantErr(t, err, session.ErrIncomplete)
}

func TestClean(t *testing.T) {
	g := startGateway(t)
	a, b := g.node(t), g.node(t)
	for i := range 4 {
		create(t, a, spec(fmt.Sprint("f", i), 1))
	}
	if n, err := b.Clean(t.Context(), time.Now(), time.Hour, 3); n != 1 || err != nil {
		t.Errorf("Clean = %d, %v, want the newest removed", n, err)
	}
	damaged := filepath.Join(g.root, "in", session.Hidden, session.NewID(), "record")
	if err := errors.Join(os.Mkdir(filepath.Dir(damaged), 0o755), os.WriteFile(damaged, []byte("{"), 0o644)); err != nil {
		t.Fatal(err)
	}
	list, err := a.List(t.Context())
	if err != nil || len(list) != 3 || list[2].Target != "f2" {
		t.Errorf("left %+v, %v", list, err)
	}
	_, s, err := a.Acquire(t.Context(), list[0].ID, alice)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.Clean(t.Context(), time.Now().Add(time.Hour), time.Hour, 0); n != 2 || err != nil {
		t.Errorf("Clean = %d, %v, want the 2 that no request works on", n, err)
	}
	s.Release()
	if n, err := b.Clean(t.Context(), time.Now().Add(time.Hour), time.Hour, 0); n != 1 || err != nil {
		t.Errorf("Clean = %d, %v, want the last one", n, err)
	}
	if n := g.objects(t); n > 1 { // the damaged one
		t.Errorf("%d objects are left over", n)
	}
}

func TestCleanOfFinishedSessions(t *testing.T) {
	g := startGateway(t)
	b := g.node(t)
	const timeout = 14 * 24 * time.Hour
	replied := spec("replied", 0)
	replied.Reply = true
	for _, s := range []session.Spec{spec("finished", 0), replied} {
		publish(t, b, create(t, b, s))
	}
	create(t, b, spec("begun", 1))
	now := time.Now()
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{timeout/2 - time.Hour, 0}, {timeout / 2, 1}, {timeout - time.Hour, 0}, {timeout, 2}} {
		if n, err := b.Clean(t.Context(), now.Add(c.after), timeout, 0); n != c.want || err != nil {
			t.Errorf("Clean after %v = %d, %v; want %d", c.after, n, err, c.want)
		}
	}
	if n := g.objects(t); n > 0 {
		t.Errorf("%d objects are left over", n)
	}
}

// world is a bucket that nodes come to by turns.
type world struct {
	gateway
	nodes []*bucket.Bucket
}

func (w *world) Store(t *testing.T, crash bool) session.Store {
	if crash || len(w.nodes) == 0 {
		w.nodes = append(w.nodes, w.node(t))
	}
	return w.nodes[rand.IntN(len(w.nodes))]
}

func (w *world) Targets(t *testing.T) map[string][]byte { return w.targets(t) }

func TestInterleavedRequests(t *testing.T) {
	g := startGateway(t)
	for seed := range uint64(2) {
		sessiontest.Interleave(t, &world{gateway: g}, seed, 60)
		for name := range g.targets(t) {
			if err := os.Remove(filepath.Join(g.root, "in", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPartIsUsedUp(t *testing.T) {
	g := startGateway(t)
	b, c := g.node(t), g.node(t)
	part := create(t, b, spec("", 5))
	with(t, b, part, func(_ context.Context, s session.Session) { wantErr(t, s.Publish(t.Context()), session.ErrIncomplete) })
	add(t, b, part, []byte("hello"))
	whole, err := c.Concat(t.Context(), spec("file", -1), []string{part})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, c, whole.ID)
	for range 2 { // it may be repeated
		publish(t, c, part)
	}
	wantTarget(t, g, "file", []byte("hello"))
	with(t, b, part, func(ctx context.Context, s session.Session) {
		if i := s.Info(); i.Offset != 5 || !i.Published {
			t.Errorf("got %+v", i)
		}
		_, err := s.Open(ctx)
		wantErr(t, err, session.ErrNotFound)
	})
	_, err = b.Concat(t.Context(), spec("again", -1), []string{part})
	wantErr(t, err, session.ErrNotFound)
	if n := g.objects(t); n != 2 {
		t.Errorf("there are %d objects, want the two records", n)
	}
}

// What a lifecycle rule aborted comes from its beginning again.
func TestPartsAreGone(t *testing.T) {
	for name, gone := range map[string]func(path string) error{
		"all of it": os.RemoveAll,
		"a part": func(path string) error {
			return filepath.WalkDir(path, func(file string, d os.DirEntry, err error) error {
				if err == nil && d.Name() == "1" {
					err = os.Remove(file)
				}
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t)
			a := g.node(t)
			want := make([]byte, 20<<20)
			id := create(t, a, spec("f", len(want)))
			add(t, a, id, want)
			if err := gone(filepath.Join(g.root, ".sgwtmp", "multipart")); err != nil {
				t.Fatal(err)
			}
			with(t, a, id, func(ctx context.Context, s session.Session) { wantErr(t, s.Publish(ctx), session.ErrNotFound) })
			_, _, err := a.Acquire(t.Context(), id, alice)
			wantErr(t, err, session.ErrNotFound)
		})
	}
}
