package queue

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/policy"
	servebits "github.com/ebbtransfer/ebb/internal/serve/bits"
	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
	"github.com/ebbtransfer/ebb/internal/transfer/bup"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
	"github.com/ebbtransfer/ebb/internal/transfer/put"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// openUploading returns a queue that uploads.
func openUploading(t *testing.T, dir string) *Queue {
	t.Helper()
	s, err := store.Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	gov := governor.New("", slog.New(slog.DiscardHandler))
	conns := httpconn.New("test", gov)
	engine := transfer.NewEngine(httpget.New(conns), time.Second, map[upload.Protocol]upload.Uploader{upload.BITS: bup.New(conns), upload.Put: put.New(conns)})
	q, err := Open(s, engine, gov, policy.Default(), conditions.State{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// writeFile makes a file to upload.
func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// await waits for a state.
func await(t *testing.T, q *Queue, id bits.ID, want bits.State) bits.Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got bits.Job
	look := func() bool {
		var err error
		if got, err = q.Get(alice, id, true); err != nil {
			t.Fatal(err)
		}
		return got.State == want
	}
	after := q.LastEvent()
	if !look() {
		_ = q.Watch(ctx, alice, Filter{Jobs: []bits.ID{id}, After: after}, each(func(bits.Event) error {
			if look() {
				cancel()
			}
			return nil
		}))
	}
	if got.State != want {
		t.Fatalf("the job is %s (%+v), want %s", got.State, got.Error, want)
	}
	return got
}

func TestWhatAnUploadMayBe(t *testing.T) {
	q := openUploading(t, t.TempDir())
	defer shut(t, q)
	file := writeFile(t, "data", []byte("12345"))
	locked := writeFile(t, "locked", nil)
	if err := os.Chmod(locked, 0); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	name := "n"
	job := func(kind bits.Type, s bits.Settings, locals ...string) bits.NewJob {
		s.Name = &name
		j := bits.NewJob{Type: kind, Settings: s}
		for _, l := range locals {
			j.Files = append(j.Files, bits.FileSpec{Remote: "http://127.0.0.1:1/u", Local: l})
		}
		return j
	}
	protocol := func(p bits.Protocol) bits.Settings { return bits.Settings{Protocol: &p} }
	reply := func(path string) bits.Settings { return bits.Settings{ReplyFile: &path} }
	none := bits.Settings{}
	sum := job(bits.Upload, none, file)
	sum.Files[0].Checksum = "sha256:" + strings.Repeat("0", 64)
	denied := bits.AccessDenied
	if os.Geteuid() == 0 {
		denied = bits.OK // root reads all
	}
	for _, c := range []struct {
		what string
		job  bits.NewJob
		want bits.Code
	}{
		{"no file yet", job(bits.Upload, none), bits.OK},
		{"a file", job(bits.Upload, none, file), bits.OK},
		{"a file and a reply", job(bits.UploadReply, none, file), bits.OK},
		{"two files", job(bits.Upload, none, file, file), bits.TooManyFiles},
		{"two files and a reply", job(bits.UploadReply, none, file, file), bits.TooManyFiles},
		{"a missing file", job(bits.Upload, none, file+"x"), bits.FileNotFound},
		{"a directory", job(bits.Upload, none, dir), bits.InvalidArg},
		{"a device", job(bits.Upload, none, "/dev/null"), bits.InvalidArg},
		{"a file that may not be read", job(bits.Upload, none, locked), denied},
		{"a checksum", sum, bits.NotImplemented},
		{"a protocol", job(bits.Upload, protocol(bits.ProtocolTus)), bits.OK},
		{"a download's protocol", job(bits.Download, protocol(bits.ProtocolTus)), bits.NotImplemented},
		{"a reply by tus", job(bits.UploadReply, protocol(bits.ProtocolTus)), bits.InvalidArg},
		{"a reply by bits", job(bits.UploadReply, protocol(bits.ProtocolBITS)), bits.OK},
		{"a reply file", job(bits.UploadReply, reply(filepath.Join(dir, "r")), file), bits.OK},
		{"a reply file of an upload", job(bits.Upload, reply(filepath.Join(dir, "r")), file), bits.NotImplemented},
		{"a reply file of a download", job(bits.Download, reply(filepath.Join(dir, "r"))), bits.NotImplemented},
		{"a reply file in no directory", job(bits.UploadReply, reply("/nonexistent/r"), file), bits.PathNotFound},
		{"a reply file below a file", job(bits.UploadReply, reply(filepath.Join(file, "r")), file), bits.PathNotFound},
		{"a reply file that is a directory", job(bits.UploadReply, reply(dir), file), bits.InvalidArg},
		{"a reply over the file", job(bits.UploadReply, reply(file), file), bits.InvalidArg},
	} {
		if _, err := q.Create(alice, c.job); codeOf(err) != c.want {
			t.Errorf("%s: %v, want %s", c.what, err, c.want)
		}
	}
}

func TestSettingsOfUploads(t *testing.T) {
	dir := t.TempDir()
	q := openUploading(t, dir)
	defer func() { shut(t, q) }()
	file := writeFile(t, "data", []byte("12345"))
	spec := bits.FileSpec{Remote: "http://127.0.0.1:1/u", Local: file}
	name, tus, reply := "n", bits.ProtocolTus, filepath.Join(filepath.Dir(file), "r")
	make := func(kind bits.Type) bits.ID {
		j, err := q.Create(alice, bits.NewJob{Type: kind, Settings: bits.Settings{Name: &name}})
		if err != nil {
			t.Fatal(err)
		}
		return j.ID
	}
	set := func(id bits.ID, s bits.Settings) bits.Code { _, err := q.Set(alice, id, s); return codeOf(err) }
	get := func(id bits.ID) bits.Job {
		j, err := q.Get(alice, id, true)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}

	up := make(bits.Upload)
	if p := get(up).Properties.Protocol; p != bits.ProtocolBITS {
		t.Errorf("the protocol is %q at first, want bits", p)
	}
	if c := set(up, bits.Settings{Protocol: &tus}); c != bits.OK {
		t.Errorf("set the protocol: %s", c)
	}
	if c := set(up, bits.Settings{ReplyFile: &reply}); c != bits.NotImplemented {
		t.Errorf("the reply file of an upload: %s", c)
	}
	if _, err := q.AddFiles(alice, up, []bits.FileSpec{spec}); err != nil {
		t.Error(err)
	}
	if _, err := q.AddFiles(alice, up, []bits.FileSpec{spec}); codeOf(err) != bits.TooManyFiles {
		t.Errorf("a second file: %v", err)
	}
	if j := get(up); j.Progress != (bits.Progress{BytesTotal: 5, FilesTotal: 1}) || j.Reply != nil || j.Files[0].Protocol != tus || j.Files[0].Temporary != "" {
		t.Errorf("the upload is %+v", j)
	}
	if _, err := q.Resume(alice, up); err != nil {
		t.Fatal(err)
	}
	await(t, q, up, bits.Errored) // no such protocol here
	bitsProtocol := bits.ProtocolBITS
	if c := set(up, bits.Settings{Protocol: &bitsProtocol}); c != bits.OK {
		t.Errorf("the protocol after an attempt that sent nothing: %s", c)
	}
	if c := set(up, bits.Settings{Protocol: &tus}); c != bits.OK {
		t.Errorf("the protocol once more: %s", c)
	}
	begun := newBITSServer(t).begin(t, q, bits.Settings{})
	if c := set(begun, bits.Settings{Protocol: &tus}); c != bits.ReadOnlyAfterResume {
		t.Errorf("the protocol of an upload that has begun: %s", c)
	}
	if c := set(begun, bits.Settings{Protocol: &bitsProtocol}); c != bits.OK {
		t.Errorf("the same protocol: %s", c)
	}
	if _, err := q.Complete(alice, up); codeOf(err) != bits.InvalidState {
		t.Errorf("Complete before TRANSFERRED: %v", err)
	}

	rep := make(bits.UploadReply)
	if j := get(rep); j.Reply == nil || *j.Reply != (bits.Reply{BytesTotal: bits.Unknown}) {
		t.Errorf("the reply is %+v at first", j.Reply)
	}
	if _, err := q.AddFiles(alice, rep, []bits.FileSpec{spec}); err != nil {
		t.Error(err)
	}
	if j := get(rep); filepath.Dir(j.Reply.File) != filepath.Dir(file) || !strings.HasPrefix(filepath.Base(j.Reply.File), "data.") {
		t.Errorf("the reply goes to %q, want a name beside %q", j.Reply.File, file)
	}
	if c := set(rep, bits.Settings{ReplyFile: &file}); c != bits.InvalidArg {
		t.Errorf("a reply over the file: %s", c)
	}
	if c := set(rep, bits.Settings{ReplyFile: &reply}); c != bits.OK || get(rep).Reply.File != reply {
		t.Errorf("the reply goes to %q, %s", get(rep).Reply.File, c)
	}
	if _, err := q.ReplyData(alice, rep); codeOf(err) != bits.InvalidState {
		t.Errorf("ReplyData before TRANSFERRED: %v", err)
	}
	if _, err := q.ReplyData(bob, rep); codeOf(err) != bits.NotFound {
		t.Errorf("ReplyData of another user: %v", err)
	}

	shut(t, q)
	q = openUploading(t, dir)
	if j := get(rep); j.Reply.File != reply || j.Type != bits.UploadReply {
		t.Errorf("after a restart: %+v", j)
	}
	if j := get(up); j.Properties.Protocol != tus {
		t.Errorf("after a restart: %+v", j)
	}
}

// receiver is a server that takes files by PUT.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex // guards got
	got   map[string][]byte
	begun chan struct{} // has an element when a body begins
	hold  chan struct{} // closed to let bodies through
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{got: map[string][]byte{}, begun: make(chan struct{}, 16), hold: make(chan struct{})}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.begun <- struct{}{}
		select {
		case <-r.hold:
		case <-req.Context().Done():
			return
		}
		b, err := io.ReadAll(req.Body)
		if err != nil || req.Method != http.MethodPut {
			return
		}
		r.mu.Lock()
		r.got[req.URL.Path] = b
		r.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) file(path string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[path]
}

// start makes an upload of a file by PUT and starts it.
func (r *receiver) start(t *testing.T, q *Queue, file string) bits.ID {
	t.Helper()
	name, protocol, foreground := "n", bits.ProtocolPut, bits.Foreground
	j, err := q.Create(alice, bits.NewJob{Type: bits.Upload, Settings: bits.Settings{Name: &name, Protocol: &protocol, Priority: &foreground}, Resume: true,
		Files: []bits.FileSpec{{Remote: r.URL + "/u", Local: file}}})
	if err != nil {
		t.Fatal(err)
	}
	return j.ID
}

func TestUploadByPut(t *testing.T) {
	q := openUploading(t, t.TempDir())
	defer shut(t, q)
	r := newReceiver(t)
	close(r.hold)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<17) // 2 MiB
	for _, data := range [][]byte{data, {}} {
		file := writeFile(t, "data", data)
		id := r.start(t, q, file)
		j := await(t, q, id, bits.Transferred)
		if n := int64(len(data)); j.Progress != (bits.Progress{BytesTotal: bits.Size(n), BytesTransferred: n, FilesTotal: 1, FilesTransferred: 1}) || !j.Files[0].Completed {
			t.Errorf("the job is %+v", j)
		}
		if got := r.file("/u"); !bytes.Equal(got, data) {
			t.Errorf("the server has %d bytes, want %d", len(got), len(data))
		}
		if c, err := q.Complete(alice, id); c != bits.OK || err != nil {
			t.Errorf("Complete: %s, %v", c, err)
		}
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, data) {
			t.Errorf("the uploaded file has %d bytes, %v", len(now), err)
		}
	}
}

// TestChangedFileEndsItsUpload changes the file when the upload was suspended.
func TestChangedFileEndsItsUpload(t *testing.T) {
	for what, change := range map[string]func(file string) error{
		"longer": func(file string) error { return os.Truncate(file, 33<<20) },
		"rewritten, with its old date": func(file string) error {
			info, err := os.Stat(file)
			if err == nil {
				err = os.WriteFile(file, make([]byte, info.Size()), 0o600)
			}
			if err == nil {
				err = os.Chtimes(file, info.ModTime(), info.ModTime())
			}
			return err
		},
		"replaced": func(file string) error {
			if err := os.WriteFile(file+".new", make([]byte, 32<<20), 0o600); err != nil {
				return err
			}
			return os.Rename(file+".new", file)
		},
	} {
		t.Run(what, func(t *testing.T) {
			q := openUploading(t, t.TempDir())
			defer shut(t, q)
			r := newReceiver(t)
			file := writeFile(t, "data", make([]byte, 32<<20)) // more than is under way while the server does not read
			id := r.start(t, q, file)
			<-r.begun
			if _, err := q.Suspend(alice, id); err != nil {
				t.Fatal(err)
			}
			if err := change(file); err != nil {
				t.Fatal(err)
			}
			close(r.hold)
			if _, err := q.Resume(alice, id); err != nil {
				t.Fatal(err)
			}
			j := await(t, q, id, bits.Errored)
			if j.Error.Code != bits.LocalFileChanged.Name() || j.Error.Context != bits.ContextLocalFile || j.Error.File != file {
				t.Errorf("the error is %+v", j.Error)
			}
			if got := r.file("/u"); got != nil {
				t.Errorf("the server has %d bytes", len(got))
			}
		})
	}
}

// TestCancelOfAnUploadKeepsItsFile also cancels after the end.
func TestCancelOfAnUploadKeepsItsFile(t *testing.T) {
	q := openUploading(t, t.TempDir())
	defer shut(t, q)
	r := newReceiver(t)
	file := writeFile(t, "data", []byte("12345"))
	check := func(id bits.ID) {
		t.Helper()
		if c, err := q.Cancel(alice, id); c != bits.OK || err != nil {
			t.Errorf("Cancel: %s, %v", c, err)
		}
		if now, err := os.ReadFile(file); err != nil || string(now) != "12345" {
			t.Errorf("the uploaded file is %q, %v", now, err)
		}
	}
	id := r.start(t, q, file)
	<-r.begun
	check(id)
	close(r.hold)
	id = r.start(t, q, file)
	await(t, q, id, bits.Transferred)
	check(id)
	if got := r.file("/u"); string(got) != "12345" {
		t.Errorf("the server has %q after Cancel of a finished upload", got)
	}
}

// bitsServer is Ebb's own server of BITS uploads, which refuses to end sessions as it is told.
type bitsServer struct {
	*httptest.Server
	store  *session.Dir
	refuse atomic.Int32 // the status for Cancel-Session; 0: as usual
	asked  atomic.Int32 // how often it came
}

func newBITSServer(t *testing.T) *bitsServer {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	st, err := session.OpenDir(dir, session.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	r := &bitsServer{store: st}
	h := servebits.New(&session.Prefix{Path: "/", Root: dir, Store: st, Log: log, SessionTimeout: time.Hour, MaxSize: -1, MaxFragment: 64 << 10, Overwrite: true})
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.EqualFold(req.Header.Get("BITS-Packet-Type"), "Cancel-Session") {
			r.asked.Add(1)
			if status := r.refuse.Load(); status != 0 {
				w.WriteHeader(int(status))
				return
			}
		}
		h.ServeHTTP(w, req)
	}))
	t.Cleanup(func() {
		r.Close()
		st.Close()
	})
	return r
}

func (r *bitsServer) sessions(t *testing.T) (n int) {
	t.Helper()
	infos, err := r.store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(infos)
}

// begin starts an upload and suspends it in the middle.
func (r *bitsServer) begin(t *testing.T, q *Queue, s bits.Settings) bits.ID {
	t.Helper()
	s.Name, s.Priority = new("n"), new(bits.Foreground)
	j, err := q.Create(alice, bits.NewJob{Type: bits.Upload, Settings: s, Resume: true, Files: []bits.FileSpec{{Remote: r.URL + "/u", Local: writeFile(t, "data", make([]byte, 64<<20))}}})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if got, err := q.Get(alice, j.ID, false); err != nil || got.Progress.BytesTransferred > 0 || time.Now().After(deadline) {
			break
		}
	}
	if _, err := q.Suspend(alice, j.ID); err != nil {
		t.Fatal(err)
	}
	if n := r.sessions(t); n != 1 {
		t.Fatalf("the server has %d sessions", n)
	}
	return j.ID
}

// farewell returns when the server of a cancelled job is told next; 0 for never again.
func farewell(q *Queue, id bits.ID) int64 {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.byID[id].now.detail().Farewell
}

func TestCancelTellsTheServer(t *testing.T) {
	seconds := func(n int64) *int64 { return &n }
	for _, c := range []struct {
		what   string
		status int32
		set    bits.Settings
		told   bool // at once
		again  bool // it is told again
	}{
		{"a server that listens", 0, bits.Settings{}, true, false},
		{"a server that cannot just now", 503, bits.Settings{}, false, true},
		{"a server that does not want to hear it", 403, bits.Settings{}, false, false},
		{"no time left", 503, bits.Settings{MinimumRetryDelay: seconds(5), NoProgressTimeout: seconds(0)}, false, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			q := openUploading(t, t.TempDir())
			defer shut(t, q)
			r := newBITSServer(t)
			id := r.begin(t, q, c.set)
			r.refuse.Store(c.status)
			if code, err := q.Cancel(alice, id); code != bits.OK || err != nil {
				t.Fatalf("Cancel: %s, %v", code, err)
			}
			before := time.Now()
			for deadline := before.Add(30 * time.Second); r.asked.Load() == 0 || farewell(q, id) != 0 && farewell(q, id) < before.UnixNano(); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the server was asked %d times, and is next at %d", r.asked.Load(), farewell(q, id))
				}
			}
			if n := r.sessions(t); (n == 0) != c.told {
				t.Errorf("the server has %d sessions", n)
			}
			if next := farewell(q, id); (next != 0) != c.again {
				t.Errorf("the next time is %d", next)
			}
			if q.IsBusy() != c.again {
				t.Errorf("the queue is busy: %v", q.IsBusy())
			}
			if j, err := q.Get(alice, id, true); err != nil || j.State != bits.Cancelled || j.Times.RetryAt != nil || strings.HasSuffix(j.Note, bits.NoteServerUntold) != c.again {
				t.Errorf("the job is %+v, %v", j, err)
			}
			if !c.again {
				return
			}
			if d := time.Until(time.Unix(0, farewell(q, id))); d < 3*time.Second || d > 15*time.Second {
				t.Errorf("the server is told again in %v", d)
			}
			r.refuse.Store(0)
			q.NetworkChanged(true) // does not wait for the delay
			for deadline := time.Now().Add(30 * time.Second); farewell(q, id) != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the server is not told again")
				}
			}
			if n := r.sessions(t); n != 0 {
				t.Errorf("the server has %d sessions", n)
			}
		})
	}
}

func TestUploadErrorsHaveTheirOwnHintAndURL(t *testing.T) {
	q := openUploading(t, t.TempDir())
	defer shut(t, q)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(srv.Close)
	file := writeFile(t, "a b", []byte("12345"))
	name, protocol := "n", bits.ProtocolPut
	j, err := q.Create(alice, bits.NewJob{Type: bits.Upload, Settings: bits.Settings{Name: &name, Protocol: &protocol}, Resume: true,
		Files: []bits.FileSpec{{Remote: srv.URL + "/d/", Local: file}}})
	if err != nil {
		t.Fatal(err)
	}
	want := srv.URL + "/d/a%20b"
	got := await(t, q, j.ID, bits.Errored)
	if got.Files[0].Remote != want || got.Error.File != want || !strings.Contains(got.Error.Hint, "choose another name") {
		t.Errorf("the job goes to %q and its error is %+v", got.Files[0].Remote, got.Error)
	}
}

func TestMaximumDownloadTimeGoesBackToThePolicys(t *testing.T) {
	q := openUploading(t, t.TempDir())
	defer shut(t, q)
	name := "n"
	j, err := q.Create(alice, bits.NewJob{Settings: bits.Settings{Name: &name}})
	if err != nil {
		t.Fatal(err)
	}
	by := func() int64 {
		got, err := q.Get(alice, j.ID, false)
		if err != nil {
			t.Fatal(err)
		}
		return got.Properties.MaximumDownloadTime
	}
	policys := by()
	for _, value := range []string{"60", "default"} {
		var s bits.Settings
		if err := s.Set("maximum_download_time", value); err != nil {
			t.Fatal(err)
		}
		if _, err := q.Set(alice, j.ID, s); err != nil {
			t.Fatal(err)
		}
		if got, want := by(), map[string]int64{"60": 60, "default": policys}[value]; got != want {
			t.Errorf("set to %s it is %d, want %d", value, got, want)
		}
	}
}

// TestTheLastAnswerToAnUpload: what the server said last of an upload can be read, without its cookies, also
// when it was an error, after a restart, and when the job is completed.
func TestTheLastAnswerToAnUpload(t *testing.T) {
	for _, protocol := range []bits.Protocol{bits.ProtocolBITS, bits.ProtocolPut} {
		t.Run(string(protocol), func(t *testing.T) {
			r := newBITSServer(t)
			var refuses atomic.Bool
			refuses.Store(true)
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Set-Cookie", "id=secret")
				w.Header().Set("X-Said", req.Header.Get("BITS-Packet-Type"))
				switch {
				case refuses.Load():
					w.WriteHeader(http.StatusNotFound)
				case protocol == bits.ProtocolPut:
					_, _ = io.Copy(io.Discard, req.Body)
					w.WriteHeader(http.StatusCreated)
				default:
					r.Config.Handler.ServeHTTP(w, req)
				}
			}))
			t.Cleanup(front.Close)
			dir := t.TempDir()
			q := openUploading(t, dir)
			name := "n"
			made, err := q.Create(alice, bits.NewJob{Type: bits.Upload, Settings: bits.Settings{Name: &name, Protocol: &protocol},
				Files: []bits.FileSpec{{Remote: front.URL + "/f", Local: writeFile(t, "data", []byte("12345"))}}, Resume: true})
			if err != nil {
				t.Fatal(err)
			}
			tells := func(line, said string) {
				t.Helper()
				f, err := q.File(alice, made.ID, 0)
				if got := f.ResponseHeaders; err != nil || !strings.HasPrefix(got, line+"\r\n") || !strings.Contains(got, "\r\nX-Said: "+said+"\r\n") || strings.Contains(got, "secret") {
					t.Errorf("the header is %q, %v, want that of %q", got, err, line)
				}
			}
			first, end, last := "", "HTTP/1.1 201 Created", ""
			if protocol == bits.ProtocolBITS {
				first, end, last = "Create-Session", "HTTP/1.1 200 OK", "Close-Session"
			}
			await(t, q, made.ID, bits.Errored)
			tells("HTTP/1.1 404 Not Found", first)
			shut(t, q)
			q = openUploading(t, dir)
			tells("HTTP/1.1 404 Not Found", first)
			refuses.Store(false)
			resume(t, q, made.ID)
			await(t, q, made.ID, bits.Transferred)
			tells(end, last)
			if _, err := q.Complete(alice, made.ID); err != nil {
				t.Fatal(err)
			}
			await(t, q, made.ID, bits.Acknowledged)
			shut(t, q)
			q = openUploading(t, dir)
			tells(end, last)
			shut(t, q)
		})
	}
}
