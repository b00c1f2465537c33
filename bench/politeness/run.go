package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/bench/politeness/link"
)

// spec says what a run is.
type spec struct {
	link        linkSpec
	load        string // "" is none
	from        string // where the load runs
	rival       string // "" is none
	server      string // of the rival
	proto       string
	connections int
	phases      [3]time.Duration // idle, contention, idle
	seed        uint64
}

func (s spec) String() string {
	return fmt.Sprintf("%s-%s-%s-%s-%s-%d-%d", s.link.name, s.load, s.from, s.rival, s.proto, s.connections, s.seed)
}

// probing reports whether the load is one of small things that suffer while the rival alone fills
// the link: it runs all the time.
func (s spec) probing() bool { return s.load == web || s.load == voice }

// lead is how long a load that runs all the time runs before the rival starts.
const lead = time.Second

// trace is what was seen in a run. Times count from when its link was laid.
type trace struct {
	spec     spec
	down, up *recorder
	loaded   time.Duration // when the load's program was started
	started  time.Duration // when the rival was
	stopped  time.Duration
	samples  []sample
	began    time.Time
	cpu      float64 // of the rival while the link was idle otherwise, in cores
	wire     link.Report
	machine  machineUse
}

// run makes a run.
func (l *lab) run(ctx context.Context, s spec) (_ *trace, err error) {
	dir, err := os.MkdirTemp(l.dir, "run-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()

	t := &trace{spec: s}
	total := lead + s.phases[0] + s.phases[1] + s.phases[2]
	t.down, t.up = newRecorder(total+5*time.Second), newRecorder(total+5*time.Second)
	downConfig, upConfig := s.link.directions(s.seed)
	down, err := link.New(downConfig, t.down)
	if err != nil {
		return nil, err
	}
	up, err := link.New(upConfig, t.up)
	if err != nil {
		return nil, err
	}
	start := func() (*rival, error) { return nil, nil }
	if s.rival != nobody {
		if start, err = l.prepare(ctx, s, dir); err != nil {
			return nil, err
		}
	}
	watch := watchMachine()
	wire := link.Run(l.bed.far, l.bed.near, down, up)
	t.began = wire.Began()
	err = l.phases(ctx, s, t, dir, wire, start)
	if err == nil {
		err = process.Sleep(ctx, downConfig.Delay*4+s.link.queue+200*ms) // what is on its way
	}
	report, wireErr := wire.Stop()
	t.wire, t.machine = report, watch()
	if err == nil {
		err = wireErr
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	return t, nil
}

// phases starts and ends the rival and the load.
func (l *lab) phases(ctx context.Context, s spec, t *trace, dir string, wire *link.Wire, start func() (*rival, error)) error {
	var fg *loadProcess
	var err error
	begin := func(d time.Duration) error {
		t.loaded = wire.Now()
		fg, err = l.load(s, dir, d)
		return err
	}
	if s.probing() {
		if err := begin(lead + s.phases[0] + s.phases[1] + s.phases[2]); err != nil {
			return err
		}
		defer fg.Kill()
		if err := process.Sleep(ctx, lead); err != nil {
			return err
		}
	}
	t.started = wire.Now()
	bg, err := start()
	if err != nil {
		return err
	}
	if bg != nil {
		defer bg.stop()
	}
	wait := func(until time.Duration) error {
		if bg != nil && !bg.Running() {
			said, _ := os.ReadFile(filepath.Join(dir, "log"))
			return fmt.Errorf("%s has ended; it said: %s", s.rival, said)
		}
		return process.Sleep(ctx, until-wire.Now())
	}
	if err := t.idle(s, bg, wait); err != nil {
		return err
	}
	if s.load != "" && !s.probing() {
		if err := begin(s.phases[1]); err != nil {
			return err
		}
		defer fg.Kill()
	}
	if err := wait(t.started + s.phases[0] + s.phases[1] + s.phases[2]); err != nil {
		return err
	}
	if err := wait(wire.Now()); err != nil {
		return err
	}
	t.stopped = wire.Now()
	if fg != nil {
		t.samples, err = fg.samples(ctx)
	}
	return err
}

// warmUp is the beginning of the first phase, which does not count as use of the idle link.
const warmUp = time.Second

// idle waits through the first phase and takes the rival's processor time in it.
func (t *trace) idle(s spec, bg *rival, wait func(time.Duration) error) error {
	if bg == nil || s.phases[0] < 2*warmUp {
		return wait(t.started + s.phases[0])
	}
	if err := wait(t.started + warmUp); err != nil {
		return err
	}
	began := time.Now()
	before, err := bg.CPU()
	if err != nil {
		return err
	}
	if err := wait(t.started + s.phases[0]); err != nil {
		return err
	}
	after, err := bg.CPU()
	if err != nil {
		return err
	}
	t.cpu = (after - before).Seconds() / time.Since(began).Seconds()
	return nil
}

// loadProcess is the program of a load.
type loadProcess struct {
	*process.Process
	out string
}

// load starts a load for a time.
func (l *lab) load(s spec, dir string, d time.Duration) (*loadProcess, error) {
	server := cubic
	if s.load == bulkBBR {
		server = bbr
	}
	out := filepath.Join(dir, "load")
	p, err := l.spawn(s.from, out, l.self, "load", "--for", d.String(), "--rate", strconv.FormatInt(videoRate(s.link), 10), s.load, addresses[server])
	return &loadProcess{p, out}, err
}

// videoRate is that of a video that suits the link.
func videoRate(l linkSpec) int64 { return min(8*mbit, l.rate/3) }

// samples returns what the load noted, when it has ended.
func (p *loadProcess) samples(ctx context.Context) ([]sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := p.Wait(ctx)
	b, readErr := os.ReadFile(p.out)
	if err != nil {
		return nil, fmt.Errorf("the load failed: %w; it said: %s", err, b)
	}
	if readErr != nil {
		return nil, readErr
	}
	var list []sample
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("the load said: %s", b)
	}
	return list, nil
}

// machineUse is what all of the machine did in a time, as shares of its processors' time.
type machineUse struct{ idle, stolen float64 }

// watchMachine begins to watch. The function that it returns ends that.
func watchMachine() func() machineUse {
	before := processorTimes()
	return func() machineUse {
		after := processorTimes()
		var sum float64
		for i := range min(len(before), len(after)) {
			after[i] -= before[i]
			sum += after[i]
		}
		if len(after) < 8 || sum == 0 {
			return machineUse{idle: 1}
		}
		return machineUse{idle: (after[3] + after[4]) / sum, stolen: after[7] / sum}
	}
}

// processorTimes returns the numbers of the first line of /proc/stat: user, nice, system, idle,
// waiting for disks, interrupts, soft interrupts, stolen by the host.
func processorTimes() []float64 {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	var times []float64
	for _, word := range strings.Fields(line)[1:] {
		n, _ := strconv.ParseFloat(word, 64)
		times = append(times, n)
	}
	return times[:min(8, len(times))]
}
