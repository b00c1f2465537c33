package faultserver

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Request is one line of a Server's log. It appears when the request arrives and grows while the
// answer is written.
type Request struct {
	// Time is when the request had been read.
	Time time.Time
	// Conn numbers the connection it came on, from 1.
	Conn int
	// Method, Path (without the query), Query and Proto are the request's.
	Method, Path, Query, Proto string
	// Range and IfRange are its headers of that name.
	Range, IfRange string
	// Header is its whole header; not to be changed.
	Header http.Header
	// Status is what was answered; 0 before, and when no HTTP went out.
	Status int
	// Offset is where in the file the body began; -1 when the body is none of the file's bytes.
	Offset int64
	// Sent is how many bytes of body were handed to the kernel, counted after each write. The
	// client's program may have seen fewer: see Options.SendBuffer.
	Sent int64
	// Waiting reports that the answer is silent or stalled and waits for Entry.Release.
	Waiting bool
	// Done reports that the server is through with the answer, whole or not.
	Done bool
}

// record is the log of a server.
type record struct {
	mu       sync.Mutex // guards what follows
	requests []*Request
	conns    int
	used     map[int]bool // connections that have carried a request
	reused   int
	changed  chan struct{} // closed at the next change; nil when nobody waits
}

// change runs f under the lock and wakes those who wait.
func (l *record) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

func (l *record) begin(r *http.Request, conn int) *Request {
	q := &Request{
		Time: time.Now(), Conn: conn, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Proto: r.Proto,
		Range: r.Header.Get("Range"), IfRange: r.Header.Get("If-Range"), Header: r.Header.Clone(), Offset: -1,
	}
	l.change(func() {
		l.requests = append(l.requests, q)
		if l.used[conn] {
			l.reused++
		}
		l.used[conn] = true
	})
	return q
}

// Requests returns a copy of the log, in the order of arrival.
func (s *Server) Requests() []Request {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	all := make([]Request, len(s.log.requests))
	for i, q := range s.log.requests {
		all[i] = *q
	}
	return all
}

// RequestsFor returns the part of the log that concerns path.
func (s *Server) RequestsFor(path string) []Request {
	return slices.DeleteFunc(s.Requests(), func(q Request) bool { return q.Path != path })
}

// ForgetRequests empties the log and its counters. Connections that are open stay numbered and
// count as used.
func (s *Server) ForgetRequests() {
	s.log.change(func() { s.log.requests, s.log.reused = nil, 0 })
}

// Sent returns how many bytes of body went out for path.
func (s *Server) Sent(path string) int64 {
	var sum int64
	for _, q := range s.RequestsFor(path) {
		sum += q.Sent
	}
	return sum
}

// Refetched returns how many bytes of the file at path went out more than once, counting each
// further time. It goes by offsets and does not know versions.
func (s *Server) Refetched(path string) int64 {
	type span struct{ from, to int64 }
	var spans []span
	for _, q := range s.RequestsFor(path) {
		if q.Offset >= 0 && q.Sent > 0 {
			spans = append(spans, span{q.Offset, q.Offset + q.Sent})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var again, end int64
	for _, sp := range spans {
		again += max(0, min(end, sp.to)-sp.from)
		end = max(end, sp.to)
	}
	return again
}

// Idle reports whether the server is through with every answer in its log. A client may have the
// last byte of an answer a moment before the log counts it: Await Idle before counting.
func (s *Server) Idle() bool {
	return !slices.ContainsFunc(s.Requests(), func(q Request) bool { return !q.Done })
}

// Connections returns how many connections were accepted since the server was made, those
// included that never brought a request.
func (s *Server) Connections() int {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.conns
}

// Reused returns how many requests came on a connection that had carried one before.
func (s *Server) Reused() int {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.reused
}

// Await returns when cond holds, which it looks at whenever the log changes: a request arrived, a
// piece of a body went out, an answer stalled or ended. It returns the context's error otherwise.
func (s *Server) Await(ctx context.Context, cond func() bool) error {
	for {
		s.log.mu.Lock()
		if s.log.changed == nil {
			s.log.changed = make(chan struct{})
		}
		changed := s.log.changed
		s.log.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
