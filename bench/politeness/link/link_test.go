package link

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const (
	ms = time.Millisecond
	// At rate, a full packet takes a millisecond.
	rate = 12_000_000
)

// tally is a Meter that remembers.
type tally struct {
	left    []departure
	dropped []departure
}

type departure struct {
	flow   Flow
	at     time.Duration
	waited time.Duration
	size   int
}

func (t *tally) Departed(p *Packet, at time.Duration) {
	t.left = append(t.left, departure{p.Flow, at, at - p.arrived, len(p.Data)})
}

func (t *tally) Dropped(p *Packet, at time.Duration) {
	t.dropped = append(t.dropped, departure{p.Flow, at, at - p.arrived, len(p.Data)})
}

func (*tally) Queued(int, time.Duration) {}

// of returns what happened to the packets of a flow after a time.
func of(list []departure, f Flow, after time.Duration) []departure {
	return slices.DeleteFunc(slices.Clone(list), func(d departure) bool { return d.flow != f || d.at <= after })
}

func longest(list []departure) time.Duration {
	var d time.Duration
	for _, p := range list {
		d = max(d, p.waited)
	}
	return d
}

func newDirection(t *testing.T, cfg Config) (*Direction, *tally) {
	t.Helper()
	seen := &tally{}
	d, err := New(cfg, seen)
	if err != nil {
		t.Fatal(err)
	}
	return d, seen
}

// flowOf is the n-th flow.
func flowOf(n int) Flow {
	return Flow{From: [4]byte{10, 0, 0, 1}, To: [4]byte{10, 0, 0, 2}, FromPort: 80, ToPort: uint16(n), Protocol: TCP}
}

// fill makes a packet of a flow with a size.
func fill(p *Packet, f Flow, size int) *Packet {
	p.Data = p.Data[:size]
	clear(p.Data)
	p.Data[0], p.Data[9] = 4<<4|5, f.Protocol
	binary.BigEndian.PutUint16(p.Data[2:], uint16(size))
	copy(p.Data[12:], f.From[:])
	copy(p.Data[16:], f.To[:])
	binary.BigEndian.PutUint16(p.Data[20:], f.FromPort)
	binary.BigEndian.PutUint16(p.Data[22:], f.ToPort)
	p.Data[32] = 5 << 4
	return p
}

// sender is a flow that sends packets at an interval, from one time up to another.
type sender struct {
	flow     Flow
	from, to time.Duration
	every    time.Duration
	size     int // MTU if 0
}

// send has flows send, and returns when packets came out.
func send(d *Direction, senders ...sender) (due []time.Duration) {
	collect := func(now time.Duration) {
		for {
			p, at := d.Due(now)
			if p == nil {
				return
			}
			due = append(due, at)
			d.Done(p)
		}
	}
	next := make([]time.Duration, len(senders))
	for i, s := range senders {
		next[i] = s.from
	}
	for {
		first := -1
		for i, s := range senders {
			if next[i] < s.to && (first < 0 || next[i] < next[first]) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		s := senders[first]
		size := s.size
		if size == 0 {
			size = MTU
		}
		collect(next[first])
		d.Arrive(fill(d.Packet(), s.flow, size), next[first])
		next[first] += s.every
	}
	collect(math.MaxInt64)
	return due
}

func TestDropTail(t *testing.T) {
	d, seen := newDirection(t, Config{Rate: rate, Delay: 10 * ms, Queue: DropTail, Limit: 3 * MTU})
	for range 6 {
		d.Arrive(fill(d.Packet(), flowOf(1), MTU), 5*ms)
	}
	// One is sent, three wait, two are dropped.
	var due []time.Duration
	for {
		next, ok := d.Next()
		if !ok {
			break
		}
		p, at := d.Due(next)
		if p == nil {
			t.Fatalf("nothing comes out at %v, when it should", next)
		}
		due = append(due, at)
		d.Done(p)
	}
	if want := []time.Duration{16 * ms, 17 * ms, 18 * ms, 19 * ms}; !slices.Equal(due, want) {
		t.Errorf("packets come out at %v, want %v", due, want)
	}
	if len(seen.dropped) != 2 {
		t.Errorf("%d packets are dropped, want 2", len(seen.dropped))
	}
	if got := longest(seen.left); got != 4*ms {
		t.Errorf("the last packet took %v, want 4ms", got)
	}
}

func TestRate(t *testing.T) {
	for _, c := range []struct {
		name  string
		cfg   Config
		every time.Duration
		want  int // packets that leave in the tenth second
	}{
		{"too little to send", Config{Queue: DropTail}, 2 * ms, 500},
		{"too much", Config{Queue: DropTail}, 700 * time.Microsecond, 1000},
		{"half the rate after a step", Config{Queue: DropTail, Steps: []Step{{At: 5 * time.Second, Rate: rate / 2}}}, ms / 2, 500},
		{"up and down", Config{Queue: DropTail, Steps: []Step{{At: time.Second, Rate: rate / 2}, {At: 2 * time.Second, Rate: 2 * rate}}}, ms / 4, 2000},
		{"fair queueing", Config{Queue: FQ}, 700 * time.Microsecond, 1000},
		{"CoDel", Config{Queue: CoDel}, 700 * time.Microsecond, 1000},
		{"FQ-CoDel", Config{Queue: FQCoDel}, 700 * time.Microsecond, 1000},
		{"a policer", Config{Queue: Policer}, 700 * time.Microsecond, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Rate, c.cfg.Limit = rate, 100*MTU
			d, seen := newDirection(t, c.cfg)
			send(d, sender{flow: flowOf(1), to: 11 * time.Second, every: c.every})
			n := 0
			for _, p := range seen.left {
				if p.at > 9*time.Second && p.at <= 10*time.Second {
					n++
				}
			}
			if n < c.want-1 || n > c.want+1 {
				t.Errorf("%d packets leave in a second, want %d", n, c.want)
			}
		})
	}
}

// TestPolicer: it drops what is too much and never lets anything wait.
func TestPolicer(t *testing.T) {
	d, seen := newDirection(t, Config{Rate: rate, Delay: 10 * ms, Queue: Policer, Limit: 5 * MTU})
	send(d, sender{flow: flowOf(1), to: time.Second, every: ms / 2})
	if got := longest(seen.left); got != 0 {
		t.Errorf("a packet waited %v", got)
	}
	// A bucket full of tokens, and a packet each millisecond.
	if n := len(seen.left); n < 1003 || n > 1005 {
		t.Errorf("%d packets of 2000 pass, want 1004", n)
	}
}

// TestCoDelLaw: while a queue stays too long, drops follow each other as RFC 8289 wants it.
func TestCoDelLaw(t *testing.T) {
	d, seen := newDirection(t, Config{Rate: rate, Queue: CoDel, Limit: 10000 * MTU})
	send(d, sender{flow: flowOf(1), to: 2 * time.Second, every: ms / 2})
	// From 10 ms on packets wait for more than 5 ms; that must last for 100 ms.
	if first := seen.dropped[0].at; first < 105*ms || first > 115*ms {
		t.Errorf("the first drop is at %v, want about 110ms", first)
	}
	for i := range 10 {
		got := seen.dropped[i+1].at - seen.dropped[i].at
		want := time.Duration(float64(100*ms) / math.Sqrt(float64(i+1)))
		if got < want-2*ms || got > want+2*ms {
			t.Errorf("the pause after drop %d is %v, want %v", i+1, got, want)
		}
	}
}

// TestCoDelControls: a sender that is a tenth too fast, and does not care, finds a queue of some ms
// instead of one that grows to two seconds; one that is not too fast loses nothing.
func TestCoDelControls(t *testing.T) {
	d, seen := newDirection(t, Config{Rate: rate, Queue: CoDel, Limit: 10000 * MTU})
	send(d, sender{flow: flowOf(1), to: 20 * time.Second, every: ms * 10 / 11})
	var waits []time.Duration
	for _, p := range of(seen.left, flowOf(1), 10*time.Second) {
		waits = append(waits, p.waited)
	}
	slices.Sort(waits)
	if got := waits[len(waits)/2]; got > 50*ms {
		t.Errorf("packets wait for %v", got)
	}
	d, seen = newDirection(t, Config{Rate: rate, Queue: CoDel, Limit: 10000 * MTU})
	send(d, sender{flow: flowOf(1), to: 20 * time.Second, every: ms * 11 / 10})
	if len(seen.dropped) > 0 {
		t.Errorf("%d packets are dropped although none had to wait", len(seen.dropped))
	}
}

func TestFairShares(t *testing.T) {
	const half = time.Second / 2
	for _, kind := range []Discipline{FQ, FQCoDel} {
		t.Run(string(kind), func(t *testing.T) {
			d, seen := newDirection(t, Config{Rate: rate, Queue: kind, Limit: 100 * MTU})
			greedy, greedier, sparse := flowOf(1), flowOf(2), flowOf(3)
			send(d,
				sender{flow: greedy, to: 10 * time.Second, every: ms},
				sender{flow: greedier, to: 10 * time.Second, every: ms / 4},
				sender{flow: sparse, to: 10 * time.Second, every: 20*ms + 1, size: 200})
			a, b := len(of(seen.left, greedy, half)), len(of(seen.left, greedier, half))
			if math.Abs(float64(a-b)) > float64(a)/50 {
				t.Errorf("two flows that want more got %d and %d packets", a, b)
			}
			if n := len(of(seen.dropped, sparse, 0)); n > 0 {
				t.Errorf("%d packets of the flow that sends little were dropped", n)
			}
			// The packet that is being sent, one of each other flow, and its own.
			if got := longest(of(seen.left, sparse, 0)); got > 4*ms {
				t.Errorf("packets of the flow that sends little wait up to %v", got)
			}
		})
	}
}

// TestFullFairQueueDropsTheLongest: and at its head.
func TestFullFairQueueDropsTheLongest(t *testing.T) {
	d, seen := newDirection(t, Config{Rate: rate, Queue: FQ, Limit: 10 * MTU})
	for range 11 { // one is being sent
		d.Arrive(fill(d.Packet(), flowOf(1), MTU), 0)
	}
	if len(seen.dropped) > 0 {
		t.Fatal("a packet that had room was dropped")
	}
	d.Arrive(fill(d.Packet(), flowOf(2), MTU), ms/2)
	if len(seen.dropped) != 1 || seen.dropped[0].flow != flowOf(1) || seen.dropped[0].waited != ms/2 {
		t.Errorf("dropped was %+v, want the head of the longer flow", seen.dropped)
	}
}

func TestJitterKeepsOrder(t *testing.T) {
	const jitter = 15 * ms
	d, seen := newDirection(t, Config{Rate: rate, Delay: 20 * ms, Queue: DropTail, Limit: 10 * MTU, Jitter: jitter, Seed: 1})
	due := send(d, sender{flow: flowOf(1), to: 20 * time.Second, every: 2 * ms})
	if !slices.IsSorted(due) {
		t.Error("packets overtake each other")
	}
	var sum time.Duration
	least, most := jitter, time.Duration(0)
	for i, p := range seen.left {
		extra := due[i] - p.at - 20*ms
		least, most, sum = min(least, extra), max(most, extra), sum+extra
	}
	if least < 0 || least > ms || most > jitter || most < jitter-ms {
		t.Errorf("what is added is from %v to %v, want from 0 to %v", least, most, jitter)
	}
	if mean := sum / time.Duration(len(due)); mean < jitter/3 || mean > jitter*2/3 {
		t.Errorf("in the mean %v is added, want about half of %v", mean, jitter)
	}
}

func TestLoss(t *testing.T) {
	d, seen := newDirection(t, Config{Rate: rate, Queue: DropTail, Limit: 10 * MTU, Loss: 0.01, Seed: 7})
	due := send(d, sender{flow: flowOf(1), to: 100 * time.Second, every: 2 * ms})
	if lost := 50_000 - len(due); lost < 420 || lost > 580 || lost != len(seen.dropped) {
		t.Errorf("%d of 50000 packets are lost and %d are told of, want about 500", lost, len(seen.dropped))
	}
	if len(seen.left) != 50_000 {
		t.Errorf("%d packets pass the queue, want all", len(seen.left))
	}
}

// TestLateLooksChangeNothing: when its owner looks only now and then, the same packets come out at
// the same times.
func TestLateLooksChangeNothing(t *testing.T) {
	for _, kind := range []Discipline{DropTail, CoDel, FQ, FQCoDel, Policer} {
		t.Run(string(kind), func(t *testing.T) {
			course := func(look time.Duration) (due []time.Duration) {
				d, _ := newDirection(t, Config{Rate: rate, Delay: 7 * ms, Queue: kind, Limit: 50 * MTU, Jitter: 3 * ms, Loss: 0.02, Seed: 3})
				chance := rand.New(rand.NewPCG(1, 2))
				at, looked := time.Duration(0), time.Duration(0)
				for range 20_000 {
					at += time.Duration(chance.ExpFloat64() * float64(ms) * 0.95)
					for at-looked > look {
						looked += look
						for p, when := d.Due(looked); p != nil; p, when = d.Due(looked) {
							due = append(due, when)
							d.Done(p)
						}
					}
					d.Arrive(fill(d.Packet(), flowOf(chance.IntN(4)), 40+chance.IntN(MTU-39)), at)
				}
				return due
			}
			often, seldom := course(100*time.Microsecond), course(25*ms)
			n := min(len(often), len(seldom))
			if n < 15_000 || !slices.Equal(often[:n], seldom[:n]) {
				t.Errorf("the %d packets that come out differ", n)
			}
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{Rate: 1, Queue: DropTail, Limit: MTU}
	for name, spoil := range map[string]func(*Config){
		"no rate": func(c *Config) { c.Rate = 0 }, "no room": func(c *Config) { c.Limit = MTU - 1 },
		"everything is lost": func(c *Config) { c.Loss = 1 }, "no discipline": func(c *Config) { c.Queue = "" },
	} {
		c := good
		spoil(&c)
		if _, err := New(c, &tally{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestParse(t *testing.T) {
	f := flowOf(5)
	whole := fill(&Packet{Data: make([]byte, MTU)}, f, 1000).Data
	udp := slices.Clone(whole)
	udp[9] = UDP
	asUDP := f
	asUDP.Protocol = UDP
	options := slices.Clone(whole)
	options[32] = 8 << 4
	ping := slices.Clone(whole)
	ping[9] = ICMP
	asPing := Flow{From: f.From, To: f.To, Protocol: ICMP}
	six := slices.Clone(whole)
	six[0] = 6 << 4
	for _, c := range []struct {
		name    string
		b       []byte
		flow    Flow
		payload int
	}{
		{"TCP", whole, f, 960}, {"TCP with options", options, f, 948}, {"UDP", udp, asUDP, 972},
		{"ping", ping, asPing, 0}, {"IPv6", six, Flow{}, 0}, {"short", whole[:19], Flow{}, 0}, {"cut in the TCP header", whole[:39], Flow{From: f.From, To: f.To, Protocol: TCP}, 0},
	} {
		if flow, payload := parse(c.b); flow != c.flow || payload != c.payload {
			t.Errorf("%s: %+v with %d bytes, want %+v with %d", c.name, flow, payload, c.flow, c.payload)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(fill(&Packet{Data: make([]byte, MTU)}, flowOf(1), 100).Data)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, payload := parse(b); payload < 0 || payload > len(b) {
			t.Errorf("%d bytes of payload in a packet of %d", payload, len(b))
		}
	})
}
