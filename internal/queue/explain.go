package queue

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/store"
)

// Explain says why a job does not move, or how it moves, and what would change that.
func (q *Queue) Explain(c Caller, id bits.ID) (bits.Explanation, error) {
	var out bits.Explanation
	err := q.do(func(t *tx) error {
		j, v, err := t.lookup(c, id)
		if err != nil {
			return err
		}
		out = bits.Explanation{Job: summary(v), Reasons: t.explain(c, j, v)}
		return nil
	})
	return out, err
}

// reasons collects what there is to say.
type reasons []bits.Reason

func (r *reasons) add(help, format string, args ...any) {
	*r = append(*r, bits.Reason{Why: fmt.Sprintf(format, args...), Help: help})
}

func (t *tx) explain(c Caller, j *job, v *version) []bits.Reason {
	var r reasons
	d := v.detail()
	ref := v.rec.ID.String()[:8]
	if s := v.rec.State; j.op == nil && !v.eligible() && (s == bits.Queued || v.waits()) {
		r.add(fmt.Sprintf("`ebb set %s priority=foreground` lets it start.", ref), "Dynamic content can only be fetched in the foreground, and the job's priority is %s.", strings.ToLower(v.rec.Priority.String()))
	}
	switch s := v.rec.State; {
	case j.op != nil && j.op.cancel:
		r.add("", "The job is just being cancelled.")
	case j.op != nil:
		r.add("", "The job is just being completed: its files are put in their places.")
	case s == bits.Suspended:
		t.explainSuspended(&r, v, ref)
	case s == bits.Queued:
		t.explainQueued(&r, c, v, ref)
	case s.Running():
		t.explainRunning(&r, j, v, ref)
	case s == bits.TransientError && v.waits():
		r.add(v.help(v.failure()), "%s", sentence(v.failure().Sentence()))
		t.explainEnd(&r, v)
	case s == bits.TransientError:
		e := v.failure()
		if e == nil {
			e = &bits.Error{Code: bits.Unexpected}
		}
		r.add(v.help(e), "The last attempt failed: %s (%s). It was number %d in a row.", bits.RedactText(e.Sentence()), e.Code.Name(), d.Attempts)
		if d.RetryAt != 0 {
			r.add(fmt.Sprintf("`ebb resume %s` tries again now.", ref), "The next attempt is in %s.", about(time.Unix(0, d.RetryAt).Sub(t.now)))
		} else {
			r.add(fmt.Sprintf("`ebb resume %s` tries again now.", ref), "It is tried again as soon as the network changes.")
		}
		t.explainEnd(&r, v)
	case s == bits.Errored:
		t.explainErrored(&r, v, ref)
	case s == bits.Transferred && v.unfinished() > 0:
		r.add(fmt.Sprintf("`ebb resume %s` fetches them.", ref), "Files were added after the others were transferred.")
	case s == bits.Transferred && v.rec.Type != bits.Download:
		r.add(fmt.Sprintf("`ebb complete %s` ends the job.", ref), "The server has the whole file; the job waits for being completed.")
	case s == bits.Transferred:
		r.add(fmt.Sprintf("`ebb complete %s` puts the files in their places and ends the job.", ref), "Everything is transferred; the job waits for being completed.")
	case s == bits.Acknowledged:
		r.add("", "The job is completed; there is nothing left to do.")
	case v.leaves():
		r.add("", "The job is cancelled; %s.", bits.NoteServerUntold)
	default:
		r.add("", "The job is cancelled.")
	}
	if d.Note != "" {
		r.add("", "%s", sentence(bits.RedactText(d.Note)))
	}
	t.explainFiles(&r, v)
	t.explainNotice(&r, v, ref)
	return r
}

// help is what a person can do about the job's error.
func (v *version) help(e *bits.Error) string {
	hint := e.Info().Hint
	if v.rec.Type != bits.Download && v.reply == nil {
		hint = e.Code.UploadHint()
	}
	return sentence(strings.ReplaceAll(hint, " JOB", " "+v.rec.ID.String()[:8]))
}

// explainNotice tells that those who are to be told of the job could not be.
func (t *tx) explainNotice(r *reasons, v *version, ref string) {
	for _, c := range []struct {
		failure    *bits.NotificationFailure
		what, name string
	}{
		{v.notification(), "The program that is to be told of the job, or of its files, could not be", "notify_command"},
		{v.hookFailure(), "The web hook that is to be told of the job could not be", "notify_url"},
	} {
		f := c.failure
		if f == nil {
			continue
		}
		help := fmt.Sprintf("`ebb set %s %s=...` tells another one, at once.", ref, c.name)
		if f.RetryAt != nil {
			help = fmt.Sprintf("It is tried again in %s; %s", about(f.RetryAt.Sub(t.now)), help)
		}
		r.add(help, "%s, %d times now: %s", c.what, f.Attempts, sentence(bits.RedactText(f.Message)))
	}
}

// about rounds a time for people.
func about(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Round(time.Second)/time.Second))
	case d < 48*time.Hour:
		return policy.Duration(d.Round(time.Minute)).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// sentence makes one of a text.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	if s[0] >= 'a' && s[0] <= 'z' && !strings.Contains(strings.SplitN(s, " ", 2)[0], "://") {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

func (t *tx) explainSuspended(r *reasons, v *version, ref string) {
	switch {
	case v.number() == 0:
		r.add(fmt.Sprintf("`ebb add %s URL DEST` adds one, `ebb resume %s` starts the job then.", ref, ref), "The job has no files.")
	case !v.rec.Resumed:
		r.add(fmt.Sprintf("`ebb resume %s` starts it.", ref), "The job was created and never started.")
	case v.detail().Exhausted:
		r.add(fmt.Sprintf("`ebb file ranges %s INDEX OFFSET:LENGTH` asks for parts, which are fetched at once.", ref), "The job fetches parts on demand (on_demand), and all that were asked for are here.")
	default:
		r.add(fmt.Sprintf("`ebb resume %s` lets it go on.", ref), "The job is suspended; what it has is kept.")
	}
}

// mostNamed bounds the jobs that are named in a sentence.
const mostNamed = 3

func (t *tx) explainQueued(r *reasons, c Caller, v *version, ref string) {
	if rule := t.q.policy.Jobs.Logon; v.absent(rule, t.q.conditions.Users) {
		help := fmt.Sprintf("It goes on when they log on, or at once after `loginctl enable-linger %s`; `ebb set %s run_when=always` lets it run without them.", t.q.names.name(v.rec.UID), ref)
		if rule == policy.LogonStrict {
			help = fmt.Sprintf("It goes on when they log on, or at once after `loginctl enable-linger %s`; the service's configuration wants that of all jobs (jobs.logon = strict).", t.q.names.name(v.rec.UID))
		}
		r.add(help, "The job's owner, %s, is not logged on.", t.q.names.name(v.rec.UID))
		return
	}
	if h := t.q.held(v, t.now); h != nil {
		e := bits.Error{Code: h.Code, Message: h.Sentence}
		r.add(sentence(e.Info().Hint), "%s", sentence(h.Sentence))
		return
	}
	if !v.eligible() {
		return
	}
	own := v.rec.Priority
	var higher, same []*version
	for _, j := range t.q.active {
		switch w := t.get(j); {
		case own == bits.Foreground && w.rec.Priority == bits.Foreground, own != bits.Foreground && w.rec.Priority == own:
			same = append(same, w)
		case own != bits.Foreground && w.rec.Priority != bits.Foreground && w.rec.Priority < own:
			higher = append(higher, w)
		}
	}
	jobs := t.q.policy.Jobs
	switch {
	case len(higher) > 0:
		r.add(fmt.Sprintf("It begins when they are done; `ebb set %s priority=%s` lets it take turns with them, priority=foreground starts it now.", ref, strings.ToLower(higher[0].rec.Priority.String())),
			"Jobs of a higher priority go first: %s.", named(c, higher))
	case own == bits.Foreground && len(same) > 0:
		r.add("It begins when one of them ends.", "%d foreground jobs run, which is as many as may (jobs.foreground = %d): %s.", len(same), jobs.Foreground, named(c, same))
	case len(same) > 0:
		r.add(fmt.Sprintf("Its turn comes after %s at the latest per job that waits before it; `ebb set %s priority=foreground` starts it now.", about(time.Duration(jobs.TimeSlice)), ref),
			"Jobs of its priority take turns, and it is the turn of others (jobs.background = %d at once): %s.", jobs.Background, named(c, same))
	default:
		r.add("", "The job is about to start.")
	}
}

// named names jobs; those of others only by their number.
func named(c Caller, vs []*version) string {
	slices.SortFunc(vs, func(a, b *version) int { return cmp.Compare(a.rec.Num, b.rec.Num) })
	var names []string
	others := 0
	for _, v := range vs {
		if len(names) < mostNamed && c.may(v.rec.UID) {
			names = append(names, fmt.Sprintf("%q", v.rec.Name))
		} else {
			others++
		}
	}
	if others == 1 {
		names = append(names, "another job")
	} else if others > 1 {
		names = append(names, fmt.Sprintf("%d more", others))
	}
	return strings.Join(names, ", ")
}

func (t *tx) explainRunning(r *reasons, j *job, v *version, ref string) {
	if t.explainShared(r, j, v, ref) {
		return
	}
	if v.rec.State == bits.Connecting {
		if j.run != nil {
			if silence, ok := j.run.live.Silence(); ok {
				r.add("", "%s", sentence(silence.Tell(t.now)))
				return
			}
		}
		r.add("", "The job waits for an answer of %s.", nextHost(v))
		return
	}
	p := j.pace()
	if p == nil {
		r.add("", "The job moves.")
		return
	}
	help := ""
	if v.rec.Priority != bits.Foreground {
		help = fmt.Sprintf("`ebb set %s priority=foreground` lets it compete with other programs for the network.", ref)
	}
	if p.State == bits.PaceSilent {
		r.add("", "%s", sentence(p.Why))
		return
	}
	r.add(help, "The job moves at %.1f KiB/s: %s.", float64(p.Rate)/1024, strings.TrimSuffix(cmp.Or(p.Why, string(p.State)), "."))
}

// explainShared tells that a job waits for another one that fetches the same; false if it does not.
func (t *tx) explainShared(r *reasons, j *job, v *version, ref string) bool {
	if j.run == nil {
		return false
	}
	id, ok := j.run.live.Waits()
	if !ok {
		return false
	}
	if id == v.rec.ID {
		r.add("", "The job moves the same file under another name first; then its bytes are taken.")
		return true
	}
	name := ""
	if other := t.q.byID[id]; other != nil { // of the same owner
		name = fmt.Sprintf(" (%q)", t.get(other).rec.Name)
	}
	help := fmt.Sprintf("If `ebb suspend %[1]s` or `ebb cancel %[1]s` ends that one, this one goes on by itself.", id.String()[:8])
	if v.rec.Priority != bits.Foreground {
		help += fmt.Sprintf(" `ebb set %s priority=foreground` waits for no job in the background.", ref)
	}
	r.add(help, "Job %s%s fetches the same file. This one waits for it and takes its bytes, once the server has said that they are of the present version.", id.String()[:8], name)
	return true
}

// nextHost names the server of the first file that is not done.
func nextHost(v *version) string {
	for _, f := range v.files {
		if f.State != store.FilePending {
			continue
		}
		remote := f.Remote
		if f.Part != nil && f.Part.Source != "" {
			remote = f.Part.Source
		}
		if u, err := url.Parse(remote); err == nil && u.Host != "" {
			return u.Host
		}
		return bits.RedactURL(remote)
	}
	return "the server"
}

func (t *tx) explainErrored(r *reasons, v *version, ref string) {
	e := v.failure()
	if e == nil {
		e = &bits.Error{Code: bits.Unexpected}
	}
	r.add(v.help(e), "The job met an error that no attempt helps against: %s (%s).", bits.RedactText(e.Sentence()), e.Code.Name())
	for i, f := range v.files {
		if f.State != store.FilePending || f.Remote != e.File && f.Local != e.File || v.rec.Type != bits.Download {
			continue
		}
		r.add(fmt.Sprintf("`ebb file url %[1]s %[2]d URL` gives it another source, `ebb file skip %[1]s %[2]d` leaves it out.", ref, i), "The error is about file %d, %s.", i, f.Local)
		break
	}
	keeps := ""
	if !bits.Decide(v.rec.State, bits.MethodComplete, v.facts()).Code.Failed() {
		keeps = fmt.Sprintf("`ebb complete %s` keeps what is done, ", ref)
	}
	r.add(fmt.Sprintf("`ebb resume %[1]s` tries again, %[2]s`ebb cancel %[1]s` gives up.", ref, keeps), "It waits for its owner.")
}

// explainEnd says when a job that cannot go on becomes ERROR.
func (t *tx) explainEnd(r *reasons, v *version) {
	if since := v.detail().StuckSince; since != 0 {
		left := time.Unix(0, since).Add(v.noProgressTimeout()).Sub(t.now)
		r.add("", "Without progress it ends in ERROR in %s (no_progress_timeout).", about(left))
	}
}

// explainFiles tells the notes of files that are under way.
func (t *tx) explainFiles(r *reasons, v *version) {
	for i, f := range v.files {
		if f.Part == nil || f.Part.Note == "" || f.State == store.FileRemoved || f.State == store.FilePlaced {
			continue
		}
		r.add("", "File %d: %s", i, sentence(bits.RedactText(f.Part.Note)))
		if len(*r) > 10 {
			return
		}
	}
}
