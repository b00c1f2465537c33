package bup

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/auth"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

const (
	// responseTime is how long an answer may take ([MC-BUP] 3.1.2): the last one waits for the
	// server's application.
	responseTime = 5 * time.Minute
	// lateTime is how long the answer may take that a server gave instead of reading on.
	lateTime = 2 * time.Second

	// Pieces of a body are as long as a fraction of a second takes, so that a deadline for each
	// tells a slow connection from one that stands still, and a fast one has little to do.
	firstPiece, leastPiece, mostPiece = 16 << 10, 4 << 10, 1 << 20
	briefPiece, longPiece             = 50 * time.Millisecond, 500 * time.Millisecond
	// backgroundPiece is small enough to go out in time also when the path becomes somebody
	// else's while it does.
	backgroundPiece = 64 << 10

	// keptTime is how long a connection waits for Close-Session.
	keptTime = 10 * time.Second
)

// link is an upload's connection, made anew when it has ended.
type link struct {
	conns    *httpconn.Client
	conn     *httpconn.Conn // nil if there is none
	to       *url.URL       // where conn leads
	stop     func() bool    // ends the watch over the context
	in       *ear
	answered bool // there was an answer over the latest connection
	piece    int
	buf      []byte
}

// reach makes sure that there is a connection to the server of u.
func (l *link) reach(ctx context.Context, t *upload.Task, u *url.URL) error {
	if l.conn != nil {
		if httpconn.SameOrigin(l.to, u) && !l.in.ended() {
			return nil
		}
		l.hangUp()
	}
	conn, err := l.dial(ctx, t, u)
	if err != nil {
		return err
	}
	l.conn, l.to, l.answered, l.piece = conn, u, false, firstPiece
	l.in = listen(conn)
	l.watch(ctx)
	t.On(conn.Governed)
	return nil
}

func (l *link) dial(ctx context.Context, t *upload.Task, u *url.URL) (*httpconn.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, patience := t.Waits.Begin(ctx, responseTime, func(s httpconn.Silence) { cancel(s.Err(u.String())) })
	defer patience.End()
	return l.conns.Dial(ctx, u, t.Class)
}

// watch ends the connection with the context.
func (l *link) watch(ctx context.Context) {
	conn := l.conn
	l.stop = context.AfterFunc(ctx, func() { conn.Close() })
}

// hangUp ends the connection.
func (l *link) hangUp() {
	if l.conn == nil {
		return
	}
	l.stop()
	l.conn.Close()
	l.conn = nil
}

// keep puts the connection of a session by for its end.
func (c *Client) keep(id string, l link) {
	if l.conn == nil || !l.stop() {
		return
	}
	l.buf = nil
	if old, ok := c.kept(id); ok {
		old.conn.Close()
	}
	k := &kept{link: l}
	c.mu.Lock()
	defer c.mu.Unlock()
	k.expiry = time.AfterFunc(keptTime, func() {
		if l, ok := c.kept(id); ok {
			l.conn.Close()
		}
	})
	c.idle[id] = k
}

// kept returns the connection that was put by for the end of a session, if there is one.
func (c *Client) kept(id string) (link, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.idle[id]
	if k == nil {
		return link{}, false
	}
	delete(c.idle, id)
	k.expiry.Stop()
	return k.link, true
}

// kept is a connection that waits for a session's end.
type kept struct {
	link
	expiry *time.Timer
}

// answer is what the server says to a packet.
type answer struct {
	bupwire.Ack
	resp *http.Response // without its body
}

// ok reports whether the server did what it was asked for.
func (a *answer) ok() bool { return a.Status/100 == 2 }

// exchange sends a packet, with the bytes of the source from an offset as its body, and returns the
// answer.
func (s *session) exchange(ctx context.Context, p bupwire.Request, from int64) (*answer, error) {
	if err := s.reach(ctx, s.Task, s.target()); err != nil {
		return nil, err
	}
	return s.tell(ctx, p, from)
}

// tell is exchange over the connection that there is. Packets with bytes go over no other: it is the
// governor's to rule, and has its turn. Servers and proxies that want to know who sends are told; an
// upload begins, and goes on, with a packet without bytes, so that a challenge costs none.
func (s *session) tell(ctx context.Context, p bupwire.Request, from int64) (*answer, error) {
	p.Method = cmp.Or(s.Method, bupwire.Method)
	to := s.target()
	uri := to.RequestURI()
	var server, via *auth.Attempt
	if httpconn.SameOrigin(s.origin, to) && s.Header.Get("Authorization") == "" {
		server = s.conns.Identity(ctx).Begin(bits.TargetServer, to)
	}
	if s.conn.Proxy != nil {
		via = s.conns.Identity(ctx).BeginProxy(s.conn.Proxy, s.conn.ByNetwork)
	}
	h := s.header(to)
	say := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	say("Authorization", server.First(ctx, p.Method, uri))
	say("Proxy-Authorization", via.First(ctx, p.Method, uri))
	var resp *http.Response
	for again := true; again; {
		if s.conn == nil { // the challenge was its last word
			if err := s.reach(ctx, s.Task, to); err != nil {
				return nil, err
			}
		}
		target := uri
		if s.conn.Proxy != nil {
			u := *to
			u.User = nil
			target = u.String()
		}
		head, err := p.Head(target, to.Host, h)
		if err != nil {
			return nil, s.broken(bits.InvalidArg, "the upload cannot be asked for: %v", err)
		}
		resp, err = s.roundTrip(ctx, head, from, from+p.Length)
		if err != nil {
			s.hangUp()
			var known *bits.Error
			if !errors.As(err, &known) {
				err = &url.Error{Op: p.Method, URL: to.Redacted(), Err: err}
			}
			return nil, httpconn.TransportError(ctx, err, to.String())
		}
		var said string
		switch resp.StatusCode {
		case http.StatusUnauthorized:
			via.Done(resp.Header)
			said, again = server.Next(ctx, resp.Header, p.Method, uri)
			say("Authorization", said)
			say("Proxy-Authorization", via.First(ctx, p.Method, uri))
		case http.StatusProxyAuthRequired:
			said, again = via.Next(ctx, resp.Header, p.Method, uri)
			say("Proxy-Authorization", said)
		default:
			via.Done(resp.Header)
			server.Done(resp.Header)
			again = false
		}
		again = again && (s.conn != nil || p.Length == 0) // a fragment's turn was that connection's
	}
	s.Answered(resp)
	ack, err := bupwire.ParseAck(resp)
	if err != nil {
		return nil, s.broken(bits.InvalidServerResponse, "the server's answer makes no sense: %v", err)
	}
	if ack.Foreign && ack.Status == http.StatusRequestTimeout && s.answered {
		// Said about the time since the packet before, by a server that then hung up.
		return nil, httpconn.TransportError(ctx, &url.Error{Op: p.Method, URL: to.Redacted(), Err: io.ErrUnexpectedEOF}, to.String())
	}
	s.answered = true
	return &answer{ack, resp}, s.reached()
}

// roundTrip sends a request and reads the answer to it, which may come before all is sent: then the
// rest is not, and the connection ends.
func (s *session) roundTrip(ctx context.Context, head []byte, from, to int64) (*http.Response, error) {
	conn := s.conn
	var late atomic.Bool
	_, patience := s.Waits.Begin(ctx, s.Stall(), func(httpconn.Silence) {
		late.Store(true)
		conn.Close()
	})
	defer patience.End()
	patience.At(s.to.Host)
	s.in.sending.Add(1)
	all, err := s.send(head, from, to, patience)
	s.in.sending.Add(1)
	var known *bits.Error
	if errors.As(err, &known) {
		return nil, err // the source failed
	}
	if all {
		patience.Wait(httpconn.Reply, responseTime)
	} else {
		patience.Wait(httpconn.Reply, lateTime)
	}
	r, more := <-s.in.heard // something comes, since nobody can read from a connection that is closed
	if !more {
		r.err = io.ErrUnexpectedEOF
	}
	switch {
	case r.err != nil && late.Load() && (all || err == nil || errors.Is(err, net.ErrClosed)):
		return nil, os.ErrDeadlineExceeded
	case r.err != nil && late.Load():
		return nil, err // no answer tells why it could not be sent
	case errors.Is(r.err, errEndless):
		return nil, s.broken(bits.InvalidServerAnswer, "the server's answer does not end")
	case r.err != nil:
		return nil, r.err
	case !all && r.resp.StatusCode/100 == 2:
		return nil, s.broken(bits.InvalidServerAnswer, "the server confirmed what it was not sent")
	}
	if !all || r.last {
		s.hangUp()
	}
	return r.resp, nil
}

// send writes a request, until it is answered, and reports whether that was all of it. Patience is
// for what the connection takes next. An error of the source is a *bits.Error.
func (s *session) send(head []byte, from, to int64, patience *httpconn.Patience) (all bool, err error) {
	s.buf = append(s.buf[:0], head...)
	for {
		b := s.buf
		n := int(min(int64(s.piece), to-from))
		if n > 0 {
			at := len(b)
			b = slices.Grow(b, n)[:at+n]
			m, err := s.Source.ReadAt(b[at:], from)
			if m < n {
				return false, sourceError(err, s.Source.Name())
			}
		}
		if s.in.ended() {
			return false, nil
		}
		begun := time.Now()
		patience.Wait(httpconn.Departure, s.Stall())
		if _, err := s.conn.Write(b); err != nil {
			return false, err
		}
		s.buf = b[:0]
		from += int64(n)
		if from > s.State.Offset {
			s.Sent(from)
		}
		if from == to {
			return true, nil
		}
		switch took := time.Since(begun); {
		case took < briefPiece:
			s.piece = min(2*s.piece, mostPiece)
			if s.Class == governor.Background {
				s.piece = min(s.piece, backgroundPiece)
			}
		case took > longPiece:
			s.piece = max(s.piece/2, leastPiece)
		}
	}
}

func sourceError(err error, name string) error {
	var known *bits.Error
	if errors.As(err, &known) {
		return known
	}
	if err == nil || errors.Is(err, io.EOF) {
		return &bits.Error{Code: bits.LocalFileChanged, Context: bits.ContextLocalFile, File: name, Message: "the file became shorter while it was sent"}
	}
	return &bits.Error{Code: bits.Unexpected, Context: bits.ContextLocalFile, File: name, Cause: err}
}
