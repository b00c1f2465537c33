package queue

import (
	"slices"
	"strconv"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/schedule"
	"github.com/ebbtransfer/ebb/internal/store"
)

// holds are what keeps classes of jobs from running. Jobs are not asked one by one: what holds
// one back holds back all of its class, and there are few classes however many jobs there are.
type holds struct {
	of     map[class]*hold // every class that a job was asked for; nil: nothing holds it
	stale  bool            // something they depend on changed
	next   time.Time       // when the policy's clock changes them; zero: never
	sweep  bool            // jobs wait for being told of a change
	from   int64           // number of the job with which the sweep goes on
	limits [bits.Priorities]policy.Limit
	caps   governor.Caps // as the governor knows them
}

// class is what jobs with the same holds have in common.
type class struct {
	priority bits.Priority
	transfer bits.Cost
}

// hold is a schedule.Hold as jobs store it: all jobs of a class share the row.
type hold struct {
	schedule.Hold
	row *store.ErrorRow
}

const (
	// maxSwept bounds the jobs that one commit takes into a hold or out of it, and with that the
	// time that a command waits meanwhile.
	maxSwept = maxBatch / 2
	// maxLooked bounds the jobs that one step of a sweep looks at.
	maxLooked = 20_000
)

// isHold reports whether an error is a hold.
func isHold(e *store.ErrorRow) bool {
	return e != nil && slices.Contains([]bits.Code{bits.BlockedByPolicy, bits.BlockedByCost, bits.BlockedByBattery, bits.BlockedByBatterySaver}, e.Code)
}

// held returns what holds a job back, nil if nothing does.
func (q *Queue) held(v *version, now time.Time) *hold {
	c := class{v.rec.Priority, v.transferPolicy()}
	h, known := q.holds.of[c]
	if !known {
		h = q.hold(c, now)
		q.holds.of[c] = h
	}
	return h
}

func (q *Queue) hold(c class, now time.Time) *hold {
	h := schedule.Held(c.priority, c.transfer, q.conditions, &q.policy, now)
	if h == nil {
		return nil
	}
	return &hold{*h, &store.ErrorRow{Code: h.Code, Context: bits.ContextGeneralQueueManager, Message: h.Sentence}}
}

// applyHolds lets jobs wait that must, and queues those that need not any more: at once the
// jobs that run and those of the batch, the others in turns that the loop takes between
// commands.
func (q *Queue) applyHolds(t *tx) {
	h := &q.holds
	if h.stale || !h.next.IsZero() && !t.now.Before(h.next) {
		q.review(t)
	}
	for i := 0; i < len(t.touched); i++ {
		q.applyHold(t, t.touched[i])
	}
	if !h.sweep {
		return
	}
	i, _ := slices.BinarySearchFunc(q.order, h.from, byNum)
	for looked, before := 0, len(t.touched); i < len(q.order) && looked < maxLooked && len(t.touched)-before < maxSwept; i++ {
		q.applyHold(t, q.order[i])
		looked++
	}
	if h.sweep = i < len(q.order); h.sweep {
		h.from = q.order[i].num
	}
}

// review decides anew what holds each class.
func (q *Queue) review(t *tx) {
	h := &q.holds
	h.stale = false
	h.next = q.policy.NextChange(t.now)
	for p := range h.limits {
		h.limits[p] = q.policy.Limit(bits.Priority(p), t.now)
	}
	changed := false
	for c, old := range h.of {
		now := q.hold(c, t.now)
		switch {
		case old == nil && now == nil, old != nil && now != nil && old.Hold == now.Hold:
			continue
		case now == nil:
			q.log.Info("jobs are no longer held", "priority", c.priority, "transfer_policy", c.transfer)
		default:
			event := audit.Blocked
			if now.Code == bits.BlockedByCost {
				event = audit.BlockedByCost
			}
			q.log.Info("jobs are held", audit.Event(event), "priority", c.priority, "transfer_policy", c.transfer, "code", now.Code, "why", now.Sentence)
		}
		h.of[c] = now
		changed = true
	}
	if changed {
		h.sweep, h.from = true, 0
		for _, j := range q.active {
			q.applyHold(t, j)
		}
	}
}

// applyHold takes one job into the hold of its class or out of it.
func (q *Queue) applyHold(t *tx, j *job) {
	v := t.get(j)
	waits := v.waits()
	if j.op != nil || !waits && v.rec.State != bits.Queued && !v.rec.State.Running() {
		return
	}
	switch h := q.held(v, t.now); {
	case h == nil && waits:
		t.setState(j, bits.Queued)
	case h != nil && !waits:
		q.wait(t, j, h)
	case h != nil && *v.detail().Error != *h.row: // another reason than before
		t.edit(j, func(_ *store.Job, d *store.Detail) { d.Error = h.row })
		t.event(j, bits.EventState, nil)
	}
}

// wait puts a job into TRANSIENT_ERROR for a hold. The time without progress runs as in every
// transient error (client.md 5.1), but no attempt failed, and no timer makes the next one.
func (q *Queue) wait(t *tx, j *job, h *hold) {
	limit := t.get(j).noProgressTimeout()
	next := bits.TransientError
	t.edit(j, func(_ *store.Job, d *store.Detail) {
		d.Error, d.RetryAt = h.row, 0
		if stuck(d, t.now) >= limit {
			next = bits.Errored
		}
	})
	t.setState(j, next)
}

// setCaps tells the governor how fast foreground jobs may move, and those of the background
// level that runs.
func (q *Queue) setCaps(level bits.Priority) {
	l := &q.holds.limits
	caps := governor.Caps{Foreground: l[bits.Foreground].Rate, Background: l[level].Rate, LANExempt: q.policy.Bandwidth.LANExempt}
	if caps != q.holds.caps {
		q.holds.caps = caps
		q.gov.SetCaps(caps)
		q.log.Info("another bandwidth limit holds", audit.Event(audit.LimitChanged), "priority", level, "foreground", limitText(caps.Foreground), "background", limitText(caps.Background))
	}
}

// limitText says a limit in bytes per second for the log.
func limitText(rate int64) string {
	if rate == governor.Unlimited {
		return "none"
	}
	return strconv.FormatInt(rate, 10)
}

// SetConditions tells what the machine allows now.
func (q *Queue) SetConditions(c conditions.State) {
	q.post(func(t *tx) error {
		users := q.conditions.Users
		if c.Cost != q.conditions.Cost {
			q.log.Info("the network costs something else", audit.Event(audit.CostChanged), "cost", c.Cost, "source", c.CostSource, "interface", c.Interface)
		}
		q.mu.Lock()
		q.conditions = c
		q.mu.Unlock()
		q.admit(t, q.policy.Jobs.Logon, users)
		q.holds.stale = true
		return nil
	})
}

// Held tells why jobs of a priority and a transfer policy (TransferDefault for that of the
// priority) wait, nil if nothing makes them. A moment to come is judged by its bandwidth limits,
// and by what the machine allows now.
func (q *Queue) Held(prio bits.Priority, transfer bits.Cost, at time.Time) *bits.ErrorInfo {
	q.mu.RLock()
	defer q.mu.RUnlock()
	h := schedule.Held(prio, transfer, q.conditions, &q.policy, at)
	if h == nil {
		return nil
	}
	e := bits.Error{Code: h.Code, Context: bits.ContextGeneralQueueManager, Message: h.Sentence}
	return e.Info()
}

// Conditions returns what the machine allows, as jobs are held back by it.
func (q *Queue) Conditions() bits.Conditions {
	q.mu.RLock()
	defer q.mu.RUnlock()
	c := q.conditions
	cost, source := schedule.Cost(c, &q.policy)
	return bits.Conditions{Cost: cost, CostSource: source, Interface: c.Interface,
		OnBattery: c.OnBattery, PowerSource: c.PowerSource, PowerSaver: c.PowerSaver, SaverSource: c.SaverSource}
}
