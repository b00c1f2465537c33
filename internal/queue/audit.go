package queue

import (
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/store"
)

// mostAudited bounds the lines that one call about many files makes in the log.
const mostAudited = 10

// audit has it logged, once this batch is on disk, who did what to a job. facts are pairs of names
// and values.
func (t *tx) audit(c Caller, event audit.ID, j *job, what string, facts ...any) {
	line := t.q.facts(c, event, t.get(j), facts...)
	t.then = append(t.then, func() { t.q.log.Info(what, line...) })
}

// facts are what the log tells of a call: the job, who called, and with which program.
func (q *Queue) facts(c Caller, event audit.ID, v *version, more ...any) []any {
	facts := []any{"job", v.rec.ID, "name", v.rec.Name, "owner", q.names.name(v.rec.UID)}
	if event != 0 {
		facts = append(facts, audit.Event(event))
	}
	facts = append(facts, "by", q.names.name(c.UID))
	if c.PID != 0 {
		facts = append(facts, "pid", c.PID, "process", c.Process)
	}
	return append(facts, more...)
}

// auditFiles logs which files a job got, or what else was done to them.
func (t *tx) auditFiles(c Caller, event audit.ID, j *job, what string, files []*store.File) {
	for i, f := range files {
		if i == mostAudited {
			t.audit(c, event, j, what+", and more", "count", len(files)-i)
			return
		}
		t.audit(c, event, j, what, "remote", bits.RedactURL(f.Remote), "local", f.Local)
	}
}

// auditSet logs which properties of a job were set. Their values are the owner's affair.
func (t *tx) auditSet(c Caller, j *job, s *bits.Settings) {
	var names []string
	for _, p := range s.Given() {
		names = append(names, p.Name)
	}
	event := t.changed(c, j)
	if event == 0 && s.NotifyCommand != nil {
		event = audit.CommandSet
	}
	facts := []any{"properties", strings.Join(names, ",")}
	if s.NotifyCommand != nil && len(*s.NotifyCommand) > 0 {
		facts = append(facts, "program", (*s.NotifyCommand)[0])
	}
	t.audit(c, event, j, "job changed", facts...)
}

// changed is the number of the event that the caller changed a job: BITS has one for another's.
func (t *tx) changed(c Caller, j *job) audit.ID {
	if c.UID != t.get(j).rec.UID {
		return audit.ChangedByOther
	}
	return 0
}

// auditFile logs what was done to one file of a job.
func (t *tx) auditFile(c Caller, j *job, what string, f *store.File, facts ...any) {
	t.audit(c, t.changed(c, j), j, what, append([]any{"remote", bits.RedactURL(f.Remote), "local", f.Local}, facts...)...)
}

// auditReading logs which parts of a file an administrator had fetched for another. A program that
// reads its own file piece by piece changes nothing by that, and would fill the log.
func (t *tx) auditReading(c Caller, j *job, what string, f *store.File, facts ...any) {
	if t.changed(c, j) != 0 {
		t.auditFile(c, j, what, f, facts...)
	}
}

// overQuota tells of a call that was refused because the caller would have too much of something.
func (q *Queue) overQuota(c Caller, event audit.ID, e *bits.Error) {
	q.log.Warn("call refused", audit.Event(event), "by", q.names.name(c.UID), "pid", c.PID, "process", c.Process, "why", e.Message)
}
