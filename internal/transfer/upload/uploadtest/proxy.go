package uploadtest

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Proxy stands before a server and breaks connections.
type Proxy struct {
	URL string

	target string
	mu     sync.Mutex
	random *rand.Rand // guarded by mu
	left   int        // guarded by mu: connections that will still be broken
	most   int64
}

// NewProxy returns a proxy before the server at u that breaks its first connections, each after a
// random number of bytes in one of the two directions: most on the way to the server at most, or
// of an answer a few hundred.
func NewProxy(tb testing.TB, u string, breaks int, most int64, seed uint64) *Proxy {
	tb.Helper()
	target, err := url.Parse(u)
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{URL: "http://" + l.Addr().String(), target: target.Host, left: breaks, most: most, random: rand.New(rand.NewPCG(seed, 1))}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(func() {
		l.Close()
		cancel()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(ctx, c.(*net.TCPConn)) })
		}
	})
	return p
}

// Left returns how many connections will still be broken.
func (p *Proxy) Left() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left
}

// plan returns after how many bytes of each direction the next connection breaks.
func (p *Proxy) plan() (up, down int64) {
	const never = 1 << 62
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return never, never
	}
	p.left--
	if p.random.IntN(3) == 0 {
		return never, p.random.Int64N(600)
	}
	return p.random.Int64N(p.most), never
}

func (p *Proxy) serve(ctx context.Context, client *net.TCPConn) {
	defer client.Close()
	up, down := p.plan()
	conn, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	defer context.AfterFunc(ctx, func() {
		client.Close()
		server.Close()
	})()
	var both sync.WaitGroup
	pass := func(to, from *net.TCPConn, n int64) {
		if _, err := io.CopyN(to, from, n); err == nil {
			// Enough: the client sees a reset, the server too.
			_, _ = client.SetLinger(0), server.SetLinger(0)
		}
		client.Close()
		server.Close()
	}
	both.Go(func() { pass(server, client, up) })
	both.Go(func() { pass(client, server, down) })
	both.Wait()
}
