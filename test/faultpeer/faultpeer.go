// Package faultpeer is a machine that takes part in peer caching and does harm by it, for tests and measurements: it
// says to have what it is asked for and gives something else, nothing, or too much.
package faultpeer

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
)

// Fault is what such a machine does.
type Fault struct {
	Name string
	// Lies says that it sends what is wrong, which others find out: they ban it and name it in their logs.
	Lies bool

	wrap   func(http.Handler) http.Handler // the server of blocks; nil: that is right
	leaves bool                            // it vanishes after some blocks
	flood  func(ctx context.Context) error // what it sends besides; nil: nothing
}

// afterBlocks is how many blocks a machine gives that then vanishes.
const afterBlocks = 16

// Faults are those of a server of blocks.
var Faults = []Fault{
	{Name: "wrong blocks", Lies: true, wrap: blocks(func(w http.ResponseWriter, _ *http.Request, b []byte) {
		b[len(b)/2] ^= 1
		_, _ = w.Write(b)
	})},
	{Name: "another key", Lies: true, wrap: blocks(sealedAnew)},
	{Name: "cut off", Lies: true, wrap: blocks(func(w http.ResponseWriter, _ *http.Request, b []byte) { _, _ = w.Write(b[:len(b)*3/4]) })},
	{Name: "oversized", Lies: true, wrap: blocks(func(w http.ResponseWriter, _ *http.Request, b []byte) {
		_, _ = w.Write(append(b, make([]byte, 500_000)...))
	})},
	{Name: "without end", Lies: true, wrap: blocks(func(w http.ResponseWriter, _ *http.Request, b []byte) {
		for {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})},
	{Name: "replayed", Lies: true, wrap: replayed},
	{Name: "has nothing", wrap: blocks(func(w http.ResponseWriter, r *http.Request, b []byte) {
		m, c, err := pccrr.DecodeResponse(b)
		if block, ok := m.(pccrr.Block); err == nil && ok {
			b = pccrr.AppendResponse(nil, c, pccrr.Block{Segment: block.Segment, Index: block.Index})
		}
		_, _ = w.Write(b)
	})},
	{Name: "errors", wrap: always(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })},
	{Name: "hangs up", wrap: always(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })},
	{Name: "vanishes", leaves: true},
	{Name: "stalls", wrap: always(stall)},
	{Name: "stalls in a block", wrap: blocks(func(w http.ResponseWriter, r *http.Request, b []byte) {
		_, _ = w.Write(b[:len(b)/2])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})},
	{Name: "trickles", wrap: blocks(func(w http.ResponseWriter, r *http.Request, b []byte) {
		for len(b) > 0 {
			n, err := w.Write(b[:min(len(b), 500)])
			if b = b[n:]; err != nil || http.NewResponseController(w).Flush() != nil || !pause(r.Context(), 100*time.Millisecond) {
				return
			}
		}
	})},
}

// Floods are what machines of a network can send besides.
var Floods = []Fault{
	{Name: "flood of probes", flood: floodOfProbes},
	{Name: "flood of matches", flood: floodOfMatches},
}

// Find returns the fault of a name.
func Find(name string) (Fault, error) {
	for _, f := range slices.Concat(Faults, Floods) {
		if f.Name == name {
			return f, nil
		}
	}
	return Fault{}, errors.New("there is no fault " + name)
}

// Wrap returns the server of blocks that has the fault, around one that is right. unplug is called when nothing may
// come from the machine any more.
func (f Fault) Wrap(h http.Handler, unplug func()) http.Handler {
	switch {
	case f.leaves:
		return vanishes(h, unplug)
	case f.wrap != nil:
		return f.wrap(h)
	}
	return h
}

// leastBlock is the length of the shortest answer that is taken to have a block.
const leastBlock = 10_000

// blocks changes answers that have a block.
func blocks(change func(w http.ResponseWriter, r *http.Request, b []byte)) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got := httptest.NewRecorder()
			h.ServeHTTP(got, r)
			if b := got.Body.Bytes(); len(b) >= leastBlock {
				change(w, r, b)
				return
			}
			w.WriteHeader(got.Code)
			_, _ = w.Write(got.Body.Bytes())
		})
	}
}

// sealedAnew answers with a block under a key that is not its segment's.
func sealedAnew(w http.ResponseWriter, _ *http.Request, b []byte) {
	m, c, err := pccrr.DecodeResponse(b)
	block, ok := m.(pccrr.Block)
	if err != nil || !ok {
		panic("an answer of this length that is no block")
	}
	key, plain := make([]byte, 32), make([]byte, len(block.Data)-1)
	_, _ = rand.Read(key) // never fails
	_, _ = rand.Read(plain)
	if block.Data, block.IV, err = pccrr.Seal(c, key, plain, nil); err != nil {
		panic(err)
	}
	_, _ = w.Write(pccrr.AppendResponse(nil, c, block))
}

// replayed gives the first block that was asked for, again and again.
func replayed(h http.Handler) http.Handler {
	var mu sync.Mutex
	var first []byte
	return blocks(func(w http.ResponseWriter, _ *http.Request, b []byte) {
		mu.Lock()
		if first == nil {
			first = b
		}
		b = first
		mu.Unlock()
		_, _ = w.Write(b)
	})(h)
}

// vanishes gives some blocks, then nothing more comes from the machine, not even an end.
func vanishes(h http.Handler, unplug func()) http.Handler {
	var given atomic.Int32
	h = blocks(func(w http.ResponseWriter, _ *http.Request, b []byte) {
		given.Add(1)
		_, _ = w.Write(b)
	})(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if given.Load() < afterBlocks {
			h.ServeHTTP(w, r)
			return
		}
		unplug()
		stall(w, r)
	})
}

func always(f http.HandlerFunc) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler { return f }
}

// stall never answers.
func stall(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then it shows that the client leaves
	<-r.Context().Done()
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
