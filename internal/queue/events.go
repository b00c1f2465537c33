package queue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
)

// ringSize is how many events are kept in memory; older ones come from the store.
const ringSize = 4096

// eventRing holds the newest events and wakes those who wait for more.
type eventRing struct {
	mu     sync.Mutex // guards all below
	recent []store.Event
	seq    uint64 // of the newest event ever
	counts map[bits.EventKind]uint64
	more   chan struct{} // closed when an event comes, if somebody waits
	stored int           // events since the store forgot some
	crowd  chan struct{} // has an element when that is much
}

func (r *eventRing) init(seq uint64) { r.seq, r.crowd = seq, make(chan struct{}, 1) }

// pruned says that the store forgets events now.
func (r *eventRing) pruned() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stored = 0
}

func (r *eventRing) last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq
}

func (r *eventRing) add(events []store.Event) {
	if len(events) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent = append(r.recent, events...)
	if len(r.recent) > 2*ringSize {
		r.recent = slices.Clone(r.recent[len(r.recent)-ringSize:])
	}
	r.seq = events[len(events)-1].Seq
	if r.counts == nil {
		r.counts = map[bits.EventKind]uint64{}
	}
	for i := range events {
		r.counts[events[i].Kind]++
	}
	if r.stored += len(events); r.stored > maxEvents/4 {
		select {
		case r.crowd <- struct{}{}:
		default:
		}
	}
	if r.more != nil {
		close(r.more)
		r.more = nil
	}
}

// after returns the events after a number, if memory has them all, and a channel that is closed
// when more come.
func (r *eventRing) after(seq uint64) (events []store.Event, complete bool, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.more == nil {
		r.more = make(chan struct{})
	}
	if seq >= r.seq {
		return nil, true, r.more
	}
	if len(r.recent) == 0 || r.recent[0].Seq > seq+1 {
		return nil, false, r.more
	}
	i, _ := slices.BinarySearchFunc(r.recent, seq+1, func(e store.Event, n uint64) int {
		switch {
		case e.Seq < n:
			return -1
		case e.Seq > n:
			return 1
		}
		return 0
	})
	return slices.Clone(r.recent[i:min(i+512, len(r.recent))]), true, r.more
}

// Filter narrows a stream of events.
type Filter struct {
	Jobs     []bits.ID // empty: all of the caller's
	AllUsers bool      // for administrators
	Progress bool      // progress of running jobs too
	// Kinds are the kinds of events that are wanted, beside progress and what says that events are missed;
	// empty: all.
	Kinds []bits.EventKind
	After uint64 // the last event that is already known
}

// progressEvery is the spacing of progress events of a job (BITS's minimum notification interval).
const progressEvery = 500 * time.Millisecond

// gather is the least time between two sendings of events: what comes in a burst, as the files of a job
// that has many, is sent together. An event that comes alone is sent at once.
const gather = 25 * time.Millisecond

// Crowded tells when Prune should be called before its time: many events have come since.
func (q *Queue) Crowded() <-chan struct{} { return q.events.crowd }

// LastEvent returns the number of the newest event.
func (q *Queue) LastEvent() uint64 { return q.events.last() }

// Watch sends the events that the filter lets through, one or more at a time, until ctx ends, send
// fails or the queue closes. If some of them are gone that the caller has not seen, an event says so
// first. What is sent may be kept until the next call.
func (q *Queue) Watch(ctx context.Context, c Caller, f Filter, send func([]bits.Event) error) error {
	if f.AllUsers && !c.Admin() {
		return denied("only an administrator sees the events of all users")
	}
	several := f.AllUsers || c.Admin() && len(f.Jobs) > 0
	of := func(uid uint32) bool { return several || uid == c.UID }
	pass := func(e *store.Event) bool {
		if len(f.Kinds) > 0 && e.Kind != bits.EventProgress && !slices.Contains(f.Kinds, e.Kind) {
			return false
		}
		return of(e.UID) && (len(f.Jobs) == 0 || slices.Contains(f.Jobs, e.Job))
	}
	missed := func(last uint64, why string) error {
		return send([]bits.Event{{Seq: last, Time: time.Now().UTC(), Kind: bits.EventMissed, Note: why}})
	}
	var batch []bits.Event
	sendAll := func(events []store.Event) error {
		batch = batch[:0]
		for i := range events {
			if pass(&events[i]) {
				batch = append(batch, events[i].Event)
			}
		}
		if len(batch) == 0 {
			return nil
		}
		return send(batch)
	}
	seq := f.After
	if last := q.events.last(); seq > last {
		seq = last
		if err := missed(last, "the numbers of events began anew: the job store was set aside, or replaced by a backup"); err != nil {
			return err
		}
	}
	var told uint64 // up to which it was told that events are gone
	var sent time.Time
	var tick <-chan time.Time
	if f.Progress {
		t := time.NewTicker(progressEvery)
		defer t.Stop()
		tick = t.C
	}
	for {
		events, complete, more := q.events.after(seq)
		if !complete {
			var err error
			if events, err = q.store.Events(seq, 512); err != nil {
				return err
			}
			if gone := q.store.Forgotten(of); gone > max(seq, told) {
				told = gone
				switch {
				case !several, len(events) == 0:
					seq = gone // what is older, if anything, is others'
				default:
					seq = max(seq, min(gone, events[0].Seq-1))
				}
				if err := missed(seq, fmt.Sprintf("events up to number %d are gone: they were kept for %s, or there were too many", gone, q.keepEvents())); err != nil {
					return err
				}
				continue
			}
			if len(events) == 0 { // forgotten: go on with what there is
				seq = q.events.oldest() - 1
				continue
			}
		}
		if len(events) > 0 {
			seq = events[len(events)-1].Seq
			if err := sendAll(events); err != nil {
				return err
			}
			sent = time.Now()
			continue
		}
		select {
		case <-more:
			if rest := gather - time.Since(sent); rest > 0 {
				select {
				case <-time.After(rest):
				case <-ctx.Done():
					return ctx.Err()
				case <-q.done:
					return ErrClosed
				}
			}
		case <-tick:
			if err := sendAll(q.progressEvents(f.Jobs)); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-q.done:
			return ErrClosed
		}
	}
}

func (r *eventRing) oldest() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.recent) == 0 {
		return r.seq + 1
	}
	return r.recent[0].Seq
}

// progressEvents tells how far the running jobs are.
func (q *Queue) progressEvents(only []bits.ID) []store.Event {
	q.mu.RLock()
	defer q.mu.RUnlock()
	var out []store.Event
	add := func(j *job) {
		if j.run == nil {
			return
		}
		v, live := j.now, j.moving()
		p := v.progress(live)
		e := bits.Event{Time: time.Now().UTC(), Kind: bits.EventProgress, Job: j.id, Name: v.rec.Name, Owner: q.names.name(v.rec.UID), State: v.rec.State, Progress: &p, Pace: j.pace()}
		first := -1
		for i := range live {
			if first < 0 || i < first {
				first = i
			}
		}
		if first >= 0 {
			f := v.file(first, live)
			e.File = &f
		}
		out = append(out, store.Event{Event: e, UID: v.rec.UID})
	}
	if len(only) > 0 {
		for _, id := range only {
			if j := q.byID[id]; j != nil {
				add(j)
			}
		}
		return out
	}
	for _, j := range q.active {
		add(j)
	}
	return out
}

// moving returns the files of a job of which its record does not tell all; Queue.mu is held.
func (j *job) moving() map[int]transfer.Moving {
	if j.live == nil {
		return nil
	}
	m := map[int]transfer.Moving{}
	j.live.Files(func(i int, f transfer.Moving) { m[i] = f })
	return m
}

// pace says how fast a job moves, nil if it does not; Queue.mu is held.
func (j *job) pace() *bits.Pace {
	if j.run == nil {
		return nil
	}
	return j.run.live.Pace()
}
