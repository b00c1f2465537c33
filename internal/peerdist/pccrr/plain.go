package pccrr

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Requests in the form that our own client sends them in are read and answered without net/http, whose
// connections have a second goroutine that waits while a request is answered, and which sends an answer in two
// parts: that is a tenth of the processor time of a block. A connection with anything else, however near, is
// net/http's from there on, with all that was sent through it.

const (
	plainRead = 12 << 10 // a plain request is shorter: one with 256 segments is 10 KiB
	plainHead = 160      // bytes of an answer's header are fewer
)

var plainLine = []byte("POST " + Path + " HTTP/1.1")

// plain finds the message in a plain request, which ends at n. More bytes have to come if n is 0, and err is not
// nil if it is no plain one.
func plain(b []byte) (message []byte, n int, err error) {
	if k := min(len(b), len(plainLine)); !bytes.Equal(b[:k], plainLine[:k]) {
		return nil, 0, errNotPlain
	}
	head, _, whole := bytes.Cut(b, []byte("\r\n\r\n"))
	if !whole {
		return nil, 0, nil
	}
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if !bytes.Equal(line, plainLine) {
		return nil, 0, errNotPlain
	}
	var seen [4]bool
	var length uint64
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, found := bytes.Cut(line, []byte(": "))
		field := -1
		switch string(name) {
		case "Host":
			field = 0
		case "Content-Length":
			field = 1
			if length, err = strconv.ParseUint(string(value), 10, 16); err != nil {
				return nil, 0, errNotPlain
			}
		case "User-Agent":
			field = 2
		case "Content-Type":
			field = 3
		}
		if !found || field < 0 || seen[field] || bytes.ContainsAny(value, "\r\n\x00") {
			return nil, 0, errNotPlain
		}
		seen[field] = true
	}
	if !seen[0] || !seen[1] {
		return nil, 0, errNotPlain
	}
	start := len(head) + 4
	end := start + int(length)
	switch {
	case end > plainRead:
		return nil, 0, errNotPlain
	case end > len(b):
		return nil, 0, nil
	}
	return b[start:end], end, nil
}

var errNotPlain = errors.New("a request in another form than our own")

// appendPlainHead appends an answer's header, as net/http would make it.
func appendPlainHead(b []byte, length int, now time.Time) []byte {
	b = fmt.Appendf(b, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: application/octet-stream\r\nDate: ", length)
	return append(now.UTC().AppendFormat(b, http.TimeFormat), "\r\n\r\n"...)
}

// talk answers the plain requests of a connection. The first other one it gives to others, with the connection.
func (s *Server) talk(ctx context.Context, c *guardedConn, others *handed) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	r := bufio.NewReaderSize(c, plainRead)
	for wait := requestTime; ; wait = idleTime {
		_ = c.SetReadDeadline(time.Now().Add(wait))
		if _, err := r.Peek(1); err != nil {
			c.Close()
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(requestTime))
		body, n, err := next(r)
		var m Message
		var cipher Cipher
		if err == nil {
			if m, cipher, err = DecodeRequest(body); err != nil {
				err = errNotPlain // nothing of it is gone: it gets the answer that such requests get
			}
		}
		switch {
		case errors.Is(err, errNotPlain):
			others.give(&handedConn{c, r})
			return
		case err != nil:
			c.Close()
			return
		}
		_ = c.SetWriteDeadline(time.Now().Add(uploadTime))
		err = s.respond(addrOf(c.RemoteAddr()), m, cipher, func(space []byte) error {
			// The header goes right before the message, so that both are sent as one.
			var head [plainHead]byte
			h := appendPlainHead(head[:0], len(space)-plainHead, time.Now())
			at := plainHead - len(h)
			copy(space[at:], h)
			_, err := c.Write(space[at:])
			return err
		})
		if err != nil {
			c.Close()
			return
		}
		_, _ = r.Discard(n) // which are buffered
	}
}

// next waits for a whole request. It takes nothing off r.
func next(r *bufio.Reader) (message []byte, n int, err error) {
	for {
		b, _ := r.Peek(r.Buffered())
		if message, n, err = plain(b); n > 0 || err != nil {
			return message, n, err
		}
		if len(b) == plainRead {
			return nil, 0, errNotPlain
		}
		if _, err := r.Peek(len(b) + 1); err != nil {
			return nil, 0, err
		}
	}
}

// handed is the listener of connections that are given to net/http.
type handed struct {
	conns chan net.Conn
	end   chan struct{}
	once  sync.Once
	at    net.Addr
}

func (h *handed) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.end:
		c.Close()
	}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.end:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.end) })
	return nil
}

func (h *handed) Addr() net.Addr { return h.at }

// handedConn is a connection of which something was read already.
type handedConn struct {
	*guardedConn
	r *bufio.Reader
}

func (c *handedConn) Read(b []byte) (int, error) { return c.r.Read(b) }
