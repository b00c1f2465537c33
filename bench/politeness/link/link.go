// Package link emulates a network link in user space: a bottleneck with a rate, a queue, a
// propagation delay, jitter and random loss, of which each direction is a Direction. A Direction
// lives in virtual time: its owner tells it when packets arrive and asks what has come out, so that
// a test runs it without waiting. A Wire runs two of them in real time between two TUN devices.
//
// All times are durations since the owner's zero. A rate counts the bytes of IP packets with their
// headers and nothing of the layers below.
package link

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// MTU is the size of the largest packet, in bytes.
const MTU = 1500

// Discipline is how a queue chooses what leaves next and what is dropped.
type Discipline string

// The disciplines.
const (
	// DropTail is one queue that drops what arrives when it is full.
	DropTail Discipline = "drop-tail"
	// CoDel is one queue that keeps waiting times near 5 ms by dropping at its head (RFC 8289).
	CoDel Discipline = "codel"
	// FQ shares the rate fairly among flows (deficit round robin) and, when it is full, drops at
	// the head of the longest flow.
	FQ Discipline = "fq"
	// FQCoDel is FQ with CoDel on each flow's queue (RFC 8290).
	FQCoDel Discipline = "fq-codel"
	// Policer has no queue: a token bucket lets a packet pass at once or drops it.
	Policer Discipline = "policer"
)

// Config says what a direction is like.
type Config struct {
	Rate  int64         // bits per second, above 0
	Delay time.Duration // of propagation, after a packet has left the queue
	Queue Discipline
	Limit int // bytes that may wait, at least MTU; of a policer: how many may come at once
	// Jitter is the most that is added to Delay. What is added is drawn anew every 10 ms; packets
	// never overtake each other.
	Jitter time.Duration
	Loss   float64 // probability with which a packet is lost after the queue, from 0 to less than 1
	// Steps are changes of the rate, in order of time.
	Steps []Step
	Seed  uint64 // of chance
}

// Step is a change of the rate.
type Step struct {
	At   time.Duration
	Rate int64 // bits per second, above 0
}

// jitterHold is how long one draw of the jitter holds.
const jitterHold = 10 * time.Millisecond

// Packet is an IP packet on its way.
type Packet struct {
	Data    []byte
	Flow    Flow
	Payload int           // bytes above TCP or UDP
	arrived time.Duration // at the queue
	due     time.Duration // at the far end
}

// Meter is told what happens at the bottleneck.
type Meter interface {
	// Departed is told of a packet whose last bit has left the queue.
	Departed(p *Packet, at time.Duration)
	// Dropped is told of a packet that the queue has dropped, or that was lost by chance.
	Dropped(p *Packet, at time.Duration)
	// Queued is told how many bytes wait after an arrival or a departure.
	Queued(bytes int, at time.Duration)
}

// Direction is one direction of a link. It is not for concurrent use.
type Direction struct {
	cfg    Config
	steps  []Step // yet to come
	meter  Meter
	chance *rand.Rand

	queue   queue
	sending *Packet       // being serialized, nil when the link is idle
	sent    time.Duration // when the last bit of sending leaves
	free    time.Duration // when the one before had left, or when the link became busy

	tokens float64 // of the policer, bytes
	filled time.Duration

	line   ring // propagating
	extra  time.Duration
	redraw time.Duration // when extra is drawn anew
	last   time.Duration // due time of the packet that entered the line last

	spare []*Packet
}

// New returns a direction that is idle at time 0.
func New(cfg Config, meter Meter) (*Direction, error) {
	switch {
	case cfg.Rate <= 0:
		return nil, fmt.Errorf("the rate of a link is %d bit/s, want more than 0", cfg.Rate)
	case cfg.Limit < MTU:
		return nil, fmt.Errorf("the queue of a link holds %d bytes, want at least %d", cfg.Limit, MTU)
	case cfg.Loss < 0 || cfg.Loss >= 1:
		return nil, fmt.Errorf("the loss of a link is %v, want at least 0 and less than 1", cfg.Loss)
	}
	d := &Direction{cfg: cfg, steps: cfg.Steps, meter: meter, tokens: float64(cfg.Limit), chance: rand.New(rand.NewPCG(cfg.Seed, 1))}
	drop := func(p *Packet, at time.Duration) {
		meter.Dropped(p, at)
		d.recycle(p)
	}
	switch cfg.Queue {
	case DropTail, Policer:
		d.queue = &dropTail{limit: cfg.Limit, drop: drop}
	case CoDel:
		d.queue = &coDel{dropTail: dropTail{limit: cfg.Limit, drop: drop}}
	case FQ, FQCoDel:
		d.queue = &fair{limit: cfg.Limit, drop: drop, controlled: cfg.Queue == FQCoDel, flows: map[Flow]*flowQueue{}}
	default:
		return nil, fmt.Errorf("no queue discipline %q", cfg.Queue)
	}
	return d, nil
}

// Packet returns a packet with room for MTU bytes, to be filled and handed to Arrive.
func (d *Direction) Packet() *Packet {
	if n := len(d.spare); n > 0 {
		p := d.spare[n-1]
		d.spare = d.spare[:n-1]
		p.Data = p.Data[:cap(p.Data)]
		return p
	}
	return &Packet{Data: make([]byte, MTU)}
}

func (d *Direction) recycle(p *Packet) { d.spare = append(d.spare, p) }

// Arrive takes a packet that came at a time not before that of the call before.
func (d *Direction) Arrive(p *Packet, at time.Duration) {
	d.advance(at)
	p.arrived = at
	p.Flow, p.Payload = parse(p.Data)
	if d.cfg.Queue == Policer {
		d.police(p, at)
		return
	}
	if d.sending == nil {
		d.free = at
	}
	d.queue.push(p, at)
	d.advance(at)
	d.meter.Queued(d.queue.bytes(), at)
}

// Due returns a packet that has reached the far end and when it did, in order, and nil when there is
// none at that time. It is valid until Done.
func (d *Direction) Due(now time.Duration) (*Packet, time.Duration) {
	d.advance(now)
	if p := d.line.head(); p != nil && p.due <= now {
		return d.line.pop(), p.due
	}
	return nil, 0
}

// Done gives back a packet that came from Due.
func (d *Direction) Done(p *Packet) { d.recycle(p) }

// Next returns a time before which Due has nothing, if nothing more arrives. It is false when
// nothing is on its way.
func (d *Direction) Next() (time.Duration, bool) {
	if p := d.line.head(); p != nil {
		return p.due, true
	}
	if d.sending != nil {
		return d.sent + d.cfg.Delay, true
	}
	return 0, false
}

// advance carries out what happened until now.
func (d *Direction) advance(now time.Duration) {
	for {
		if d.sending == nil {
			if d.free > now {
				return
			}
			p := d.queue.pop(d.free)
			if p == nil {
				return
			}
			d.sending, d.sent = p, d.free+d.serialization(len(p.Data), d.free)
		}
		if d.sent > now {
			return
		}
		p := d.sending
		d.sending, d.free = nil, d.sent
		d.depart(p, d.sent)
		d.meter.Queued(d.queue.bytes(), d.sent)
	}
}

// serialization returns how long a packet takes that begins at a time.
func (d *Direction) serialization(n int, at time.Duration) time.Duration {
	return time.Duration(int64(n) * 8 * int64(time.Second) / d.rate(at))
}

// rate returns the rate at a time that never goes back.
func (d *Direction) rate(at time.Duration) int64 {
	for len(d.steps) > 0 && d.steps[0].At <= at {
		d.cfg.Rate, d.steps = d.steps[0].Rate, d.steps[1:]
	}
	return d.cfg.Rate
}

// police lets a packet pass or drops it.
func (d *Direction) police(p *Packet, at time.Duration) {
	d.tokens = min(float64(d.cfg.Limit), d.tokens+(at-d.filled).Seconds()*float64(d.rate(at))/8)
	d.filled = at
	if d.tokens < float64(len(p.Data)) {
		d.meter.Dropped(p, at)
		d.recycle(p)
		return
	}
	d.tokens -= float64(len(p.Data))
	d.depart(p, at)
}

// depart puts a packet on the line.
func (d *Direction) depart(p *Packet, at time.Duration) {
	d.meter.Departed(p, at)
	if d.cfg.Loss > 0 && d.chance.Float64() < d.cfg.Loss {
		d.meter.Dropped(p, at)
		d.recycle(p)
		return
	}
	if d.cfg.Jitter > 0 && at >= d.redraw {
		d.extra = time.Duration(d.chance.Int64N(int64(d.cfg.Jitter) + 1))
		d.redraw = at + jitterHold
	}
	d.last = max(d.last, at+d.cfg.Delay+d.extra)
	p.due = d.last
	d.line.push(p)
}
