package ietf

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

// fake is a server in memory, written from the draft's text. Its hook may answer a request in its
// place.
type fake struct {
	*httptest.Server
	interim bool   // it sends 104
	bare    bool   // its answers carry no more than they must
	limit   string // Upload-Limit
	post    bool   // it makes uploads by POST alone
	hook    func(w http.ResponseWriter, r *http.Request) bool

	mu      sync.Mutex
	uploads map[string]*made // guarded by mu
	log     []string         // guarded by mu: methods and paths
}

type made struct {
	data     []byte
	length   string
	complete bool
	header   http.Header
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{uploads: map[string]*made{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.log = append(f.log, r.Method+" "+r.URL.Path)
	hook := f.hook
	f.mu.Unlock()
	if hook != nil && hook(w, r) {
		return
	}
	h := w.Header()
	if f.limit != "" {
		h.Set("Upload-Limit", f.limit)
	}
	body, err := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.uploads[r.URL.Path]
	switch {
	case u == nil && (r.Method == http.MethodPut && !f.post || r.Method == http.MethodPost):
		f.create(w, r)
	case u == nil && r.Method == http.MethodPut:
		w.WriteHeader(405)
	case u == nil:
		w.WriteHeader(404)
	case r.Method == http.MethodHead:
		h.Set("Upload-Offset", strconv.Itoa(len(u.data)))
		h.Set("Upload-Length", u.length)
		h.Set("Upload-Complete", map[bool]string{true: "?1", false: "?0"}[u.complete])
		w.WriteHeader(204)
	case r.Method == http.MethodDelete:
		delete(f.uploads, r.URL.Path)
		w.WriteHeader(204)
	case r.Method == http.MethodPatch:
		f.patch(w, r, u, body, err)
	}
}

// create answers PUT and POST; mu is held.
func (f *fake) create(w http.ResponseWriter, r *http.Request) {
	path := "/uploads/" + strconv.Itoa(len(f.log))
	f.uploads[path] = &made{length: r.Header.Get("Upload-Length"), header: r.Header}
	w.Header().Set("Location", path)
	if f.interim {
		w.Header().Set("Upload-Draft-Interop-Version", "8")
		w.WriteHeader(104)
		w.Header().Del("Upload-Draft-Interop-Version")
	}
	if !f.bare {
		w.Header().Set("Upload-Complete", "?0")
	}
	w.WriteHeader(201)
}

// patch answers PATCH; mu is held.
func (f *fake) patch(w http.ResponseWriter, r *http.Request, u *made, body []byte, err error) {
	h := w.Header()
	if r.Header.Get("Content-Type") != "application/partial-upload" {
		w.WriteHeader(415)
		return
	}
	if r.Header.Get("Upload-Offset") != strconv.Itoa(len(u.data)) {
		h.Set("Upload-Offset", strconv.Itoa(len(u.data)))
		h.Set("Upload-Complete", "?0")
		h.Set("Content-Type", "application/problem+json")
		w.WriteHeader(409)
		_, _ = io.WriteString(w, `{"type":"https://iana.org/assignments/http-problem-types#mismatching-upload-offset"}`)
		return
	}
	u.data = append(u.data, body...)
	if err != nil {
		return
	}
	u.complete = r.Header.Get("Upload-Complete") == "?1"
	if !f.bare {
		h.Set("Upload-Complete", r.Header.Get("Upload-Complete"))
		h.Set("Upload-Offset", strconv.Itoa(len(u.data)))
	}
	w.WriteHeader(204)
}

// at returns the upload with this URL.
func (f *fake) at(u string) *made {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.uploads[strings.TrimPrefix(u, f.URL)]; m != nil {
		return m
	}
	return &made{}
}

// count returns how many requests had this method.
func (f *fake) count(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, line := range f.log {
		if strings.HasPrefix(line, method+" ") {
			n++
		}
	}
	return n
}

func task(t *testing.T, f *fake, path string, n int) (*uploadtest.Task, []byte) {
	t.Helper()
	data := uploadtest.Bytes(n, byte(n))
	return uploadtest.New(t, f.URL+path, uploadtest.NewSource("Größe.txt", data)), data
}

func TestUpload(t *testing.T) {
	for _, f := range []*fake{{}, {interim: true}, {bare: true}, {post: true, interim: true, bare: true}, {limit: "max-append-size=1000000, min-append-size=999999"}} {
		for _, class := range []governor.Class{governor.Foreground, governor.Background} {
			for _, path := range []string{"/d/f", "/d/"} {
				for _, n := range []int{0, 1, 5 << 20} {
					s := newFake(t)
					s.interim, s.bare, s.post, s.limit = f.interim, f.bare, f.post, f.limit
					tk, data := task(t, s, path, n)
					tk.Class = class
					if err := New(uploadtest.Client()).Upload(t.Context(), tk.Task); err != nil {
						t.Fatal(err)
					}
					got := s.at(tk.State.URL)
					if !bytes.Equal(got.data, data) || !got.complete || got.length != strconv.Itoa(n) {
						t.Errorf("the server has %d bytes, complete %v, of %s, not the file's %d", len(got.data), got.complete, got.length, n)
					}
					if !tk.State.Done || tk.State.Offset != int64(n) || tk.State.Protocol != bits.ProtocolIETF {
						t.Errorf("state %+v", tk.State)
					}
					if post := s.count("POST") == 1; post != (path == "/d/" || f.post) || post != strings.Contains(got.header.Get("Content-Disposition"), "filename") {
						t.Errorf("made by %v with Content-Disposition %q", s.log, got.header.Get("Content-Disposition"))
					}
					if f.limit != "" && n > 1 && s.count("PATCH") != 6 {
						t.Errorf("%d requests", s.count("PATCH"))
					}
				}
			}
		}
	}
}

// breakOnce breaks the connection of the first PATCH and keeps n bytes of it.
func breakOnce(f *fake, n int64) {
	f.hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || f.count("PATCH") > 1 {
			return false
		}
		part, _ := io.ReadAll(io.LimitReader(r.Body, n))
		f.mu.Lock()
		f.uploads[r.URL.Path].data = part
		f.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
}

func TestResumeAfterARestart(t *testing.T) {
	for _, kept := range []int64{0, 1, 1234567, 3 << 20} {
		f := newFake(t)
		tk, data := task(t, f, "/f", 3<<20)
		breakOnce(f, kept)
		c := New(uploadtest.Client())
		if err := c.Upload(t.Context(), tk.Task); !errors.Is(err, &bits.Error{Code: bits.ConnectionError}) {
			t.Fatalf("error %v", err)
		}
		tk.Restart()
		if err := c.Upload(t.Context(), tk.Task); err != nil {
			t.Fatal(err)
		}
		if got := f.at(tk.State.URL); !bytes.Equal(got.data, data) || !got.complete || f.count("PUT") != 1 || f.count("HEAD") != 1 {
			t.Errorf("%d bytes after %v", len(got.data), f.log)
		}
	}
}

// TestTheLastAnswerIsLost: the server has all and says so when asked.
func TestTheLastAnswerIsLost(t *testing.T) {
	f := newFake(t)
	tk, data := task(t, f, "/f", 1<<20)
	f.hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch {
			return false
		}
		all, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.uploads[r.URL.Path].data, f.uploads[r.URL.Path].complete = all, true
		f.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	if err := tk.Patiently(t.Context(), New(uploadtest.Client()), 2); err != nil {
		t.Fatal(err)
	}
	if got := f.at(tk.State.URL); !bytes.Equal(got.data, data) || f.count("PATCH") != 1 || f.count("PUT") != 1 {
		t.Errorf("%d bytes after %v", len(got.data), f.log)
	}
}

func TestA104IsEnough(t *testing.T) {
	f := newFake(t)
	f.interim = true
	tk, data := task(t, f, "/f", 1<<20)
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		f.mu.Lock()
		f.create(httptest.NewRecorder(), r)
		path := "/uploads/" + strconv.Itoa(len(f.log))
		f.mu.Unlock()
		w.Header().Set("Location", path)
		w.WriteHeader(104)
		panic(http.ErrAbortHandler)
	}
	if err := tk.Patiently(t.Context(), New(uploadtest.Client()), 2); err != nil {
		t.Fatal(err)
	}
	if got := f.at(tk.State.URL); !bytes.Equal(got.data, data) || f.count("PUT") != 1 {
		t.Errorf("%d bytes after %v", len(got.data), f.log)
	}
}

func TestAMismatchingOffset(t *testing.T) {
	f := newFake(t)
	tk, data := task(t, f, "/f", 3<<20)
	f.hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && f.count("PATCH") == 1 { // something else of ours sent that before
			f.mu.Lock()
			f.uploads[r.URL.Path].data = bytes.Clone(data[:1<<20])
			f.mu.Unlock()
		}
		return false
	}
	if err := New(uploadtest.Client()).Upload(t.Context(), tk.Task); err != nil {
		t.Fatal(err)
	}
	if got := f.at(tk.State.URL); !bytes.Equal(got.data, data) || f.count("HEAD") != 0 || f.count("PATCH") != 2 {
		t.Errorf("%d bytes after %v", len(got.data), f.log)
	}
}

func TestFragmentsShrink(t *testing.T) {
	f := newFake(t)
	tk, data := task(t, f, "/f", 5<<20)
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.ContentLength > 1<<20 {
			w.WriteHeader(413)
			return true
		}
		return false
	}
	if err := New(uploadtest.Client()).Upload(t.Context(), tk.Task); err != nil {
		t.Fatal(err)
	}
	if got := f.at(tk.State.URL); !bytes.Equal(got.data, data) || tk.State.Fragment > 1<<20 || tk.State.Fragment == 0 {
		t.Errorf("%d bytes, fragments of %d", len(got.data), tk.State.Fragment)
	}
}

func TestAnExpiredUploadIsMadeAgain(t *testing.T) {
	f := newFake(t)
	tk, data := task(t, f, "/f", 1<<20)
	tk.State.URL = f.URL + "/uploads/old"
	if err := New(uploadtest.Client()).Upload(t.Context(), tk.Task); err != nil {
		t.Fatal(err)
	}
	if got := f.at(tk.State.URL); !bytes.Equal(got.data, data) {
		t.Errorf("%d bytes", len(got.data))
	}
}

func TestTheTargetRefuses(t *testing.T) {
	f := newFake(t)
	tk, _ := task(t, f, "/f", 1<<20)
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Upload-Complete", "?1")
			w.WriteHeader(422)
			return true
		}
		return false
	}
	err := New(uploadtest.Client()).Upload(t.Context(), tk.Task)
	if !errors.Is(err, &bits.Error{Code: bits.HTTPStatus(422)}) || tk.State.URL != "" || tk.State.Done {
		t.Errorf("error %v, state %+v", err, tk.State)
	}
}

func TestCancel(t *testing.T) {
	f := newFake(t)
	tk, _ := task(t, f, "/f", 1<<20)
	breakOnce(f, 1000)
	c := New(uploadtest.Client())
	if err := c.Upload(t.Context(), tk.Task); err == nil {
		t.Fatal("no error")
	}
	if err := c.Cancel(t.Context(), tk.Task); err != nil || len(f.uploads) != 0 {
		t.Errorf("%v, %d uploads are left", err, len(f.uploads))
	}
	if err := c.Cancel(t.Context(), tk.Task); err != nil {
		t.Errorf("once more: %v", err)
	}
	f.hook = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(503)
		return true
	}
	if err := c.Cancel(t.Context(), tk.Task); err == nil {
		t.Error("a cancel that did not arrive is not told")
	}
}

// TestHostileServers: each makes the upload fail soon, with a code, and without a claim that it is
// done.
func TestHostileServers(t *testing.T) {
	answer := func(status int, header ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			for i := 0; i < len(header); i += 2 {
				w.Header().Add(header[i], header[i+1])
			}
			w.WriteHeader(status)
			return true
		}
	}
	on := func(method string, f func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool { return r.Method == method && f(w, r) }
	}
	tests := []struct {
		name string
		hook func(http.ResponseWriter, *http.Request) bool
		url  string
		code bits.Code
	}{
		{"Location of another scheme", on("PUT", answer(201, "Location", "file:///etc/passwd")), "", bits.RedirectFailed},
		{"Location that is none", on("PUT", answer(201, "Location", "http://[::1")), "", bits.InvalidServerResponse},
		{"a plain server", answer(200), "", bits.ProtocolMismatch},
		{"a plain server that says where", on("PUT", answer(201, "Location", "/f")), "", bits.SessionNotFound},
		{"a plain server for all", answer(201, "Location", "/f"), "", bits.ProtocolMismatch},
		{"not allowed", on("PUT", answer(401)), "", bits.HTTPStatus(401)},
		{"too large", on("PUT", answer(201, "Location", "/f", "Upload-Limit", "max-size=10")), "", bits.TooLarge},
		{"too small", on("PUT", answer(201, "Location", "/f", "Upload-Limit", "min-size=10000000")), "", bits.InvalidArg},
		{"offset past the size", on("HEAD", answer(204, "Upload-Offset", "99999999", "Upload-Complete", "?0")), "/x", bits.InvalidServerResponse},
		{"two offsets", on("HEAD", answer(204, "Upload-Offset", "1", "Upload-Offset", "2", "Upload-Complete", "?0")), "/x", bits.InvalidServerResponse},
		{"uploads that vanish at once", on("PATCH", answer(404)), "", bits.SessionNotFound},
		{"has too much", on("PATCH", answer(204, "Upload-Offset", "99999999", "Upload-Complete", "?0")), "", bits.InvalidServerResponse},
		{"never complete", on("PATCH", answer(204, "Upload-Complete", "?0")), "", bits.InvalidServerAnswer},
		{"stays where it is", on("PATCH", answer(204, "Upload-Complete", "?0", "Upload-Offset", "0")), "", bits.InvalidServerAnswer},
		{"conflict for ever", on("PATCH", answer(409)), "", bits.InvalidServerAnswer},
		{"conflict past the size", on("PATCH", answer(409, "Upload-Offset", "99999999")), "", bits.InvalidServerAnswer},
		{"error", on("PATCH", answer(500)), "", bits.HTTPStatus(500)},
		{"takes nothing", on("PATCH", answer(413)), "", bits.HTTPStatus(413)},
		{"header without end", on("PATCH", answer(204, "X", strings.Repeat("x", 300<<10))), "", bits.InvalidServerAnswer},
		{"interim answers without end", on("PUT", func(w http.ResponseWriter, _ *http.Request) bool {
			for range 5000 {
				w.WriteHeader(104)
			}
			return true
		}), "", bits.InvalidServerAnswer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.hook = tt.hook
			tk, _ := task(t, f, "/f", 1<<20)
			if tt.url != "" {
				tk.State.URL = f.URL + tt.url
			}
			err := New(uploadtest.Client()).Upload(t.Context(), tk.Task)
			var e *bits.Error
			if !errors.As(err, &e) || e.Code != tt.code || tk.State.Done {
				t.Errorf("error %v, done %v, want %v", err, tk.State.Done, tt.code)
			}
			if n := len(f.log); n > 40 {
				t.Errorf("it took %d requests", n)
			}
		})
	}
}

func TestTheContextsOwnErrorIsReturned(t *testing.T) {
	f := newFake(t)
	tk, _ := task(t, f, "/f", 8<<20)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("suspended")
	tk.Connected = func() { cancel(why) }
	if err := New(uploadtest.Client()).Upload(ctx, tk.Task); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

func TestBrokenConnections(t *testing.T) {
	for seed := range uint64(10) {
		f := newFake(t)
		f.interim = seed%2 == 0
		data := uploadtest.Bytes(3<<20, byte(seed))
		proxy := uploadtest.NewProxy(t, f.URL, 8, 2<<20, seed)
		tk := uploadtest.New(t, proxy.URL+"/f", uploadtest.NewSource("f", data))
		if err := tk.Patiently(t.Context(), New(uploadtest.Client()), 30); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if got := f.at(strings.TrimPrefix(tk.State.URL, proxy.URL)); !bytes.Equal(got.data, data) || !got.complete {
			t.Errorf("seed %d: %d bytes", seed, len(got.data))
		}
	}
}
