package faultserver

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// client is an ordinary client that trusts the test CA, follows no redirect and asks for no
// compression.
func client(t *testing.T, protocol Protocol) *http.Client {
	t.Helper()
	pool, err := CAPool()
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(protocol == HTTP1)
	protocols.SetHTTP2(protocol != HTTP1)
	transport := &http.Transport{Protocols: &protocols, DisableCompression: true}
	transport.TLSClientConfig = tlsConfig(pool)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetch asks for a URL, from an offset if that is not negative, and reads the whole body.
func fetch(t *testing.T, c *http.Client, address string, from int64) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if from >= 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp, string(body), err
}

// waiting reports whether an answer for path is silent or stalled.
func waiting(s *Server, path string) func() bool {
	return func() bool {
		for _, q := range s.RequestsFor(path) {
			if q.Waiting {
				return true
			}
		}
		return false
	}
}

func TestStallGoesOnAfterRelease(t *testing.T) {
	for _, framing := range []Framing{FramingLength, FramingChunked, FramingClose} {
		s := start(t, Options{})
		e := s.File("/file", v1)
		e.Set(func(p *Program) { p.Cut, p.Framing = Cut{Stall, 1234}, framing })
		c := dial(t, s, "/file")
		await(t, s, "the stall", waiting(s, "/file"))
		if got := s.Sent("/file"); got != 1234 {
			t.Errorf("framing %d: stalled after %d bytes, want 1234", framing, got)
		}
		e.Release()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if string(body) != part(v1, 0, v1.Size) || err != nil {
			t.Errorf("framing %d: %d bytes after release, %v", framing, len(body), err)
		}
		_ = resp.Body.Close()
	}
}

func TestStallEndsWhenTheClientLeaves(t *testing.T) {
	for _, p := range []Program{{Cut: Cut{Stall, 10}}, {Cut: Cut{Stall, 10}, Framing: FramingClose}, {Silent: true}} {
		s := start(t, Options{})
		s.File("/file", v1).Script(p)
		c := dial(t, s, "/file")
		await(t, s, "the stall", waiting(s, "/file"))
		_ = c.Close()
		await(t, s, "the answer's end", s.Idle)
	}
}

func TestSilentAnswersAfterRelease(t *testing.T) {
	s := start(t, Options{})
	e := s.File("/file", v1)
	e.Script(Program{Silent: true, Status: 503})
	c := dial(t, s, "/file")
	await(t, s, "the silence", waiting(s, "/file"))
	if q := s.Requests()[0]; q.Status != 0 || q.Sent != 0 {
		t.Errorf("a silent server answered: %+v", q)
	}
	e.Release()
	if got := read(t, c); got.status != "HTTP/1.1 503 Service Unavailable" {
		t.Errorf("after release: %q", got.status)
	}
}

func TestScriptThenStandingProgram(t *testing.T) {
	s := start(t, Options{})
	e := s.File("/file", v1)
	e.Script(Program{Status: 503, RetryAfter: "1"}, Program{}, Program{Status: 500})
	e.Set(func(p *Program) { p.Status = 410 })
	for i, want := range []int{503, 200, 500, 410, 410} {
		resp, _, err := fetch(t, client(t, HTTP1), e.URL(), -1)
		if err != nil || resp.StatusCode != want {
			t.Errorf("request %d: %v, %v; want %d", i+1, resp, err, want)
		}
	}
}

func TestChunkedTellsNoLengthAndItsCutIsAnError(t *testing.T) {
	s := start(t, Options{})
	e := s.File("/file", v1)
	e.Script(Program{Framing: FramingChunked}, Program{Framing: FramingChunked, Cut: Cut{Close, 5000}},
		Program{Framing: FramingChunked, ContentLength: []string{"10"}})
	c := client(t, HTTP1)
	resp, body, err := fetch(t, c, e.URL(), -1)
	if err != nil || resp.ContentLength != -1 || body != part(v1, 0, v1.Size) {
		t.Errorf("length %d, %d bytes, %v", resp.ContentLength, len(body), err)
	}
	_, body, err = fetch(t, c, e.URL(), -1)
	if !errors.Is(err, io.ErrUnexpectedEOF) || body != part(v1, 0, 5000) {
		t.Errorf("cut: %d bytes, %v", len(body), err)
	}
	both := get(t, s, "/file")
	if both.values("Content-Length")[0] != "10" || both.values("Transfer-Encoding")[0] != "chunked" {
		t.Errorf("both framings: %q", both.lines)
	}
}

func TestGzipThoughIdentityWasAsked(t *testing.T) {
	for _, p := range []Program{{Gzip: true}, {Gzip: true, HeaderDrip: Drip{64, time.Microsecond}}} {
		s := start(t, Options{})
		e := s.File("/file", v1)
		e.Script(p)
		resp, body, err := fetch(t, client(t, HTTP1), e.URL(), -1)
		if err != nil || resp.Header.Get("Content-Encoding") != "gzip" || resp.ContentLength != -1 {
			t.Fatalf("%v, length %d, %v", resp.Header, resp.ContentLength, err)
		}
		z, err := gzip.NewReader(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil || string(plain) != part(v1, 0, v1.Size) {
			t.Errorf("%d bytes unpacked, %v", len(plain), err)
		}
		await(t, s, "the answer's end", s.Idle)
		if q := s.Requests()[0]; q.Offset != -1 || q.Sent != int64(len(body)) {
			t.Errorf("log has offset %d and %d bytes, want -1 and %d", q.Offset, q.Sent, len(body))
		}
	}
}

func TestChange(t *testing.T) {
	longer := File{Seed: 2, Size: 400_000}
	shorter := File{Seed: 2, Size: 150_000}
	old := part(v1, 0, v1.Size)
	tests := []struct {
		name   string
		change Change
		etag   string
		body   string
		err    error
	}{
		{"before the answer", Change{To: v2}, `"two"`, part(v2, 0, v2.Size), nil},
		{"renamed over", Change{To: v2, After: 100_000}, `"one"`, old, nil},
		{"renamed over after the answer", Change{To: v2, After: 1 << 40}, `"one"`, old, nil},
		{"overwritten", Change{To: v2, After: 100_000, InPlace: true}, `"one"`, old[:100_000] + part(v2, 100_000, 200_000), nil},
		{"overwritten, longer", Change{To: longer, After: 100_000, InPlace: true}, `"one"`, old[:100_000] + part(longer, 100_000, 200_000), nil},
		{"overwritten, shorter", Change{To: shorter, After: 140_000, InPlace: true}, `"one"`, old[:140_000], io.ErrUnexpectedEOF},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, Options{})
			e := s.File("/file", v1)
			e.Script(Program{Change: &test.change})
			resp, body, err := fetch(t, client(t, HTTP1), e.URL(), -1)
			if resp == nil || resp.Header.Get("ETag") != test.etag || body != test.body || !errors.Is(err, test.err) {
				t.Fatalf("got %v, %d bytes, %v; want ETag %s, %d bytes, %v", resp, len(body), err, test.etag, len(test.body), test.err)
			}
			// Whoever has the answer finds the new version.
			to := test.change.To.withDefaults()
			_, body, err = fetch(t, client(t, HTTP1), e.URL(), 200_000)
			if test.name != "overwritten, shorter" && (err != nil || body != part(to, 200_000, to.Size)) {
				t.Errorf("then: %d bytes from 200000, %v", len(body), err)
			}
			if got := e.Current(); got != to {
				t.Errorf("now serves %+v, want %+v", got, to)
			}
		})
	}
}

func TestReplaceLetsAnAnswerUnderWayGoOn(t *testing.T) {
	s := start(t, Options{})
	e := s.File("/file", v1)
	e.Script(Program{Cut: Cut{Stall, 100}})
	c := dial(t, s, "/file")
	await(t, s, "the stall", waiting(s, "/file"))
	e.Replace(v2)
	e.Release()
	if got := read(t, c); got.body != part(v1, 0, v1.Size) {
		t.Error("the answer under way is not the old version")
	}
	if got := get(t, s, "/file"); got.body != part(v2, 0, v2.Size) || e.SHA256() != SHA256(v2.Seed, v2.Size) {
		t.Error("the next answer is not the new version")
	}
}

func TestRedirects(t *testing.T) {
	s := start(t, Options{})
	target := s.File("/target", v1)
	e := s.File("/from", File{})
	tests := []struct {
		name    string
		program Program
		hops    int // redirects until the target; -1 is never
	}{
		{"relative", Program{Redirect: "target"}, 1},
		{"chain", Program{Redirect: "/target", Hops: 4, RedirectStatus: 307}, 5},
		{"other host", Program{Redirect: s.URLAt("127.0.0.2") + "/target", RedirectStatus: 301}, 1},
		{"other name", Program{Redirect: s.URLAt("localhost") + "/target", RedirectStatus: 303}, 1},
		{"loop", Program{Redirect: "/from"}, -1},
		{"loop of three", Program{Redirect: "/from", Hops: 2}, -1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e.Script()
			e.Set(func(p *Program) { *p = test.program })
			c, at := client(t, HTTP1), e.URL()
			for hops := 0; ; hops++ {
				resp, body, err := fetch(t, c, at, -1)
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode == http.StatusOK {
					if hops != test.hops || body != part(v1, 0, v1.Size) {
						t.Errorf("at %s after %d hops, want %s after %d", at, hops, target.URL(), test.hops)
					}
					return
				}
				if want := test.program.RedirectStatus; want != 0 && resp.StatusCode != want {
					t.Fatalf("status %d, want %d", resp.StatusCode, want)
				}
				if hops == 20 {
					if test.hops != -1 {
						t.Errorf("no end after %d hops", hops)
					}
					return
				}
				next, err := resp.Location()
				if err != nil {
					t.Fatal(err)
				}
				at = next.String()
			}
		})
	}
}

func TestRedirectThatMovesOn(t *testing.T) {
	s := start(t, Options{})
	s.File("/v1", v1)
	s.File("/v2", v2)
	e := s.File("/latest", File{})
	e.Script(Program{Redirect: "/v1"}, Program{Redirect: "/v2"})
	c := client(t, HTTP1)
	c.CheckRedirect = nil
	for _, want := range []File{v1, v2} {
		if _, body, err := fetch(t, c, e.URL(), 7); err != nil || body != part(want, 7, want.Size) {
			t.Errorf("%d bytes, %v; want those of seed %d", len(body), err, want.Seed)
		}
	}
}

func TestOtherMethodsAndPaths(t *testing.T) {
	s := start(t, Options{})
	e := s.File("/file", v1)
	head, err := client(t, HTTP1).Head(e.URL())
	if err != nil || head.ContentLength != v1.Size || head.Header.Get("ETag") != v1.ETag {
		t.Errorf("HEAD: %+v, %v", head, err)
	}
	post, err := client(t, HTTP1).Post(e.URL(), "text/plain", strings.NewReader("x"))
	if err != nil || post.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %+v, %v", post, err)
	} else {
		_ = post.Body.Close()
	}
	if resp, _, err := fetch(t, client(t, HTTP1), s.URL()+"/nowhere", -1); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("unknown path: %+v, %v", resp, err)
	}
}

func TestDeafAcceptsAndNeverAnswers(t *testing.T) {
	s := start(t, Options{})
	s.File("/file", v1)
	s.SetDeaf(true)
	u, _ := url.Parse(s.URL())
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	await(t, s, "the connection", func() bool { return s.Connections() == 1 })
	s.SetDeaf(false)
	if got := get(t, s, "/file"); got.status != ok {
		t.Errorf("with its hearing back: %q", got.status)
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("%d requests logged, want 1", n)
	}
	s.Stop() // which ends the deaf connection
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a deaf connection said something")
	}
}
