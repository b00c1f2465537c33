package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// row is what is told of one run.
type row struct {
	Link, Load, From, Rival string
	Alone, With             float64       // of the foreground, bit/s
	Loss                    float64       // share of Alone
	Yield, Recover          float64       // seconds, negative: never
	Idle, IdleAfter         float64       // of the rival, bit/s
	Use, UseAfter           float64       // Idle of what curl reaches
	Delay, DelayAlone       float64       // p95 of the load's samples, seconds
	CPU                     float64       // cores
	Wire                    time.Duration // p99 of how late the link was
	MachineIdle, Stolen     float64       // shares of the machine's processors
}

// measureCase makes the references and then the runs of one case.
func (l *lab) measureCase(ctx context.Context, c spec, o options) error {
	fmt.Fprintf(os.Stderr, "%s, %s\n", c.link.name, c.load)
	alone := c
	alone.phases = [3]time.Duration{500 * ms, c.phases[1], 0}
	if c.probing() {
		alone.phases = [3]time.Duration{0, c.phases[0] + c.phases[1] + c.phases[2], 0}
	}
	reference, err := l.run(ctx, alone)
	if err != nil {
		return err
	}
	idle := c
	idle.load, idle.rival, idle.connections, idle.phases = "", curl, 1, [3]time.Duration{c.phases[0], 0, 0}
	curlAlone, err := l.run(ctx, idle)
	if err != nil {
		return err
	}
	for i := range o.runs {
		for _, name := range o.rivals {
			s := c
			s.rival, s.seed = name, uint64(i)
			t, err := l.run(ctx, s)
			if err != nil {
				return err
			}
			r := evaluate(t, reference, curlAlone)
			fmt.Println(r)
		}
	}
	return nil
}

// evaluate makes a row of a run and its references.
func evaluate(t, alone, curlAlone *trace) row {
	s := t.spec
	r := row{Link: s.link.name, Load: s.load, From: s.from, Rival: s.rival, CPU: t.cpu, Wire: t.wire.P99, MachineIdle: t.machine.idle, Stolen: t.machine.stolen}
	bg, fg := t.down.payload[background], t.down.payload[foreground]
	first := t.up.first[background]
	loadStart, loadEnd := t.up.first[foreground], t.down.last[foreground]
	idleEnd := loadStart
	if s.probing() {
		idleEnd = t.started + s.phases[0]
	}
	r.Idle = rate(bg, first+warmUp, idleEnd)
	curlFirst := curlAlone.up.first[background]
	r.Use = r.Idle / rate(curlAlone.down.payload[background], curlFirst+warmUp, curlAlone.stopped)
	if s.probing() {
		r.Delay, r.DelayAlone = percentile(took(t, t.started), 0.95), percentile(took(alone, 0), 0.95)
		return r
	}
	r.Alone = rate(alone.down.payload[foreground], alone.up.first[foreground], alone.up.first[foreground]+s.phases[1])
	r.With = rate(fg, loadStart, loadStart+s.phases[1])
	r.Loss = 1 - r.With/r.Alone
	r.Delay, r.DelayAlone = mean(took(t, 0)), mean(took(alone, 0))
	r.Yield, r.Recover = -1, -1
	if at, ok := passes(bg, loadStart, loadStart+s.phases[1], func(bps float64) bool { return bps < 0.1*float64(s.link.rate) }); ok {
		r.Yield = (at - loadStart).Seconds()
	}
	if at, ok := passes(bg, loadEnd, t.stopped, func(bps float64) bool { return bps >= 0.8*r.Idle }); ok {
		r.Recover = (at - loadEnd).Seconds()
		r.IdleAfter = rate(bg, at, t.stopped)
		r.UseAfter = r.IdleAfter / r.Idle * r.Use
	}
	return r
}

// took returns the samples that began at a time or later.
func took(t *trace, from time.Duration) []float64 {
	var list []float64
	for _, s := range t.samples {
		if time.Unix(0, s.At).Sub(t.began) >= from {
			list = append(list, s.Took)
		}
	}
	return list
}

func mean(list []float64) float64 {
	sum := 0.0
	for _, v := range list {
		sum += v
	}
	return sum / float64(max(1, len(list)))
}

func (r row) String() string {
	return fmt.Sprintf("%-12s %-8s %-9s %-8s fg alone %6.2f with %6.2f loss %5.1f%% yield %5.2f recover %5.2f idle %6.2f use %5.1f%% after %5.1f%% delay %6.1f alone %6.1f ms cpu %4.1f%% wire %v machine idle %.0f%% stolen %.1f%%",
		r.Link, r.Load, r.From, r.Rival, r.Alone/mbit, r.With/mbit, 100*r.Loss, r.Yield, r.Recover, r.Idle/mbit, 100*r.Use, 100*r.UseAfter, 1000*r.Delay, 1000*r.DelayAlone, 100*r.CPU, r.Wire.Round(time.Microsecond), 100*r.MachineIdle, 100*r.Stolen)
}
