package faultserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func tlsConfig(pool *x509.CertPool) *tls.Config { return &tls.Config{RootCAs: pool} }

func TestStopRefusesAndStartServesOnTheSamePort(t *testing.T) {
	s := start(t, Options{})
	e := s.File("/file", v1)
	e.Script(Program{Cut: Cut{Stall, 4096}})
	c := dial(t, s, "/file")
	await(t, s, "the stall", waiting(s, "/file"))
	for range 3 {
		s.Stop()
		if _, _, err := fetch(t, client(t, HTTP1), e.URL(), -1); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("while stopped: %v, want refused", err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if _, body, err := fetch(t, client(t, HTTP1), e.URL(), -1); err != nil || int64(len(body)) != v1.Size {
			t.Fatalf("started again: %d bytes, %v", len(body), err)
		}
	}
	if got := read(t, c); got.body != part(v1, 0, 4096) {
		t.Errorf("the answer that was under way has %d bytes, want 4096", len(got.body))
	}
	if err := s.Start(); err == nil {
		t.Error("Start of a running server: no error")
	}
}

func TestLogCountsWhatWasSentAndSentAgain(t *testing.T) {
	s := start(t, Options{})
	e := s.File("/file", v1)
	e.Script(Program{Cut: Cut{Close, 100_000}}, Program{Cut: Cut{Reset, 50_000}}, Program{})
	get(t, s, "/file")                                                    // 0 to 100,000
	get(t, s, "/file", "Range: bytes=80000-")                             // 80,000 to 130,000
	get(t, s, "/file", "Range: bytes=120000-", `If-Range: "one"`, "X: y") // 120,000 to 300,000
	await(t, s, "the answers' end", s.Idle)
	if got := s.Sent("/file"); got != 330_000 {
		t.Errorf("sent %d, want 330000", got)
	}
	if got := s.Refetched("/file"); got != 30_000 {
		t.Errorf("refetched %d, want 30000", got)
	}
	q := s.RequestsFor("/file")[2]
	if q.Method != "GET" || q.Status != 206 || q.Range != "bytes=120000-" || q.IfRange != `"one"` || q.Header.Get("X") != "y" ||
		q.Offset != 120_000 || q.Sent != 180_000 || q.Conn != 3 || !q.Done || q.Time.IsZero() {
		t.Errorf("third request logged as %+v", q)
	}
	s.ForgetRequests()
	if len(s.Requests()) != 0 || s.Sent("/file") != 0 {
		t.Error("the log is not empty after ForgetRequests")
	}
}

func TestLogCountsConnections(t *testing.T) {
	s := start(t, Options{})
	e := s.File("/file", v1)
	c := client(t, HTTP1)
	for range 3 {
		if _, _, err := fetch(t, c, e.URL(), -1); err != nil {
			t.Fatal(err)
		}
	}
	if s.Connections() != 1 || s.Reused() != 2 {
		t.Errorf("%d connections, %d reused; want 1 and 2", s.Connections(), s.Reused())
	}
}

func TestSmallSendBufferKeepsTheLogNearTheClient(t *testing.T) {
	s := start(t, Options{SendBuffer: 16 << 10})
	s.File("/file", File{Seed: 3, Size: 1 << 30})
	c := dial(t, s, "/file")
	if _, err := io.CopyN(io.Discard, c, 32<<20); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	await(t, s, "the end", s.Idle)
	if ahead := s.Sent("/file") - 32<<20; ahead > 8<<20 {
		t.Errorf("%d bytes counted beyond what the client read", ahead)
	}
}

func TestRateIsEven(t *testing.T) {
	const rate, size = 4_000_000, 2_000_000
	for name, serve := range map[string]func() string{
		"program": func() string {
			s := start(t, Options{})
			e := s.File("/file", File{Size: size})
			e.Set(func(p *Program) { p.Rate = rate })
			return e.URL()
		},
		"throttle": func() string {
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(Content(0, size), 0, size))
			})
			s := httptest.NewServer(Throttle(h, rate))
			t.Cleanup(s.Close)
			return s.URL
		},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := http.Get(serve())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			begin := time.Now()
			buf := make([]byte, 1<<20)
			var got int64
			for {
				n, err := resp.Body.Read(buf)
				got += int64(n)
				// Never ahead of the rate by more than a piece and what may be caught up; that it
				// is not behind depends on the machine's other work.
				allowed := rate*(time.Since(begin)+maxLag+2*pieceTime).Seconds() + 64<<10
				if float64(got) > allowed {
					t.Fatalf("%d bytes after %v", got, time.Since(begin))
				}
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if got != size {
				t.Errorf("%d bytes, want %d", got, size)
			}
			if took := time.Since(begin); took < 400*time.Millisecond {
				t.Errorf("took %v, want about 0.5 s", took)
			}
		})
	}
}

func TestCertificates(t *testing.T) {
	tests := []struct {
		certificate Certificate
		check       func(error) bool
	}{
		{Valid, func(err error) bool { return err == nil }},
		{Expired, func(err error) bool {
			var invalid x509.CertificateInvalidError
			return errors.As(err, &invalid) && invalid.Reason == x509.Expired
		}},
		{WrongName, func(err error) bool { return errors.As(err, new(x509.HostnameError)) }},
		{Untrusted, func(err error) bool { return errors.As(err, new(x509.UnknownAuthorityError)) }},
	}
	name, err := CAFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		s := start(t, Options{TLS: test.certificate})
		e := s.File("/file", v1)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig(pool), DisableKeepAlives: true}}
		_, body, err := fetch(t, c, e.URL(), -1)
		if !test.check(err) || err == nil && body != part(v1, 0, v1.Size) {
			t.Errorf("certificate %d: %d bytes, %v", test.certificate, len(body), err)
		}
	}
}

func TestProtocols(t *testing.T) {
	tests := []struct {
		server, client Protocol
		want           string // empty: they do not agree
	}{
		{HTTP1, HTTP1, "HTTP/1.1"},
		{HTTP1And2, HTTP1, "HTTP/1.1"},
		{HTTP1And2, HTTP2Only, "HTTP/2.0"},
		{HTTP2Only, HTTP2Only, "HTTP/2.0"},
		{HTTP2Only, HTTP1, ""},
	}
	for _, test := range tests {
		s := start(t, Options{TLS: Valid, HTTP: test.server})
		e := s.File("/file", v1)
		resp, body, err := fetch(t, client(t, test.client), e.URL(), 5)
		if test.want == "" {
			if err == nil {
				t.Errorf("%+v: they agreed on %s", test, resp.Proto)
			}
			continue
		}
		if err != nil || resp.Proto != test.want || body != part(v1, 5, v1.Size) {
			t.Errorf("%+v: %v, %d bytes, %v", test, resp, len(body), err)
		}
	}
	if s, err := Start(Options{HTTP: HTTP1And2}); err == nil {
		s.Close()
		t.Error("HTTP/2 without TLS: no error")
	}
}

func TestFaultsOverTLS(t *testing.T) {
	s := start(t, Options{TLS: Valid})
	e := s.File("/file", v1)
	e.Script(Program{Cut: Cut{Close, 70_000}}, Program{Cut: Cut{Reset, 70_000}})
	for _, want := range []error{io.ErrUnexpectedEOF, syscall.ECONNRESET} {
		if _, body, err := fetch(t, client(t, HTTP1), e.URL(), -1); !errors.Is(err, want) || body != part(v1, 0, 70_000) {
			t.Errorf("%d bytes, %v; want 70000, %v", len(body), err, want)
		}
	}
}

func TestFaultsOverHTTP2(t *testing.T) {
	s := start(t, Options{TLS: Valid, HTTP: HTTP2Only})
	e := s.File("/file", v1)
	c := client(t, HTTP2Only)
	e.Script(Program{Cut: Cut{Reset, 70_000}}, Program{Garbage: "x"}, Program{Framing: FramingChunked}, Program{Informational: 3})
	if _, body, err := fetch(t, c, e.URL(), -1); err == nil || body != part(v1, 0, 70_000) {
		t.Errorf("reset: %d bytes, %v", len(body), err)
	}
	if resp, body, err := fetch(t, c, e.URL(), -1); err != nil || resp.StatusCode != 500 || !strings.Contains(body, "HTTP/1.1 only") {
		t.Errorf("a fault that HTTP/2 does not have: %v, %q, %v", resp, body, err)
	}
	if resp, body, err := fetch(t, c, e.URL(), -1); err != nil || resp.ContentLength != -1 || body != part(v1, 0, v1.Size) {
		t.Errorf("unknown length: %v, %d bytes, %v", resp, len(body), err)
	}
	if _, body, err := fetch(t, c, e.URL(), -1); err != nil || body != part(v1, 0, v1.Size) {
		t.Errorf("after informational answers: %d bytes, %v", len(body), err)
	}
	if s.Connections() != 1 {
		t.Errorf("%d connections, want 1: faults end the stream only", s.Connections())
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	s := start(t, Options{})
	e := s.File("/file", v1)
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			c := client(t, HTTP1)
			for range 5 {
				if _, body, err := fetch(t, c, e.URL(), int64(i)); err != nil || body != part(v1, int64(i), v1.Size) {
					t.Errorf("client %d: %d bytes, %v", i, len(body), err)
				}
			}
			e.Set(func(p *Program) { p.Rate = 0 })
			s.Sent("/file")
		})
	}
	clients.Wait()
	if got := len(s.Requests()); got != 40 {
		t.Errorf("%d requests logged, want 40", got)
	}
}

func BenchmarkDownload(b *testing.B) {
	s, err := Start(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const size = 1 << 30
	e := s.File("/file", File{Size: size})
	b.SetBytes(size)
	for b.Loop() {
		resp, err := http.Get(e.URL())
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 1<<20)); n != size || err != nil {
			b.Fatal(n, err)
		}
		_ = resp.Body.Close()
	}
}
