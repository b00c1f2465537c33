package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// display shows people or programs how jobs move while ebb waits for them. Its methods may be
// called by several goroutines, one for each job.
type display interface {
	show(t *track, e bits.Event) // something changed
	say(line string)             // a line that stays
	end()                        // waiting is over
}

// newDisplay makes the display of --progress.
func (a *app) newDisplay(mode string) (display, error) {
	switch mode {
	case "auto", "":
		switch {
		case a.quiet:
			return nothing{}, nil
		case a.errTerm.is && os.Getenv("TERM") != "dumb":
			return &bars{out: a.err, columns: a.errTerm.width(), began: time.Now()}, nil
		}
		return &plain{out: a.err}, nil
	case "plain":
		return &plain{out: a.err}, nil
	case "json":
		return &jsonLines{out: a.errTerm.forJSON(a.err)}, nil
	case "none":
		if a.quiet {
			return nothing{}, nil
		}
		return lines{a.err}, nil
	}
	return nil, usagef("--progress=%s: want auto, plain, json or none", mode)
}

// nothing shows nothing.
type nothing struct{}

func (nothing) show(*track, bits.Event) {}
func (nothing) say(string)              {}
func (nothing) end()                    {}

// lines shows no progress, only what stays.
type lines struct{ out io.Writer }

func (lines) show(*track, bits.Event) {}
func (l lines) say(line string)       { _, _ = fmt.Fprintln(l.out, line) }
func (lines) end()                    {}

// jsonLines prints the events themselves, one in a line.
type jsonLines struct {
	mu  sync.Mutex // guards out
	out io.Writer
}

func (j *jsonLines) show(_ *track, e bits.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = writeJSON(j.out, e, "")
}
func (j *jsonLines) say(string) {} // what people are told is in the events
func (j *jsonLines) end()       {}

// plainEvery is the least time between two plain lines about a job that just moves.
const plainEvery = 2 * time.Second

// plain prints a line now and then: for log files and terminals without a cursor.
type plain struct {
	mu   sync.Mutex // guards out
	out  io.Writer
	last map[bits.ID]plainLine
}

type plainLine struct {
	at    time.Time
	phase string
	bytes int64
}

func (p *plain) show(t *track, _ bits.Event) {
	now := time.Now()
	t.mu.Lock()
	phase, done := t.phase(), t.progress.BytesTransferred
	line := fmt.Sprintf("%s: %s", safe(t.name), t.line(now))
	t.mu.Unlock()

	p.mu.Lock()
	defer p.mu.Unlock()
	was, known := p.last[t.id]
	if known && phase == was.phase && (done == was.bytes || now.Sub(was.at) < plainEvery) {
		return
	}
	if p.last == nil {
		p.last = map[bits.ID]plainLine{}
	}
	p.last[t.id] = plainLine{now, phase, done}
	if phase != "" {
		_, _ = fmt.Fprintln(p.out, line)
	}
}

func (p *plain) say(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintln(p.out, line)
}

func (p *plain) end() {}

// mostFiles is how many files that move at once are shown.
const mostFiles = 5

// fileStays is for how long a file is shown after the last news of it.
const fileStays = 2 * time.Second

// track is what is known of a job that is waited for.
type track struct {
	id bits.ID

	mu       sync.Mutex // guards what follows: bars are drawn by another goroutine
	name     string
	state    bits.State
	progress bits.Progress
	pace     *bits.Pace
	retryAt  *time.Time
	rate     meter
	moving   []movingFile

	failing string         // the transient error that was told last
	notes   map[int]string // that were told last, by the indexes of files
	paused  bool           // that the job is suspended was told
}

type movingFile struct {
	bits.File
	seen time.Time
}

// update takes in an event and returns what a person should be told at once.
func (t *track) update(e bits.Event, now time.Time) (tell []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.name, t.state, t.retryAt = e.Name, e.State, e.RetryAt
	if e.Progress != nil {
		t.progress = *e.Progress
	}
	if e.Pace != nil || !e.State.Running() {
		t.pace = e.Pace
	}
	if e.State == bits.Transferring {
		t.rate.add(now, t.progress.BytesTransferred)
	} else {
		t.rate = meter{}
	}
	t.updateFiles(e, now)

	switch {
	case e.State == bits.TransientError && e.Error != nil:
		sentence, _ := jobError(e.Error)
		if sentence != t.failing { // once, however often it is tried again
			t.failing = sentence
			if e.RetryAt != nil {
				sentence += "; it is tried again " + relative(*e.RetryAt, now)
			} else {
				sentence += "; " + e.Error.Hint
			}
			tell = append(tell, sentence)
		}
	case e.State == bits.Suspended && !t.paused:
		tell = append(tell, fmt.Sprintf("%q is suspended; `ebb resume %s` goes on", t.name, shortID(t.id)))
	}
	t.paused = e.State == bits.Suspended
	if e.Kind == bits.EventNote && e.File != nil && e.File.Note != "" {
		tell = append(tell, t.note(e.File))
	}
	return tell
}

// note returns the line that tells a file's note; t.mu is held.
func (t *track) note(f *bits.File) string {
	if t.notes == nil {
		t.notes = map[int]string{}
	}
	t.notes[f.Index] = f.Note
	return bits.RedactURL(f.Remote) + ": " + f.Note
}

// missed returns what is still to be told of the files of a job that has ended: an event that came
// before the stream of events was open, or right before the end, was not seen.
func (t *track) missed(files []bits.File) (tell []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range files {
		if f := &files[i]; f.Note != "" && t.notes[f.Index] != f.Note {
			tell = append(tell, t.note(f))
		}
	}
	return tell
}

func (t *track) updateFiles(e bits.Event, now time.Time) {
	keep := t.moving[:0]
	for _, f := range t.moving {
		if now.Sub(f.seen) < fileStays && (e.File == nil || f.Local != e.File.Local) {
			keep = append(keep, f)
		}
	}
	t.moving = keep
	if f := e.File; f != nil && e.Kind == bits.EventProgress && (f.BytesTotal < 0 || f.BytesTransferred < int64(f.BytesTotal)) {
		if len(t.moving) == mostFiles {
			t.moving = append(t.moving[:0], t.moving[1:]...)
		}
		t.moving = append(t.moving, movingFile{*f, now})
	}
}

// phase is the state as far as it is worth a line: a job that is only tried again and again
// stays in one phase.
func (t *track) phase() string {
	switch t.state {
	case bits.Queued, bits.Connecting:
		if t.failing != "" && t.progress.BytesTransferred == 0 {
			return "TRANSIENT_ERROR"
		}
		return "QUEUED"
	case bits.TransientError, bits.Suspended, bits.Transferring:
		return t.state.String()
	}
	return "" // settled: the verb tells how it ended
}

// line is the job's state for people.
func (t *track) line(now time.Time) string {
	s := progressText(t.progress)
	if t.progress.FilesTotal > 1 {
		s += fmt.Sprintf(", %d of %s", t.progress.FilesTransferred, filesText(t.progress.FilesTotal))
	}
	if st := t.status(now); st != "" {
		s += ", " + st
	}
	return s
}

// brief is line for a narrow terminal.
func (t *track) brief(now time.Time) string {
	s := size(t.progress.BytesTransferred)
	if total := t.progress.BytesTotal; total > 0 {
		s = fmt.Sprintf("%d%%", percent(t.progress.BytesTransferred, total))
	}
	if st := t.status(now); st != "" {
		s += ", " + st
	}
	return s
}

// status is what the job does now: the rate and the time left, or why it does not move.
func (t *track) status(now time.Time) string {
	if t.state != bits.Transferring {
		return stands(t.state, t.retryAt, now)
	}
	s := "transferring"
	if n := t.rate.perSecond(); n > 0 {
		s = rate(n)
		if left, ok := timeLeft(t.progress, n); ok {
			s += ", " + duration(left) + " left"
		}
	}
	if why := heldBack(t.pace); why != "" {
		s += ", " + why
	}
	return s
}

// stands says why a job does not move, in few words; nothing about one that is settled.
func stands(s bits.State, retryAt *time.Time, now time.Time) string {
	switch s {
	case bits.Queued:
		return "waiting for its turn"
	case bits.Connecting:
		return "connecting"
	case bits.TransientError:
		switch {
		case retryAt == nil: // no attempt would help
			return "waiting"
		case retryAt.After(now):
			return "trying again " + relative(*retryAt, now)
		}
		return "waiting to try again"
	case bits.Suspended:
		return "suspended"
	}
	return ""
}

// mostLeft is the longest time that is told: beyond it the rate says nothing about the end.
const mostLeft = 100 * 24 * time.Hour

// timeLeft is how long a job takes at n bytes a second, if that can be told.
func timeLeft(p bits.Progress, n int64) (time.Duration, bool) {
	left := int64(p.BytesTotal) - p.BytesTransferred
	if p.BytesTotal < 0 || left <= 0 || n <= 0 {
		return 0, false
	}
	seconds := float64(left) / float64(n)
	return time.Duration(seconds * float64(time.Second)), seconds < mostLeft.Seconds()
}

// meterSpan is the time over which a rate is measured: long enough to be calm, short enough
// to follow.
const meterSpan = 5 * time.Second

// meter measures a rate from counts of bytes.
type meter struct {
	samples []sample
}

type sample struct {
	at    time.Time
	bytes int64
}

func (m *meter) add(at time.Time, bytes int64) {
	if n := len(m.samples); n > 0 && bytes < m.samples[n-1].bytes {
		m.samples = nil // it was started again
	}
	m.samples = append(m.samples, sample{at, bytes})
	for len(m.samples) > 2 && at.Sub(m.samples[1].at) >= meterSpan {
		m.samples = m.samples[1:]
	}
}

func (m *meter) perSecond() int64 {
	n := len(m.samples)
	if n < 2 {
		return 0
	}
	first, last := m.samples[0], m.samples[n-1]
	d := last.at.Sub(first.at)
	if d <= 0 {
		return 0
	}
	return int64(float64(last.bytes-first.bytes) / d.Seconds())
}
