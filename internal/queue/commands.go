package queue

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
)

// Caller is who makes a call.
type Caller struct {
	PID     int32  // of the program that calls, for the log; 0 if unknown
	Process string // its path, or its name

	UID uint32
	// Self is the uid that the service itself runs as: its user administers it.
	Self uint32
	// Granted says that the system lets the user administer the service for this call.
	Granted bool
	// DryRun says that the call is to be answered as if it were carried out, and is not.
	DryRun bool
}

// Admin reports whether the caller may deal with the jobs of all users.
func (c Caller) Admin() bool { return c.UID == 0 || c.UID == c.Self || c.Granted }

// Changes reports whether the caller may change the jobs of a user, and not only see them. Whoever the system
// lets administer the service is not root for that, and through a job of root's would be: by a file in it,
// or its notify command (client.md 1.4: an elevated administrator does not touch the system's jobs).
func (c Caller) Changes(uid uint32) bool {
	return c.may(uid) && (!c.Granted || uid != 0 || c.UID == 0)
}

// noChange is the answer to who may see a job and not change it.
func noChange() error {
	return denied("the job is root's, and an administrator who is not root may only look at it")
}

func denied(format string, args ...any) *bits.Error {
	e := bits.Errorf(bits.AccessDenied, format, args...)
	e.Context = bits.ContextGeneralQueueManager
	return e
}

func (c Caller) may(uid uint32) bool { return c.Admin() || c.UID == uid }

// AmbiguousError is the cause of the error for a name or a prefix that fits several jobs.
type AmbiguousError struct{ Candidates []bits.Summary }

func (e *AmbiguousError) Error() string { return fmt.Sprintf("%d jobs fit", len(e.Candidates)) }

// maxCandidates bounds how many jobs an AmbiguousError lists.
const maxCandidates = 20

// Resolve finds the job that ref means: an id, a name, or a unique prefix of an id. Jobs in final states are found by their id, and by name or prefix if no
// other fits.
func (q *Queue) Resolve(c Caller, ref string) (bits.ID, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if id, err := bits.ParseID(ref); err == nil {
		if j := q.byID[id]; j != nil && c.may(j.now.rec.UID) {
			return id, nil
		}
		return id, noSuchJob(ref)
	}
	prefix := strings.ToLower(strings.Trim(ref, "{}"))
	if strings.Trim(prefix, "0123456789abcdef-") != "" {
		prefix = ""
	}
	var byName, byPrefix, finalName, finalPrefix []*job
	for _, j := range q.order {
		r := j.now.rec
		if !c.may(r.UID) {
			continue
		}
		name, pre := r.Name == ref, prefix != "" && strings.HasPrefix(j.id.String(), prefix)
		switch {
		case name && !r.State.Final():
			byName = append(byName, j)
		case name:
			finalName = append(finalName, j)
		case pre && !r.State.Final():
			byPrefix = append(byPrefix, j)
		case pre:
			finalPrefix = append(finalPrefix, j)
		}
	}
	for _, fit := range [][]*job{byName, byPrefix, finalName, finalPrefix} {
		if len(fit) == 1 {
			return fit[0].id, nil
		}
		if len(fit) > 1 {
			a := &AmbiguousError{}
			for _, j := range fit[:min(len(fit), maxCandidates)] {
				a.Candidates = append(a.Candidates, summary(j.now))
			}
			return bits.ID{}, &bits.Error{Code: bits.InvalidArg, Context: bits.ContextGeneralQueueManager, Cause: a,
				Message: fmt.Sprintf("%q fits %d jobs; give the id of one", ref, len(fit))}
		}
	}
	return bits.ID{}, noSuchJob(ref)
}

func noSuchJob(ref string) *bits.Error {
	return &bits.Error{Code: bits.NotFound, Context: bits.ContextGeneralQueueManager, Message: fmt.Sprintf("there is no job %q", ref)}
}

func summary(v *version) bits.Summary {
	return bits.Summary{ID: v.rec.ID, Name: v.rec.Name, State: v.rec.State}
}

// lookup returns a job that the caller may see, as the batch sees it.
func (t *tx) lookup(c Caller, id bits.ID) (*job, *version, error) {
	j := t.q.byID[id]
	if j == nil {
		for _, f := range t.fresh {
			if f.id == id {
				j = f
			}
		}
	}
	if j == nil || !c.may(t.get(j).rec.UID) {
		return nil, nil, noSuchJob(id.String())
	}
	return j, t.get(j), nil
}

// lookupToChange returns a job that the caller may change.
func (t *tx) lookupToChange(c Caller, id bits.ID) (*job, *version, error) {
	j, v, err := t.lookup(c, id)
	if err == nil && !c.Changes(v.rec.UID) {
		err = noChange()
	}
	return j, v, err
}

// refused turns a verdict into the error of a refused call.
func refused(v *version, verdict bits.Verdict, verb string) error {
	if !verdict.Code.Failed() {
		return nil
	}
	e := &bits.Error{Code: verdict.Code, Context: bits.ContextGeneralQueueManager}
	switch verdict.Code {
	case bits.InvalidState:
		e.Message = fmt.Sprintf("the job %q is %s and cannot be %s", v.rec.Name, v.rec.State, verb)
	case bits.NotImplemented:
		e.Message = fmt.Sprintf("a job of type %s cannot be %s", v.rec.Type, verb)
	}
	return e
}

// Create makes a job.
func (q *Queue) Create(c Caller, spec bits.NewJob) (bits.Summary, error) {
	return q.create(c, spec, nil)
}

// create is Create, where the directories of the files may have been looked at already.
func (q *Queue) create(c Caller, spec bits.NewJob, seen destinations) (bits.Summary, error) {
	if spec.Name == nil {
		return bits.Summary{}, bits.Errorf(bits.InvalidArg, "the job needs a name")
	}
	if e := spec.Check(true); e != nil {
		return bits.Summary{}, e
	}
	if e := q.tooManyFiles(c, len(spec.Files)); e != nil {
		return bits.Summary{}, e
	}
	spec.Settle(spec.Type)
	if e := spec.Refuse(bits.Suspended, bits.Facts{Type: spec.Type}, nil); e != nil {
		return bits.Summary{}, e
	}
	if e := q.notifies(&spec.Settings); e != nil {
		return bits.Summary{}, e
	}
	if err := q.present(c.UID); err != nil {
		return bits.Summary{}, err
	}
	owner := q.as(c.UID)
	files, err := checkFiles(owner, spec.Type, spec.Files, seen)
	if err == nil {
		err = q.tooManyRanges(c, spec.Files)
	}
	if err == nil {
		err = checkUpload(owner, spec.Type, &spec.Settings, files)
	}
	if err != nil {
		return bits.Summary{}, err
	}
	if spec.Resume && len(files) == 0 {
		return bits.Summary{}, &bits.Error{Code: bits.Empty, Context: bits.ContextGeneralQueueManager}
	}
	id := bits.NewID()
	if spec.ID != nil {
		id = *spec.ID
	}
	var made *version
	err = q.do(func(t *tx) error {
		if old, v, err := t.lookup(c, id); err == nil && v.rec.UID == c.UID {
			made = t.get(old) // the answer to the first call was lost
			return nil
		} else if q.byID[id] != nil {
			return bits.Errorf(bits.InvalidArg, "the job id %s is taken", id)
		}
		if e := t.tooManyJobs(c); e != nil {
			return e
		}
		now := t.now.UnixNano()
		j := &job{num: q.nextNum, id: id}
		q.nextNum++
		rec := &store.Job{Num: j.num, ID: id, UID: c.UID, Type: spec.Type, State: bits.Suspended, Priority: bits.Normal, Created: now, Modified: now}
		var d store.Detail
		apply(&spec.Settings, rec, &d)
		t.rearm(&version{rec: rec}, &d, &spec.Settings)
		if spec.Headers != nil {
			q.setHeaders(id, &d, *spec.Headers)
		}
		if spec.NotifyURL != nil {
			q.sealHook(id, &d)
		}
		q.takePasswords(id, &d, files)
		if spec.Resume {
			rec.State, rec.Resumed = bits.Queued, true
		}
		if !d.Zero() {
			rec.Detail = &d
		}
		v := &version{rec: rec, files: files, ownFiles: true}
		if err := v.takes(files); err != nil {
			return err
		}
		v.count()
		made = v
		t.fresh = append(t.fresh, j)
		if t.made == nil {
			t.made = map[uint32]int{}
		}
		t.made[c.UID]++
		t.put(j, v)
		for i, f := range files {
			t.files = append(t.files, store.FileRow{Job: j.num, Index: i, File: f})
		}
		t.event(j, bits.EventAdded, nil)
		t.audit(c, audit.Created, j, "job created", "type", spec.Type, "files", len(files))
		t.auditFiles(c, audit.FileAdded, j, "file added", files)
		if spec.NotifyCommand != nil {
			t.auditSet(c, j, &spec.Settings)
		}
		return c.meant()
	})
	if err := answered(err); err != nil {
		return bits.Summary{}, err
	}
	return summary(made), nil
}

// CreateAll makes jobs that have nothing to do with each other. Each has a summary or an error; those
// that wait together are committed together.
func (q *Queue) CreateAll(c Caller, specs []bits.NewJob) ([]bits.Summary, []error) {
	made, errs := make([]bits.Summary, len(specs)), make([]error, len(specs))
	var files [][]bits.FileSpec
	for i := range specs {
		if specs[i].Type == bits.Download {
			files = append(files, specs[i].Files)
		}
	}
	seen := lookAt(q.as(c.UID), files...) // at once, not on a thread for each job
	var all sync.WaitGroup
	for i := range specs {
		all.Go(func() { made[i], errs[i] = q.create(c, specs[i], seen) })
	}
	all.Wait()
	return made, errs
}

// exempt reports whether the quotas of policy do not hold for the caller. In a service of their
// own all users are administrators, who still have quotas.
func (c Caller) exempt() bool { return c.UID == 0 }

// tooManyJobs refuses to make another job of the caller.
func (t *tx) tooManyJobs(c Caller) error {
	if c.exempt() {
		return nil
	}
	refuse := func(code bits.Code, format string, args ...any) error {
		e := bits.Errorf(code, format, args...)
		e.Context = bits.ContextGeneralQueueManager
		event := audit.TooManyPerUser
		if code == bits.TooManyJobsPerMachine {
			event = audit.TooManyPerMachine
		}
		t.q.overQuota(c, event, e)
		return e
	}
	jobs := t.q.policy.Jobs
	if t.q.counts[c.UID]+t.made[c.UID] >= jobs.MaxPerUser {
		return refuse(bits.TooManyJobsPerUser, "the user has %d jobs that are not completed or cancelled, and may have no more (jobs.max_per_user)", jobs.MaxPerUser)
	}
	if t.q.count+len(t.fresh) >= jobs.MaxPerMachine {
		return refuse(bits.TooManyJobsPerMachine, "there are %d jobs that are not completed or cancelled, and there may be no more (jobs.max_per_machine)", jobs.MaxPerMachine)
	}
	return nil
}

// tooManyFiles refuses to let a job of the caller have n files.
func (q *Queue) tooManyFiles(c Caller, n int) *bits.Error {
	q.mu.RLock()
	most, why := q.policy.Jobs.MaxFiles, " (jobs.max_files)"
	q.mu.RUnlock()
	if c.exempt() || most > bits.MaxFilesPerJob {
		most, why = bits.MaxFilesPerJob, ""
	}
	if n <= most {
		return nil
	}
	e := bits.Errorf(bits.TooManyFilesInJob, "the job would have %d files; %d are allowed%s", n, most, why)
	q.overQuota(c, audit.TooManyFiles, e)
	return e
}

// checkFiles validates files to be added to a job of a type. seen may be nil.
func checkFiles(owner localfile.Owner, kind bits.Type, specs []bits.FileSpec, seen destinations) ([]*store.File, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	if kind != bits.Download {
		return checkSource(owner, kind, specs)
	}
	taken := make(map[string]bool, len(specs))
	files := make([]*store.File, len(specs))
	records := make([]store.File, len(specs))
	for i := range specs {
		if e := specs[i].Check(kind); e != nil {
			return nil, e
		}
		if taken[specs[i].Local] {
			return nil, sameDestination(specs[i].Local)
		}
		taken[specs[i].Local] = true
		records[i] = store.File{Remote: specs[i].Remote, Local: specs[i].Local, Checksum: specs[i].Checksum, Size: -1, Extra: extra(&specs[i])}
		files[i] = &records[i]
	}
	if seen == nil {
		seen = lookAt(owner, specs)
	}
	for i := range specs {
		if err := seen.refuse(specs[i].Local); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func sameDestination(local string) *bits.Error {
	return &bits.Error{Code: bits.InvalidArg, Context: bits.ContextLocalFile, File: local, Message: fmt.Sprintf("two files of the job have the destination %s", local)}
}

// apply puts checked settings into a record.
func apply(s *bits.Settings, r *store.Job, d *store.Detail) {
	if s.Name != nil {
		r.Name = *s.Name
	}
	if s.Priority != nil {
		r.Priority = *s.Priority
	}
	if s.Description != nil {
		d.Description = *s.Description
	}
	if s.MinimumRetryDelay != nil {
		d.MinimumRetryDelay = s.MinimumRetryDelay
	}
	if s.NoProgressTimeout != nil {
		d.NoProgressTimeout = s.NoProgressTimeout
	}
	if s.Connections != nil {
		d.Connections = *s.Connections
	}
	if s.AutoComplete != nil {
		d.AutoComplete = *s.AutoComplete
	}
	if s.TransferPolicy != nil {
		d.TransferPolicy = *s.TransferPolicy
	}
	if s.MaximumDownloadTime != nil {
		d.MaximumDownloadTime = s.MaximumDownloadTime
		if *s.MaximumDownloadTime == bits.DefaultMaximumDownloadTime {
			d.MaximumDownloadTime = nil
		}
	}
	if s.Protocol != nil {
		d.Protocol = *s.Protocol
	}
	if s.ReplyFile != nil {
		d.ReplyFile = *s.ReplyFile
	}
	if s.Options != (bits.Options{}) {
		d.Options = d.Options.Merge(&s.Options)
	}
	if d.Options != nil && d.Options.HTTPMethod != nil {
		r.Priority = bits.Foreground // and stays so, client.md 1.9
	}
}

// AddFiles adds files to a job: all or none.
func (q *Queue) AddFiles(c Caller, id bits.ID, specs []bits.FileSpec) (bits.Summary, error) {
	if e := q.tooManyFiles(c, len(specs)); e != nil {
		return bits.Summary{}, e
	}
	kind, owner, err := q.typeOf(c, id)
	if err != nil {
		return bits.Summary{}, err
	}
	files, err := checkFiles(owner, kind, specs, nil)
	if err == nil {
		err = q.tooManyRanges(c, specs)
	}
	if err != nil {
		return bits.Summary{}, err
	}
	if len(files) == 0 {
		return bits.Summary{}, bits.Errorf(bits.InvalidArg, "there are no files to add")
	}
	return q.change(c, id, func(t *tx, j *job, v *version) error {
		if j.op != nil {
			return busy(v)
		}
		if err := refused(v, bits.Decide(v.rec.State, bits.MethodAddFile, v.facts()), "given more files"); err != nil {
			return err
		}
		if e := q.tooManyFiles(c, len(v.files)+len(files)); e != nil {
			return e
		}
		if err := v.takes(files); err != nil {
			return err
		}
		if err := q.present(v.rec.UID); err != nil {
			return err
		}
		if v.rec.Type != bits.Download {
			if len(v.files) > 0 {
				return secondFile()
			}
			if e := replyOverFile(v.detail().ReplyFile, files[0].Local); e != nil {
				return e
			}
		}
		for _, f := range files {
			for _, have := range v.files {
				if have.Local == f.Local && have.State != store.FileRemoved {
					return sameDestination(f.Local)
				}
			}
		}
		t.edit(j, func(_ *store.Job, d *store.Detail) {
			d.Changed = changed(d, t.now)
			q.takePasswords(id, d, files)
		})
		w := *t.get(j)
		first := len(v.files)
		w.files = append(slices.Clone(v.files), files...)
		w.ownFiles = true
		w.count()
		t.put(j, &w)
		for i, f := range files {
			t.files = append(t.files, store.FileRow{Job: j.num, Index: first + i, File: f})
		}
		t.event(j, bits.EventModified, nil)
		t.auditFiles(c, audit.FileAdded, j, "file added", files)
		return nil
	})
}

// errRehearsed refuses a command that would have been carried out, so that nothing of it stays.
var errRehearsed = errors.New("the call was not meant")

// meant returns errRehearsed if the call is a dry run.
func (c Caller) meant() error {
	if c.DryRun {
		return errRehearsed
	}
	return nil
}

// answered returns the error of a command but for that of a dry run that would have had none.
func answered(err error) error {
	if err == errRehearsed {
		return nil
	}
	return err
}

// change runs f on a job in the loop and returns the job's summary after it.
func (q *Queue) change(c Caller, id bits.ID, f func(*tx, *job, *version) error) (bits.Summary, error) {
	var s bits.Summary
	err := q.do(func(t *tx) error {
		j, v, err := t.lookupToChange(c, id)
		if err != nil {
			return err
		}
		if err := f(t, j, v); err != nil {
			return err
		}
		s = summary(t.get(j))
		return c.meant()
	})
	return s, answered(err)
}

// Set changes properties of a job: all or none.
func (q *Queue) Set(c Caller, id bits.ID, s bits.Settings) (bits.Summary, error) {
	if e := s.Check(false); e != nil {
		return bits.Summary{}, e
	}
	if e := q.notifies(&s); e != nil {
		return bits.Summary{}, e
	}
	kind, owner, err := q.typeOf(c, id)
	if err != nil {
		return bits.Summary{}, err
	}
	s.Settle(kind)
	if err := checkUpload(owner, kind, &s, nil); err != nil {
		return bits.Summary{}, err
	}
	return q.change(c, id, func(t *tx, j *job, v *version) error {
		if err := refused(v, bits.Decide(v.rec.State, bits.MethodSetProperty, v.facts()), "changed"); err != nil {
			return err
		}
		if e := s.Refuse(v.rec.State, v.facts(), v.detail().Options); e != nil {
			return e
		}
		if err := ownersOnly(c, v, &s); err != nil {
			return err
		}
		if err := t.setUpload(j, v, &s); err != nil {
			return err
		}
		if s.VerifyCertificates != nil {
			t.then = append(t.then, func() { q.judges.forget(j) })
		}
		if j.run != nil && slices.ContainsFunc(s.Given(), func(p *bits.Property) bool { return p.Restarts }) {
			t.then = append(t.then, j.run.stop)
		}
		t.edit(j, func(r *store.Job, d *store.Detail) {
			apply(&s, r, d)
			if f := s.SecurityFlags; f != nil && r.Type == bits.Download {
				checked := v.detail().Options.Properties().SecurityFlags&bits.SecurityCRLCheck != 0
				d.Afresh = *f&bits.SecurityCRLCheck != 0 && (d.Afresh || !checked)
			}
			t.rearm(v, d, &s)
			if s.Headers != nil {
				q.setHeaders(id, d, *s.Headers)
			}
			if s.NotifyURL != nil {
				q.sealHook(id, d)
			}
			d.Changed = changed(d, t.now)
		})
		if err := t.get(j).takes(v.files); err != nil {
			return err
		}
		t.event(j, bits.EventModified, nil)
		t.auditSet(c, j, &s)
		if w := t.get(j); w.rec.State == bits.Transferred && w.detail().AutoComplete && w.unfinished() == 0 && j.op == nil {
			q.beginComplete(t, j)
		}
		return nil
	})
}

// ownersOnly refuses what not even an administrator may do to another's job (client.md 1.4).
func ownersOnly(c Caller, v *version, s *bits.Settings) error {
	for _, p := range s.Given() {
		switch {
		case c.UID == v.rec.UID:
		case p.OwnerOnly:
			return denied("only the job's owner sets its %s", p.Name)
		case p.ActsAsOwner && c.Granted:
			return denied("only the job's owner sets its %s, and root: it acts with the owner's rights", p.Name)
		}
	}
	return nil
}

// Resume starts a job, or retries it now.
func (q *Queue) Resume(c Caller, id bits.ID) (bits.Summary, error) {
	return q.change(c, id, func(t *tx, j *job, v *version) error {
		if j.op != nil {
			return busy(v)
		}
		verdict := bits.Decide(v.rec.State, bits.MethodResume, v.facts())
		if err := refused(v, verdict, "resumed"); err != nil {
			return err
		}
		t.edit(j, func(r *store.Job, d *store.Detail) {
			r.Resumed = true
			d.Active, d.Exhausted = 0, false
			if verdict.Next != v.rec.State {
				d.Attempts, d.StuckSince, d.Changed = 0, 0, 0
			}
		})
		if j.run != nil {
			j.run.began, j.run.before = t.now, 0
		}
		t.audit(c, audit.Resumed, j, "job resumed")
		t.setState(j, verdict.Next)
		return nil
	})
}

// Suspend stops a job and keeps its progress.
func (q *Queue) Suspend(c Caller, id bits.ID) (bits.Summary, error) {
	return q.change(c, id, func(t *tx, j *job, v *version) error {
		if j.op != nil {
			return busy(v)
		}
		verdict := bits.Decide(v.rec.State, bits.MethodSuspend, v.facts())
		if err := refused(v, verdict, "suspended"); err != nil {
			return err
		}
		t.audit(c, audit.Suspended, j, "job suspended")
		t.edit(j, func(_ *store.Job, d *store.Detail) { d.Exhausted = false })
		t.setState(j, verdict.Next)
		return nil
	})
}

func busy(v *version) error {
	return &bits.Error{Code: bits.InvalidState, Context: bits.ContextGeneralQueueManager, Message: fmt.Sprintf("the job %q is just being completed or cancelled", v.rec.Name)}
}

// Get returns a snapshot of a job.
func (q *Queue) Get(c Caller, id bits.ID, withFiles bool) (bits.Job, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	j := q.byID[id]
	if j == nil || !c.may(j.now.rec.UID) {
		return bits.Job{}, noSuchJob(id.String())
	}
	out := j.now.view(&q.names, q.policy.Jobs.MaxDownloadTime, withFiles, j.moving())
	out.Pace = j.pace()
	q.showHook(c, j.now, &out)
	j.now.tellLogon(&out, q.policy.Jobs.Logon, q.conditions.Users)
	return out, nil
}

// Error returns why a job is in ERROR or TRANSIENT_ERROR, or was until it was queued again.
func (q *Queue) Error(c Caller, id bits.ID) (*bits.ErrorInfo, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	j := q.byID[id]
	if j == nil || !c.may(j.now.rec.UID) {
		return nil, noSuchJob(id.String())
	}
	info := j.now.errorInfo()
	if info == nil {
		return nil, &bits.Error{Code: bits.ErrorInfoUnavailable, Context: bits.ContextGeneralQueueManager, Message: fmt.Sprintf("the job %q is %s and in no error", j.now.rec.Name, j.now.rec.State)}
	}
	return info, nil
}

// ListOptions narrows a listing.
type ListOptions struct {
	AllUsers bool
	Files    bool
	States   []bits.State // empty: all that are not final
	Limit    int          // 0: all
	After    bits.ID      // zero: from the start
}

// listChunk is how many jobs are looked at with the lock held.
const listChunk = 256

// List calls yield for each job, oldest first, until it returns false. Jobs that are made or
// end meanwhile may or may not be seen. The lock is never held while a job's view is made, or
// while yield runs.
func (q *Queue) List(c Caller, o ListOptions, yield func(bits.Job) bool) error {
	if o.AllUsers && !c.Admin() {
		return denied("only an administrator lists the jobs of all users")
	}
	q.mu.RLock()
	order := q.order
	if o.After != (bits.ID{}) {
		j := q.byID[o.After]
		if j == nil {
			q.mu.RUnlock()
			return noSuchJob(o.After.String())
		}
		at, _ := slices.BinarySearchFunc(order, j.num+1, byNum)
		order = order[at:]
	}
	order = slices.Clone(order)
	jobs, users := q.policy.Jobs, q.conditions.Users
	q.mu.RUnlock()

	type seen struct {
		v    *version
		live map[int]transfer.Moving
		pace *bits.Pace
	}
	left := o.Limit
	for chunk := range slices.Chunk(order, listChunk) {
		fit := make([]seen, 0, len(chunk))
		q.mu.RLock()
		for _, j := range chunk {
			r := j.now.rec
			switch {
			case !o.AllUsers && r.UID != c.UID,
				len(o.States) == 0 && r.State.Final(),
				len(o.States) > 0 && !slices.Contains(o.States, r.State):
				continue
			}
			fit = append(fit, seen{j.now, j.moving(), j.pace()})
		}
		q.mu.RUnlock()
		runtime.Gosched() // a long listing must not keep transfers from running
		for _, s := range fit {
			view := s.v.view(&q.names, jobs.MaxDownloadTime, o.Files, s.live)
			s.v.tellLogon(&view, jobs.Logon, users)
			view.Pace = s.pace
			q.showHook(c, s.v, &view)
			if !yield(view) {
				return nil
			}
			if left--; o.Limit > 0 && left == 0 {
				return nil
			}
		}
	}
	return nil
}

// Counts returns the number of jobs in each state that is not final: the caller's or, for an
// administrator, those of all users.
func (q *Queue) Counts(c Caller) map[string]int {
	q.mu.RLock()
	defer q.mu.RUnlock()
	m := map[string]int{}
	for _, j := range q.order {
		if s := j.now.rec.State; !s.Final() && c.may(j.now.rec.UID) {
			m[s.String()]++
		}
	}
	return m
}

// Prune forgets old events, and cancels the jobs that were idle for too long. It is called now
// and then by who owns the queue, and when that is Crowded.
func (q *Queue) Prune(now time.Time) error {
	for more := true; more; {
		if err := q.do(func(t *tx) error {
			more = q.cancelIdle(t)
			return nil
		}); err != nil {
			return err
		}
	}
	q.events.pruned()
	return q.store.PruneEvents(now.Add(-time.Duration(q.keepEvents())), maxEvents)
}

func (q *Queue) keepEvents() policy.Duration {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.policy.Jobs.KeepEvents
}

// maxEvents bounds the events that the store keeps. Who has many loses the oldest, nobody else.
const maxEvents = 500_000
