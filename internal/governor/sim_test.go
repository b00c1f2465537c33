package governor

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// This file is a packet-level model of a bottleneck link and of TCP over it, in virtual time: the
// control law is driven with what Linux would tell it about a connection.

const (
	wire    = 1514.0 // bytes of a full packet on the wire
	ackPair = 2
)

type event struct {
	at  float64
	seq int
	do  func()
}

type agenda []event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(event)) }
func (a *agenda) Pop() any {
	old := *a
	e := old[len(old)-1]
	*a = old[:len(old)-1]
	return e
}

// world is virtual time and the link.
type world struct {
	stall    float64 // how long the machine stalls at most, seconds; three times a second
	asleep   float64 // when the next stall begins
	awakened float64 // and ends
	now      float64
	seq      int
	events   agenda
	random   *rand.Rand
	link     simLink
}

func (w *world) after(d float64, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, do})
}

func (w *world) run(until float64) {
	for len(w.events) > 0 && w.events[0].at <= until {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	w.now = until
}

// awake returns when the machine does what it is to do at a time, which it may sleep through. Times
// do not go back by more than a stall.
func (w *world) awake(at float64) float64 {
	for w.stall > 0 && at > w.awakened {
		w.asleep = w.awakened + w.random.ExpFloat64()/3
		w.awakened = w.asleep + w.stall*w.random.Float64()
	}
	if w.stall > 0 && at > w.asleep {
		return w.awakened
	}
	return at
}

// simLink is the bottleneck: a queue in front of a rate, then a delay.
type simLink struct {
	rate   float64 // bytes per second on the wire
	limit  float64 // bytes of queue
	kind   string  // "", "codel" or "fq"
	delay  float64 // round trip of the empty path; all of it behind the link
	jitter float64 // at most so much more delay, drawn anew every 10 ms
	loss   float64 // probability

	queues  map[*tcp][]*pkt
	turn    []*tcp // flows with packets, in order of service
	backlog float64
	busy    bool
	lastOut float64
	extra   float64 // delay by jitter now
	redraw  float64 // when that changes
	codel   codelState
	waits   func(owner *tcp, wait float64)
}

type pkt struct {
	flow  *tcp
	seq   int
	size  float64
	tsecr float64
	in    float64
	again bool
}

func (w *world) send(p *pkt) {
	l := &w.link
	p.in = w.now
	if l.backlog+p.size > l.limit {
		if l.kind != "fq" {
			return // dropped at the tail
		}
		// The longest queue loses its head.
		var longest *tcp
		for f, q := range l.queues {
			if longest == nil || len(q) > len(l.queues[longest]) || len(q) == len(l.queues[longest]) && f.id < longest.id {
				longest = f
			}
		}
		l.backlog -= l.queues[longest][0].size
		l.queues[longest] = l.queues[longest][1:]
	}
	key := p.flow
	if l.kind != "fq" {
		key = nil
	}
	if len(l.queues[key]) == 0 && !slices.Contains(l.turn, key) {
		if l.kind == "fq" { // a flow that was idle goes first, as in fq_codel
			l.turn = slices.Insert(l.turn, 0, key)
		} else {
			l.turn = append(l.turn, key)
		}
	}
	l.queues[key] = append(l.queues[key], p)
	l.backlog += p.size
	if !l.busy {
		w.serve()
	}
}

func (w *world) serve() {
	l := &w.link
	for len(l.turn) > 0 {
		key := l.turn[0]
		l.turn = l.turn[1:]
		q := l.queues[key]
		if len(q) == 0 {
			continue
		}
		p := q[0]
		l.queues[key] = q[1:]
		l.backlog -= p.size
		if len(l.queues[key]) > 0 {
			l.turn = append(l.turn, key)
		}
		if l.kind == "codel" && l.codel.drop(w.now, w.now-p.in, l.backlog) {
			continue
		}
		l.busy = true
		if l.waits != nil {
			l.waits(p.flow, w.now-p.in)
		}
		w.after(p.size/l.rate, func() {
			p.flow.passed(w.now, p.size)
			if w.random.Float64() >= l.loss {
				if w.now >= l.redraw {
					l.extra, l.redraw = l.jitter*w.random.Float64(), w.now+0.01
				}
				out := w.awake(w.now + l.delay + l.extra)
				l.lastOut = max(out, l.lastOut) // jitter without reordering
				w.after(l.lastOut-w.now, func() { p.flow.receive(p) })
			}
			w.serve()
		})
		return
	}
	l.busy = false
}

// codelState is RFC 8289 in its simplest form.
type codelState struct {
	first, next float64
	count       int
	dropping    bool
}

func (c *codelState) drop(now, wait, backlog float64) bool {
	const target, interval = 0.005, 0.1
	if wait < target || backlog < wire {
		c.first, c.dropping = 0, false
		return false
	}
	if c.first == 0 {
		c.first = now + interval
		return false
	}
	if now < c.first {
		return false
	}
	if !c.dropping {
		c.dropping = true
		if now-c.next < interval && c.count > 2 {
			c.count -= 2
		} else {
			c.count = 1
		}
		c.next = now + interval/math.Sqrt(float64(c.count))
		return true
	}
	if now >= c.next {
		c.count++
		c.next += interval / math.Sqrt(float64(c.count))
		return true
	}
	return false
}

// tcp is one connection: a CUBIC sender behind the link and its receiver in front of it.
type tcp struct {
	w  *world
	id int
	on bool
	// sender
	cwnd, ssthresh float64 // packets
	next           int
	una            int
	sent           map[int]*sentPkt
	lost           []int
	highest        int
	recover        int
	edge           float64 // packets that the receiver allows, from the start
	wmax, epoch    float64
	friendly       float64 // cwnd when the epoch began
	lastAck        float64
	srtt, minRTT   float64
	roundMin       float64
	roundEnd       int
	tsecr          float64 // of the newest acknowledgement
	limit          int     // packets to send; 0: without end
	done           func()
	// receiver
	got       map[int]bool
	rcv       int
	unacked   int
	fresh     []int
	window    float64 // packets; 0: as large as needed
	lastTsecr float64
	est       float64 // smoothed as tcpi_rcv_rtt
	segs      int     // since the last poll
	estBefore float64
	bytes     float64
	ooo       int
	ackTimer  int
	passed    func(now, size float64)
	// without timestamps
	plain   bool
	offered float64 // packets that the last acknowledgement allowed
	down    flow    // what the governor remembers
	// a governed sender
	up       bool
	clamp    float64 // packets under way, at most
	pace     float64 // bytes per second; 0: at once
	nextPair float64
	written  int     // packets that the kernel has been given
	spoke    float64 // when it last sent only to listen
	every    float64 // and how often it may
	acks     int     // since the last poll
	acked1   float64 // bytes
	again    int     // packets sent again
	quick    int     // how many segments the peer acknowledges at once
}

type sentPkt struct {
	at    float64
	again bool
	lost  bool
}

func (w *world) flow(passed func(now, size float64)) *tcp {
	w.seq++
	t := &tcp{w: w, id: w.seq, cwnd: 10, ssthresh: 1e9, sent: map[int]*sentPkt{}, got: map[int]bool{}, passed: passed, lastTsecr: -1}
	return t
}

func (t *tcp) start() {
	t.on = true
	t.lastAck = t.w.now
	t.edge = 1e12
	if t.window > 0 {
		t.edge = t.window
	}
	t.tsecr = t.w.now - t.w.link.delay/2
	t.pump()
	t.watch()
}

func (t *tcp) stop() { t.on = false }

// watch is the retransmission timeout.
func (t *tcp) watch() {
	if !t.on {
		return
	}
	patience := 3 * t.srtt
	if t.srtt == 0 {
		patience = 1 // RFC 6298 2.1
	}
	if len(t.sent) > 0 && t.w.now-t.lastAck > max(0.3, patience) {
		for seq, s := range t.sent {
			if !s.lost {
				s.lost = true
				t.lost = append(t.lost, seq)
			}
		}
		slices.Sort(t.lost)
		t.ssthresh, t.cwnd = max(t.cwnd*0.7, 2), 2
		t.lastAck = t.w.now
		t.pump()
	}
	t.w.after(0.1, t.watch)
}

func (t *tcp) inflight() int { return len(t.sent) - len(t.lost) }

func (t *tcp) pump() {
	for t.on && float64(t.inflight()) < t.cwnd {
		seq, again := t.next, false
		if t.up && len(t.lost) == 0 && !t.allowed() {
			return
		}
		switch {
		case len(t.lost) > 0:
			seq, again = t.lost[0], true
			t.lost = t.lost[1:]
		case float64(t.next)+1 > t.edge || t.limit > 0 && t.next >= t.limit:
			return
		default:
			t.next++
		}
		t.sent[seq] = &sentPkt{at: t.w.now, again: again}
		p := &pkt{flow: t, seq: seq, size: wire, tsecr: t.tsecr, again: again}
		if t.up && seq == 0 {
			p.size = 300 // the head of a request
		}
		if again {
			t.again++
		}
		// The way from the server to the link takes no time; the whole delay is behind it.
		t.w.send(p)
	}
}

// write gives the sender as many packets more as the law allows now, in pairs.
func (t *tcp) write() {
	room := t.clamp - float64(t.written) + t.acked1/segment
	if t.every > 0 && t.w.now < t.spoke+t.every || room < ackPair {
		return
	}
	t.spoke = t.w.now
	t.written += int(room) / ackPair * ackPair
	t.pump()
}

// allowed reports whether another packet may go now; if pacing alone holds it back it goes by itself.
func (t *tcp) allowed() bool {
	if t.next >= t.written {
		return false
	}
	if t.pace > 0 && t.next%ackPair == 0 {
		if wait := t.nextPair - t.w.now; wait > 0 {
			t.w.after(wait+1e-6, t.pump)
			return false
		}
		t.nextPair = t.w.now + ackPair*segment/t.pace
	}
	return true
}

func (t *tcp) receive(p *pkt) {
	w := t.w
	t.segs++
	if !t.up && p.tsecr > t.lastTsecr { // tcp_rcv_rtt_measure_ts
		t.lastTsecr = p.tsecr
		ms := math.Floor(w.now*1000) - math.Floor(p.tsecr*1000)
		m := max(ms, 1) / 1000
		if t.est == 0 || m < t.est {
			t.est = m
		} else if t.segs == 1 { // the queue of the socket was empty
			t.est += (m - t.est) / 8
		}
	}
	if t.got[p.seq] || p.seq < t.rcv {
		t.ack()
		return
	}
	t.got[p.seq] = true
	t.fresh = append(t.fresh, p.seq)
	gap := p.seq > t.rcv
	if gap {
		t.ooo++
	}
	for t.got[t.rcv] {
		delete(t.got, t.rcv)
		t.rcv++
		t.bytes += segment
	}
	if t.limit > 0 && t.rcv >= t.limit && t.done != nil {
		d := t.done
		t.done = nil
		d()
	}
	t.unacked++
	if t.up {
		t.quick--
	}
	if t.unacked >= ackPair || gap || t.up && t.quick > 0 {
		t.ack()
		return
	}
	t.ackTimer++
	n := t.ackTimer
	w.after(0.04, func() {
		if n == t.ackTimer && t.unacked > 0 {
			t.ack()
		}
	})
}

func (t *tcp) ack() {
	t.unacked = 0
	t.ackTimer++
	news, rcv, at := t.fresh, t.rcv, t.w.now
	t.fresh = nil
	edge := 1e12
	if t.window > 0 {
		edge = float64(rcv) + math.Floor(t.window)
		t.offered = math.Floor(t.window)
	}
	t.w.after(0, func() { t.acked(news, rcv, at, edge) })
}

func (t *tcp) acked(news []int, rcv int, at, edge float64) {
	w := t.w
	if len(news) > 0 {
		t.lastAck = w.now
	}
	t.tsecr = at
	t.edge = max(t.edge, edge) // a window is never taken back
	limited := float64(t.inflight()) >= t.cwnd-3
	n := 0
	if t.up {
		t.measure(news)
	}
	for _, seq := range news {
		s := t.sent[seq]
		if s == nil {
			continue
		}
		n++
		if !s.again {
			rtt := w.now - s.at
			if t.srtt == 0 {
				t.srtt, t.minRTT = rtt, rtt
			}
			t.srtt += (rtt - t.srtt) / 8
			t.minRTT = min(t.minRTT, rtt)
			t.roundMin = min(t.roundMin, rtt)
		}
		if s.lost {
			t.lost = slices.DeleteFunc(t.lost, func(l int) bool { return l == seq })
		}
		delete(t.sent, seq)
		t.highest = max(t.highest, seq)
	}
	t.una = rcv
	lossy := false
	for seq, s := range t.sent {
		if rcv > t.highest { // nothing is missing
			break
		}
		// The reordering window of RACK, by time for what was sent again.
		if !s.lost && seq < t.highest-3 && (!s.again || w.now-s.at > 1.25*t.srtt) {
			s.lost = true
			t.lost = append(t.lost, seq)
			lossy = true
		}
	}
	if lossy {
		slices.Sort(t.lost)
		if t.una >= t.recover {
			t.recover = t.next
			t.wmax = t.cwnd
			t.cwnd = max(2, t.cwnd*0.7)
			t.ssthresh = t.cwnd
			t.epoch = 0
		}
	} else if limited {
		t.grow(n)
	}
	if t.una >= t.roundEnd { // HyStart's delay test
		if t.cwnd < t.ssthresh && t.roundMin > t.minRTT+min(max(t.minRTT/8, 0.004), 0.016) && t.cwnd > 16 && t.roundMin < 1e8 {
			t.ssthresh = t.cwnd
		}
		t.roundEnd, t.roundMin = t.next, 1e9
	}
	t.pump()
}

// measure is the estimate of the round-trip time of a sender, to which the first of the segments counts that
// are acknowledged together.
func (t *tcp) measure(news []int) {
	first := math.Inf(1)
	for _, seq := range news {
		if s := t.sent[seq]; s != nil && !s.again {
			first = min(first, s.at)
		}
		t.acked1 += segment
	}
	if math.IsInf(first, 1) {
		return
	}
	rtt := t.w.now - first
	if t.est == 0 {
		t.est = rtt
	}
	t.est += (rtt - t.est) / 8
	t.acks++
}

func (t *tcp) grow(n int) {
	if t.cwnd < t.ssthresh {
		t.cwnd += float64(n)
		return
	}
	if t.epoch == 0 {
		t.epoch, t.friendly = t.w.now, t.cwnd
		if t.wmax < t.cwnd {
			t.wmax = t.cwnd
		}
	}
	before := t.cwnd
	k := math.Cbrt(t.wmax * 0.3 / 0.4)
	x := t.w.now - t.epoch + t.srtt - k
	target := 0.4*x*x*x + t.wmax
	reno := t.friendly + 3*0.3/1.7*(t.w.now-t.epoch)/t.srtt
	target = max(target, reno)
	if target > t.cwnd {
		t.cwnd += min((target-t.cwnd)/t.cwnd*float64(n), 0.5*float64(n))
	} else {
		t.cwnd += 0.01 * float64(n) / t.cwnd
	}
	if t.recover == 0 { // nothing was lost so far: 5 % in a round trip, at least (tcp_cubic.c)
		t.cwnd = max(t.cwnd, before+0.05*float64(n))
	}
}

// governed drives the window of connections by the control law, as the service does.
func (w *world) governed(flows []*tcp, c *control) {
	var (
		before float64
		ooo    int
		late   bool
		poll   func()
	)
	look := func(t *tcp) (rtt float64) {
		switch {
		case t.up:
			if t.acks > 0 {
				rtt = average(t.estBefore, t.est, t.acks)
			}
		case t.plain:
			r, now := reading{bytes: int64(t.bytes), window: int(t.offered * segment), handshake: w.link.delay}, time.Unix(0, int64(w.now*1e9))
			if t.segs > 0 {
				rtt = t.down.byWindow(t.down.last.bytes, t.down.looked, r, now)
			}
			t.down.last, t.down.looked = r, now
		case t.segs > 0:
			rtt = newest(t.estBefore, t.est)
		}
		t.acks, t.segs, t.estBefore = 0, 0, t.est
		return rtt
	}
	allow := func() {
		for _, t := range flows {
			t.window = c.share(len(flows)) / segment
			if t.plain {
				t.window = max(t.window, leastWindow/segment)
			}
			if t.up {
				t.clamp = max(t.window, 2) * (1 + c.period()/max(c.base+c.queue, 0.001))
				t.pace, t.every = c.pacing(max(t.window, 2)*segment), c.listenEvery(len(flows))
				t.window = 0
				if !c.hesitates() {
					t.write()
				}
			}
		}
	}
	poll = func() {
		s := sample{now: w.now + 1, cap: -1, late: late, up: flows[0].up}
		n, gap := 0, math.Inf(1)
		for _, t := range flows {
			if rtt := look(t); rtt > 0 && (s.rtt == 0 || rtt < s.rtt) {
				s.rtt = rtt
			}
			s.bytes += t.bytes
			n += t.ooo
			if t.up {
				s.flight += float64(t.inflight()) * segment
				s.slack += 2 * segment
				s.bytes += t.acked1 - t.bytes
				n += t.again - t.ooo
				if t.pace == 0 {
					gap = 0
				} else {
					gap = min(gap, segment/t.pace)
				}
			}
		}
		if flows[0].up {
			s.pair = c.pairWait(gap)
		}
		if flows[0].plain {
			s.coarse, s.pair = coarse, c.pairArrives()
		}
		s.bytes, before = s.bytes-before, s.bytes
		s.lost, ooo = n-ooo, n
		c.step(s)
		allow()
		wake := w.now + c.period()
		at := w.awake(wake)
		late = at-wake > tooLate.Seconds()
		w.after(at-w.now, poll)
	}
	allow()
	w.after(tick, poll)
}
