package queue

import (
	"slices"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/store"
)

// Channel is a way in which the owner of a job is told of its end. Each is told by itself.
type Channel uint8

// The channels.
const (
	ToProgram Channel = 1 << iota // the program that asked for callbacks, else the notify command
	ToHook                        // the web hook
	ToDesktop                     // the owner's desktop
)

// Channels are all of them.
var Channels = []Channel{ToProgram, ToHook, ToDesktop}

// Notice is what is to be told of a job, and to whom (client.md 7.1 to 7.3).
type Notice struct {
	Job    bits.Job // without its files
	UID    uint32
	Kind   bits.EventKind // EventTransferred or EventError; empty if neither is to be told
	Due    int64          // tells this end of the job from others: when it became TRANSFERRED or ERROR
	Told   Channel        // who was told already
	Retry  time.Time      // when a program that could not be told is tried again
	Failed int            // how often it could not be told
	Hook   int            // how often the web hook failed in a row
	Repost time.Time      // when the web hook that failed is tried again
	Least  time.Duration  // before a notification that failed is tried again
	Files  uint64         // the last file event that was told
	Missed int            // how often in a row a program could not be told of a file
	Local  string         // of the first file, for those who have only one
	secret *store.Secret  // with which web hooks are signed; nil if they are not
	hook   *store.Secret  // the whole URL of the web hook; nil if the job shows it
}

// Wants reports whether the channel is to be told now or later.
func (n *Notice) Wants(c Channel) bool {
	want := bits.NotifyTransferred
	if n.Kind == bits.EventError {
		want = bits.NotifyError
	}
	p := &n.Job.Properties
	if n.Kind == "" || n.Told&c != 0 || !p.NotifyFlags.Wants(want) {
		return false
	}
	switch c {
	case ToHook:
		return p.NotifyURL != ""
	case ToDesktop:
		return p.NotifyDesktop
	}
	return true
}

// Due notices are kept in the job's record from the state that makes them due until all have been
// told or the job has left that state. That nobody was there to be told is no reason to forget them.

// noticeIn returns the record of what is to be told of a job that enters a state.
func noticeIn(s bits.State, d *store.Detail, completing bool, now time.Time) *store.Notice {
	old := d.Notice
	switch {
	case s == bits.Transferred, s == bits.Errored:
		n := &store.Notice{Due: now.UnixNano()}
		if old != nil {
			n.Files, n.FilesFailed, n.FilesError = old.Files, old.FilesFailed, old.FilesError
		}
		return n
	case s == bits.Acknowledged && completing:
		return old // it was done in one go: the end is told when the files are in their places
	case old == nil, s.Final(), old.Files == 0:
		return nil
	}
	return &store.Notice{Files: old.Files, FilesFailed: old.FilesFailed, FilesError: old.FilesError}
}

// rearm lets those be told who are named by the settings, also if the job's end was before that
// (client.md 7.3: "Late set").
func (t *tx) rearm(v *version, d *store.Detail, s *bits.Settings) {
	var again Channel
	if s.NotifyCommand != nil {
		again |= ToProgram
	}
	if s.NotifyURL != nil {
		again |= ToHook
	}
	if s.NotifyDesktop != nil {
		again |= ToDesktop
	}
	var n store.Notice
	if d.Notice != nil {
		n = *d.Notice
	}
	if again != 0 && (v.rec.State == bits.Transferred || v.rec.State == bits.Errored) {
		if n.Due == 0 {
			n.Due = t.now.UnixNano()
		}
		n.Told &^= uint8(again)
		n.Failed, n.Retry, n.Error = 0, 0, ""
		n.HookFailed, n.HookRetry, n.HookError = 0, 0, ""
	}
	if n.Files == 0 && s.NotifyFlags != nil && s.NotifyFlags.Wants(bits.NotifyFile) {
		n.Files = t.q.events.last() + 1 // which is never 0; from the next one on
	}
	if n != (store.Notice{}) {
		d.Notice = &n
	}
}

// notifies refuses a notify command or a web hook that the policy does not allow.
func (q *Queue) notifies(s *bits.Settings) error {
	p := q.NotifyPolicy()
	if c := s.NotifyCommand; c != nil && len(*c) > 0 && !p.Commands.Allow((*c)[0]) {
		return denied("the policy does not let jobs run %s (notify.commands)", (*c)[0])
	}
	if u := s.NotifyURL; u != nil && *u != "" && !p.Hooks.Allow(*u) {
		return denied("the policy does not let jobs post to %s (notify.hooks)", bits.RedactPath(*u))
	}
	return nil
}

// NotifyPolicy returns what the policy says about notifications.
func (q *Queue) NotifyPolicy() policy.Notify {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.policy.Notify
}

// notice makes the snapshot; Queue.mu is held.
func (q *Queue) notice(j *job) Notice {
	v := j.now
	d := v.detail()
	n := Notice{Job: v.view(&q.names, q.policy.Jobs.MaxDownloadTime, false, nil), UID: v.rec.UID, Least: v.minimumRetryDelay()}
	v.tellLogon(&n.Job, q.policy.Jobs.Logon, q.conditions.Users)
	if len(v.files) > 0 {
		n.Local = v.files[0].Local
	}
	n.secret, n.hook = secretOf(&d, credentialRecord(hookName)), secretOf(&d, store.Secret{Kind: secretHook})
	if d.Notice == nil {
		return n
	}
	n.Due, n.Told, n.Failed, n.Hook, n.Files, n.Missed = d.Notice.Due, Channel(d.Notice.Told), d.Notice.Failed, d.Notice.HookFailed, d.Notice.Files, d.Notice.FilesFailed
	if d.Notice.Retry != 0 {
		n.Retry = time.Unix(0, d.Notice.Retry)
	}
	if d.Notice.HookRetry != 0 {
		n.Repost = time.Unix(0, d.Notice.HookRetry)
	}
	switch s := v.rec.State; {
	case n.Due == 0:
	case s == bits.Errored:
		n.Kind = bits.EventError
	case s == bits.Transferred && (!d.AutoComplete || v.unfinished() > 0), s == bits.Acknowledged: // what completes itself is told of then
		n.Kind = bits.EventTransferred
	}
	return n
}

// Notice returns what is to be told of a job.
func (q *Queue) Notice(id bits.ID) (Notice, bool) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	j := q.byID[id]
	if j == nil {
		return Notice{}, false
	}
	return q.notice(j), true
}

// Noticed calls yield for the jobs that want, of which something is to be told, or may be while
// they last: those with NotifyFile. It holds no lock meanwhile.
func (q *Queue) Noticed(yield func(Notice)) {
	q.mu.RLock()
	order := slices.Clone(q.order)
	q.mu.RUnlock()
	for chunk := range slices.Chunk(order, listChunk) {
		var found []Notice
		q.mu.RLock()
		for _, j := range chunk {
			if d := j.now.rec.Detail; d != nil && d.Notice != nil && q.byID[j.id] == j {
				found = append(found, q.notice(j))
			}
		}
		q.mu.RUnlock()
		for _, n := range found {
			yield(n)
		}
	}
}

// noticeOf changes the record of the notice that is due since due, if it still is. It returns once
// that is done: whoever looks at the notice then does not tell it again. If it cannot be stored, the
// notice is told once more.
func (q *Queue) noticeOf(id bits.ID, due int64, change func(*store.Notice), then func(*tx, *job)) {
	_ = q.do(func(t *tx) error {
		j := q.byID[id]
		if j == nil {
			return nil
		}
		if d := t.get(j).rec.Detail; d == nil || d.Notice == nil || d.Notice.Due != due {
			return nil
		}
		modified := t.get(j).rec.Modified
		t.edit(j, func(_ *store.Job, d *store.Detail) {
			n := *d.Notice
			change(&n)
			d.Notice = &n
		})
		t.get(j).rec.Modified = modified // nothing of the job itself has changed
		if then != nil {
			then(t, j)
		}
		return nil
	})
}

// Told says that a channel was told of the end of a job that was due since due.
func (q *Queue) Told(id bits.ID, due int64, c Channel) {
	q.noticeOf(id, due, func(n *store.Notice) {
		n.Told |= uint8(c)
		switch c {
		case ToProgram:
			n.Failed, n.Retry, n.Error = 0, 0, ""
		case ToHook:
			n.HookFailed, n.HookRetry, n.HookError = 0, 0, ""
		}
	}, nil)
}

// NotTold says that the program or the web hook could not be told, why, and when that is tried again.
func (q *Queue) NotTold(id bits.ID, due int64, c Channel, why string, again time.Time) {
	q.noticeOf(id, due, func(n *store.Notice) {
		if c == ToHook {
			n.HookFailed++
			n.HookError, n.HookRetry = why, again.UnixNano()
			return
		}
		n.Failed++
		n.Error, n.Retry = why, again.UnixNano()
	}, func(t *tx, j *job) {
		t.event(j, bits.EventNotify, nil)
		e := &t.news[len(t.news)-1]
		e.Note, e.RetryAt = why, new(again.UTC())
	})
}

// FileTold says that the program was told of the files of a job up to an event.
func (q *Queue) FileTold(id bits.ID, seq uint64) {
	q.fileNotice(id, func(n *store.Notice) {
		n.Files = max(n.Files, seq)
		n.FilesFailed, n.FilesError = 0, ""
	})
}

// FileNotTold says that the program could not be told of a file, and why.
func (q *Queue) FileNotTold(id bits.ID, why string) {
	q.fileNotice(id, func(n *store.Notice) {
		n.FilesFailed++
		n.FilesError = why
	})
}

// FilesGivenUp says that the program will not be told of the files of a job up to an event. Why
// stays in the job's record.
func (q *Queue) FilesGivenUp(id bits.ID, seq uint64) {
	q.fileNotice(id, func(n *store.Notice) { n.Files = max(n.Files, seq) })
}

// fileNotice changes what a job's record has about telling of its files.
func (q *Queue) fileNotice(id bits.ID, change func(*store.Notice)) {
	q.postLazily(func(t *tx) error {
		j := q.byID[id]
		if j == nil || t.get(j).rec.State.Final() && t.get(j).detail().Notice == nil { // its end was told
			return nil
		}
		t.edit(j, func(_ *store.Job, d *store.Detail) {
			n := store.Notice{}
			if d.Notice != nil {
				n = *d.Notice
			}
			change(&n)
			d.Notice = &n
		})
		return nil
	})
}

// Events returns up to 512 events after a number.
func (q *Queue) Events(after uint64) ([]store.Event, error) {
	events, complete, _ := q.events.after(after)
	if complete {
		return events, nil
	}
	return q.store.Events(after, 512)
}

// notification is what the job's owner may know of a notification that failed.
func (v *version) notification() *bits.NotificationFailure {
	d := v.rec.Detail
	switch {
	case d == nil || d.Notice == nil:
		return nil
	case d.Notice.Error == "" && d.Notice.FilesError != "":
		return &bits.NotificationFailure{Attempts: d.Notice.FilesFailed, Message: d.Notice.FilesError}
	case d.Notice.Error == "":
		return nil
	}
	return &bits.NotificationFailure{Attempts: d.Notice.Failed, Message: d.Notice.Error, RetryAt: moment(d.Notice.Retry)}
}

// hookFailure is the same of the web hook.
func (v *version) hookFailure() *bits.NotificationFailure {
	d := v.rec.Detail
	if d == nil || d.Notice == nil || d.Notice.HookError == "" {
		return nil
	}
	return &bits.NotificationFailure{Attempts: d.Notice.HookFailed, Message: d.Notice.HookError, RetryAt: moment(d.Notice.HookRetry)}
}
