// Package record carries what the access log tells of a request beyond its status: why it was
// refused. Any front end may say it; it knows nothing of HTTP.
package record

import (
	"context"
	"fmt"
	"sync"
)

// Record is what is noted of one request.
type Record struct {
	mu  sync.Mutex // guards why
	why string
}

type key struct{}

// New returns a context for a request, and its record.
func New(ctx context.Context) (context.Context, *Record) {
	r := new(Record)
	return context.WithValue(ctx, key{}, r), r
}

// Why notes why the request of ctx is refused. What was noted first stays: it is the cause.
func Why(ctx context.Context, format string, args ...any) {
	r, ok := ctx.Value(key{}).(*Record)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == "" {
		r.why = fmt.Sprintf(format, args...)
	}
}

// Reason returns why the request was refused; empty if nothing was noted.
func (r *Record) Reason() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why
}
