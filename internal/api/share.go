package api

import (
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"
)

// What a user, other than an administrator, may have of a service for all users, so that the others
// are served whatever that user does.
const (
	maxConns    = 256     // connections
	maxRequests = 4       // requests that are answered at a time; more of them wait. Streams of events do not count
	largeBody   = 1 << 20 // bytes from which on one request at a time is read
	bodyTime    = 2 * time.Minute
	// largeBodies bounds the bytes of large bodies that are in memory, of all users together. Which
	// of them come first is a matter of who asked first; small bodies do not wait for it.
	largeBodies = 2 * maxBody
)

// tooMany is the answer to a connection too many.
const tooMany = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 41\r\nConnection: close\r\n\r\nthis user has too many connections open\r\n"

// LimitPeers returns a listener that gives each user a bounded number of connections.
func LimitPeers(l net.Listener) net.Listener {
	return &limited{Listener: l, open: map[uint32]int{}}
}

type limited struct {
	net.Listener
	mu   sync.Mutex // guards open
	open map[uint32]int
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, ok := PeerUID(c)
		if !ok || uid == 0 {
			return c, nil
		}
		l.mu.Lock()
		full := l.open[uid] >= maxConns
		if !full {
			l.open[uid]++
		}
		l.mu.Unlock()
		if full {
			_, _ = c.Write([]byte(tooMany)) // into an empty buffer: it does not wait
			_ = c.Close()
			continue
		}
		return &counted{Conn: c, close: sync.OnceFunc(func() { l.leave(uid) })}, nil
	}
}

func (l *limited) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[uid]--; l.open[uid] == 0 {
		delete(l.open, uid)
	}
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	close func()
}

func (c *counted) Close() error {
	c.close()
	return c.Conn.Close()
}

// SyscallConn gives access to the socket.
func (c *counted) SyscallConn() (syscall.RawConn, error) {
	s, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, syscall.ENOTSOCK
	}
	return s.SyscallConn()
}

// turns are the requests of a user.
type turns struct {
	running chan struct{} // holds one for each request that is answered
	large   chan struct{} // holds one while a large body is read
	users   int           // requests that use this
}

// FairShare answers few requests of each user at a time: the others wait, in their own time.
func FairShare(next http.Handler) http.Handler {
	var mu sync.Mutex
	users := map[uint32]*turns{} // guarded by mu
	memory := semaphore.NewWeighted(largeBodies)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callerOf(r.Context())
		if c.Admin() || r.Method == http.MethodGet && (r.URL.Path == "/v1/events" || r.URL.Path == "/v1/callbacks") { // streams
			next.ServeHTTP(w, r)
			return
		}
		mu.Lock()
		u := users[c.UID]
		if u == nil {
			u = &turns{running: make(chan struct{}, maxRequests), large: make(chan struct{}, 1)}
			users[c.UID] = u
		}
		u.users++
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			if u.users--; u.users == 0 {
				delete(users, c.UID)
			}
		}()
		take := func(turn chan struct{}) bool {
			select {
			case turn <- struct{}{}:
				return true
			case <-r.Context().Done():
				return false
			}
		}
		// An unknown length counts as the largest that is read, and so does a larger one.
		weight := r.ContentLength
		if weight < 0 || weight > maxBody {
			weight = maxBody
		}
		large := weight > largeBody
		if large {
			if !take(u.large) {
				return
			}
			defer func() { <-u.large }()
		}
		if !take(u.running) {
			return
		}
		defer func() { <-u.running }()
		// What all users share comes last: nobody holds it who waits for a turn of their own.
		if large {
			if memory.Acquire(r.Context(), weight) != nil {
				return
			}
			defer memory.Release(weight)
		}
		if weight != 0 {
			// Who sends slowly keeps the turns, but not for ever.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
			defer func() { _ = http.NewResponseController(w).SetReadDeadline(time.Time{}) }()
		}
		next.ServeHTTP(w, r)
	})
}
