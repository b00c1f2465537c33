package governor

import (
	"fmt"
	"math"
	"slices"

	"github.com/ebbtransfer/ebb/bits"
)

// The constants of the control law. Times are in seconds, sizes in bytes.
const (
	segment      = 1448.0 // payload of a full packet
	tick         = 0.004  // how often the law is asked
	maxStep      = 0.030  // longest time that one step integrates over
	tau          = 0.0015 // the queue that we aim to keep ourselves
	margin       = 0.004  // queue beyond our own from which it is somebody else's
	gain         = 0.4    // kappa, in the time that it takes to see what came of a change
	gainLong     = 0.5    // the same in a round trip, while our own queue is long
	speedUp      = 1.15   // by which growth grows in a round trip without a queue
	speedUnsure  = 1.5    // the same while the path never had one
	farAway      = 0.06   // base from which what comes of a window is seen to come together
	together     = 0.020  // over how long that is looked at
	coarse       = 0.002  // how coarse round-trip times without timestamps are
	lossMargin   = 0.002  // queue beyond ours that, with a loss, is somebody else's
	suspicion    = 0.016  // how long an excess must last, at least
	maxDoubt     = 0.010  // the most that one sample says of how long an excess lasts
	suddenly     = 0.020  // over how long the shortest wait is taken to see that others came
	holdLeast    = 0.4    // quiet time before a return
	holdFirst    = 0.8    // the same when somebody has just come, who may not have found his pace
	holdMost     = 4.0    // the same after several returns that failed
	changedAfter = 5      // returns that fail at the same rate, until that is taken for the capacity
	calmAfter    = 1.5    // a return that lasts so long was right
	listenFirst  = 2 * segment
	mostWindow   = 1 << 30
	leastWindow  = 2 * segment
	saturated    = 0.9          // of the capacity
	dropLeast    = 0.03         // of the capacity: what else may be missing of it beside a queue
	dropMost     = 0.4          // the same where it was nobody several times
	takenLeast   = 6 * segment  // missing at least, that somebody is there
	takenFor     = 0.007        // for so long, at least
	takenTime    = 0.0007       // seconds of the capacity that must be missing at least
	takenSending = 0.0016       // the same while we send: what this machine pauses for is missing too
	pausing      = 0.3          // of the capacity: who is sent less has been kept waiting by something else
	madeUp       = 1.25         // of the capacity: who is sent more was kept waiting before
	spentLeast   = 0.95         // of the window under way: who sends less has paused
	longPause    = 0.05         // what lasts longer is no pause
	forgiveAfter = 60.0         // seconds without a step back, until less may be missing again
	burstMost    = 16 * segment // who begins sends fewer bytes at once
	growsFirst   = 0.15         // what a window from afar grows by in a round trip, of what fills the path: at first
	growsFast    = 0.10         // the same when it comes back
	growsSlow    = 0.04         // the same where it was not plain that who was there has gone
	mostTogether = 0.03         // and in seconds of the path's rate, as what it grows by comes at once
	part         = 0.65         // of the capacity: what somebody else may leave us for good
)

// phase is what the law is doing.
type phase uint8

const (
	starting phase = iota // listening, then growing
	cruising              // holding our own queue near tau
	yielding              // stepped back; listening for quiet
	ramping               // coming back to a known capacity
)

func (p phase) String() string { return [...]string{"start", "cruise", "yield", "ramp"}[p] }

// sample is what was seen since the last tick.
type sample struct {
	now    float64 // seconds, of any clock that does not jump
	rtt    float64 // seconds; 0 if nothing arrived
	coarse float64 // how coarse the round-trip times are, in seconds
	pair   float64 // how much longer a round trip seems for segments being acknowledged in pairs, in seconds
	up     bool    // we send
	flight float64 // bytes that we sent and that were not acknowledged
	slack  float64 // bytes that may be under way less, as flows send pairs of segments
	bytes  float64 // received by all connections together, or acknowledged to them
	lost   int     // packets that came out of order, as they do after a loss, or were sent again
	torn   bool    // time passed while it was taken, so that bytes of a moment later may be in it
	late   bool    // the tick itself came late, so that what it sees may be our own delay
	others float64 // bytes per second that others on this machine move; 0 if none or unknown
	cap    float64 // ceiling in bytes per second; negative: none
}

// memory is what is worth knowing of a path the next time.
type memory struct {
	Base     float64 // round-trip time of the empty path
	Capacity float64 // bytes per second
}

// control is the control law for one bottleneck: a pure function of its samples. It sets window,
// the bytes that all background connections together may have under way, so that their own
// queue stays near tau, and any longer queue is somebody else's: then it steps back.
type control struct {
	window float64
	phase  phase
	why    reason

	up       bool // we send
	now      float64
	base     float64 // lowest round-trip time seen
	shift    float64 // how much longer than the lowest ever the path is now believed to be
	capacity float64 // payload bytes per second that the path was seen to carry
	z        quiet   // what a quiet path looks like
	coarse   float64 // of the newest sample
	pair     float64 // of the samples of the last round trip: what arrives now was sent as it was then
	sent     float64 // under way, while we send
	flight   float64 // the window, or what was under way of it where that is more
	wobble   float64 // how much the round-trip times of the quiet path varied when it varied least
	noise    float64 // slow mean of (rtt - least recent rtt) while calm
	queue    float64 // seconds, by the least of half a round trip
	sudden   float64 // the same, by that of the last moment
	gain     float64 // of the window, per round trip

	since       float64 // when the phase began
	graceUntil  float64
	suspect     float64 // how long there was an excess
	doubted     float64 // when one was last seen while ramping, if only by one sample
	stood       float64 // how long ramping waited for that to be settled
	plain       bool    // a queue stood for long while yielding
	grows       float64 // in a round trip of ramping from afar, of what fills the path
	taken       float64 // bytes that others seem to have got
	takenSince  float64 // since when they are too many
	arrived     float64 // when what came was last counted, in cruising
	counted     float64 // of total then
	starved     float64 // for how long nearly nothing came
	pausedUntil float64 // until when missing bytes tell nothing
	drop        float64 // part of the capacity that may be missing without anybody
	forgiven    float64 // when that last became less by itself
	dropped     bool    // the last step back was for missing bytes
	whole       float64 // the capacity before that step back
	waited      float64 // when half of the bytes that tell of somebody were not missing yet
	bunched     float64 // when what we send was last not spaced out
	spaced      bool    // what arrives now was
	sampled     float64 // when a round-trip time was last seen
	growth      float64 // of the window per round trip while there is no queue
	lastLoss    float64
	lossWindow  float64
	held        holder // what else bounds the window
	local       bool   // others on this machine use much of the path

	hold                  float64
	shallow               float64 // least and greatest lower quartile of the queue while yielding
	deep                  float64
	busy                  float64 // since when a queue was seen all the time while yielding
	failures              int
	fails                 [3]float64 // rates at the last failed returns
	returned              float64    // when the last return began
	tried                 float64    // when the last forced return was tried
	patience              float64    // until the next forced return
	forced                bool
	saved                 quiet // z before a forced return
	savedBase, savedShift float64
	heard                 []heard   // while listening
	sorted                []float64 // scratch
	doubled               float64   // when the growth in starting was last looked at
	doubledAt             float64   // the rate then
	flat                  int       // round trips in which it did not grow
	burst, burstAt        float64   // the most that came together, and that at the last look
	steady                bool      // that did not grow in the last round trip
	unsure                bool      // no queue has confirmed the capacity yet
	known                 bool      // base and capacity come from memory

	ring  [1024]moment
	at    int // index of the newest moment
	count int
	total float64 // bytes in all
}

// quiet are percentiles of (rtt - base) on a path that nobody else uses.
type quiet struct{ p10, p25, p50, p75 float64 }

type moment struct{ now, total, rtt, window, pair float64 }

// holder is what bounds the window besides the queue.
type holder uint8

const (
	nobody holder = iota
	byLocal
	byPolicy
)

type reason uint8

const (
	whyListening reason = iota
	whyProbing
	whyIdle
	whyQueue
)

func newControl(m memory) *control {
	return &control{window: listenFirst, base: m.Base, capacity: m.Capacity, known: m.Base > 0 && m.Capacity > 0, hold: holdLeast, patience: 5, drop: dropLeast, unsure: true, why: whyListening}
}

// memory returns what to remember of the path.
func (c *control) memory() memory { return memory{c.base - c.shift, c.capacity} }

// step takes a sample and sets the window.
func (c *control) step(s sample) {
	longest := maxStep
	if c.far() {
		longest *= 2 // nothing comes between two bunches
	}
	dt := min(max(s.now-c.now, 0), longest)
	if c.now == 0 {
		dt = 0
		c.since, c.doubled = s.now, s.now
	}
	c.now, c.up = s.now, s.up
	c.local = s.others > 0.3*c.capacity
	c.record(s)
	if c.base == 0 {
		return // nothing came yet
	}
	long := c.stretch()
	span := long * max(0.5*c.base, 0.025)
	rtt := max(c.least(span, 3), c.base)
	c.gain = gain / (1 + span/c.base)
	if s.late {
		c.graceUntil = max(c.graceUntil, c.now+1.5*rtt)
	}
	c.pair = c.longestPair(1.2 * rtt)
	c.queue = max(0, rtt-c.base-c.still())
	span = suddenly
	need := max(suspicion, c.base/2)
	if s.pair == 0 {
		c.bunched = c.now
	}
	c.spaced = c.up && c.now-c.bunched > 1.2*rtt
	if c.phase != cruising && (c.phase != starting || !c.spaced) || c.phase == cruising && c.rate(1.1*rtt) < 0.95*c.capacity {
		// What is sent is bunched, and the end of a bunch waits for its beginning.
		span = max(span, 1.1*c.base)
		if c.far() {
			need = suspicion
		}
	}
	c.sudden = max(0, c.least(long*span, 2)-c.base-c.still())
	f := min(dt/(c.base+c.queue), 2) // round trips in this step
	rate := c.rate(4 * rtt)
	c.learnCapacity(rtt, rate, dt)
	switch c.phase {
	case starting:
		c.start(s, rtt, f)
	case cruising:
		c.cruise(s, rtt, rate, f, dt, need)
	case yielding:
		c.yield(s)
	case ramping:
		c.ramp(s, rtt, rate, f, dt)
	}
	c.bound(s)
}

// still returns how much longer than the shortest ever a round trip takes while no queue stands.
func (c *control) still() float64 { return max(c.z.p10, c.pair) }

// pairArrives returns how long two full segments take to come, in seconds. So much longer seems a round trip that
// is measured by the window, without any queue: the second segment moves its edge, and what it then allows is
// seen when the next pair is there.
func (c *control) pairArrives() float64 {
	if c.capacity == 0 {
		return 0
	}
	return min(2*segment/c.capacity, 2*tick)
}

// jitter returns how much round-trip times vary beyond what they do on a calm path, in seconds.
func (c *control) jitter() float64 { return max(0, max(c.noise, c.wobble)-0.0015) }

// stretch says how much longer than on a calm path one must look for the least round-trip time to
// tell a queue from jitter.
func (c *control) stretch() float64 { return 1 + min(c.jitter()/0.0015, 5) }

// aim returns the queue that we aim to keep ourselves: the least of jittery times is not the path's.
func (c *control) aim() float64 { return tau + min(0.3*c.jitter(), 0.003) }

// record notes a sample.
func (c *control) record(s sample) {
	if s.rtt > 0 {
		c.coarse = s.coarse
		if c.base > s.rtt && c.capacity > 0 {
			// A short packet passes sooner than two full ones; what those take stays quiet.
			c.z = c.z.shift(min(c.base-s.rtt, 2*segment/c.capacity))
		}
		if c.base == 0 || s.rtt < c.base {
			c.base = s.rtt
		}
	}
	c.total += s.bytes
	c.at = (c.at + 1) % len(c.ring)
	c.count = min(c.count+1, len(c.ring))
	c.sent, c.flight = s.flight, max(c.window, s.flight)
	c.ring[c.at] = moment{s.now, c.total, s.rtt, c.flight, s.pair}
}

// back calls f for the moments of the last d seconds, newest first, until it returns false.
func (c *control) back(d float64, f func(*moment) bool) {
	for i := range c.count {
		m := &c.ring[(c.at-i+len(c.ring))%len(c.ring)]
		if i > 0 && c.now-m.now > d || !f(m) {
			return
		}
	}
}

// least returns the lowest round-trip time of the last d seconds, or of more if it takes that to
// have n samples; base if none was seen.
func (c *control) least(d float64, n int) float64 {
	lo := math.Inf(1)
	c.back(max(d, 3*c.base), func(m *moment) bool {
		if m.rtt > 0 {
			lo = min(lo, m.rtt)
			n--
		}
		return c.now-m.now < d || n > 0
	})
	if math.IsInf(lo, 1) {
		return c.base
	}
	return lo
}

// rate returns the bytes per second of the last d seconds.
func (c *control) rate(d float64) float64 {
	d = max(d, 5*tick)
	var first *moment
	c.back(d, func(m *moment) bool { first = m; return true })
	if first == nil || c.now <= first.now {
		return 0
	}
	return (c.total - first.total) / max(c.now-first.now, d/2)
}

// largest returns the largest window of the last d seconds.
func (c *control) largest(d float64) float64 {
	w := 0.0
	c.back(d, func(m *moment) bool { w = max(w, m.window); return true })
	return w
}

// learnCapacity follows what the path carries: up at once, but not for a burst, and down slowly
// while we fill it undisturbed.
func (c *control) learnCapacity(rtt, rate, dt float64) {
	if c.phase != starting && c.phase != cruising {
		return
	}
	if sure := min(c.rate(max(4*rtt, 0.1)), c.rate(max(8*rtt, 0.2))); sure > c.capacity {
		c.capacity = sure
		return
	}
	calm := c.phase == cruising && c.suspect == 0 && c.now-c.since > 1 && c.held == nobody && c.now-c.arrived < max(2*maxDoubt, 4*rtt)
	under := c.window
	if c.up {
		under = c.sent
	}
	if full := under >= saturated*c.capacity*c.base || c.queue > tau/2; calm && full {
		c.capacity += (rate - c.capacity) * dt / 10
	}
}

// longestPair returns the longest wait for the second of two segments in the last d seconds.
func (c *control) longestPair(d float64) float64 {
	p := 0.0
	c.back(d, func(m *moment) bool { p = max(p, m.pair); return true })
	return p
}

func (c *control) to(p phase, why reason) {
	c.phase, c.why, c.since = p, why, c.now
	c.suspect, c.taken, c.takenSince, c.waited = 0, 0, math.Inf(1), c.now
	c.heard = c.heard[:0]
	c.busy = c.now
	c.shallow, c.deep = math.Inf(1), 0
	c.plain = false
}

// start listens, then grows the window until something shows that the path is full.
func (c *control) start(s sample, rtt, f float64) {
	if c.why == whyListening {
		c.window = listenFirst
		if s.rtt > 0 {
			c.hear(s.rtt, max(2, 6*c.base))
		}
		enough, first := 0.5, 6*segment
		if c.far() {
			enough, first = 3.5*c.base, 10*segment
		}
		if (len(c.heard) < 10 && c.now-c.since < enough) || len(c.heard) < 4 || c.now-c.since < 0.2 {
			return
		}
		c.z = c.percentiles().clip()
		c.wobble = c.z.spread()
		if c.known && c.percentiles().p50 > c.pair+tau+margin {
			c.stepBack()
			return
		}
		if c.known {
			c.comeBack()
			return
		}
		c.to(starting, whyProbing)
		c.doubled, c.doubledAt, c.flat, c.burst, c.burstAt, c.steady = c.now, 0, 0, 0, 0, false
		c.window = first
		return
	}
	rate := c.rate(rtt)
	span := 1.3 * rtt // what comes in a round trip comes together
	faster := math.Ln2
	switch {
	case c.up && c.far():
		faster = 0.47
	case c.far() && c.burst > 0:
		faster = min(faster, c.atOnce(growsFirst)*c.burst/c.window)
	}
	c.window = min(c.window*math.Exp(faster*f), max(c.window, 2*c.rate(span)*span+10*segment))
	if !c.up { // what we send is spaced out
		c.burst = max(c.burst, c.rate(together))
	}
	full := c.sudden > tau+0.001+c.z.spread() && c.now-c.since > 0.1 && (!c.up || c.spaced) || c.sudden > tau+c.base/4+0.002+c.z.spread()
	if c.now-c.doubled >= max(rtt, 6*tick) {
		if rate < 1.1*c.doubledAt && c.window > 16*segment {
			c.flat++
		} else {
			c.flat = 0
		}
		c.doubled, c.doubledAt = c.now, rate
		c.steady, c.burstAt = c.far() && c.burst < 1.2*c.burstAt, c.burst
	}
	if c.steady && c.burst > 0 && rate >= c.burst/2 {
		rate, full = c.burst, true
	}
	if full || c.flat >= 3 && c.queue > tau/2 || c.flat >= 10 {
		c.capacity = max(c.capacity, rate)
		c.unsure = true
		if c.far() && !c.up { // all of the rest at once would be a burst
			c.window = min(c.window, c.capacity*c.base)
			c.graceUntil = max(c.graceUntil, c.now+3*rtt)
			c.comeBack()
			return
		}
		c.window = c.capacity * c.base
		c.enterCruise(3*rtt + 0.05)
		c.returned = c.now
	}
}

// far reports whether a round trip takes so long that what comes of a window is seen to come together.
func (c *control) far() bool { return c.base > farAway }

// stepBack leaves the path to others.
func (c *control) stepBack() {
	c.to(yielding, whyQueue)
	c.tried = c.now
	c.window = leastWindow
}

// excess returns the queue that is not our own.
func (c *control) excess(rtt float64) float64 {
	self := 0.0
	if c.capacity > 0 {
		// Of the window, only what the server really had under way waits in the queue.
		flight := min(c.largest(2*rtt), 1.1*c.rate(rtt)*(c.base+c.sudden)+2*segment)
		self = max(0, flight/c.capacity-c.base)
	}
	return c.sudden - max(self, tau)
}

// margin returns the excess from which somebody else is there: what the path's own jitter looks
// like does not count.
func (c *control) margin() float64 { return margin + min(c.noise, 0.003) + c.z.spread() + c.coarse }

func (c *control) enterCruise(grace float64) {
	c.to(cruising, whyIdle)
	c.graceUntil = max(c.graceUntil, c.now+grace)
	c.growth = min(0.02, tau/2/c.base)
}

// cruise holds our own queue near tau and watches for others.
func (c *control) cruise(s sample, rtt, rate, f, dt, need float64) {
	if s.rtt > 0 {
		c.noise += (s.rtt - rtt - c.noise) * min(1, dt/2)
	}
	e := (c.base+c.aim())/(c.base+c.queue) - 1
	bdp := c.capacity * (c.base + c.jitter())
	switch {
	case e <= 0:
		k := c.gain
		if c.queue > 2*c.aim()+c.z.spread() {
			k = max(k, gainLong)
		}
		c.window += k * f * c.window * e
		c.growth = min(0.02, tau/2/c.base)
	case c.flight < saturated*bdp:
		c.window *= math.Exp(math.Ln2 * f)
	case c.flight < bdp:
		c.window *= 1 + f*max(c.growth, 0.5*(bdp/c.flight-1))
	case c.lossWindow > 0 && c.window > c.lossWindow:
		c.window *= 1 + 0.01*f
	default:
		k := speedUp
		if c.unsure {
			k = speedUnsure
		}
		c.growth = min(c.growth*math.Pow(k, f), 0.35)
		c.window *= 1 + f*max(c.gain*e, c.growth)
	}
	ahead := max(2*c.aim(), c.growth*c.base)
	if c.unsure {
		ahead = c.base / 4
	}
	c.window = min(c.window, max(rate*(c.base+c.jitter()+c.queue+ahead), bdp+ahead*c.capacity)+3*segment)
	if s.lost > 0 && c.now-c.lastLoss > 2*rtt {
		c.lastLoss = c.now
		if c.queue > tau && rate > saturated*c.capacity {
			c.lossWindow = c.window
			c.window *= 0.9
		}
	}
	squeezed := c.squeeze(s, rtt)
	if c.now < c.graceUntil {
		c.suspect, c.taken, c.takenSince = 0, 0, math.Inf(1)
		return
	}
	if c.unsure {
		c.taken, c.takenSince, squeezed = 0, math.Inf(1), false
		if c.queue > 0.5*c.aim()+c.z.spread() && s.bytes > 0 && c.now >= c.pausedUntil {
			c.unsure, c.capacity = false, min(c.capacity, max(c.rate(2*rtt), c.rate(max(8*rtt, 0.2))))
		}
	}
	excess := c.excess(rtt)
	ranOver := s.lost > 0 && excess > lossMargin+c.z.spread()+c.coarse
	c.doubt(s, excess > c.margin())
	if c.suspect >= need || ranOver {
		c.wall(rate)
		return
	}
	if squeezed {
		now := c.rate(max(2*rtt, 0.06))
		c.wall(rate)
		// Who takes a part and no more, or a path that has become narrower, is no reason to step back again.
		// Where queues are fair, whoever comes takes half of it, and more than a part is theirs.
		if c.dropped, c.whole = true, c.capacity; now > part*c.capacity {
			c.capacity = now
		}
		return
	}
	if c.forced && c.now-c.since > 2 { // what looked like a queue is the path
		c.forced = false
		c.patience = 5
	}
	if c.now-c.returned > calmAfter {
		c.failures, c.hold, c.whole = 0, holdLeast, 0
	}
	if c.now-max(c.returned, c.forgiven) > forgiveAfter {
		c.forgiven, c.drop = c.now, max(c.drop/2, dropLeast)
	}
}

// squeeze reports whether others got bytes of the path. While a queue stands, they have what comes less than the path
// carries: who begins gently makes no queue that is longer than ours alone, since ours becomes shorter by as much.
func (c *control) squeeze(s sample, rtt float64) bool {
	gap := c.now - c.arrived
	if s.torn || s.bytes == 0 || gap < 0.8*c.period() { // when nothing arrives nothing is seen; each connection is read once a period
		return false
	}
	came, all := c.total-c.counted, c.capacity*gap
	missing := (1-c.drop)*all - came
	c.arrived, c.counted = c.now, c.total
	if came < pausing*all {
		c.starved += gap
	} else {
		c.starved = 0
	}
	if gap > max(2*c.period(), maxDoubt, 5*segment/c.capacity) || came > madeUp*all+2*segment ||
		c.starved > 0 && c.starved < longPause && missing > burstMost || c.up && !c.hesitates() && s.flight < spentLeast*c.window-s.slack {
		// Nobody takes so much at once, or gives it back. Something paused, we perhaps, and what is sent pauses again a round
		// trip later.
		c.pausedUntil = c.now + 1.5*rtt
	}
	switch {
	case c.sudden < 0.5*c.aim()+c.z.spread():
		c.taken = 0 // what was missing before was not sent to us: the path was idle
	case c.held != nobody || c.now < c.pausedUntil && c.starved < longPause:
		c.taken = max(0, c.taken+min(missing, 0))
	default:
		c.taken = max(0, c.taken+missing)
	}
	if c.taken < c.telling() {
		c.takenSince = math.Inf(1)
	} else {
		c.takenSince = min(c.takenSince, c.now)
	}
	if c.taken < c.telling()/2 {
		c.waited = c.now
	}
	return c.now-c.takenSince >= takenFor // what was only late comes at once
}

// telling returns how many bytes must be missing that somebody is there.
func (c *control) telling() float64 {
	least := takenTime
	if c.up {
		least = takenSending
	}
	return max(takenLeast, (least+c.jitter()+c.z.spread())*c.capacity)
}

// judge learns from a step back, of which the quiet has come, whether there was somebody. Some paths carry
// now more and now less.
func (c *control) judge(somebody bool) {
	switch {
	case somebody:
		c.drop = max(c.drop/2, dropLeast)
		if c.dropped {
			c.capacity = c.whole
		}
	case c.dropped:
		c.drop = min(2*c.drop, dropMost)
	}
	c.dropped = false
}

// doubt counts how long an excess was seen. When nothing arrives, nothing is seen: a server, a radio
// or this machine may have paused.
func (c *control) doubt(s sample, excess bool) {
	switch {
	case !excess:
		c.suspect = 0
	case s.rtt > 0:
		c.suspect += min(c.now-c.sampled, maxDoubt)
	}
	if s.rtt > 0 {
		c.sampled = c.now
	}
}

// wall ends a use of the path because somebody else wants it.
func (c *control) wall(rate float64) {
	c.dropped = false
	if c.forced {
		c.forced = false
		c.z, c.base, c.shift = c.saved, c.savedBase, c.savedShift
		c.patience = min(2*c.patience, 60)
	}
	if c.phase == cruising && c.now-c.returned > calmAfter {
		c.failures, c.hold = 0, max(holdFirst, 12*c.base) // the start of a flow takes round trips
	} else {
		c.capacity = max(c.capacity, c.whole) // what was missing then was theirs
		c.fails[c.failures%len(c.fails)] = rate
		c.failures++
		c.hold = min(2.5*c.hold, max(holdMost, 12*c.base))
		if c.failures >= changedAfter {
			// The path was quiet each time until we used so much of it: so much is what it has.
			if lo, hi := slices.Min(c.fails[:]), slices.Max(c.fails[:]); hi < 1.35*lo && hi < saturated*c.capacity {
				c.capacity, c.whole, c.failures, c.hold = lo, 0, 0, holdLeast
			}
		}
	}
	c.stepBack()
}

// yield listens with next to nothing under way until the path is quiet.
func (c *control) yield(s sample) {
	if s.rtt > 0 {
		rare := 0.0
		if c.up {
			rare = 5 * c.listenEvery(1)
		} else {
			rare = 5 * min(c.listenEvery(1), mostUnread)
		}
		c.hear(s.rtt, max(c.hold, 0.3, 6*(c.base+c.queue), rare))
		c.window = leastWindow
		if s.rtt-c.base-c.still() > margin {
			// One segment, which our own side acknowledges late, is all that is asked for.
			c.window = segment
		}
	}
	if len(c.heard) < 4 {
		return
	}
	p, z := c.percentiles(), c.z.atLeast(c.pair)
	if p.p25-z.p25 < margin {
		c.busy = c.now
	}
	c.shallow, c.deep = min(c.shallow, p.p25), max(c.deep, p.p25)
	if c.now-c.busy > 1 {
		// A flow that queues all the time: its end will be plain to see.
		c.hold, c.failures, c.plain = holdLeast, 0, true
	}
	if c.now-c.since < c.hold {
		return
	}
	const near = tau/2 + 0.001
	if p.p25 < z.p25+near && p.p50 < z.p50+margin && c.newest(3)-c.base < z.p25+near {
		c.judge(c.deep-z.p25 > margin)
		c.z = c.z.blend(p)
		c.wobble = min(c.wobble, c.z.spread()) // others come and go; the path itself was calmer
		c.comeBack()
		return
	}
	patience := c.patience
	if c.deep-c.shallow > margin+c.z.spread() {
		patience *= 6 // a path that changed looks the same all the time; queues come and go
	}
	if c.now-c.tried > patience {
		// Perhaps the path itself has changed: try once, relative to what it looks like now.
		c.saved, c.savedBase, c.savedShift = c.z, c.base, c.shift
		c.forced, c.tried = true, c.now
		c.base, c.shift = c.base+p.p10, c.shift+p.p10
		c.z = quiet{0, p.p25 - p.p10, p.p50 - p.p10, p.p75 - p.p10}.clip()
		c.comeBack()
	}
}

func (c *control) comeBack() {
	c.returned, c.doubted, c.stood = c.now, math.Inf(-1), 0
	c.grows = growsFast
	switch {
	case c.phase == starting:
		c.grows = growsFirst
	case !c.plain || c.forced:
		c.grows = growsSlow
	}
	c.to(ramping, whyProbing)
}

// heard is a round-trip time and when it was seen.
type heard struct{ at, rtt float64 }

// hear adds to what was heard while listening and forgets what is older than d.
func (c *control) hear(rtt, d float64) {
	c.heard = append(c.heard, heard{c.now, rtt})
	old := 0
	for c.heard[old].at < c.now-d {
		old++
	}
	c.heard = slices.Delete(c.heard, 0, old)
}

// newest returns the lowest of the newest n round-trip times heard.
func (c *control) newest(n int) float64 {
	lo := math.Inf(1)
	for _, h := range c.heard[max(0, len(c.heard)-n):] {
		lo = min(lo, h.rtt)
	}
	return lo
}

// ramp comes back to a known capacity.
func (c *control) ramp(s sample, rtt, rate, f, dt float64) {
	bdp := c.capacity * c.base
	faster, least, enough := 0.25, bdp/10, 0.92*bdp
	if c.far() {
		faster = 0.28
	}
	bunched := c.far() && !c.up
	if bunched {
		faster = min(0.5, c.atOnce(c.grows)*c.capacity/c.window)
		least = min(least, c.atOnce(c.grows)*c.capacity)
		if c.unsure { // a pipe that is not full has holes that stay
			enough = bdp
		}
		if c.now-c.doubted < 1.2*rtt && c.stood < 5*rtt { // first that is to be settled
			faster = 0
			c.stood += dt
		}
	}
	c.window = max(c.window, least) * math.Exp(faster*f)
	excess := c.excess(rtt) > c.margin()-0.4*margin && c.now >= c.graceUntil
	c.doubt(s, excess)
	if c.suspect > 0 || c.now >= c.graceUntil && s.rtt-c.base-c.still() > c.margin()+c.atOnce(c.grows)+2*c.jitter() {
		c.doubted = c.now
	}
	if c.grows == growsFirst && !c.known && excess && s.lost == 0 {
		// What came in a burst was more than the path carries: the queue is ours.
		c.returned = c.now
		c.enterCruise(2 * rtt)
		return
	}
	if c.suspect >= suspicion || bunched && s.lost > 0 && c.now-c.doubted < 2*rtt {
		c.wall(rate)
		return
	}
	if c.window < enough {
		return
	}
	if c.suspect > 0 { // first that is to be settled
		c.window = enough
		return
	}
	c.returned = c.now
	c.enterCruise(2 * rtt)
}

// atOnce returns for how many seconds of the path's rate a far window may grow in a round trip, which comes at once, if that
// is to be so much of what fills the path.
func (c *control) atOnce(part float64) float64 { return min(part*c.base, mostTogether) }

// bound keeps the window within what others on this machine and the policy leave.
func (c *control) bound(s sample) {
	c.held = nobody
	if c.capacity > 0 && s.others > 0.03*c.capacity && c.phase != starting {
		if w := (c.capacity - 1.5*s.others) * (c.base + tau); w < c.window {
			c.window, c.held = w, byLocal
		}
	}
	if s.cap >= 0 {
		if w := s.cap * (c.base + c.queue); w < c.window {
			c.window, c.held = w, byPolicy
		}
	}
	c.window = min(max(c.window, segment), mostWindow)
	if c.phase != yielding {
		c.window = max(c.window, leastWindow)
	}
}

func (c *control) percentiles() quiet {
	c.sorted = c.sorted[:0]
	for _, h := range c.heard {
		c.sorted = append(c.sorted, h.rtt-c.base)
	}
	slices.Sort(c.sorted)
	at := func(p float64) float64 { return c.sorted[int(p*float64(len(c.sorted)-1))] }
	return quiet{at(0.10), at(0.25), at(0.50), at(0.75)}
}

// spread returns how much the round-trip time of a quiet path varies, beyond what the clock of
// TCP's timestamps makes of it.
func (q quiet) spread() float64 { return max(0, q.p75-q.p25-0.0015) }

// clip bounds what may count as quiet.
func (q quiet) clip() quiet {
	return quiet{min(q.p10, 0.005), min(q.p25, 0.008), min(q.p50, 0.010), min(q.p75, 0.012)}
}

// atLeast raises all to d.
func (q quiet) atLeast(d float64) quiet {
	return quiet{max(q.p10, d), max(q.p25, d), max(q.p50, d), max(q.p75, d)}
}

// shift adds to all.
func (q quiet) shift(d float64) quiet {
	return quiet{q.p10 + d, q.p25 + d, q.p50 + d, q.p75 + d}.clip()
}

func (q quiet) blend(p quiet) quiet {
	mix := func(a, b float64) float64 { return a + (b-a)/4 }
	return quiet{mix(q.p10, p.p10), mix(q.p25, p.p25), mix(q.p50, p.p50), mix(q.p75, p.p75)}.clip()
}

// share returns the window of one of n connections.
func (c *control) share(n int) float64 {
	least := leastWindow
	if c.phase == yielding {
		least = segment
	}
	return max(c.window/float64(n), least)
}

// period returns how soon the law wants to be asked again: often while much changes, else so that
// it costs little.
func (c *control) period() float64 {
	if c.capacity > gatherMost/tick { // so fast that a tick's worth would fill the socket's buffer
		return min(tick, gatherMost/c.capacity)
	}
	switch {
	case c.hesitates():
	case c.phase == yielding:
		return 2 * tick
	case c.phase != cruising || c.now-c.since <= 2:
	case !c.up:
		return 2 * tick
	case c.capacity >= soonest:
		return 3 * tick
	}
	return tick
}

// gatherMost is how many bytes may gather between two reads.
const gatherMost = 512 << 10

// soonest is the capacity, in bytes per second, up to which a sender looks each tick: what it sends while it does not know
// that somebody came is in their way, and on slow links costs little processor time.
const soonest = 6e6

// newest returns the newest round-trip time that the kernel measured, from its smoothed estimate
// before and now; 0 if there is none. The kernel takes a lower sample, which has whole
// milliseconds, as it is and goes an eighth of the way to a higher one; and higher ones count only
// for the first segment after the reader emptied the queue (tcp_rcv_rtt_update), so that there is
// at most one between two reads.
func newest(before, now float64) float64 {
	switch {
	case now > before && before > 0:
		return before + 8*(now-before)
	case now == before && math.Abs(math.Remainder(now, leastRTT)) > 2e-6:
		return 0 // it was no sample that made it so
	}
	return now
}

// average returns the mean of the n newest round-trip times that the kernel measured as a sender,
// from its smoothed estimate before and now: each moves it by an eighth (RFC 6298 2.3).
func average(before, now float64, n int) float64 {
	if before <= 0 {
		return now
	}
	kept := math.Pow(7.0/8, float64(n))
	return max((now-before*kept)/(1-kept), 0)
}

// leastCapacity is the least that is believed of a path, in bytes per second.
const leastCapacity = 1000

// leastRTT is the least round-trip time that the kernel can tell, and the step of its clock.
const leastRTT = 0.001

// pace says what the law is doing, and the same for people.
func (c *control) pace() (bits.PaceState, string) {
	switch {
	case c.held == byPolicy:
		return bits.PaceCapped, "the bandwidth policy allows no more"
	case c.held == byLocal:
		return bits.PaceYielding, "another program on this machine uses the network"
	case c.phase == yielding:
		return bits.PaceYielding, fmt.Sprintf("someone else uses the link (packets wait %.0f ms); listening until it is quiet", c.queue*1000)
	case c.phase == cruising:
		return bits.PaceIdle, "uses the link's idle capacity"
	case c.why == whyListening:
		return bits.PaceProbing, "listening whether the link is in use"
	}
	return bits.PaceProbing, "finding out how much of the link is idle"
}
