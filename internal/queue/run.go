package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
)

// running is a job's transfer.
type running struct {
	cancel context.CancelFunc
	live   *transfer.Live
	class  governor.Class

	// The loop's own.
	stopping bool          // cancel was called
	began    time.Time     // earlier by the time that the machine slept since
	before   time.Duration // active time of the job before that
}

// active returns how long the job was CONNECTING or TRANSFERRING since it was resumed.
func (r *running) active(now time.Time) time.Duration { return r.before + now.Sub(r.began) }

func (r *running) stop() {
	r.stopping = true
	r.cancel()
}

// plan asks the scheduler who should run and stages what makes it so. Starting and stopping
// happen after the commit; a transfer that is being stopped holds its job until it has ended.
func (q *Queue) plan(t *tx) {
	for _, j := range t.touched {
		q.enroll(j, t.staged[j], t.now)
	}
	for n, j := range q.active {
		q.sched.Pin(n, j.run.live.Fixed())
	}
	var nums []int64
	nums, q.planAt = q.sched.Plan(t.now)
	want := make(map[int64]bool, len(nums))
	for _, n := range nums {
		want[n] = true
	}
	for n, j := range q.active {
		// A job whose priority moved between foreground and background goes on on other terms
		// by going on over another connection, unless that would throw away what it has: then
		// it keeps its terms for as long.
		stays := want[n] && (j.run.class == terms(t.get(j).rec.Priority) || j.run.live.Fixed())
		if stays || j.run.stopping {
			continue
		}
		if t.get(j).rec.State.Running() {
			t.setState(j, bits.Queued)
		}
		t.then = append(t.then, j.run.stop)
	}
	level := bits.Normal
	for _, n := range nums {
		j, runs := q.active[n]
		if !runs {
			j = t.find(n)
			if q.held(t.get(j), t.now) != nil {
				continue // it has not been told yet
			}
			if t.get(j).detail().Afresh {
				t.beginAfresh(j)
			}
			t.setState(j, bits.Connecting)
			t.then = append(t.then, func() { q.start(j) })
		}
		if p := t.get(j).rec.Priority; p != bits.Foreground {
			level = p // the only one that runs
		}
	}
	q.setCaps(level)
}

// beginAfresh forgets what is here of files that are not finished: it came before the job's servers were
// looked at as they are now (client.md 2.8).
func (t *tx) beginAfresh(j *job) {
	for i, f := range t.get(j).files {
		if f.State != store.FilePending || f.Part == nil {
			continue
		}
		g := edited(f)
		g.Size, g.Done, g.Part = -1, 0, &store.Part{Note: "the server's certificate is checked for revocation now; it was started again"}
		t.setFile(j, i, g)
	}
	t.edit(j, func(_ *store.Job, d *store.Detail) { d.Afresh = false })
}

// start begins the job's transfer.
func (q *Queue) start(j *job) {
	v := j.now
	ctx, cancel := context.WithCancel(q.runs)
	r := &running{cancel: cancel, live: transfer.NewLive(), class: terms(v.rec.Priority), began: time.Now(), before: time.Duration(v.detail().Active)}
	known, err := q.open(v)
	spec := transfer.Job{ID: j.id, Owner: q.as(v.rec.UID), Connections: v.connections(), OnlyIfNewer: v.detail().Options.Properties().OnlyIfNewer, Header: known.header, Class: r.class, Files: v.pendingFiles(),
		Type: v.rec.Type, Protocol: v.protocol(), Reply: v.reply, ReplyFile: v.replyFile(), ACLFlags: v.aclFlags(), Access: q.access(v, known), Created: time.Unix(0, v.rec.Created), Identity: identity(v, known),
		Dynamic: v.dynamic(), Method: v.httpMethod(), HighPerformance: v.highPerformance(), OnDemand: v.onDemand(), NoPeers: v.noPeers(), MaxSize: v.maximumDownloadSize(), Before: v.before()}
	q.mu.Lock()
	j.run, j.live = r, r.live
	q.active[j.num] = j
	q.mu.Unlock()
	q.enroll(j, v, r.began)
	q.log.Debug("transfer starts", audit.Event(audit.Started), "job", j.id, "files", len(spec.Files))
	q.work.Go(func() {
		defer cancel()
		out := transfer.Outcome{Err: asError(err)}
		if err == nil {
			out = q.engine.Run(ctx, spec, sink{q, j, r.live}, r.live)
		}
		q.post(func(t *tx) error {
			q.ended(t, j, out)
			return nil
		})
	})
}

// terms says on which terms the transfers of a priority take bandwidth.
func terms(p bits.Priority) governor.Class {
	if p == bits.Foreground {
		return governor.Foreground
	}
	return governor.Background
}

func header(lines []string) http.Header {
	h := http.Header{}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ":")
		h.Add(name, strings.TrimSpace(value))
	}
	return h
}

// sink brings a transfer's news into the loop.
type sink struct {
	q    *Queue
	j    *job
	live *transfer.Live
}

func (s sink) Connected() {
	s.q.post(func(t *tx) error {
		if t.get(s.j).rec.State == bits.Connecting {
			t.edit(s.j, func(_ *store.Job, d *store.Detail) { d.Error = nil })
			t.setState(s.j, bits.Transferring)
		}
		return nil
	})
}

func (s sink) File(index int, f *store.File) {
	s.live.Told()
	s.q.postLazily(func(t *tx) error {
		t.then = append(t.then, s.live.Stored)
		v := t.get(s.j)
		if v.rec.State.Final() {
			return nil
		}
		old := v.at(index)
		f := transfer.Adopt(old, f)
		s.q.moved(v, index, old, f)
		t.setFile(s.j, index, f)
		t.edit(s.j, func(_ *store.Job, d *store.Detail) { // also for a new modification time
			if advances(old, f) {
				d.Attempts, d.StuckSince, d.Changed = 0, 0, 0
			}
			if v.rec.State == bits.TransientError { // held: this is the last of what moved before
				stuck(d, t.now)
			}
			if s.j.run != nil {
				d.Active = int64(s.j.run.active(t.now))
			}
		})
		s.note(t, index, old, f)
		s.rangesNews(t, index, old, f)
		if f.State == store.FileDone && (v.rec.Type == bits.Download || v.isReply(index)) {
			view := t.get(s.j).file(index, nil)
			t.event(s.j, bits.EventFile, &view)
		}
		return nil
	})
}

// advances reports whether a file's new record is progress; old is nil for the first one of a reply.
func advances(old, f *store.File) bool {
	return old == nil || f.Done > peak(old) || f.State == store.FileDone && old.State != store.FileDone
}

// peak returns how far a file ever was: fetching the same bytes again is no progress.
func peak(f *store.File) int64 {
	if f.Part == nil {
		return f.Done
	}
	return max(f.Done, f.Part.Peak)
}

func (s sink) Save(index int, f *store.File) error {
	return s.q.do(func(t *tx) error {
		v := t.get(s.j)
		if v.rec.State.Final() {
			return nil
		}
		old := v.at(index)
		f := transfer.Adopt(old, f)
		s.q.moved(v, index, old, f)
		t.setFile(s.j, index, f)
		if advances(old, f) {
			t.edit(s.j, func(_ *store.Job, d *store.Detail) { d.Attempts, d.StuckSince, d.Changed = 0, 0, 0 })
		}
		s.note(t, index, old, f)
		return nil
	})
}

// note tells what a person should know of a file, once; of a download each time it begins anew. old
// is nil for the first record of a reply.
func (s sink) note(t *tx, index int, old, f *store.File) {
	if old == nil || f.Part == nil || f.Part.Note == "" {
		return
	}
	again := f.Done < old.Done && f.Part.Upload == nil
	if old.Part == nil || old.Part.Note != f.Part.Note || again {
		view := t.get(s.j).file(index, nil)
		t.event(s.j, bits.EventNote, &view)
		s.q.log.Info("a note on a file", "job", s.j.id, "file", bits.RedactURL(f.Remote), "note", bits.RedactText(f.Part.Note))
	}
}

// ended deals with the end of a transfer.
func (q *Queue) ended(t *tx, j *job, out transfer.Outcome) {
	active, live := int64(j.run.active(t.now)), j.run.live
	// Until the last records are published readers need what the transfer knows itself.
	forget := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if j.live == live {
			j.live = nil
		}
	}
	t.then, t.unwind = append(t.then, forget), append(t.unwind, forget)
	q.mu.Lock()
	j.run = nil
	delete(q.active, j.num)
	q.mu.Unlock()
	if op := j.op; op != nil { // a Complete or Cancel waited for this
		t.then = append(t.then, func() { q.proceed(j) })
		// If the last news of the files cannot be stored, a Cancel still goes on; a Complete
		// would drop what these files have.
		t.unwind = append(t.unwind, func() {
			if op.cancel {
				q.proceed(j)
				return
			}
			j.op = nil
			op.err = &bits.Error{Code: bits.Unexpected, Message: "the job could not be stored"}
			close(op.done)
		})
		return
	}
	v := t.get(j)
	if v.rec.State.Final() {
		return
	}
	t.edit(j, func(_ *store.Job, d *store.Detail) { d.Active = active })
	whole := out.Err == nil && !out.Stopped && v.unfinished() == 0
	if s := v.rec.State; !s.Running() && s != bits.Queued && (!whole || !v.waits()) {
		return // suspended or held in the meantime
	}
	switch {
	case out.Err != nil:
		q.trouble(t, j, out)
	case !whole && !out.Stopped && v.onDemand() && !v.wants():
		t.edit(j, func(_ *store.Job, d *store.Detail) { d.Exhausted = true })
		t.setState(j, bits.Suspended)
	case !whole: // preempted, or files were added in the meantime
		t.setState(j, bits.Queued)
	default:
		t.edit(j, func(_ *store.Job, d *store.Detail) {
			d.Error, d.Attempts, d.StuckSince, d.Changed, d.Active = nil, 0, 0, 0, 0
		})
		t.setState(j, bits.Transferred)
		q.log.Info("job transferred", audit.Event(audit.Stopped), "job", j.id, "name", v.rec.Name, "files", v.number(), "bytes", v.done, "bytes_from_peers", v.fromPeers())
		if v.detail().AutoComplete {
			q.beginComplete(t, j)
		}
	}
}

// Growth of the delay between attempts: it doubles each time, up to this many times the least.
const maxDelayFactor = 16

// maxForegroundDelay is the longest that a person who waits for a job is kept waiting for its
// next attempt, unless the job's own least delay is longer.
const maxForegroundDelay = 30 * time.Second

// retryDelay returns the pause before the attempt after the n-th failure in a row: never less
// than least, growing, and somewhat random so that many clients do not come back at once.
func retryDelay(least time.Duration, p bits.Priority, n int, random float64) time.Duration {
	factor := 1 << min(max(n-1, 0), 10)
	d := least * time.Duration(min(factor, maxDelayFactor))
	if p == bits.Foreground {
		d = max(least, min(d, maxForegroundDelay))
	}
	return d + time.Duration(random*float64(d)/4)
}

// stuck notes that a job cannot go on, and returns since how long.
func stuck(d *store.Detail, now time.Time) time.Duration {
	if d.StuckSince == 0 {
		d.StuckSince = now.UnixNano()
	}
	return time.Duration(now.UnixNano() - d.StuckSince)
}

// trouble puts a job that met an error into ERROR or TRANSIENT_ERROR (client.md 5.1).
func (q *Queue) trouble(t *tx, j *job, out transfer.Outcome) {
	v, e := t.get(j), out.Err
	class, now := v.class(e.Code), t.now.UnixNano()
	if out.Passing || e.Context == bits.ContextServerCertificateCallback { // whatever the owner's program says (client.md 1.9)
		class = bits.Transient
	}
	least, limit := v.minimumRetryDelay(), v.noProgressTimeout()
	next := bits.TransientError
	t.edit(j, func(_ *store.Job, d *store.Detail) {
		d.Error = &store.ErrorRow{Code: e.Code, Context: e.Context, File: e.File, Message: e.Message}
		if class != bits.Waiting {
			d.ErrorCount++
		}
		d.Attempts++
		if long := stuck(d, t.now); class == bits.Fatal || least > limit || long >= limit {
			next, d.RetryAt = bits.Errored, 0
			return
		}
		d.RetryAt = 0
		if class == bits.Transient || !conditions.NetworkEvents {
			d.RetryAt = now + int64(max(retryDelay(least, v.rec.Priority, d.Attempts, rand.Float64()), out.RetryAfter))
		}
	})
	t.setState(j, next)
	event := audit.Failed
	if next == bits.Errored {
		event = audit.Errored
	}
	q.log.Warn("job met an error", audit.Event(event), "job", j.id, "name", v.rec.Name, "state", next, "code", e.Code, "file", bits.RedactURL(e.File), "err", e.Sentence(), "cause", bits.RedactText(fmt.Sprint(e.Cause)))
}

// expire does what timers ask for.
func (q *Queue) expire(t *tx) {
	for {
		j := q.deadlines.pop(t.now)
		if j == nil {
			return
		}
		v := t.get(j)
		switch {
		case v.rec.State == bits.TransientError:
			d := v.detail()
			stuck := t.now.UnixNano()-d.StuckSince >= int64(v.noProgressTimeout())
			if retry := d.RetryAt != 0 && d.RetryAt <= t.now.UnixNano(); stuck && !retry {
				t.setState(j, bits.Errored)
			} else { // the clock may have been set back meanwhile: the timer's own time counts
				t.setState(j, bits.Queued)
			}
		case v.leaves():
			q.part(j, v)
		case v.rec.State.Final():
			t.gone = append(t.gone, j)
		case j.run != nil && v.rec.State.Running():
			q.trouble(t, j, transfer.Outcome{Err: &bits.Error{Code: bits.MaxDownloadTimeout, Context: bits.ContextGeneralQueueManager,
				Message: fmt.Sprintf("the transfer was under way for %s, which is all the time that it has", policy.Duration(v.maxDownloadTime(q.policy.Jobs.MaxDownloadTime)))}})
		}
	}
}
