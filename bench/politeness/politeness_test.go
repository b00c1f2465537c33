package main

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bench/politeness/link"
)

func TestMain(m *testing.M) {
	// The lab starts its own program for servers and loads.
	if len(os.Args) > 1 && programs[os.Args[1]] != nil {
		if err := run(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestYieldsAndRecovers is the short form of the laboratory: ebb gives way to a neighbour and comes
// back. The figures are for the long form.
func TestYieldsAndRecovers(t *testing.T) {
	why := ""
	if os.Geteuid() != 0 {
		why = "the laboratory needs root for network namespaces"
	} else if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		why = "the laboratory needs TUN devices: " + err.Error()
	} else {
		_ = f.Close()
	}
	if why != "" && os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	if why != "" {
		t.Skip(why)
	}
	if err := run([]string{"--smoke", "--dir", t.TempDir()}); err != nil {
		t.Error(err)
	}
}

// steady is a course of rates in bit/s, each for a second.
func steady(rates ...float64) []int64 {
	var bytes []int64
	for _, r := range rates {
		for range int(time.Second / bin) {
			bytes = append(bytes, int64(r/8*bin.Seconds()))
		}
	}
	return bytes
}

func TestRate(t *testing.T) {
	course := steady(8000, 16000)
	for _, c := range []struct {
		from, to time.Duration
		want     float64
	}{{0, time.Second, 8000}, {0, 2 * time.Second, 12000}, {-time.Second, time.Second, 8000}, {time.Second, 9 * time.Second, 16000}, {time.Second, time.Second, 0}, {5 * time.Second, 9 * time.Second, 0}} {
		if got := rate(course, c.from, c.to); got != c.want {
			t.Errorf("from %v to %v: %v bit/s, want %v", c.from, c.to, got, c.want)
		}
	}
}

func TestPasses(t *testing.T) {
	course := steady(8000, 8000, 400, 8000)
	low := func(bps float64) bool { return bps < 800 }
	high := func(bps float64) bool { return bps >= 6400 }
	for _, c := range []struct {
		name       string
		start, end time.Duration
		wanted     func(float64) bool
		want       time.Duration
		ok         bool
	}{
		{"falls", time.Second, 4 * time.Second, low, 2*time.Second + 60*ms, true},
		{"is low", 2500 * ms, 4 * time.Second, low, 2500 * ms, true},
		{"is low between two bins", 2510 * ms, 4 * time.Second, low, 2510 * ms, true},
		{"rises", 2500 * ms, 4 * time.Second, high, 3*time.Second + 40*ms, true},
		{"a dip is too short", 2800 * ms, 4 * time.Second, low, 4 * time.Second, false},
		{"falls too late", 0, 2 * time.Second, low, 2 * time.Second, false},
	} {
		if got, ok := passes(course, c.start, c.end, c.wanted); got != c.want || ok != c.ok {
			t.Errorf("%s: at %v (%v), want %v (%v)", c.name, got, ok, c.want, c.ok)
		}
	}
}

func TestPercentile(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64((i*37)%100))
	}
	for _, c := range []struct {
		samples []float64
		share   float64
		want    float64
	}{{nil, 0.5, 0}, {[]float64{3}, 0.95, 3}, {hundred, 0, 0}, {hundred, 0.5, 50}, {hundred, 0.95, 95}, {hundred, 1, 99}} {
		if got := percentile(c.samples, c.share); got != c.want {
			t.Errorf("%v of %d samples: %v, want %v", c.share, len(c.samples), got, c.want)
		}
	}
}

func TestSpread(t *testing.T) {
	at := func(s float64) *result { return &result{Yield: &s} }
	never := &result{}
	for _, c := range []struct {
		runs []*result
		want string
	}{
		{[]*result{at(0.2)}, "0.20"}, {[]*result{never}, "never"},
		{[]*result{at(3), at(1), at(2)}, "2.00 (3.00)"}, {[]*result{at(3), never, at(1)}, "3.00 (never)"},
	} {
		if got := spread(c.runs, func(r *result) *float64 { return r.Yield }); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// TestEvaluate: the figures of a run whose course is known.
func TestEvaluate(t *testing.T) {
	const full = 10 * mbit
	s := spec{link: linkSpec{name: "x", rate: full}, load: bulk, rival: ebbRival, phases: [3]time.Duration{4 * time.Second, 2 * time.Second, 3 * time.Second}}
	made := func(bg, fg []int64, bgFirst, fgFirst, fgLast time.Duration) *trace {
		x := &trace{spec: s, down: newRecorder(0), up: newRecorder(0), stopped: 9 * time.Second}
		x.down.payload = [owners][]int64{background: bg, foreground: fg}
		x.up.first = [owners]time.Duration{background: bgFirst, foreground: fgFirst}
		x.down.last = [owners]time.Duration{foreground: fgLast}
		return x
	}
	ran := made(steady(0, 8*mbit, 8*mbit, 8*mbit, 5*mbit, 0, 0, 7*mbit, 7*mbit), steady(0, 0, 0, 0, 4*mbit, 8*mbit, 0, 0, 0), 0, 4*time.Second, 6*time.Second)
	alone := made(nil, steady(8*mbit, 8*mbit), 0, 0, 2*time.Second)
	curlAlone := made(steady(0, 10*mbit, 10*mbit, 10*mbit, 10*mbit, 10*mbit, 10*mbit, 10*mbit, 10*mbit), nil, 0, 0, 0)
	r := evaluate(ran, alone, curlAlone)
	if r.Alone != 8*mbit || r.With != 6*mbit || r.loss() != 0.25 {
		t.Errorf("the foreground has %v of %v, lost %v", r.With, r.Alone, r.loss())
	}
	if r.use() != 0.8 || r.useAfter() != 0.7 {
		t.Errorf("idle use is %v, then %v", r.use(), r.useAfter())
	}
	if r.Yield == nil || *r.Yield < 1 || *r.Yield > 1.07 || r.Recover == nil || *r.Recover < 1 || *r.Recover > 1.07 {
		t.Errorf("yields after %s s, recovers after %s s, want 1 s", second(r.Yield), second(r.Recover))
	}
}

func TestOwners(t *testing.T) {
	for _, c := range []struct {
		from, to uint16
		want     owner
	}{{httpPort, 40000, background}, {40000, h2Port, background}, {foregroundPort, 50000, foreground}, {50000, foregroundPort, foreground}, {0, 0, other}, {53, 40000, other}} {
		if got := ownerOf(link.Flow{FromPort: c.from, ToPort: c.to}); got != c.want {
			t.Errorf("port %d to %d belongs to %d, want %d", c.from, c.to, got, c.want)
		}
	}
}

func TestFindLinks(t *testing.T) {
	all, err := findLinks("all")
	if err != nil || len(all) != len(links) {
		t.Errorf("all: %d links, %v", len(all), err)
	}
	some, err := findLinks("5m-100ms,short")
	if err != nil || len(some) != 2 || some[1].name != "20m-100ms" {
		t.Errorf("got %v, %v", some, err)
	}
	if _, err := findLinks("nonsense"); err == nil {
		t.Error("no error for a link that is not there")
	}
	for group, names := range linkGroups {
		if found, err := findLinks(group); err != nil || group != "all" && len(found) != len(names) {
			t.Errorf("group %s: %v", group, err)
		}
	}
	for _, l := range links {
		if l.rate == 0 {
			continue
		}
		down, up := l.directions(1)
		for _, cfg := range []link.Config{down, up} {
			if _, err := link.New(cfg, newRecorder(0)); err != nil {
				t.Errorf("%s: %v", l.name, err)
			}
		}
		if !slices.IsSortedFunc(down.Steps, func(a, b link.Step) int { return int(a.At - b.At) }) {
			t.Errorf("%s: steps are not in order", l.name)
		}
	}
}
