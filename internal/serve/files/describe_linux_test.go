package files

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/hashstore"
)

// Names of headers as clients write them.
const (
	acceptEncoding = "Accept-Encoding"
	peerDist       = "X-P2P-PeerDist"
	peerDistEx     = "X-P2P-PeerDistEx"
	both           = "MinContentInformation=1.0, MaxContentInformation=2.0"
)

// askFor are the headers of a client that takes either version and can wait for it, and more.
func askFor(more ...string) []string {
	return append([]string{acceptEncoding, "peerdist", peerDist, "Version=1.1", peerDistEx, both + ", HashRequest=true"}, more...)
}

// described is a site whose files are described, over HTTP too.
type described struct {
	*site
	body    []byte // of the file /big.bin
	mu      sync.Mutex
	counted map[string]int64 // bytes, and 1 for each answer
}

func newDescribed(t *testing.T) *described {
	t.Helper()
	d := &described{site: newSite(t), counted: map[string]int64{}}
	hashes, err := hashstore.New(t.TempDir(), hashstore.Limits{Size: 1 << 30, MaxAge: time.Hour}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hashes.Close)
	d.h.Describing = &Describing{PlainHTTP: true, Second: true, Origin: NewOrigin(hashes, []byte("secret"), func(answer string, n int64) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.counted[answer] += n + 1
	})}
	d.body = random(3<<20 + 4711)
	d.write("big.bin", string(d.body))
	return d
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// hashed waits until a file has the hashes of a version.
func (s *described) hashed(path string, second bool) {
	s.t.Helper()
	most := "1.0"
	if second {
		most = "2.0"
	}
	for end := time.Now().Add(time.Minute); ; {
		r, _ := s.do("GET", path, acceptEncoding, "peerdist", peerDist, "Version=1.1", peerDistEx, "MinContentInformation=1.0, MaxContentInformation="+most+", HashRequest=true")
		if r.Header.Get("Content-Encoding") == "peerdist" {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s has no hashes: %v", path, r.Header)
		}
	}
}

// check checks that an answer is content information of a range of what it should be.
func (s *described) check(t *testing.T, r *http.Response, body string, version int, want bits.Range) *peerdist.Info {
	t.Helper()
	if r.Header.Get("Content-Encoding") != "peerdist" || r.ContentLength != int64(len(body)) {
		t.Fatalf("%s with %v and %d bytes", r.Status, r.Header, len(body))
	}
	if n := "ContentLength=" + strconv.FormatInt(want.Length, 10); !strings.HasSuffix(r.Header.Get(peerDist), n) {
		t.Errorf("%s is %q, want %s", peerDist, r.Header.Get(peerDist), n)
	}
	if v := r.Header.Get("Vary"); v != "Accept-Encoding, X-P2P-PeerDist, X-P2P-PeerDistEx" || r.Header.Get("Cache-Control") != "no-transform" {
		t.Errorf("Vary %q, Cache-Control %q", v, r.Header.Get("Cache-Control"))
	}
	if r.Header.Get("Etag") == "" || r.Header.Get("Content-Type") == "" || r.Header.Get("Accept-Ranges") != "bytes" || r.Header.Get("Repr-Digest") != "" {
		t.Errorf("headers are %v", r.Header)
	}
	f, err := peerdist.Decode([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if f.Version() != version || f.Range != want {
		t.Fatalf("version %d of %v, want %d of %v", f.Version(), f.Range, version, want)
	}
	a := f.Segments[0].Algorithm
	ks := a.ServerKey([]byte("secret"))
	for i := range f.Segments {
		g := &f.Segments[i]
		for k := range g.Blocks() {
			at, n := g.Block(k)
			if !g.Verify(k, s.body[g.Offset:][at:at+n]) {
				t.Errorf("block %d of segment %d is of another file", k, i)
			}
		}
		if h, err := peerdist.Generate(context.Background(), bytes.NewReader(s.body[g.Offset:][:g.Length]), a); err == nil {
			if own, err := h.Info(ks, bits.Range{Length: h.Size}); err == nil && version == 1 && !bytes.Equal(own.Segments[0].Secret, g.Secret) {
				t.Errorf("segment %d has another secret", i)
			}
		}
	}
	return f
}

// The server's decision table (peercache.md 6.3), row by row. "later" in place of a version says that the
// client is told to come again; "no" that there is none; "unspoken" that nothing is said.
func TestDecisionTable(t *testing.T) {
	s := newDescribed(t)
	s.write("small.bin", string(random(64<<10-1)))
	s.write("least.bin", string(random(64<<10)))
	s.write("fresh.bin", string(random(1<<20)))
	s.hashed("/big.bin", true)
	s.hashed("/big.bin", false)
	s.hashed("/least.bin", true)
	const unspoken, no, later, v1, v2 = "unspoken", "no", "later", "v1", "v2"
	for _, c := range []struct {
		name    string
		method  string
		path    string
		headers []string
		want    string
		version string // of the protocol, in the answer
	}{
		{"row 1: plain", "GET", "/big.bin", nil, unspoken, ""},
		{"row 1: another encoding", "GET", "/big.bin", []string{acceptEncoding, "gzip", peerDist, "Version=1.1"}, unspoken, ""},
		{"row 1: q=0", "GET", "/big.bin", []string{acceptEncoding, "peerdist;q=0", peerDist, "Version=1.1"}, unspoken, ""},
		{"row 1: no header", "GET", "/big.bin", []string{acceptEncoding, "peerdist"}, unspoken, ""},
		{"row 1: HEAD", "HEAD", "/big.bin", askFor(), unspoken, ""},
		{"row 2: missing data", "GET", "/big.bin", []string{peerDist, "Version=1.1, MissingDataRequest=true"}, unspoken, ""},
		{"row 2: missing data, although it accepts", "GET", "/big.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=1.1, MissingDataRequest=true"}, unspoken, ""},
		{"row 2: not missing", "GET", "/big.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=1.1, MissingDataRequest=false", peerDistEx, both}, v2, "1.1"},
		{"row 2: nonsense", "GET", "/big.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=1.1, MissingDataRequest=perhaps", peerDistEx, both}, unspoken, ""},
		{"row 3: below 64 KiB", "GET", "/small.bin", askFor(), no, "1.1"},
		{"row 3: 64 KiB", "GET", "/least.bin", askFor(), v2, "1.1"},
		{"row 3: no-store", "GET", "/big.bin", askFor("Cache-Control", "no-store"), no, "1.1"},
		{"row 4: a client of 1.0", "GET", "/big.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=1.0"}, v1, "1.0"},
		{"row 4: a client of 1.23", "GET", "/big.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=1.23", peerDistEx, both}, v2, "1.1"},
		{"row 4: no version", "GET", "/big.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=one"}, unspoken, ""},
		{"row 5: no second header", "GET", "/big.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=1.1"}, v1, "1.1"},
		{"row 5: version 1 at most", "GET", "/big.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=1.1", peerDistEx, "MinContentInformation=1.0, MaxContentInformation=1.0"}, v1, "1.1"},
		{"row 5: both", "GET", "/big.bin", []string{acceptEncoding, "gzip, peerdist", peerDist, "Version=1.1", peerDistEx, both}, v2, "1.1"},
		{"row 5: version 2 at least", "GET", "/big.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=1.1", peerDistEx, "MinContentInformation=2.0, MaxContentInformation=2.0"}, unspoken, ""},
		{"row 5: up to version 3", "GET", "/big.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=1.1", peerDistEx, "MinContentInformation=1.0, MaxContentInformation=3.0"}, unspoken, ""},
		{"row 6: not ready", "GET", "/fresh.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=1.1", peerDistEx, both}, later, "1.1"},
		{"row 6: not ready for 1.0", "GET", "/fresh.bin", []string{acceptEncoding, "peerdist", peerDist, "Version=1.0"}, no, "1.0"},
		{"row 7: asked again", "GET", "/big.bin", askFor(), v2, "1.1"},
		{"row 7: names in another case", "GET", "/big.bin", []string{acceptEncoding, "PeerDist", "x-p2p-peerdist", "version=1.1", "x-p2p-peerdistex", strings.ToLower(both)}, v2, "1.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.path == "/fresh.bin" { // another version each time, so that it is not ready
				s.write("fresh.bin", string(random(1<<20+len(c.name))))
			}
			r, body := s.do(c.method, c.path, c.headers...)
			if r.StatusCode != 200 {
				t.Fatal(r.Status)
			}
			if v := "Accept-Encoding, X-P2P-PeerDist, X-P2P-PeerDistEx"; r.Header.Get("Vary") != v {
				t.Errorf("Vary is %q", r.Header.Get("Vary"))
			}
			got := unspoken
			switch {
			case r.Header.Get("Content-Encoding") == "peerdist":
				f, err := peerdist.Decode([]byte(body))
				if err != nil {
					t.Fatal(err)
				}
				got = "v" + strconv.Itoa(f.Version())
			case r.Header.Get(peerDistEx) == "MakeHashRequest=true":
				got = later
			case r.Header.Get(peerDist) != "":
				got = no
			}
			if v, _, _ := strings.Cut(r.Header.Get(peerDist), ","); got != c.want || strings.TrimPrefix(v, "Version=") != c.version {
				t.Errorf("%s with %q, want %s with %q", got, v, c.want, c.version)
			}
			if got != v1 && got != v2 && c.method == "GET" {
				if want, err := os.ReadFile(s.dir + c.path); err != nil || body != string(want) {
					t.Errorf("%d bytes that are not the file's, %v", len(body), err)
				}
			}
		})
	}
	// A policy of version 1 alone (row 5).
	s.h.Describing.Second = false
	r, body := s.do("GET", "/big.bin", askFor()...)
	s.check(t, r, body, 1, bits.Range{Length: int64(len(s.body))})
	if s.counted["v1"] == 0 || s.counted["v2"] == 0 || s.counted["not_ready"] == 0 || s.counted["none"] == 0 || s.counted["missing"] != 2 {
		t.Errorf("counted %v", s.counted)
	}
}

// Content information of ranges (6.4), and the conditions that hold for it as for the file.
func TestDescribedRangesAndConditions(t *testing.T) {
	s := newDescribed(t)
	size := int64(len(s.body))
	r, _ := s.do("HEAD", "/big.bin")
	tag, modified := r.Header.Get("Etag"), r.Header.Get("Last-Modified")
	for second, version := range map[bool]int{false: 1, true: 2} {
		s.h.Describing.Second = second
		s.hashed("/big.bin", second)
		for _, c := range []struct {
			name    string
			headers []string
			status  int
			want    bits.Range // of content information; none if empty
		}{
			{"whole", nil, 200, bits.Range{Length: size}},
			{"from the start", []string{"Range", "bytes=0-"}, 206, bits.Range{Length: size}},
			{"a part", []string{"Range", "bytes=100000-299999"}, 206, bits.Range{Offset: 100000, Length: 200000}},
			{"one byte", []string{"Range", "bytes=65536-65536"}, 206, bits.Range{Offset: 65536, Length: 1}},
			{"the rest", []string{"Range", "bytes=2000000-"}, 206, bits.Range{Offset: 2000000, Length: size - 2000000}},
			{"the end", []string{"Range", "bytes=-5"}, 206, bits.Range{Offset: size - 5, Length: 5}},
			{"If-Range fits", []string{"Range", "bytes=7-", "If-Range", tag}, 206, bits.Range{Offset: 7, Length: size - 7}},
			{"If-Range does not", []string{"Range", "bytes=7-", "If-Range", `"x"`}, 200, bits.Range{Length: size}},
			{"If-Match fits", []string{"If-Match", tag}, 200, bits.Range{Length: size}},
			{"If-Match does not", []string{"If-Match", `"x"`}, 412, bits.Range{}},
			{"If-None-Match", []string{"If-None-Match", tag}, 304, bits.Range{}},
			{"If-Unmodified-Since", []string{"Range", "bytes=1-2", "If-Unmodified-Since", modified}, 206, bits.Range{Offset: 1, Length: 2}},
			{"beyond the end", []string{"Range", "bytes=99999999-"}, 416, bits.Range{}},
			{"several ranges", []string{"Range", "bytes=0-9,20-29"}, 206, bits.Range{}},
			{"a digest is wanted", []string{"Want-Repr-Digest", "sha-256=1"}, 200, bits.Range{Length: size}},
		} {
			t.Run(fmt.Sprintf("version %d, %s", version, c.name), func(t *testing.T) {
				r, body := s.do("GET", "/big.bin", askFor(c.headers...)...)
				if r.StatusCode != c.status {
					t.Fatalf("%s, want %d", r.Status, c.status)
				}
				if c.want.Length == 0 {
					if r.Header.Get("Content-Encoding") != "" {
						t.Errorf("%v", r.Header)
					}
					return
				}
				s.check(t, r, body, version, c.want)
				if r.Header.Get("Etag") != tag || r.Header.Get("Last-Modified") != modified {
					t.Errorf("the validators are %v", r.Header)
				}
				want := ""
				if c.status == 206 {
					want = fmt.Sprintf("bytes %d-%d/%d", c.want.Offset, c.want.End()-1, size)
				}
				if got := r.Header.Get("Content-Range"); got != want {
					t.Errorf("Content-Range %q, want %q", got, want)
				}
			})
		}
	}
	// Several ranges are the file's bytes, as ever.
	r, body := s.do("GET", "/big.bin", askFor("Range", "bytes=0-9,20-29")...)
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "multipart/byteranges" || !strings.Contains(body, string(s.body[20:30])) {
		t.Errorf("%v %q", r.Header, body)
	}
}

// A file's description is that of the version which the answer's validators name.
func TestDescriptionFollowsTheFile(t *testing.T) {
	s := newDescribed(t)
	s.hashed("/big.bin", true)
	r, body := s.do("GET", "/big.bin", askFor()...)
	s.check(t, r, body, 2, bits.Range{Length: int64(len(s.body))})
	tag := r.Header.Get("Etag")
	s.body = random(2<<20 + 1)
	s.write("big.bin", string(s.body))
	r, body = s.do("GET", "/big.bin", acceptEncoding, "peerdist", peerDist, "Version=1.1", peerDistEx, both)
	if r.Header.Get(peerDistEx) != "MakeHashRequest=true" || body != string(s.body) || r.Header.Get("Etag") == tag {
		t.Fatalf("after a change: %v with %d bytes", r.Header, len(body))
	}
	s.hashed("/big.bin", true)
	r, body = s.do("GET", "/big.bin", askFor()...)
	s.check(t, r, body, 2, bits.Range{Length: int64(len(s.body))})
}

// What is not encrypted is for nobody, unless that is wanted; what is is for HTTP/2 too.
func TestDescribedOverTLSAlone(t *testing.T) {
	s := newDescribed(t)
	s.hashed("/big.bin", true)
	s.h.Describing.PlainHTTP = false
	if r, body := s.do("GET", "/big.bin", askFor()...); body != string(s.body) || r.Header.Get(peerDist) != "" || r.Header.Get("Vary") != "" {
		t.Errorf("without TLS: %v", r.Header)
	}
	secure := httptest.NewUnstartedServer(s.Config.Handler)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	req, err := http.NewRequest("GET", secure.URL+"/big.bin", nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := askFor()
	for i := 0; i < len(ask); i += 2 {
		req.Header.Set(ask[i], ask[i+1])
	}
	resp, err := secure.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.ProtoMajor != 2 {
		t.Fatal(resp.Proto, err)
	}
	s.check(t, resp, string(b), 2, bits.Range{Length: int64(len(s.body))})
}

// The memory of answers is bounded: whoever comes when there is no more gets the file, and what answers took
// is given back, also of those that broke off.
func TestDescriptionsAreBounded(t *testing.T) {
	s := newDescribed(t)
	s.hashed("/big.bin", true)
	o := s.h.Describing.Origin
	o.memory.Add(mostMemory)
	if r, body := s.do("GET", "/big.bin", askFor()...); body != string(s.body) || r.Header.Get(peerDist) != "Version=1.1" {
		t.Errorf("%v with %d bytes", r.Header, len(body))
	}
	o.memory.Add(-mostMemory)
	r, body := s.do("GET", "/big.bin", askFor()...)
	s.check(t, r, body, 2, bits.Range{Length: int64(len(s.body))})
	s.Close() // waits for what is under way
	if n := o.memory.Load(); n != 0 {
		t.Errorf("%d bytes are taken by nobody", n)
	}
}
