package httpconn

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
)

func testClient() *Client { return New("test", governor.New("", slog.New(slog.DiscardHandler))) }

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"":                              0,
		"120":                           2 * time.Minute,
		" 7 ":                           7 * time.Second,
		"-5":                            0,
		"1e9":                           0,
		"99999999999":                   maxRetryAfter,
		"Sun, 01 Mar 2026 12:01:00 GMT": time.Minute,
		"Sun, 01 Mar 2026 11:00:00 GMT": 0,
		"Sun, 01 Mar 2099 11:00:00 GMT": maxRetryAfter,
		"soon":                          0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {in}}, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Sun, 01 Mar 2026 12:01:00 GMT")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		if d := retryAfter(http.Header{"Retry-After": {s}}, now); d < 0 || d > maxRetryAfter {
			t.Errorf("%q: %v", s, d)
		}
	})
}

// TestEveryTransportErrorHasACode makes real errors of the network.
func TestEveryTransportErrorHasACode(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	defer tls.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	client := testClient()
	for _, c := range []struct {
		name, url string
		want      bits.Code
	}{
		{"refused", gone.URL, bits.CannotConnect},
		{"untrusted certificate", tls.URL, bits.CertUntrusted},
		{"no TLS", strings.Replace(plain.URL, "http:", "https:", 1), bits.SecureFailure},
	} {
		req, err := client.Request(t.Context(), http.MethodGet, c.url, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Do(req, governor.Foreground)
		_, derr := client.Dial(t.Context(), req.URL, governor.Foreground)
		for how, err := range map[string]error{"Do": TransportError(t.Context(), err, c.url), "Dial": derr} {
			var e *bits.Error
			if !errors.As(err, &e) || e.Code != c.want {
				t.Errorf("%s: %s: %v, want %s", c.name, how, err, c.want)
			}
			if host := req.URL.Host; !strings.Contains(err.Error(), host) {
				t.Errorf("%s: %s: %q does not name %s", c.name, how, err, host)
			}
		}
	}
}

// TestUploadsAreNotSentOnBlindly follows a redirect of each method.
func TestUploadsAreNotSentOnBlindly(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Method+" "+r.URL.Path)
		mu.Unlock()
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/new", http.StatusTemporaryRedirect)
		}
	}))
	defer s.Close()
	client := testClient()
	for _, method := range []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"} {
		req, err := client.Request(t.Context(), method, s.URL+"/old", nil, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req, governor.Foreground)
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		Drain(resp)
		if asks(method) {
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", method, resp.Status)
			}
			continue
		}
		to, err := Location(resp)
		if resp.StatusCode != http.StatusTemporaryRedirect || err != nil || to.String() != s.URL+"/new" {
			t.Errorf("%s: %s, %v, %v", method, resp.Status, to, err)
		}
	}
	want := []string{"GET /old", "GET /new", "HEAD /old", "HEAD /new", "PUT /old", "POST /old", "PATCH /old", "DELETE /old"}
	if !slices.Equal(seen, want) {
		t.Errorf("the server saw %q", seen)
	}
}

func TestLocation(t *testing.T) {
	for _, c := range []struct {
		from, location, want string
		code                 bits.Code
	}{
		{"http://h/a/b", "c", "http://h/a/c", 0},
		{"http://h/a", "https://other/c", "https://other/c", 0},
		{"https://h/a", "http://h/a", "", bits.HTTPStatus(http.StatusFound)},
		{"http://h/a", "file:///etc/passwd", "", bits.RedirectFailed},
		{"http://h/a", "", "", bits.RedirectFailed},
		{"http://h/a", "http://[", "", bits.RedirectFailed},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.from, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp := &http.Response{Request: req, Header: http.Header{}}
		if c.location != "" {
			resp.Header.Set("Location", c.location)
		}
		to, err := Location(resp)
		if c.want != "" {
			if err != nil || to.String() != c.want {
				t.Errorf("%s to %q: %v, %v", c.from, c.location, to, err)
			}
			continue
		}
		var e *bits.Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s to %q: %v, want %s", c.from, c.location, err, c.code)
		}
	}
}

func TestRedirectsMayBeRefused(t *testing.T) {
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.URL.Path)
		http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
	}))
	defer s.Close()
	c := testClient()
	ctx := OnRedirect(t.Context(), func(from, to *url.URL) error {
		if from.Path == "/x" && to.Path == "/xx" {
			return &bits.Error{Code: bits.RedirectFailed, Message: "not there"}
		}
		return nil
	})
	req, err := c.Request(ctx, http.MethodGet, s.URL+"/", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req, governor.Foreground)
	if err == nil {
		resp.Body.Close()
		t.Fatal("it was followed")
	}
	var e *bits.Error
	if err = TransportError(ctx, err, s.URL); !errors.As(err, &e) || e.Message != "not there" || !slices.Equal(got, []string{"/", "/x"}) {
		t.Errorf("%v after %q", err, got)
	}
}

func TestSameOrigin(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"http://h/a", "http://H:80/b", true},
		{"https://h/a", "https://h:443", true},
		{"http://h", "https://h", false},
		{"http://h", "http://h:8080", false},
		{"http://h", "http://g", false},
	} {
		a, _ := url.Parse(c.a)
		b, _ := url.Parse(c.b)
		if SameOrigin(a, b) != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, !c.same)
		}
	}
}

// TestDial speaks to a server over a connection of its own.
func TestDial(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method)
	}))
	defer s.Close()
	u, _ := url.Parse(s.URL)
	client := testClient()
	conn, err := client.Dial(t.Context(), u, governor.Background)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.Governed == nil || conn.Proxy != nil || conn.ProxyAuthorization != "" {
		t.Errorf("%+v", conn)
	}
	if _, err := io.WriteString(conn, "BITS_POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "BITS_POST" {
		t.Errorf("got %q", body)
	}
	client.DropConns(netip.Addr.IsLoopback)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a connection whose network is gone: %v", err)
	}
}

// theProxy is the proxy of all connections of this test that do not go to this machine.
var theProxy = struct {
	refuse  atomic.Bool
	target  atomic.Value // address that tunnels lead to
	request chan *http.Request
}{request: make(chan *http.Request, 1)}

func TestMain(m *testing.M) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		theProxy.request <- r
		switch {
		case theProxy.refuse.Load():
			w.WriteHeader(http.StatusProxyAuthRequired)
		case r.Method == http.MethodConnect:
			tunnel(w, theProxy.target.Load().(string))
		}
	}))
	u, _ := url.Parse(s.URL)
	u.User = url.UserPassword("user", "secret")
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY"} { // read once by net/http
		os.Setenv(name, u.String())
		os.Unsetenv(strings.ToLower(name))
	}
	remove := trustOwnAuthority()
	code := m.Run()
	remove()
	s.Close()
	os.Exit(code)
}

func tunnel(w http.ResponseWriter, addr string) {
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, server)
}

const basic = "Basic dXNlcjpzZWNyZXQ="

func TestDialThroughAProxy(t *testing.T) {
	conn, err := testClient().Dial(t.Context(), &url.URL{Scheme: "http", Host: "example.com"}, governor.Foreground)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.Proxy == nil || conn.ProxyAuthorization != basic {
		t.Errorf("%+v", conn)
	}
	if _, err := io.WriteString(conn, "BITS_POST http://example.com/x HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if r := <-theProxy.request; r.Method != "BITS_POST" || r.URL.String() != "http://example.com/x" {
		t.Errorf("the proxy got %s %s", r.Method, r.URL)
	}
}

func TestDialThroughATunnel(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	theProxy.target.Store(server.Listener.Addr().String())
	// That the certificate is judged shows that the tunnel leads to the server.
	_, err := testClient().Dial(t.Context(), &url.URL{Scheme: "https", Host: "example.com"}, governor.Foreground)
	var e *bits.Error
	if !errors.As(err, &e) || e.Code != bits.CertUntrusted {
		t.Errorf("got %v", err)
	}
	if r := <-theProxy.request; r.Method != http.MethodConnect || r.Host != "example.com:443" || r.Header.Get("Proxy-Authorization") != basic || r.UserAgent() != "test" {
		t.Errorf("the proxy got %s %s %v", r.Method, r.Host, r.Header)
	}

	theProxy.refuse.Store(true)
	defer theProxy.refuse.Store(false)
	_, err = testClient().Dial(t.Context(), &url.URL{Scheme: "https", Host: "example.com"}, governor.Foreground)
	if !errors.As(err, &e) || e.Code != bits.HTTPStatus(http.StatusProxyAuthRequired) {
		t.Errorf("refused by the proxy: %v", err)
	}
	<-theProxy.request
}
