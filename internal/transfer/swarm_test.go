package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
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
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrtp"
	"github.com/ebbtransfer/ebb/internal/peers"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

// origin has one file, and describes it to who asks.
type origin struct {
	*httptest.Server
	t     testing.TB
	asked atomic.Int64 // requests for the description
	sent  atomic.Int64 // bytes of the file

	mu      sync.Mutex // guards what follows
	content []byte
	tag     string
	secret  string
	ahead   time.Duration                 // of its clock
	plain   bool                          // knows nothing of content information
	header  http.Header                   // of its answers, besides
	first   bool                          // knows version 1 alone
	making  int                           // so many requests find the description not ready
	serve   func(b []byte, at int64) bool // changes what is sent from an offset on; false breaks the answer off
	hashes  *peerdist.Hashes
	hashed  []byte // what hashes are of
}

func newOrigin(t testing.TB, size int) *origin {
	o := &origin{t: t, tag: `"1"`, secret: "secret", content: noise(size, 1)}
	o.Server = httptest.NewServer(o)
	t.Cleanup(o.Close)
	return o
}

// twin returns another origin of the same file.
func (o *origin) twin(t testing.TB) *origin {
	w := &origin{t: t, tag: o.tag, secret: o.secret, content: o.content, first: o.first, hashes: o.hashes, hashed: o.hashed}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	return w
}

func noise(size int, seed uint64) []byte {
	b := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = rng.Read(b)
	return b
}

// info is the description of the file as it is now; mu is held.
func (o *origin) info() *peerdist.Info {
	a := peerdist.TruncatedSHA512
	if o.first {
		a = peerdist.SHA256
	}
	if o.hashes == nil || o.hashes.Algorithm != a || len(o.hashed) == 0 || &o.hashed[0] != &o.content[0] {
		h, err := peerdist.Generate(context.Background(), bytes.NewReader(o.content), a)
		if err != nil {
			o.t.Error(err)
		}
		o.hashes, o.hashed = h, o.content
	}
	info, err := o.hashes.Info(a.ServerKey([]byte(o.secret)), bits.Range{Length: int64(len(o.content))})
	if err != nil {
		o.t.Error(err)
	}
	return info
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	content, tag, serve := o.content, o.tag, o.serve
	w.Header().Set("Etag", tag)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Date", time.Now().Add(o.ahead).UTC().Format(http.TimeFormat))
	for name, v := range o.header {
		w.Header()[name] = v
	}
	if _, ok := pccrtp.Wanted(r); ok && !o.plain {
		o.asked.Add(1)
		if o.making == 0 {
			b := o.info().Append(nil)
			o.mu.Unlock()
			pccrtp.Answer{Version: pccrtp.Version11, Encoded: true, Length: int64(len(content))}.Set(w.Header())
			_, _ = w.Write(b)
			return
		}
		o.making--
		pccrtp.Answer{Version: pccrtp.Version11, MakeHash: true}.Set(w.Header())
	}
	o.mu.Unlock()
	http.ServeContent(w, r, "", time.Unix(1e9, 0), &fileBody{bytes.NewReader(content), o, serve})
}

// fileBody is the file as it is sent.
type fileBody struct {
	*bytes.Reader
	o     *origin
	serve func(b []byte, at int64) bool
}

func (s *fileBody) Read(b []byte) (int, error) {
	at, _ := s.Seek(0, io.SeekCurrent)
	n, err := s.Reader.Read(b)
	s.o.sent.Add(int64(n))
	if s.serve != nil && !s.serve(b[:n], at) {
		return 0, errors.New("broken off")
	}
	return n, err
}

// WriteTo is not there: bytes.Reader's would bypass Read.
func (s *fileBody) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{s}) }

// machine is one that downloads.
type machine struct {
	t      testing.TB
	node   *peers.Node
	gov    *governor.Governor
	engine *Engine
	dir    string // of what it downloads
	cache  string // its directory
	log    lines
}

// newMachine returns a machine that knows the given peers.
func newMachine(t testing.TB, known ...netip.AddrPort) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), cache: filepath.Join(t.TempDir(), "peers")}
	m.node = peers.Open(m.cache, slog.New(slog.NewTextHandler(&m.log, nil)))
	s := peers.Defaults()
	s.Mode, s.PlainHTTP, s.Uploads, s.Limits.Size = peers.Local, true, 0, 4<<30
	if len(known) > 0 {
		s.Mode = peers.Hosted
	}
	for _, p := range known {
		s.HostedCaches = append(s.HostedCaches, p.String())
	}
	if err := m.node.Apply(s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.node.Close)
	m.restart()
	return m
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// blames reports whether the log says that a machine lied.
func (l *lines) blames(machine string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), "sent what is wrong and is not asked for a while\" peer="+machine)
}

// restart forgets all that is not on the disk.
func (m *machine) restart() {
	m.gov = governor.New("", slog.New(slog.DiscardHandler))
	m.engine = NewEngine(httpget.New(httpconn.New("test", m.gov)), 10*time.Second, nil)
	m.engine.UsePeers(m.node, m.gov)
}

// peer gives the blocks of a cache, for others.
func (m *machine) peer() netip.AddrPort { return serveBlocks(m.t, m.node.Cache(), nil) }

// serveBlocks gives the blocks of a cache; wrap may come between.
func serveBlocks(t testing.TB, c *cache.Cache, wrap func(http.Handler) http.Handler) netip.AddrPort {
	t.Helper()
	var h http.Handler = pccrr.NewServer(c, 64, func(netip.Addr) bool { return true })
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// fetch runs a job with one file.
func (m *machine) fetch(ctx context.Context, job Job, f *store.File) (Outcome, *memory) {
	sink := &memory{}
	return m.run(ctx, job, f, sink, NewLive()), sink
}

func (m *machine) run(ctx context.Context, job Job, f *store.File, sink Sink, live *Live) Outcome {
	job.Connections, job.Created = 1, time.Now()
	job.Files = []store.FileRow{{File: f}}
	return m.engine.Run(ctx, job, sink, live)
}

// file is the record of a file that is to be fetched.
func (m *machine) file(o *origin) *store.File {
	return &store.File{Remote: o.URL + "/f.bin", Local: filepath.Join(m.dir, "f.bin"), Size: -1}
}

// get fetches the origin's file and checks it. It returns the file's last record.
func (m *machine) get(o *origin) *store.File {
	m.t.Helper()
	f := m.file(o)
	out, sink := m.fetch(m.t.Context(), Job{}, f)
	return m.check(o, out, sink)
}

func (m *machine) check(o *origin, out Outcome, sink *memory) *store.File {
	m.t.Helper()
	if out.Err != nil || out.Stopped {
		m.t.Fatalf("the outcome is %+v, %v", out, out.Err)
	}
	f := sink.last()
	o.mu.Lock()
	defer o.mu.Unlock()
	path := (&Job{}).Path(f.Local, 0)
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, o.content) {
		m.t.Fatalf("the file is wrong: %d bytes, %v", len(b), err)
	}
	if f.State != store.FileDone || f.Done != int64(len(o.content)) || f.Size != f.Done || f.Part.Inode == 0 {
		m.t.Errorf("the record is %+v, %+v", f, f.Part)
	}
	if err := os.Remove(path); err != nil {
		m.t.Error(err)
	}
	return f
}

// memory is a sink that keeps the records.
type memory struct {
	mu   sync.Mutex
	file []*store.File
}

func (s *memory) Connected() {}
func (s *memory) File(_ int, f *store.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file = append(s.file, f)
}
func (s *memory) Save(i int, f *store.File) error { s.File(i, f); return nil }
func (s *memory) last() *store.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file[len(s.file)-1]
}

// Sizes of the file: two segments of version 1, about 90 of version 2.
const (
	size1 = 33<<20 + 12345
	size2 = 6<<20 + 12345
)

func (o *origin) size() int64 { return int64(len(o.content)) }

// both runs a test with both versions of content information.
func both(t *testing.T, test func(t *testing.T, o *origin)) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("version 1 %v", first), func(t *testing.T) {
			size := size2
			if first {
				size = size1
			}
			o := newOrigin(t, size)
			o.first = first
			test(t, o)
		})
	}
}

// TestNobodyHasIt: the origin sends all of it once; then this machine has it.
func TestNobodyHasIt(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		m := newMachine(t)
		f := m.get(o)
		if n := o.sent.Load(); n != o.size() || f.Part.Peers != 0 || f.Part.Cached != 0 {
			t.Errorf("the origin sent %d bytes, the record is %+v", n, f.Part)
		}
		f = m.get(o)
		if st := m.node.Status().Stats; st.FromCache != o.size() || st.FromOrigin != o.size() || st.FromPeers != 0 {
			t.Errorf("the counts are %+v", st)
		}
		if n := o.sent.Load(); n != o.size() || f.Part.Cached != o.size() || o.asked.Load() != 2 {
			t.Errorf("the origin sent %d bytes and was asked %d times, the record is %+v", n, o.asked.Load(), f.Part)
		}
	})
}

// TestAWarmPeer: with a peer that has all, the origin sends nothing but the description.
func TestAWarmPeer(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		warm := newMachine(t)
		warm.get(o)
		o.sent.Store(0)
		m := newMachine(t, warm.peer())
		began := time.Now()
		f := m.get(o)
		t.Logf("%.0f MB/s", float64(o.size())/time.Since(began).Seconds()/1e6)
		if n := o.sent.Load(); n > o.size()/100 || f.Part.Peers < o.size()-n {
			t.Errorf("the origin sent %d bytes, the record is %+v", n, f.Part)
		}
		if s := m.node.Status().Stats; s.FromPeers+s.FromOrigin != o.size() {
			t.Errorf("counted %+v", s)
		}
	})
}

// TestThrottledPeers: where the settings say so, the ceilings hold for the bytes of peers too.
func TestThrottledPeers(t *testing.T) {
	o := newOrigin(t, 2<<20)
	o.first = true
	warm := newMachine(t)
	warm.get(o)
	for _, throttled := range []bool{false, true} {
		m := newMachine(t, warm.peer())
		s := m.node.Settings()
		s.ThrottleLAN = throttled
		if err := m.node.Apply(s); err != nil {
			t.Fatal(err)
		}
		const rate = 2 << 20
		m.gov.SetCaps(governor.Caps{Foreground: rate, Background: rate})
		began := time.Now()
		f := m.get(o)
		// What fits into the limiter's bucket comes at once, and nobody waits for the last block.
		if least := time.Second / 2; throttled && time.Since(began) < least {
			t.Errorf("%d bytes of peers came in %v, with %d bytes a second allowed", f.Part.Peers, time.Since(began), rate)
		}
		if f.Part.Peers == 0 {
			t.Error("nothing came from the peer")
		}
	}
}

// TestHalf: a peer that has some of it gives that; the origin gives the rest.
func TestHalf(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		warm := newMachine(t)
		var half int64
		for i := range o.info().Segments {
			seg := &o.info().Segments[i]
			for k := range seg.Blocks() {
				if (i+k)%2 == 0 {
					continue
				}
				offset, n := seg.Block(k)
				at := seg.Offset + int64(offset)
				if err := warm.node.Cache().Put(seg, k, o.content[at:at+int64(n)]); err != nil {
					t.Fatal(err)
				}
				half += int64(n)
			}
		}
		m := newMachine(t, warm.peer())
		f := m.get(o)
		// Where peers seem slow for a moment the origin may give some of theirs.
		if sent := o.sent.Load(); f.Part.Peers < half*9/10 || sent > o.size()-half*9/10 {
			t.Errorf("of %d bytes that a peer has %d came from there; the origin sent %d", half, f.Part.Peers, sent)
		}
	})
}

// TestDamagedByTheOrigin: what the origin sends wrong once is asked for again, and nothing else.
func TestDamagedByTheOrigin(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		var once atomic.Bool
		o.serve = func(b []byte, at int64) bool {
			if at <= 5<<20 && at+int64(len(b)) > 5<<20 && !once.Swap(true) {
				b[5<<20-at] ^= 1
			}
			return true
		}
		f := newMachine(t).get(o)
		// What was on its way behind it is lost.
		if sent := o.sent.Load(); sent > o.size()+20<<20 || !strings.Contains(f.Part.Note, "damaged") {
			t.Errorf("the origin sent %d bytes, the note is %q", sent, f.Part.Note)
		}
	})
}

// TestNotToBeStored: what no cache may keep is not kept for others, although the origin describes it.
func TestNotToBeStored(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		o.header = http.Header{"Cache-Control": {"max-age=0, No-Store"}}
		m := newMachine(t)
		m.get(o)
		if used := m.node.Cache().Used(); used != 0 || o.asked.Load() == 0 {
			t.Errorf("%d bytes are kept; content information was asked for %d times", used, o.asked.Load())
		}
	})
}

// TestAnotherFileThanDescribed: what the origin sends differs from what it described, always.
func TestAnotherFileThanDescribed(t *testing.T) {
	o := newOrigin(t, size2)
	o.info()
	o.hashed = noise(size2, 2)
	o.hashed, o.content = o.content, o.hashed
	o.content[5] ^= 1
	described := o.hashed
	h, err := peerdist.Generate(t.Context(), bytes.NewReader(described), peerdist.TruncatedSHA512)
	if err != nil {
		t.Fatal(err)
	}
	o.hashes, o.hashed = h, o.content
	f := newMachine(t).get(o)
	if !strings.Contains(f.Part.Note, "another file than it had described") {
		t.Errorf("the note is %q", f.Part.Note)
	}
}

// TestTheFileChanges at the origin while it comes.
func TestTheFileChanges(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		var once sync.Once
		next := noise(int(o.size())+7, 3)
		// During the first of at least two answers: what the last one began to send is whole, and counts.
		o.serve = func([]byte, int64) bool {
			once.Do(func() {
				o.mu.Lock()
				o.content, o.tag = next, `"2"`
				o.mu.Unlock()
			})
			return true
		}
		f := newMachine(t).get(o)
		if o.asked.Load() != 2 || !strings.Contains(f.Part.Note, "changed on the server") {
			t.Errorf("the description was asked for %d times, the note is %q", o.asked.Load(), f.Part.Note)
		}
	})
}

// TestAnotherSecret: when the origin has a new secret, what peers have is of no use, and does no harm.
func TestAnotherSecret(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		warm := newMachine(t)
		warm.get(o)
		o.sent.Store(0)
		o.secret = "another"
		f := newMachine(t, warm.peer()).get(o)
		if o.sent.Load() != o.size() || f.Part.Peers != 0 {
			t.Errorf("the origin sent %d bytes, %d are from peers", o.sent.Load(), f.Part.Peers)
		}
	})
}

// TestStopAndGoOn: what is here when a job stops is not asked for again, and is verified when it goes on; what
// was changed in the meantime is fetched anew.
func TestStopAndGoOn(t *testing.T) {
	for _, how := range []string{"the service goes on", "the service was started again", "the part file was changed", "the part file is gone", "it began without a description", "it goes on without a description"} {
		t.Run(how, func(t *testing.T) {
			o := newOrigin(t, size2)
			m := newMachine(t)
			if how == "it began without a description" {
				m.engine.node = nil
			}
			ctx, stop := context.WithCancel(t.Context())
			o.serve = func([]byte, int64) bool {
				if o.sent.Load() > 4<<20 {
					<-ctx.Done()
				}
				return true
			}
			f := m.file(o)
			live := NewLive()
			go func() {
				for done := int64(0); done < 2<<20 && t.Context().Err() == nil; time.Sleep(time.Millisecond) {
					live.Files(func(_ int, f Moving) { done = f.Done })
				}
				stop()
			}()
			sink := &memory{}
			out := m.run(ctx, Job{}, f, sink, live)
			if !out.Stopped {
				t.Fatalf("the outcome is %+v", out)
			}
			f = sink.last()
			if f.Done < 1<<20 || f.State != store.FilePending {
				t.Fatalf("the record is %+v %+v", f, f.Part)
			}
			done := f.Done
			path := (&Job{}).Path(f.Local, 0)
			switch how {
			case "the service goes on", "the part file was changed":
			default:
				m.restart()
			}
			if err := m.node.Cache().Clear(); err != nil {
				t.Fatal(err)
			}
			want := o.size() - done
			switch how {
			case "the part file was changed":
				p, err := os.OpenFile(path, os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.WriteAt([]byte("changed"), f.Part.Filled[0].Offset+1000); err != nil {
					t.Fatal(err)
				}
				p.Close()
				want += 128 << 10
			case "the part file is gone":
				os.Remove(path)
				want = o.size()
			case "it goes on without a description":
				m.engine.node = nil
			}
			o.sent.Store(0)
			o.serve = nil
			out, sink = m.fetch(t.Context(), Job{}, f)
			m.check(o, out, sink)
			if sent := o.sent.Load(); sent > want+1<<20 {
				t.Errorf("the origin sent %d bytes when %d were here", sent, done)
			}
		})
	}
}

// TestMadeLater: an origin that is yet to make the description is asked again for it while the file comes, or
// when it is here, so that others can have it.
func TestMadeLater(t *testing.T) {
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprintf("slow %v", slow), func(t *testing.T) {
			o := newOrigin(t, 8<<20)
			o.making = 1
			if slow {
				o.serve = func(b []byte, _ int64) bool {
					if o.asked.Load() < 2 {
						time.Sleep(20 * time.Millisecond)
					}
					return true
				}
			}
			m := newMachine(t)
			m.get(o)
			if o.asked.Load() != 2 {
				t.Errorf("the description was asked for %d times", o.asked.Load())
			}
			if used := m.node.Cache().Used(); used != 8<<20 {
				t.Errorf("the cache has %d bytes", used)
			}
		})
	}
}

// TestPlainDownloads: who has no part in it asks nothing; who does not speak it is asked once.
func TestPlainDownloads(t *testing.T) {
	o := newOrigin(t, 1<<20)
	m := newMachine(t)
	for name, job := range map[string]Job{"opted out": {NoPeers: true}, "dynamic": {Dynamic: true}, "method": {Method: "POST"}} {
		out, sink := m.fetch(t.Context(), job, m.file(o))
		m.check(o, out, sink)
		if o.asked.Load() != 0 {
			t.Fatalf("%s: the description was asked for", name)
		}
	}
	if m.node.Cache().Used() != 0 {
		t.Error("the cache has something")
	}
	asked := 0
	o.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-P2P-PeerDist") != "" {
			asked++
		}
		w.Header().Set("Etag", `"1"`)
		http.ServeContent(w, r, "f.bin", time.Unix(1e9, 0), bytes.NewReader(o.content))
	})
	m.get(o)
	m.get(o)
	if asked != 1 {
		t.Errorf("a server that knows nothing of it was asked %d times", asked)
	}
}
