package front

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// held is how many bytes of content are kept in memory until they are verified. What clients send in
// practice to be verified is larger and goes to the storage.
const held = 256 << 10

// ReadError is an error of reading a request's content, which is the client's or the network's, not
// the store's.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return fmt.Sprintf("read the request: %v", e.Err) }
func (e *ReadError) Unwrap() error { return e.Err }

// Content reads the content of r. Its errors are *ReadError, or the cause of the context's end: a
// read that waits for a client who has gone does not keep the session from the next request. stop
// must be called before the session is released and the request answered.
func Content(ctx context.Context, w http.ResponseWriter, r *http.Request) (content io.Reader, stop func()) {
	c := http.NewResponseController(w)
	unhooked := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(unhooked)
		// The one way to end a Read of the content that another goroutine waits in.
		_ = c.SetReadDeadline(time.Unix(1, 0))
	})
	return &contentReader{ctx: ctx, r: r.Body}, func() {
		if !unhook() {
			// The deadline must not hit the connection's next request, and there cannot be one: net/http
			// has taken the client for gone, be it that it read beyond the content, and would
			// cancel that request's context as well.
			<-unhooked
			w.Header().Set("Connection", "close")
		}
	}
}

type contentReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contentReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return n, err
	case c.ctx.Err() != nil:
		return n, context.Cause(c.ctx)
	default:
		return n, &ReadError{err}
	}
}

// Hold receives the whole content for the session s without adding it, so that it can be verified
// first: what was added cannot be taken back. ErrTooLarge if there is no room for it in the upload.
// The caller closes what it gets.
func Hold(ctx context.Context, p *session.Prefix, s session.Session, content io.Reader) (io.ReadSeekCloser, error) {
	room := int64(-1)
	for _, end := range []int64{s.Info().Size, s.Info().Limit} {
		if end >= 0 && (room < 0 || end-s.Info().Offset < room) {
			room = end - s.Info().Offset
		}
	}
	var head bytes.Buffer
	switch _, err := io.CopyN(&head, content, held); {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case room >= 0 && int64(head.Len()) > room:
		return nil, session.ErrTooLarge
	case err != nil: // that was all
		return memory{bytes.NewReader(head.Bytes())}, nil
	}
	return spool(ctx, p, s.Info().Principal, room, io.MultiReader(&head, content))
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// spool keeps content in a session of its own that nobody knows: it is counted and limited as every
// upload is, and lies where there is room for uploads.
func spool(ctx context.Context, p *session.Prefix, principal string, room int64, content io.Reader) (io.ReadSeekCloser, error) {
	info, err := p.Store.Create(ctx, session.Spec{Protocol: "held", Principal: principal, Size: -1, Limit: room, Whole: true})
	if err != nil {
		return nil, err
	}
	_, s, err := p.Store.Acquire(ctx, info.ID, session.Who{Principal: principal})
	if err != nil {
		return nil, err
	}
	f := &spooled{ctx: context.WithoutCancel(ctx), s: s}
	if _, err = s.Append(ctx, content); err == nil {
		f.ReadSeekCloser, err = s.Open(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

type spooled struct {
	io.ReadSeekCloser // nil until it was received
	ctx               context.Context
	s                 session.Session
}

func (f *spooled) Close() error {
	defer f.s.Release()
	if f.ReadSeekCloser != nil {
		_ = f.ReadSeekCloser.Close()
	}
	return f.s.Remove(f.ctx)
}
