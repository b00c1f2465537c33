package faultserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// start starts a server for a test.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// await waits for a condition on the server's log.
func await(t *testing.T, s *Server, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Await(ctx, cond); err != nil {
		t.Fatalf("waiting for %s: %v; log: %+v", what, err, s.Requests())
	}
}

// part returns n bytes of a file at off.
func part(f File, off, n int64) string {
	buf := make([]byte, n)
	got, _ := Content(f.Seed, f.Size).ReadAt(buf, off)
	return string(buf[:got])
}

// wire is an answer as it came over the connection.
type wire struct {
	status string   // the status line
	lines  []string // the header's lines
	body   string
	err    error // what ended the connection; nil if it was closed in good order
}

// values returns the values of a header, in their order.
func (w wire) values(name string) []string {
	var all []string
	for _, line := range w.lines {
		if n, v, _ := strings.Cut(line, ": "); strings.EqualFold(n, name) {
			all = append(all, v)
		}
	}
	return all
}

// dial connects to a server and sends a GET for path, with further header lines.
func dial(t *testing.T, s *Server, path string, lines ...string) net.Conn {
	t.Helper()
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	lines = append([]string{"GET " + path + " HTTP/1.1", "Host: " + u.Host, "Connection: close"}, lines...)
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return c
}

// get asks for path on a connection of its own and reads until it ends.
func get(t *testing.T, s *Server, path string, lines ...string) wire {
	t.Helper()
	return read(t, dial(t, s, path, lines...))
}

func read(t *testing.T, c net.Conn) wire {
	t.Helper()
	all, err := io.ReadAll(c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the answer does not end: got %d bytes", len(all))
	}
	head, body, _ := bytes.Cut(all, []byte("\r\n\r\n"))
	lines := strings.Split(string(head), "\r\n")
	return wire{status: lines[0], lines: lines[1:], body: string(body), err: err}
}

var (
	v1 = File{Seed: 1, Size: 300_000, ETag: `"one"`, LastModified: time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)}
	v2 = File{Seed: 2, Size: 300_000, ETag: `"two"`, LastModified: time.Date(2025, 6, 7, 8, 9, 10, 0, time.UTC)}
)

const (
	v1Modified = "Thu, 02 Jan 2025 03:04:05 GMT"
	ok         = "HTTP/1.1 200 OK"
	partial    = "HTTP/1.1 206 Partial Content"
	refused    = "HTTP/1.1 416 Requested Range Not Satisfiable"
	unmodified = "HTTP/1.1 304 Not Modified"
)

func TestWhatGoesOverTheWire(t *testing.T) {
	whole := part(v1, 0, v1.Size)
	tail := part(v1, 200_000, 100_000)
	fromTail := []string{"Range: bytes=200000-"}
	tailRange := map[string]string{"Content-Range": "bytes 200000-299999/300000", "Content-Length": "100000"}

	tests := []struct {
		name    string
		program Program
		request []string
		status  string
		header  map[string]string // values joined by "|"; empty means that the header must be absent
		body    string
		err     error
	}{
		// Correct answers.
		{"whole", Program{}, nil, ok, map[string]string{"Content-Length": "300000", "ETag": `"one"`,
			"Last-Modified": v1Modified, "Accept-Ranges": "bytes", "Content-Range": "", "Content-Encoding": ""}, whole, nil},
		{"range to the end", Program{}, fromTail, partial, tailRange, tail, nil},
		{"range in the middle", Program{}, []string{"Range: bytes=5-9"}, partial,
			map[string]string{"Content-Range": "bytes 5-9/300000"}, part(v1, 5, 5), nil},
		{"range over the end", Program{}, []string{"Range: bytes=299999-400000"}, partial,
			map[string]string{"Content-Range": "bytes 299999-299999/300000"}, part(v1, 299999, 1), nil},
		{"last bytes", Program{}, []string{"Range: bytes=-4"}, partial,
			map[string]string{"Content-Range": "bytes 299996-299999/300000"}, part(v1, 299996, 4), nil},
		{"range after the end", Program{}, []string{"Range: bytes=300000-"}, refused,
			map[string]string{"Content-Range": "bytes */300000"}, "no such range\n", nil},
		{"several ranges", Program{}, []string{"Range: bytes=0-1,5-6"}, ok, nil, whole, nil},
		{"malformed range", Program{}, []string{"Range: bytes=9-5"}, ok, nil, whole, nil},
		{"If-Range, same ETag", Program{}, append(fromTail, `If-Range: "one"`), partial, tailRange, tail, nil},
		{"If-Range, other ETag", Program{}, append(fromTail, `If-Range: "two"`), ok, map[string]string{"Content-Range": ""}, whole, nil},
		{"If-Range, weak ETag", Program{}, append(fromTail, `If-Range: W/"one"`), ok, nil, whole, nil},
		{"If-Range, same time", Program{}, append(fromTail, "If-Range: "+v1Modified), partial, tailRange, tail, nil},
		{"If-Range, later time", Program{}, append(fromTail, "If-Range: Thu, 02 Jan 2025 03:04:06 GMT"), ok, nil, whole, nil},
		{"If-None-Match, same", Program{}, []string{`If-None-Match: "two", W/"one"`}, unmodified, map[string]string{"ETag": `"one"`}, "", nil},
		{"If-None-Match, other", Program{}, []string{`If-None-Match: "two"`, "If-Modified-Since: " + v1Modified}, ok, nil, whole, nil},
		{"If-Modified-Since, same", Program{}, []string{"If-Modified-Since: " + v1Modified}, unmodified, nil, "", nil},
		{"If-Modified-Since, earlier", Program{}, []string{"If-Modified-Since: Thu, 02 Jan 2025 03:04:04 GMT"}, ok, nil, whole, nil},

		// Lengths and framing.
		{"too long", Program{ContentLength: []string{"300001"}}, nil, ok, map[string]string{"Content-Length": "300001"}, whole, nil},
		{"too short", Program{ContentLength: []string{"299999"}}, nil, ok, map[string]string{"Content-Length": "299999"}, whole, nil},
		{"10 PiB", Program{ContentLength: []string{"11258999068426240"}}, nil, ok, map[string]string{"Content-Length": "11258999068426240"}, whole, nil},
		{"negative", Program{ContentLength: []string{"-1"}}, nil, ok, map[string]string{"Content-Length": "-1"}, whole, nil},
		{"garbage length", Program{ContentLength: []string{"many"}}, nil, ok, map[string]string{"Content-Length": "many"}, whole, nil},
		{"two lengths", Program{ContentLength: []string{"5", "6"}}, nil, ok, map[string]string{"Content-Length": "5|6"}, whole, nil},
		{"close-delimited", Program{Framing: FramingClose}, nil, "HTTP/1.0 200 OK",
			map[string]string{"Content-Length": "", "Transfer-Encoding": ""}, whole, nil},
		{"close-delimited range", Program{Framing: FramingClose}, fromTail, "HTTP/1.0 206 Partial Content",
			map[string]string{"Content-Length": "", "Content-Range": "bytes 200000-299999/300000"}, tail, nil},

		// Cuts.
		{"closed in the middle", Program{Cut: Cut{Close, 1000}}, nil, ok, map[string]string{"Content-Length": "300000"}, whole[:1000], nil},
		{"closed before the body", Program{Cut: Cut{Close, 0}}, nil, ok, map[string]string{"Content-Length": "300000"}, "", nil},
		{"closed in a range", Program{Cut: Cut{Close, 7}}, fromTail, partial, tailRange, tail[:7], nil},
		{"reset in the middle", Program{Cut: Cut{Reset, 100_000}}, nil, ok, map[string]string{"Content-Length": "300000"}, whole[:100_000], syscall.ECONNRESET},
		{"reset after the end", Program{Cut: Cut{Reset, 1 << 40}}, nil, ok, nil, whole, syscall.ECONNRESET},

		// Ranges.
		{"no range support", Program{Range: RangeIgnored}, fromTail, ok, map[string]string{"Accept-Ranges": "", "Content-Range": ""}, whole, nil},
		{"shifted", Program{Range: RangeShifted}, fromTail, partial,
			map[string]string{"Content-Range": "bytes 200001-299999/300000", "Content-Length": "99999"}, tail[1:], nil},
		{"mislabelled", Program{Range: RangeMislabelled}, fromTail, partial, map[string]string{"Content-Range": "bytes 200001-300000/300000"}, tail, nil},
		{"wrong total", Program{Range: RangeWrongTotal}, fromTail, partial, map[string]string{"Content-Range": "bytes 200000-299999/300001"}, tail, nil},
		{"unknown total", Program{Range: RangeStarTotal}, fromTail, partial, map[string]string{"Content-Range": "bytes 200000-299999/*"}, tail, nil},
		{"garbage range", Program{Range: RangeGarbage}, fromTail, partial, map[string]string{"Content-Range": "bytes one-two/three"}, tail, nil},
		{"unlabelled", Program{Range: RangeUnlabelled}, fromTail, partial, map[string]string{"Content-Range": "", "Content-Length": "100000"}, tail, nil},
		{"half of the range", Program{Range: RangeShort}, fromTail, partial,
			map[string]string{"Content-Range": "bytes 200000-249999/300000", "Content-Length": "50000"}, tail[:50000], nil},
		{"multipart", Program{Range: RangeMultipart}, []string{"Range: bytes=0-9"}, partial,
			map[string]string{"Content-Type": "multipart/byteranges; boundary=EBB_TEST_BOUNDARY", "Content-Range": ""},
			"--EBB_TEST_BOUNDARY\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 0-9/300000\r\n\r\n" +
				whole[:10] + "\r\n--EBB_TEST_BOUNDARY--\r\n", nil},
		{"416", Program{Range: RangeRefused}, fromTail, refused, map[string]string{"Content-Range": "bytes */300000"}, "no such range\n", nil},
		{"416 without size", Program{Range: RangeRefusedBare}, fromTail, refused, map[string]string{"Content-Range": ""}, "no such range\n", nil},

		// Validators.
		{"If-Range ignored", Program{IgnoreIfRange: true}, append(fromTail, `If-Range: "two"`), partial, tailRange, tail, nil},
		{"weak ETag", Program{ETag: ETagWeak}, append(fromTail, `If-Range: W/"one"`), ok, map[string]string{"ETag": `W/"one"`}, whole, nil},
		{"no ETag", Program{ETag: ETagNone}, nil, ok, map[string]string{"ETag": "", "Last-Modified": v1Modified}, whole, nil},
		{"no time", Program{NoLastModified: true}, nil, ok, map[string]string{"ETag": `"one"`, "Last-Modified": ""}, whole, nil},
		{"no validators", Program{ETag: ETagNone, NoLastModified: true}, append(fromTail, `If-Range: "one"`), ok,
			map[string]string{"ETag": "", "Last-Modified": ""}, whole, nil},
		{"206 without validators", Program{BareRange: true}, fromTail, partial, map[string]string{"ETag": "", "Last-Modified": ""}, tail, nil},
		{"200 has them all the same", Program{BareRange: true}, nil, ok, map[string]string{"ETag": `"one"`}, whole, nil},

		// Statuses.
		{"503", Program{Status: 503, RetryAfter: "120"}, nil, "HTTP/1.1 503 Service Unavailable", map[string]string{"Retry-After": "120", "ETag": ""}, "Service Unavailable\n", nil},
		{"429", Program{Status: 429, RetryAfter: v1Modified}, nil, "HTTP/1.1 429 Too Many Requests", map[string]string{"Retry-After": v1Modified}, "Too Many Requests\n", nil},
		{"404", Program{Status: 404}, nil, "HTTP/1.1 404 Not Found", nil, "Not Found\n", nil},
		{"401", Program{Status: 401}, nil, "HTTP/1.1 401 Unauthorized", map[string]string{"WWW-Authenticate": `Basic realm="test"`}, "Unauthorized\n", nil},
		{"403", Program{Status: 403}, nil, "HTTP/1.1 403 Forbidden", nil, "Forbidden\n", nil},
		{"410", Program{Status: 410}, nil, "HTTP/1.1 410 Gone", nil, "Gone\n", nil},
		{"501", Program{Status: 501}, nil, "HTTP/1.1 501 Not Implemented", nil, "Not Implemented\n", nil},
		{"reset after 500", Program{Status: 500, Cut: Cut{Reset, 0}}, nil, "HTTP/1.1 500 Internal Server Error", nil, "Internal Server Error\n", syscall.ECONNRESET},
		{"redirect", Program{Redirect: "file:///etc/passwd"}, nil, "HTTP/1.1 302 Found", map[string]string{"Location": "file:///etc/passwd"}, "elsewhere\n", nil},
		{"redirect 308", Program{Redirect: "../x", RedirectStatus: 308}, nil, "HTTP/1.1 308 Permanent Redirect", map[string]string{"Location": "../x"}, "elsewhere\n", nil},
		{"huge Location", Program{Redirect: "/" + strings.Repeat("x", 1<<20)}, nil, "HTTP/1.1 302 Found",
			map[string]string{"Location": "/" + strings.Repeat("x", 1<<20)}, "elsewhere\n", nil},

		// Headers.
		{"own header", Program{Header: map[string][]string{"content-disposition": {"attachment; filename=../../x"}, "Content-Type": nil}}, nil, ok,
			map[string]string{"Content-Disposition": "attachment; filename=../../x", "Content-Type": ""}, whole, nil},
		{"dripped header", Program{HeaderDrip: Drip{20, time.Millisecond}}, nil, ok, map[string]string{"Content-Length": "300000"}, whole, nil},
		{"garbage", Program{Garbage: "SSH-2.0-OpenSSH_9.2p1\r\n"}, nil, "SSH-2.0-OpenSSH_9.2p1", nil, "", nil},

		// Speeds change nothing in the bytes.
		{"limited", Program{Rate: 1_500_000}, fromTail, partial, tailRange, tail, nil},
		{"dripped", Program{Drip: Drip{3, time.Millisecond}}, []string{"Range: bytes=0-9"}, partial, nil, whole[:10], nil},
	}
	s := start(t, Options{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s.File("/file", v1).Set(func(p *Program) { *p = test.program })
			got := get(t, s, "/file", test.request...)
			if got.status != test.status {
				t.Errorf("status line %q, want %q", got.status, test.status)
			}
			for name, want := range test.header {
				if values := strings.Join(got.values(name), "|"); values != want {
					t.Errorf("%s: %.80q, want %.80q", name, values, want)
				}
			}
			if got.body != test.body {
				t.Errorf("body of %d bytes %.20q, want %d bytes %.20q", len(got.body), got.body, len(test.body), test.body)
			}
			if !errors.Is(got.err, test.err) || test.err == nil && got.err != nil {
				t.Errorf("connection ended with %v, want %v", got.err, test.err)
			}
		})
	}
}

func TestHeadersOverAMegabyte(t *testing.T) {
	s := start(t, Options{})
	s.File("/file", v1).Set(func(p *Program) { p.HeaderBytes = 1<<20 + 1 })
	got := get(t, s, "/file")
	if n := len(strings.Join(got.lines, "\r\n")); n <= 1<<20 || got.status != ok || len(got.body) != int(v1.Size) {
		t.Errorf("%s, %d bytes of header, %d of body", got.status, n, len(got.body))
	}
}

func TestInformationalAnswersComeFirst(t *testing.T) {
	for _, p := range []Program{{Informational: 50}, {Informational: 50, Cut: Cut{Close, 0}}} {
		s := start(t, Options{})
		s.File("/file", v1).Script(p)
		got := get(t, s, "/file")
		const early = "HTTP/1.1 103 Early Hints"
		if n := strings.Count(got.body, early+"\r\n\r\n"); got.status != early || n != 49 || !strings.Contains(got.body, ok+"\r\n") {
			t.Errorf("begins %q, then %d more, then %.60q", got.status, n, got.body)
		}
	}
}

func TestETagTokenIsAnotherWithEachRequest(t *testing.T) {
	s := start(t, Options{})
	s.File("/file", v1).Set(func(p *Program) { p.ETag = ETagToken })
	var tags []string
	for range 3 {
		got := get(t, s, "/file", "Range: bytes=0-1", `If-Range: "token-1"`)
		tags = append(tags, got.values("ETag")...)
	}
	if want := []string{`"token-1"`, `"token-2"`, `"token-3"`}; !slices.Equal(tags, want) {
		t.Errorf("ETags %q, want %q", tags, want)
	}
}
