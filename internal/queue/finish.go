package queue

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
)

// operation is a Complete or a Cancel at work: the transfer is stopped first, then files are
// placed or deleted outside the loop, then the job's end is committed.
type operation struct {
	cancel bool          // else complete, or heir is set
	heir   *uint32       // who takes the job over
	code   bits.Code     // the success code to answer with
	auto   bool          // the service does it by itself
	begun  bool          // the work on files
	by     *Caller       // nil for the service itself
	done   chan struct{} // closed at the end, when err and code are set
	err    error
	// dropped is what a job that was taken over lost.
	dropped []string
}

// Complete puts the job's files in their places and ends the job. It returns OK,
// PartialComplete or UnableToDeleteFiles. If some files could not be placed, those that could
// are, the job stays, and Complete may be called again.
func (q *Queue) Complete(c Caller, id bits.ID) (bits.Code, error) {
	return q.operate(c, id, func(t *tx, j *job, v *version) (*operation, error) {
		if j.op != nil {
			if j.op.cancel || j.op.heir != nil {
				return nil, busy(v)
			}
			return j.op, nil // another caller, or the service itself, is at it: same result
		}
		verdict := bits.Decide(v.rec.State, bits.MethodComplete, v.facts())
		if err := refused(v, verdict, "completed"); err != nil {
			return nil, err
		}
		op := q.beginComplete(t, j)
		op.code, op.by = verdict.Code, &c
		if v.unfinished() > 0 {
			op.code = bits.PartialComplete
		}
		return op, nil
	})
}

// Cancel ends the job and deletes what it fetched. The server of an upload that it began is told
// after that.
func (q *Queue) Cancel(c Caller, id bits.ID) (bits.Code, error) {
	return q.operate(c, id, func(t *tx, j *job, v *version) (*operation, error) {
		if j.op != nil {
			return nil, busy(v)
		}
		verdict := bits.Decide(v.rec.State, bits.MethodCancel, v.facts())
		if err := refused(v, verdict, "cancelled"); err != nil {
			return nil, err
		}
		event := audit.Cancelled
		if c.UID != v.rec.UID {
			event = audit.CancelledByOther
		}
		t.audit(c, event, j, "job cancelled", "files", len(v.files))
		t.edit(j, func(_ *store.Job, d *store.Detail) { d.Cleanup = true })
		t.setState(j, verdict.Next)
		return t.begin(j, &operation{cancel: true}), nil
	})
}

// operate starts an operation in the loop and waits for its end.
func (q *Queue) operate(c Caller, id bits.ID, begin func(*tx, *job, *version) (*operation, error)) (bits.Code, error) {
	var op *operation
	err := q.do(func(t *tx) error {
		j, v, err := t.lookupToChange(c, id)
		if err != nil {
			return err
		}
		if op, err = begin(t, j, v); err != nil {
			return err
		}
		return c.meant()
	})
	if err := answered(err); err != nil {
		return bits.OK, err
	}
	if c.DryRun {
		return op.code, nil
	}
	select {
	case <-op.done:
		return op.code, op.err
	case <-q.done:
		return bits.OK, ErrClosed
	}
}

func (q *Queue) beginComplete(t *tx, j *job) *operation {
	return t.begin(j, &operation{auto: t.get(j).detail().AutoComplete})
}

// begin hands the job to an operation: from now on no transfer of it starts.
func (t *tx) begin(j *job, op *operation) *operation {
	op.done = make(chan struct{})
	j.op = op
	t.unwind = append(t.unwind, func() { j.op = nil })
	t.put(j, t.get(j)) // so that the scheduler is told
	t.then = append(t.then, func() {
		if j.run != nil {
			j.run.stop() // ended() goes on with proceed
			return
		}
		t.q.proceed(j)
	})
	return op
}

// proceed does the work on files once no transfer of the job runs. If the transfer ended in the
// very batch that began the operation it is asked for twice, or after the batch was undone.
func (q *Queue) proceed(j *job) {
	op, v := j.op, j.now
	if op == nil || op.begun {
		return
	}
	op.begun = true
	q.work.Go(func() {
		if op.heir != nil {
			q.handOver(j, v, op)
			return
		}
		if op.cancel {
			err := deleteParts(q.runs, q.as(v.rec.UID), v)
			q.post(func(t *tx) error {
				if transfer.Open(t.get(j).begun()) {
					t.edit(j, func(_ *store.Job, d *store.Detail) { d.Farewell, d.Attempts = t.now.UnixNano(), 0 })
				}
				if err == nil {
					t.edit(j, func(_ *store.Job, d *store.Detail) { d.Cleanup = false })
				} else if q.runs.Err() == nil {
					op.code = bits.UnableToDeleteFiles
					q.log.Warn("part files could not be deleted", audit.Event(audit.FilesLeft), "job", j.id, "err", err)
				}
				t.finish(j, nil)
				return nil
			})
			return
		}
		placed, lost, err := place(q.runs, q.engine, q.as(v.rec.UID), v)
		if err == nil {
			if derr := deleteParts(q.runs, q.as(v.rec.UID), v); derr != nil {
				op.code = bits.UnableToDeleteFiles
				q.log.Warn("part files could not be deleted", audit.Event(audit.FilesLeft), "job", j.id, "err", derr)
			}
		}
		q.post(func(t *tx) error {
			q.completed(t, j, placed, lost, err)
			return nil
		})
	})
}

// completed records what Complete did to the files. Files whose part files are gone are pending
// again, so that Resume fetches them.
func (q *Queue) completed(t *tx, j *job, placed, lost []int, err error) {
	op := j.op
	for _, i := range placed {
		f := placedFile(t.get(j).at(i))
		if err == nil { // the state that follows says the same of all of them
			t.implyFile(j, i, f)
		} else {
			t.setFile(j, i, f)
		}
	}
	for _, i := range lost {
		f := *t.get(j).at(i)
		f.State, f.Size, f.Done, f.Part = store.FilePending, -1, 0, nil
		t.setFile(j, i, &f)
	}
	if err == nil {
		t.setState(j, bits.Acknowledged)
		by := Caller{UID: t.get(j).rec.UID}
		if op.by != nil {
			by = *op.by
		}
		v := t.get(j)
		t.audit(by, audit.Completed, j, "job completed", "files", len(v.files), "bytes", v.done, "bytes_from_peers", v.fromPeers(), "auto", op.by == nil)
		t.finish(j, nil)
		return
	}
	t.edit(j, func(*store.Job, *store.Detail) {})
	t.finish(j, err)
	if op.auto { // nobody waits for an answer: the job itself must tell
		q.trouble(t, j, transfer.Outcome{Err: asError(err)})
	} else {
		q.log.Warn("job could not be completed", "job", j.id, "err", err)
	}
}

func placedFile(f *store.File) *store.File {
	g := *f
	g.State = store.FilePlaced
	return &g
}

// finish ends the operation once the batch is committed.
func (t *tx) finish(j *job, err error) {
	op := j.op
	j.op = nil
	t.put(j, t.get(j))
	end := func(err error) func() {
		return func() {
			op.err = err
			close(op.done)
		}
	}
	t.then = append(t.then, end(err))
	t.unwind = append(t.unwind, end(errors.Join(err, &bits.Error{Code: bits.Unexpected, Message: "the end of the job could not be stored"})))
}

// place renames the part files of the transferred files into their places, then makes the
// directories durable. It goes on after an error, so that as many files as possible are usable,
// and returns which are, and which have lost their part file. It ends early when ctx does.
func place(ctx context.Context, engine *transfer.Engine, owner localfile.Owner, v *version) (placed, lost []int, err error) {
	dirs := map[string]bool{}
	var errs []error
	for i, f := range v.fetched() {
		if f.State != store.FileDone {
			continue
		}
		if ctx.Err() != nil {
			errs = append(errs, ErrClosed)
			break
		}
		var inode uint64
		if f.Part != nil {
			inode = f.Part.Inode
		}
		perr := engine.Place(owner, v.path(i, f), f.Local, inode)
		if perr == nil {
			placed = append(placed, i)
			dirs[filepath.Dir(f.Local)] = true
			continue
		}
		e := localfile.Err(perr, f.Local)
		if e.Code == bits.FileNotFound || e.Code == bits.LocalFileChanged {
			lost = append(lost, i)
		}
		errs = append(errs, e)
	}
	for dir := range dirs {
		if serr := owner.SyncDir(dir); serr != nil {
			return nil, lost, localfile.Err(serr, dir) // nothing is known to be durable: place again
		}
	}
	return placed, lost, errors.Join(errs...)
}

// deleteParts removes the part files of the files that are not in their places.
func deleteParts(ctx context.Context, owner localfile.Owner, v *version) error {
	if !v.rec.Resumed || v.highPerformance() {
		return nil // nothing ever began, or it is left to the caller (client.md 6.11)
	}
	var errs []error
	for i, f := range v.fetched() {
		keep := f.State == store.FilePlaced || f.State == store.FileDone && v.rec.State != bits.Cancelled
		if keep {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err() // the next start goes on
		}
		if err := owner.Remove(v.path(i, f)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// finishOld goes on with what a crash of the service interrupted: the deletion of a cancelled
// job's part files, and a completion that the service does by itself.
func (q *Queue) finishOld(j *job) {
	d := j.now.detail()
	if d.Cleanup || d.AutoComplete && j.now.rec.State == bits.Transferred && j.now.unfinished() == 0 {
		j.op = &operation{cancel: d.Cleanup, auto: d.AutoComplete, done: make(chan struct{})}
		q.proceed(j)
	}
}
