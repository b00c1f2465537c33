package scenario

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// mirror is a file on a server of its own.
type mirror struct {
	*faultserver.Entry
	srv *faultserver.Server
}

func (m mirror) sent() int64 { return m.srv.Sent("/image.iso") }

// mirrored is a file on several servers.
func mirrored(t *testing.T, f faultserver.File, n int) []mirror {
	var out []mirror
	for range n {
		srv := serve(t, faultserver.Options{})
		out = append(out, mirror{srv.File("/image.iso", f), srv})
	}
	return out
}

// spec is a file of a job with the URLs of entries.
func (s *service) mirrors(name string, entries ...mirror) bits.FileSpec {
	f := s.file(entries[0].URL(), name)
	for _, e := range entries[1:] {
		f.Mirrors = append(f.Mirrors, e.URL())
	}
	return f
}

func TestAMirrorTakesOver(t *testing.T) {
	t.Parallel()
	const size = 8 * mib
	s := start(t, options{config: fastStall})
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	file := faultserver.File{Seed: 3, Size: size, LastModified: old}
	notFound, busy := faultserver.Program{Status: http.StatusNotFound}, faultserver.Program{Status: http.StatusServiceUnavailable}
	for _, c := range []struct {
		name  string
		first faultserver.Program
		then  faultserver.Program
		most  int64 // bytes that the mirror may have to send
	}{
		{"when the file is not there", notFound, notFound, size},
		{"when the server is overloaded", busy, busy, size},
		{"in the middle", faultserver.Program{Cut: faultserver.Cut{How: faultserver.Close, After: size / 2}}, faultserver.Program{Cut: faultserver.Cut{How: faultserver.Reset}}, size/2 + 512*kib},
		{"when the server stands still", faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: 5 * mib}}, faultserver.Program{Silent: true}, 3*mib + 512*kib},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			e := mirrored(t, file, 2)
			e[0].Script(c.first)
			e[0].Set(func(p *faultserver.Program) { *p = c.then })
			f := s.mirrors(strings.ReplaceAll(c.name, " ", "-"), e...)
			job := s.create(fetched{files: []bits.FileSpec{f}})
			info := s.settled(job, bits.Transferred)
			if info.Files[0].Source != e[1].URL() || !strings.Contains(info.Files[0].Note, "instead") {
				t.Errorf("source %q, note %q", info.Files[0].Source, info.Files[0].Note)
			}
			s.arrives(job, e[1].Entry)
			if n := e[1].sent(); n > c.most {
				t.Errorf("the mirror sent %d bytes, %d were needed", n, c.most)
			}
		})
	}
}

func TestNoMirrorHelps(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	e := mirrored(t, faultserver.File{Seed: 3, Size: mib}, 3)
	e[0].Set(func(p *faultserver.Program) { p.Status = http.StatusNotFound })
	e[1].Set(func(p *faultserver.Program) { p.Status = http.StatusServiceUnavailable })
	e[2].Set(func(p *faultserver.Program) { p.Status = http.StatusNotFound })
	job := s.create(fetched{files: []bits.FileSpec{s.mirrors("a", e...)}})
	// One of them may come back, so the job waits.
	s.untilState(job, bits.TransientError)
	isError(t, s.info(job), bits.HTTPStatus(http.StatusServiceUnavailable), bits.ContextRemoteFile)
	e[1].Set(func(p *faultserver.Program) { p.Status = 0 })
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	s.arrives(job, e[1].Entry)
}

// TestAMirrorWithAnotherFile has a mirror whose content is not that of the first source.
func TestAMirrorWithAnotherFile(t *testing.T) {
	t.Parallel()
	const size = 4 * mib
	s := start(t, options{config: fastStall})
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	e := mirrored(t, faultserver.File{Seed: 1, Size: size, LastModified: old}, 2)
	t.Run("that has the same size and date, against a checksum", func(t *testing.T) {
		s := s.in(t)
		e[1].Replace(faultserver.File{Seed: 2, Size: size, LastModified: old})
		f := s.mirrors("digest", e...)
		f.Checksum = "sha256:" + e[0].SHA256()
		reset := faultserver.Program{Cut: faultserver.Cut{How: faultserver.Reset}}
		e[0].Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Close, After: size / 2}}, reset, reset, reset, reset)
		s.arrives(s.create(fetched{files: []bits.FileSpec{f}}), e[0].Entry)
	})
	t.Run("that has another date", func(t *testing.T) {
		s := s.in(t)
		e := mirrored(t, faultserver.File{Seed: 1, Size: size, LastModified: old}, 2)
		e[1].Replace(faultserver.File{Seed: 2, Size: size, LastModified: old.Add(time.Minute)})
		e[0].Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Close, After: size / 2}})
		e[0].Set(func(p *faultserver.Program) { p.Cut = faultserver.Cut{How: faultserver.Reset} })
		job := s.create(fetched{files: []bits.FileSpec{s.mirrors("date", e...)}})
		s.arrives(job, e[1].Entry) // none but it can send the rest, so it starts again there
	})
}

func TestTheURLOfAFileThatMoves(t *testing.T) {
	t.Parallel()
	const size = 4 * mib
	s := start(t, options{})
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	stalls := faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: size / 2}}
	t.Run("to the same file", func(t *testing.T) {
		s := s.in(t)
		e := mirrored(t, faultserver.File{Seed: 1, Size: size, LastModified: old}, 2)
		e[0].Set(func(p *faultserver.Program) { *p = stalls })
		job := s.create(fetched{files: []bits.FileSpec{s.mirrors("same", e[0])}})
		s.moved(job, size/2)
		if o, err := job.SetRemoteName(s.ctx(), 0, e[1].URL()); err != nil || o.Code != bits.OK.Name() {
			t.Fatal(o, err)
		}
		if o, err := job.SetRemoteName(s.ctx(), 0, e[1].URL()); err != nil || o.Code != bits.False.Name() {
			t.Fatal(o, err)
		}
		s.arrives(job, e[1].Entry)
		if n := e[1].sent(); n > size/2+mib {
			t.Errorf("the second server sent %d bytes; half of %d were here", n, size)
		}
	})
	t.Run("to another file", func(t *testing.T) {
		s := s.in(t)
		e := mirrored(t, faultserver.File{Seed: 1, Size: size, LastModified: old}, 2)
		e[1].Replace(faultserver.File{Seed: 2, Size: size, LastModified: old.Add(time.Hour)})
		e[0].Set(func(p *faultserver.Program) { *p = stalls })
		job := s.create(fetched{files: []bits.FileSpec{s.mirrors("other", e[0])}})
		s.moved(job, size/2)
		prefix := strings.TrimSuffix(e[0].URL(), "image.iso")
		if o, err := job.ReplaceRemotePrefix(s.ctx(), prefix, strings.TrimSuffix(e[1].URL(), "image.iso")); err != nil || o.Code != bits.OK.Name() {
			t.Fatal(o, err)
		}
		if o, err := job.ReplaceRemotePrefix(s.ctx(), prefix, "http://127.0.0.1/"); err != nil || o.Code != bits.False.Name() {
			t.Fatal(o, err)
		}
		s.arrives(job, e[1].Entry)
	})
	t.Run("of a job in ERROR, over a restart", func(t *testing.T) {
		s := start(t, options{})
		e := mirrored(t, faultserver.File{Seed: 1, Size: size, LastModified: old}, 2)
		e[0].Set(func(p *faultserver.Program) { p.Status = http.StatusGone })
		job := s.create(fetched{files: []bits.FileSpec{s.mirrors("gone", e[0])}})
		s.settled(job, bits.Errored)
		s.cli("file", "url", job.ID.String(), "gone", e[1].URL()).want(t, 0)
		s.restart()
		if err := job.Resume(s.ctx()); err != nil {
			t.Fatal(err)
		}
		s.arrives(job, e[1].Entry)
	})
}

func TestFilesAreSkippedAndRemoved(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	srv := serve(t, faultserver.Options{})
	const size = 2 * mib
	var files []bits.FileSpec
	var entries []*faultserver.Entry
	for i := range 4 {
		e := srv.File(fmt.Sprintf("/%d", i), faultserver.File{Seed: uint64(i), Size: size})
		entries = append(entries, e)
		files = append(files, s.file(e.URL(), fmt.Sprint(i)))
	}
	stall := func(p *faultserver.Program) { p.Cut = faultserver.Cut{How: faultserver.Stall, After: mib} }
	entries[0].Set(stall)
	entries[2].Set(func(p *faultserver.Program) { p.Status = http.StatusNotFound })
	entries[3].Set(stall)
	job := s.create(fetched{files: files})
	s.moved(job, mib)
	s.cli("file", "skip", job.ID.String(), "0").want(t, 0)
	s.settled(job, bits.Errored) // for file 2
	if err := job.RemoveFile(s.ctx(), 2); err != nil {
		t.Fatal(err)
	}
	if err := job.RemoveFile(s.ctx(), 2); err == nil {
		t.Error("a file was removed twice")
	}
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	s.moved(job, size+mib)
	if err := job.RemoveFile(s.ctx(), 3); err != nil {
		t.Fatal(err)
	}
	s.restart() // the service may go away at once
	info := s.settled(job, bits.Transferred)
	if len(info.Files) != 2 || info.Progress.FilesTotal != 2 || !info.Files[0].Skipped || info.Files[1].Index != 1 {
		t.Fatalf("files %+v, progress %+v", info.Files, info.Progress)
	}
	// A skipped file may be taken in again.
	entries[0].Set(func(p *faultserver.Program) { *p = faultserver.Program{} })
	if o, err := job.SkipFile(s.ctx(), 0, false); err != nil || o.Code != bits.OK.Name() {
		t.Fatal(o, err)
	}
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	s.settled(job, bits.Transferred)
	s.complete(job)
	s.holds("0", "1")
}

// TestMirrorsThatAServerNames has a server that names a mirror and the digest of the file.
func TestMirrorsThatAServerNames(t *testing.T) {
	t.Parallel()
	s := start(t, options{config: fastStall})
	body := strings.Repeat("0123456789abcdef", mib/16)
	var asked []string
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("X-Secret"))
		http.ServeContent(w, r, "a", time.Now().Add(-time.Hour), strings.NewReader(body))
	}))
	t.Cleanup(mirror.Close)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", fmt.Sprintf(`<%s/a>; rel=duplicate; pri=1, </b>; rel="describedby"`, mirror.URL))
		w.Header().Set("Repr-Digest", "sha-256=:"+base64Of(checksum("sha256", []byte(body)))+":")
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write([]byte(body[:len(body)/2]))
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(broken.Close)
	job := s.create(fetched{files: []bits.FileSpec{s.file(broken.URL+"/a", "a")}, settings: bits.Settings{Headers: &[]string{"X-Secret: 7"}}})
	info := s.settled(job, bits.Transferred)
	s.complete(job)
	got, err := os.ReadFile(filepath.Join(s.dir, "a"))
	if err != nil || string(got) != body {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if info.Files[0].Source != mirror.URL+"/a" {
		t.Errorf("source %q", info.Files[0].Source)
	}
	for _, h := range asked {
		if h != "" {
			t.Error("a header for one server went to another that it named")
		}
	}
}

func base64Of(sum string) string {
	b, _ := hex.DecodeString(strings.TrimPrefix(sum, "sha256:"))
	return base64.StdEncoding.EncodeToString(b)
}

func TestOnlyIfNewer(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	srv := serve(t, faultserver.Options{})
	date := time.Now().Add(-time.Hour).Truncate(time.Second)
	e := srv.File("/a", faultserver.File{Seed: 1, Size: mib, LastModified: date})
	get := func() result { return s.cli("get", "-N", "--json", e.URL()).want(t, 0) }
	get()
	s.isWhole(filepath.Join(s.dir, "a"), e)
	before := srv.Sent("/a")
	var job bits.Job
	get().decode(t, &job)
	if !job.Files[0].Skipped || job.State != bits.Acknowledged {
		t.Errorf("file %+v of a job that is %s", job.Files[0], job.State)
	}
	if n := srv.Sent("/a") - before; n > mib/2 {
		t.Logf("%d bytes were sent of a file that is here", n)
	}
	e.Replace(faultserver.File{Seed: 2, Size: mib, LastModified: date.Add(time.Minute)})
	get()
	s.isWhole(filepath.Join(s.dir, "a"), e)
	e.Replace(faultserver.File{Seed: 3, Size: mib + 1, LastModified: date})
	get() // not newer, but another size
	s.isWhole(filepath.Join(s.dir, "a"), e)
	s.holds("a")
}

func TestFilesOfThisMachine(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	from := t.TempDir()
	content := make([]byte, 3*mib+7)
	_, _ = faultserver.Content(9, int64(len(content))).ReadAt(content, 0)
	source := filepath.Join(from, "a b.iso")
	if err := os.WriteFile(source, content, 0o644); err != nil {
		t.Fatal(err)
	}
	date := time.Now().Add(-time.Hour)
	if err := os.Chtimes(source, date, date); err != nil {
		t.Fatal(err)
	}
	s.cli("get", "file://"+strings.ReplaceAll(source, " ", "%20")).want(t, 0)
	copied := filepath.Join(s.dir, "a b.iso")
	got, err := os.ReadFile(copied)
	if err != nil || string(got) != string(content) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if info, err := os.Stat(copied); err != nil || !info.ModTime().Equal(date) {
		t.Errorf("the copy's date is %v, want %v", info.ModTime(), date)
	}
	for _, c := range []struct {
		url  string
		code bits.Code
	}{
		{"file://" + from + "/none", bits.FileNotFound},
		{"file://" + from + "/none/at/all", bits.PathNotFound},
		{"file:///dev/zero", bits.InvalidArg},
		{"file://" + filepath.Dir(from), bits.InvalidArg},
		{"smb://nosuchserver/share/a", bits.PathNotFound},
	} {
		job := s.fetch(c.url, "x")
		s.settled(job, bits.Errored)
		isError(t, s.info(job), c.code, bits.ContextRemoteFile)
	}
}

// says expects a verb about a job to print all of want, and nothing of what of it begins with "!".
func (s *service) says(job *client.Job, verb string, want ...string) {
	s.t.Helper()
	out := s.cli(verb, job.ID.String()).want(s.t, 0).out
	for _, w := range want {
		w, not := strings.CutPrefix(w, "!")
		if strings.Contains(out, w) == not {
			s.t.Errorf("%s prints %q; %q should be in it: %v", verb, out, w, !not)
		}
	}
}

// TestExplainTruth asks about jobs that nothing but the right advice gets on.
func TestExplainTruth(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	srv := serve(t, faultserver.Options{})
	url := srv.File("/f", faultserver.File{Seed: 1, Size: 100 * kib}).URL()

	dynamic := s.create(fetched{priority: bits.Normal, settings: bits.Settings{Options: bits.Options{DynamicContent: ptr(true)}}, files: []bits.FileSpec{s.file(url, "dynamic")}})
	s.says(dynamic, "explain", "Dynamic content", "priority=foreground", "!about to start")
	s.says(dynamic, "show", "waits", "Dynamic content")
	s.cli("set", dynamic.ID.String(), "priority=foreground").want(t, 0)
	s.settled(dynamic, bits.Transferred)

	demand := s.create(fetched{settings: bits.Settings{Options: bits.Options{OnDemand: ptr(true)}}, files: []bits.FileSpec{s.file(url, "demand")}, waits: true})
	s.cli("file", "ranges", demand.ID.String(), "0", "0:10").want(t, 0)
	s.cli("resume", demand.ID.String()).want(t, 0)
	s.until(demand, "exhausted", func(j *bits.Job) bool { return j.State == bits.Suspended && j.Progress.BytesTransferred >= 10 })
	s.says(demand, "explain", "ebb file ranges "+demand.ID.String()[:8], "!ebb resume")
	s.says(demand, "show", "on_demand")

	denied := srv.File("/denied", faultserver.File{Seed: 1, Size: 1})
	denied.Set(func(p *faultserver.Program) { p.Status = http.StatusUnauthorized })
	locked := s.fetch(denied.URL(), "locked")
	s.settled(locked, bits.Errored)
	s.says(locked, "explain", "ebb credentials set "+locked.ID.String()[:8]+" server", "ebb complete "+locked.ID.String()[:8])
	s.says(locked, "show", "ebb credentials set JOB server")

	file, _ := s.source("up", 10, 1)
	up := s.upload(uploaded{url: srv.URL() + "/none/up", file: file})
	s.settled(up, bits.Errored)
	s.says(up, "explain", "ebb resume", "ebb cancel", "!ebb complete")
	s.cli("complete", up.ID.String()).want(t, 6)

	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer hooks.Close()
	told := bits.Options{NotifyCommand: &[]string{"/bin/false"}, NotifyURL: ptr(hooks.URL + "/x?token=geheim")}
	for _, job := range []*client.Job{s.told(url, told), s.told(srv.URL()+"/none", told)} {
		s.until(job, "told in vain", func(j *bits.Job) bool { return j.Failure != nil && j.Hook != nil })
		s.says(job, "explain", "/bin/false failed", "web hook", "418", "tried again in", "notify_command=", "!geheim")
		s.says(job, "show", "not told", "/bin/false failed", "418", "attempts")
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	s := start(t, options{config: "[jobs]\nforeground = 1\n[transfer]\nstall_timeout = \"10m\"\n"})
	srv := serve(t, faultserver.Options{})
	stalls := srv.File("/stalls", faultserver.File{Seed: 1, Size: 4 * mib})
	stalls.Set(func(p *faultserver.Program) { p.Cut = faultserver.Cut{How: faultserver.Stall, After: mib} })
	gone := srv.File("/gone", faultserver.File{Seed: 1, Size: 1})
	gone.Set(func(p *faultserver.Program) { p.Status = http.StatusGone })
	busy := srv.File("/busy", faultserver.File{Seed: 1, Size: 1})
	busy.Set(func(p *faultserver.Program) { p.Status = http.StatusServiceUnavailable })
	says := func(job *client.Job, want ...string) {
		t.Helper()
		s.says(job, "explain", want...)
	}
	empty := s.create(fetched{waits: true})
	says(empty, "has no files", "ebb add")
	waits := s.create(fetched{waits: true, files: []bits.FileSpec{s.file(gone.URL(), "w")}})
	says(waits, "never started", "ebb resume")
	errored := s.fetch(gone.URL(), "gone")
	s.settled(errored, bits.Errored)
	says(errored, "410", "ebb file skip", "ebb resume")
	transient := s.fetch(busy.URL(), "busy")
	s.untilState(transient, bits.TransientError)
	says(transient, "503", "next attempt is in", "no_progress_timeout")
	first := s.create(fetched{name: "the first", files: []bits.FileSpec{s.file(stalls.URL(), "s")}})
	s.moved(first, mib)
	s.silent(first, "has sent nothing for ", "after 10 min at the latest")
	second := s.create(fetched{files: []bits.FileSpec{s.file(srv.File("/b", faultserver.File{Size: 1}).URL(), "b")}})
	says(second, "1 foreground jobs run", `"the first"`)
	if _, err := first.Cancel(s.ctx()); err != nil {
		t.Fatal(err)
	}
	s.settled(second, bits.Transferred)
	says(second, "ebb complete")

	// What nobody answers.
	s.reconfigure("[jobs]\nforeground = 3\n[transfer]\nstall_timeout = \"10m\"\n")
	mute := srv.File("/mute", faultserver.File{Seed: 1, Size: 1})
	mute.Set(func(p *faultserver.Program) { p.Silent = true })
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and nothing else
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	file, _ := s.source("up", 10, 1)
	for _, c := range []struct {
		job  *client.Job
		says []string
	}{
		{s.fetch(mute.URL(), "mute"), []string{strings.TrimPrefix(srv.URL(), "http://") + " has not answered for ", "after 60 s at the latest the connection is given up and made again"}},
		{s.fetch("https://"+deaf.Addr().String()+"/", "deaf"), []string{"no connection to " + deaf.Addr().String()}},
		{s.upload(uploaded{url: "http://" + deaf.Addr().String() + "/up", file: file}), []string{deaf.Addr().String() + " has not answered for ", "after 5 min"}},
	} {
		info := s.silent(c.job, c.says...)
		if info.State != bits.Connecting {
			t.Errorf("the job is %s, and nothing came for it", info.State)
		}
		says(c.job, c.says[1:]...)
		s.says(c.job, "show", append(c.says[1:], "waits")...)
		if _, err := c.job.Cancel(s.ctx()); err != nil {
			t.Fatal(err)
		}
	}
}

// silent waits until a job is told to wait for a silent server, in these words.
func (s *service) silent(job *client.Job, says ...string) *bits.Job {
	s.t.Helper()
	return s.until(job, "waiting for a server", func(j *bits.Job) bool {
		if j.Pace == nil || j.Pace.State != bits.PaceSilent {
			return false
		}
		for _, w := range says {
			if !strings.Contains(j.Pace.Why, w) {
				return false
			}
		}
		return true
	})
}

// TestDirectoriesAndWildcards brings a directory to a server and files of this machine from one place to another.
func TestDirectoriesAndWildcards(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	srv := startServing(t, "", "--uploads")
	want := map[string]string{"a.txt": "one", "sub/b.txt": "two", "sub/c d%.txt": "three"}
	for name, text := range want {
		file := filepath.Join(s.dir, "tree", filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	are := func(dir string) {
		t.Helper()
		for name, text := range want {
			if got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err != nil || string(got) != text {
				t.Errorf("%s is %q, %v; want %q", name, got, err, text)
			}
		}
	}
	for _, dir := range []string{"bits/tree/sub", "auto/tree/sub", "list/in/it/sub"} { // servers make none
		if err := os.MkdirAll(filepath.Join(srv.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, protocol := range []string{"bits", "auto"} {
		s.cli("put", "--protocol", protocol, "tree", srv.url+"/"+protocol).want(t, 0)
		are(filepath.Join(srv.dir, protocol, "tree"))
	}
	if err := os.WriteFile(filepath.Join(s.dir, "list.csv"), []byte("Source,Destination\ntree/,in/it\ntree/a.txt,"+srv.url+"/other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.cli("put", "-i", "list.csv", srv.url+"/list").want(t, 0)
	are(filepath.Join(srv.dir, "list", "in", "it"))
	if got, err := os.ReadFile(filepath.Join(srv.dir, "other")); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
	s.cli("get", "file://"+s.dir+"/tre*/", filepath.Join(s.dir, "new")).want(t, 2) // it is not there
	if err := os.Mkdir(filepath.Join(s.dir, "new"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.cli("get", "file://"+s.dir+"/tre*", "new").want(t, 0)
	are(filepath.Join(s.dir, "new", "tree"))
	if got := s.cli("get", srv.url+"/list/*", "new").want(t, 2).err; !strings.Contains(got, "servers have no listing") {
		t.Errorf("the error says %q", got)
	}
}

func TestMetalinkAtAURL(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	srv := serve(t, faultserver.Options{})
	e := srv.File("/f", faultserver.File{Seed: 4, Size: mib})
	gone := srv.File("/gone", faultserver.File{})
	gone.Set(func(p *faultserver.Program) { p.Status = http.StatusNotFound })
	doc := func(name string) string {
		return fmt.Sprintf(`<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name=%q><hash type="sha-256">%s</hash><url priority="1">%s</url><url priority="2">%s</url></file></metalink>`,
			name, e.SHA256(), gone.URL(), e.URL())
	}
	other := newStranger(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "theirs") })
	var docs *httptest.Server
	docs = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("X-Key") != "7":
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Path == "/good":
			fmt.Fprint(w, doc("sub/it"))
		case r.URL.Path == "/bad":
			fmt.Fprint(w, doc("../it"))
		case r.URL.Path == "/strangers":
			fmt.Fprintf(w, `<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="own"><url>%s/text</url></file><file name="theirs"><url>%s/f</url></file><file name="both"><url>%s</url><url>%s/g</url></file></metalink>`,
				docs.URL, other.URL, gone.URL(), other.URL)
		default:
			fmt.Fprint(w, e.URL())
		}
	}))
	defer docs.Close()
	if err := os.Mkdir(filepath.Join(s.dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	get := func(path string, code int, says string, more ...string) {
		t.Helper()
		args := append([]string{"get", "--header", "X-Key: 7", "-i", docs.URL + path}, more...)
		if r := s.cli(args...).want(t, code); !strings.Contains(r.err+r.out, says) {
			t.Errorf("%s: %q does not say %q", path, r.err+r.out, says)
		}
	}
	get("/good", 0, "  or "+e.URL(), "--dry-run")
	get("/good", 0, "sub/it")
	s.isWhole(filepath.Join(s.dir, "sub", "it"), e)
	get("/bad", 2, "leaves the directory")
	get("/text", 2, "is no Metalink 4 document")
	get("/strangers", 0, "theirs") // whose first file is not to be had without the header
	other.heardNothing(t)
	s.cli("get", "-i", docs.URL+"/good").want(t, 1)
}
