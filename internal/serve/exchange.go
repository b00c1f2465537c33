package serve

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// What a client must at least do, so that one that is slow goes on for as long as it likes and one
// that only holds the connection does not.
const (
	// readPatience is how long the server waits for the next readLeast bytes of a body: 68
	// bytes a second.
	readPatience = time.Minute
	readLeast    = 4 << 10
	// writePatience is how long a client may take for a chunk of an answer: 4.4 KB a second.
	writePatience = 2 * time.Minute
	writeChunk    = 512 << 10
	// drainPatience is how long the server reads what it does not want, for the sake of the
	// answer: a connection that is closed with bytes unread is reset, and the answer lost.
	drainPatience = 5 * time.Second
	// mostTold is how much of an answer that refuses goes into the log.
	mostTold = 256
	// deadlineStep is how much a deadline moves at least, as moving it costs a little.
	deadlineStep = time.Second
)

// exchange is a request and its answer: it keeps to the group's bandwidth, drops clients that do
// not move, and counts. It lets sendfile through.
type exchange struct {
	http.ResponseWriter
	conn     *http.ResponseController
	ctx      context.Context
	up, down *rate.Limiter // nil is no limit

	// disarm says that a deadline ends the request when it passes, whether anybody waits for it
	// or not, as those of HTTP/2 do; it is then only set while somebody does.
	disarm bool

	status   int
	sent     int64
	told     []byte       // the beginning of an answer that refuses
	received atomic.Int64 // of the body: front ends may read it in a goroutine of their own
	began    time.Time
	writeEnd time.Time // the deadline that is set

	mu      sync.Mutex // guards what follows
	taken   bool       // a front end set the read deadline itself, and it holds
	readEnd time.Time
}

// newExchange returns the exchange of a request, and the request as the front ends see it, in ctx.
func newExchange(w http.ResponseWriter, r *http.Request, ctx context.Context) (*exchange, *http.Request) {
	e := &exchange{ResponseWriter: w, conn: http.NewResponseController(w), ctx: ctx, began: time.Now(), disarm: r.ProtoMajor >= 2}
	if !e.disarm {
		e.extendWrite()
	}
	r = r.WithContext(ctx) // a copy: net/http looks at the type of its own body to know what to do with the rest
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &body{ReadCloser: r.Body, e: e}
	}
	return e, r
}

// WriteHeader implements http.ResponseWriter.
func (e *exchange) WriteHeader(status int) {
	if status >= 200 && e.status == 0 {
		e.status = status
	}
	e.extendWrite()
	e.ResponseWriter.WriteHeader(status)
	e.wrote()
}

// Write implements http.ResponseWriter.
func (e *exchange) Write(p []byte) (int, error) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	if room := mostTold - len(e.told); e.status >= 400 && room > 0 {
		e.told = append(e.told, p[:min(len(p), room)]...)
	}
	written := 0
	for {
		part := p[written:min(len(p), written+e.chunk(e.down))]
		if err := wait(e.ctx, e.down, len(part)); err != nil {
			return written, err
		}
		e.extendWrite()
		n, err := e.ResponseWriter.Write(part)
		e.wrote()
		written += n
		e.sent += int64(n)
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// ReadFrom implements io.ReaderFrom. Where src is a limited file the kernel moves its bytes.
func (e *exchange) ReadFrom(src io.Reader) (int64, error) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	all, ok := src.(*io.LimitedReader)
	if !ok {
		all = &io.LimitedReader{R: src, N: math.MaxInt64}
	}
	var total int64
	for all.N > 0 {
		part := &io.LimitedReader{R: all.R, N: min(all.N, int64(e.chunk(e.down)))}
		want := part.N
		if err := wait(e.ctx, e.down, int(want)); err != nil {
			return total, err
		}
		e.extendWrite()
		n, err := io.Copy(e.ResponseWriter, part)
		e.wrote()
		total += n
		e.sent += n
		all.N -= n
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}

// Unwrap is for http.ResponseController.
func (e *exchange) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// SetReadDeadline is for http.ResponseController: the deadline that a front end sets, to end a
// read that another goroutine waits in, is not moved any more.
func (e *exchange) SetReadDeadline(t time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.taken = !t.IsZero()
	e.readEnd = t
	return e.conn.SetReadDeadline(t)
}

func (e *exchange) extendWrite() {
	if end := time.Now().Add(writePatience); end.Sub(e.writeEnd) > deadlineStep {
		e.writeEnd = end
		_ = e.conn.SetWriteDeadline(end) // of what has none, nothing is asked
	}
}

// wrote is called when nobody waits for the client to take bytes any more.
func (e *exchange) wrote() {
	if e.disarm {
		e.writeEnd = time.Time{}
		_ = e.conn.SetWriteDeadline(time.Time{})
	}
}

// extendRead sets until when the body's next bytes must come.
func (e *exchange) extendRead(end time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.taken && (end.IsZero() || end.Sub(e.readEnd) > deadlineStep) {
		e.readEnd = end
		_ = e.conn.SetReadDeadline(end)
	}
}

// finish is called when the handler is done.
func (e *exchange) finish(r *http.Request) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	e.extendWrite()
	if b, ok := r.Body.(*body); ok && !b.ended {
		_ = e.conn.SetReadDeadline(time.Now().Add(drainPatience))
	}
}

// chunk is how much is moved at once: a quarter of a second's worth where bandwidth is limited.
func (e *exchange) chunk(l *rate.Limiter) int {
	if l == nil {
		return writeChunk
	}
	return l.Burst()
}

// wait returns when n bytes, at most the burst, may move.
func wait(ctx context.Context, l *rate.Limiter, n int) error {
	if l == nil || n == 0 {
		return nil
	}
	return l.WaitN(ctx, n)
}

// body is the body of a request.
type body struct {
	io.ReadCloser
	e       *exchange
	blocked time.Duration // how long reads waited for the bytes of got
	got     int
	ended   bool
}

func (b *body) Read(p []byte) (int, error) {
	if l := b.e.up; l != nil && len(p) > l.Burst() {
		p = p[:l.Burst()]
	}
	began := time.Now()
	// Only waiting for the client counts, not the time that the server took between reads.
	b.e.extendRead(began.Add(readPatience - b.blocked))
	n, err := b.ReadCloser.Read(p)
	b.e.received.Add(int64(n))
	b.blocked += time.Since(began)
	if b.e.disarm {
		b.e.extendRead(time.Time{})
	}
	if b.got += n; b.got >= readLeast {
		b.blocked, b.got = 0, 0
	}
	if errors.Is(err, io.EOF) {
		b.ended = true
		// What is left is the front end's time. Should the deadline pass in it, net/http
		// would take the client for gone.
		b.e.extendRead(time.Time{})
	}
	if n > 0 && b.e.up != nil {
		if werr := wait(b.e.ctx, b.e.up, n); werr != nil && err == nil {
			err = werr
		}
	}
	return n, err
}
