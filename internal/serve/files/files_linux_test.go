package files

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// site is a handler for a directory, behind a real socket.
type site struct {
	t   *testing.T
	dir string
	h   *Handler
	*httptest.Server
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	tree, err := OpenTree(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	s.h = &Handler{Source: tree, Digests: NewDigests()}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.h.Serve(w, r, strings.TrimPrefix(r.URL.Path, "/"))
	}))
	t.Cleanup(s.Close)
	return s
}

// write makes a file of a while ago.
func (s *site) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// get makes a request; the headers are pairs.
func (s *site) do(method, path string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp, string(b)
}

const text = "0123456789abcdefghij"

func TestConditionsAndRanges(t *testing.T) {
	s := newSite(t)
	s.write("a.txt", text)
	r, _ := s.do("GET", "/a.txt")
	tag, modified := r.Header.Get("Etag"), r.Header.Get("Last-Modified")
	if !strings.HasPrefix(tag, `"`) || modified == "" {
		t.Fatalf("Etag %s, Last-Modified %q", tag, modified)
	}
	before := time.Now().Add(-2 * time.Hour).UTC().Format(http.TimeFormat)
	for _, c := range []struct {
		name    string
		headers []string
		status  int
		body    string
	}{
		{"all", nil, 200, text},
		{"one range", []string{"Range", "bytes=2-4"}, 206, "234"},
		{"the end", []string{"Range", "bytes=-3"}, 206, "hij"},
		{"beyond the end", []string{"Range", "bytes=30-"}, 416, ""},
		{"If-Range fits", []string{"Range", "bytes=2-4", "If-Range", tag}, 206, "234"},
		{"If-Range does not", []string{"Range", "bytes=2-4", "If-Range", `"x"`}, 200, text},
		{"If-Range is weak", []string{"Range", "bytes=2-4", "If-Range", "W/" + tag}, 200, text},
		{"If-Range by time", []string{"Range", "bytes=2-4", "If-Range", modified}, 206, "234"},
		{"If-Range by another time", []string{"Range", "bytes=2-4", "If-Range", before}, 200, text},
		{"If-Unmodified-Since fits, as BITS sends it", []string{"Range", "bytes=0-1", "If-Unmodified-Since", modified}, 206, "01"},
		{"If-Unmodified-Since does not", []string{"Range", "bytes=0-1", "If-Unmodified-Since", before}, 412, ""},
		{"If-None-Match", []string{"If-None-Match", tag}, 304, ""},
		{"If-Match", []string{"If-Match", `"x"`}, 412, ""},
		{"If-Modified-Since", []string{"If-Modified-Since", modified}, 304, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, body := s.do("GET", "/a.txt", c.headers...)
			if r.StatusCode != c.status || c.status < 300 && body != c.body {
				t.Errorf("%d %q, want %d %q", r.StatusCode, body, c.status, c.body)
			}
			h, _ := s.do("HEAD", "/a.txt", c.headers...)
			if h.StatusCode != c.status || c.status < 300 && h.ContentLength != int64(len(c.body)) {
				t.Errorf("HEAD: %d and length %d, want %d and %d", h.StatusCode, h.ContentLength, c.status, len(c.body))
			}
		})
	}
	if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Accept-Ranges") != "bytes" {
		t.Error(r.Header)
	}
}

// BITS wants the parts in the order of the request, and few other headers in them.
func TestSeveralRangesKeepTheirOrder(t *testing.T) {
	s := newSite(t)
	s.write("a", text)
	r, body := s.do("GET", "/a", "Range", "bytes=10-12,0-1,15-15")
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.StatusCode != 206 || kind != "multipart/byteranges" || err != nil || r.ContentLength != int64(len(body)) {
		t.Fatal(r.Status, r.Header, err)
	}
	parts := multipart.NewReader(strings.NewReader(body), params["boundary"])
	for _, want := range []struct{ at, text string }{{"bytes 10-12/20", "abc"}, {"bytes 0-1/20", "01"}, {"bytes 15-15/20", "f"}} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(p)
		if string(got) != want.text || p.Header.Get("Content-Range") != want.at || len(p.Header) != 2 {
			t.Errorf("%q %v, want %v", got, p.Header, want)
		}
	}
}

func TestTagSurvivesAndChanges(t *testing.T) {
	s := newSite(t)
	path := s.write("a", text)
	tag := func() string {
		t.Helper()
		r, _ := s.do("HEAD", "/a")
		return r.Header.Get("Etag")
	}
	first := tag()
	other := newSite(t) // another start of the server
	tree, err := OpenTree(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tree.Close() }()
	other.h.Source = tree
	if r, _ := other.do("HEAD", "/a"); r.Header.Get("Etag") != first {
		t.Errorf("%s after a restart, %s before", r.Header.Get("Etag"), first)
	}

	// Another content of the same size, whose time was set back to what it was.
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ToUpper(text)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	second := tag()
	if second == first {
		t.Error("another content with the same time and size has the same tag")
	}
	// The same time and size in another inode.
	if err := os.Rename(s.write("b", text), path); err != nil {
		t.Fatal(err)
	}
	if third := tag(); third == first || third == second {
		t.Error("another file in the same place has a tag of before")
	}
}

// Versions that follow each other faster than the file system's clock ticks have the same times.
func TestTagsOfFastChangesDiffer(t *testing.T) {
	s := newSite(t)
	path := filepath.Join(s.dir, "a")
	seen := map[string]string{}
	for i := range 50 {
		body := fmt.Sprintf("%08d", i)
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
		r, got := s.do("GET", "/a")
		tag := r.Header.Get("Etag")
		if was, ok := seen[tag]; ok && !strings.HasPrefix(tag, "W/") && was != got {
			t.Fatalf("%s is the tag of %q and of %q", tag, was, got)
		}
		seen[tag] = got
		// Last-Modified has whole seconds, so it must not be there yet.
		if m := r.Header.Get("Last-Modified"); m != "" {
			t.Fatalf("Last-Modified %s of a file that changes now", m)
		}
		if r, _ := s.do("GET", "/a", "If-Unmodified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)); r.StatusCode != 412 {
			t.Fatalf("%s: a version of the same second passes for another", r.Status)
		}
	}
}

func TestStamp(t *testing.T) {
	now := time.Unix(1_800_000_000, 500_000_000)
	fine := stamp{mtime: now.Add(-time.Minute).UnixNano(), ctime: now.Add(-10 * time.Millisecond).UnixNano()}
	if w := fine.settles(now); w != 10*time.Millisecond {
		t.Errorf("settles in %v", w)
	}
	coarse := stamp{mtime: now.Truncate(time.Second).UnixNano(), ctime: now.Truncate(time.Second).UnixNano()}
	if w := coarse.settles(now); w != 1500*time.Millisecond {
		t.Errorf("whole seconds settle in %v", w)
	}
	future := stamp{mtime: now.Add(time.Hour).UnixNano(), ctime: now.Add(-time.Hour).UnixNano()}
	if w := future.settles(now); w < time.Hour {
		t.Errorf("a time in the future settles in %v", w)
	}
}

func TestNothingOutsideIsRead(t *testing.T) {
	s := newSite(t)
	s.h.Listing = true
	s.write("dir/a", text)
	s.write(".ebb-uploads/secret", text)
	s.write("sub/BITS-Sessions/Replies/secret", text)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": outside, "linkdir": filepath.Dir(outside), "up": "../" + filepath.Base(filepath.Dir(outside)) + "/secret", "inside": "dir/a"} {
		if err := os.Symlink(to, filepath.Join(s.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(s.dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"/link", "/linkdir/secret", "/up", "/pipe", "/nothing", "/dir/a/", "/dir//a", "//dir/a", "/dir/../dir/a", "/./dir/a", "/..%2f..%2fetc/passwd",
		"/%2e%2e/%2e%2e/etc/passwd", "/dir%2f..%2f..%2fsecret", "/%00", "/dir/a%00.txt", "/..%5c..%5csecret",
		"/.ebb-uploads/secret", "/.EBB-uploads/secret", "/.ebb-uploads/", "/sub/bits-sessions/Replies/secret", "/" + strings.Repeat("x", 5000),
	} {
		if r, body := s.do("GET", path); r.StatusCode != 404 || strings.Contains(body, "secret") {
			t.Errorf("GET %.60s: %d %q", path, r.StatusCode, body)
		}
	}
	if r, body := s.do("GET", "/inside"); r.StatusCode != 200 || body != text {
		t.Errorf("a link that stays inside: %d", r.StatusCode)
	}
	if _, body := s.do("GET", "/"); strings.Contains(body, "ebb-uploads") || !strings.Contains(body, `<a href="./dir/">`) {
		t.Errorf("listing: %s", body)
	}
}

func TestListing(t *testing.T) {
	s := newSite(t)
	s.write("dir/a", text)
	s.write("dir/<b>&.txt", text)
	for _, path := range []string{"/", "/dir", "/dir/"} {
		if r, _ := s.do("GET", path); r.StatusCode != 404 {
			t.Errorf("%s without listings: %d", path, r.StatusCode)
		}
	}
	s.h.Listing = true
	if r, _ := s.do("GET", "/dir"); r.StatusCode != 301 || r.Header.Get("Location") != "./dir/" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	r, body := s.do("GET", "/dir/")
	if r.StatusCode != 200 || !strings.Contains(body, `<a href="./%3Cb%3E&amp;.txt">&lt;b&gt;&amp;.txt</a>`) {
		t.Errorf("%d %s", r.StatusCode, body)
	}
}

func TestTable(t *testing.T) {
	s := newSite(t)
	path := s.write("a", text)
	table := NewTable(map[string]string{"deep/name.iso": path, "gone": filepath.Join(s.dir, "gone"), "dir": s.dir})
	s.h = &Handler{Source: table, Digests: NewDigests()}
	for path, want := range map[string]int{"/deep/name.iso": 200, "/a": 404, "/gone": 404, "/dir": 404, "/": 404, "/deep": 404, "/deep/": 404} {
		if r, _ := s.do("GET", path); r.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, r.StatusCode, want)
		}
	}
	s.h.Listing = true
	if _, body := s.do("GET", "/"); !strings.Contains(body, "deep/name.iso") {
		t.Error(body)
	}
}

func TestDigest(t *testing.T) {
	s := newSite(t)
	s.write("a", text)
	sum := sha256.Sum256([]byte(text))
	want := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	for _, c := range []struct{ header, want string }{
		{"sha-256=1", want}, {"sha-512=3, sha-256=10", want}, {"md5=10, sha-256=1;x=y", want}, {"sha-256=0", ""}, {"md5=1", ""}, {"=,,sha-256", ""}, {"sha-256=11", ""},
	} {
		// Of the whole file, also with a range and with HEAD.
		for _, method := range []string{"GET", "HEAD"} {
			if r, _ := s.do(method, "/a", "Want-Repr-Digest", c.header, "Range", "bytes=1-2"); r.Header.Get("Repr-Digest") != c.want {
				t.Errorf("%s: %q, want %q", c.header, r.Header.Get("Repr-Digest"), c.want)
			}
		}
	}
	if r, _ := s.do("GET", "/a"); r.Header.Get("Repr-Digest") != "" {
		t.Error("a digest that nobody wants")
	}
	s.write("a", "another")
	if r, _ := s.do("GET", "/a", "Want-Repr-Digest", "sha-256=1"); r.Header.Get("Repr-Digest") == want {
		t.Error("the digest of a version of before")
	}
}

// A client that was promised a length must not get a mixture of that length.
func TestFileThatChangesWhileItIsSentBreaksOff(t *testing.T) {
	s := newSite(t)
	const size = 32 << 20 // more than fits into the sockets
	path := s.write("a", strings.Repeat("a", size))
	r, err := http.Get(s.URL + "/a")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	if _, err := io.CopyN(io.Discard, r.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte("b"), 1<<20), size-1<<20); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	n, err := io.Copy(io.Discard, r.Body)
	if err == nil {
		t.Fatalf("the answer is whole, with %d bytes", n+1<<20)
	}
	// That another file takes its place does not matter to who has it open.
	path = s.write("c", strings.Repeat("c", size))
	r2, err := http.Get(s.URL + "/c")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r2.Body.Close() }()
	if err := os.Rename(s.write("d", "d"), path); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r2.Body); err != nil || len(b) != size || bytes.Trim(b, "c") != nil && len(bytes.Trim(b, "c")) > 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func FuzzPreferred(f *testing.F) {
	f.Add("sha-256=1, sha-512=3")
	f.Add("sha-256=10;a=b,=,")
	f.Fuzz(func(t *testing.T, want string) {
		if a := preferred([]string{want}); a != "" && algorithms[a] == nil {
			t.Errorf("%q: %q", want, a)
		}
	})
}
