package queue

import (
	"fmt"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/store"
)

const (
	// idleDelay is how long the service must run before it takes the clock's word for how long
	// jobs were idle: after a start the clock may still be wrong.
	idleDelay = time.Hour
	// leastStep is how far the clock must be put forward to count as having been wrong before.
	leastStep = time.Hour
)

// changed is when the owner of a job that cannot go on last changed it, for the job's Detail:
// of a job that can, the record's own time tells.
func changed(d *store.Detail, now time.Time) int64 {
	if d.StuckSince == 0 {
		return 0
	}
	return now.UnixNano()
}

// cancelIdle cancels jobs without progress and without a change by their owner for as long as
// policy says (client.md 3.4), and reports whether there are more of them.
func (q *Queue) cancelIdle(t *tx) (more bool) {
	limit := time.Duration(q.policy.Jobs.Inactivity)
	if limit == 0 || t.now.Sub(q.opened) < idleDelay {
		return false
	}
	before := t.now.Add(-limit)
	if before.Before(q.settled) {
		return false
	}
	n := 0
	for _, j := range q.order {
		v := t.get(j)
		if v.rec.State.Final() || j.op != nil || j.run != nil || v.lastActivity() > before.UnixNano() {
			continue
		}
		if n++; n > maxSwept {
			return true
		}
		t.edit(j, func(_ *store.Job, d *store.Detail) {
			d.Cleanup = true
			d.Note = fmt.Sprintf("cancelled by the service: for %s there was no progress and no change (jobs.inactivity)", policy.Duration(limit))
		})
		t.setState(j, bits.Cancelled)
		t.begin(j, &operation{cancel: true})
		q.log.Warn("job cancelled after inactivity", audit.Event(audit.Scavenged), "job", j.id, "name", v.rec.Name, "state", v.rec.State, "inactivity", policy.Duration(limit))
	}
	return false
}

// ClockSet says that the clock was set, that the machine woke up, or that its time zone
// changed: what depends on the clock is decided anew, at once.
func (q *Queue) ClockSet() {
	q.post(func(t *tx) error {
		q.holds.stale = true
		asleep := conditions.Asleep()
		slept := asleep - q.asleep
		step := t.now.Round(0).Sub(q.clock.Round(0)) - t.now.Sub(q.clock) - slept
		if step > leastStep {
			q.settled = t.now // it was wrong before, and so may be the times in the records
		}
		if step.Abs() > time.Second {
			q.moveTimers(t, step)
		}
		q.clock, q.asleep = t.now, asleep
		if slept > time.Second { // counts as active time, but timers stood still
			for _, j := range q.active {
				j.run.began = j.run.began.Add(-slept)
				q.enroll(j, t.get(j), t.now)
			}
		}
		return nil
	})
}

// moveTimers moves the times that the timers of jobs go by, after the clock was set: neither is an
// attempt due nor has a job been stuck for longer because of that.
func (q *Queue) moveTimers(t *tx, step time.Duration) {
	for _, j := range q.order {
		if v := t.get(j); v.rec.State != bits.TransientError || v.rec.Detail == nil {
			continue
		}
		t.edit(j, func(_ *store.Job, d *store.Detail) {
			for _, at := range []*int64{&d.StuckSince, &d.RetryAt, &d.Changed} {
				if *at != 0 {
					*at += int64(step)
				}
			}
		})
	}
}
