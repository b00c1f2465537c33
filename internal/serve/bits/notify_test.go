package bits_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// app is the application at a notification URL. It notes how often it was called.
type app struct {
	*httptest.Server
	mu    sync.Mutex // guards what follows
	calls []call
}

type call struct {
	method, uri, host string
	header            http.Header
	length            int64
	body              []byte
}

// application starts one. The answer may be nil for 200 without anything.
func application(t *testing.T, answer func(w http.ResponseWriter, c call)) *app {
	a := &app{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the server was killed
		}
		c := call{r.Method, r.RequestURI, r.Host, r.Header, r.ContentLength, body}
		a.mu.Lock()
		a.calls = append(a.calls, c)
		a.mu.Unlock()
		if answer != nil {
			answer(w, c)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *app) last(t *testing.T, calls int) call {
	t.Helper()
	a.called(t, calls)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[calls-1]
}

func (a *app) called(t *testing.T, times int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.calls) != times {
		t.Fatalf("the application was called %d times, want %d", len(a.calls), times)
	}
}

func notifying(kind session.NotifyType, u string) func(*session.Prefix) {
	return func(p *session.Prefix) { p.Notify, p.NotifyURL = kind, u }
}

// The exchange of server.md 1.15 B, with the reply written to the file that the server names.
func TestUploadReplyByReference(t *testing.T) {
	want, reply := content(4892), content(10240)
	var replyFile string
	a := application(t, func(w http.ResponseWriter, c call) {
		got, err := os.ReadFile(c.header.Get("BITS-Request-DataFile-Name"))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("the application got %d bytes, %v", len(got), err)
		}
		if !sameAsUpload(c.header.Get("BITS-Request-DataFile-Name")) {
			t.Error("the application got a copy")
		}
		replyFile = c.header.Get("BITS-Response-DataFile-Name")
		if err := os.WriteFile(replyFile, reply, 0o600); err != nil {
			t.Error(err)
		}
	})
	s := serve(t, func(p *session.Prefix) {
		p.Notify, p.NotifyURL = session.NotifyByReference, a.URL+"/bitsasp/test.REPLY"
		p.HostID, p.HostIDFallback = "FRANKCAO8", 110*time.Second
	}, session.Options{})
	c := s.client("f.txt")
	c.user, c.host = "ann", "frankcao8"
	c.open()
	c.host = "FRANKCAO8"
	c.expect(c.ping(), 200)
	c.offset = 0
	if err := c.sendAll(want, 4892); err != nil {
		t.Fatal(err)
	}
	got := a.last(t, 1)
	if got.method != "POST" || got.uri != "/bitsasp/test.REPLY" || got.length != 0 || got.header.Get("BITS-Original-Request-URL") != "http://FRANKCAO8/up/f.txt" || !strings.HasPrefix(got.header.Get("User-Agent"), "BITSExts 1.5") {
		t.Errorf("the application got %+v", got)
	}
	for header, want := range map[string]string{
		"BITS-Request-DataFile-Name": "BITS-Sessions/Requests/{*}/requestfile.bin", "BITS-Response-DataFile-Name": "BITS-Sessions/Replies/{*}/responsefile.bin",
	} {
		if ok, _ := filepath.Match(filepath.Join(s.root, filepath.FromSlash(want)), got.header.Get(header)); !ok {
			t.Errorf("%s: %s", header, got.header.Get(header))
		}
	}
	for _, file := range []string{got.header.Get("BITS-Request-DataFile-Name"), replyFile} {
		if _, err := os.Stat(filepath.Dir(file)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", filepath.Dir(file), err)
		}
	}
	s.file("f.txt", nil) // not without BITS-Copy-File-To-Destination

	u, err := url.Parse(c.reply)
	if err != nil || u.Scheme != "http" || u.Host != "FRANKCAO8" || strings.ContainsAny(c.reply, `\{}`) || !strings.HasPrefix(u.Path, "/up/BITS-Sessions/Replies/{") {
		t.Fatalf("reply URL %q, %v", c.reply, err)
	}
	path := u.EscapedPath()
	first := c.get(path, "0-9976")
	if first.status != 206 || first.header["Content-Range"] != "bytes 0-9976/10240" || first.header["Last-Modified"] == "" || first.header["Accept-Ranges"] != "bytes" || first.body != string(reply[:9977]) {
		t.Errorf("reply: %v", first)
	}
	if rest := c.get(path, "9977-10239", "If-Range: "+first.header["Etag"], "If-Unmodified-Since: "+first.header["Last-Modified"]); rest.status != 206 || rest.body != string(reply[9977:]) {
		t.Errorf("rest of the reply: %v", rest)
	}
	o := s.client("f.txt")
	for _, user := range []string{"bob", ""} { // who knows the URL still is not the uploader
		o.user = user
		if a := o.get(path, ""); a.status != 404 || strings.Contains(a.body, string(reply[:16])) {
			t.Errorf("%q got %v", user, a)
		}
	}
	c.expect(c.end("Close-Session"), 200)
	if a := c.get(path, ""); a.status != 404 {
		t.Errorf("the reply outlives Close: %v", a)
	}
	s.left(0)
}

// sameAsUpload reports whether a file for an application is the one of a session under another name.
func sameAsUpload(file string) bool {
	st, err := os.Stat(file)
	if err != nil {
		return false
	}
	names, _ := filepath.Glob(filepath.Join(file, "..", "..", "..", "..", session.Hidden, "*"))
	for _, name := range names {
		if other, err := os.Stat(name); err == nil && os.SameFile(st, other) {
			return true
		}
	}
	return false
}

func TestUploadReplyByValue(t *testing.T) {
	for _, size := range []int{0, 1, 300_000} {
		want, reply := content(size), content(size/2)
		a := application(t, func(w http.ResponseWriter, c call) { _, _ = w.Write(reply) })
		s := serve(t, notifying(session.NotifyByValue, a.URL), session.Options{})
		c := s.client("f?job=7&x=%20y")
		c.open()
		if size == 0 {
			c.expect(c.packet("Fragment", 0, "BITS-Session-Id: "+c.session, "Content-Range: bytes */0"), 200, "BITS-Reply-URL")
		} else if err := c.sendAll(want, 100_000); err != nil {
			t.Fatal(err)
		}
		got := a.last(t, 1)
		if !bytes.Equal(got.body, want) || got.length != int64(size) || got.uri != "/?job=7&x=%20y" || got.header.Get("BITS-Request-DataFile-Name") != "" {
			t.Errorf("the application got %s, %v, %d bytes", got.uri, got.header, len(got.body))
		}
		if (c.reply != "") != (len(reply) > 0) {
			t.Errorf("reply URL %q to %d bytes", c.reply, len(reply))
		}
		if c.reply != "" {
			u, err := url.Parse(c.reply)
			if err != nil {
				t.Fatal(err)
			}
			if a := c.get(u.EscapedPath(), ""); a.status != 200 || a.body != string(reply) || a.header["X-Content-Type-Options"] != "nosniff" {
				t.Errorf("reply: %v", a)
			}
			// The answer was lost: the same again, and the application is not asked twice.
			c.expect(c.fragment(want, 0, int64(size), int64(size)), 200, fmt.Sprint("BITS-Received-Content-Range: ", size), "BITS-Reply-URL: "+c.reply)
			a.last(t, 1)
		}
		s.file("f", nil)
		c.expect(c.end("Close-Session"), 200)
		s.left(0)
	}
}

func TestCopyToDestinationAndStaticReply(t *testing.T) {
	for _, kind := range []session.NotifyType{session.NotifyByReference, session.NotifyByValue} {
		static := "http://elsewhere.example/r?x=1"
		a := application(t, func(w http.ResponseWriter, c call) {
			w.Header().Set("BITS-Copy-File-To-Destination", "")
			w.Header().Set("BITS-Static-Response-URL", static)
		})
		s := serve(t, notifying(kind, a.URL), session.Options{})
		want := content(100)
		c := s.client("f")
		c.open()
		if err := c.sendAll(want, 100); err != nil {
			t.Fatal(err)
		}
		if c.reply != static {
			t.Errorf("reply URL %q", c.reply)
		}
		s.file("f", want)
		// It waits for the client to fetch the reply, as long as an upload waits for bytes.
		if n, err := s.store.Clean(t.Context(), time.Now().Add(13*24*time.Hour), 14*24*time.Hour, 0); n != 0 || err != nil {
			t.Errorf("%d sessions are gone, %v", n, err)
		}
		c.expect(c.fragment(want, 0, 100, 100), 200, "BITS-Reply-URL: "+static)
		a.last(t, 1)
		c.expect(c.end("Close-Session"), 200)
		s.file("f", want)
		s.left(0)
		static = "http://h/" + strings.Repeat("x", 2200)
		c = s.client("g")
		c.open()
		c.expect(c.fragment(want, 0, 100, 100), 400, badArg, byServer)
	}
}

// What the application answers, what the client is told, and what happens at its next attempt.
func TestApplicationErrors(t *testing.T) {
	for _, v := range []struct {
		app, status int
		code        string
	}{
		{503, 503, "0x801901F7"}, {500, 500, "0x801901F4"}, {404, 404, "0x80190194"}, {409, 409, "0x80190199"}, {302, 302, "0x8019012E"},
		// Those that the client would act on instead of giving up.
		{416, 400, "0x801901A0"}, {413, 400, "0x8019019D"}, {401, 400, "0x80190191"}, {407, 400, "0x80190197"}, {600, 502, "0x80190258"},
	} {
		status := v.app
		a := application(t, func(w http.ResponseWriter, _ call) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		})
		s := serve(t, notifying(session.NotifyByValue, a.URL), session.Options{})
		want := content(100)
		c := s.client("f")
		c.open()
		c.expect(c.fragment(want, 0, 50, 100), 200)
		c.expect(c.fragment(want, 50, 100, 100), v.status, "BITS-Packet-Type: Ack", "BITS-Error-Code: "+v.code, "BITS-Error: "+v.code, byApp, "Location")
		a.last(t, 1) // the redirect was not followed
		c.expect(c.fragment(want, 50, 100, 100), v.status)
		a.last(t, 2)
		status = 200
		c.expect(c.ping(), 200)
		c.expect(c.fragment(want, 50, 100, 100), 200, "BITS-Received-Content-Range: 100", "BITS-Error-Code")
		if got := a.last(t, 3); !bytes.Equal(got.body, want) {
			t.Errorf("the application got %d bytes", len(got.body))
		}
		c.expect(c.end("Close-Session"), 200)
		s.left(0)
	}
}

func TestApplicationsRefusalIsFinal(t *testing.T) {
	a := application(t, func(w http.ResponseWriter, _ call) { w.WriteHeader(http.StatusForbidden) })
	s := serve(t, notifying(session.NotifyByValue, a.URL), session.Options{})
	want := content(100)
	c := s.client("f")
	c.open()
	for range 3 {
		c.expect(c.fragment(want, 0, 100, 100), 403, "BITS-Error-Code: 0x80190193", byApp)
		a.last(t, 1)
	}
	c.expect(c.end("Cancel-Session"), 200)
	s.file("f", nil)
	s.left(0)
}

func TestApplicationThatDoesNotAnswer(t *testing.T) {
	want := content(100)
	release := make(chan struct{})
	a := application(t, func(http.ResponseWriter, call) { <-release })
	defer close(release)
	s := serve(t, func(p *session.Prefix) {
		notifying(session.NotifyByValue, a.URL)(p)
		p.NotifyTimeout = 100 * time.Millisecond
	}, session.Options{})
	c := s.client("f")
	c.open()
	c.expect(c.fragment(want, 0, 100, 100), 408, "BITS-Error-Code: 0x800705B4", byApp)
	c.expect(c.fragment(want, 0, 100, 100), 408)
	s.left(1)

	// One that is not there at all, and one that breaks off in the middle of its reply.
	gone := application(t, nil)
	gone.Close()
	s = serve(t, notifying(session.NotifyByReference, gone.URL), session.Options{})
	c = s.client("f")
	c.open()
	c.expect(c.fragment(want, 0, 100, 100), 502, "BITS-Error-Code: 0x80072EFD", byApp)
	s.left(1)
	broken := application(t, func(w http.ResponseWriter, _ call) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(want)
	})
	s = serve(t, notifying(session.NotifyByValue, broken.URL), session.Options{})
	c = s.client("f")
	c.open()
	c.expect(c.fragment(want, 0, 100, 100), 502, byApp)
	s.left(1)
}

// An application that is slow, but moves, is waited for.
func TestSlowReplyIsTaken(t *testing.T) {
	want := content(100)
	a := application(t, func(w http.ResponseWriter, _ call) {
		for i := range 10 {
			time.Sleep(60 * time.Millisecond)
			_, _ = w.Write(want[10*i : 10*i+10])
			_ = http.NewResponseController(w).Flush()
		}
	})
	s := serve(t, func(p *session.Prefix) {
		notifying(session.NotifyByValue, a.URL)(p)
		p.NotifyTimeout = 400 * time.Millisecond
	}, session.Options{})
	c := s.client("f")
	c.open()
	if err := c.sendAll(want, 100); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(c.reply)
	if err != nil {
		t.Fatal(err)
	}
	if a := c.get(u.EscapedPath(), ""); a.body != string(want) {
		t.Errorf("reply: %v", a)
	}
}

// A relative URL leads to the server itself, as seen from the upload's directory, whatever host the
// client names.
func TestRelativeNotificationURL(t *testing.T) {
	want := content(10)
	// The server and the application behind one listener.
	called := make(chan *http.Request, 1)
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	store, err := session.OpenDir(root, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	h := handler(root, store, notifying(session.NotifyByValue, "app.php?a=1"))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			called <- r
			return
		}
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	evil, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer evil.Close()
	go func() {
		if c, err := evil.Accept(); err == nil {
			t.Error("the server went where the Host header said")
			c.Close()
		}
	}()
	c := &windows{t: t, addr: srv.Listener.Addr().String(), path: "/up/sub/f?b=2", host: evil.Addr().String()}
	defer c.hangUp()
	c.open()
	if err := c.sendAll(want, 10); err != nil {
		t.Fatal(err)
	}
	r := <-called
	if r.RequestURI != "/up/sub/app.php?a=1&b=2" || r.Host != evil.Addr().String() || r.Header.Get("X-User") != "" {
		t.Errorf("the application was called with %s, Host %s, %v", r.RequestURI, r.Host, r.Header)
	}

	a := application(t, nil)
	s := serve(t, func(p *session.Prefix) {
		notifying(session.NotifyByValue, "/app")(p)
		p.PublicURL = a.URL
	}, session.Options{})
	c = s.client("f")
	c.open()
	if err := c.sendAll(want, 10); err != nil {
		t.Fatal(err)
	}
	if got := a.last(t, 1); got.uri != "/app" || got.header.Get("BITS-Original-Request-URL") != a.URL+"/up/f" {
		t.Errorf("the application got %+v", got)
	}
	c = s.client("g?" + strings.Repeat("q", 2200))
	c.open()
	c.expect(c.fragment(want, 0, 10, 10), 400, badArg)
	a.last(t, 1)
}

// Over TLS, with net/http as the client, which leaves out Content-Length: 0.
func TestOverTLS(t *testing.T) {
	a := application(t, func(w http.ResponseWriter, _ call) { _, _ = io.WriteString(w, "reply") })
	root := t.TempDir()
	store, err := session.OpenDir(root, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	srv := httptest.NewTLSServer(handler(root, store, notifying(session.NotifyByValue, a.URL)))
	defer srv.Close()
	send := func(method, u, body string, header ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequest(method, u, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	resp := send("BITS_POST", srv.URL+"/up/f", "", "BITS-Packet-Type", "Create-Session", "BITS-Supported-Protocols", guid)
	id := resp.Header.Get("BITS-Session-Id")
	resp = send("BITS_POST", srv.URL+"/up/f", "body", "BITS-Packet-Type", "Fragment", "BITS-Session-Id", id, "Content-Range", "bytes 0-3/4")
	reply := resp.Header.Get("BITS-Reply-URL")
	if resp.StatusCode != 200 || !strings.HasPrefix(reply, srv.URL+"/up/") {
		t.Fatalf("%s, reply URL %q", resp.Status, reply)
	}
	if resp = send("HEAD", reply, ""); resp.StatusCode != 200 || resp.ContentLength != 5 {
		t.Errorf("HEAD: %s, %d bytes", resp.Status, resp.ContentLength)
	}
	if got := a.last(t, 1).header.Get("BITS-Original-Request-URL"); got != srv.URL+"/up/f" {
		t.Errorf("original URL %q", got)
	}

	// The server's own name in its certificate is not known, so that a relative URL leads nowhere.
	srv2 := httptest.NewTLSServer(handler(root, store, notifying(session.NotifyByValue, "app")))
	defer srv2.Close()
	resp = send("BITS_POST", srv.URL+"/up/g", "", "BITS-Packet-Type", "Create-Session", "BITS-Supported-Protocols", guid)
	id = resp.Header.Get("BITS-Session-Id")
	if resp = send("BITS_POST", srv2.URL+"/up/g", "body", "BITS-Packet-Type", "Fragment", "BITS-Session-Id", id, "Content-Range", "bytes 0-3/4"); resp.StatusCode != 500 {
		t.Errorf("relative notification URL over TLS: %s", resp.Status)
	}
}

// Behind a proxy the server does not know by what name and scheme clients call it.
func TestReplyURLBehindAProxy(t *testing.T) {
	want := content(10)
	a := application(t, func(w http.ResponseWriter, _ call) { _, _ = w.Write(want) })
	s := serve(t, notifying(session.NotifyByValue, a.URL), session.Options{})
	c := s.client("f")
	c.open()
	raw := bytes.Replace(c.fragment(want, 0, 10, 10), []byte("Accept: */*"), []byte("X-Forwarded-Proto: https"), 1)
	if got := c.must(raw).header["BITS-Reply-URL"]; !strings.HasPrefix(got, "/up/BITS-Sessions/Replies/%7B") {
		t.Errorf("reply URL %q", got)
	}
	s = serve(t, func(p *session.Prefix) {
		notifying(session.NotifyByValue, a.URL)(p)
		p.PublicURL = "https://files.example"
	}, session.Options{})
	c = s.client("f")
	c.open()
	if got := c.must(c.fragment(want, 0, 10, 10)).header["BITS-Reply-URL"]; !strings.HasPrefix(got, "https://files.example/up/BITS-Sessions/") {
		t.Errorf("reply URL %q", got)
	}
}

// An application that runs as another user, or is taken over, does not make the server read what it may
// not, or anything but files.
func TestApplicationsReplyMustBeAFile(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(file string) error{
		"link":      func(file string) error { return os.Symlink(secret, file) },
		"directory": func(file string) error { return os.Mkdir(file, 0o755) },
	} {
		a := application(t, func(w http.ResponseWriter, c call) {
			if err := put(c.header.Get("BITS-Response-DataFile-Name")); err != nil {
				t.Error(err)
			}
		})
		s := serve(t, notifying(session.NotifyByReference, a.URL), session.Options{})
		c := s.client("f")
		c.open()
		if got := c.must(c.fragment(content(10), 0, 10, 10)); got.status != 500 || got.header["BITS-Reply-URL"] != "" {
			t.Errorf("%s: %v", name, got)
		}
		left, err := filepath.Glob(filepath.Join(s.root, "BITS-Sessions", "*", "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: left over: %v, %v", name, left, err)
		}
		s.left(1)
	}
}

// Replies have a limit of their own: who has as many uploads as he may have can end them.
func TestRepliesDoNotCountAsUploads(t *testing.T) {
	a := application(t, func(w http.ResponseWriter, _ call) { _, _ = io.WriteString(w, "reply") })
	s := serve(t, notifying(session.NotifyByValue, a.URL), session.Options{Sessions: 2})
	want := content(10)
	var open []*windows
	for i := range 2 {
		c := s.client(fmt.Sprint("f", i))
		c.open()
		open = append(open, c)
	}
	for _, c := range open {
		if err := c.sendAll(want, 10); err != nil {
			t.Fatal(err)
		}
	}
	open[0].expect(bytes.Replace(open[0].create(), []byte("/up/f0"), []byte("/up/f2"), 1), 503, "Retry-After: 60")
	a.last(t, 2)
}

// fullOfReplies is a store that has room for uploads, and for replies only after a while.
type fullOfReplies struct {
	session.Store
	room atomic.Bool
}

func (s *fullOfReplies) Create(ctx context.Context, spec session.Spec) (session.Info, error) {
	if spec.Target == "" && !s.room.Load() {
		return session.Info{}, session.ErrTooMany
	}
	return s.Store.Create(ctx, spec)
}

// The application is not asked in vain: that there is no room for a reply is found out before it took
// the file.
func TestNoRoomForAReply(t *testing.T) {
	for _, kind := range []session.NotifyType{session.NotifyByReference, session.NotifyByValue} {
		a := application(t, func(w http.ResponseWriter, c call) {
			if kind == session.NotifyByValue {
				_, _ = io.WriteString(w, "reply")
			} else if err := os.WriteFile(c.header.Get("BITS-Response-DataFile-Name"), []byte("reply"), 0o600); err != nil {
				t.Error(err)
			}
		})
		store := &fullOfReplies{}
		s := serve(t, func(p *session.Prefix) {
			notifying(kind, a.URL)(p)
			store.Store = p.Store
			p.Store = store
		}, session.Options{})
		want := content(10)
		c := s.client("f")
		c.open()
		c.expect(c.fragment(want, 0, 10, 10), 503, "Retry-After: 60", "BITS-Reply-URL")
		a.called(t, 0)
		if left, err := filepath.Glob(filepath.Join(s.root, "BITS-Sessions", "*", "*")); err != nil || len(left) > 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
		store.room.Store(true)
		if a := c.expect(c.fragment(want, 0, 10, 10), 200); a.header["BITS-Reply-URL"] == "" {
			t.Errorf("no reply: %v", a)
		}
		a.called(t, 1)
	}
}

// What a killed server left for applications goes at the next start, but what one may still read only
// with a later upload.
func TestOldFilesForApplicationsAreCleared(t *testing.T) {
	a := application(t, nil)
	root := t.TempDir()
	s := &server{t: t, root: root}
	put := func(name string, age time.Duration) string {
		dir := filepath.Join(s.root, "BITS-Sessions", "Requests", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "requestfile.bin"), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	old, young := put("{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}", time.Hour), put("{B0FF5911-4144-45B3-BF27-27AFC8EC8A67}", time.Second)
	other := put("not ours", time.Hour)
	store, err := session.OpenDir(root, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	srv := httptest.NewServer(handler(root, store, notifying(session.NotifyByReference, a.URL)))
	defer srv.Close()
	s.addr = srv.Listener.Addr().String()
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the old one is still there: %v", err)
	}
	for _, name := range []string{young, other} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	if err := os.Chtimes(young, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	c := s.client("f")
	c.open()
	if err := c.sendAll(content(10), 10); err != nil {
		t.Fatal(err)
	}
	a.last(t, 1)
	if _, err := os.Stat(young); !os.IsNotExist(err) {
		t.Errorf("the younger one is still there: %v", err)
	}
}
