package link

import (
	"math"
	"time"
)

// queue is where packets wait for the link.
type queue interface {
	push(p *Packet, now time.Duration)
	pop(now time.Duration) *Packet // nil when nothing waits
	bytes() int
}

// ring is a queue of packets without a limit.
type ring struct {
	packets []*Packet
	first   int
	n       int
}

func (r *ring) push(p *Packet) {
	if r.n == len(r.packets) {
		bigger := make([]*Packet, max(64, 2*r.n))
		for i := range r.n {
			bigger[i] = r.packets[(r.first+i)%len(r.packets)]
		}
		r.packets, r.first = bigger, 0
	}
	r.packets[(r.first+r.n)%len(r.packets)] = p
	r.n++
}

func (r *ring) head() *Packet {
	if r.n == 0 {
		return nil
	}
	return r.packets[r.first]
}

func (r *ring) pop() *Packet {
	p := r.head()
	if p != nil {
		r.packets[r.first] = nil
		r.first = (r.first + 1) % len(r.packets)
		r.n--
	}
	return p
}

// dropTail is one queue that drops what does not fit.
type dropTail struct {
	ring
	size, limit int
	drop        func(p *Packet, at time.Duration)
}

func (q *dropTail) push(p *Packet, now time.Duration) {
	if q.size+len(p.Data) > q.limit {
		q.drop(p, now)
		return
	}
	q.size += len(p.Data)
	q.ring.push(p)
}

func (q *dropTail) pop(time.Duration) *Packet {
	p := q.ring.pop()
	if p != nil {
		q.size -= len(p.Data)
	}
	return p
}

func (q *dropTail) bytes() int { return q.size }

// coDel is a queue under RFC 8289.
type coDel struct {
	dropTail
	control
}

func (q *coDel) pop(now time.Duration) *Packet { return q.control.pop(&q.dropTail, now) }

// Constants of RFC 8289.
const (
	codelTarget   = 5 * time.Millisecond
	codelInterval = 100 * time.Millisecond
)

// control is the state of CoDel, with the names of RFC 8289.
type control struct {
	firstAbove time.Duration // when the wait will have been too long for an interval, 0: it is not
	dropNext   time.Duration
	count      int
	lastCount  int
	dropping   bool
}

// pop is "deque" of RFC 8289, section 5.5.
func (c *control) pop(q *dropTail, now time.Duration) *Packet {
	p, tooLong := c.take(q, now)
	switch {
	case c.dropping && !tooLong:
		c.dropping = false
	case c.dropping:
		for c.dropping && now >= c.dropNext {
			q.drop(p, now)
			c.count++
			if p, tooLong = c.take(q, now); !tooLong {
				c.dropping = false
			} else {
				c.dropNext = c.law(c.dropNext)
			}
		}
	case tooLong:
		q.drop(p, now)
		p, _ = c.take(q, now)
		c.dropping = true
		// It was dropping a moment ago: go on with nearly the rate that was needed then.
		delta := c.count - c.lastCount
		c.count = 1
		if delta > 1 && now-c.dropNext < 16*codelInterval {
			c.count = delta
		}
		c.dropNext = c.law(now)
		c.lastCount = c.count
	}
	return p
}

// take is "dodeque": the head, and whether waits have been too long for an interval.
func (c *control) take(q *dropTail, now time.Duration) (*Packet, bool) {
	p := q.pop(now)
	if p == nil {
		c.firstAbove = 0
		return nil, false
	}
	if now-p.arrived < codelTarget || q.size <= MTU {
		c.firstAbove = 0
		return p, false
	}
	if c.firstAbove == 0 {
		c.firstAbove = now + codelInterval
		return p, false
	}
	return p, now >= c.firstAbove
}

func (c *control) law(t time.Duration) time.Duration {
	return t + time.Duration(float64(codelInterval)/math.Sqrt(float64(c.count)))
}

// fair gives every flow a queue of its own and serves them by turns (RFC 8290). Flows are told
// apart exactly, not by a hash.
type fair struct {
	limit, size int
	drop        func(p *Packet, at time.Duration)
	controlled  bool // by CoDel
	flows       map[Flow]*flowQueue
	fresh, old  []*flowQueue
}

// flowQueue is the queue of one flow.
type flowQueue struct {
	dropTail
	control
	flow   Flow
	credit int  // bytes that the flow may still send in its turn
	listed bool // in fresh or old
}

func (f *fair) bytes() int { return f.size }

func (f *fair) push(p *Packet, now time.Duration) {
	q := f.flows[p.Flow]
	if q == nil {
		q = &flowQueue{flow: p.Flow}
		q.limit = math.MaxInt
		q.drop = func(p *Packet, at time.Duration) { // by CoDel
			f.size -= len(p.Data)
			f.drop(p, at)
		}
		f.flows[p.Flow] = q
	}
	q.push(p, now)
	f.size += len(p.Data)
	if !q.listed {
		q.listed, q.credit = true, MTU
		f.fresh = append(f.fresh, q)
	}
	for f.size > f.limit {
		longest := q
		for _, other := range f.flows {
			if other.size > longest.size {
				longest = other
			}
		}
		head := longest.dropTail.pop(now)
		f.size -= len(head.Data)
		f.drop(head, now)
	}
}

func (f *fair) pop(now time.Duration) *Packet {
	for {
		list := &f.fresh
		if len(*list) == 0 {
			list = &f.old
		}
		if len(*list) == 0 {
			return nil
		}
		q := (*list)[0]
		if q.credit <= 0 {
			q.credit += MTU
			f.move(list)
			continue
		}
		var p *Packet
		if f.controlled {
			p = q.control.pop(&q.dropTail, now)
		} else {
			p = q.dropTail.pop(now)
		}
		if p == nil {
			// An empty fresh flow goes to the end of the old ones, so that it gains nothing by
			// coming and going.
			if list == &f.fresh && len(f.old) > 0 {
				f.move(list)
				continue
			}
			*list = (*list)[1:]
			q.listed = false
			if !f.controlled {
				delete(f.flows, q.flow)
			}
			continue
		}
		q.credit -= len(p.Data)
		f.size -= len(p.Data)
		return p
	}
}

// move puts the first flow of a list at the end of the old flows.
func (f *fair) move(list *[]*flowQueue) {
	q := (*list)[0]
	*list = (*list)[1:]
	f.old = append(f.old, q)
}
