package httpconn

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/auth"
)

// TestServersAreToldWhoAsks: once asked for, then unasked; and no other server is.
func TestServersAreToldWhoAsks(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("another server got the credentials")
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="mine"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer other.Close()
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "alice" || p != "secret" {
			asked++
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path == "/away" {
			http.Redirect(w, r, other.URL, http.StatusFound)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	defer s.Close()
	c := New("test", governor.New("", slog.New(slog.DiscardHandler)))
	a, err := c.Open(Settings{Identity: auth.New([]auth.Credential{{Target: bits.TargetServer, Scheme: bits.AuthBasic, User: "alice", Password: "secret"}}, nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ctx := a.With(t.Context())
	for range 3 {
		req, err := c.Request(ctx, http.MethodPut, s.URL, nil, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req, governor.Foreground)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || string(body) != "body" {
			t.Fatalf("%s %q", resp.Status, body)
		}
	}
	if asked != 1 {
		t.Errorf("the server had to ask %d times", asked)
	}
	// A mirror that only the server named, or where it moved to.
	elsewhere, err := c.Request(OnBehalf(ctx, s.URL), http.MethodGet, other.URL, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	refusal, err := c.Do(elsewhere, governor.Foreground)
	if err != nil {
		t.Fatal(err)
	}
	refusal.Body.Close()
	if refusal.StatusCode != http.StatusUnauthorized {
		t.Errorf("on behalf of the server another answered %s", refusal.Status)
	}
	req, err := c.Request(ctx, http.MethodGet, s.URL+"/away", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req, governor.Foreground)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("behind the redirect: %s", resp.Status)
	}
}

// TestARefusedBodyIsNotSent: what waits for the server's word stays here when that is a challenge
// or a refusal.
func TestARefusedBodyIsNotSent(t *testing.T) {
	// As Apache and Squid do it, and unlike net/http, it keeps the connection.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var got atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(counted{conn, &got})
				for {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if _, _, ok := req.BasicAuth(); !ok {
						_, _ = io.WriteString(conn, "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=r\r\nContent-Length: 0\r\n\r\n")
					} else {
						_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
					}
					_, _ = io.Copy(io.Discard, req.Body)
					if _, _, ok := req.BasicAuth(); ok {
						_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				}
			}()
		}
	}()
	c := New("test", governor.New("", slog.New(slog.DiscardHandler)))
	const size = 1 << 20
	for _, known := range []bool{false, true} {
		set, want := Settings{Job: bits.ID{1}}, http.StatusUnauthorized
		if known {
			set.Identity, want = auth.New([]auth.Credential{{Target: bits.TargetServer, Scheme: bits.AuthBasic, User: "alice", Password: "secret"}}, nil), http.StatusOK
		}
		a, err := c.Open(set)
		if err != nil {
			t.Fatal(err)
		}
		got.Store(0)
		req, err := c.Request(a.With(t.Context()), http.MethodPut, "http://"+l.Addr().String(), http.Header{"Expect": {"100-continue"}}, strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req, governor.Foreground)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		a.Close()
		if resp.StatusCode != want {
			t.Fatalf("%s, want %d", resp.Status, want)
		}
		most := int64(4096)
		if known {
			most += size
		}
		if n := got.Load(); n > most {
			t.Errorf("%d bytes were sent, want no more than %d", n, most)
		}
	}
}

// counted counts what comes in.
type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}
