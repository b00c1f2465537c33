package httpconn

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// HeaderTimeout is how long the answer to a request without a body may take to begin.
const HeaderTimeout = headerTimeout

// Waits are the requests of one transfer that wait for servers now. Its zero value has none.
type Waits struct {
	mu  sync.Mutex
	all map[*Patience]struct{} // guarded by mu
}

// Patience is how long one request waits for what comes next of its server. It passes only while there
// is something to wait for: the disk's time, and that of the governor, are not the server's.
type Patience struct {
	of    *Waits
	timer *time.Timer

	mu      sync.Mutex
	waiting bool    // guarded by mu
	now     Silence // guarded by mu: while it waits; its host always
	// departed returns when bytes last left, of which the request may have given many at once; nil if
	// nobody knows better than Wait. Guarded by mu.
	departed func() time.Time
}

// Awaited is what a request waits for.
type Awaited int

// What a request waits for.
const (
	Connection Awaited = iota // to be made
	Reply                     // to begin: the request is sent
	Arrival                   // of more bytes
	Departure                 // of more bytes
)

// Silence is a server of which nothing comes.
type Silence struct {
	Host  string // empty if the source is no server
	For   Awaited
	Since time.Time
	Limit time.Duration // it is given up after that at the latest
}

// Begin begins the wait for a connection, and calls give when it, or what comes after it, takes longer
// than it may. The request is to be made with the context that is returned. End must be called.
func (w *Waits) Begin(ctx context.Context, limit time.Duration, give func(Silence)) (context.Context, *Patience) {
	p := &Patience{of: w, waiting: true, now: Silence{Since: time.Now(), Limit: limit}}
	p.mu.Lock()
	p.timer = time.AfterFunc(limit, func() {
		if s, over := p.expired(); over {
			give(s)
		}
	})
	p.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[*Patience]struct{}{}
	}
	w.all[p] = struct{}{}
	return context.WithValue(ctx, patienceKey{}, p), p
}

type patienceKey struct{}

// asksHost notes to which server the request of a context goes now.
func asksHost(ctx context.Context, host string) {
	if p, ok := ctx.Value(patienceKey{}).(*Patience); ok {
		p.At(host)
	}
}

// Departed has the wait for bytes to depart begin anew when departed, which returns when some did last, says so.
func (p *Patience) Departed(departed func() time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.departed = departed
}

// silence returns what the request waits for, and since when; the caller has mu.
func (p *Patience) silence() Silence {
	s := p.now
	if s.For == Departure && p.departed != nil {
		if last := p.departed(); last.After(s.Since) {
			s.Since = last
		}
	}
	return s
}

// expired reports whether the wait took too long. If not, the timer goes on.
func (p *Patience) expired() (Silence, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.waiting {
		return Silence{}, false
	}
	s := p.silence()
	if rest := s.Limit - time.Since(s.Since); rest > 0 {
		p.timer.Reset(rest)
		return Silence{}, false
	}
	return s, true
}

// At names the server. Requests and connections that are made with the context of Begin do that.
func (p *Patience) At(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Host = host
}

// Wait begins the wait for what comes next.
func (p *Patience) Wait(next Awaited, limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = true
	p.now.For, p.now.Since, p.now.Limit = next, time.Now(), limit
	p.timer.Reset(limit)
}

// Rest says that what follows is not the server's time.
func (p *Patience) Rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = false
	p.timer.Stop()
}

// End ends the waiting.
func (p *Patience) End() {
	p.Rest()
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	delete(p.of.all, p)
}

// Silence returns the wait of the transfer that began last; ok is false if a request waits for
// nothing, and so moves, or if there is none.
func (w *Waits) Silence() (s Silence, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.all {
		p.mu.Lock()
		waiting, now := p.waiting, p.silence()
		p.mu.Unlock()
		if !waiting {
			return Silence{}, false
		}
		if !ok || now.Since.After(s.Since) {
			s, ok = now, true
		}
	}
	return s, ok
}

// text is what has not happened for how long.
func (s Silence) text(d time.Duration) string {
	host := cmp.Or(s.Host, "the source")
	switch s.For {
	case Connection:
		return fmt.Sprintf("no connection to %s could be made for %s", host, about(d))
	case Reply:
		return fmt.Sprintf("%s has not answered for %s", host, about(d))
	case Departure:
		return fmt.Sprintf("%s has taken nothing for %s", host, about(d))
	}
	return fmt.Sprintf("%s has sent nothing for %s", host, about(d))
}

// about writes a time in seconds, or in minutes from two on.
func about(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%d s", int(d.Round(time.Second)/time.Second))
	}
	return fmt.Sprintf("%d min", int(d.Round(time.Minute)/time.Minute))
}

// Tell says in words for how long the server is silent and what comes of it, without a full stop.
func (s Silence) Tell(now time.Time) string {
	return fmt.Sprintf("%s; after %s at the latest the connection is given up and made again", s.text(now.Sub(s.Since)), about(s.Limit))
}

// Err is the error of a request to u that waited for too long.
func (s Silence) Err(u string) error {
	return &bits.Error{Code: bits.WinHTTPTimeout, Context: bits.ContextGeneralTransport, File: u, Message: s.text(s.Limit)}
}
