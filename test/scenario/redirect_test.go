package scenario

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// stranger is a server that the owner of a job did not name. It notes what it is told of him.
type stranger struct {
	*httptest.Server
	mu     sync.Mutex
	leaked []string // guarded by mu
}

// newStranger serves with h, and asks who somebody is where h answers 401.
func newStranger(t *testing.T, h func(w http.ResponseWriter, r *http.Request)) *stranger {
	s := &stranger{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Key") != "" || r.Header.Get("Authorization") != "" {
			s.mu.Lock()
			s.leaked = append(s.leaked, fmt.Sprintf("%s %s %q %q", r.URL, r.Header.Get("Range"), r.Header.Get("X-Key"), r.Header.Get("Authorization")))
			s.mu.Unlock()
		} else {
			w.Header().Set("WWW-Authenticate", `Basic realm="stranger"`)
		}
		w.Header().Set("ETag", `"v1"`)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// heardNothing fails the test if the stranger was told anything of the owner's.
func (s *stranger) heardNothing(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leaked {
		t.Errorf("what is the owner's went to a server that he did not name: %s", l)
	}
}

// A job's own method is that of its requests, and goes where a server sends it, but where that says
// that the answer is to be got.
func TestRedirectsOfAnotherMethod(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, err := strconv.Atoi(r.URL.Path[1:]); err == nil && status > 0 {
			http.Redirect(w, r, "/end", status)
			return
		}
		_, _ = io.WriteString(w, r.Method)
	}))
	t.Cleanup(srv.Close)
	s := start(t, options{})
	for _, c := range []struct {
		status         int
		method, arrive string
	}{{0, "REPORT", "REPORT"}, {0, "POST", "POST"}, {0, "", "GET"}, {302, "REPORT", "REPORT"}, {301, "REPORT", "REPORT"}, {303, "REPORT", "GET"}, {307, "REPORT", "REPORT"}, {302, "POST", "GET"}, {308, "POST", "POST"}} {
		name := fmt.Sprint(c.method, c.status)
		job := s.create(fetched{name: name, settings: bits.Settings{Options: bits.Options{HTTPMethod: &c.method}}, files: []bits.FileSpec{s.file(fmt.Sprint(srv.URL, "/", c.status), name)}})
		s.settled(job, bits.Transferred)
		s.complete(job)
		if got, err := os.ReadFile(filepath.Join(s.dir, name)); err != nil || string(got) != c.arrive {
			t.Errorf("%s sent on with %d arrives as %s, want %s; %v", c.method, c.status, got, c.arrive, err)
		}
	}
}

// A redirect that is reported makes another server the file's, but not the owner's: it gets neither
// his headers nor his credentials, whatever becomes of the file.
func TestReportedRedirects(t *testing.T) {
	const size = 3 << 20
	content := func() io.ReadSeeker { return strings.NewReader(strings.Repeat("x", size)) }
	modified := time.Unix(1700000000, 0)
	s := start(t, options{})
	// through is a job for a file of a server that sends everybody on to b; it is suspended.
	through := func(t *testing.T, b *stranger, local string, ranges ...bits.Range) fetched {
		a := httptest.NewServer(http.RedirectHandler(b.URL+"/f", http.StatusFound))
		t.Cleanup(a.Close)
		spec := s.file(a.URL+"/f", local)
		spec.Ranges = ranges
		f := fetched{files: []bits.FileSpec{spec}, waits: true}
		f.settings.SecurityFlags = ptr(bits.SecurityRedirectReport)
		f.settings.Headers = &[]string{"X-Key: secret"}
		return f
	}

	t.Run("a file that is steered", func(t *testing.T) {
		b := newStranger(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "bytes=0-" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", size-1, size))
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(make([]byte, 1<<20))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		job := s.create(through(t, b, "steered"))
		s.identifies(job, "passw0rd", "server", "basic", "alice")
		s.resume(job)
		s.until(job, "on its way from where it was sent", func(j *bits.Job) bool { return j.Progress.BytesTransferred > 0 && j.Files[0].Remote == b.URL+"/f" })
		s.cli("file", "position", job.ID.String(), "0", "2000000").want(t, 0)
		s.refusedWith(job, http.StatusUnauthorized)
		b.heardNothing(t)
	})
	t.Run("parts of a file", func(t *testing.T) {
		b := newStranger(t, func(w http.ResponseWriter, r *http.Request) { http.ServeContent(w, r, "f", modified, content()) })
		job := s.create(through(t, b, "parts", bits.Range{Offset: 0, Length: 100}, bits.Range{Offset: 1000, Length: 100}))
		s.identifies(job, "passw0rd", "server", "basic", "alice")
		s.resume(job)
		if info := s.settled(job, bits.Transferred); info.Files[0].Remote != b.URL+"/f" {
			t.Errorf("the file's URL is %s, want that to which it was sent on", info.Files[0].Remote)
		}
		b.heardNothing(t)
	})
	t.Run("a mirror that the other server names", func(t *testing.T) {
		sum := sha256.Sum256([]byte(strings.Repeat("x", size)))
		var first sync.Once
		var b *stranger
		b = newStranger(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/mirror" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			status := http.StatusNotFound
			first.Do(func() { status = http.StatusOK })
			w.Header().Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
			w.Header().Set("Link", fmt.Sprintf("<%s/mirror>; rel=duplicate", b.URL))
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.WriteHeader(status)
			_, _ = io.CopyN(w, content(), 1<<20)
			panic(http.ErrAbortHandler)
		})
		job := s.create(through(t, b, "mirrored"))
		s.identifies(job, "passw0rd", "server", "basic", "alice")
		s.resume(job)
		s.settled(job, bits.Errored)
		b.heardNothing(t)
	})
}
