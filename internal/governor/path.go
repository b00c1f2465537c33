package governor

import (
	"context"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// path is one bottleneck: what goes through one gateway in one direction shares a controller.
type path struct {
	g      *Governor
	route  route
	others *neighbour

	background, foreground meter
	made                   time.Time
	moved                  atomic.Int64 // when bytes last moved, in Unix nanoseconds

	mu              sync.Mutex
	room            sync.Cond              // signalled when a request may begin
	law             *control               // guarded by mu
	conns           map[*flow]struct{}     // guarded by mu: background connections with a request under way
	bases           map[netip.Addr]float64 // guarded by mu: round-trip time of the empty path to each server
	idle            *time.Timer            // guarded by mu: to ask the law when nobody else does; nil while there is nothing to ask it for
	due             time.Time              // guarded by mu: when that goes off
	seen            sample                 // guarded by mu: since the last step
	used            time.Time              // guarded by mu: when a background request was last under way
	stepped, logged time.Time              // guarded by mu: when the law was asked, and when that was logged
}

func (p *path) count(class Class, n int) {
	p.moved.Store(time.Now().UnixNano())
	if class == Foreground {
		p.foreground.total.Add(int64(n))
		return
	}
	p.background.total.Add(int64(n))
}

// quiet reports whether the path was neither used nor made in the last d.
func (p *path) quiet(d time.Duration) bool { return time.Since(p.made) > d && !p.inUse(d) }

// inUse reports whether something moved, or was about to, in the last d.
func (p *path) inUse(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) > 0 || time.Since(p.used) < d || time.Since(time.Unix(0, p.moved.Load())) < d
}

// remember notes what was learned of the path to each server.
func (p *path) remember() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for server, base := range p.bases {
		p.g.known.put(p.route, server, memory{base, p.law.capacity})
	}
}

// slots is how many requests may be under way at once: each needs a window of its own of at
// least two segments.
func (p *path) slots() int {
	return max(1, int(p.law.window/(4*segment)))
}

// begin waits for room and opens the connection's window.
func (p *path) begin(ctx context.Context, f *flow) error {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.room.Broadcast()
	})
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.conns) >= p.slots() {
		if _, mine := p.conns[f]; mine { // another stream of the same connection
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.room.Wait()
	}
	f.requests++
	if f.requests > 1 {
		return nil
	}
	if len(p.conns) == 0 && time.Since(p.used) > relearnAfter {
		p.law = newControl(p.law.memory())
	}
	p.conns[f] = struct{}{}
	p.used = time.Now()
	f.last = f.read()
	f.rtt, f.edges, f.looked = 0, nil, time.Now()
	f.allow(p.law.share(len(p.conns)))
	if p.idle == nil {
		p.idle, p.due = time.AfterFunc(watchEvery, p.watch), time.Now().Add(watchEvery)
	}
	return nil
}

// relearnAfter is how long a pause makes what was seen of the path's queue worthless; its base
// and capacity are kept.
const relearnAfter = 2 * time.Second

func (p *path) end(f *flow, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.requests == 0 {
		return
	}
	f.requests--
	if f.requests == 0 || closed {
		if p.route.up {
			p.look(f, time.Now())
		}
		f.requests = 0
		delete(p.conns, f)
		p.used = time.Now()
		p.room.Broadcast()
	}
}

// restAfter is how long the path is watched after its last request.
const restAfter = 250 * time.Millisecond

// watchEvery is after how long the law is asked though nothing arrived.
const watchEvery = 100 * time.Millisecond

// watch asks the law when nobody else did for long, as long as there are requests.
func (p *path) watch() {
	if p.watched(time.Now()) {
		p.remember()
		p.g.known.saveSoon()
	}
}

// watched reports whether there is nothing to watch for now.
func (p *path) watched(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := watchEvery
	switch gap := now.Sub(p.stepped); {
	case len(p.conns) == 0 && now.Sub(p.used) >= restAfter:
		p.idle = nil
		return true
	case len(p.conns) == 0:
	case gap < watchEvery:
		// The timer is not put off at each step: that costs the runtime a wake-up each time.
		wait = max(watchEvery-gap, watchEvery/10)
	default:
		p.seen.late = p.seen.late || now.Sub(p.due) > tooLate
		if p.route.up {
			for f := range p.conns {
				p.look(f, now)
			}
		}
		p.step(now)
	}
	p.due = now.Add(wait)
	p.idle.Reset(wait)
	return false
}

// arrived takes in what a connection received and returns how long what comes next may wait.
func (p *path) arrived(f *flow) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, active := p.conns[f]; !active {
		f.clamp(listenFirst) // the kernel makes it larger when it makes the buffer so
		return 0
	}
	if f.conn.late {
		p.seen.late, f.conn.late = true, false
	}
	p.ask(f, time.Now())
	wait := p.law.period()
	if f.last.timestamps {
		// A single segment is acknowledged when it is read, or 40 ms after it came.
		wait = max(wait, min(p.law.listenEvery(len(p.conns)), mostUnread))
	}
	return time.Duration(wait * float64(time.Second))
}

// ask looks at a flow, asks the law if it is time to, and gives the flow its share; p.mu is held.
func (p *path) ask(f *flow, now time.Time) {
	p.look(f, now)
	p.seen.torn = p.seen.torn || time.Since(now) > tornAfter
	if now.Sub(p.stepped) >= stepEvery {
		p.step(now)
	}
	f.allow(p.law.share(len(p.conns)))
}

// tornAfter is how long reading what the kernel tells may take.
const tornAfter = 300 * time.Microsecond

// stepEvery is the least time between two steps of the law.
const stepEvery = time.Duration(0.8 * tick * float64(time.Second))

// step asks the law with what was seen since the last time; p.mu is held.
func (p *path) step(now time.Time) {
	p.others.look(now)
	caps := p.g.caps.Load()
	s := p.seen
	p.seen = sample{}
	s.now = now.Sub(p.g.start).Seconds() + 1
	s.others = p.others.rate()
	s.cap = -1
	if caps.Background >= 0 && (!caps.LANExempt || !p.route.local) {
		s.cap = float64(caps.Background)
	}
	if p.route.up {
		s.up = true
		paced := math.Inf(1)
		for f := range p.conns {
			paced = min(paced, f.gap())
			s.flight += float64(f.written - f.last.bytes - f.last.unsent)
			s.slack += 2 * max(float64(f.last.mss), segment)
		}
		s.pair = p.law.pairWait(paced)
	}
	for f := range p.conns {
		if !p.route.up && !f.last.timestamps {
			s.pair = p.law.pairArrives()
		}
	}
	before, phase := p.slots(), p.law.phase
	p.law.step(s)
	p.stepped = now
	if p.law.phase != phase || now.Sub(p.logged) >= logEvery {
		p.logged = now
		p.trace(s)
	}
	if p.slots() > before {
		p.room.Broadcast()
	}
}

// logEvery is how often the law's state is logged besides at changes.
const logEvery = 100 * time.Millisecond

func (p *path) trace(s sample) {
	if !p.g.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	l, ms := p.law, func(s float64) float64 { return math.Round(s*1e5) / 100 }
	p.g.log.Debug("pace", "path", p.route, "phase", l.phase, "window", int(l.window), "rate", int(l.rate(0.1)), "capacity", int(l.capacity),
		"base", ms(l.base), "rtt", ms(s.rtt), "queue", ms(l.queue), "sudden", ms(l.sudden), "spread", ms(l.z.spread()), "quiet", ms(l.z.p10), "pair", ms(l.pair), "hold", l.hold, "failures", l.failures, "others", int(s.others), "connections", len(p.conns))
}

// look reads what the kernel tells of a flow and adds it to what was seen.
func (p *path) look(f *flow, now time.Time) {
	before, since := f.last, f.looked
	r := f.read()
	f.looked = now
	segments := int(r.segments - before.segments)
	p.seen.bytes += float64(r.bytes - before.bytes)
	p.seen.lost += int(r.lost - before.lost)
	if p.route.up {
		p.others.own.Add(r.sent - before.sent)
	}
	f.last = r
	if segments == 0 {
		return
	}
	if p.route.up {
		if rtt := average(before.rtt, r.rtt, segments); rtt > 0 && r.bytes > before.bytes {
			p.add(f, rtt)
		}
		return
	}
	if !r.timestamps {
		if rtt := f.byWindow(before.bytes, since, r, now); rtt > 0 {
			p.seen.coarse = coarse
			p.add(f, rtt)
		}
		return
	}
	est := r.rtt
	switch {
	case est > 0 && est > r.handshake-2*leastRTT:
	case r.handshake < 2*leastRTT:
		est = leastRTT // below it the clock of TCP's timestamps shows nothing
	default:
		return // not measured yet
	}
	est = max(est, leastRTT)
	rtt := newest(f.rtt, est)
	f.rtt = est
	if rtt > 0 {
		p.add(f, rtt)
	}
}

// maxServers bounds the servers of a path whose distance is known.
const maxServers = 256

// add takes in a round-trip time that a connection saw.
func (p *path) add(f *flow, rtt float64) {
	server := f.conn.remote
	rtt = max(rtt, leastRTT)
	base := p.bases[server]
	if base == 0 || rtt < base {
		if len(p.bases) >= maxServers {
			clear(p.bases)
		}
		base = rtt
		p.bases[server] = base
	}
	if p.law.base > 0 && len(p.bases) > 1 {
		// What counts is the wait in the queue, which all share, not how far a server is.
		rtt += p.law.base - p.law.shift - base
	}
	if p.seen.rtt == 0 || rtt < p.seen.rtt {
		p.seen.rtt = rtt
	}
}

// describe returns what others see of the path.
func (p *path) describe(caps Caps) bits.Path {
	now := time.Now()
	d := bits.Path{
		Name: p.route.String(), Interface: p.route.device, Server: p.route.server(),
		Background: p.background.perSecond(now), Foreground: p.foreground.perSecond(now),
		Signals: []string{},
	}
	if p.others.known() {
		n := max(0, int64(p.others.rate())-d.Foreground) // the law counts the foreground among others
		d.Others = &n
		d.Signals = append(d.Signals, "interface_counters")
	}
	if caps.Background >= 0 && (!caps.LANExempt || !p.route.local) {
		n := caps.Background
		d.Limit = &n
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d.State, d.Why = p.law.pace()
	switch {
	case len(p.conns) > 0:
	case d.Background > 0:
		d.State, d.Why = bits.PaceUnrestricted, ungoverned
	default:
		d.State, d.Why = bits.PaceUnrestricted, "no background transfer uses the path now"
	}
	d.Connections = len(p.conns)
	for f := range p.conns {
		s := "rcv_rtt"
		switch {
		case p.route.up:
			s = "rtt"
		case !f.last.timestamps:
			s = "window_rate"
		}
		if !slices.Contains(d.Signals, s) {
			d.Signals = append(d.Signals, s)
		}
	}
	slices.Sort(d.Signals)
	d.Capacity = int64(p.law.capacity)
	d.Window = int64(p.law.window)
	ms := func(s float64) float64 { return math.Round(s*1e5) / 100 }
	d.BaseRTT, d.Queue = ms(p.law.base), ms(p.law.queue)
	d.RTT = ms(p.law.base + p.law.queue + p.law.z.p10)
	return d
}
