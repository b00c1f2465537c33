package faultserver

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// conn is an accepted connection with its number in the log.
type conn struct {
	*net.TCPConn
	number int
	run    *run
}

type connKey struct{}

// connOf returns the connection that a request's context belongs to.
func connOf(ctx context.Context) *conn { return ctx.Value(connKey{}).(*conn) }

// innermost returns the conn under a connection with or without TLS.
func innermost(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*conn)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.run.mu.Lock()
	delete(c.run.conns, c)
	c.run.mu.Unlock()
	return c.TCPConn.Close()
}

// reset ends the connection with a TCP reset. A reset throws away what the kernel has not sent
// yet, so it waits until the client's kernel has it all, or no longer takes it.
func (c *conn) reset(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for c.unsent() > 0 && pause(ctx, time.Millisecond) == nil {
		continue
	}
	_ = c.SetLinger(0)
	_ = c.Close()
}

// unsent returns how many bytes the client's kernel has not acknowledged.
func (c *conn) unsent() int {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	var n int
	if err := raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil {
		return 0 // the connection is closed
	}
	return n
}

// listener accepts for a run.
type listener struct {
	*net.TCPListener
	server *Server
	run    *run
}

// Accept implements net.Listener. A deaf server's connections never come out of it.
func (l *listener) Accept() (net.Conn, error) {
	for {
		tcp, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		if n := l.server.options.SendBuffer; n > 0 {
			_ = tcp.SetWriteBuffer(n)
		}
		c := &conn{TCPConn: tcp, run: l.run}
		l.server.log.change(func() {
			l.server.log.conns++
			c.number = l.server.log.conns
		})
		l.run.mu.Lock()
		ended := l.run.ended
		if !ended {
			l.run.conns[c] = true
		}
		l.run.mu.Unlock()
		if ended { // accepted while the run was being stopped
			_ = tcp.Close()
			continue
		}
		l.server.mu.Lock()
		deaf := l.server.deaf
		l.server.mu.Unlock()
		if !deaf {
			return c, nil
		}
	}
}
