package s3

import (
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// maxAnswer bounds the answers that are read, in bytes; a list of 1,000 parts has some 300 KB.
const maxAnswer = 1 << 20

// transport makes the requests of the SDK over the connections of everything else, under the
// governor.
type transport struct {
	http *httpconn.Client
	t    *upload.Task
}

// sentKey is the key of a context's func(int64) that is told how many bytes of the body were taken.
type sentKey struct{}

// Do implements the SDK's HTTPClient.
func (d *transport) Do(req *http.Request) (*http.Response, error) {
	ctx, w := d.t.Watch(req.Context(), req.URL.Redacted(), req.ContentLength > 0)
	out := req.Clone(ctx)
	out.Header.Set("User-Agent", d.http.Agent())
	if req.Body != nil && req.ContentLength > 0 {
		b := &body{from: req.Body, left: req.ContentLength, watch: w, begun: d.t.Connected}
		b.sent, _ = ctx.Value(sentKey{}).(func(int64))
		defer b.stop()
		out.Body = b
	}
	resp, err := d.http.Do(out, d.t.Class)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		w.End()
		return nil, err
	}
	w.Answered()
	d.t.Answered(resp)
	resp.Body = &answer{io.LimitReader(resp.Body, maxAnswer), resp.Body, w}
	return resp, nil
}

// answer ends the watch with the answer's body.
type answer struct {
	io.Reader
	body  io.Closer
	watch *upload.Watch
}

// Close implements io.Closer.
func (a *answer) Close() error {
	err := a.body.Close()
	a.watch.End()
	return err
}

// body tells how far a request's body was taken.
type body struct {
	from  io.ReadCloser
	watch *upload.Watch
	begun func()
	sent  func(int64) // may be nil

	mu   sync.Mutex // net/http may go on reading when it has already returned an answer
	at   int64
	left int64
	over bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.at == 0 {
		b.begun()
	}
	n, err := b.from.Read(p)
	b.at += int64(n)
	b.left -= int64(n)
	if b.sent != nil && n > 0 {
		b.sent(b.at)
	}
	b.watch.Moved(b.left <= 0)
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error { return b.from.Close() }

func (b *body) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}
