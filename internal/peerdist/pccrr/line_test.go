package pccrr

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// TestAnswersOfManyForms asks peers whose HTTP is another than that of our server. Each has three requests: one
// connection is enough unless they end it.
func TestAnswersOfManyForms(t *testing.T) {
	body := random(20 * 65536)
	s := &segments(t, body, peerdist.SHA256)[0]
	store := filled(t, body, []peerdist.Segment{*s}, whole)
	for _, v := range []struct {
		name  string
		form  string // %d is the length of the answer that %s is
		ends  bool   // the connection after an answer
		conns int32
		fails bool
	}{
		{"as ours", "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", false, 1, false},
		{"ends without a word", "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", true, 3, false},
		{"says that it ends", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", true, 3, false},
		{"HTTP/1.0 without a length", "HTTP/1.0 200 OK\r\nX-Length: %d\r\n\r\n%s", true, 3, false},
		{"HTTP/1.0 that goes on", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n%s", false, 1, false},
		{"in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", false, 1, false},
		{"interim responses", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", false, 1, false},
		{"nothing but interim responses", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20) + "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", true, 1, true},
		{"a header without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 32<<10) + "\r\nContent-Length: %d\r\n\r\n%s", true, 1, true},
		{"no HTTP", "220 ready %d %s", true, 1, true},
	} {
		t.Run(v.name, func(t *testing.T) {
			var conns atomic.Int32
			peer := answering(t, v.form, v.ends, &conns, NewServer(store, 64, everybody))
			c, _ := client(t)
			for i := range 3 {
				b, cipher, _, err := c.sealed(t.Context(), peer, s.ID(), i, nil)
				if v.fails {
					if err == nil || errors.As(err, new(lie)) {
						t.Fatalf("block %d: %v", i, err)
					}
					break
				}
				if err != nil {
					t.Fatalf("block %d: %v", i, err)
				}
				if plain, err := Open(cipher, s.Secret, b); err != nil || !s.Verify(i, plain) {
					t.Errorf("block %d is another, %v", i, err)
				}
			}
			if n := conns.Load(); n != v.conns {
				t.Errorf("%d connections, want %d", n, v.conns)
			}
		})
	}
}

// answering is a peer that gives the answers of a server in a form of its own.
func answering(t *testing.T, form string, ends bool, conns *atomic.Int32, server *Server) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	serve := func(c net.Conn) {
		defer c.Close()
		for r := bufio.NewReader(c); ; {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, err := io.ReadAll(q.Body)
			if err != nil {
				return
			}
			m, cipher, err := DecodeRequest(b)
			if err != nil {
				t.Error(err)
				return
			}
			m, cipher = server.answer(m, cipher, new(spaces))
			answer := AppendResponse(nil, cipher, m)
			if _, err := fmt.Fprintf(c, form, len(answer), answer); err != nil || ends {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			go serve(c)
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// TestRequestsAreThoseOfHTTP holds what is sent against what net/http would send.
func TestRequestsAreThoseOfHTTP(t *testing.T) {
	for _, at := range []string{"10.0.0.1:2178", "[fd00::1]:80", "[fe80::1%eth0]:2178"} {
		body := random(68)
		got := appendPost(nil, netip.MustParseAddrPort(at), body)
		q, err := http.NewRequest(http.MethodPost, "http://"+strings.ReplaceAll(at, "%", "%25")+Path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("User-Agent", "Ebb")
		q.Header.Set("Content-Type", "application/octet-stream")
		var want bytes.Buffer
		if err := q.Write(&want); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s: %q, want %q, %v", at, got, want.Bytes(), err)
		}
	}
}

// TestIdleLinesAreBounded gives back more connections than are kept, and closes the rest in the end.
func TestIdleLinesAreBounded(t *testing.T) {
	var l lines
	var far []net.Conn
	give := func(peer string) {
		near, other := net.Pipe()
		far = append(far, other)
		l.give(&line{Conn: near, peer: netip.MustParseAddrPort(peer)})
	}
	for i := range 2 * maxIdle {
		give(fmt.Sprintf("10.0.0.%d:80", i/(2*maxIdleEach)))
	}
	if l.n != maxIdle || len(l.idle[netip.MustParseAddrPort("10.0.0.0:80")]) != maxIdleEach {
		t.Errorf("%d are kept", l.n)
	}
	l.close()
	give("10.0.0.200:80")
	if l.n != 0 || len(l.idle) != 0 {
		t.Errorf("%d are kept after the end", l.n)
	}
	for i, c := range far {
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}
