package bits_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/bupwire"
	front "github.com/ebbtransfer/ebb/internal/serve/bits"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// server is the front end over a store in a directory, with a socket.
type server struct {
	t     testing.TB
	root  string
	store session.Store
	addr  string
	url   string
}

// serve starts a server for the prefix /up/. Configure may change what is configured.
func serve(t testing.TB, configure func(*session.Prefix), o session.Options) *server {
	t.Helper()
	s := &server{t: t, root: t.TempDir()}
	store, err := session.OpenDir(s.root, o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(handler(s.root, store, configure))
	t.Cleanup(func() {
		srv.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	s.store, s.addr, s.url = store, srv.Listener.Addr().String(), srv.URL
	return s
}

// handler is the front end behind what package serve does: to say who asks.
func handler(root string, store session.Store, configure func(*session.Prefix)) http.Handler {
	p := &session.Prefix{
		Path: "/up/", Root: root, Store: store, Log: slog.New(slog.DiscardHandler),
		SessionTimeout: time.Hour, MaxSize: -1, MaxFragment: bupwire.MaxFragment, NotifyTimeout: 10 * time.Second,
	}
	if configure != nil {
		configure(p)
	}
	h := front.New(p)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(session.WithPrincipal(r.Context(), r.Header.Get("X-User"))))
	})
}

// client returns a client that uploads to the prefix's name.
func (s *server) client(name string) *windows {
	c := &windows{t: s.t, addr: s.addr, path: "/up/" + name, host: s.addr}
	s.t.Cleanup(c.hangUp)
	return c
}

// file checks what is published under a name; nil is nothing.
func (s *server) file(name string, want []byte) {
	s.t.Helper()
	got, err := os.ReadFile(filepath.Join(s.root, name))
	switch {
	case want == nil && !os.IsNotExist(err):
		s.t.Errorf("%s is there: %d bytes, %v", name, len(got), err)
	case want != nil && (err != nil || !bytes.Equal(got, want)):
		s.t.Errorf("%s has %d bytes, want %d; %v", name, len(got), len(want), err)
	}
}

// left checks how many sessions are there.
func (s *server) left(want int) {
	s.t.Helper()
	names, err := filepath.Glob(filepath.Join(s.root, session.Hidden, "*.record"))
	if err != nil || len(names) != want {
		s.t.Errorf("%d sessions are left, want %d; %v", len(names), want, err)
	}
}

func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

const (
	notFound = "BITS-Error-Code: 0x8020001F"
	badArg   = "BITS-Error-Code: 0x80070057"
	denied   = "BITS-Error-Code: 0x80070005"
	byServer = "BITS-Error-Context: 0x5"
	byApp    = "BITS-Error-Context: 0x7"
)

// The messages of [MC-BUP] 4, example 1, but for the session's id, which the server chooses.
func TestExchangeOfTheSpecification(t *testing.T) {
	dir := filepath.Join("..", "..", "bupwire", "testdata", "upload-example1")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Replace(b, []byte(" /upload/"), []byte(" /up/"), 1)
	}
	s := serve(t, nil, session.Options{})
	c := s.client("")
	a := c.expect(read("01-ex1-create-session-request-from-the-client.bin"), 200, "BITS-Packet-Type: Ack", "BITS-Protocol: "+guid)
	mine := func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}"), []byte(a.header["BITS-Session-Id"]))
	}
	body := read("04-ex1-fragment-request-from-the-client-message-body.bin")
	c.expect(append(mine(read("03-ex1-fragment-request-from-the-client-headers-only.bin")), body...), 200, "BITS-Received-Content-Range: 4892", "BITS-Reply-URL", "BITS-Error", "BITS-Error-Code")
	s.file("2000mb-rfc2119.txt", body) // before Close
	c.expect(read("06-ex1-ping-request-from-the-client.bin"), 200, "BITS-Packet-Type: Ack")
	c.expect(mine(read("08-ex1-close-session-request-from-the-client.bin")), 200, "BITS-Packet-Type: Ack")
	s.file("2000mb-rfc2119.txt", body)
	s.left(0)
}

func TestUploadInFragmentsOfAnySize(t *testing.T) {
	s := serve(t, nil, session.Options{})
	for i, v := range []struct{ size, fragment int }{{1, 5 << 10}, {100_000, 5 << 10}, {100_001, 1}, {20 << 20, 13 << 20}, {5 << 20, 1<<20 + 7}} {
		if v.fragment == 1 {
			v.size = 300
		}
		name, want := fmt.Sprint("f", i), content(v.size)
		s.client(name).upload(want, int64(v.fragment))
		s.file(name, want)
	}
	s.left(0)
}

func TestZeroLength(t *testing.T) {
	s := serve(t, nil, session.Options{})
	for i, rng := range []string{"bytes */0", "bytes 0--1/0", "bytes 0-0/0"} {
		name := fmt.Sprint("empty", i)
		c := s.client(name)
		c.open()
		c.expect(c.packet("Fragment", 0, "BITS-Session-Id: "+c.session, "Content-Range: "+rng), 200, "BITS-Received-Content-Range: 0")
		s.file(name, []byte{})
		c.expect(c.end("Close-Session"), 200)
		s.file(name, []byte{})
	}
	c := s.client("nothing")
	c.open()
	c.expect(c.end("Close-Session"), 200)
	s.file("nothing", nil)
	s.left(0)
}

// The table of server.md 1.8.
func TestOverlapDuplicateGap(t *testing.T) {
	s := serve(t, nil, session.Options{})
	want := content(1000)
	bad := content(1001)[1:] // overlapping bytes are not written, whatever they are
	c := s.client("f")
	c.open()
	next := func(n int) string { return fmt.Sprint("BITS-Received-Content-Range: ", n) }
	c.expect(c.fragment(want, 0, 400, 1000), 200, next(400), "BITS-Error-Code", "BITS-Session-Id: "+c.session)
	c.expect(c.fragment(bad, 0, 400, 1000), 416, next(400), "BITS-Packet-Type: Ack", "BITS-Error-Code: 0x0", "BITS-Error: 0x0", byServer)
	c.expect(c.fragment(bad, 100, 300, 1000), 416, next(400))
	c.expect(c.fragment(want, 401, 500, 1000), 416, next(400))
	c.expect(c.fragment(want, 500, 1000, 1000), 416, next(400))
	overlap := append(append([]byte{}, bad[:400]...), want[400:]...)
	c.expect(c.fragment(overlap, 399, 600, 1000), 200, next(600))
	c.expect(c.fragment(overlap, 0, 700, 1000), 200, next(700))
	c.expect(c.fragment(want, 700, 800, 999), 400, badArg, byServer)
	c.expect(c.fragment(want, 0, 1000, 1000), 200, next(1000))
	s.file("f", want)
	// All is here: anything repeats the last answer.
	c.expect(c.fragment(bad, 900, 1000, 1000), 200, next(1000))
	c.expect(c.fragment(bad, 0, 10, 1000), 200, next(1000))
	c.expect(c.fragment(bad, 0, 10, 1001), 400, badArg)
	c.expect(c.end("Close-Session"), 200)
	s.file("f", want)
	c.expect(c.end("Close-Session"), 500, notFound, byServer)
}

func TestDuplicateOfTheLargestFragmentGetsItsAnswer(t *testing.T) {
	s := serve(t, nil, session.Options{})
	want := content(14 << 20)
	c := s.client("f")
	c.open()
	c.expect(c.fragment(want, 0, 13<<20, 14<<20), 200)
	conn := c.conn
	c.expect(c.fragment(want, 0, 13<<20, 14<<20), 416, "BITS-Received-Content-Range: 13631488")
	if c.conn != conn {
		t.Error("the connection was closed")
	}
	c.expect(c.fragment(want, 13<<20, 14<<20, 14<<20), 200)
	s.file("f", want)
}

func TestCancelAndClose(t *testing.T) {
	s := serve(t, nil, session.Options{})
	want := content(100)
	for _, kind := range []string{"Cancel-Session", "Close-Session"} {
		c := s.client("part-" + kind)
		c.open()
		c.expect(c.fragment(want, 0, 50, 100), 200)
		c.expect(c.end(kind), 200, "BITS-Packet-Type: Ack", "BITS-Session-Id: "+c.session)
		s.file("part-"+kind, nil)
		c.expect(c.end(kind), 500, notFound)
		c.expect(c.fragment(want, 50, 100, 100), 500, notFound, "BITS-Error: 0x8020001F", byServer)

		c = s.client("whole-" + kind)
		c.open()
		c.expect(c.fragment(want, 0, 100, 100), 200)
		c.expect(c.end(kind), 200)
		s.file("whole-"+kind, want) // what is published stays
	}
	s.left(0)
}

func TestSessionsBelongToPrincipalAndURL(t *testing.T) {
	s := serve(t, nil, session.Options{})
	want := content(100)
	c := s.client("f")
	c.user = "ann"
	c.open()
	c.expect(c.fragment(want, 0, 50, 100), 200)
	for _, other := range []struct{ user, path string }{{"bob", "/up/f"}, {"", "/up/f"}, {"ann", "/up/g"}} {
		o := s.client("")
		o.user, o.path, o.session = other.user, other.path, c.session
		o.expect(o.fragment(want, 50, 100, 100), 500, notFound)
		o.expect(o.end("Cancel-Session"), 500, notFound)
	}
	for _, id := range []string{"{00000000-0000-0000-0000-000000000000}", "x", "../../etc/passwd", "{A0FF5911}"} {
		o := s.client("f")
		o.user, o.session = "ann", id
		o.expect(o.fragment(want, 50, 100, 100), 500, notFound)
	}
	c.expect(c.fragment(want, 50, 100, 100), 200)
	s.file("f", want)
}

func TestOverwrite(t *testing.T) {
	old, want := []byte("old"), content(100)
	s := serve(t, nil, session.Options{})
	if err := os.WriteFile(filepath.Join(s.root, "f"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	c := s.client("f")
	c.expect(c.create(), 403, denied, byServer)
	// Two sessions for one name: the second one to end loses, as often as it tries.
	a, b := s.client("g"), s.client("g")
	a.open()
	b.open()
	a.expect(a.fragment(want, 0, 100, 100), 200)
	b.expect(b.fragment(old, 0, 3, 3), 403, denied, byServer)
	b.expect(b.fragment(old, 0, 3, 3), 403, denied, byServer)
	b.expect(b.end("Cancel-Session"), 200)
	a.expect(a.end("Close-Session"), 200)
	s.file("g", want)
	s.file("f", old)
	s.left(0)

	s = serve(t, func(p *session.Prefix) { p.Overwrite = true }, session.Options{})
	if err := os.WriteFile(filepath.Join(s.root, "f"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	c = s.client("f")
	c.open()
	c.expect(c.fragment(want, 0, 99, 100), 200)
	s.file("f", old)
	c.expect(c.fragment(want, 99, 100, 100), 200)
	s.file("f", want)
}

func TestRefusals(t *testing.T) {
	s := serve(t, func(p *session.Prefix) { p.MaxSize, p.MaxFragment = 1000, 500 }, session.Options{Sessions: 3})
	if err := os.Mkdir(filepath.Join(s.root, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := s.client("f")
	c.open()
	id := "BITS-Session-Id: " + c.session
	at := func(path string, raw []byte) []byte {
		return bytes.Replace(raw, []byte(" /up/f "), []byte(" "+path+" "), 1)
	}
	without := func(header string, raw []byte) []byte {
		head, rest, _ := bytes.Cut(raw, []byte("\r\n"+header))
		_, tail, _ := bytes.Cut(rest, []byte("\r\n"))
		return append(append(head, "\r\n"...), tail...)
	}
	full := content(2000)
	for _, v := range []struct {
		name   string
		raw    []byte
		status int
		header []string
	}{
		{"no common protocol", c.packet("Create-Session", 0, "BITS-Supported-Protocols: {00000000-0000-0000-0000-000000000000}"), 400, []string{badArg, byServer}},
		{"no protocols", c.packet("Create-Session", 0), 400, []string{badArg}},
		{"a directory", at("/up/dir", c.create()), 400, []string{badArg}},
		{"the prefix itself", at("/up/", c.create()), 400, []string{badArg}},
		{"a directory that is not there", at("/up/no/f", c.create()), 404, []string{"BITS-Error-Code: 0x80070003"}},
		{"out of the root", at("/up/../x", c.create()), 400, []string{badArg}},
		{"out of the root, escaped", at("/up/%2e%2e%2fx", c.create()), 400, []string{badArg}},
		{"backslashes", at("/up/..%5cx", c.create()), 400, []string{badArg}},
		{"NUL", at("/up/a%00b", c.create()), 400, []string{badArg}},
		{"a device", at("/up/nul.txt", c.create()), 400, []string{badArg}},
		{"the sessions themselves", at("/up/.ebb-uploads/x", c.create()), 400, []string{badArg}},
		{"the replies", at("/up/BITS-Sessions/x", c.create()), 400, []string{badArg}},
		{"an unknown packet", c.packet("Query-Session", 0, id), 400, []string{badArg}},
		{"a header beyond 4 KiB", c.packet("Ping", 0, "Content-Name: "+strings.Repeat("n", 5000)), 400, []string{badArg}},
		{"no Content-Length", without("Content-Length", c.packet("Fragment", 10, id, "Content-Range: bytes 0-9/100")), 411, []string{badArg}},
		{"no range", append(c.packet("Fragment", 10, id), full[:10]...), 400, []string{badArg}},
		{"a range backwards", append(c.packet("Fragment", 10, id, "Content-Range: bytes 9-0/100"), full[:10]...), 400, []string{badArg}},
		{"a length that is not the range's", append(c.packet("Fragment", 10, id, "Content-Range: bytes 0-10/100"), full[:10]...), 400, []string{badArg}},
		{"larger than allowed", c.fragment(full, 0, 10, 1001), 500, []string{"BITS-Error-Code: 0x80200020", byServer}},
		{"a fragment larger than allowed", c.fragment(full, 0, 501, 1000), 413, []string{"BITS-Error-Code", "BITS-Error"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			o := *c
			o.t, o.conn = t, nil
			defer o.hangUp()
			o.expect(v.raw, v.status, v.header...)
		})
	}
	t.Run("too many sessions", func(t *testing.T) {
		o := s.client("h")
		o.t = t
		o.open()
		o.open()
		o.expect(o.create(), 503, "Retry-After: 60")
		o.expect(o.end("Cancel-Session"), 200)
		o.expect(o.create(), 200)
	})
	// None of this has done anything to the session.
	c.expect(c.fragment(full, 0, 500, 1000), 200)
	c.expect(c.fragment(full, 500, 1000, 1000), 200)
	s.file("f", full[:1000])
	s.file("../x", nil)
}

// What nginx makes of requests, and what the Citrix client sends and wants (server.md 1.2, 1.16).
func TestHTTP10AndMissingContentLength(t *testing.T) {
	s := serve(t, nil, session.Options{})
	want := content(100)
	c := s.client("f")
	old := func(raw []byte) []byte {
		c.hangUp()
		raw = bytes.Replace(raw, []byte(" HTTP/1.1"), []byte(" HTTP/1.0"), 1)
		raw = bytes.Replace(raw, []byte("Connection: Keep-Alive"), []byte("Connection: close"), 1)
		return bytes.Replace(raw, []byte("Content-Length: 0\r\n"), nil, 1)
	}
	a := c.expect(old(bytes.Replace(c.create(), []byte(guid), []byte("{7df0354d-249b-430f-820D-3D2A9BEF4931}"), 1)), 200)
	if c.session = a.header["BITS-Session-Id"]; a.proto != "HTTP/1.0" || c.session == "" {
		t.Errorf("answer %s %v", a.proto, a)
	}
	c.expect(old(bytes.Replace(c.fragment(want, 0, 100, 100), []byte("Fragment"), []byte("FRAgmENT"), 1)), 200, "BITS-Received-Content-Range: 100")
	c.expect(old(c.end("Close-Session")), 200)
	s.file("f", want)
}

func TestChunkedFragment(t *testing.T) {
	s := serve(t, nil, session.Options{})
	want := content(100)
	c := s.client("f")
	c.open()
	chunked := func(from, to int) []byte {
		raw := c.fragment(want, int64(from), int64(to), 100)
		head := bytes.Replace(raw[:len(raw)-(to-from)], fmt.Appendf(nil, "Content-Length: %d", to-from), []byte("Transfer-Encoding: chunked"), 1)
		return fmt.Appendf(head, "%x\r\n%s\r\n0\r\n\r\n", to-from, want[from:to])
	}
	c.expect(chunked(0, 40), 200, "BITS-Received-Content-Range: 40")
	c.expect(chunked(40, 100), 200, "BITS-Received-Content-Range: 100")
	s.file("f", want)
}

// expecting splits a request whose body waits for 100 Continue.
func expecting(raw []byte) (head, body []byte) {
	i := bytes.Index(raw, []byte("\r\n\r\n"))
	return append(append([]byte{}, raw[:i]...), "\r\nExpect: 100-continue\r\n\r\n"...), raw[i+4:]
}

func TestExpectContinue(t *testing.T) {
	s := serve(t, nil, session.Options{})
	want := content(100)
	c := s.client("f")
	c.open()
	head, body := expecting(c.fragment(want, 0, 50, 100))
	c.expect(head, 100)
	c.expect(body, 200, "BITS-Received-Content-Range: 50")
	head, _ = expecting(c.fragment(want, 0, 50, 100))
	c.expect(head, 416, "BITS-Received-Content-Range: 50") // at once, without the body
	c.hangUp()
	head, body = expecting(c.fragment(want, 50, 100, 100))
	c.expect(head, 100)
	c.expect(body, 200)
	s.file("f", want)
}

func TestHostID(t *testing.T) {
	s := serve(t, func(p *session.Prefix) { p.HostID, p.HostIDFallback = "NODE1:8080", 110*time.Second }, session.Options{})
	want := content(100)
	c := s.client("f")
	c.expect(c.create(), 200, "BITS-Host-Id: NODE1:8080", "BITS-Host-Id-Fallback-Timeout: 110")
	c.open()
	c.host = "NODE1:8080" // as Windows does from now on
	c.expect(c.ping(), 200)
	if err := c.sendAll(want, 60); err != nil {
		t.Fatal(err)
	}
	c.expect(c.end("Close-Session"), 200, "BITS-Host-Id")
	s.file("f", want)

	s = serve(t, func(p *session.Prefix) { p.HostID = "NODE1" }, session.Options{})
	c = s.client("f")
	c.expect(c.create(), 200, "BITS-Host-Id: NODE1", "BITS-Host-Id-Fallback-Timeout")
}

func TestOtherMethods(t *testing.T) {
	s := serve(t, nil, session.Options{})
	c := s.client("f")
	c.expect(bytes.Replace(c.ping(), []byte("BITS_POST"), []byte("DELETE"), 1), 405, "Allow: BITS_POST, GET, HEAD")
	if a := c.get("/up/f", ""); a.status != 404 {
		t.Error(a)
	}
}

// The server takes fragments that are smaller than clients like to send them.
func TestClientShrinksItsFragments(t *testing.T) {
	s := serve(t, func(p *session.Prefix) { p.MaxFragment = 1 << 20 }, session.Options{})
	want := content(14 << 20)
	s.client("f").upload(want, 13<<20)
	s.file("f", want)
}

// A client that lost its connection comes back over another one while the server still waits for
// the rest of the first one's fragment.
func TestNewConnectionTakesTheSessionOver(t *testing.T) {
	s := serve(t, nil, session.Options{})
	want := content(10_000)
	c := s.client("f")
	c.open()
	head, body := expecting(c.fragment(want, 0, 9_000, 10_000))
	c.expect(head, 100) // it has the session now
	if _, err := c.conn.Write(body[:7_000]); err != nil {
		t.Fatal(err)
	}
	second := *c
	second.conn = nil
	defer second.hangUp()
	began := time.Now()
	second.expect(second.ping(), 200)
	if err := second.sendAll(want, 9_000); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	s.file("f", want)
	a, err := c.read() // the first connection is told how far it came, and closed
	if err != nil || a.status != 200 || a.header["Connection"] != "close" {
		t.Errorf("%v, %v", a, err)
	}
}

// The body ends before its range does: what came is kept, and an answer that can still be read
// says so.
func TestShortBodyIsKept(t *testing.T) {
	s := serve(t, nil, session.Options{})
	want := content(10_000)
	c := s.client("f")
	c.open()
	raw := c.fragment(want, 0, 9_000, 10_000)
	if _, err := c.conn.Write(raw[:len(raw)-2_000]); err != nil {
		t.Fatal(err)
	}
	if err := c.conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	a, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	c.check(a, 200, "BITS-Received-Content-Range: 7000", "Connection: close")
	c.offset = 4000 // it may believe what it likes
	if err := c.sendAll(want, 9_000); err != nil {
		t.Fatal(err)
	}
	s.file("f", want)
}

// The connection breaks after any byte of a request, or after all of it and before the answer; the
// client pings and goes on from the last offset that it knows.
func TestResumeAfterLossAtAnyByte(t *testing.T) {
	s := serve(t, nil, session.Options{})
	want := content(60)
	probe := s.client("probe")
	probe.open()
	length := len(probe.fragment(want, 20, 60, 60))
	var wg sync.WaitGroup
	defer wg.Wait()
	running := make(chan struct{}, 8)
	for cut := 0; cut <= length; cut++ {
		running <- struct{}{}
		wg.Go(func() {
			defer func() { <-running }()
			name := fmt.Sprint("f", cut)
			c := s.client(name)
			c.open()
			c.expect(c.fragment(want, 0, 20, 60), 200)
			c.offset = 20
			if _, err := c.conn.Write(c.fragment(want, 20, 60, 60)[:cut]); err != nil {
				t.Error(err)
			}
			c.hangUp()
			c.expect(c.ping(), 200)
			if err := c.sendAll(want, 40); err != nil {
				t.Errorf("cut after %d of %d bytes: %v", cut, length, err)
			}
			c.expect(c.end("Close-Session"), 200)
			s.file(name, want)
		})
	}
}
