package tus

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

// server is a tus server in memory, written from the protocol's text. Its hook may answer a
// request in its place.
type fake struct {
	*httptest.Server
	extensions string
	algorithms string
	max        int64 // bytes of a request's body; 0 is no limit
	hook       func(w http.ResponseWriter, r *http.Request) bool

	mu      sync.Mutex
	uploads map[string]*made
	log     []string // of requests: method, path
	sums    int      // checksums verified
}

type made struct {
	data     []byte
	length   int
	concat   string
	metadata string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{extensions: "creation,termination", uploads: map[string]*made{}}
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
	w.Header().Set("Tus-Resumable", "1.0.0")
	if r.Method == http.MethodOptions {
		w.Header().Set("Tus-Version", "1.0.0,0.2.2")
		w.Header().Set("Tus-Extension", f.extensions)
		w.Header().Set("Tus-Checksum-Algorithm", f.algorithms)
		w.WriteHeader(204)
		return
	}
	if r.Header.Get("Tus-Resumable") != "1.0.0" {
		w.WriteHeader(412)
		return
	}
	body, err := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Method == http.MethodPost {
		f.create(w, r)
		return
	}
	u := f.uploads[r.URL.Path]
	if u == nil {
		w.WriteHeader(404)
		return
	}
	switch r.Method {
	case http.MethodHead:
		w.Header().Set("Upload-Offset", strconv.Itoa(len(u.data)))
		w.Header().Set("Upload-Length", strconv.Itoa(u.length))
	case http.MethodDelete:
		delete(f.uploads, r.URL.Path)
		w.WriteHeader(204)
	case http.MethodPatch:
		switch {
		case f.max > 0 && r.ContentLength > f.max:
			w.WriteHeader(413)
			return
		case r.Header.Get("Content-Type") != "application/offset+octet-stream":
			w.WriteHeader(415)
			return
		case r.Header.Get("Upload-Offset") != strconv.Itoa(len(u.data)):
			w.WriteHeader(409)
			return
		}
		if sum := r.Header.Get("Upload-Checksum"); sum != "" {
			a, b := sha256.Sum256(body), sha1.Sum(body)
			c := binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
			name, value, _ := strings.Cut(sum, " ")
			if want := map[string][]byte{"sha256": a[:], "sha1": b[:], "crc32c": c}[name]; want == nil || value != base64.StdEncoding.EncodeToString(want) {
				w.WriteHeader(460)
				return
			}
			f.sums++
		}
		u.data = append(u.data, body...)
		if err == nil {
			w.Header().Set("Upload-Offset", strconv.Itoa(len(u.data)))
			w.WriteHeader(204)
		}
	}
}

// create answers POST; mu is held.
func (f *fake) create(w http.ResponseWriter, r *http.Request) {
	u := &made{concat: r.Header.Get("Upload-Concat"), metadata: r.Header.Get("Upload-Metadata")}
	u.length, _ = strconv.Atoi(r.Header.Get("Upload-Length"))
	if urls, ok := strings.CutPrefix(u.concat, "final;"); ok {
		for part := range strings.FieldsSeq(urls) {
			p := f.uploads[strings.TrimPrefix(part, f.URL)]
			if p == nil || len(p.data) != p.length || p.concat != "partial" {
				w.WriteHeader(400)
				return
			}
			u.data = append(u.data, p.data...)
		}
		u.length = len(u.data)
	}
	path := fmt.Sprintf("/files/%d", len(f.uploads)+len(f.log)*1000)
	f.uploads[path] = u
	w.Header().Set("Location", path)
	w.WriteHeader(201)
}

// at returns the bytes of the upload with this URL.
func (f *fake) at(u string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.uploads[strings.TrimPrefix(u, f.URL)]; m != nil {
		return m.data
	}
	return nil
}

// count returns how many requests began with these words.
func (f *fake) count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, line := range f.log {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

func task(t *testing.T, f *fake, n int) (*uploadtest.Task, []byte) {
	t.Helper()
	data := uploadtest.Bytes(n, byte(n))
	return uploadtest.New(t, f.URL+"/files/", uploadtest.NewSource("Größe.tar.gz", data)), data
}

func TestUpload(t *testing.T) {
	for _, class := range []governor.Class{governor.Foreground, governor.Background} {
		for _, n := range []int{0, 1, 5 << 20} {
			f := newFake(t)
			tk, data := task(t, f, n)
			tk.Class = class
			if err := New(uploadtest.Client()).Upload(t.Context(), tk.Task); err != nil {
				t.Fatal(err)
			}
			if got := f.at(tk.State.URL); !bytes.Equal(got, data) {
				t.Errorf("the server has %d bytes that are not the file's %d", len(got), n)
			}
			if !tk.State.Done || tk.State.Offset != int64(n) || tk.State.Protocol != bits.ProtocolTus {
				t.Errorf("state %+v", tk.State)
			}
			want := "filename " + base64.StdEncoding.EncodeToString([]byte("Größe.tar.gz")) + ",filetype "
			if got := f.uploads[strings.TrimPrefix(tk.State.URL, f.URL)].metadata; !strings.HasPrefix(got, want) {
				t.Errorf("metadata %q", got)
			}
			tk.Restart()
			if err := New(uploadtest.Client()).Upload(t.Context(), tk.Task); err != nil || f.count("POST") != 1 {
				t.Errorf("an upload that was done: %v, made %d times", err, f.count("POST"))
			}
		}
	}
}

func TestResumeAfterARestart(t *testing.T) {
	f := newFake(t)
	tk, data := task(t, f, 3<<20)
	f.hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || f.count("PATCH") > 1 {
			return false
		}
		part, _ := io.ReadAll(io.LimitReader(r.Body, 1234567))
		f.mu.Lock()
		f.uploads[r.URL.Path].data = part
		f.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	c := New(uploadtest.Client())
	err := c.Upload(t.Context(), tk.Task)
	if !errors.Is(err, &bits.Error{Code: bits.ConnectionError}) {
		t.Fatalf("error %v", err)
	}
	tk.Restart()
	if err := c.Upload(t.Context(), tk.Task); err != nil {
		t.Fatal(err)
	}
	if got := f.at(tk.State.URL); !bytes.Equal(got, data) || f.count("POST") != 1 || f.count("HEAD") != 1 {
		t.Errorf("%d bytes after %v", len(got), f.log)
	}
}

func TestChecksums(t *testing.T) {
	for _, algorithms := range []string{"sha1", "md5,sha1,sha256", "sha1,crc32c", "md5"} {
		f := newFake(t)
		f.extensions, f.algorithms = "creation,checksum", algorithms
		tk, data := task(t, f, 20<<20)
		spoilt := 0
		f.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch && spoilt < 2 && r.Header.Get("Upload-Checksum") != "" {
				spoilt++
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(460)
				return true
			}
			return false
		}
		if err := New(uploadtest.Client()).Upload(t.Context(), tk.Task); err != nil {
			t.Fatal(err)
		}
		if got := f.at(tk.State.URL); !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes", algorithms, len(got))
		}
		if want := map[bool]int{true: 2}[strings.Contains(algorithms, "sha")]; f.sums != want {
			t.Errorf("%s: %d checksums, want %d", algorithms, f.sums, want)
		}
	}
}

func TestFragmentsShrink(t *testing.T) {
	f := newFake(t)
	f.max = 1 << 20 // as nginx has it
	tk, data := task(t, f, 5<<20)
	c := New(uploadtest.Client())
	if err := c.Upload(t.Context(), tk.Task); err != nil {
		t.Fatal(err)
	}
	if got := f.at(tk.State.URL); !bytes.Equal(got, data) {
		t.Errorf("%d bytes", len(got))
	}
	if tk.Restart(); tk.State.Fragment == 0 || tk.State.Fragment > 1<<20 {
		t.Errorf("fragments of %d bytes are remembered", tk.State.Fragment)
	}
}

func TestAServerThatTakesNothing(t *testing.T) {
	f := newFake(t)
	f.max = 1
	tk, _ := task(t, f, 5<<20)
	err := New(uploadtest.Client()).Upload(t.Context(), tk.Task)
	if !errors.Is(err, &bits.Error{Code: bits.HTTPStatus(413)}) || f.count("PATCH") > 20 {
		t.Errorf("error %v after %d tries", err, f.count("PATCH"))
	}
}

func TestAnExpiredUploadIsMadeAgain(t *testing.T) {
	for _, status := range []int{404, 410, 403} {
		f := newFake(t)
		tk, data := task(t, f, 1<<20)
		tk.State.URL = f.URL + "/files/old"
		f.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/files/old" {
				w.WriteHeader(status)
				return true
			}
			return false
		}
		if err := New(uploadtest.Client()).Upload(t.Context(), tk.Task); err != nil {
			t.Fatal(err)
		}
		if got := f.at(tk.State.URL); !bytes.Equal(got, data) {
			t.Errorf("%d: %d bytes", status, len(got))
		}
	}
}

func TestALockedUpload(t *testing.T) {
	f := newFake(t)
	tk, data := task(t, f, 1<<20)
	locked := 3
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch && r.Method != http.MethodHead || locked == 0 {
			return false
		}
		locked--
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusLocked)
		return true
	}
	if err := New(uploadtest.Client()).Upload(t.Context(), tk.Task); err != nil {
		t.Fatal(err)
	}
	if got := f.at(tk.State.URL); !bytes.Equal(got, data) {
		t.Errorf("%d bytes", len(got))
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
		url  string // of an upload that was made before
		code bits.Code
	}{
		{"Location of another scheme", on("POST", answer(201, "Location", "file:///etc/passwd")), "", bits.RedirectFailed},
		{"Location that is none", on("POST", answer(201, "Location", "http://[::1")), "", bits.InvalidServerResponse},
		{"no Location", on("POST", answer(201)), "", bits.ProtocolMismatch},
		{"not tus", answer(200), "", bits.ProtocolMismatch},
		{"not allowed", on("POST", answer(401)), "", bits.HTTPStatus(401)},
		{"another version", on("POST", answer(412, "Tus-Version", "2.0.0")), "", bits.ProtocolMismatch},
		{"another version to OPTIONS", on("OPTIONS", answer(204, "Tus-Version", "2.0.0")), "", bits.ProtocolMismatch},
		{"no creation", on("OPTIONS", answer(204, "Tus-Version", "1.0.0")), "", bits.ProtocolMismatch},
		{"too large", on("OPTIONS", answer(204, "Tus-Version", "1.0.0", "Tus-Extension", "creation", "Tus-Max-Size", "10")), "", bits.TooLarge},
		{"offset past the size", on("HEAD", answer(200, "Upload-Offset", "99999999")), "/files/x", bits.InvalidServerResponse},
		{"offset that is none", on("HEAD", answer(200, "Upload-Offset", "-1")), "/files/x", bits.InvalidServerResponse},
		{"two offsets", on("HEAD", answer(200, "Upload-Offset", "1", "Upload-Offset", "2")), "/files/x", bits.InvalidServerResponse},
		{"no offset", on("HEAD", answer(200)), "/files/x", bits.InvalidServerResponse},
		{"uploads that vanish at once", on("PATCH", answer(404)), "", bits.SessionNotFound},
		{"confirms too much", on("PATCH", answer(204, "Upload-Offset", "99999999")), "", bits.InvalidServerResponse},
		{"confirms nothing", on("PATCH", answer(204)), "", bits.InvalidServerResponse},
		{"stays where it is", on("PATCH", answer(204, "Upload-Offset", "0")), "", bits.InvalidServerAnswer},
		{"conflict for ever", on("PATCH", answer(409)), "", bits.InvalidServerAnswer},
		{"checksum wrong for ever", on("PATCH", answer(460)), "", bits.InvalidServerAnswer},
		{"error", on("PATCH", answer(500)), "", bits.HTTPStatus(500)},
		{"redirects for ever", on("PATCH", answer(308, "Location", "/files/x")), "", bits.RedirectFailed},
		{"header without end", on("PATCH", answer(204, "X", strings.Repeat("x", 300<<10))), "", bits.InvalidServerAnswer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.hook = tt.hook
			tk, _ := task(t, f, 1<<20)
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

// TestOffsetsThatGoBack: a server may lose bytes, but not for ever.
func TestOffsetsThatGoBack(t *testing.T) {
	f := newFake(t)
	f.extensions, f.algorithms = "creation,checksum", "sha1" // so that there are several requests
	tk, _ := task(t, f, 30<<20)
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && r.Header.Get("Upload-Offset") != "0" {
			f.mu.Lock()
			f.uploads[r.URL.Path].data = nil
			f.mu.Unlock()
		}
		return false
	}
	err := New(uploadtest.Client()).Upload(t.Context(), tk.Task)
	if !errors.Is(err, &bits.Error{Code: bits.InvalidServerAnswer}) || f.count("PATCH") > 40 {
		t.Errorf("error %v after %d requests", err, f.count("PATCH"))
	}
}

func TestCancel(t *testing.T) {
	f := newFake(t)
	tk, _ := task(t, f, 1<<20)
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(500)
			return true
		}
		return false
	}
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

// far makes a server seem far away and able to join parts.
func (f *fake) far() {
	f.extensions = "creation,termination,concatenation"
	inner := f.hook
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodOptions {
			time.Sleep(farAway + farAway/4)
		}
		return inner != nil && inner(w, r)
	}
}

func TestParts(t *testing.T) {
	f := newFake(t)
	f.far()
	tk, data := task(t, f, largeFile+3)
	c := New(uploadtest.Client())
	if err := c.Upload(t.Context(), tk.Task); err != nil {
		t.Fatal(err)
	}
	if got := f.at(tk.State.URL); !bytes.Equal(got, data) {
		t.Errorf("%d bytes", len(got))
	}
	if len(tk.State.Parts) != parts || f.count("POST") != parts+1 {
		t.Errorf("%d parts: %v", len(tk.State.Parts), f.log)
	}
	if err := c.Close(t.Context(), tk.Task); err != nil || len(f.uploads) != 1 || f.at(tk.State.URL) == nil {
		t.Errorf("%v, %d uploads are left", err, len(f.uploads))
	}
}

func TestPartsInterrupted(t *testing.T) {
	f := newFake(t)
	var cuts int
	f.hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch {
			return false
		}
		f.mu.Lock()
		cut := cuts < 5 && len(f.log)%2 == 0
		if cut {
			cuts++
		}
		f.mu.Unlock()
		if !cut {
			return false
		}
		part, _ := io.ReadAll(io.LimitReader(r.Body, 3<<20+17))
		f.mu.Lock()
		if u := f.uploads[r.URL.Path]; r.Header.Get("Upload-Offset") == strconv.Itoa(len(u.data)) {
			u.data = append(u.data, part...)
		}
		f.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	f.far()
	tk, data := task(t, f, largeFile)
	if err := tk.Patiently(t.Context(), New(uploadtest.Client()), 20); err != nil {
		t.Fatal(err)
	}
	if got := f.at(tk.State.URL); !bytes.Equal(got, data) || cuts == 0 {
		t.Errorf("%d bytes after %d cuts", len(got), cuts)
	}
}

func TestPartsThatCannotBeJoined(t *testing.T) {
	f := newFake(t)
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.Header.Get("Upload-Concat"), "final") {
			w.WriteHeader(400)
			return true
		}
		return false
	}
	f.far()
	tk, data := task(t, f, largeFile)
	if err := New(uploadtest.Client()).Upload(t.Context(), tk.Task); err != nil {
		t.Fatal(err)
	}
	if got := f.at(tk.State.URL); !bytes.Equal(got, data) || len(tk.State.Parts) != 0 {
		t.Errorf("%d bytes, %d parts", len(got), len(tk.State.Parts))
	}
}

func TestTheContextsOwnErrorIsReturned(t *testing.T) {
	f := newFake(t)
	f.far()
	tk, _ := task(t, f, largeFile)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("suspended")
	tk.Connected = func() { cancel(why) }
	if err := New(uploadtest.Client()).Upload(ctx, tk.Task); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

func TestTheSourceChanges(t *testing.T) {
	for _, extensions := range []string{"creation", "creation,checksum"} {
		f := newFake(t)
		f.extensions, f.algorithms = extensions, "sha1"
		src := uploadtest.NewSource("f", uploadtest.Bytes(4<<20, 1))
		src.Fail = func(off int64) error {
			if off > 1<<20 {
				return bits.Errorf(bits.LocalFileChanged, "it changed")
			}
			return nil
		}
		err := New(uploadtest.Client()).Upload(t.Context(), uploadtest.New(t, f.URL, src).Task)
		if !errors.Is(err, &bits.Error{Code: bits.LocalFileChanged}) {
			t.Errorf("%s: error %v", extensions, err)
		}
	}
}

func FuzzParseServer(f *testing.F) {
	f.Add("creation, checksum", "sha1,sha256")
	f.Add(",,", "sha256 ,")
	f.Fuzz(func(t *testing.T, extensions, algorithms string) {
		s := parseServer(http.Header{"Tus-Extension": {extensions}, "Tus-Checksum-Algorithm": {algorithms}})
		if s.checksum != "" && !strings.Contains(strings.ToLower(algorithms), s.checksum) {
			t.Errorf("%q was not offered in %q", s.checksum, algorithms)
		}
	})
}
