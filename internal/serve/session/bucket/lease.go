package bucket

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

const (
	// lease is for how long a record belongs to the request that wrote it. The storage's clock, which
	// tells seconds, decides; a holder counts from before its request.
	lease = 15 * time.Second
	// leaseSlack is added for those who want it, since the storage tells only seconds.
	leaseSlack = 2 * time.Second
	// renewEvery is how often a holder writes the record, watchEvery how often it looks whether
	// another node wants the session.
	renewEvery = 5 * time.Second
	watchEvery = time.Second
	// takeover is how long a request waits for another one to leave a session. It is longer than a
	// lease, so that a session of a node that died is to be had.
	takeover = 25 * time.Second
	// pollEvery is how often it looks.
	pollEvery = 250 * time.Millisecond
)

// Acquire hands out a session, as Store says.
func (b *Bucket) Acquire(ctx context.Context, id string, who session.Who) (context.Context, session.Session, error) {
	h, err := b.take(ctx, id, func(r *record) bool { return r.Allows(who) }, takeover)
	if err != nil {
		return nil, nil, err
	}
	return h.ctx, h, nil
}

// take waits until nobody else has the session, asking whoever has it to leave if it may wait at all.
func (b *Bucket) take(ctx context.Context, id string, mine func(*record) bool, wait time.Duration) (*held, error) {
	if !session.ValidID(id) {
		return nil, session.ErrNotFound
	}
	token := session.NewID()
	asked := ""
	for begun := time.Now(); ; {
		h, holder, err := b.try(ctx, id, token, mine)
		if h != nil || err != nil {
			return h, err
		}
		if wait == 0 || time.Since(begun) > wait {
			return nil, session.ErrBusy
		}
		left := make(<-chan struct{})
		b.mu.Lock()
		if other := b.here[id]; other != nil {
			other.cancel(session.ErrTaken)
			left = other.done
		}
		b.mu.Unlock()
		if holder != "" && asked != holder { // on another node, as far as we know
			if _, err := b.put(ctx, b.wantedKey(id), []byte(holder), condition{}, nil); err != nil {
				return nil, err
			}
			asked = holder
		}
		select {
		case <-left:
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// try takes the session if it is free. If it is not, it returns the token of its holder, unless that
// is on this node.
func (b *Bucket) try(ctx context.Context, id, token string, mine func(*record) bool) (*held, string, error) {
	b.mu.Lock()
	local, whole := b.here[id], b.whole[id]
	if local == nil && whole != nil && mine(whole) {
		h := b.newHeld(ctx, whole, token, "")
		b.here[id] = h
		b.mu.Unlock()
		return h, "", nil
	}
	b.mu.Unlock()
	if whole != nil {
		if !mine(whole) {
			return nil, "", session.ErrNotFound
		}
		return nil, "", nil
	}
	began := time.Now()
	r, etag, age, err := b.load(ctx, id)
	switch {
	case err != nil:
		return nil, "", err
	case !mine(r):
		return nil, "", session.ErrNotFound
	case local != nil:
		return nil, "", nil
	case r.Holder != "" && age <= lease+leaseSlack:
		return nil, r.Holder, nil
	}
	r.Holder = token
	etag, err = b.put(ctx, b.recordKey(id), r.encode(), condition{etag: etag}, nil)
	if errors.Is(err, errChanged) || errors.Is(err, errGone) {
		return nil, "", nil // somebody else was first
	}
	if err != nil {
		return nil, "", err
	}
	h := b.newHeld(ctx, r, token, etag)
	h.saved = began
	b.mu.Lock()
	b.here[id] = h
	b.mu.Unlock()
	go h.keep()
	return h, "", nil
}

func (b *Bucket) newHeld(ctx context.Context, r *record, token, etag string) *held {
	h := &held{b: b, id: r.ID, whole: r.Whole, token: token, etag: etag, done: make(chan struct{}), kept: make(chan struct{})}
	h.rec = *r
	h.ctx, h.cancel = context.WithCancelCause(ctx)
	h.life, h.end = context.WithCancelCause(context.WithoutCancel(ctx))
	if r.Whole {
		close(h.kept)
	}
	return h
}

// keep renews the lease until the session is released, and tells the holder to leave when another
// node wants it or the lease is lost.
func (h *held) keep() {
	defer close(h.kept)
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	for {
		select {
		case <-h.life.Done():
			return
		case <-watch.C:
		}
		ctx, cancel := context.WithTimeout(h.life, lease)
		h.mu.Lock()
		old := time.Since(h.saved) > renewEvery
		h.mu.Unlock()
		if old {
			if err := h.save(ctx, func(*record) {}); err != nil && h.life.Err() == nil {
				h.b.log.Warn("lease of an upload session is not renewed", "session", h.id, "reason", err)
			}
		}
		data, _, _, err := h.b.get(ctx, h.b.wantedKey(h.id), 1<<10)
		cancel()
		if err == nil && string(data) == h.token {
			h.cancel(session.ErrTaken)
		}
	}
}

// save changes the record, in the bucket and then in memory, if the session is still ours: its error
// is session.ErrTaken if it is not, and the holder is told to leave.
func (h *held) save(ctx context.Context, change func(*record)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := h.rec
	change(&next)
	if h.whole || h.removed {
		h.rec = next
		return nil
	}
	began := time.Now()
	etag, err := h.b.put(ctx, h.b.recordKey(h.id), next.encode(), condition{etag: h.etag}, nil)
	if errors.Is(err, errChanged) || errors.Is(err, errGone) {
		// Perhaps it was ourselves, and the answer to it was lost.
		r, now, _, lerr := h.b.load(ctx, h.id)
		if lerr == nil && r.Holder == h.token {
			etag, err = h.b.put(ctx, h.b.recordKey(h.id), next.encode(), condition{etag: now}, nil)
		}
	}
	if errors.Is(err, errChanged) || errors.Is(err, errGone) {
		h.lose()
		return fmt.Errorf("%w: another node has it", session.ErrTaken)
	}
	if err != nil {
		if time.Since(h.saved) > lease {
			h.lose()
		}
		return err
	}
	h.rec, h.etag, h.saved = next, etag, began
	return nil
}

// sure makes sure that the session is still ours, if that is not known of the record alone: the
// process may have been stopped for a while.
func (h *held) sure() error {
	h.mu.Lock()
	old := !h.whole && time.Since(h.saved) > lease
	h.mu.Unlock()
	if old {
		if err := h.save(h.life, func(*record) {}); err != nil {
			return err
		}
	}
	return context.Cause(h.life)
}

// lose says that the session is not ours any more: nothing may be written.
func (h *held) lose() {
	h.cancel(session.ErrTaken)
	h.end(session.ErrTaken)
}
