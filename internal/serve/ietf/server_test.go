package ietf

import (
	"bytes"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
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
	t     *testing.T
	http  *httptest.Server
	url   string       // of the prefix
	why   atomic.Value // string: what the log tells of the last request
	read  atomic.Int64 // bytes of content that the front end has read
	begun atomic.Int64 // requests that the front end got
	ended atomic.Int64 // and is done with
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
	h := handler{p, 50 * time.Millisecond}
	s := &server{Prefix: p, t: t}
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.begun.Add(1)
		defer s.ended.Add(1)
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
	s.http, s.url = hs, hs.URL+"/up/"
	return s
}

// answer is the final answer to a request and the interim ones before it.
type answer struct {
	*http.Response
	text    string
	interim []http.Header // of 104
}

// do sends a request. fields are names and values in turns; an empty value is no field. A body that is a
// string or a []byte has a length, an io.Reader has none.
func (s *server) do(method, target string, body any, fields ...string) answer {
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
	var a answer
	ctx := httptrace.WithClientTrace(s.t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == statusResumptionSupported {
				a.interim = append(a.interim, http.Header(h))
			}
			return nil
		},
	})
	req, err := http.NewRequestWithContext(ctx, method, u.String(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", partialContent)
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
	if a.Response, err = http.DefaultClient.Do(req); err != nil {
		s.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a.text = string(text)
	return a
}

// expect sends a request that must have the given status.
func (s *server) expect(status int, method, target string, body any, fields ...string) answer {
	s.t.Helper()
	a := s.do(method, target, body, fields...)
	if a.StatusCode != status {
		s.t.Fatalf("%s %s %q: got %d %q, want %d", method, target, fields, a.StatusCode, a.text, status)
	}
	return a
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

// has fails unless the answer has the fields.
func (a answer) has(t *testing.T, fields ...string) answer {
	t.Helper()
	for i := 0; i < len(fields); i += 2 {
		if got := a.Header.Get(fields[i]); got != fields[i+1] {
			t.Errorf("%s %s: %s is %q, want %q", a.Request.Method, a.Request.URL.Path, fields[i], got, fields[i+1])
		}
	}
	return a
}

// limited fails unless Upload-Limit says what comes before max-age, and an age of nearly an hour.
func (a answer) limited(t *testing.T, before string) {
	t.Helper()
	limit := a.Header.Get(limitHeader)
	age, ok := strings.CutPrefix(limit, before+"max-age=")
	if n, err := strconv.Atoi(age); !ok || err != nil || n > 3600 || n < 3500 {
		t.Errorf("%s is %q", limitHeader, limit)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
