package faultserver

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// File is one version of what a path serves.
type File struct {
	// Seed chooses the content.
	Seed uint64
	// Size is the length in bytes.
	Size int64
	// ETag is sent as it is, quotes included; empty is a strong one made of Seed and Size.
	ETag string
	// LastModified is cut to the second; zero is a time in the past made of Seed.
	LastModified time.Time
}

func (f File) withDefaults() File {
	if f.ETag == "" {
		f.ETag = fmt.Sprintf(`"%x-%x"`, f.Seed, f.Size)
	}
	if f.LastModified.IsZero() {
		f.LastModified = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(f.Seed%10000) * time.Hour)
	}
	f.LastModified = f.LastModified.UTC().Truncate(time.Second)
	return f
}

// Entry is a path of a Server: a file and the faults with which it is served. Its methods may be
// called at any time, also while answers are under way: those keep the program they began with.
type Entry struct {
	path   string
	server *Server

	mu       sync.Mutex // guards what follows
	file     File
	standing Program
	script   []Program
	gate     chan struct{} // closed by Release
	tokens   int           // how many ETags ETagToken has given out
}

// File serves f under path, which begins with a slash, in place of what was there.
func (s *Server) File(path string, f File) *Entry {
	e := &Entry{path: path, server: s, file: f.withDefaults(), gate: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[path] = e
	return e
}

// URL returns the entry's address on 127.0.0.1.
func (e *Entry) URL() string { return e.server.URL() + e.path }

// Set changes the standing program, which holds for every request that the script does not take.
func (e *Entry) Set(change func(*Program)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.standing)
}

// Script gives each of the coming requests, in the order of their arrival, a program of its own
// in place of the standing one. A call replaces what is left of the script before.
func (e *Entry) Script(programs ...Program) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.script = append([]Program(nil), programs...)
}

// Replace puts another version in the file's place. Answers under way go on with the old bytes.
func (e *Entry) Replace(f File) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.file = f.withDefaults()
}

// Current returns the version that is served now, its defaults filled in.
func (e *Entry) Current() File {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.file
}

// SHA256 returns the digest of the version that is served now, in hexadecimal.
func (e *Entry) SHA256() string {
	f := e.Current()
	return SHA256(f.Seed, f.Size)
}

// Release lets every answer go on that is silent or stalled now. To be sure that one is, wait for
// Request.Waiting with Server.Await.
func (e *Entry) Release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.gate)
	e.gate = make(chan struct{})
}

// barrier returns the channel that the next Release closes.
func (e *Entry) barrier() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gate
}

// next takes the program of the next request.
func (e *Entry) next() Program {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.script) == 0 {
		return e.standing
	}
	p := e.script[0]
	e.script = e.script[1:]
	return p
}

// etag returns what the ETag of f becomes under a fault; empty is none.
func (e *Entry) etag(f File, fault ETagFault) string {
	switch fault {
	case ETagStrong:
		return f.ETag
	case ETagWeak:
		return "W/" + strings.TrimPrefix(f.ETag, "W/")
	case ETagNone:
		return ""
	case ETagToken:
		e.mu.Lock()
		defer e.mu.Unlock()
		e.tokens++
		return fmt.Sprintf(`"token-%d"`, e.tokens)
	}
	panic(fmt.Sprintf("faultserver: no such ETagFault: %d", fault))
}
