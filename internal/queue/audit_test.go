package queue

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

// logText keeps what is logged.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(l.b.String(), "\n")
}

// TestEventsOfLimits checks that the log has BITS's number for each quota that refuses a call, for
// another cost of the network, and for another bandwidth limit.
func TestEventsOfLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, err := store.Open(dir, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		var log logText
		quiet := slog.New(slog.DiscardHandler)
		gov := governor.New("", quiet)
		q, err := Open(s, transfer.NewEngine(httpget.New(httpconn.New("test", gov)), time.Second, nil), gov,
			parse(t, "[jobs]\nmax_per_user = 2\nmax_per_machine = 3\nmax_files = 2\nmax_ranges = 1\n"), conditions.State{}, nil, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer shut(t, q)
		spec := func(n int, ranges ...bits.Range) (files []bits.FileSpec) {
			for i := range n {
				files = append(files, bits.FileSpec{Remote: "http://127.0.0.1:1/a", Local: filepath.Join(dir, fmt.Sprint(i)), Ranges: ranges})
			}
			return files
		}
		make := func(c Caller, files []bits.FileSpec) {
			name := "n"
			_, _ = q.Create(c, bits.NewJob{Settings: bits.Settings{Name: &name}, Files: files}) // refused or not: the log tells
		}
		make(alice, spec(3))
		make(alice, spec(1, bits.Range{Length: 1}, bits.Range{Offset: 5, Length: 1}))
		for range 3 {
			make(alice, spec(1))
		}
		for range 2 {
			make(bob, spec(1))
		}
		q.SetConditions(metered)
		q.SetPolicy(parse(t, `bandwidth.foreground = "1 Mbit/s"`))
		settle(t)
		for _, want := range []string{"event=16400 by=", "event=16401 by=", "event=16398 by=", "event=16397 by=", "event=37 cost=", "event=205 "} {
			found := false
			for _, line := range log.lines() {
				found = found || strings.Contains(line, want)
			}
			if !found {
				t.Errorf("no line has %q:\n%s", want, strings.Join(log.lines(), "\n"))
			}
		}
	})
}
