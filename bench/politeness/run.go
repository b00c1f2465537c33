package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	upload      bool // the rival and a bulk load send, voice speaks
	// phases are idle, contention, idle. When the first is negative the rival starts by so much after
	// the load.
	phases [3]time.Duration
	seed   uint64
}

func (s spec) String() string {
	name := fmt.Sprintf("%s-%s-%s-%s-%s-%d-%d", s.link.name, s.load, s.from, s.rival, s.proto, s.connections, s.seed)
	if s.upload {
		name += "-upload"
	}
	return name
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
	loadReport
	began time.Time
	cpu   float64 // of the rival while the link was idle otherwise, in cores
	wire  link.Report
	late  time.Duration // p99 of how late a program of the lab woke up
}

// data returns what was seen in the direction in which the rival's bytes go.
func (t *trace) data() *recorder {
	if t.spec.upload {
		return t.up
	}
	return t.down
}

// run makes a run.
func (l *lab) run(ctx context.Context, s spec) (_ *trace, err error) {
	dir, err := os.MkdirTemp(l.dir, "run-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()

	t := &trace{spec: s}
	room := lead + s.total() + 2*time.Second
	t.down, t.up = newRecorder(room), newRecorder(room)
	downConfig, upConfig := s.link.directions(s.seed)
	if s.upload {
		downConfig, upConfig = upConfig, downConfig
	}
	if s.probing() {
		for _, c := range []*link.Config{&downConfig, &upConfig} {
			c.Steps = slices.Clone(c.Steps)
			for i := range c.Steps {
				c.Steps[i].At += lead
			}
		}
	}
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
	watch, err := l.spawn(machine, filepath.Join(dir, "watch"), l.self, "watch")
	if err != nil {
		return nil, err
	}
	defer watch.Kill()
	wire := link.Run(l.bed.far, l.bed.near, down, up)
	t.began = wire.Began()
	err = l.phases(ctx, s, t, dir, wire, start)
	err = errors.Join(err, l.bed.reset(ctx))
	if err == nil {
		err = process.Sleep(ctx, downConfig.Delay*4+s.link.queue+200*ms) // what is on its way
	}
	report, wireErr := wire.Stop()
	t.wire = report
	if err == nil {
		err = wireErr
	}
	if err == nil {
		t.late, err = lateness(ctx, watch, filepath.Join(dir, "watch"))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	return t, nil
}

// total is how long the run takes from the start of the rival or, where that is first, of the load.
func (s spec) total() time.Duration { return max(0, s.phases[0]) + s.phases[1] + s.phases[2] }

// phases starts and ends the rival and the load.
func (l *lab) phases(ctx context.Context, s spec, t *trace, dir string, wire *link.Wire, start func() (*rival, error)) error {
	var fg *loadProcess
	var bg *rival
	defer func() {
		if fg != nil {
			fg.Kill()
		}
		if bg != nil {
			bg.stop()
		}
	}()
	beginLoad := func(d time.Duration) (err error) {
		t.loaded = wire.Now()
		fg, err = l.load(s, dir, d)
		return err
	}
	beginRival := func() (err error) {
		t.started = wire.Now()
		bg, err = start()
		return err
	}
	wait := func(until time.Duration) error {
		if err := process.Sleep(ctx, until-wire.Now()); err != nil {
			return err
		}
		if bg != nil && !bg.Running() {
			said, _ := os.ReadFile(filepath.Join(dir, "log"))
			return fmt.Errorf("%s has ended; it said: %s", s.rival, said)
		}
		return nil
	}
	var steps []func() error
	end := s.total()
	switch {
	case s.load == "":
		steps = []func() error{beginRival, func() error { return t.idle(s, bg, wait) }}
	case s.probing():
		end += lead
		steps = []func() error{func() error { return beginLoad(end) }, func() error { return wait(lead) }, beginRival, func() error { return t.idle(s, bg, wait) }}
	case s.phases[0] < 0:
		steps = []func() error{func() error { return beginLoad(s.phases[1]) }, func() error { return wait(-s.phases[0]) }, beginRival}
	default:
		steps = []func() error{beginRival, func() error { return t.idle(s, bg, wait) }, func() error { return beginLoad(s.phases[1]) }}
	}
	steps = append(steps, func() error { return wait(end) })
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	t.stopped = wire.Now()
	if fg == nil {
		return nil
	}
	var err error
	t.loadReport, err = fg.report(ctx)
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
	p, err := l.spawn(s.from, out, l.self, "load", "--for", d.String(), "--rate", strconv.FormatInt(videoRate(s.link), 10), "--upload="+strconv.FormatBool(s.upload), s.load, addresses[server])
	return &loadProcess{p, out}, err
}

// videoRate is that of a video that suits the link.
func videoRate(l linkSpec) int64 { return min(8*mbit, l.rate/3) }

// report returns what the load printed, when it has ended.
func (p *loadProcess) report(ctx context.Context) (r loadReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = p.Wait(ctx)
	b, readErr := os.ReadFile(p.out)
	if err == nil {
		err = readErr
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("the load failed: %w; it said: %s", err, b)
	}
	return r, nil
}

// watch is a program that sleeps and wakes up until it is told to end; then it prints how late it
// woke up, p99, in nanoseconds.
func watch(ctx context.Context, _ []string) error {
	var late []float64
	for ctx.Err() == nil {
		const nap = 5 * ms
		began := time.Now()
		time.Sleep(nap)
		late = append(late, float64(time.Since(began)-nap))
	}
	_, err := fmt.Printf("%.0f", percentile(late, 0.99))
	return err
}

// lateness ends that program and returns what it printed.
func lateness(ctx context.Context, p *process.Process, out string) (time.Duration, error) {
	if _, err := p.Terminate(ctx); err != nil {
		return 0, err
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return time.Duration(n), err
}
