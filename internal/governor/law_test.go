package governor

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// scene is a link and what the law must reach on it. Bounds are wider than what it does reach, so
// that they tell a broken law and not a changed constant.
type scene struct {
	name       string
	mbit       float64
	queue, rtt float64 // seconds
	kind       string
	loss       float64
	jitter     float64
	conns      int
	stall      float64 // of the machine, seconds, at most
	up         bool    // the background sends
	plain      bool    // the server refuses timestamps
	gentle     float64 // packets at which the foreground leaves its slow start; 0: as it likes

	lost    float64 // of the foreground's goodput alone, at most
	yield   float64 // seconds, at most
	recover float64 // seconds, at most
	use     float64 // of what an ungoverned transfer gets of the idle link, at least
	wait    float64 // 95th percentile of the queue's delay while only the background runs, seconds
}

var scenes = []scene{
	{name: "20 Mbit/s, 100 ms", mbit: 20, queue: 0.1, rtt: 0.03, lost: 0.02, yield: 0.15, recover: 1.5, use: 0.97, wait: 0.008},
	{name: "20 Mbit/s, 300 ms", mbit: 20, queue: 0.3, rtt: 0.03, lost: 0.02, yield: 0.15, recover: 1.5, use: 0.97, wait: 0.008},
	{name: "20 Mbit/s, one BDP", mbit: 20, queue: 0.03, rtt: 0.03, lost: 0.03, yield: 0.15, recover: 2, use: 0.97, wait: 0.008},
	{name: "100 Mbit/s, 20 ms", mbit: 100, queue: 0.02, rtt: 0.02, lost: 0.02, yield: 0.15, recover: 1.5, use: 0.97, wait: 0.01},
	{name: "100 Mbit/s, 50 ms", mbit: 100, queue: 0.05, rtt: 0.03, lost: 0.02, yield: 0.15, recover: 1.5, use: 0.97, wait: 0.01},
	// A foreground that leaves its slow start early, as beside anybody, for a delay that grows or acknowledgements
	// that come far apart.
	{name: "gentle start, 100 Mbit/s, 50 ms", mbit: 100, queue: 0.05, rtt: 0.03, gentle: 25, lost: 0.03, yield: 0.15, recover: 4, use: 0.97, wait: 0.01},
	{name: "gentle start, 50 Mbit/s, 100 ms", mbit: 50, queue: 0.1, rtt: 0.03, gentle: 20, lost: 0.03, yield: 0.15, recover: 1.5, use: 0.97, wait: 0.01},
	{name: "gentle start, 20 Mbit/s, 100 ms", mbit: 20, queue: 0.1, rtt: 0.03, gentle: 12, lost: 0.03, yield: 0.15, recover: 1.5, use: 0.97, wait: 0.008},
	{name: "gentle start, 20 Mbit/s, 100 ms away", mbit: 20, queue: 0.1, rtt: 0.1, gentle: 20, lost: 0.06, yield: 0.4, recover: 9, use: 0.95, wait: 0.01},
	{name: "gentle start, 5 Mbit/s, 100 ms", mbit: 5, queue: 0.1, rtt: 0.03, gentle: 6, lost: 0.04, yield: 0.3, recover: 1.5, use: 0.97, wait: 0.015},
	{name: "50 Mbit/s, 100 ms", mbit: 50, queue: 0.1, rtt: 0.03, lost: 0.03, yield: 0.15, recover: 3, use: 0.97, wait: 0.01},
	{name: "5 Mbit/s, 100 ms", mbit: 5, queue: 0.1, rtt: 0.03, lost: 0.04, yield: 0.3, recover: 1.5, use: 0.97, wait: 0.015},
	{name: "20 Mbit/s, 100 ms away", mbit: 20, queue: 0.1, rtt: 0.1, lost: 0.03, yield: 0.4, recover: 6, use: 0.95, wait: 0.01},
	{name: "20 Mbit/s, 20 ms, 100 ms away", mbit: 20, queue: 0.02, rtt: 0.1, lost: 0.1, yield: 0.4, recover: 9, use: 0.9, wait: 0.015},
	{name: "jitter of 15 ms, 100 ms away", mbit: 20, queue: 0.1, rtt: 0.1, jitter: 0.015, lost: 0.12, yield: 1, recover: 9, use: 0.3, wait: 0.03},
	{name: "CoDel", mbit: 20, queue: 0.3, rtt: 0.03, kind: "codel", lost: 0.12, yield: 0.3, recover: 5, use: 0.7, wait: 0.015},
	{name: "fair queueing", mbit: 20, queue: 0.1, rtt: 0.03, kind: "fq", lost: 0.12, yield: 0.3, recover: 5, use: 0.9, wait: 0.015},
	{name: "1 % loss", mbit: 20, queue: 0.1, rtt: 0.03, loss: 0.01, lost: 0.2, yield: 10, recover: 2, use: 0.9, wait: 0.01}, // the flows do not fill the link
	{name: "jitter of 15 ms", mbit: 20, queue: 0.1, rtt: 0.03, jitter: 0.015, lost: 0.12, yield: 1, recover: 4, use: 0.3, wait: 0.03},
	{name: "a machine that stalls", mbit: 20, queue: 0.03, rtt: 0.03, stall: 0.03, lost: 0.06, yield: 0.4, recover: 2, use: 0.5, wait: 0.02},
	{name: "upload, 20 Mbit/s, 100 ms", up: true, mbit: 20, queue: 0.1, rtt: 0.03, lost: 0.03, yield: 0.15, recover: 1.5, use: 0.95, wait: 0.01},
	{name: "upload, 5 Mbit/s, 100 ms", up: true, mbit: 5, queue: 0.1, rtt: 0.03, lost: 0.08, yield: 0.4, recover: 1.5, use: 0.95, wait: 0.045},
	{name: "upload, 20 Mbit/s, 100 ms away", up: true, mbit: 20, queue: 0.1, rtt: 0.1, lost: 0.06, yield: 0.4, recover: 8, use: 0.95, wait: 0.04},
	{name: "upload, 100 Mbit/s, 50 ms", up: true, mbit: 100, queue: 0.05, rtt: 0.03, lost: 0.03, yield: 0.25, recover: 1.5, use: 0.9, wait: 0.01},
	{name: "upload, 20 Mbit/s, one BDP", up: true, mbit: 20, queue: 0.03, rtt: 0.03, lost: 0.06, yield: 0.3, recover: 2, use: 0.95, wait: 0.015},
	{name: "no timestamps, 20 Mbit/s, 100 ms", plain: true, mbit: 20, queue: 0.1, rtt: 0.03, lost: 0.04, yield: 0.3, recover: 2, use: 0.95, wait: 0.01},
	{name: "no timestamps, 5 Mbit/s, 100 ms", plain: true, mbit: 5, queue: 0.1, rtt: 0.03, lost: 0.08, yield: 0.4, recover: 2, use: 0.95, wait: 0.03},
	{name: "no timestamps, 20 Mbit/s, 100 ms away", plain: true, mbit: 20, queue: 0.1, rtt: 0.1, lost: 0.06, yield: 1, recover: 5, use: 0.9, wait: 0.015},
	{name: "no timestamps, 100 Mbit/s, 50 ms", plain: true, mbit: 100, queue: 0.05, rtt: 0.03, lost: 0.03, yield: 0.2, recover: 2, use: 0.95, wait: 0.008},
	{name: "four connections", mbit: 20, queue: 0.1, rtt: 0.03, conns: 4, lost: 0.04, yield: 0.3, recover: 2, use: 0.9, wait: 0.01},
}

// verdict is what was seen.
type verdict struct {
	alone, with          float64 // foreground, Mbit/s
	idle, rude           float64 // background, governed and not
	yield, recover, wait float64
}

func (s scene) world(seed uint64) *world {
	rate := s.mbit * 1e6 / 8
	return &world{stall: s.stall, random: rand.New(rand.NewPCG(seed, 7)), link: simLink{
		rate: rate, limit: max(rate*s.queue, 3*wire), kind: s.kind, delay: s.rtt, jitter: s.jitter, loss: s.loss, queues: map[*tcp][]*pkt{},
	}}
}

const bin = 0.02

// bins are bytes over time.
type bins []float64

func (b *bins) count(now, size float64) {
	i := int(now / bin)
	for len(*b) <= i {
		*b = append(*b, 0)
	}
	(*b)[i] += size
}

// mean returns the Mbit/s of payload between two moments.
func (b bins) mean(from, to float64) float64 {
	sum := 0.0
	for i := int(from / bin); i < int(to/bin) && i < len(b); i++ {
		sum += b[i]
	}
	return sum * segment / wire * 8 / 1e6 / (to - from)
}

// The phases: idle until on, contention until off, idle until end.
const on, off, end = 6.0, 16.0, 25.0

// play runs a scene with some of its flows.
func (s scene) play(law, foreground, background bool) (fg, bg bins, waits []float64) {
	w := s.world(1)
	var flows []*tcp
	if background {
		for range max(s.conns, 1) {
			t := w.flow(bg.count)
			t.up, t.quick, t.plain = s.up && law, 16, s.plain
			flows = append(flows, t)
		}
	}
	if law {
		w.governed(flows, newControl(memory{}))
	}
	w.after(0.01, func() {
		for _, t := range flows {
			t.start()
		}
	})
	if foreground {
		f := w.flow(fg.count)
		if s.gentle > 0 {
			f.ssthresh = s.gentle
		}
		w.after(on, f.start)
		w.after(off, f.stop)
	}
	w.link.waits = func(_ *tcp, d float64) {
		if w.now < on {
			waits = append(waits, d)
		}
	}
	w.run(end)
	slices.Sort(waits)
	return fg, bg, waits
}

func (s scene) judge() verdict {
	var v verdict
	fg, _, _ := s.play(false, true, false)
	v.alone = fg.mean(on, off)
	_, bg, _ := s.play(false, false, true)
	v.rude = bg.mean(2, on)
	fg, bg, waits := s.play(true, true, true)
	v.with, v.idle = fg.mean(on, off), bg.mean(2, on)
	v.wait = waits[len(waits)*95/100]
	v.yield, v.recover = off-on, end-off
	for t := on; t < off; t += bin {
		if bg.mean(t, t+0.1) < 0.1*s.mbit && bg.mean(t, t+0.3) < 0.1*s.mbit {
			v.yield = t - on
			break
		}
	}
	for t := off; t < end-0.2; t += bin {
		if bg.mean(t, t+0.2) > 0.8*v.idle {
			v.recover = t - off
			break
		}
	}
	return v
}

func TestLaw(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			v := s.judge()
			lost, use := 1-v.with/v.alone, v.idle/v.rude
			t.Logf("foreground %.2f of %.2f Mbit/s (lost %.1f %%), yield %.2f s, recover %.2f s, idle use %.1f %%, wait %.1f ms", v.with, v.alone, 100*lost, v.yield, v.recover, 100*use, 1000*v.wait)
			for _, c := range []struct {
				what       string
				got, bound float64
			}{
				{"the foreground's loss", lost, s.lost},
				{"the time to yield", v.yield, s.yield},
				{"the time to recover", v.recover, s.recover},
				{"the idle capacity that was left", 1 - use, 1 - s.use},
				{"the wait in the queue", v.wait, s.wait},
			} {
				if c.got > c.bound {
					t.Errorf("%s is %.3f; want at most %.3f", c.what, c.got, c.bound)
				}
			}
		})
	}
}

// Without the law the same transfer takes half of the link: the model can tell the difference.
func TestModelIsRudeWithoutLaw(t *testing.T) {
	s := scenes[0]
	fg, _, _ := s.play(false, true, false)
	alone := fg.mean(on, off)
	fg, _, _ = s.play(false, true, true)
	if with := fg.mean(on, off); with > 0.7*alone {
		t.Errorf("beside an ungoverned transfer the foreground gets %.1f of %.1f Mbit/s; that is too polite for TCP", with, alone)
	}
}

// feed asks a law with the same sample for so many seconds.
func feed(c *control, now *float64, d float64, s sample) {
	for stop := *now + d; *now < stop; *now += tick {
		s.now = *now
		c.step(s)
	}
}

func steady(rtt, rate float64) sample { return sample{rtt: rtt, bytes: rate * tick, cap: -1} }

// cruise returns a law that has found the capacity of a path.
func cruise(t *testing.T, base, capacity float64) (*control, *float64) {
	t.Helper()
	c, now := newControl(memory{base, capacity}), new(float64)
	*now = 1
	feed(c, now, 1, steady(base, 0.01*capacity))
	feed(c, now, 3, steady(base+0.001, capacity))
	if c.phase != cruising {
		t.Fatalf("after 4 quiet seconds on a known path the law is in phase %v", c.phase)
	}
	return c, now
}

// Who takes a part of the path and no more, without a queue of their own, is looked at once, and then left that part.
func TestLeavesASteadyUserTheirPart(t *testing.T) {
	for _, part := range []float64{0.05, 0.1, 0.3} {
		c, now := cruise(t, 0.03, 2.5e6)
		rate, busy := (1-part)*2.5e6, 0.0
		for stop := *now + 20; *now < stop; {
			got := min(rate, c.window/0.03)
			feed(c, now, tick, steady(0.03+max(0, min(c.window/rate-0.03, 0.1)), got))
			busy += got * tick
		}
		if use := busy / (20 * rate); use < 0.8 {
			t.Errorf("beside somebody who takes %.0f %% of the path the law uses %.0f %% of the rest; want at least 80", 100*part, 100*use)
		}
	}
}

// A path that carries now more and now less, as by radio, is not taken for one with somebody else for long.
func TestUsesAPathThatVaries(t *testing.T) {
	for _, least := range []float64{0.9, 0.8, 0.7} {
		c, now := cruise(t, 0.03, 2.5e6)
		can, busy, began := 0.0, 0.0, *now
		for *now < began+60 {
			rate := 2.5e6
			if int((*now-began)/1.5)%2 == 0 {
				rate *= least
			}
			got := min(rate, c.window/0.03)
			feed(c, now, tick, steady(0.03+max(0, min(c.window/rate-0.03, 0.1)), got))
			can, busy = can+rate*tick, busy+got*tick
		}
		if use := busy / can; use < 0.6 {
			t.Errorf("of a path that at times carries %.0f %% of what it can, the law uses %.0f %%; want at least 60", 100*least, 100*use)
		} else {
			t.Logf("%.0f %%: uses %.0f %%", 100*least, 100*use)
		}
	}
}

func TestStepsBackFromSomebodyElsesQueue(t *testing.T) {
	c, now := cruise(t, 0.03, 2.5e6)
	before := *now
	for c.phase == cruising && *now < before+1 {
		feed(c, now, tick, steady(0.03+min(*now-before, 0.05), 2e6)) // a queue that grows by 1 s/s
	}
	if c.phase != yielding || *now-before > 0.1 {
		t.Fatalf("phase %v %.3f s after a queue began to grow; want yield within 0.1 s", c.phase, *now-before)
	}
	if c.window > leastWindow {
		t.Errorf("the window is %.0f bytes while yielding; want at most two segments", c.window)
	}
	feed(c, now, 3, steady(0.08, 20e3))
	if c.phase != yielding {
		t.Errorf("phase %v while the queue stands; want yield", c.phase)
	}
	left := *now
	for c.phase == yielding && *now < left+5 {
		feed(c, now, tick, steady(0.03, 50e3))
	}
	if *now-left > 1 {
		t.Errorf("it came back %.2f s after the queue had gone; want at most 1 s", *now-left)
	}
}

// A job that starts while somebody fills a path that is known must not take that for idle.
func TestListensOnABusyKnownPath(t *testing.T) {
	c, now := newControl(memory{0.03, 2.5e6}), new(float64)
	for *now = 100; *now < 104; {
		feed(c, now, tick, steady(0.08, 20e3))
		if c.phase == ramping || c.phase == cruising {
			t.Fatalf("phase %v after %.1f s on a busy path", c.phase, *now-100)
		}
	}
	feed(c, now, 2, steady(0.03, 50e3))
	if c.phase != ramping && c.phase != cruising {
		t.Errorf("phase %v 2 s after the path became quiet", c.phase)
	}
}

// Who begins is noticed by the bytes that they get, long before their queue is longer than ours.
func TestNoticesWhatOthersGet(t *testing.T) {
	const capacity = 12e6
	c, now := cruise(t, 0.03, capacity)
	feed(c, now, 1, steady(0.031, capacity))
	began := *now
	for c.phase == cruising && *now < began+1 {
		feed(c, now, tick, steady(0.031, 0.93*capacity))
	}
	if took := *now - began; took > 0.06 {
		t.Errorf("it took %.3f s to notice somebody who gets 7 %% of 100 Mbit/s; want at most 0.06", took)
	}
}

// What comes late and then at once was kept waiting, by a server, a radio or this machine, and so is what it
// acknowledged too late a round trip later.
func TestAPauseThatIsMadeUpIsNobody(t *testing.T) {
	const capacity = 12e6
	c, now := cruise(t, 0.03, capacity)
	feed(c, now, 1, steady(0.033, capacity))
	for _, part := range []float64{0.1, 0.1, 2.8, 1, 1, 1, 1, 0.4, 0.4, 1.4, 1.4, 1, 1, 1, 1, 1} {
		feed(c, now, tick, steady(0.033, part*capacity))
		if c.phase != cruising {
			t.Fatalf("phase %v after a pause of 8 ms that was made up", c.phase)
		}
	}
}

func TestJitterOfTheClockIsNoQueue(t *testing.T) {
	c, now := cruise(t, 0.03, 2.5e6)
	random := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		feed(c, now, tick, steady(0.031+0.002*random.Float64(), 2.5e6))
		if c.phase != cruising {
			t.Fatalf("phase %v at 2 ms of jitter", c.phase)
		}
	}
}

func TestCapIsACeiling(t *testing.T) {
	c, now := cruise(t, 0.03, 2.5e6)
	s := steady(0.03, 0.5e6)
	s.cap = 0.5e6
	feed(c, now, 2, s)
	if want := 0.5e6 * (0.03 + 2*tau); c.window > want {
		t.Errorf("under a ceiling of 0.5 MB/s the window is %.0f; want at most %.0f", c.window, want)
	}
	if st, _ := c.pace(); st != "capped" {
		t.Errorf("the pace is %q; want capped", st)
	}
}

func TestGivesWayToOthersOnThisMachine(t *testing.T) {
	c, now := cruise(t, 0.03, 2.5e6)
	s := steady(0.03, 0.5e6)
	s.others = 1.5e6
	feed(c, now, 0.1, s)
	if want := (2.5e6 - 1.5*1.5e6) * (0.03 + tau); c.window > want*1.2 {
		t.Errorf("with 1.5 MB/s of others on a path of 2.5 MB/s the window is %.0f; want about %.0f", c.window, want)
	}
}

func TestFindsASmallerCapacity(t *testing.T) {
	c, now := cruise(t, 0.03, 2.5e6)
	// The path now carries half. Its queue grows when more than that is asked for.
	queue, half := 0.0, 1.25e6
	for range int(60 / tick) {
		rtt := 0.03 + queue
		rate := min(c.window/rtt, half)
		queue = min(max(0, queue+(c.window/rtt-half)/half*tick), 0.2)
		feed(c, now, tick, steady(rtt, rate))
	}
	if c.capacity > 1.3*half {
		t.Errorf("a minute after the path's capacity halved to %.0f the law believes in %.0f", half, c.capacity)
	}
	if c.phase != cruising {
		t.Errorf("phase %v; want cruise", c.phase)
	}
}

func TestNewestSample(t *testing.T) {
	for _, c := range []struct {
		name              string
		before, now, want float64
	}{
		{"the first", 0, 0.030, 0.030},
		{"a lower one is taken as it is", 0.0315, 0.030, 0.030},
		{"a higher one goes an eighth of the way", 0.030, 0.031, 0.038},
		{"no change of a smoothed value: none came", 0.0315, 0.0315, 0},
		{"no change of a whole value: the same came again", 0.031, 0.031, 0.031},
	} {
		if got := newest(c.before, c.now); got < c.want-1e-9 || got > c.want+1e-9 {
			t.Errorf("%s: newest(%v, %v) = %v; want %v", c.name, c.before, c.now, got, c.want)
		}
	}
}

// A reading that took some time has bytes of the moment after its time, which the next one lacks.
func TestATornReadingIsNobody(t *testing.T) {
	const capacity = 12e6
	for _, torn := range []bool{true, false} {
		c, now := cruise(t, 0.03, capacity)
		feed(c, now, 1, steady(0.033, capacity))
		for i, part := range []float64{1.31, 0.69, 1, 1, 1, 1, 1, 1} {
			s := steady(0.033, part*capacity)
			s.torn = torn && i == 0
			feed(c, now, tick, s)
		}
		if told := c.phase != cruising; told == torn {
			t.Errorf("torn %v: phase %v", torn, c.phase)
		}
	}
}

// What we did not send, as we were late, is missing a round trip later.
func TestAPauseOfOursIsNobody(t *testing.T) {
	const capacity = 12e6
	for _, flight := range []float64{0.9, 1} {
		c, now := cruise(t, 0.03, capacity)
		send := func(d, part, flight float64) {
			s := steady(0.033, part*capacity)
			s.up, s.pair, s.flight, s.slack = true, 0.0002, flight*c.window, 2*segment
			feed(c, now, d, s)
		}
		send(1, 1, 1)
		send(tick, 1, flight)
		send(0.028, 1, 1)
		send(2*tick, 0.35, 1)
		send(0.02, 1, 1)
		if ours, told := flight < 1, c.phase != cruising; told == ours {
			t.Errorf("a flight of %v of the window, then a pause: phase %v", flight, c.phase)
		}
	}
}

// When nothing arrives for a moment, nobody else has come.
func TestAPauseIsNoNeighbour(t *testing.T) {
	for at := 0.5; at < 3; at += 0.05 {
		w := scene{mbit: 20, queue: 0.03, rtt: 0.03}.world(1)
		w.after(at, func() { w.link.lastOut = at + w.link.delay + 0.025 })
		var bg bins
		f := w.flow(bg.count)
		c := newControl(memory{})
		w.governed([]*tcp{f}, c)
		w.after(0.01, f.start)
		for now := 0.05; now < at+0.2; now += 0.01 {
			w.run(now)
			if c.phase == yielding {
				t.Errorf("a pause of 25 ms at %.2f s was taken for somebody else", at)
				break
			}
		}
	}
}

// By satellite a round trip is longer than some silences, which must not become endless.
func TestVeryFarServer(t *testing.T) {
	for _, rtt := range []float64{0.3, 0.6} {
		w := scene{mbit: 20, queue: 0.1, rtt: rtt}.world(1)
		var bg, fg bins
		flow := w.flow(bg.count)
		w.governed([]*tcp{flow}, newControl(memory{}))
		w.after(0.01, flow.start)
		other := w.flow(fg.count)
		w.after(40, other.start)
		w.after(50, other.stop)
		w.run(100)
		if alone := bg.mean(30, 40); alone < 15 {
			t.Errorf("of 20 Mbit/s to a server %.1f s away %.1f are used after half a minute; want at least 15", rtt, alone)
		}
		if back := bg.mean(90, 100); back < 10 {
			t.Errorf("40 s after somebody else left a path to a server %.1f s away %.1f of 20 Mbit/s are used; want at least 10", rtt, back)
		}
	}
}

// Beside a steady stream an upload goes on, and does not wait for what it cannot see without sending.
func TestUploadBesideAStream(t *testing.T) {
	for _, rtt := range []float64{0.005, 0.03} {
		for _, part := range []float64{0.05, 0.1, 0.15, 0.3} {
			w := scene{mbit: 20, queue: 0.1, rtt: rtt}.world(1)
			var bg bins
			f := w.flow(bg.count)
			f.up, f.quick = true, 16
			w.governed([]*tcp{f}, newControl(memory{}))
			w.after(0.01, f.start)
			stream := w.flow(func(float64, float64) {})
			var next func()
			seq := 0
			next = func() {
				w.send(&pkt{flow: stream, seq: seq, size: wire})
				seq++
				w.after(wire/(part*w.link.rate), next)
			}
			w.after(4, next)
			w.run(24)
			for at := 4.0; at < 24; at++ {
				if got := bg.mean(at, at+1); got < 0.1 {
					t.Errorf("%v ms away, beside a stream of %v of the link: %.2f Mbit/s from second %v on", 1000*rtt, part, got, at)
				}
			}
			if got := bg.mean(14, 24); got < 0.2*(1-part)*20 {
				t.Errorf("%v ms away, beside a stream of %v of the link: %.1f Mbit/s after ten seconds", 1000*rtt, part, got)
			}
		}
	}
}

// An upload finds out that the path itself has become longer.
func TestUploadOverALongerPath(t *testing.T) {
	for _, mbit := range []float64{2, 5, 10, 20} {
		w := scene{mbit: mbit, queue: 0.1, rtt: 0.03}.world(1)
		var bg bins
		f := w.flow(bg.count)
		f.up, f.quick = true, 16
		w.governed([]*tcp{f}, newControl(memory{}))
		w.after(0.01, f.start)
		w.after(5, func() { w.link.delay += 0.015 })
		w.run(70)
		if got := bg.mean(60, 70); got < 0.5*mbit {
			t.Errorf("%.1f of %v Mbit/s a minute after the path became 15 ms longer", got, mbit)
		}
	}
}
