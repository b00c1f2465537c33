// Package bup uploads by the BITS upload protocol, [MC-BUP]: to IIS with its BITS Server
// Extensions, to ebb serve, and to whatever else takes uploads from Windows.
//
// It promises that an upload goes on at the offset that the server names, that nothing is taken for
// done that the server did not confirm, and that no server keeps it busy without end. It knows
// nothing of jobs and their retries, and leaves the reply to who downloads it.
package bup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// Bounds on what a server that makes no sense, or a network that breaks, can ask for in one go.
const (
	maxSessions = 3 // that the server forgets
	maxBreaks   = 8 // connections that end in a fragment, without an advance between them
	maxNoise    = 5 // answers that do not advance, or go back
	maxEnds     = 3 // Close-Session or Cancel-Session sent

	endPause = 500 * time.Millisecond // between these
)

// Client uploads by the BITS upload protocol.
type Client struct {
	conns *httpconn.Client

	mu   sync.Mutex
	idle map[string]*kept // guarded by mu: connections of finished uploads, by session
}

// New returns a Client.
func New(conns *httpconn.Client) *Client { return &Client{conns: conns, idle: map[string]*kept{}} }

var _ upload.Uploader = (*Client)(nil)

// session is the client's end of a session, while one call lasts: the state machine of [MC-BUP] 3.1
// (server.md 1.6).
type session struct {
	*upload.Task
	link
	origin *url.URL // of the file

	best    int64 // highest offset that the server acknowledged
	breaks  int   // since the last advance
	noise   int   // since the last advance
	forgot  int   // sessions that the server forgot
	backs   int   // times that the offset went back
	shy     int64 // bytes of a fragment that may get through where a larger one did not; 0 is any
	ask     bool  // where the server is, is not known: a small fragment asks
	confirm bool  // the server has all bytes, but did not say so to the last one

	fresh bool  // the session began in this call, so that
	sent  int64 // no byte from here on can be known to the server
}

func (c *Client) open(t *upload.Task) (*session, error) {
	raw := t.URL
	switch {
	case t.State.URL != "":
		raw = t.State.URL
	case t.Source != nil:
		var err error
		if raw, err = upload.Target(t.URL, t.Source.Name()); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, &bits.Error{Code: bits.InvalidArg, Context: bits.ContextRemoteFile, File: raw, Message: fmt.Sprintf("%q is not a URL", raw), Cause: err}
	}
	u.Fragment, u.RawFragment = "", ""
	return &session{Task: t, link: link{conns: c.conns}, origin: u, best: t.State.Offset}, nil
}

// Upload implements upload.Uploader.
func (c *Client) Upload(ctx context.Context, t *upload.Task) error {
	if t.State.Done {
		return nil
	}
	s, err := c.open(t)
	if err != nil {
		return err
	}
	defer s.hangUp()
	if t.Method != "" && t.State.ID != "" { // client.md 1.9
		if err := c.Cancel(ctx, t); err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t.State, s.best = upload.State{}, 0
		t.Sent(0)
	}
	t.State.Protocol = upload.BITS
	if s.origin.String() != t.URL {
		t.State.URL = s.origin.String() // Close and Cancel have no source to name it
	}
	s.ask = t.State.ID != ""
	for {
		err := s.run(ctx)
		if err == nil {
			c.keep(t.State.ID, s.link)
			s.conn = nil
			return nil
		}
		s.hangUp()
		if serr := s.recovers(ctx, err); serr != nil {
			t.Sent(t.State.Offset)
			return serr
		}
		s.ask = t.State.ID != ""
	}
}

// run carries the session on until the server has confirmed the whole file.
func (s *session) run(ctx context.Context) error {
	begun := s.State.ID != ""
	if !begun {
		if err := s.create(ctx); err != nil {
			return err
		}
	}
	if begun || s.State.Host != "" {
		if err := s.ping(ctx); err != nil {
			return err
		}
	}
	for !s.State.Done {
		if err := s.fragment(ctx); err != nil {
			return err
		}
	}
	return nil
}

// errForgotten is the end of a session that the server does not know.
var errForgotten = &bits.Error{Code: bits.SessionNotFound, Context: bits.ContextRemoteFile,
	Message: "the server forgets uploads that it began; where several machines share its name, they may not share uploads"}

// recovers returns nil if the upload can go on at once after an error, else what it ends with.
func (s *session) recovers(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if errors.Is(err, errForgotten) {
		s.State = upload.State{Protocol: upload.BITS, URL: s.State.URL, Fragment: s.State.Fragment}
		s.best, s.confirm = 0, false
		s.Sent(0)
		if serr := s.Save(s.State); serr != nil {
			return serr
		}
		if s.forgot++; s.forgot < maxSessions {
			return nil
		}
		return err
	}
	if back, serr := s.fallBack(err); back || serr != nil {
		return serr
	}
	// A server that answered on this connection is there, but something did not let the fragment
	// through.
	if s.breaks++; errors.Is(err, &bits.Error{Code: bits.ConnectionError}) && s.answered && s.breaks <= maxBreaks {
		return nil
	}
	return err
}

// Begin asks the server for a session to find out whether it speaks the protocol. It reports false,
// and has changed nothing, if the answer has not a word of it. An upload goes on with the session.
func (c *Client) Begin(ctx context.Context, t *upload.Task) (bool, error) {
	s, err := c.open(t)
	if err != nil {
		return false, err
	}
	defer s.hangUp()
	a, err := s.askForSession(ctx)
	if err != nil || a.Foreign || a.Status == http.StatusNotImplemented { // it knows the protocol, and does not offer it
		return false, err
	}
	t.State.Protocol = upload.BITS
	if s.origin.String() != t.URL {
		t.State.URL = s.origin.String()
	}
	return true, s.begun(a)
}

// create begins a session.
func (s *session) create(ctx context.Context) error {
	a, err := s.askForSession(ctx)
	if err != nil {
		return err
	}
	return s.begun(a)
}

func (s *session) askForSession(ctx context.Context) (*answer, error) {
	return s.exchange(ctx, bupwire.Request{Type: bupwire.CreateSession, Protocols: []string{bupwire.Protocol}, ContentName: s.Source.Name()}, 0)
}

// begun takes the answer to Create-Session.
func (s *session) begun(a *answer) error {
	switch {
	case !a.ok():
		return s.refused(a, "beginning the upload")
	case a.Foreign:
		return s.broken(bits.ProtocolMismatch, "the server does not speak the BITS upload protocol: it answered %d without a word of it", a.Status)
	case a.Protocol != "" && !strings.EqualFold(a.Protocol, bupwire.Protocol):
		return s.broken(bits.ProtocolMismatch, "the server chose the unknown upload protocol %.60q", a.Protocol)
	case a.SessionID == "":
		return s.broken(bits.InvalidServerResponse, "the server began an upload without giving it an id")
	}
	s.State.ID, s.State.Offset = a.SessionID, 0
	s.fresh, s.sent = true, 0
	if err := s.pin(a.Ack); err != nil {
		return err
	}
	s.Connected()
	return s.Save(s.State)
}

// ping makes sure that the server can be reached before a fragment is sent. A server that does not
// know the packet is none the worse: the fragment will tell.
func (s *session) ping(ctx context.Context) error {
	a, err := s.exchange(ctx, bupwire.Request{Type: bupwire.Ping}, 0)
	if err != nil {
		return err
	}
	switch a.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return s.refused(a, "going on with the upload")
	}
	s.Connected()
	return nil
}

// fragment sends a part of the file and takes the offset that the server names.
func (s *session) fragment(ctx context.Context) error {
	gov, err := s.turn(ctx)
	if err != nil {
		return err
	}
	from, size := s.State.Offset, s.Source.Size()
	if s.confirm || from == size {
		from = max(size-bupwire.MinFragment, 0)
	}
	n := min(size-from, s.most(gov.Fragment()))
	s.sent = max(s.sent, from+n)
	a, err := s.tell(ctx, bupwire.Request{
		Type: bupwire.Fragment, SessionID: s.State.ID, ContentName: s.Source.Name(), Range: bupwire.RangeOf(from, n, size), Length: n,
	}, from)
	gov.EndSend()
	switch {
	case err != nil:
		if n > bupwire.MinFragment {
			s.shy = max(n/4, bupwire.MinFragment) // what ends connections may not end shorter ones
		}
		return err
	case s.forgotten(a):
		return errForgotten
	case a.ok() && a.Foreign:
		return s.broken(bits.InvalidServerAnswer, "something other than the server answered %d to a part of the upload", a.Status)
	case a.ok(), a.Status == http.StatusRequestedRangeNotSatisfiable:
		return s.advance(ctx, a, from, n)
	case a.Status == http.StatusRequestEntityTooLarge && a.Code != bits.TooLarge:
		return s.shrink(a, n)
	case size == 0 && a.Status == http.StatusBadRequest:
		return s.broken(bits.HTTPStatus(a.Status), "the server takes no empty file")
	}
	return s.refused(a, "sending the file")
}

// turn waits until it is the upload's turn to send, and returns the connection to send over. Each
// turn is followed by an EndSend.
func (s *session) turn(ctx context.Context) (*governor.Conn, error) {
	for {
		if err := s.reach(ctx, s.Task, s.target()); err != nil {
			return nil, err
		}
		if err := s.conn.Governed.BeginSend(ctx); err != nil {
			return nil, httpconn.TransportError(ctx, err, s.origin.String())
		}
		if !s.in.ended() {
			return s.conn.Governed, nil
		}
		s.hangUp() // the server did meanwhile; the turn is given back
	}
}

// most returns how many bytes the next fragment may have.
func (s *session) most(governed int64) int64 {
	n := min(max(governed, bupwire.MinFragment), bupwire.MaxFragment)
	for _, limit := range []int64{s.State.Fragment, s.shy} {
		if limit > 0 {
			n = min(n, limit)
		}
	}
	if s.ask {
		n = min(n, bupwire.MinFragment)
	}
	return n
}

// advance takes the offset that the answer to a fragment of n bytes names.
func (s *session) advance(ctx context.Context, a *answer, from, n int64) error {
	next, size := a.Received, s.Source.Size()
	if next < 0 && a.ok() && size == 0 {
		next = 0
	}
	switch {
	case next < 0: // resent from where it was, after a Ping
		if s.noise++; s.noise > maxNoise {
			return s.broken(bits.InvalidServerResponse, "the server does not tell how much of the file it has")
		}
		return s.ping(ctx)
	case next > size:
		return s.broken(bits.InvalidServerResponse, "the server claims %d bytes of a file that has %d", next, size)
	case s.fresh && next > s.sent:
		return s.broken(bits.InvalidServerResponse, "the server claims %d bytes when it was sent %d", next, s.sent)
	case next < s.State.Offset:
		if s.backs++; s.backs > maxNoise {
			return s.broken(bits.InvalidServerResponse, "the server loses what it was sent, again and again")
		}
	case next == from && n > 0:
		if s.noise++; s.noise > maxNoise {
			return s.broken(bits.InvalidServerResponse, "the server takes nothing of the file beyond its first %d bytes", next)
		}
	}
	if next > s.best {
		s.best, s.breaks, s.noise = next, 0, 0
	}
	if n == s.shy && a.ok() {
		s.shy *= 2
	}
	s.ask = false
	s.State.Offset = next
	s.Sent(next)
	switch {
	case next < size:
		s.confirm = false
	case !a.ok() && !s.confirm:
		// The server had all before this fragment. It may not have been able to do with the file
		// what it is for, which it tries again, and then tells of a reply, at the last fragment.
		s.confirm = true
	default:
		s.State.Done = true
		return s.finish(a)
	}
	return s.Save(s.State)
}

// finish takes the reply's URL. An upload-reply job whose server names none has an empty reply
// (client.md 3.6).
func (s *session) finish(a *answer) error {
	if s.Reply && a.ReplyURL != "" {
		// Relative to the URL that the job names, as Windows does it, also if another host took the
		// file (server.md 1.15 B).
		u, err := bupwire.ReplyURL(s.origin, a.ReplyURL)
		if err != nil {
			return s.broken(bits.InvalidServerResponse, "the server's application answered, but not where it can be fetched: %v", err)
		}
		if err := upload.Allowed(s.origin, u); err != nil {
			return err
		}
		s.State.Reply = u.String()
	}
	return s.Save(s.State)
}

// shrink learns from a server, or a proxy before it, that takes no request with n bytes.
func (s *session) shrink(a *answer, n int64) error {
	if n <= bupwire.MinFragment {
		return s.refused(a, fmt.Sprintf("sending a part of no more than %d bytes", n))
	}
	s.State.Fragment = max(n/2, bupwire.MinFragment)
	return s.Save(s.State)
}

// Close implements upload.Uploader. A server that does not know the session has ended it: the file
// was published with its last byte (server.md 1.10).
func (c *Client) Close(ctx context.Context, t *upload.Task) error {
	return c.end(ctx, t, bupwire.CloseSession, "closing the upload")
}

// Cancel implements upload.Uploader.
func (c *Client) Cancel(ctx context.Context, t *upload.Task) error {
	return c.end(ctx, t, bupwire.CancelSession, "cancelling the upload")
}

// end sends the last packet of a session, again while the server says that it has trouble.
func (c *Client) end(ctx context.Context, t *upload.Task, kind bupwire.PacketType, doing string) error {
	if t.State.ID == "" {
		return nil
	}
	s, err := c.open(t)
	if err != nil {
		return err
	}
	defer s.hangUp()
	l, used := c.kept(t.State.ID)
	if used {
		s.link = l
		s.watch(ctx)
	}
	for sent := 1; ; sent++ {
		a, err := s.exchange(ctx, bupwire.Request{Type: kind, SessionID: t.State.ID}, 0)
		if err != nil {
			s.hangUp()
			if used { // the server may have closed it meanwhile
				used = false
				continue
			}
			if back, serr := s.fallBack(err); back && serr == nil && ctx.Err() == nil {
				continue
			}
			return err
		}
		switch {
		case a.ok() && a.Foreign:
			err = s.broken(bits.InvalidServerAnswer, "%s: something other than the server answered %d", doing, a.Status)
		case a.ok(), a.Code == bits.SessionNotFound && !a.Foreign:
			return nil
		default:
			err = s.refused(a, doing)
		}
		if a.Status < 500 || sent == maxEnds {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(float64(endPause) * (0.5 + rand.Float64()))):
		}
	}
}
