package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

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
