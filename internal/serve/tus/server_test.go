package tus

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/record"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// server is a front end with a local store behind a real socket. The user of a request is its name
// in Basic authentication.
type server struct {
	*session.Prefix
	t    *testing.T
	url  string       // of the prefix
	why  atomic.Value // string: what the log tells of the last request
	read atomic.Int64 // bytes of content that the front end has read
}

// counted counts what is read of a request's content.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func serve(t *testing.T, set func(*session.Prefix)) *server {
	t.Helper()
	root := t.TempDir()
	store, err := session.OpenDir(root, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return serveFrom(t, store, root, set)
}

// serveFrom serves the uploads of a store, whose files are in root.
func serveFrom(t *testing.T, store session.Store, root string, set func(*session.Prefix)) *server {
	t.Helper()
	p := &session.Prefix{Path: "/up/", Root: root, Store: store, MaxSize: -1, SessionTimeout: time.Hour,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if set != nil {
		set(p)
	}
	h := New(p)
	s := &server{Prefix: p, t: t}
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		r.Body = counted{r.Body, &s.read}
		ctx, rec := record.New(session.WithPrincipal(r.Context(), user))
		h.ServeHTTP(w, r.WithContext(ctx))
		s.why.Store(rec.Reason())
	}))
	t.Cleanup(func() {
		hs.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	s.url = hs.URL + "/up/"
	return s
}

// do sends a request and returns the answer and its content. fields are names and values in turns; an
// empty value is no field. A body that is a []byte has a length, an io.Reader has none.
func (s *server) do(method, target string, body any, fields ...string) (*http.Response, string) {
	s.t.Helper()
	base, _ := url.Parse(s.url)
	u, err := base.Parse(target)
	if err != nil {
		s.t.Fatal(err)
	}
	var r io.Reader
	switch b := body.(type) {
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	case io.Reader:
		r = io.MultiReader(b)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, u.String(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Tus-Resumable", "1.0.0")
	if r != nil {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(fields); i += 2 {
		switch name, value := fields[i], fields[i+1]; {
		case name == "User":
			req.SetBasicAuth(value, "")
		case value == "":
			req.Header.Del(name)
		default:
			req.Header.Set(name, value)
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res, string(text)
}

// expect sends a request that must have the given status.
func (s *server) expect(status int, method, target string, body any, fields ...string) *http.Response {
	s.t.Helper()
	res, text := s.do(method, target, body, fields...)
	if res.StatusCode != status {
		s.t.Fatalf("%s %s %q: got %d %q, want %d", method, target, fields, res.StatusCode, text, status)
	}
	if v := res.Header.Get("Tus-Resumable"); v != "1.0.0" {
		s.t.Fatalf("%s %s: Tus-Resumable is %q", method, target, v)
	}
	return res
}

// create makes an upload and returns where it is.
func (s *server) create(target string, fields ...string) string {
	s.t.Helper()
	return s.expect(http.StatusCreated, http.MethodPost, target, nil, fields...).Header.Get("Location")
}

// patch sends content at an offset.
func (s *server) patch(status int, upload string, offset int64, body any, fields ...string) *http.Response {
	s.t.Helper()
	fields = append([]string{"Upload-Offset", fmt.Sprint(offset)}, fields...)
	return s.expect(status, http.MethodPatch, upload, body, fields...)
}

// has fails unless the file name has the content want.
func (s *server) has(name string, want []byte) {
	s.t.Helper()
	got, err := os.ReadFile(filepath.Join(s.Root, name))
	if err != nil {
		s.t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		s.t.Fatalf("%s has %d bytes that are not the %d sent", name, len(got), len(want))
	}
}

// hasNot fails if there is a file name.
func (s *server) hasNot(name string) {
	s.t.Helper()
	if _, err := os.Lstat(filepath.Join(s.Root, name)); !os.IsNotExist(err) {
		s.t.Fatalf("%s: got %v, want no such file", name, err)
	}
}

// sessions returns how many there are.
func (s *server) sessions() int {
	s.t.Helper()
	list, err := s.Store.List(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return len(list)
}

func header(t *testing.T, res *http.Response, fields ...string) {
	t.Helper()
	for i := 0; i < len(fields); i += 2 {
		if got := res.Header.Get(fields[i]); got != fields[i+1] {
			t.Errorf("%s %s: %s is %q, want %q", res.Request.Method, res.Request.URL.Path, fields[i], got, fields[i+1])
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
