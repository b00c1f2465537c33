package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// World is a store that can be left and found again.
type World interface {
	// Store returns the store, as a process sees it that has just begun if crash says so: the process
	// before it ended without a word.
	Store(t *testing.T, crash bool) session.Store
	// Targets returns the files that were published, by name.
	Targets(t *testing.T) map[string][]byte
}

// client is one who uploads src and believes what the server told last.
type client struct {
	id     string
	src    []byte
	spec   session.Spec
	offset int64 // believed
	told   int64 // the highest that the server ever said
}

// Interleave lets some clients send fragments that are right, duplicated, overlapping, or too far,
// that break off at any byte, that are verified and found right or wrong, and that come twice at once, while the server ends and begins, for
// steps steps. Two of the clients want the same target. At all times a target is the whole source of
// one of them or is not there, and no session forgets a byte that it told its client of.
func Interleave(t *testing.T, w World, seed uint64, steps int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	store := w.Store(t, false)
	ctx := t.Context()
	var clients []*client
	for i := range 4 {
		c := &client{src: Source(seed<<8|uint64(i), headLen+rng.IntN(100_000))}
		c.spec = session.Spec{Protocol: "bits", URL: "/x", Principal: "alice", Size: int64(len(c.src)), Limit: -1,
			Target: fmt.Sprint("t", i/2), Overwrite: seed%2 == 0}
		if i == 3 {
			c.spec.Size = -1
		}
		clients = append(clients, c)
	}
	finished := 0
	for step := range steps {
		if rng.IntN(10) == 0 {
			store = w.Store(t, true)
		}
		c := clients[rng.IntN(len(clients))]
		if c.id == "" {
			i, err := store.Create(ctx, c.spec)
			if errors.Is(err, session.ErrExists) && !c.spec.Overwrite {
				continue // the other one was first
			}
			if err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			*c = client{id: i.ID, src: c.src, spec: c.spec}
		}
		if rng.IntN(60) == 0 { // cancel
			_, err := request(ctx, store, c.id, func(ctx context.Context, s session.Session) error { return s.Remove(ctx) })
			if err != nil {
				t.Fatalf("seed %d step %d: remove: %v", seed, step, err)
			}
			c.id = ""
			continue
		}
		done, err := c.send(ctx, store, rng)
		if err != nil {
			t.Fatalf("seed %d step %d: %v", seed, step, err)
		}
		if done {
			finished++
			c.id = ""
		}
		if done || rng.IntN(8) == 0 {
			for name, b := range w.Targets(t) {
				if _, err := SeedOf(b); err != nil {
					t.Fatalf("seed %d step %d: target %s: %v", seed, step, name, err)
				}
			}
		}
	}
	if finished == 0 && steps > 200 {
		t.Errorf("seed %d: nobody finished", seed)
	}
}

// request is one request for a session.
func request(ctx context.Context, store session.Store, id string, f func(ctx context.Context, s session.Session) error) (session.Info, error) {
	ctx, s, err := store.Acquire(ctx, id, session.Who{Principal: "alice", URL: "/x"})
	if err != nil {
		return session.Info{}, err
	}
	defer s.Release()
	err = f(ctx, s)
	return s.Info(), err
}

// send sends a fragment, or the same two at once, and learns the offset from the answer unless that
// is lost. done says that the upload ended.
func (c *client) send(ctx context.Context, store session.Store, rng *rand.Rand) (done bool, err error) {
	from := c.offset
	switch rng.IntN(8) {
	case 0: // what was sent before
		from = rng.Int64N(c.offset + 1)
	case 1: // what was not sent yet
		from += rng.Int64N(int64(len(c.src)) - from + 1)
	}
	fragment := c.src[from:]
	fragment = fragment[:rng.IntN(len(fragment)+1)]
	if rng.IntN(3) == 0 {
		fragment = c.src[from:]
	}
	cut := -1
	if rng.IntN(3) == 0 {
		cut = rng.IntN(len(fragment) + 1)
	}
	n, how := 1, rng.IntN(6)
	if rng.IntN(6) == 0 {
		n = 2
	}
	var wg sync.WaitGroup
	infos, errs := make([]session.Info, n), make([]error, n)
	for i := range n {
		wg.Go(func() {
			infos[i], errs[i] = request(ctx, store, c.id, func(ctx context.Context, s session.Session) error {
				return c.receive(ctx, s, from, fragment, cut, how)
			})
		})
	}
	wg.Wait()
	for i := range n {
		err := errs[i]
		switch {
		case errors.Is(err, session.ErrTaken), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errWrong):
			err = nil
		case errors.Is(err, session.ErrExists) && !c.spec.Overwrite:
			_, err := request(ctx, store, c.id, func(ctx context.Context, s session.Session) error { return s.Remove(ctx) })
			return true, err
		}
		if err != nil {
			return false, err
		}
		if infos[i].Offset < c.told && n == 1 {
			return false, fmt.Errorf("a session of %d bytes went back to %d", c.told, infos[i].Offset)
		}
		c.told = max(c.told, infos[i].Offset)
		done = done || infos[i].Published
	}
	if rng.IntN(3) > 0 { // else the answer was lost
		c.offset = c.told
	}
	if !done || rng.IntN(2) == 0 { // else the client did not hear of it, and sends again
		return false, nil
	}
	_, err = request(ctx, store, c.id, func(ctx context.Context, s session.Session) error { return s.Remove(ctx) })
	return true, err
}

// receive is what a front end does with a fragment: the rows of server.md 1.8.
func (c *client) receive(ctx context.Context, s session.Session, from int64, fragment []byte, cut, how int) error {
	i := s.Info()
	end := from + int64(len(fragment))
	if from <= i.Offset && end > i.Offset && !i.Published {
		fragment = fragment[i.Offset-from:]
		var r io.Reader = bytes.NewReader(fragment)
		if cut >= 0 && cut < len(fragment) {
			r = io.MultiReader(bytes.NewReader(fragment[:cut]), iotest.ErrReader(io.ErrUnexpectedEOF))
		}
		if _, err := appendSome(ctx, s, r, len(fragment), how); err != nil {
			return err
		}
	}
	if i = s.Info(); i.Offset < int64(len(c.src)) {
		return nil
	}
	if err := s.SetSize(ctx, int64(len(c.src))); err != nil {
		return err
	}
	return s.Publish(ctx)
}
