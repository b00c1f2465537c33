package queue

import (
	"container/heap"
	"slices"
	"time"
)

// deadlines is the set of jobs that a timer must look at, earliest first. An entry counts only
// while it is the job's latest; older ones are dropped when they come up, or when they are the
// greater part.
type deadlines struct {
	h    deadlineHeap
	live int // entries that count
}

type deadline struct {
	at time.Time
	j  *job
}

type deadlineHeap []deadline

func (h deadlineHeap) Len() int           { return len(h) }
func (h deadlineHeap) Less(a, b int) bool { return h[a].at.Before(h[b].at) }
func (h deadlineHeap) Swap(a, b int)      { h[a], h[b] = h[b], h[a] }
func (h *deadlineHeap) Push(x any)        { *h = append(*h, x.(deadline)) }
func (h *deadlineHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = deadline{}
	*h = (*h)[:last]
	return d
}

// set gives the job another deadline; a zero time takes it away.
func (d *deadlines) set(j *job, at time.Time) {
	if j.deadline.Equal(at) {
		return
	}
	if !j.deadline.IsZero() {
		d.live--
	}
	j.deadline = at
	if at.IsZero() {
		return
	}
	d.live++
	heap.Push(&d.h, deadline{at, j})
	if len(d.h) > 2*d.live+64 {
		d.h = slices.DeleteFunc(d.h, func(e deadline) bool { return !e.at.Equal(e.j.deadline) })
		heap.Init(&d.h)
	}
}

func (d *deadlines) settle() {
	for len(d.h) > 0 && !d.h[0].at.Equal(d.h[0].j.deadline) {
		heap.Pop(&d.h)
	}
}

// next returns the earliest deadline.
func (d *deadlines) next() (time.Time, bool) {
	d.settle()
	if len(d.h) == 0 {
		return time.Time{}, false
	}
	return d.h[0].at, true
}

// pop removes and returns a job whose deadline has passed; nil if there is none.
func (d *deadlines) pop(now time.Time) *job {
	d.settle()
	if len(d.h) == 0 || d.h[0].at.After(now) {
		return nil
	}
	j := heap.Pop(&d.h).(deadline).j
	j.deadline = time.Time{}
	d.live--
	return j
}
