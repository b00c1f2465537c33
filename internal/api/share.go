package api

import (
	"net/http"
	"sync"
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

// BusyPerUser is how many threads of a service for all users one user can keep busy: with requests, with
// making connections and with giving them up.
const BusyPerUser = maxRequests + 2

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
