// Package schedule decides who runs now. It is pure: the decision follows from the jobs it was
// told of, the limits and the time it is given; it starts nothing, stops nothing and reads no
// clock.
//
// The rules are client.md 4.1: all foreground jobs run; besides them one background level at a
// time, the highest that has work; inside a level the users take turns, and the jobs of each of
// them, each for a time slice, and only when another job of that level waits. So who has many
// jobs is served no more than who has one.
package schedule

import (
	"slices"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// Limits are the numbers that policy sets.
type Limits struct {
	Foreground int           // foreground jobs at once, at least 1
	Background int           // background jobs at once, at least 1
	Slice      time.Duration // how long a background job runs while another of its level waits
}

// Scheduler holds the jobs that want to run, identified by number. It is not safe for use by
// several goroutines. Adding and removing take constant time, so that a queue of 100,000 jobs
// costs nothing.
type Scheduler struct {
	limits Limits
	lanes  [bits.Priorities]lane
	where  map[int64]place
	pinned map[int64]bool
}

// place is where a job is: whose it is, and in which lane.
type place struct {
	user  uint32
	level bits.Priority
}

// lane is one priority level: the running jobs, and the waiting ones of each user.
type lane struct {
	running []entry
	turns   []*line          // users with waiting jobs; the first has waited the longest
	lines   map[uint32]*line // the same by user
}

// line is the waiting jobs of a user in a lane, first come first served.
type line struct {
	user    uint32
	waiting []int64         // may hold numbers that are no longer in the line, or twice
	tickets map[int64]int64 // number -> position in the order of arrival; only for waiting jobs
	first   int64           // position of waiting[0]
}

type entry struct {
	num   int64
	user  uint32
	since time.Time // start of its slice
}

// New returns a Scheduler without jobs.
func New(l Limits) *Scheduler {
	s := &Scheduler{limits: l, where: map[int64]place{}, pinned: map[int64]bool{}}
	for p := range s.lanes {
		s.lanes[p].lines = map[uint32]*line{}
	}
	return s
}

// SetLimits changes the limits from the next Plan on.
func (s *Scheduler) SetLimits(l Limits) { s.limits = l }

// Add says that a job of a user wants to run at a priority. A job that is known as that user's at
// this priority keeps its place.
func (s *Scheduler) Add(num int64, user uint32, p bits.Priority) {
	at := place{user, p}
	if old, ok := s.where[num]; ok {
		if old == at {
			return
		}
		s.Remove(num)
	}
	s.where[num] = at
	s.lanes[p].line(user).push(num)
}

// Pin says whether a running job should keep its turn although its slice is over, because it
// would have to start its file again. A higher level still preempts it.
func (s *Scheduler) Pin(num int64, pinned bool) {
	if pinned {
		s.pinned[num] = true
	} else {
		delete(s.pinned, num)
	}
}

// Remove says that a job no longer wants to run.
func (s *Scheduler) Remove(num int64) {
	at, ok := s.where[num]
	if !ok {
		return
	}
	delete(s.where, num)
	delete(s.pinned, num)
	l := &s.lanes[at.level]
	if waits := l.lines[at.user]; waits != nil {
		delete(waits.tickets, num)
		l.drop(waits)
	}
	for i, e := range l.running {
		if e.num == num {
			l.running = append(l.running[:i], l.running[i+1:]...)
			return
		}
	}
}

// Plan returns the jobs that should run from now on, and when to ask again if nothing else
// happens before (zero: no need). A job that is told to stop goes to the end of its level if
// its slice is over, and keeps the first place if it was preempted.
func (s *Scheduler) Plan(now time.Time) (run []int64, next time.Time) {
	fg := &s.lanes[bits.Foreground]
	fg.trim(s.limits.Foreground)
	fg.fill(s.limits.Foreground, now)
	run = fg.appendRunning(run)

	taken := false // a higher level has work
	for p := bits.High; p <= bits.Low; p++ {
		l := &s.lanes[p]
		if taken {
			l.preempt()
			continue
		}
		if len(l.running) == 0 && len(l.turns) == 0 {
			continue
		}
		taken = true
		l.trim(s.limits.Background)
		l.fill(s.limits.Background, now)
		l.rotate(now, s.limits.Slice, s.pinned)
		run = l.appendRunning(run)
		if len(l.turns) > 0 {
			for _, e := range l.running {
				end := e.since.Add(s.limits.Slice)
				switch over := !end.After(now); {
				case over && s.pinned[e.num]:
					end = now.Add(pinnedLook)
				case over:
					continue // all who wait belong to users with as many running jobs
				}
				if next.IsZero() || end.Before(next) {
					next = end
				}
			}
		}
	}
	return run, next
}

// pinnedLook is how soon a job that kept its turn beyond its slice is looked at again.
const pinnedLook = time.Second

// line returns a user's line, which is the last to be served if it is new.
func (l *lane) line(user uint32) *line {
	w := l.lines[user]
	if w == nil {
		w = &line{user: user, tickets: map[int64]int64{}}
		l.lines[user] = w
		l.turns = append(l.turns, w)
	}
	return w
}

// drop forgets a line without jobs.
func (l *lane) drop(w *line) {
	if len(w.tickets) > 0 {
		return
	}
	delete(l.lines, w.user)
	l.turns = slices.DeleteFunc(l.turns, func(t *line) bool { return t == w })
}

// move gives a line another place among the turns.
func (l *lane) move(w *line, to int) {
	l.turns = slices.DeleteFunc(l.turns, func(t *line) bool { return t == w })
	l.turns = slices.Insert(l.turns, to, w)
}

// push puts a job at the end of the waiting ones.
func (w *line) push(num int64) {
	if len(w.waiting) > 2*len(w.tickets)+64 { // mostly jobs that left and came again
		w.compact()
	}
	w.tickets[num] = w.first + int64(len(w.waiting))
	w.waiting = append(w.waiting, num)
}

// compact drops what is no longer in the line.
func (w *line) compact() {
	kept := w.waiting[:0]
	for i, num := range w.waiting {
		if t, in := w.tickets[num]; in && t == w.first+int64(i) {
			w.tickets[num] = w.first + int64(len(kept))
			kept = append(kept, num)
		}
	}
	w.waiting = kept
}

// pushFront puts a job before the waiting ones.
func (w *line) pushFront(num int64) {
	w.first--
	w.tickets[num] = w.first
	w.waiting = append([]int64{num}, w.waiting...)
}

// pop takes the first waiting job.
func (w *line) pop() (num int64, ok bool) {
	for len(w.waiting) > 0 {
		num, at := w.waiting[0], w.first
		w.waiting = w.waiting[1:]
		w.first++
		if t, in := w.tickets[num]; in && t == at {
			delete(w.tickets, num)
			return num, true
		}
	}
	return 0, false
}

// runs returns how many jobs of a user run.
func (l *lane) runs(user uint32) int {
	n := 0
	for _, e := range l.running {
		if e.user == user {
			n++
		}
	}
	return n
}

// neediest returns the line that is served next: of the users with the fewest running jobs the one
// who has waited the longest; nil if no job waits.
func (l *lane) neediest() (next *line, runs int) {
	for _, w := range l.turns {
		if n := l.runs(w.user); next == nil || n < runs {
			next, runs = w, n
		}
		if runs == 0 {
			break
		}
	}
	return next, runs
}

// serve takes the first job of a line, which is the last to be served from then on.
func (l *lane) serve(w *line, now time.Time) (entry, bool) {
	num, ok := w.pop()
	l.move(w, len(l.turns)-1)
	l.drop(w)
	return entry{num, w.user, now}, ok
}

// fill starts waiting jobs until n run.
func (l *lane) fill(n int, now time.Time) {
	for len(l.running) < n {
		w, _ := l.neediest()
		if w == nil {
			return
		}
		if e, ok := l.serve(w, now); ok {
			l.running = append(l.running, e)
		}
	}
}

// trim stops the newest running jobs until n run.
func (l *lane) trim(n int) {
	for len(l.running) > n {
		last := l.running[len(l.running)-1]
		w := l.line(last.user)
		w.pushFront(last.num)
		l.move(w, 0)
		l.running = l.running[:len(l.running)-1]
	}
}

// preempt stops all running jobs; they are first when the level's turn comes again.
func (l *lane) preempt() { l.trim(0) }

// rotate gives the places of jobs whose slice is over to waiting ones: of a user with fewer running
// jobs or, if there is none, of the same user.
func (l *lane) rotate(now time.Time, slice time.Duration, pinned map[int64]bool) {
	for i := 0; i < len(l.running) && len(l.turns) > 0; i++ {
		old := l.running[i]
		if now.Sub(old.since) < slice || pinned[old.num] {
			continue
		}
		w, runs := l.neediest()
		if w == nil || runs >= l.runs(old.user) {
			if w = l.lines[old.user]; w == nil {
				continue
			}
		}
		e, ok := l.serve(w, now)
		if !ok {
			continue
		}
		l.running[i] = e
		w = l.line(old.user)
		w.push(old.num)
		l.move(w, len(l.turns)-1) // it was served until now
	}
}

func (l *lane) appendRunning(run []int64) []int64 {
	for _, e := range l.running {
		run = append(run, e.num)
	}
	return run
}
