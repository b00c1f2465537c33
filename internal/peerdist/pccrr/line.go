package pccrr

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limits of connections to peers.
const (
	maxIdle     = 4 * MaxPeers // connections that are not in use
	maxIdleEach = 8            // to one peer: for some segments at a time
	maxHead     = 8 << 10      // bytes of a response's header
	maxInterim  = 5            // responses before the one that counts
	lineRead    = 4 << 10
)

// lines are connections to peers. Whoever asks has one for itself while it does. With an http.Client, whose
// connections have goroutines of their own that everything goes through, a sixth of the processor time of a block
// went into that.
type lines struct {
	mu     sync.Mutex // guards what follows
	idle   map[netip.AddrPort][]*line
	n      int // of idle
	closed bool
}

// line is a connection to a peer.
type line struct {
	net.Conn
	peer  netip.AddrPort
	left  io.LimitedReader // of Conn: what the peer may send still
	read  *bufio.Reader    // of left
	timer *time.Timer      // ends it when it has long been idle
}

// take returns an idle connection, or nil.
func (l *lines) take(peer netip.AddrPort) *line {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.idle[peer]
	if len(all) == 0 {
		return nil
	}
	c := all[len(all)-1]
	l.remove(c)
	c.timer.Stop()
	return c
}

// remove forgets a connection if it is idle, and reports whether it was; mu is held.
func (l *lines) remove(c *line) bool {
	all := l.idle[c.peer]
	for i := range all {
		if all[i] != c {
			continue
		}
		copy(all[i:], all[i+1:])
		all[len(all)-1] = nil
		if all = all[:len(all)-1]; len(all) == 0 {
			delete(l.idle, c.peer)
		} else {
			l.idle[c.peer] = all
		}
		l.n--
		return true
	}
	return false
}

// give returns a connection that may be used again.
func (l *lines) give(c *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.n >= maxIdle || len(l.idle[c.peer]) >= maxIdleEach {
		c.Close()
		return
	}
	if l.idle == nil {
		l.idle = map[netip.AddrPort][]*line{}
	}
	l.idle[c.peer] = append(l.idle[c.peer], c)
	l.n++
	if c.timer != nil {
		c.timer.Reset(lineIdle)
		return
	}
	c.timer = time.AfterFunc(lineIdle, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.remove(c) {
			c.Close()
		}
	})
}

// close closes those that are idle, and all others when they are.
func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, all := range l.idle {
		for _, c := range all {
			c.timer.Stop()
			c.Close()
		}
	}
	l.idle, l.n = nil, 0
}

// dial connects to a peer, until end at most.
func dial(ctx context.Context, peer netip.AddrPort, end time.Time) (*line, error) {
	d := net.Dialer{Timeout: firstByte, Deadline: end}
	conn, err := d.DialContext(ctx, "tcp", peer.String())
	if err != nil {
		return nil, err
	}
	c := &line{Conn: conn, peer: peer, left: io.LimitedReader{R: conn}}
	c.read = bufio.NewReaderSize(&c.left, lineRead)
	return c, nil
}

// post posts a request to a peer and reads the response's body into space, until end at most. Idle connections
// may have ended meanwhile: then it is asked again.
func (l *lines) post(ctx context.Context, peer netip.AddrPort, body, space []byte, end time.Time) ([]byte, error) {
	request := appendPost(nil, peer, body)
	for {
		c := l.take(peer)
		known := c != nil
		if !known {
			var err error
			if c, err = dial(ctx, peer, end); err != nil {
				return space, err
			}
		}
		answered, again := false, false
		_ = c.SetDeadline(end)
		stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		out, err := space, error(nil)
		if err = ctx.Err(); err == nil {
			out, answered, again, err = c.exchange(request, space, end)
		}
		if stop() && again {
			l.give(c)
		} else {
			c.Close()
		}
		if cerr := context.Cause(ctx); err != nil && cerr != nil {
			return out, cerr
		}
		var timeout net.Error
		if !known || answered || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
			return out, err
		}
		// the other end was closing it
	}
}

// appendPost appends a request as it is sent.
func appendPost(b []byte, peer netip.AddrPort, body []byte) []byte {
	host := netip.AddrPortFrom(peer.Addr().WithZone(""), peer.Port())
	return append(fmt.Appendf(b, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Ebb\r\nContent-Length: %d\r\nContent-Type: application/octet-stream\r\n\r\n", Path, host, len(body)), body...)
}

// exchange sends a request and reads the response's body into space. It reports whether anything came, and whether
// the connection can be used again.
func (c *line) exchange(request, space []byte, end time.Time) (out []byte, answered, again bool, err error) {
	if _, err := c.Write(request); err != nil {
		return space, false, false, err
	}
	c.left.N = maxHead + lineRead
	if first := time.Now().Add(firstByte); first.Before(end) {
		_ = c.SetReadDeadline(first)
	}
	if _, err := c.read.Peek(1); err != nil {
		return space, false, false, err
	}
	var resp *http.Response
	for range maxInterim + 1 {
		resp, err = http.ReadResponse(c.read, nil)
		if err != nil {
			return space, true, false, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	if resp.StatusCode != http.StatusOK {
		return space, true, false, fmt.Errorf("%w: it answers with the status %d", ErrUnknown, resp.StatusCode)
	}
	_ = c.SetReadDeadline(end)
	c.left.N += 2 * MaxResponse // more than is read, also in chunks
	out, err = readAll(resp, space)
	// All was read if there is no error: of a longer body an error is made.
	return out, true, err == nil && !resp.Close && c.read.Buffered() == 0, err
}
