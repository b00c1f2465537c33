// Package uploadtest has what the tests of all upload protocols need: a source in memory and a task
// that remembers what it was told.
package uploadtest

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// Client returns a client for HTTP under a governor of its own.
func Client() *httpconn.Client {
	return httpconn.New("ebb-test", governor.New("", slog.New(slog.DiscardHandler)))
}

// Bytes returns n bytes that are different for every seed.
func Bytes(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// Source is a file in memory.
type Source struct {
	*bytes.Reader
	name string
	// Fail, if not nil, is asked before each read whether it fails.
	Fail func(off int64) error
}

// NewSource returns a source with these bytes.
func NewSource(name string, data []byte) *Source {
	return &Source{Reader: bytes.NewReader(data), name: name}
}

// ReadAt implements io.ReaderAt.
func (s *Source) ReadAt(p []byte, off int64) (int, error) {
	if s.Fail != nil {
		if err := s.Fail(off); err != nil {
			return 0, err
		}
	}
	return s.Reader.ReadAt(p, off)
}

// Name implements upload.Source.
func (s *Source) Name() string { return s.name }

// Modified implements upload.Source.
func (s *Source) Modified() time.Time { return time.Unix(1700000000, 0) }

// Task is a task under test.
type Task struct {
	*upload.Task

	mu     sync.Mutex
	saved  []upload.State // guarded by mu
	sent   int64          // guarded by mu: the highest offset it was told
	begins int            // guarded by mu
	notes  []string       // guarded by mu
}

// New returns a foreground task for a source; connections may stand still for ten seconds.
func New(tb testing.TB, u string, s upload.Source) *Task {
	tb.Helper()
	t := &Task{}
	t.Task = &upload.Task{
		URL: u, Header: http.Header{}, Class: governor.Foreground, Source: s,
		Stall: func() time.Duration { return 10 * time.Second },
		Save: func(st upload.State) error {
			t.mu.Lock()
			defer t.mu.Unlock()
			st.Parts = append([]upload.Part(nil), st.Parts...)
			t.saved = append(t.saved, st)
			return nil
		},
		Sent: func(offset int64) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.sent = max(t.sent, offset)
		},
		Connected: func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.begins++
		},
		On:       func(*governor.Conn) {},
		Answered: func(*http.Response) {},
		Waits:    &httpconn.Waits{},
		Note: func(text string) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.notes = append(t.notes, text)
		},
	}
	return t
}

// Saved returns the states that were saved.
func (t *Task) Saved() []upload.State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]upload.State(nil), t.saved...)
}

// MostSent returns the highest offset that the task was told of.
func (t *Task) MostSent() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent
}

// Notes returns what a person was told.
func (t *Task) Notes() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.notes...)
}

// Restart forgets everything but what was saved, as a service does that is killed.
func (t *Task) Restart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.State = upload.State{}
	if n := len(t.saved); n > 0 {
		t.State = t.saved[n-1]
		t.State.Parts = append([]upload.Part(nil), t.State.Parts...)
	}
}

// Patiently calls upload again after each error until it succeeds, at most tries times, each time
// after a restart from what was saved. It returns the last error.
func (t *Task) Patiently(ctx context.Context, c upload.Uploader, tries int) error {
	var err error
	for range tries {
		if err = c.Upload(ctx, t.Task); err == nil {
			return nil
		}
		t.Restart()
	}
	return err
}
