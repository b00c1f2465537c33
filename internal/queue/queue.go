// Package queue holds the jobs. Every command, every state change and every event goes through
// its one loop: it checks the caller's right, asks bits whether the state machine allows the
// call, commits the change together with its events, and only then answers. It also makes
// reality follow schedule's plan: no other place starts or stops a transfer.
//
// It promises that what was answered is on disk, and that readers see only what is on disk. It
// knows nothing of HTTP, of sockets or of how bytes move.
package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/schedule"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
)

// Queue is the set of all jobs and the loop that changes them.
type Queue struct {
	store  *store.Store
	judges judges
	engine *transfer.Engine
	gov    *governor.Governor
	log    *slog.Logger
	as     func(uid uint32) localfile.Owner // with whose rights the files of a user's jobs are used
	names  userNames

	received, sent atomic.Int64 // bytes of files

	commands  chan command
	quit      chan struct{} // closed by Close
	broken    chan struct{} // closed when the store takes no more changes
	breakOnce sync.Once
	done      chan struct{} // closed when the loop has ended
	stopRuns  context.CancelFunc
	runs      context.Context // parent of all transfers
	work      sync.WaitGroup  // transfers, and goroutines that place or delete files

	mu         sync.RWMutex // guards what follows up to events, and each job's current version; the loop reads it without
	byID       map[bits.ID]*job
	order      []*job // by number
	policy     policy.Policy
	conditions conditions.State
	events     eventRing

	// The loop's own.
	sched     *schedule.Scheduler
	holds     holds
	deadlines deadlines
	opened    time.Time
	clock     time.Time      // when the clock was last seen to be right
	asleep    time.Duration  // how long the machine had slept then
	settled   time.Time      // no job was idle for longer than since then; zero: as the records say
	counts    map[uint32]int // jobs of each user that are not final
	count     int            // of all users
	nextNum   int64
	planAt    time.Time      // when the scheduler wants to be asked again
	holdUntil time.Time      // a commit failed: no timer before this
	active    map[int64]*job // jobs with a transfer; changed under mu, so that others may read it
	troubled  map[int64]*job // jobs in TRANSIENT_ERROR
	leaving   map[int64]*job // cancelled jobs whose servers have to be told
	partings  chan struct{}  // holds one for each server that is being told
}

// job is one job. num and id never change; now is replaced by the loop, under Queue.mu, when a
// change of the job has been committed.
type job struct {
	num     int64
	id      bits.ID
	now     *version
	trusted map[string]bool // guarded by judges.mu: certificates that the owner trusts for servers; nil for none
	run     *running        // guarded by Queue.mu for readers, changed by the loop only; nil without a transfer
	live    *transfer.Live  // guarded by Queue.mu: of the transfer whose last records are not published yet; nil for none

	// The loop's own.
	op       *operation // a Complete or Cancel at work; nil otherwise
	parting  bool       // its server is being told of a cancel
	deadline time.Time  // when a timer must look at the job; zero: never
}

// command is a call that the loop carries out.
type command struct {
	do    func(*tx) error
	reply chan error // nil if nobody waits
	lazy  bool       // may wait for lazyDelay, to share a commit with others
}

// lazyDelay is how long news of a file's progress may wait. Each commit is a sync of the disk,
// which the files being written have to share.
const lazyDelay = 100 * time.Millisecond

// lazyBatch is how many files may wait for that: what a crash loses of them is fetched again.
const lazyBatch = 256

// maxBatch bounds the commands of one commit, so that the first of them does not wait long.
const maxBatch = 512

// Open loads the jobs from the store and starts the loop. The queue owns the store from now on. as
// tells with whose rights the files of a user's jobs are used; nil for the service's own.
func Open(s *store.Store, e *transfer.Engine, g *governor.Governor, p policy.Policy, c conditions.State, as func(uid uint32) localfile.Owner, log *slog.Logger) (*Queue, error) {
	q := &Queue{
		store: s, engine: e, gov: g, policy: p, conditions: c, as: as, log: log,
		commands: make(chan command, 2*maxBatch),
		quit:     make(chan struct{}),
		broken:   make(chan struct{}),
		done:     make(chan struct{}),
		byID:     map[bits.ID]*job{},
		sched:    schedule.New(limits(p)),
		holds:    holds{of: map[class]*hold{}, stale: true, sweep: true, caps: governor.Caps{Foreground: governor.Unlimited, Background: governor.Unlimited}},
		opened:   time.Now(),
		asleep:   conditions.Asleep(),
		counts:   map[uint32]int{},
		active:   map[int64]*job{},
		troubled: map[int64]*job{},
		leaving:  map[int64]*job{},
		partings: make(chan struct{}, mostPartings),
	}
	if as == nil {
		q.as = func(uint32) localfile.Owner { return localfile.Owner{} }
	}
	q.clock = q.opened
	q.runs, q.stopRuns = context.WithCancel(context.Background())
	q.names.open(q.runs)
	if err := q.load(); err != nil {
		return nil, err
	}
	go q.loop()
	return q, nil
}

func limits(p policy.Policy) schedule.Limits {
	return schedule.Limits{Foreground: p.Jobs.Foreground, Background: p.Jobs.Background, Slice: time.Duration(p.Jobs.TimeSlice)}
}

// load reads all jobs and files. Jobs that were moving when the service ended are queued again.
func (q *Queue) load() error {
	var (
		jobs  []*job
		files []store.FileRow
		clear []*job // of which the store has something in clear
	)
	err := q.store.Load(
		func(r *store.Job) error {
			if r.State.Running() {
				c := *r
				c.State = bits.Queued
				r = &c
			}
			j := &job{num: r.Num, id: r.ID}
			if headers, hook := openly(r.Detail); headers || hook {
				r = q.sealOld(r)
				clear = append(clear, j)
			}
			j.now = &version{rec: r}
			jobs = append(jobs, j)
			return nil
		},
		func(f store.FileRow) error {
			files = append(files, f)
			return nil
		})
	if err != nil {
		return err
	}
	at := 0
	for _, j := range jobs {
		for at < len(files) && files[at].Job < j.num {
			at++ // of a job that is gone
		}
		from := at
		for at < len(files) && files[at].Job == j.num {
			if files[at].Index != at-from {
				return fmt.Errorf("%w: job %s lacks file %d", store.ErrUnusable, j.id, at-from)
			}
			at++
		}
		if at > from {
			own := make([]*store.File, at-from)
			for i := range own {
				own[i] = files[from+i].File
			}
			j.now.attach(own)
		}
		j.now.count()
	}
	seq, err := q.store.LastEvent()
	if err != nil {
		return err
	}
	q.events.init(seq)
	q.order = jobs
	now := time.Now()
	for _, j := range jobs {
		q.byID[j.id] = j
		q.nextNum = j.num + 1
		q.tally(nil, j.now)
		q.enroll(j, j.now, now)
		q.finishOld(j)
	}
	if len(clear) > 0 {
		go q.post(func(t *tx) error {
			for _, j := range clear {
				t.edit(j, func(*store.Job, *store.Detail) {})
			}
			return nil
		})
	}
	return nil
}

// patience is how often the loop lets others run before it commits a batch that is smaller than
// the one before.
const patience = 16

// loop carries out commands, as many as wait at once, each batch in one commit.
func (q *Queue) loop() {
	defer close(q.done)
	timer := time.NewTimer(0)
	lazy := time.NewTimer(0)
	lazy.Stop()
	var batch []command
	hurry := false // something in the batch should not wait
	crowd := 0     // size of the last batch
	take := func(c command) {
		if len(batch) == 0 {
			lazy.Reset(lazyDelay)
		}
		batch = append(batch, c)
		hurry = hurry || !c.lazy
	}
	drain := func() {
		for len(batch) < maxBatch {
			select {
			case c := <-q.commands:
				take(c)
			default:
				return
			}
		}
	}
	for {
		select {
		case c := <-q.commands:
			take(c)
		case <-lazy.C:
			hurry = true
		case <-timer.C:
			hurry = true
		case <-q.quit:
			q.shutdown(batch)
			return
		}
		drain()
		if hurry {
			// Callers that were answered together tend to come again together: a moment's
			// patience, in which they can run, saves them syncs of the disk.
			for i := 0; i < patience && len(batch) < crowd; i++ {
				runtime.Gosched()
				drain()
			}
		}
		if !hurry && len(batch) < lazyBatch {
			continue
		}
		lazy.Stop()
		q.step(batch, time.Now())
		crowd = len(batch)
		clear(batch)
		batch, hurry = batch[:0], false
		q.setTimer(timer)
	}
}

// setTimer lets the loop wake at the next moment that matters, and not before.
func (q *Queue) setTimer(timer *time.Timer) {
	next := q.planAt
	if !q.holdUntil.IsZero() { // the last commit failed: nothing is tried again before
		timer.Reset(max(time.Until(q.holdUntil), 0))
		q.holdUntil = time.Time{}
		return
	}
	if q.holds.sweep {
		timer.Reset(0)
		return
	}
	if d, ok := q.deadlines.next(); ok && (next.IsZero() || d.Before(next)) {
		next = d
	}
	if at := q.holds.next; !at.IsZero() && (next.IsZero() || at.Before(next)) {
		next = at
	}
	if next.IsZero() {
		timer.Stop()
		return
	}
	timer.Reset(max(time.Until(next), 0))
}

// step carries out one batch: commands, timers, the plan, one commit, then what follows from it.
func (q *Queue) step(batch []command, now time.Time) {
	t := &tx{q: q, now: now, staged: map[*job]*version{}}
	errs := make([]error, len(batch))
	for i, c := range batch {
		errs[i] = t.carryOut(c)
	}
	q.expire(t)
	q.applyHolds(t)
	q.plan(t)
	if err := q.commit(t); err != nil {
		q.log.Error("the job store took no change", "err", err)
		failure := localError(err)
		for i := range errs {
			errs[i] = failure
		}
		t.undo()
		q.planAt, q.holdUntil = time.Time{}, now.Add(retryCommit)
		q.holds.sweep, q.holds.from = true, 0
		if errors.Is(err, store.ErrBroken) {
			q.breakOnce.Do(func() { close(q.broken) })
		}
	}
	for i, c := range batch {
		if c.reply != nil {
			c.reply <- errs[i]
		}
	}
	runtime.Gosched() // those who wait for the answer come first
	for _, f := range t.then {
		f()
	}
}

// retryCommit is the pause after a commit that failed before the plan is made again.
const retryCommit = time.Second

// localError is the answer to a command whose change could not be stored.
func localError(err error) error {
	e := bits.Errorf(bits.Unexpected, "the change could not be stored: %v", err)
	e.Context, e.Cause = bits.ContextGeneralQueueManager, err
	return e
}

// do runs f in the loop and returns once its change is durable.
func (q *Queue) do(f func(*tx) error) error {
	c := command{do: f, reply: make(chan error, 1)}
	select {
	case q.commands <- c:
	case <-q.done:
		return ErrClosed
	}
	select {
	case err := <-c.reply:
		return err
	case <-q.done:
		select { // the loop may have answered before it ended
		case err := <-c.reply:
			return err
		default:
			return ErrClosed
		}
	}
}

// post is do without waiting.
func (q *Queue) post(f func(*tx) error) {
	select {
	case q.commands <- command{do: f}:
	case <-q.done:
	}
}

// postLazily is post for what need not be on disk at once.
func (q *Queue) postLazily(f func(*tx) error) {
	select {
	case q.commands <- command{do: f, lazy: true}:
	case <-q.done:
	}
}

// ErrClosed answers calls that come while the service stops.
var ErrClosed = &bits.Error{Code: bits.Unexpected, Context: bits.ContextGeneralQueueManager, Message: "the service is stopping"}

// Close stops the transfers, which record how far they are, and closes the store.
func (q *Queue) Close() error {
	close(q.quit)
	<-q.done
	q.names.close()
	return q.store.Close()
}

// shutdown is the end of the loop: it goes on until nothing can send news any more. batch is
// what the loop had taken already.
func (q *Queue) shutdown(batch []command) {
	q.stopRuns()
	quiet := make(chan struct{})
	go func() {
		q.work.Wait()
		close(quiet)
	}()
	for ; ; batch = nil {
		select {
		case c := <-q.commands:
			batch = append(batch, c)
		case <-quiet:
			for len(q.commands) > 0 {
				batch = append(batch, <-q.commands)
			}
		}
		t := &tx{q: q, now: time.Now(), staged: map[*job]*version{}}
		errs := make([]error, len(batch))
		for i, c := range batch {
			errs[i] = t.carryOut(c)
		}
		err := q.commit(t)
		for i, c := range batch {
			if c.reply != nil {
				c.reply <- cmp.Or(err, errs[i])
			}
		}
		select {
		case <-quiet:
			if len(q.commands) == 0 {
				return
			}
		default:
		}
	}
}

// tx is the change that one batch makes: staged until it is committed.
type tx struct {
	q       *Queue
	now     time.Time
	staged  map[*job]*version
	touched []*job // keys of staged, in order
	fresh   []*job // made by this batch
	files   []store.FileRow
	made    map[uint32]int // number of fresh ones of each user
	gone    []*job
	news    []store.Event
	then    []func() // after the commit
	unwind  []func() // instead, if the commit fails or the command that adds it is refused
	trail   []trace  // of the command that is carried out
}

// trace is what takes back one change that a command staged.
type trace struct {
	job *job
	was *version // what was staged of the job; nil for nothing
	// Of a file's record that took the place of another in files of the batch's own.
	files []*store.File
	index int
	file  *store.File
}

// carryOut carries out one command of the batch. One that is refused leaves nothing behind, whatever
// it staged before it was.
func (t *tx) carryOut(c command) error {
	clear(t.trail)
	t.trail = t.trail[:0]
	touched, fresh, files, gone, news, then, unwind := len(t.touched), len(t.fresh), len(t.files), len(t.gone), len(t.news), len(t.then), len(t.unwind)
	err := c.do(t)
	if err == nil {
		return nil
	}
	for _, j := range t.fresh[fresh:] {
		t.made[t.staged[j].rec.UID]--
	}
	for _, s := range slices.Backward(t.trail) {
		switch {
		case s.files != nil:
			s.files[s.index] = s.file
		case s.was == nil:
			delete(t.staged, s.job)
		default:
			t.staged[s.job] = s.was
		}
	}
	for _, f := range slices.Backward(t.unwind[unwind:]) {
		f()
	}
	t.touched, t.fresh, t.files, t.gone = t.touched[:touched], t.fresh[:fresh], t.files[:files], t.gone[:gone]
	t.news, t.then, t.unwind = t.news[:news], t.then[:then], t.unwind[:unwind]
	return err
}

// get returns the job's version as this batch sees it.
func (t *tx) get(j *job) *version {
	if v, ok := t.staged[j]; ok {
		return v
	}
	return j.now
}

// put stages a new version.
func (t *tx) put(j *job, v *version) {
	was, ok := t.staged[j]
	if !ok {
		t.touched = append(t.touched, j)
	}
	t.trail = append(t.trail, trace{job: j, was: was})
	t.staged[j] = v
}

// edit stages a copy of the job's record that f has changed.
func (t *tx) edit(j *job, f func(*store.Job, *store.Detail)) {
	v := *t.get(j)
	rec := *v.rec
	d := store.Detail{}
	if rec.Detail != nil {
		d = *rec.Detail
	}
	f(&rec, &d)
	if rec.State.Final() && !d.Cleanup && d.Farewell == 0 { // nobody needs the others any more
		d.Secrets = keptSecrets(&d)
	}
	rec.Modified = t.now.UnixNano()
	rec.Detail = nil
	if !d.Zero() {
		rec.Detail = &d
	}
	v.rec = &rec
	t.put(j, &v)
}

// setFile stages a new record of one file.
func (t *tx) setFile(j *job, index int, f *store.File) {
	t.implyFile(j, index, f)
	t.files = append(t.files, store.FileRow{Job: j.num, Index: index, File: f})
}

// implyFile is setFile for a record that readers derive from the stored one and the job's (version.attach).
func (t *tx) implyFile(j *job, index int, f *store.File) {
	v := *t.get(j)
	if v.isReply(index) {
		v.reply = f
	} else if base, staged := t.staged[j]; !staged || !base.ownFiles {
		v.files = slices.Clone(v.files)
		v.ownFiles = true
	}
	if !v.isReply(index) {
		t.trail = append(t.trail, trace{files: v.files, index: index, file: v.files[index]})
		v.replace(index, f)
	}
	t.put(j, &v)
}

// event stages news about a job, with its state as this batch leaves it so far.
func (t *tx) event(j *job, kind bits.EventKind, file *bits.File) {
	v := t.get(j)
	if file != nil {
		file.Ranges = nil // they may be many, and do not change
	}
	e := bits.Event{Time: t.now.UTC(), Kind: kind, Job: j.id, Name: v.rec.Name, Owner: t.q.names.name(v.rec.UID), State: v.rec.State, File: file}
	if d := v.rec.Detail; d != nil {
		e.Note = d.Note
	}
	if v.rec.State == bits.Queued && v.absent(t.q.policy.Jobs.Logon, t.q.conditions.Users) {
		e.Note = join(e.Note, NoteOwnerAway)
	}
	if s := v.rec.State; s == bits.Errored || s == bits.TransientError {
		e.Error, e.RetryAt = v.errorInfo(), v.retryAt()
	}
	t.news = append(t.news, store.Event{Event: e, UID: v.rec.UID})
}

// setState stages a state and the event that tells of it.
func (t *tx) setState(j *job, s bits.State) {
	if t.get(j).rec.State == s {
		return
	}
	t.edit(j, func(r *store.Job, d *store.Detail) {
		r.State = s
		if s == bits.Transferred {
			d.Transferred = t.now.UnixNano()
		}
		if s.Final() {
			d.Finished = t.now.UnixNano()
		}
		if s != bits.TransientError {
			d.RetryAt = 0
		}
		d.Notice = noticeIn(s, d, j.op != nil && j.op.auto && !j.op.cancel, t.now)
	})
	kind := bits.EventState
	switch {
	case s == bits.Transferred:
		kind = bits.EventTransferred
	case s == bits.Errored:
		kind = bits.EventError
	case s.Final():
		kind = bits.EventRemoved
	}
	t.event(j, kind, nil)
}

// undo takes back what the batch did besides staging.
func (t *tx) undo() {
	t.then = nil
	for _, f := range t.unwind {
		f()
	}
	for _, j := range t.gone {
		t.q.enroll(j, j.now, t.now)
	}
	for _, j := range t.fresh {
		t.q.sched.Remove(j.num)
		t.q.deadlines.set(j, time.Time{})
	}
	for _, j := range t.touched {
		if j.now != nil {
			t.q.enroll(j, j.now, t.now)
		}
	}
}

// commit writes what is staged and publishes it.
func (q *Queue) commit(t *tx) error {
	if len(t.touched) == 0 && len(t.gone) == 0 && len(t.news) == 0 {
		return nil
	}
	c := &store.Change{Files: t.files, Events: t.news}
	for _, j := range t.touched {
		c.Jobs = append(c.Jobs, t.staged[j].rec)
	}
	for _, j := range t.gone {
		c.Delete = append(c.Delete, j.num)
	}
	seq := q.events.last()
	for i := range t.news {
		seq++
		t.news[i].Seq = seq
	}
	if err := q.store.Commit(c); err != nil {
		return err
	}
	q.mu.Lock()
	for _, j := range t.touched {
		v := t.staged[j]
		v.ownFiles = false
		q.tally(j.now, v)
		j.now = v
	}
	q.order = append(q.order, t.fresh...)
	for _, j := range t.fresh {
		q.byID[j.id] = j
	}
	if len(t.gone) > 0 {
		for _, j := range t.gone {
			delete(q.byID, j.id)
		}
		q.order = slices.DeleteFunc(q.order, func(j *job) bool { return q.byID[j.id] != j })
	}
	q.mu.Unlock()
	q.events.add(t.news)
	return nil
}

// tally counts the jobs that are not final; old is nil for a new one.
func (q *Queue) tally(old, v *version) {
	add := func(v *version, n int) {
		if v != nil && !v.rec.State.Final() {
			q.count += n
			if q.counts[v.rec.UID] += n; q.counts[v.rec.UID] == 0 {
				delete(q.counts, v.rec.UID)
			}
		}
	}
	add(old, -1)
	add(v, 1)
}

// enroll tells the scheduler and the timers about a version of a job. Doing it again is harmless.
func (q *Queue) enroll(j *job, v *version, now time.Time) {
	rec := v.rec
	if j.op == nil && (rec.State == bits.Queued || rec.State.Running()) && v.eligible() && !v.absent(q.policy.Jobs.Logon, q.conditions.Users) {
		q.sched.Add(j.num, rec.UID, rec.Priority)
	} else {
		q.sched.Remove(j.num)
	}
	keep(q.troubled, j, rec.State == bits.TransientError)
	keep(q.leaving, j, v.leaves())
	at := v.deadline(now, time.Duration(q.policy.Jobs.KeepFinished))
	if limit := v.maxDownloadTime(q.policy.Jobs.MaxDownloadTime); j.run != nil && rec.State.Running() && limit > 0 {
		at = j.run.began.Add(limit - j.run.before)
	}
	if j.parting {
		at = time.Time{}
	}
	q.deadlines.set(j, at)
}

// keep puts a job into a set or takes it out.
func keep(set map[int64]*job, j *job, in bool) {
	if in {
		set[j.num] = j
	} else {
		delete(set, j.num)
	}
}

// find returns the job with a number, also one that this batch makes.
func (t *tx) find(num int64) *job {
	if i, ok := slices.BinarySearchFunc(t.q.order, num, byNum); ok {
		return t.q.order[i]
	}
	if i, ok := slices.BinarySearchFunc(t.fresh, num, byNum); ok {
		return t.fresh[i]
	}
	return nil
}

func byNum(a *job, n int64) int { return cmp.Compare(a.num, n) }

// SetPolicy changes the policy. Running jobs that the new limits do not allow are queued again,
// those that it holds back wait.
func (q *Queue) SetPolicy(p policy.Policy) {
	q.post(func(t *tx) error {
		kept, logon := q.policy.Jobs.KeepFinished, q.policy.Jobs.Logon
		q.mu.Lock()
		q.policy = p
		q.mu.Unlock()
		q.admit(t, logon, q.conditions.Users)
		q.sched.SetLimits(limits(p))
		q.holds.stale = true
		for _, j := range q.active {
			q.enroll(j, t.get(j), t.now)
		}
		if p.Jobs.KeepFinished != kept {
			for _, j := range q.order {
				if v := t.get(j); v.rec.State.Final() {
					q.enroll(j, v, t.now)
				}
			}
		}
		return nil
	})
}

// Backup writes a copy of the store beside it.
func (q *Queue) Backup(ctx context.Context) error { return q.store.Backup(ctx) }

// IsBusy reports whether the queue has work, now or later, that it does by itself.
func (q *Queue) IsBusy() bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	for _, j := range q.order {
		if j.now.rec.State.Action() || j.run != nil || j.now.leaves() {
			return true
		}
	}
	return false
}

// Moving reports whether there are transfers under way.
func (q *Queue) Moving() bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return len(q.active) > 0
}

// NetworkChanged says that links, addresses or routes changed: jobs that wait for a network are
// tried again. back says that there was no network before and there is one now: then jobs whose
// server could not be reached are tried again too (client.md 4.3).
func (q *Queue) NetworkChanged(back bool) {
	q.post(func(t *tx) error {
		for _, j := range q.troubled {
			e := t.get(j).failure()
			if e != nil && (e.Code == bits.NetworkDisconnected || back && e.Context == bits.ContextGeneralTransport) {
				t.setState(j, bits.Queued)
			}
		}
		if back {
			for _, j := range q.leaving {
				t.edit(j, func(_ *store.Job, d *store.Detail) { d.Farewell = t.now.UnixNano() })
			}
		}
		return nil
	})
}

// Broken returns a channel that is closed when the store takes no more changes: the service has
// to start again to find out what is on the disk.
func (q *Queue) Broken() <-chan struct{} { return q.broken }

// asError returns err as a *bits.Error; nil if it is nil.
func asError(err error) *bits.Error {
	if err == nil {
		return nil
	}
	var e *bits.Error
	if errors.As(err, &e) {
		return e
	}
	return &bits.Error{Code: bits.Unexpected, Context: bits.ContextUnknown, Message: err.Error(), Cause: err}
}
