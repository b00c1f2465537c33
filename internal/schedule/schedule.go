// Package schedule decides who runs now. It is pure: the decision follows from the jobs it was
// told of, the limits and the time it is given; it starts nothing, stops nothing and reads no
// clock.
//
// The rules are client.md 4.1: all foreground jobs run; besides them one background level at a
// time, the highest that has work; inside a level the jobs take turns, each for a time slice,
// and only when another job of that level waits.
package schedule

import (
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
	where  map[int64]bits.Priority // lane of each job
	pinned map[int64]bool
}

// lane is one priority level: the running jobs and, first come first served, the waiting ones.
type lane struct {
	running []entry
	waiting []int64         // may hold numbers that are no longer in the lane, or twice
	tickets map[int64]int64 // number -> position in the order of arrival; only for waiting jobs
	first   int64           // position of waiting[0]
}

type entry struct {
	num   int64
	since time.Time // start of its slice
}

// New returns a Scheduler without jobs.
func New(l Limits) *Scheduler {
	s := &Scheduler{limits: l, where: map[int64]bits.Priority{}, pinned: map[int64]bool{}}
	for p := range s.lanes {
		s.lanes[p].tickets = map[int64]int64{}
	}
	return s
}

// SetLimits changes the limits from the next Plan on.
func (s *Scheduler) SetLimits(l Limits) { s.limits = l }

// Add says that a job wants to run at a priority. A job that is known at this priority keeps
// its place.
func (s *Scheduler) Add(num int64, p bits.Priority) {
	if old, ok := s.where[num]; ok {
		if old == p {
			return
		}
		s.Remove(num)
	}
	s.where[num] = p
	s.lanes[p].push(num)
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
	p, ok := s.where[num]
	if !ok {
		return
	}
	delete(s.where, num)
	delete(s.pinned, num)
	l := &s.lanes[p]
	delete(l.tickets, num)
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
		if len(l.running) == 0 && len(l.tickets) == 0 {
			continue
		}
		taken = true
		l.trim(s.limits.Background)
		l.fill(s.limits.Background, now)
		l.rotate(now, s.limits.Slice, s.pinned)
		run = l.appendRunning(run)
		if len(l.tickets) > 0 {
			for _, e := range l.running {
				end := e.since.Add(s.limits.Slice)
				if s.pinned[e.num] && !end.After(now) {
					end = now.Add(pinnedLook)
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

// push puts a job at the end of the waiting ones.
func (l *lane) push(num int64) {
	if len(l.waiting) > 2*len(l.tickets)+64 { // mostly jobs that left and came again
		l.compact()
	}
	l.tickets[num] = l.first + int64(len(l.waiting))
	l.waiting = append(l.waiting, num)
}

// compact drops what is no longer in the lane.
func (l *lane) compact() {
	kept := l.waiting[:0]
	for i, num := range l.waiting {
		if t, in := l.tickets[num]; in && t == l.first+int64(i) {
			l.tickets[num] = l.first + int64(len(kept))
			kept = append(kept, num)
		}
	}
	l.waiting = kept
}

// pushFront puts a job before the waiting ones.
func (l *lane) pushFront(num int64) {
	l.first--
	l.tickets[num] = l.first
	l.waiting = append([]int64{num}, l.waiting...)
}

// pop takes the first waiting job.
func (l *lane) pop() (num int64, ok bool) {
	for len(l.waiting) > 0 {
		num, at := l.waiting[0], l.first
		l.waiting = l.waiting[1:]
		l.first++
		if t, in := l.tickets[num]; in && t == at {
			delete(l.tickets, num)
			return num, true
		}
	}
	return 0, false
}

// fill starts waiting jobs until n run.
func (l *lane) fill(n int, now time.Time) {
	for len(l.running) < n {
		num, ok := l.pop()
		if !ok {
			return
		}
		l.running = append(l.running, entry{num, now})
	}
}

// trim stops the newest running jobs until n run.
func (l *lane) trim(n int) {
	for len(l.running) > n {
		last := len(l.running) - 1
		l.pushFront(l.running[last].num)
		l.running = l.running[:last]
	}
}

// preempt stops all running jobs; they are first when the level's turn comes again.
func (l *lane) preempt() { l.trim(0) }

// rotate gives the places of jobs whose slice is over to waiting ones.
func (l *lane) rotate(now time.Time, slice time.Duration, pinned map[int64]bool) {
	for i := 0; i < len(l.running) && len(l.tickets) > 0; i++ {
		if now.Sub(l.running[i].since) < slice || pinned[l.running[i].num] {
			continue
		}
		old := l.running[i].num
		num, ok := l.pop()
		if !ok {
			return
		}
		l.running[i] = entry{num, now}
		l.push(old)
	}
}

func (l *lane) appendRunning(run []int64) []int64 {
	for _, e := range l.running {
		run = append(run, e.num)
	}
	return run
}
