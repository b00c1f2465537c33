package faultserver

import (
	"cmp"
	"context"
	"net/http"
	"time"
)

const (
	// pieceSize is the most that is written at once: large enough to cost little per byte, small
	// enough that the log follows.
	pieceSize = 256 << 10
	// pieceTime is how much a rate lets through at once. Ten milliseconds is finer than what a
	// client's progress or a governor's measurement can tell from an even flow.
	pieceTime = 10 * time.Millisecond
	// maxLag is how far an answer may fall behind its rate and still catch up. Timers that fire
	// late are made up for; a client that did not read is not sent a burst afterwards.
	maxLag = 50 * time.Millisecond
)

// pacer says when how many bytes may go out.
type pacer struct {
	rate int64 // bytes a second; 0 is no limit
	drip Drip  // goes before rate
	most int64 // at once; 0 is pieceSize
	due  time.Time
}

// piece returns how many bytes may go out at once; at least 1.
func (p *pacer) piece() int64 {
	most := cmp.Or(p.most, pieceSize)
	switch {
	case p.drip.Bytes > 0:
		return min(int64(p.drip.Bytes), most)
	case p.rate > 0:
		return min(max(p.rate*int64(pieceTime)/int64(time.Second), 1), most)
	default:
		return most
	}
}

// wait returns when n more bytes may go out, or with the context's error.
func (p *pacer) wait(ctx context.Context, n int64) error {
	var step time.Duration
	switch {
	case p.drip.Bytes > 0:
		step = p.drip.Every
	case p.rate > 0:
		step = time.Duration(float64(n) / float64(p.rate) * float64(time.Second))
	default:
		return ctx.Err()
	}
	now := time.Now()
	if earliest := now.Add(-maxLag); p.due.IsZero() {
		p.due = now
	} else if p.due.Before(earliest) {
		p.due = earliest
	}
	err := pause(ctx, p.due.Sub(now))
	p.due = p.due.Add(step)
	return err
}

// pause returns after d, or with the context's error.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Throttle returns a handler whose answers go out at bytesPerSecond each, evenly. It is for
// handlers of other packages; a File has Program.Rate.
func Throttle(h http.Handler, bytesPerSecond int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&throttled{ResponseWriter: w, ctx: r.Context(), pacer: pacer{rate: bytesPerSecond}}, r)
	})
}

// throttled hides the io.ReaderFrom of the ResponseWriter, which would send past Write.
type throttled struct {
	http.ResponseWriter
	ctx   context.Context
	pacer pacer
}

// Write implements http.ResponseWriter.
func (t *throttled) Write(p []byte) (int, error) {
	for done := 0; ; {
		n := int(min(t.pacer.piece(), int64(len(p)-done)))
		if err := t.pacer.wait(t.ctx, int64(n)); err != nil {
			return done, err
		}
		m, err := t.ResponseWriter.Write(p[done : done+n])
		done += m
		if err != nil || done == len(p) {
			return done, err
		}
		if err := http.NewResponseController(t.ResponseWriter).Flush(); err != nil {
			return done, err
		}
	}
}
