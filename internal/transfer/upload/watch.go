package upload

import (
	"context"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

// answerPatience is how long an answer may take once the body is sent; the connections' own limit,
// which begins when the kernel has the last byte, is a little shorter.
const answerPatience = 6 * time.Minute

// Watch is over one request: it has the governor's leave to send while the request lasts, and ends
// one that stands still.
type Watch struct {
	t        *Task
	cancel   context.CancelCauseFunc
	patience *httpconn.Patience

	mu       sync.Mutex
	conn     *governor.Conn // guarded by mu
	sending  *governor.Conn // guarded by mu: that EndSend is due for
	over     bool           // guarded by mu
	wrote    time.Time      // guarded by mu
	answered time.Time      // guarded by mu
}

// Watch begins to watch a request to u, which has a body if sends is true, and returns the context
// to make it with. End must be called.
func (t *Task) Watch(ctx context.Context, u string, sends bool) (context.Context, *Watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &Watch{t: t, cancel: cancel}
	ctx, w.patience = t.Waits.Begin(ctx, answerPatience, func(s httpconn.Silence) { cancel(s.Err(u)) })
	ctx = httpconn.OnConn(ctx, func(c *governor.Conn) { w.got(ctx, c, sends) })
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.wrote = time.Now()
		},
		GotFirstResponseByte: func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.answered = time.Now()
		},
	}), w
}

// got takes the connection that the request goes over, before it is sent. There may be another
// before it, which turned out to be closed.
func (w *Watch) got(ctx context.Context, c *governor.Conn, sends bool) {
	w.endSend()
	w.t.On(c)
	begun := false
	if sends {
		w.patience.Departed(c.Fed)
		w.patience.Rest() // the wait for room is not the server's
		begun = c.BeginSend(ctx) == nil
		w.patience.Wait(httpconn.Departure, 2*w.t.Stall()) // before the first byte, a server may be asked whether it wants the body
	} else {
		w.patience.Wait(httpconn.Reply, answerPatience)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = c
	switch {
	case begun && w.over:
		c.EndSend()
	case begun:
		w.sending = c
	}
}

func (w *Watch) endSend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sending != nil {
		w.sending.EndSend()
	}
	w.sending = nil
}

// Moved says that bytes of the body were taken, and whether they were the last.
func (w *Watch) Moved(last bool) {
	if last {
		w.patience.Wait(httpconn.Reply, answerPatience)
	} else {
		w.patience.Wait(httpconn.Departure, w.t.Stall())
	}
}

// Answered says that the answer's header came.
func (w *Watch) Answered() { w.patience.Wait(httpconn.Arrival, 2*w.t.Stall()) }

// End ends the watch, and the request if it still goes on.
func (w *Watch) End() {
	w.cancel(nil)
	w.patience.End()
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.endSend()
}

// told returns the connection, and the time from the request's last byte to the answer's first.
func (w *Watch) told() (*governor.Conn, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wrote.IsZero() {
		return w.conn, 0
	}
	return w.conn, max(w.answered.Sub(w.wrote), 0)
}
