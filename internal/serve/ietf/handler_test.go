package ietf

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// v8 says that the client knows this version of the draft.
var v8 = []string{interopHeader, "8"}

func fields(f ...string) []string { return append(v8[:2:2], f...) }

// create makes an upload without content and returns where it is.
func (s *server) create(target string, f ...string) string {
	s.t.Helper()
	return s.expect(http.StatusCreated, http.MethodPost, target, nil, fields(append(f, completeHeader, "?0")...)...).
		has(s.t, completeHeader, "?0", offsetHeader, "0").Header.Get("Location")
}

// patch sends content at an offset.
func (s *server) patch(status int, upload string, offset int64, complete bool, body any, f ...string) answer {
	s.t.Helper()
	return s.expect(status, http.MethodPatch, upload, body,
		fields(append(f, offsetHeader, fmt.Sprint(offset), completeHeader, boolean(complete))...)...)
}

// Example 1 of the draft's overview, without its interruption.
func TestWholeUploadInOneRequest(t *testing.T) {
	for _, c := range []struct {
		method, target, file string
		fields               []string
	}{
		{"PUT", "file", "file", nil},
		{"POST", "file", "file", nil},
		{"POST", "", "file name.jpg", []string{"Content-Disposition", `inline; filename="file name.jpg"`}},
		{"POST", "", "Grüße.jpg", []string{"Content-Disposition", `inline; filename="other.jpg"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.jpg`}},
	} {
		t.Run(c.method+" "+c.file, func(t *testing.T) {
			s := serve(t, func(p *session.Prefix) { p.MaxSize = 1000 })
			data := random(500)
			a := s.expect(http.StatusCreated, c.method, c.target, data, fields(append(c.fields, completeHeader, "?1", lengthHeader, "500")...)...)
			a.has(t, completeHeader, "?1", "Location", (&url.URL{Path: "/up/" + c.file}).EscapedPath())
			s.has(c.file, data)
			if len(a.interim) != 1 {
				t.Fatalf("got %d times 104, want once", len(a.interim))
			}
			a.Header = a.interim[0]
			a.has(t, interopHeader, "8", offsetHeader, "").limited(t, "max-size=1000, ")
			up := a.Header.Get("Location")
			if !strings.HasPrefix(up, "/up/.ebb-uploads/") {
				t.Errorf("Location is %q", up)
			}
			// The client that did not hear the end asks.
			s.expect(http.StatusNoContent, http.MethodHead, up, nil).has(t, offsetHeader, "500", lengthHeader, "500", completeHeader, "?1")
			s.patch(http.StatusCreated, up, 500, true, nil).has(t, completeHeader, "?1")
		})
	}
}

// Example 2 of the draft's overview: a series of parts of a length that is not known.
func TestSeriesOfParts(t *testing.T) {
	s := serve(t, nil)
	a := s.expect(http.StatusCreated, http.MethodPost, "file", "one", fields(completeHeader, "?0")...)
	a.has(t, completeHeader, "?0", offsetHeader, "3").limited(t, "")
	up := a.Header.Get("Location")
	if a.interim[0].Get("Location") != up {
		t.Errorf("104 has the Location %q, 201 %q", a.interim[0].Get("Location"), up)
	}
	s.expect(http.StatusNoContent, http.MethodHead, up, nil, v8...).
		has(t, offsetHeader, "3", completeHeader, "?0", lengthHeader, "", "Cache-Control", "no-store").limited(t, "")
	s.patch(http.StatusNoContent, up, 3, false, "two").has(t, completeHeader, "?0", offsetHeader, "6")
	s.expect(http.StatusNoContent, http.MethodGet, up, nil, v8...).has(t, offsetHeader, "6", completeHeader, "?0")
	s.hasNot("file")
	s.patch(http.StatusCreated, up, 6, true, "three").has(t, completeHeader, "?1", "Location", "/up/file")
	s.has("file", []byte("onetwothree"))
}

// Completeness is said, not computed.
func TestCompleteOnlyWhenSaid(t *testing.T) {
	s := serve(t, nil)
	up := s.create("file", lengthHeader, "5")
	s.patch(http.StatusNoContent, up, 0, false, "hello").has(t, completeHeader, "?0", offsetHeader, "5")
	s.expect(http.StatusNoContent, http.MethodHead, up, nil).has(t, offsetHeader, "5", lengthHeader, "5", completeHeader, "?0")
	s.hasNot("file")
	s.patch(http.StatusCreated, up, 5, true, nil).has(t, completeHeader, "?1")
	s.has("file", []byte("hello"))
	s.expect(http.StatusNoContent, http.MethodHead, up, nil).has(t, completeHeader, "?1")
	s.patch(http.StatusBadRequest, up, 5, false, nil).has(t, completeHeader, "?0") // nothing comes after the end
}

func TestContentOfUnknownLength(t *testing.T) {
	s := serve(t, nil)
	s.expect(http.StatusCreated, http.MethodPut, "a", io.MultiReader(strings.NewReader("hello")), fields(completeHeader, "?1")...)
	s.has("a", []byte("hello"))
	up := s.create("b")
	s.patch(http.StatusNoContent, up, 0, false, io.MultiReader(strings.NewReader("hel")))
	s.patch(http.StatusCreated, up, 3, true, io.MultiReader(strings.NewReader("lo")))
	s.has("b", []byte("hello"))
}

func TestEmptyFile(t *testing.T) {
	s := serve(t, nil)
	s.expect(http.StatusCreated, http.MethodPut, "a", nil, fields(completeHeader, "?1")...)
	s.has("a", nil)
	s.patch(http.StatusCreated, s.create("b"), 0, true, nil)
	s.has("b", nil)
}

// nginx takes a 104 for the answer.
func TestNo104ThroughAProxy(t *testing.T) {
	s := serve(t, nil)
	for i, f := range [][]string{{"X-Forwarded-For", "192.0.2.1"}, {"Via", "1.1 proxy"}, {"Forwarded", "for=192.0.2.1"}, {"Connection", "close"}} {
		a := s.expect(http.StatusCreated, http.MethodPut, fmt.Sprintf("file%d", i), "hello", fields(append(f, completeHeader, "?1")...)...)
		if len(a.interim) != 0 {
			t.Errorf("%v got a 104", f)
		}
	}
}

// Only a client that says it knows this version of the draft gets a 104 (B).
func TestInteropVersion(t *testing.T) {
	s := serve(t, nil)
	for i, version := range []string{"", "7", "9", "8.0", `"8"`} {
		a := s.expect(http.StatusCreated, http.MethodPut, fmt.Sprintf("file%d", i), "hello", completeHeader, "?1", interopHeader, version)
		if len(a.interim) != 0 {
			t.Errorf("version %q got a 104", version)
		}
	}
	if n := s.sessions(); n != 0 {
		t.Errorf("there are %d uploads that nobody knows of", n)
	}
}

// An Upload-Complete that is not a Boolean counts as none, and the request is one as any other.
func TestRequestThatIsNotResumable(t *testing.T) {
	s := serve(t, nil)
	a := s.expect(http.StatusCreated, http.MethodPut, "file", "hello", fields(completeHeader, "yes")...)
	s.has("file", []byte("hello"))
	if len(a.interim) != 0 || s.sessions() != 0 {
		t.Error("it was made resumable")
	}
}

// problemOf reads an answer by RFC 9457.
func problemOf(t *testing.T, a answer) map[string]any {
	t.Helper()
	a.has(t, "Content-Type", "application/problem+json")
	var p map[string]any
	if err := json.Unmarshal([]byte(a.text), &p); err != nil {
		t.Fatalf("%q: %v", a.text, err)
	}
	return p
}

func TestMismatchingOffset(t *testing.T) {
	s := serve(t, nil)
	up := s.create("file", lengthHeader, "10")
	s.patch(http.StatusNoContent, up, 0, false, "hello")
	for _, offset := range []int64{0, 4, 6, 10, 1 << 40} {
		for _, complete := range []bool{false, true} {
			a := s.patch(http.StatusConflict, up, offset, complete, "").has(t, offsetHeader, "5", completeHeader, "?0")
			p := problemOf(t, a)
			if p["type"] != "https://iana.org/assignments/http-problem-types#mismatching-upload-offset" ||
				p["expected-offset"] != 5.0 || p["provided-offset"] != float64(offset) {
				t.Errorf("got %v", p)
			}
		}
	}
}

func TestInconsistentLength(t *testing.T) {
	s := serve(t, nil)
	ten := s.create("ten", lengthHeader, "10")
	s.patch(http.StatusNoContent, ten, 0, false, "hello")
	chunked := func(text string) io.Reader { return io.MultiReader(strings.NewReader(text)) }
	for _, c := range []struct {
		why      string
		upload   string // or a new one
		complete bool
		body     any
		length   string
	}{
		{"whole, but longer than it says", "", true, "hello", "4"},
		{"whole, but shorter than it says", "", true, "hello", "6"},
		{"part, but longer than all", "", false, "hello", "4"},
		{"whole of unknown length, but shorter", "", true, chunked("hello"), "6"},
		{"another length", ten, false, "", "11"},
		{"the rest, but shorter", ten, true, "1234", ""},
		{"the rest, but longer", ten, true, "123456", ""},
		{"the rest and a length that differ", ten, true, "12345", "11"},
		{"more than the length", ten, false, "123456", ""},
	} {
		f := fields(completeHeader, boolean(c.complete), lengthHeader, c.length)
		var a answer
		if c.upload == "" {
			a = s.do(http.MethodPost, "new", c.body, f...)
		} else {
			a = s.do(http.MethodPatch, c.upload, c.body, append(f, offsetHeader, "5")...)
		}
		if p := problemOf(t, a); a.StatusCode != http.StatusBadRequest || p["type"] != problemTypes+"inconsistent-upload-length" {
			t.Errorf("%s: got %d %v", c.why, a.StatusCode, p)
		}
		a.has(t, completeHeader, "?0")
	}
	s.hasNot("new")
	s.patch(http.StatusCreated, ten, 5, true, "world")
	s.has("ten", []byte("helloworld"))

	// Whoever sends more than the length without saying so before loses the upload (4.4.2).
	more := s.create("more", lengthHeader, "10")
	s.patch(http.StatusBadRequest, more, 0, false, chunked("hello world"))
	s.expect(http.StatusNotFound, http.MethodHead, more, nil)
}

func TestRefusals(t *testing.T) {
	s := serve(t, func(p *session.Prefix) { p.MaxSize = 100 })
	if err := os.WriteFile(filepath.Join(s.Root, "there"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := s.create("file")
	s.patch(http.StatusNoContent, up, 0, false, "12345")
	for _, c := range []struct {
		why    string
		status int
		method string
		target string
		body   any
		fields []string
	}{
		{"target exists", 403, "PUT", "there", "x", []string{completeHeader, "?1"}},
		{"directory does not exist", 404, "PUT", "no/a", "x", []string{completeHeader, "?1"}},
		{"no name", 400, "POST", "", "x", []string{completeHeader, "?1"}},
		{"name is a path", 400, "POST", "", "x", []string{completeHeader, "?1", "Content-Disposition", `inline; filename="../a"`}},
		{"path leads out", 400, "PUT", "%2e%2e/a", "x", []string{completeHeader, "?1"}},
		{"larger than allowed", 413, "PUT", "a", make([]byte, 101), []string{completeHeader, "?1"}},
		{"larger than allowed, said", 413, "PUT", "a", nil, []string{completeHeader, "?0", lengthHeader, "101"}},
		{"larger than allowed, found", 413, "PUT", "a", io.MultiReader(strings.NewReader(strings.Repeat("x", 101))), []string{completeHeader, "?1"}},
		{"encoded", 415, "PUT", "a", "x", []string{completeHeader, "?1", "Content-Encoding", "gzip"}},
		{"a part for all", 400, "PUT", "a", "x", []string{completeHeader, "?1", "Content-Range", "bytes 0-0/2"}},
		{"digest that is none", 400, "PUT", "a", "x", []string{completeHeader, "?1", "Repr-Digest", "sha-256=:YQ==:"}},
		{"digest that cannot be read", 400, "PUT", "a", "x", []string{completeHeader, "?1", "Content-Digest", "sha-256=!"}},
		{"another method", 405, "DELETE", "a", nil, nil},
		{"another method for an upload", 405, "PUT", up, "x", []string{completeHeader, "?1"}},
		{"content of another type", 415, "PATCH", up, "6", []string{offsetHeader, "5", completeHeader, "?0", "Content-Type", "text/plain"}},
		{"no offset", 400, "PATCH", up, "6", []string{completeHeader, "?0"}},
		{"offset that is none", 400, "PATCH", up, "6", []string{completeHeader, "?0", offsetHeader, "five"}},
		{"negative offset", 400, "PATCH", up, "6", []string{completeHeader, "?0", offsetHeader, "-5"}},
		{"no completeness", 400, "PATCH", up, "6", []string{offsetHeader, "5"}},
		{"completeness of another type", 400, "PATCH", up, "6", []string{offsetHeader, "5", completeHeader, "1"}},
		{"unknown upload", 404, "HEAD", ".ebb-uploads/00000000000000000000000000000000", nil, nil},
		{"unknown upload", 404, "PATCH", ".ebb-uploads/x", "6", []string{offsetHeader, "5", completeHeader, "?0"}},
		{"unknown upload", 404, "DELETE", ".ebb-uploads/x", nil, nil},
		{"somebody else's upload", 404, "HEAD", up, nil, []string{"User", "mallory"}},
		{"somebody else's upload", 404, "PATCH", up, "6", []string{"User", "mallory", offsetHeader, "5", completeHeader, "?0"}},
		{"somebody else's upload", 404, "DELETE", up, nil, []string{"User", "mallory"}},
	} {
		a := s.do(c.method, c.target, c.body, fields(c.fields...)...)
		if a.StatusCode != c.status {
			t.Errorf("%s: %s %s %q: got %d %q, want %d", c.why, c.method, c.target, c.fields, a.StatusCode, a.text, c.status)
		}
		if strings.Contains(a.text, s.Root) {
			t.Errorf("%s: the answer %q tells the server's paths", c.why, a.text)
		}
		if c.status == 413 {
			a.has(t, limitHeader, "max-size=100, max-age=3600")
		}
	}
	s.expect(http.StatusNoContent, http.MethodHead, up, nil).has(t, offsetHeader, "5", completeHeader, "?0")
	if n := s.sessions(); n != 1 {
		t.Errorf("there are %d uploads, want 1", n)
	}
}

func TestOptions(t *testing.T) {
	s := serve(t, nil)
	for target, allow := range map[string]string{
		"": "POST, PUT, OPTIONS", "file": "POST, PUT, OPTIONS", ".ebb-uploads/x": "HEAD, GET, PATCH, DELETE, OPTIONS",
	} {
		s.expect(http.StatusNoContent, http.MethodOptions, target, nil).has(t, limitHeader, "max-age=3600", "Allow", allow)
	}
}

func TestDelete(t *testing.T) {
	s := serve(t, nil)
	up := s.create("file")
	s.patch(http.StatusNoContent, up, 0, false, "hello")
	s.expect(http.StatusNoContent, http.MethodDelete, up, nil, v8...)
	s.expect(http.StatusNotFound, http.MethodHead, up, nil, v8...)
	s.expect(http.StatusNotFound, http.MethodDelete, up, nil, v8...)
	if n := s.sessions(); n != 0 {
		t.Errorf("there are %d uploads", n)
	}
}

func TestTargetThatAppearsMeanwhileIsKept(t *testing.T) {
	s := serve(t, nil)
	up := s.create("file")
	other := []byte("somebody else's")
	if err := os.WriteFile(filepath.Join(s.Root, "file"), other, 0o600); err != nil {
		t.Fatal(err)
	}
	// It is the file that cannot be: no one should resume.
	s.patch(http.StatusForbidden, up, 0, true, "hello").has(t, completeHeader, "?1")
	s.has("file", other)
	s.expect(http.StatusNotFound, http.MethodHead, up, nil)
}

func digestOf(data []byte) string {
	a, b := sha256.Sum256(data), sha512.Sum512(data)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(a[:]) + ":, sha-512=:" + base64.StdEncoding.EncodeToString(b[:]) + ":"
}

func TestReprDigest(t *testing.T) {
	s := serve(t, nil)
	data := random(300_000)
	up := s.create("good", "Repr-Digest", digestOf(data), "Want-Repr-Digest", "sha-512=3, sha-256=10, md5=5")
	s.patch(http.StatusNoContent, up, 0, false, data[:100_000])
	want, _, _ := strings.Cut(digestOf(data), ",")
	s.patch(http.StatusCreated, up, 100_000, true, data[100_000:]).has(t, "Repr-Digest", want)
	s.has("good", data)

	for i, sum := range strings.Split(digestOf(append([]byte("x"), data...)), ", ") {
		up = s.create("bad", "Repr-Digest", sum)
		s.patch(http.StatusBadRequest, up, 0, true, data).has(t, completeHeader, "?1")
		s.expect(http.StatusNotFound, http.MethodHead, up, nil)
		s.expect(http.StatusBadRequest, http.MethodPut, "bad", data, completeHeader, "?1", "Repr-Digest", sum)
		s.hasNot("bad")
		// An algorithm that we do not know cannot be verified, as RFC 9530 expects.
		s.expect(http.StatusCreated, http.MethodPut, fmt.Sprint("unknown", i), data, completeHeader, "?1", "Repr-Digest", "sha=:YQ==:")
	}
}

func TestContentDigest(t *testing.T) {
	s := serve(t, nil)
	for _, size := range []int{5, 1 << 20} {
		data := random(size)
		file := fmt.Sprint("file", size)
		up := s.create(file)
		wrong := digestOf(append([]byte("x"), data...))
		s.patch(http.StatusBadRequest, up, 0, false, data, "Content-Digest", wrong)
		s.expect(http.StatusNoContent, http.MethodHead, up, nil).has(t, offsetHeader, "0")
		s.patch(http.StatusNoContent, up, 0, false, data, "Content-Digest", digestOf(data))
		s.patch(http.StatusBadRequest, up, int64(size), true, data, "Content-Digest", wrong)
		s.patch(http.StatusCreated, up, int64(size), true, data, "Content-Digest", digestOf(data))
		s.has(file, append(data[:size:size], data...))

		a := s.expect(http.StatusBadRequest, http.MethodPut, "bad", data, fields(completeHeader, "?1", "Content-Digest", wrong)...)
		a.has(t, completeHeader, "?1")
		s.expect(http.StatusNotFound, http.MethodHead, a.interim[0].Get("Location"), nil)
		s.hasNot("bad")
		s.expect(http.StatusCreated, http.MethodPut, "good"+file, data, fields(completeHeader, "?1", "Content-Digest", digestOf(data))...)
	}
}

// slow gives one byte at a time.
type slow struct {
	data  []byte
	pause time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.pause)
	p[0], s.data = s.data[0], s.data[1:]
	return 1, nil
}

func TestProgressIsTold(t *testing.T) {
	s := serve(t, nil)
	data := random(40)
	for _, c := range []struct {
		name string
		send func() answer
	}{
		{"creation", func() answer {
			return s.expect(http.StatusCreated, http.MethodPut, "a", &slow{data, 10 * time.Millisecond}, fields(completeHeader, "?1")...)
		}},
		{"append", func() answer {
			return s.patch(http.StatusCreated, s.create("b"), 0, true, &slow{data, 10 * time.Millisecond})
		}},
	} {
		var last int64
		n := 0
		for _, h := range c.send().interim {
			if h.Get(offsetHeader) == "" {
				continue // where the upload is
			}
			n++
			offset := count(h, offsetHeader)
			if h.Get(interopHeader) != "8" || h.Get("Location") != "" || offset < last || offset > 40 {
				t.Errorf("%s: after %d came %v", c.name, last, h)
			}
			last = offset
		}
		if n < 2 || last == 0 {
			t.Errorf("%s: progress was told %d times, up to %d", c.name, n, last)
		}
	}
	s.has("a", data)
	s.has("b", data)
}

func TestPublicURL(t *testing.T) {
	s := serve(t, func(p *session.Prefix) { p.PublicURL = "https://files.example.org" })
	up := s.create("file", "X-Forwarded-Host", "evil.example.org")
	if !strings.HasPrefix(up, "https://files.example.org/up/.ebb-uploads/") {
		t.Errorf("Location is %q", up)
	}
}

func TestStorageErrorsAreForTheLogOnly(t *testing.T) {
	s := serve(t, func(p *session.Prefix) { p.Store = broken{p.Store} })
	a := s.expect(http.StatusInternalServerError, http.MethodPut, "file", "x", completeHeader, "?1")
	if p := problemOf(t, a); p["title"] != "the server could not store the upload" {
		t.Errorf("got %v", p)
	}
	a.has(t, completeHeader, "")
	if why := s.why.Load(); why != errBroken.Error() {
		t.Errorf("the log tells %q", why)
	}
}

var errBroken = errors.New("open /secret/path: input/output error")

// broken is a store whose disk has gone.
type broken struct{ session.Store }

func (b broken) Create(context.Context, session.Spec) (session.Info, error) {
	return session.Info{}, errBroken
}
