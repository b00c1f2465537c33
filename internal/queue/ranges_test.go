package queue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
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

	"github.com/ebbtransfer/ebb/bits"
)

var long = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) // when the files of these tests were changed, long ago

// origin is a server with one file.
type origin struct {
	*httptest.Server
	mu      sync.Mutex
	content []byte
	tag     string
	asked   []string // Range headers
	pause   time.Duration
	wrap    func(http.Handler) http.Handler
}

func newOrigin(t *testing.T, size int) *origin {
	t.Helper()
	o := &origin{tag: `"v1"`}
	rng := rand.New(rand.NewPCG(7, uint64(size)))
	o.content = make([]byte, size)
	for i := range o.content {
		o.content[i] = byte(rng.Uint32())
	}
	o.Server = httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(o.Close)
	return o
}

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	content, tag, pause, wrap := o.content, o.tag, o.pause, o.wrap
	o.asked = append(o.asked, r.Header.Get("Range"))
	o.mu.Unlock()
	h := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", tag)
		w.Header().Set("X-Colour", "blue")
		w.Header().Set("Set-Cookie", "id=secret")
		var body io.ReadSeeker = bytes.NewReader(content)
		if pause > 0 {
			body = &slow{body, pause, r.Context()}
		}
		http.ServeContent(w, r, "f.bin", long, body)
	}))
	if wrap != nil {
		h = wrap(h)
	}
	h.ServeHTTP(w, r)
}

// slow is a file that is read in small pieces with pauses.
type slow struct {
	io.ReadSeeker
	pause time.Duration
	ctx   context.Context
}

func (s *slow) Read(b []byte) (int, error) {
	select {
	case <-time.After(s.pause):
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
	return s.ReadSeeker.Read(b[:min(len(b), 4096)])
}

func (o *origin) requests() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

func (o *origin) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// createWith makes a job with settings of the form name=value.
func createWith(t *testing.T, q *Queue, settings []string, files ...bits.FileSpec) bits.ID {
	t.Helper()
	var s bits.Settings
	for _, kv := range append([]string{"name=n", "minimum_retry_delay=5"}, settings...) {
		name, value, _ := strings.Cut(kv, "=")
		if err := s.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	j, err := q.Create(alice, bits.NewJob{Settings: s, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	return j.ID
}

func resume(t *testing.T, q *Queue, id bits.ID) {
	t.Helper()
	if _, err := q.Resume(alice, id); err != nil {
		t.Fatal(err)
	}
}

// until waits for a job to be as ok says; it follows the events.
func until(t *testing.T, q *Queue, id bits.ID, what string, ok func(bits.Job) bool) bits.Job {
	t.Helper()
	var j bits.Job
	deadline := time.Now().Add(20 * time.Second)
	for {
		var err error
		if j, err = q.Get(alice, id, true); err != nil {
			t.Fatal(err)
		}
		if ok(j) {
			return j
		}
		if time.Now().After(deadline) {
			t.Fatalf("the job does not become %s: %v, error %+v, %+v", what, j.State, j.Error, j.Files)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func untilState(t *testing.T, q *Queue, id bits.ID, s bits.State) bits.Job {
	t.Helper()
	return until(t, q, id, s.String(), func(j bits.Job) bool { return j.State == s })
}

func ranges(text string) []bits.Range {
	r, err := bits.ParseRanges(text)
	if err != nil {
		panic(err)
	}
	return r
}

// parts are the bytes of ranges, back to back.
func parts(content []byte, rs []bits.Range) []byte {
	var out []byte
	for _, r := range rs {
		out = append(out, content[r.Offset:min(r.End(), int64(len(content)))]...)
	}
	return out
}

func completed(t *testing.T, q *Queue, id bits.ID, path string, want []byte) {
	t.Helper()
	if _, err := q.Complete(alice, id); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes that are not the %d wanted ones, %v", path, len(got), len(want), err)
	}
}

func TestRangesStandBackToBackInTheOrderGiven(t *testing.T) {
	o := newOrigin(t, 3<<20)
	q := open(t, t.TempDir())
	defer shut(t, q)
	many := make([]bits.Range, 500)
	for i := range many {
		many[len(many)-1-i] = bits.Range{Offset: int64(i) * 6000, Length: int64(1 + i*7%5000)}
	}
	for name, rs := range map[string][]bits.Range{
		"one":                   ranges("1000:2000"),
		"several":               ranges("0:10,500:1,4000:100"),
		"not in order":          ranges("4000:100,0:10,500:1"),
		"adjacent":              ranges("100:100,200:100,0:100"),
		"to the end":            ranges("10:5,3000000:eof"),
		"to the end, not last":  ranges("3000000:eof,10:5"),
		"all":                   ranges("0:eof"),
		"large":                 ranges("2000000:1000000,0:1000000"),
		"more than one request": many,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			want := parts(o.content, rs)
			id := createWith(t, q, nil, bits.FileSpec{Remote: o.URL + "/f", Local: path, Ranges: rs})
			resume(t, q, id)
			j := untilState(t, q, id, bits.Transferred)
			if p := j.Progress; int64(p.BytesTotal) != int64(len(want)) || p.BytesTransferred != int64(len(want)) {
				t.Errorf("progress %+v, want %d bytes", p, len(want))
			}
			f, err := q.File(alice, id, 0)
			if err != nil || !slices.Equal(f.Ranges, rs) || !slices.Equal(f.Filled, []bits.Range{{Offset: 0, Length: int64(len(want))}}) {
				t.Errorf("%+v, %v", f, err)
			}
			completed(t, q, id, path, want)
		})
	}
}

func TestRangesThatAreRefused(t *testing.T) {
	q := open(t, t.TempDir())
	defer shut(t, q)
	q.mu.Lock()
	q.policy.Jobs.MaxRanges = 3
	q.mu.Unlock()
	dir := t.TempDir()
	spec := func(rs []bits.Range) bits.FileSpec {
		return bits.FileSpec{Remote: "http://127.0.0.1:1/f", Local: filepath.Join(dir, "f"), Ranges: rs}
	}
	id := createWith(t, q, nil)
	for name, c := range map[string]struct {
		ranges []bits.Range
		want   bits.Code
	}{
		"none":        {[]bits.Range{}, bits.InvalidArg},
		"overlapping": {ranges("0:10,5:10"), bits.OverlappingRanges},
		"no bytes":    {ranges("0:0"), bits.InvalidRange},
		"negative":    {[]bits.Range{{Offset: -5, Length: 10}}, bits.InvalidRange},
		"overflow":    {[]bits.Range{{Offset: 1 << 62, Length: 1 << 62}, {Offset: 5, Length: 1<<63 - 1}}, bits.InvalidRange},
		"too many":    {ranges("0:1,2:1,4:1,6:1"), bits.TooManyRangesInFile},
	} {
		if _, err := q.AddFiles(alice, id, []bits.FileSpec{spec(c.ranges)}); codeOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want.Name())
		}
	}
	if _, err := q.AddFiles(root, id, []bits.FileSpec{spec(ranges("0:1,2:1,4:1,6:1"))}); err != nil {
		t.Errorf("an administrator: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*bits.FileSpec)
		want   bits.Code
	}{
		"a file of this machine": {func(f *bits.FileSpec) { f.Remote = "file:///etc/hostname" }, bits.InsufficientRangeSupport},
		"a file of a share":      {func(f *bits.FileSpec) { f.Remote = `\\server\share\f` }, bits.InsufficientRangeSupport},
		"mirrors":                {func(f *bits.FileSpec) { f.Mirrors = []string{"http://127.0.0.1:2/f"} }, bits.UnsupportedConfiguration},
		"only if newer":          {func(f *bits.FileSpec) { f.OnlyIfNewer = true }, bits.UnsupportedConfiguration},
	} {
		f := spec(ranges("0:1"))
		f.Local += "2"
		c.change(&f)
		if _, err := q.AddFiles(alice, id, []bits.FileSpec{f}); codeOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want.Name())
		}
	}
	local := "file:///etc/hostname"
	if _, err := q.ChangeFile(alice, id, 0, bits.FileChange{Remote: &local}); codeOf(err) != bits.InsufficientRangeSupport {
		t.Errorf("a file of this machine later: %v", err)
	}
	if _, err := q.ChangeFile(alice, id, 0, bits.FileChange{Mirrors: &[]string{"http://127.0.0.1:2/f"}}); codeOf(err) != bits.UnsupportedConfiguration {
		t.Errorf("mirrors later: %v", err)
	}
	if _, err := q.ReplacePrefix(alice, id, bits.PrefixChange{Old: "http://127.0.0.1:1/", New: "file:///etc/"}); codeOf(err) != bits.InsufficientRangeSupport {
		t.Errorf("a directory of this machine later: %v", err)
	}
	dynamic := createWith(t, q, []string{"dynamic_content=true"})
	if _, err := q.AddFiles(alice, dynamic, []bits.FileSpec{spec(ranges("0:1"))}); codeOf(err) != bits.UnsupportedConfiguration {
		t.Errorf("dynamic content: %v", err)
	}
	if _, err := q.Set(alice, id, bits.Settings{Options: bits.Options{DynamicContent: new(true)}}); codeOf(err) != bits.UnsupportedConfiguration {
		t.Errorf("dynamic content for a job that has ranges: %v", err)
	}
	method := createWith(t, q, []string{"http_method=POST"})
	if _, err := q.AddFiles(alice, method, []bits.FileSpec{spec(ranges("0:1"))}); codeOf(err) != bits.NotWithCustomMethod {
		t.Errorf("another method: %v", err)
	}
	name := "u"
	if _, err := q.Create(alice, bits.NewJob{Type: bits.Upload, Settings: bits.Settings{Name: &name}, Files: []bits.FileSpec{spec(ranges("0:1"))}}); codeOf(err) != bits.NotImplemented {
		t.Errorf("an upload: %v", err)
	}
}

func TestRangesThatTheServerDoesNotHave(t *testing.T) {
	for name, c := range map[string]struct {
		ranges string
		wrap   func(http.Handler) http.Handler
		want   bits.Code
	}{
		"beyond the end":      {"0:10,900:200", nil, bits.InvalidRange},
		"all beyond the end":  {"5000:200", nil, bits.InvalidRange},
		"eof beyond the end":  {"5000:eof", nil, bits.InvalidRange},
		"server has no parts": {"0:10,900:10", without("Range"), bits.InsufficientRangeSupport},
		"and only one wanted": {"0:10", without("Range"), bits.InsufficientRangeSupport},
	} {
		t.Run(name, func(t *testing.T) {
			q := open(t, t.TempDir())
			defer shut(t, q)
			o := newOrigin(t, 1000)
			o.wrap = c.wrap
			id := createWith(t, q, nil, bits.FileSpec{Remote: o.URL, Local: filepath.Join(t.TempDir(), "f"), Ranges: ranges(c.ranges)})
			resume(t, q, id)
			if j := untilState(t, q, id, bits.Errored); j.Error == nil || j.Error.Code != c.want.Name() {
				t.Errorf("%+v, want %s", j.Error, c.want.Name())
			}
		})
	}
}

// without makes a server that does not look at a header of requests.
func without(name string) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del(name)
			h.ServeHTTP(w, r)
		})
	}
}

func TestRangesFromAServerThatSendsOneAtATime(t *testing.T) {
	o := newOrigin(t, 100_000)
	o.wrap = func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.Header.Get("Range"), ",") {
				r.Header.Del("Range")
			}
			h.ServeHTTP(w, r)
		})
	}
	q := open(t, t.TempDir())
	defer shut(t, q)
	path := filepath.Join(t.TempDir(), "f")
	rs := ranges("50000:1000,0:1000,99000:eof")
	id := createWith(t, q, nil, bits.FileSpec{Remote: o.URL, Local: path, Ranges: rs})
	resume(t, q, id)
	untilState(t, q, id, bits.Transferred)
	completed(t, q, id, path, parts(o.content, rs))
}

// TestRangesGoOnAfterTheServiceStopped also changes the file on the server in one run.
func TestRangesGoOnAfterTheServiceStopped(t *testing.T) {
	for _, changes := range []bool{false, true} {
		t.Run(fmt.Sprintf("changes %v", changes), func(t *testing.T) {
			o := newOrigin(t, 4<<20)
			o.pause = time.Millisecond
			dir, path := t.TempDir(), filepath.Join(t.TempDir(), "f")
			q := open(t, dir)
			rs := ranges("2000000:2000000,0:1000000")
			id := createWith(t, q, []string{"priority=FOREGROUND"}, bits.FileSpec{Remote: o.URL, Local: path, Ranges: rs})
			resume(t, q, id)
			until(t, q, id, "half done", func(j bits.Job) bool { return j.Progress.BytesTransferred > 300_000 })
			shut(t, q)
			o.change(func() { o.pause, o.asked = 0, nil })
			if changes {
				o.change(func() {
					o.tag = `"v2"`
					o.content = bytes.ToUpper(o.content)
				})
			}
			q = open(t, dir)
			defer shut(t, q)
			j := untilState(t, q, id, bits.Transferred)
			if first := o.requests()[0]; strings.HasPrefix(first, "bytes=2000000-") {
				t.Errorf("it began anew: %s", first)
			}
			if changes != (j.Files[0].Note != "") {
				t.Errorf("the note is %q", j.Files[0].Note)
			}
			completed(t, q, id, path, parts(o.content, rs))
		})
	}
}

func TestChecksumOfRanges(t *testing.T) {
	o := newOrigin(t, 10_000)
	q := open(t, t.TempDir())
	defer shut(t, q)
	path := filepath.Join(t.TempDir(), "f")
	id := createWith(t, q, nil, bits.FileSpec{Remote: o.URL, Local: path, Ranges: ranges("5:10"), Checksum: "sha256:" + strings.Repeat("0", 64)})
	resume(t, q, id)
	if j := untilState(t, q, id, bits.Errored); j.Error.Code != bits.ValidationFailed.Name() {
		t.Errorf("%+v", j.Error)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("there is still %v", left)
	}
}

// request asks for ranges of the first file.
func request(t *testing.T, q *Queue, id bits.ID, text string) {
	t.Helper()
	if _, err := q.RequestRanges(alice, id, 0, ranges(text)); err != nil {
		t.Fatal(err)
	}
}

func TestOnDemandFetchesWhatIsAskedFor(t *testing.T) {
	o := newOrigin(t, 1<<20)
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "f")
	q := open(t, dir)
	id := createWith(t, q, []string{"on_demand=true"}, bits.FileSpec{Remote: o.URL, Local: path})
	resume(t, q, id)
	j := until(t, q, id, "suspended with a size", func(j bits.Job) bool { return j.State == bits.Suspended && j.Files[0].BytesTotal >= 0 })
	if int(j.Files[0].BytesTotal) != len(o.content) || j.Files[0].BytesTransferred != 0 {
		t.Errorf("nothing was asked for: %+v", j.Files[0])
	}
	filled := func(want string) bits.FileDetail {
		t.Helper()
		until(t, q, id, "suspended with "+want, func(j bits.Job) bool {
			f, err := q.File(alice, id, 0)
			return err == nil && j.State == bits.Suspended && slices.Equal(f.Filled, ranges(want))
		})
		f, err := q.File(alice, id, 0)
		if err != nil {
			t.Fatal(err)
		}
		part, err := os.ReadFile(f.Temporary)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range f.Filled {
			if !bytes.Equal(part[r.Offset:r.End()], o.content[r.Offset:r.End()]) {
				t.Errorf("the bytes of %v are others", r)
			}
		}
		return f
	}
	request(t, q, id, "1000:10,500000:100")
	if f := filled("1000:10,500000:100"); !strings.Contains(f.ResponseHeaders, "X-Colour: blue\r\n") || strings.Contains(f.ResponseHeaders, "secret") {
		t.Errorf("the headers are %q", f.ResponseHeaders)
	}
	if f, err := q.File(alice, id, 0); err != nil || f.BytesFromOrigin != 110 || f.BytesFromPeers != 0 {
		t.Errorf("%d bytes are from the server and %d from peers: %v", f.BytesFromOrigin, f.BytesFromPeers, err)
	}
	request(t, q, id, "990:30,500050:100") // overlap what is here
	filled("990:30,500000:150")
	request(t, q, id, "0:5,3:10,1048570:eof") // overlap each other
	filled("0:13,990:30,500000:150,1048570:6")
	before := len(o.requests())
	request(t, q, id, "995:5") // is here
	filled("0:13,990:30,500000:150,1048570:6")
	if n := len(o.requests()); n != before {
		t.Errorf("what is here was asked for: %v", o.requests()[before:])
	}
	for _, r := range []string{"1048576:1", "1048570:7", "2000000:eof"} {
		if _, err := q.RequestRanges(alice, id, 0, ranges(r)); codeOf(err) != bits.InvalidRange {
			t.Errorf("%s: %v", r, err)
		}
	}
	shut(t, q)
	q = open(t, dir)
	defer shut(t, q)
	request(t, q, id, "20:5") // it was exhausted before the restart
	filled("0:13,20:5,990:30,500000:150,1048570:6")
	if _, err := q.Suspend(alice, id); err != nil {
		t.Fatal(err)
	}
	request(t, q, id, "0:eof")
	if j, err := q.Get(alice, id, false); err != nil || j.State != bits.Suspended {
		t.Errorf("a job that its owner suspended is %v, %v", j.State, err)
	}
	resume(t, q, id)
	untilState(t, q, id, bits.Transferred)
	completed(t, q, id, path, o.content)
}

func TestRangesEventsTellWhatCame(t *testing.T) {
	o := newOrigin(t, 1<<20)
	q := open(t, t.TempDir())
	defer shut(t, q)
	last := q.LastEvent()
	id := createWith(t, q, []string{"on_demand=true"}, bits.FileSpec{Remote: o.URL, Local: filepath.Join(t.TempDir(), "f")})
	request(t, q, id, "100:10,700:20") // before the first Resume
	resume(t, q, id)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []bits.Range
	_ = q.Watch(ctx, alice, Filter{Jobs: []bits.ID{id}, After: last}, each(func(e bits.Event) error {
		if e.Kind == bits.EventRanges {
			got = append(got, e.Ranges...)
		}
		if e.Kind == bits.EventState && e.State == bits.Suspended {
			cancel()
		}
		return nil
	}))
	if !slices.Equal(got, ranges("100:10,700:20")) {
		t.Errorf("told of %v", got)
	}
}

func TestOnDemandNeedsAServerWithRanges(t *testing.T) {
	o := newOrigin(t, 1000)
	o.wrap = without("Range")
	q := open(t, t.TempDir())
	defer shut(t, q)
	id := createWith(t, q, []string{"on_demand=true"}, bits.FileSpec{Remote: o.URL, Local: filepath.Join(t.TempDir(), "f")})
	resume(t, q, id)
	if j := untilState(t, q, id, bits.Errored); j.Error.Code != bits.RandomAccessNotSupported.Name() {
		t.Errorf("%+v", j.Error)
	}
}

func TestOnDemandTellsThatTheFileChanged(t *testing.T) {
	o := newOrigin(t, 100_000)
	q := open(t, t.TempDir())
	defer shut(t, q)
	path := filepath.Join(t.TempDir(), "f")
	id := createWith(t, q, []string{"on_demand=true"}, bits.FileSpec{Remote: o.URL, Local: path})
	request(t, q, id, "0:10")
	resume(t, q, id)
	until(t, q, id, "suspended", func(j bits.Job) bool { return j.State == bits.Suspended && j.Files[0].BytesTransferred == 10 })
	o.change(func() { o.tag, o.content = `"v2"`, o.content[:50_000] })
	request(t, q, id, "20:10")
	j := untilState(t, q, id, bits.Errored)
	if f, err := q.File(alice, id, 0); err != nil || j.Error.Code != bits.RemoteFileChanged.Name() || len(f.Filled) > 0 {
		t.Errorf("%+v, %+v, %v", j.Error, f, err)
	}
	request(t, q, id, "0:eof")
	resume(t, q, id)
	untilState(t, q, id, bits.Transferred)
	completed(t, q, id, path, o.content)
}

// slowly begins a download in the foreground of an origin that takes its time.
func slowly(t *testing.T) (o *origin, q *Queue, id bits.ID, path string) {
	t.Helper()
	o = newOrigin(t, 4<<20)
	o.pause = 2 * time.Millisecond
	q = open(t, t.TempDir())
	path = filepath.Join(t.TempDir(), "f")
	id = createWith(t, q, []string{"priority=FOREGROUND"}, bits.FileSpec{Remote: o.URL, Local: path})
	resume(t, q, id)
	return o, q, id, path
}

// TestAnOrdinaryDownloadIsSteered asks for the end of a file that is on its way.
func TestAnOrdinaryDownloadIsSteered(t *testing.T) {
	for name, steer := range map[string]func(*testing.T, *Queue, bits.ID){
		"ranges": func(t *testing.T, q *Queue, id bits.ID) { request(t, q, id, "3000000:100000") },
		"position": func(t *testing.T, q *Queue, id bits.ID) {
			if _, err := q.SetPosition(alice, id, 0, 3_000_000); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, q, id, path := slowly(t)
			defer shut(t, q)
			until(t, q, id, "begun", func(j bits.Job) bool { return j.Progress.BytesTransferred > 100_000 })
			steer(t, q, id)
			until(t, q, id, "steered", func(j bits.Job) bool {
				f, err := q.File(alice, id, 0)
				return err == nil && slices.ContainsFunc(f.Filled, func(r bits.Range) bool { return r.Offset == 3_000_000 && r.Length >= 100_000 })
			})
			f, err := q.File(alice, id, 0)
			if err != nil || len(f.Filled) < 2 || f.Filled[0].Offset != 0 || f.Filled[0].Length < 65536 {
				t.Errorf("what was here before is gone: %+v, %v", f.Filled, err)
			}
			o.change(func() { o.pause = 0 })
			untilState(t, q, id, bits.Transferred)
			completed(t, q, id, path, o.content)
		})
	}
}

func TestSteeringAServerWithoutRangesFetchesInOrder(t *testing.T) {
	o := newOrigin(t, 100_000)
	o.wrap = without("Range")
	q := open(t, t.TempDir())
	defer shut(t, q)
	path := filepath.Join(t.TempDir(), "f")
	id := createWith(t, q, nil, bits.FileSpec{Remote: o.URL, Local: path})
	request(t, q, id, "50000:10")
	resume(t, q, id)
	if j := untilState(t, q, id, bits.Transferred); !strings.Contains(j.Files[0].Note, "front to back") {
		t.Errorf("the note is %q", j.Files[0].Note)
	}
	completed(t, q, id, path, o.content)
}

func TestAFileThatSomebodyWaitsForGoesFirst(t *testing.T) {
	o := newOrigin(t, 4<<20)
	o.pause = 2 * time.Millisecond
	q := open(t, t.TempDir())
	defer shut(t, q)
	dir := t.TempDir()
	id := createWith(t, q, []string{"priority=FOREGROUND"}, bits.FileSpec{Remote: o.URL + "/a", Local: filepath.Join(dir, "a")}, bits.FileSpec{Remote: o.URL + "/b", Local: filepath.Join(dir, "b")})
	resume(t, q, id)
	until(t, q, id, "begun", func(j bits.Job) bool { return j.Files[0].BytesTransferred > 100_000 })
	if _, err := q.RequestRanges(alice, id, 1, ranges("1000000:50000")); err != nil {
		t.Fatal(err)
	}
	j := until(t, q, id, "steered", func(bits.Job) bool {
		f, err := q.File(alice, id, 1)
		return err == nil && slices.ContainsFunc(f.Filled, func(r bits.Range) bool { return r.Offset == 1_000_000 && r.Length >= 50_000 })
	})
	if j.Files[0].Completed || j.Progress.FilesTransferred > 0 {
		t.Errorf("the first file came before: %+v", j.Progress)
	}
	o.change(func() { o.pause = 0 })
	untilState(t, q, id, bits.Transferred)
	completed(t, q, id, filepath.Join(dir, "b"), o.content)
}

func TestRandomAccessIsRefused(t *testing.T) {
	q := open(t, t.TempDir())
	defer shut(t, q)
	file := bits.FileSpec{Remote: "http://127.0.0.1:1/f", Local: filepath.Join(t.TempDir(), "f")}
	src := filepath.Join(t.TempDir(), "up")
	if err := os.WriteFile(src, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := "u"
	up, err := q.Create(alice, bits.NewJob{Type: bits.Upload, Settings: bits.Settings{Name: &name}, Files: []bits.FileSpec{{Remote: "http://127.0.0.1:1/f", Local: src}}})
	if err != nil {
		t.Fatal(err)
	}
	final := createWith(t, q, nil, file)
	if _, err := q.Cancel(alice, final); err != nil {
		t.Fatal(err)
	}
	open := createWith(t, q, nil, file)
	local := bits.FileSpec{Remote: "file:///etc/hostname", Local: file.Local}
	demand := createWith(t, q, []string{"on_demand=true"})
	if _, err := q.AddFiles(alice, demand, []bits.FileSpec{local}); codeOf(err) != bits.RandomAccessNotSupported {
		t.Errorf("a file of this machine in a job on demand: %v", err)
	}
	here := createWith(t, q, nil, local)
	if _, err := q.Set(alice, here, bits.Settings{Options: bits.Options{OnDemand: new(true)}}); codeOf(err) != bits.RandomAccessNotSupported {
		t.Errorf("on demand with a file of this machine: %v", err)
	}
	for what, c := range map[string]struct {
		id    bits.ID
		index int
		by    Caller
		want  bits.Code
	}{
		"upload":            {up.ID, 0, alice, bits.RandomAccessNotSupported},
		"dynamic content":   {createWith(t, q, []string{"dynamic_content=true"}, file), 0, alice, bits.RandomAccessNotSupported},
		"another method":    {createWith(t, q, []string{"http_method=POST"}, file), 0, alice, bits.RandomAccessNotSupported},
		"a file of here":    {here, 0, alice, bits.RandomAccessNotSupported},
		"cancelled":         {final, 0, alice, bits.InvalidState},
		"no such file":      {open, 1, alice, bits.FileNotFound},
		"somebody else's":   {open, 0, bob, bits.NotFound},
		"an administrator":  {open, 0, root, bits.OK},
		"no file before it": {open, -1, alice, bits.FileNotFound},
	} {
		if _, err := q.RequestRanges(c.by, c.id, c.index, ranges("0:1")); codeOf(err) != c.want {
			t.Errorf("ranges, %s: %v, want %s", what, err, c.want.Name())
		}
		if _, err := q.SetPosition(c.by, c.id, c.index, 0); codeOf(err) != c.want {
			t.Errorf("position, %s: %v, want %s", what, err, c.want.Name())
		}
	}
	if _, err := q.File(bob, open, 0); codeOf(err) != bits.NotFound {
		t.Errorf("somebody else sees the file: %v", err)
	}
}

// TestSuspendKeepsWhatIsHere: but for less than a page of it the job goes on where it was.
func TestSuspendKeepsWhatIsHere(t *testing.T) {
	o := newOrigin(t, 4<<20)
	o.pause = 2 * time.Millisecond
	q := open(t, t.TempDir())
	defer shut(t, q)
	path := filepath.Join(t.TempDir(), "f")
	id := createWith(t, q, []string{"priority=FOREGROUND"}, bits.FileSpec{Remote: o.URL, Local: path})
	resume(t, q, id)
	here := until(t, q, id, "begun", func(j bits.Job) bool { return j.Progress.BytesTransferred > 200_000 }).Progress.BytesTransferred
	o.change(func() { o.asked, o.pause = nil, 0 })
	if j, err := q.Suspend(alice, id); err != nil || j.State != bits.Suspended {
		t.Fatal(j.State, err)
	}
	resume(t, q, id)
	untilState(t, q, id, bits.Transferred)
	var from int64
	if _, err := fmt.Sscanf(o.requests()[0], "bytes=%d-", &from); err != nil || from <= here-4096 {
		t.Errorf("of %d bytes it goes on with %q", here, o.requests())
	}
	completed(t, q, id, path, o.content)
}

// TestRevocationChecksBeginAgain: what came before they were asked for does not count; another change of how
// the server is asked goes on where it was (client.md 2.8).
func TestRevocationChecksBeginAgain(t *testing.T) {
	for flags, afresh := range map[string]bool{"ignore-date": false, "crl-check": true} {
		o, q, id, path := slowly(t)
		defer shut(t, q)
		until(t, q, id, "begun", func(j bits.Job) bool { return j.Progress.BytesTransferred > 200_000 })
		o.change(func() { o.asked, o.pause = nil, 0 })
		var s bits.Settings
		if err := s.Set("security_flags", flags); err != nil {
			t.Fatal(err)
		}
		for range 2 { // once it is set, setting it again changes nothing
			if _, err := q.Set(alice, id, s); err != nil {
				t.Fatal(err)
			}
		}
		j := untilState(t, q, id, bits.Transferred)
		if first := o.requests()[0]; (first == "bytes=0-") != afresh || (j.Files[0].Note != "") != afresh {
			t.Errorf("with %s it is asked for with %q; %+v", flags, o.requests(), j.Files[0])
		}
		completed(t, q, id, path, o.content)
	}
}

func TestDynamicContent(t *testing.T) {
	var made atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := made.Add(1)
		if r.Method != http.MethodGet || r.Header.Get("Range") != "" || r.Header.Get("If-Range") != "" {
			t.Errorf("asked with %s %v", r.Method, r.Header)
		}
		w.Header().Set("Etag", fmt.Sprintf(`"%d"`, n)) // another one each time
		if n == 1 {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "cut off")
			return
		}
		_, _ = fmt.Fprintf(w, "content %d", n)
		w.(http.Flusher).Flush() // so that no length is told
		_, _ = io.WriteString(w, ".")
	}))
	defer s.Close()
	q := open(t, t.TempDir())
	defer shut(t, q)
	path := filepath.Join(t.TempDir(), "f")
	id := createWith(t, q, []string{"dynamic_content=true"}, bits.FileSpec{Remote: s.URL, Local: path})
	resume(t, q, id)
	// One that was resumed after it, and is no more urgent, is done; this one does not begin.
	later := createWith(t, q, nil, bits.FileSpec{Remote: newOrigin(t, 1000).URL, Local: filepath.Join(t.TempDir(), "later")})
	resume(t, q, later)
	untilState(t, q, later, bits.Transferred)
	if j, err := q.Get(alice, id, false); err != nil || j.State != bits.Queued || made.Load() > 0 {
		t.Errorf("in the background it is %v, %d requests, %v", j.State, made.Load(), err)
	}
	if _, err := q.Set(alice, id, bits.Settings{Priority: new(bits.Foreground)}); err != nil {
		t.Fatal(err)
	}
	untilState(t, q, id, bits.Transferred)
	completed(t, q, id, path, []byte("content 2."))
}

func TestMaximumDownloadSize(t *testing.T) {
	for name, length := range map[string]bool{"the server tells the size": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if length {
					w.Header().Set("Content-Length", "1000")
				}
				for range 10 {
					_, _ = w.Write(make([]byte, 100))
					w.(http.Flusher).Flush()
				}
			}))
			defer s.Close()
			q := open(t, t.TempDir())
			defer shut(t, q)
			for most, want := range map[int]bits.State{2000: bits.Transferred, 1999: bits.Errored} {
				dir := t.TempDir()
				id := createWith(t, q, []string{"dynamic_content=true", "priority=FOREGROUND", fmt.Sprint("maximum_download_size=", most)},
					bits.FileSpec{Remote: s.URL, Local: filepath.Join(dir, "a")}, bits.FileSpec{Remote: s.URL, Local: filepath.Join(dir, "b")})
				resume(t, q, id)
				if j := untilState(t, q, id, want); want == bits.Errored && j.Error.Code != bits.MaxDownloadSizeReached.Name() {
					t.Errorf("%+v", j.Error)
				}
			}
		})
	}
	o := newOrigin(t, 10_000)
	q := open(t, t.TempDir())
	defer shut(t, q)
	id := createWith(t, q, []string{"maximum_download_size=150"}, bits.FileSpec{Remote: o.URL, Local: filepath.Join(t.TempDir(), "a"), Ranges: ranges("0:100,5000:51")})
	resume(t, q, id)
	if j := untilState(t, q, id, bits.Errored); j.Error.Code != bits.MaxDownloadSizeReached.Name() {
		t.Errorf("%+v", j.Error)
	}
}

func TestHighPerformance(t *testing.T) {
	o := newOrigin(t, 2<<20)
	dir, files := t.TempDir(), t.TempDir()
	q := open(t, dir)
	path := func(name string) string { return filepath.Join(files, name) }
	id := createWith(t, q, []string{"high_performance=true"})
	if _, err := q.AddFiles(alice, id, []bits.FileSpec{{Remote: o.URL, Local: path("a")}, {Remote: o.URL, Local: path("b"), Ranges: ranges("10:100")}}); err != nil {
		t.Fatal(err)
	}
	resume(t, q, id)
	j := untilState(t, q, id, bits.Transferred)
	if got, err := os.ReadFile(path("a")); err != nil || !bytes.Equal(got, o.content) {
		t.Errorf("before Complete the file has %d bytes, %v", len(got), err)
	}
	if j.Files[0].Temporary != path("a") {
		t.Errorf("the temporary name is %s", j.Files[0].Temporary)
	}
	completed(t, q, id, path("b"), o.content[10:110])
	completedFiles, _ := os.ReadDir(files)
	if len(completedFiles) != 2 {
		t.Errorf("there are %v", completedFiles)
	}

	o.change(func() { o.pause, o.asked = 5*time.Millisecond, nil })
	id = createWith(t, q, []string{"high_performance=true", "priority=FOREGROUND"})
	if _, err := q.AddFiles(alice, id, []bits.FileSpec{{Remote: o.URL, Local: path("c")}}); err != nil {
		t.Fatal(err)
	}
	resume(t, q, id)
	until(t, q, id, "begun", func(j bits.Job) bool { return j.Progress.BytesTransferred > 50_000 })
	if _, err := q.Cancel(alice, id); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path("c")); err != nil {
		t.Errorf("Cancel deleted the file: %v", err)
	}
	// What another job, or its owner, puts there meanwhile is not taken for this job's: neither a removal
	// nor Cancel touches it, and nothing else is left.
	for _, name := range []string{"d", "e"} {
		if err := os.WriteFile(path(name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	id = createWith(t, q, []string{"high_performance=true"})
	if _, err := q.AddFiles(alice, id, []bits.FileSpec{{Remote: o.URL, Local: path("c")}, {Remote: o.URL, Local: path("d")}, {Remote: o.URL, Local: path("e")}}); err != nil {
		t.Fatal(err)
	}
	if err := q.RemoveFile(alice, id, 1); err != nil {
		t.Fatal(err)
	}
	resume(t, q, id)
	until(t, q, id, "begun", func(j bits.Job) bool { return j.Progress.BytesTransferred > 50_000 })
	if err := q.RemoveFile(alice, id, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Suspend(alice, id); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Cancel(alice, id); err != nil {
		t.Fatal(err)
	}
	shut(t, q)
	if got, err := os.ReadFile(path("d")); err != nil || string(got) != "mine" {
		t.Errorf("the file of a removed one has %d bytes, %v", len(got), err)
	}
	if left, _ := os.ReadDir(files); len(left) != 5 {
		t.Errorf("there are %v", left)
	}
}

func TestValidation(t *testing.T) {
	o := newOrigin(t, 10_000)
	q := open(t, t.TempDir())
	defer shut(t, q)
	path := filepath.Join(t.TempDir(), "f")
	id := createWith(t, q, nil, bits.FileSpec{Remote: o.URL, Local: path})
	validate := func(right bool, want bits.Code) {
		t.Helper()
		if _, err := q.SetValidated(alice, id, 0, right); codeOf(err) != want {
			t.Errorf("validated %v: %v, want %s", right, err, want.Name())
		}
	}
	validate(true, bits.Pending)
	resume(t, q, id)
	untilState(t, q, id, bits.Transferred)
	validate(false, bits.OK)
	j, err := q.Get(alice, id, true)
	if err != nil || j.State != bits.Errored || j.Error.Code != bits.ValidationFailed.Name() || j.Progress.BytesTransferred != 0 || j.Files[0].Validated {
		t.Errorf("%+v, %v", j, err)
	}
	validate(true, bits.Pending)
	// All of it is fetched again, though the server calls it the same, and is right.
	o.change(func() { o.content, o.asked = append([]byte("other"), o.content[5:]...), nil })
	resume(t, q, id)
	if j := untilState(t, q, id, bits.Transferred); j.Error != nil || j.Files[0].Validated || !slices.Equal(o.requests(), []string{"bytes=0-"}) {
		t.Errorf("%+v, asked for with %q", j, o.requests())
	}
	validate(true, bits.OK)
	if j, err := q.Get(alice, id, true); err != nil || !j.Files[0].Validated || j.State != bits.Transferred {
		t.Errorf("%+v, %v", j, err)
	}
	completed(t, q, id, path, o.content)
	if j, err := q.Get(alice, id, true); err != nil || !j.Files[0].Validated {
		t.Errorf("after Complete: %+v, %v", j, err)
	}
	validate(true, bits.InvalidState)
}

// TestAnotherMethodsErrorsAreFatal: and what was here is fetched again (client.md 1.9).
func TestAnotherMethodsErrorsAreFatal(t *testing.T) {
	content := strings.Repeat("ebb", 100_000)
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		if r.URL.Path == "/fails" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		n := asked.Add(1)
		if r.Method != http.MethodPost || r.Header.Get("Range") != "" || r.Header.Get("If-Range") != "" {
			t.Errorf("asked with %s %v", r.Method, r.Header)
		}
		w.Header().Set("Accept-Ranges", "bytes")
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		if n == 1 {
			_, _ = io.WriteString(w, content[:len(content)/2])
			return
		}
		_, _ = io.WriteString(w, content)
	}))
	defer s.Close()
	q := open(t, t.TempDir())
	defer shut(t, q)
	for method, want := range map[string]bits.State{"POST": bits.Errored, "": bits.TransientError} {
		id := createWith(t, q, []string{"http_method=" + method}, bits.FileSpec{Remote: s.URL + "/fails", Local: filepath.Join(t.TempDir(), "f")})
		resume(t, q, id)
		untilState(t, q, id, want)
	}
	path := filepath.Join(t.TempDir(), "f")
	id := createWith(t, q, []string{"http_method=POST"}, bits.FileSpec{Remote: s.URL + "/cut", Local: path})
	resume(t, q, id)
	untilState(t, q, id, bits.Errored)
	if n := asked.Load(); n != 1 {
		t.Errorf("before anybody resumed the job it was asked for %d times", n)
	}
	resume(t, q, id)
	untilState(t, q, id, bits.Transferred)
	completed(t, q, id, path, []byte(content))
}

// TestTheLastAnswersHeader: a program can read what the server said of a file while the file moves, and
// of an error, when that has ended the job and after a restart of the service.
func TestTheLastAnswersHeader(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings []string
		ranges   []bits.Range
		status   int // of an answer with bytes that do not come; 0 for none
		line     string
	}{
		{"from front to back", nil, nil, http.StatusOK, "HTTP/1.1 200 OK"},
		{"in parts", nil, []bits.Range{{Offset: 2, Length: 4}}, http.StatusPartialContent, "HTTP/1.1 206 Partial Content"},
		{"on demand", []string{"on_demand=true"}, nil, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			status := make(chan int, 1)
			hold := make(chan struct{})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				code := <-status
				w.Header().Set("Retry-After", "86400")
				w.Header().Set("Set-Cookie", "id=secret")
				switch code {
				case http.StatusOK:
					w.Header().Set("Content-Length", "10")
				case http.StatusPartialContent:
					w.Header().Set("Content-Range", "bytes 2-5/10")
					w.Header().Set("Content-Length", "4")
				}
				w.WriteHeader(code)
				if code < 300 {
					_ = http.NewResponseController(w).Flush()
					<-hold
				}
			}))
			t.Cleanup(srv.Close)
			dir := t.TempDir()
			q := open(t, dir)
			id := createWith(t, q, c.settings, bits.FileSpec{Remote: srv.URL, Local: filepath.Join(t.TempDir(), "f"), Ranges: c.ranges})
			header := func() string {
				t.Helper()
				f, err := q.File(alice, id, 0)
				if err != nil {
					t.Fatal(err)
				}
				return f.ResponseHeaders
			}
			tells := func(line string) {
				t.Helper()
				got := header()
				if !strings.HasPrefix(got, line+"\r\n") || !strings.Contains(got, "\r\nRetry-After: 86400\r\n") || strings.Contains(got, "secret") {
					t.Errorf("the header is %q, want that of %q", got, line)
				}
			}
			if got := header(); got != "" {
				t.Errorf("before the first answer the header is %q", got)
			}
			status <- http.StatusNotFound
			resume(t, q, id)
			untilState(t, q, id, bits.Errored)
			tells("HTTP/1.1 404 Not Found")
			until(t, q, id, "one without a part file", func(j bits.Job) bool { return j.Files[0].Temporary == "" })
			status <- http.StatusServiceUnavailable
			resume(t, q, id)
			untilState(t, q, id, bits.TransientError)
			tells("HTTP/1.1 503 Service Unavailable")
			shut(t, q)
			q = open(t, dir)
			tells("HTTP/1.1 503 Service Unavailable")
			if c.status != 0 {
				status <- c.status
				resume(t, q, id)
				until(t, q, id, "answered", func(bits.Job) bool { return strings.HasPrefix(header(), c.line) })
				tells(c.line)
			}
			close(hold)
			shut(t, q)
		})
	}
}
