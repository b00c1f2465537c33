package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bench/politeness/link"
)

const (
	mbit = 1_000_000 // bit/s
	ms   = time.Millisecond
)

// linkSpec is a link of the laboratory, the same in both directions.
type linkSpec struct {
	name   string
	rate   int64         // bit/s; 0 is a cable without an emulator
	queue  time.Duration // how long a full queue takes to empty; of a policer: what may come at once
	rtt    time.Duration // 0 is 30 ms
	kind   link.Discipline
	jitter time.Duration // of the download direction
	loss   float64       // of the download direction
	// steps change the rate of the download direction, counted from the start of the background.
	steps []link.Step
}

var links = []linkSpec{
	{name: "5m-100ms", rate: 5 * mbit, queue: 100 * ms},
	{name: "20m-20ms", rate: 20 * mbit, queue: 20 * ms},
	{name: "20m-bdp", rate: 20 * mbit, queue: 30 * ms},
	{name: "20m-100ms", rate: 20 * mbit, queue: 100 * ms},
	{name: "20m-300ms", rate: 20 * mbit, queue: 300 * ms},
	{name: "20m-rtt20", rate: 20 * mbit, queue: 100 * ms, rtt: 20 * ms},
	{name: "20m-rtt100", rate: 20 * mbit, queue: 100 * ms, rtt: 100 * ms},
	{name: "50m-100ms", rate: 50 * mbit, queue: 100 * ms},
	{name: "100m-50ms", rate: 100 * mbit, queue: 50 * ms},
	{name: "100m-200ms", rate: 100 * mbit, queue: 200 * ms},
	{name: "5m-20ms", rate: 5 * mbit, queue: 20 * ms},
	{name: "5m-300ms", rate: 5 * mbit, queue: 300 * ms},
	{name: "100m-20ms", rate: 100 * mbit, queue: 20 * ms},
	{name: "100m-300ms", rate: 100 * mbit, queue: 300 * ms},
	{name: "20m-20ms-rtt100", rate: 20 * mbit, queue: 20 * ms, rtt: 100 * ms},
	{name: "5m-100ms-rtt100", rate: 5 * mbit, queue: 100 * ms, rtt: 100 * ms},
	{name: "100m-100ms-rtt100", rate: 100 * mbit, queue: 100 * ms, rtt: 100 * ms},
	{name: "20m-codel", rate: 20 * mbit, queue: 300 * ms, kind: link.CoDel},
	{name: "20m-fq", rate: 20 * mbit, queue: 100 * ms, kind: link.FQ},
	{name: "20m-fqcodel", rate: 20 * mbit, queue: 300 * ms, kind: link.FQCoDel},
	{name: "20m-loss1", rate: 20 * mbit, queue: 100 * ms, loss: 0.01},
	{name: "20m-jitter15", rate: 20 * mbit, queue: 100 * ms, jitter: 15 * ms},
	{name: "20m-policer", rate: 20 * mbit, queue: 20 * ms, kind: link.Policer},
	{name: "20m-drop", rate: 20 * mbit, queue: 100 * ms, steps: []link.Step{{At: 5 * time.Second, Rate: 8 * mbit}, {At: 25 * time.Second, Rate: 20 * mbit}}},
	{name: "veth"},
}

// Groups of links that --links takes.
var linkGroups = map[string][]string{
	"short":   {"20m-100ms"},
	"tail":    {"5m-100ms", "20m-20ms", "20m-bdp", "20m-100ms", "20m-300ms", "20m-rtt20", "20m-rtt100", "50m-100ms", "100m-50ms", "100m-200ms"},
	"corners": {"5m-20ms", "5m-300ms", "100m-20ms", "100m-300ms", "20m-20ms-rtt100", "5m-100ms-rtt100", "100m-100ms-rtt100"},
	"other":   {"20m-codel", "20m-fq", "20m-fqcodel", "20m-loss1", "20m-jitter15", "20m-policer", "20m-drop"},
	"all":     nil, // all of the table
}

// findLinks returns the links of a list of names and groups.
func findLinks(list string) ([]linkSpec, error) {
	var found []linkSpec
	for _, name := range strings.Split(list, ",") {
		names, group := linkGroups[name]
		switch {
		case name == "all":
			found = append(found, links...)
			continue
		case !group:
			names = []string{name}
		}
		for _, n := range names {
			i := slices.IndexFunc(links, func(l linkSpec) bool { return l.name == n })
			if i < 0 {
				return nil, fmt.Errorf("no link %q; there are %s, and the groups short, tail, corners, other and all", n, linkNames())
			}
			found = append(found, links[i])
		}
	}
	return found, nil
}

func linkNames() string {
	var names []string
	for _, l := range links {
		names = append(names, l.name)
	}
	return strings.Join(names, ", ")
}

// directions returns what the emulator does for the link.
func (l linkSpec) directions(seed uint64) (down, up link.Config) {
	rtt, kind := l.rtt, l.kind
	if rtt == 0 {
		rtt = 30 * ms
	}
	if kind == "" {
		kind = link.DropTail
	}
	down = link.Config{
		Rate: l.rate, Delay: rtt / 2, Queue: kind, Limit: max(2*link.MTU, int(l.rate*int64(l.queue)/int64(8*time.Second))),
		Jitter: l.jitter, Loss: l.loss, Steps: l.steps, Seed: seed,
	}
	up = down
	up.Jitter, up.Loss, up.Steps, up.Seed = 0, 0, nil, seed+1
	return down, up
}
