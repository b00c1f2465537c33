package queue

import (
	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/policy"
)

// A job that waits for its owner to log on stays QUEUED, and unlike a held one it never fails for that
// (client.md 4.2, 4.3): it is not told to the scheduler.

// NoteOwnerAway is the note of a job that waits for its owner to log on.
const NoteOwnerAway = "the job waits for its owner to log on (run_when)"

// runWhen returns when the job runs, under a rule.
func (v *version) runWhen(rule policy.Logon) bits.RunWhen {
	d := v.rec.Detail
	switch {
	case rule == policy.LogonStrict:
		return bits.RunLoggedOn
	case d != nil && d.Options != nil && d.Options.RunWhen != nil:
		return *d.Options.RunWhen
	case rule == policy.LogonNeeded:
		return bits.RunLoggedOn
	}
	return bits.RunAlways
}

// absent reports whether the job may not run because its owner is not logged on.
func (v *version) absent(rule policy.Logon, users conditions.Users) bool {
	return users.Known() && v.runWhen(rule) == bits.RunLoggedOn && !users.LoggedOn(v.rec.UID)
}

// tellLogon puts into a view when the job runs, and whether it waits for that.
func (v *version) tellLogon(j *bits.Job, rule policy.Logon, users conditions.Users) {
	j.Properties.RunWhen = v.runWhen(rule)
	if j.State == bits.Queued && v.absent(rule, users) {
		j.Note = join(j.Note, NoteOwnerAway)
	}
}

// join puts two notes together.
func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// admit tells the scheduler about the jobs that may run now and could not under another rule or with
// other users, and the other way round.
func (q *Queue) admit(t *tx, was policy.Logon, before conditions.Users) {
	now, users := q.policy.Jobs.Logon, q.conditions.Users
	if was == now && before == users {
		return
	}
	n := 0
	for _, j := range q.order {
		v := t.get(j)
		if s := v.rec.State; (s == bits.Queued || s.Running()) && v.absent(was, before) != v.absent(now, users) {
			q.enroll(j, v, t.now)
			n++
		}
	}
	if n > 0 {
		q.log.Info("users came or went, or the logon rule changed", "jobs", n)
	}
}

// present refuses, under the strict rule, what a user may do only while logged on.
func (q *Queue) present(uid uint32) error {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.policy.Jobs.Logon != policy.LogonStrict || q.conditions.Users.LoggedOn(uid) {
		return nil
	}
	e := bits.Errorf(bits.NotLoggedOn, "the user %s is not logged on, and the service makes jobs only for those who are (jobs.logon: strict)", q.names.name(uid))
	e.Context = bits.ContextGeneralQueueManager
	return e
}
