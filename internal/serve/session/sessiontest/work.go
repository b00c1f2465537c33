// Package sessiontest tries out stores of upload sessions: by uploads that many clients make at once
// and whose processes end at any moment. It is for tests of stores only.
//
// Every source says in its first bytes what all of it must be, so whatever is found later, in a
// session or as a file, can be told to be right without knowing how it came there.
package sessiontest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing/iotest"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// headLen is what a source begins with: its seed and its size.
const headLen = 16

// Source returns the bytes of an upload.
func Source(seed uint64, size int) []byte {
	b := make([]byte, max(size, headLen))
	binary.LittleEndian.PutUint64(b, seed)
	binary.LittleEndian.PutUint64(b[8:], uint64(size))
	var key [32]byte
	copy(key[:], b)
	_, _ = rand.NewChaCha8(key).Read(b[headLen:])
	return b[:size]
}

// SeedOf returns the seed of the source that b is, whole; an error if it is none.
func SeedOf(b []byte) (uint64, error) {
	if len(b) < headLen {
		return 0, fmt.Errorf("%d bytes are less than any source has", len(b))
	}
	seed := binary.LittleEndian.Uint64(b)
	if size := binary.LittleEndian.Uint64(b[8:]); size != uint64(len(b)) || !bytes.Equal(b, Source(seed, len(b))) {
		return 0, fmt.Errorf("%d bytes are not the source %d, which has %d", len(b), seed, size)
	}
	return seed, nil
}

// Event is something that a client was told. What it says must be true for ever.
type Event struct {
	ID     string
	Offset int64
	// Published is the target; Seed is that of its source.
	Published string
	Seed      uint64
	// Removing is told before the session may be gone.
	Removing bool
}

// Work uploads to a store as several clients at once until ctx ends or the store fails, going on with
// the sessions that are there. It writes each Event as a line of JSON to told, at once. sizes bounds
// the sources, piece what is sent at once.
func Work(ctx context.Context, store session.Store, clients, sizes, piece int, told io.Writer) error {
	var mu sync.Mutex
	tell := func(e Event) error {
		b, err := json.Marshal(e)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		_, err = told.Write(append(b, '\n'))
		return err
	}
	list, err := store.List(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	left := make(chan session.Info, len(list))
	for _, i := range list {
		left <- i
	}
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := upload(ctx, store, left, sizes, piece, tell); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// upload makes one upload, or goes on with one that is left, most often to its end.
func upload(ctx context.Context, store session.Store, left chan session.Info, sizes, piece int, tell func(Event) error) error {
	var i session.Info
	select {
	case i = <-left:
	default:
		var err error
		if i, err = newUpload(ctx, store, sizes); err != nil {
			return ignore(err)
		}
		if !i.Whole {
			if err := tell(Event{ID: i.ID}); err != nil {
				return err
			}
		}
	}
	seed, _ := strconv.ParseUint(i.Metadata["seed"], 10, 64)
	size, _ := strconv.Atoi(i.Metadata["size"])
	src := Source(seed, size)
	for ctx.Err() == nil {
		done, err := oneRequest(ctx, store, i, src, piece, tell)
		if done || err != nil {
			return err
		}
		if !i.Whole && rand.IntN(50) == 0 {
			return nil // the client went away
		}
	}
	return nil
}

// newUpload makes a session. The names of targets say what must hold for them: one that begins with
// u is of one upload, with o of several that overwrite each other, with n of several that do not.
func newUpload(ctx context.Context, store session.Store, sizes int) (session.Info, error) {
	seed, size := rand.Uint64(), headLen+rand.IntN(sizes)
	s := session.Spec{Protocol: "tus", URL: "/x", Principal: "alice", Size: int64(size), Limit: -1,
		Metadata: map[string]string{"seed": fmt.Sprint(seed), "size": fmt.Sprint(size)}}
	switch rand.IntN(8) {
	case 0:
		s.Target = fmt.Sprint("n", rand.IntN(50))
	case 1, 2:
		s.Target, s.Overwrite = fmt.Sprint("o", rand.IntN(4)), true
	default:
		s.Target = fmt.Sprint("u", seed)
	}
	s.Whole = rand.IntN(4) == 0
	if rand.IntN(4) == 0 {
		s.Size = -1
	}
	return store.Create(ctx, s)
}

// oneRequest is one request of an upload: some bytes, or what comes after the last of them. It does
// what a front end does. done says that nothing is to follow.
func oneRequest(ctx context.Context, store session.Store, i session.Info, src []byte, piece int, tell func(Event) error) (done bool, err error) {
	var events []Event
	_, err = request(ctx, store, i.ID, func(ctx context.Context, s session.Session) error {
		done, err = answer(ctx, s, i, src, piece, func(e Event) { events = append(events, e) }, tell)
		return err
	})
	if errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrBusy) {
		done = true
	}
	for _, e := range events { // not before what was left to Release is done
		if terr := tell(e); err == nil {
			err = terr
		}
	}
	return done, ignore(err)
}

func answer(ctx context.Context, s session.Session, i session.Info, src []byte, piece int, later func(Event), tell func(Event) error) (done bool, err error) {
	had := s.Info().Offset
	if had < int64(len(src)) {
		n := 1 + rand.IntN(piece)
		if i.Whole {
			n = len(src)
		}
		rest := src[had:]
		rest = rest[:min(n, len(rest))]
		var r io.Reader = bytes.NewReader(rest)
		if rand.IntN(4) == 0 && !i.Whole {
			rest = rest[:rand.IntN(len(rest)+1)]
			r = io.MultiReader(bytes.NewReader(rest), iotest.ErrReader(io.ErrUnexpectedEOF))
		}
		how := rand.IntN(6)
		if i.Whole { // there would be nobody to send it again
			how = 2
		}
		added, err := appendSome(ctx, s, r, len(rest), how)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errWrong) && ctx.Err() == nil {
			return false, err
		}
		if now := s.Info().Offset; now != had+added {
			return false, fmt.Errorf("%d bytes were added to %d, which makes %d", added, had, now)
		}
		if had+added < int64(len(src)) {
			later(Event{ID: i.ID, Offset: had + added})
			return false, nil
		}
	}
	if rand.IntN(20) == 0 && !i.Whole { // all bytes, but not published yet
		err := s.SetState(ctx, json.RawMessage(`{"complete":true}`))
		if err == nil {
			later(Event{ID: i.ID, Offset: int64(len(src))})
		}
		return false, err
	}
	if err := s.SetSize(ctx, int64(len(src))); err != nil {
		return false, err
	}
	if i.Overwrite && !i.Whole {
		// If the power fails after this one and another were published as the same target, and before
		// anybody heard of it, no trace of this one may be left.
		if err := tell(Event{ID: i.ID, Removing: true}); err != nil {
			return true, err
		}
	}
	seed, _ := SeedOf(src)
	err = s.Publish(ctx)
	switch {
	case errors.Is(err, session.ErrExists) && strings.HasPrefix(i.Target, "n"):
		if i.Whole {
			return true, nil
		}
		if err := tell(Event{ID: i.ID, Removing: true}); err != nil {
			return true, err
		}
		return true, s.Remove(ctx)
	case err != nil:
		return false, err
	}
	if err := tell(Event{ID: i.ID, Published: i.Target, Seed: seed}); err != nil || i.Whole {
		return true, err
	}
	if rand.IntN(2) == 0 {
		if err := tell(Event{ID: i.ID, Removing: true}); err != nil {
			return true, err
		}
		return true, s.Remove(ctx)
	}
	later(Event{ID: i.ID, Offset: int64(len(src))})
	return true, nil
}

// errWrong is what a client hears whose bytes are not those that it meant.
var errWrong = errors.New("the checksum is wrong")

// appendSome adds the n bytes of r in one of several ways: 0 is verified, 1 is other bytes, which are found
// to be wrong, and the rest is as they come.
func appendSome(ctx context.Context, s session.Session, r io.Reader, n, how int) (added int64, err error) {
	was := s.Info().Offset
	switch how {
	case 0:
		err = s.AppendVerified(ctx, r, func() error { return nil })
	case 1:
		err = s.AppendVerified(ctx, bytes.NewReader(make([]byte, n)), func() error { return errWrong })
		if err == nil {
			return 0, errors.New("wrong bytes were added")
		}
	default:
		return s.Append(ctx, r)
	}
	if added = s.Info().Offset - was; (errors.Is(err, errWrong) || errors.Is(err, io.ErrUnexpectedEOF)) && added != 0 {
		return added, fmt.Errorf("%d bytes were added that are not verified: %v", added, err)
	}
	return added, err
}

// ignore drops the errors that clients meet in normal life.
func ignore(err error) error {
	for _, e := range []error{session.ErrNotFound, session.ErrExists, session.ErrTaken, session.ErrBusy, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// Ledger is what clients were told, to hold a store to it.
type Ledger struct {
	offsets   map[string]int64
	removing  map[string]bool
	published map[string]uint64
}

// Read adds the events that Work wrote; a last line that was cut is ignored.
func (l *Ledger) Read(told []byte) error {
	if l.offsets == nil {
		l.offsets, l.removing, l.published = map[string]int64{}, map[string]bool{}, map[string]uint64{}
	}
	for line := range bytes.Lines(told) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		switch {
		case e.Published != "":
			if was, ok := l.published[e.Published]; ok && was != e.Seed && e.Published[0] != 'o' {
				return fmt.Errorf("%s was published as %d, then as %d", e.Published, was, e.Seed)
			}
			l.published[e.Published] = e.Seed
		case e.Removing:
			l.removing[e.ID] = true
		default:
			l.offsets[e.ID] = max(l.offsets[e.ID], e.Offset)
		}
	}
	return nil
}

// Check compares the store and the targets, which read returns by name, with what clients were told.
func (l *Ledger) Check(ctx context.Context, store session.Store, targets map[string][]byte) error {
	for name, b := range targets {
		seed, err := SeedOf(b)
		if err != nil {
			return fmt.Errorf("target %s: %w", name, err)
		}
		if want, ok := l.published[name]; ok && seed != want && name[0] != 'o' {
			return fmt.Errorf("target %s is the source %d, want %d", name, seed, want)
		}
	}
	for name := range l.published {
		if targets[name] == nil {
			return fmt.Errorf("target %s was published and is gone", name)
		}
	}
	list, err := store.List(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, i := range list {
		there[i.ID] = true
		if i.Offset < l.offsets[i.ID] {
			return fmt.Errorf("session %s has %d bytes, its client was told of %d", i.ID, i.Offset, l.offsets[i.ID])
		}
		if err := checkBytes(ctx, store, i); err != nil {
			return fmt.Errorf("session %s: %w", i.ID, err)
		}
	}
	for id := range l.offsets {
		if !there[id] && !l.removing[id] {
			return fmt.Errorf("session %s is gone", id)
		}
	}
	return nil
}

// checkBytes compares what a session has with its source.
func checkBytes(ctx context.Context, store session.Store, i session.Info) error {
	ctx, s, err := store.Acquire(ctx, i.ID, session.Who{Principal: i.Principal, URL: i.URL})
	if err != nil {
		return err
	}
	defer s.Release()
	r, err := s.Open(ctx)
	if err != nil {
		if i.Published && i.Overwrite || errors.Is(err, errors.ErrUnsupported) {
			return nil // somebody overwrote it, or the store cannot read it before it is published
		}
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	seed, _ := strconv.ParseUint(i.Metadata["seed"], 10, 64)
	size, _ := strconv.Atoi(i.Metadata["size"])
	if int64(len(got)) != i.Offset || len(got) > size || !bytes.Equal(got, Source(seed, size)[:len(got)]) {
		return fmt.Errorf("its %d bytes, of which %d count, are not those of the source", len(got), i.Offset)
	}
	return nil
}
