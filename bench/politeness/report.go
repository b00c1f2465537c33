package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// result is what was measured in a run, with the references it is compared to. Rates are in bit/s of
// TCP payload, times in seconds.
type result struct {
	Link        string `json:"link"`
	Load        string `json:"load"`
	From        string `json:"from"`
	Rival       string `json:"rival"`
	Server      string `json:"server"`
	Proto       string `json:"proto"`
	Connections int    `json:"connections"`
	Upload      bool   `json:"upload,omitempty"`
	Run         uint64 `json:"run"`

	Alone   float64  `json:"foreground_alone"`
	With    float64  `json:"foreground"`
	Yield   *float64 `json:"yield"`   // nil: never
	Recover *float64 `json:"recover"` // nil: never

	Idle      float64 `json:"idle"` // the background's rate before the foreground, after its first second
	IdleCurl  float64 `json:"idle_curl"`
	IdleAfter float64 `json:"idle_after"` // and when it has recovered from the foreground

	// Of what the load waits for: requests, pages, datagrams.
	P95Alone  float64 `json:"p95_alone"`
	P95       float64 `json:"p95"`
	MeanAlone float64 `json:"mean_alone"`
	Mean      float64 `json:"mean"`
	Stall     float64 `json:"stall"` // of a video, all together

	CPU     float64       `json:"cpu"`      // of the background's process on the idle link, in cores
	Wire    time.Duration `json:"wire_p99"` // ns by which the emulator was late
	Late    time.Duration `json:"late_p99"` // ns by which programs of the lab woke up late
	Lost    int           `json:"lost"`     // packets that the emulator could not deliver
	Dropped [owners]int   `json:"dropped"`  // by the link, in the direction of the data: background, foreground, other

	// Bytes of payload and most bytes in the queue in bins of 20 ms.
	Background []int64 `json:"background_bins"`
	Foreground []int64 `json:"foreground_bins"`
	Queue      []int   `json:"queue_bins"`
}

// loss is the share of its goodput that the foreground lost.
func (r *result) loss() float64 { return 1 - r.With/r.Alone }

// use is the share of curl's goodput on the idle link that the background reached.
func (r *result) use() float64      { return r.Idle / r.IdleCurl }
func (r *result) useAfter() float64 { return r.IdleAfter / r.IdleCurl }

// busy reports whether the machine had too much else to do for the result to be trusted.
func (r *result) busy() bool { return r.Wire > 5*ms || r.Late > 10*ms || r.Lost > 0 }

// evaluate makes a result of a run and its references: the load alone, and curl alone.
func evaluate(t, alone, curlAlone *trace) *result {
	s := t.spec
	data := t.data()
	bg, fg := data.payload[background], data.payload[foreground]
	r := &result{
		Link: s.link.name, Load: s.load, From: s.from, Rival: s.rival, Server: s.server, Proto: s.proto, Connections: s.connections, Upload: s.upload, Run: s.seed,
		CPU: t.cpu, Wire: t.wire.P99, Late: t.late, Lost: t.wire.Lost, Dropped: data.dropped,
		Background: bg, Foreground: fg, Queue: data.waiting,
	}
	loadStart, loadEnd := t.up.first[foreground], data.last[foreground]
	idleEnd := loadStart
	if s.probing() {
		idleEnd = t.stopped
	}
	r.Idle = rate(bg, t.up.first[background]+warmUp, idleEnd)
	r.IdleCurl = rate(curlAlone.data().payload[background], curlAlone.up.first[background]+warmUp, curlAlone.stopped)

	from := max(0, t.started-t.loaded) // what began before the rival does not count
	if !s.probing() {
		from = 0
	}
	before, with := alone.waits(from), t.waits(from)
	r.P95Alone, r.P95 = percentile(before, 0.95), percentile(with, 0.95)
	r.MeanAlone, r.Mean = mean(before), mean(with)
	if s.load == video {
		r.Stall = r.Mean * float64(len(with))
	}
	if s.probing() {
		return r
	}

	r.Alone = rate(alone.data().payload[foreground], alone.up.first[foreground], alone.up.first[foreground]+s.phases[1])
	r.With = rate(fg, loadStart, loadStart+s.phases[1])
	both := max(loadStart, t.started)
	if at, ok := passes(bg, both, loadStart+s.phases[1], func(bps float64) bool { return bps < 0.1*float64(s.link.rate) }); ok {
		took := (at - both).Seconds()
		r.Yield = &took
	}
	was := r.Idle
	if s.phases[0] < 2*warmUp {
		was = r.IdleCurl
	}
	if at, ok := passes(bg, loadEnd, t.stopped, func(bps float64) bool { return bps >= 0.8*was }); ok {
		took := (at - loadEnd).Seconds()
		r.Recover = &took
		r.IdleAfter = rate(bg, at, t.stopped)
	}
	return r
}

// waits returns what the load noted from a time after its start on.
func (t *trace) waits(from time.Duration) []float64 {
	var list []float64
	for _, s := range t.Samples {
		if time.Unix(0, s.At).Sub(t.began)-t.loaded >= from {
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

// String is a line for who waits for the table.
func (r *result) String() string {
	line := fmt.Sprintf("%s, %s, %s: idle %.0f%% of curl's, CPU %.1f%%, emulator late by %v, programs by %v", r.Link, r.Load, r.Rival,
		100*r.use(), 100*r.CPU, r.Wire.Round(10*time.Microsecond), r.Late.Round(10*time.Microsecond))
	switch r.Load {
	case web, voice:
		line += fmt.Sprintf("; p95 %.1f ms, alone %.1f", 1000*r.P95, 1000*r.P95Alone)
	case page:
		line += fmt.Sprintf("; page %.3f s, alone %.3f", r.Mean, r.MeanAlone)
	case video:
		line += fmt.Sprintf("; stalled %.2f s", r.Stall)
	}
	if r.Alone > 0 {
		line += fmt.Sprintf("; foreground %.2f of %.2f Mbit/s, lost %.1f%%; yield %s s, recover %s s, then %.0f%%", r.With/mbit, r.Alone/mbit, 100*r.loss(), second(r.Yield), second(r.Recover), 100*r.useAfter())
	}
	return line
}

func second(s *float64) string {
	if s == nil {
		return "never"
	}
	return fmt.Sprintf("%.2f", *s)
}

// printTables prints one table for each kind of load.
func printTables(results []*result) {
	kinds := []struct {
		title string
		loads []string
		head  []string
		cells func([]*result) []string
	}{
		{"A bulk foreground: goodput in Mbit/s, times in seconds, median (worst)", []string{bulk, bulkBBR},
			[]string{"alone", "with it", "lost", "yield", "recover"}, func(r []*result) []string {
				return []string{
					fmt.Sprintf("%.2f", r[0].Alone/mbit),
					fmt.Sprintf("%.2f", median(r, func(r *result) float64 { return r.With })/mbit),
					fmt.Sprintf("%.1f%%", 100*median(r, (*result).loss)),
					spread(r, func(r *result) *float64 { return r.Yield }),
					spread(r, func(r *result) *float64 { return r.Recover }),
				}
			}},
		{"Small things while only the background runs: p95 in ms", []string{web, voice},
			[]string{"alone", "with it", "added"}, func(r []*result) []string {
				p95 := 1000 * median(r, func(r *result) float64 { return r.P95 })
				return []string{fmt.Sprintf("%.1f", 1000*r[0].P95Alone), fmt.Sprintf("%.1f", p95), fmt.Sprintf("%.1f", p95-1000*r[0].P95Alone)}
			}},
		{"Pages and video: load time and stalls in seconds", []string{page, video},
			[]string{"page alone", "with it", "longer", "stalled"}, func(r []*result) []string {
				if r[0].Load == video {
					return []string{"", "", "", fmt.Sprintf("%.2f", median(r, func(r *result) float64 { return r.Stall }))}
				}
				took := median(r, func(r *result) float64 { return r.Mean })
				return []string{fmt.Sprintf("%.3f", r[0].MeanAlone), fmt.Sprintf("%.3f", took), fmt.Sprintf("%.1f%%", 100*(took/r[0].MeanAlone-1)), ""}
			}},
	}
	for _, k := range kinds {
		var rows [][]string
		for _, group := range groups(results) {
			r := group[0]
			if !slices.Contains(k.loads, r.Load) {
				continue
			}
			idle := "-"
			if r.Idle > 0 {
				idle = fmt.Sprintf("%.0f%%", 100*median(group, (*result).use))
			}
			if r.Alone > 0 {
				idle += fmt.Sprintf(", %.0f%%", 100*median(group, (*result).useAfter))
			}
			note := ""
			if busy := len(slices.DeleteFunc(slices.Clone(group), func(r *result) bool { return !r.busy() })); busy > 0 {
				note = fmt.Sprintf("%d of %d runs on a busy machine: unreliable", busy, len(group))
			}
			rows = append(rows, slices.Concat([]string{r.Link, r.Load, r.Rival}, k.cells(group),
				[]string{idle, fmt.Sprintf("%.1f%%", 100*median(group, func(r *result) float64 { return r.CPU })), note}))
		}
		if len(rows) > 0 {
			fmt.Printf("\n%s:\n\n", k.title)
			printTable(slices.Concat([]string{"link", "foreground", "background"}, k.head, []string{"idle use of curl's, before and after", "CPU", ""}), rows)
		}
	}
}

// groups puts the runs of a case together, in the order in which cases came.
func groups(results []*result) [][]*result {
	var list [][]*result
	for _, r := range results {
		i := slices.IndexFunc(list, func(g []*result) bool {
			return g[0].Link == r.Link && g[0].Load == r.Load && g[0].Rival == r.Rival
		})
		if i < 0 {
			list = append(list, []*result{r})
		} else {
			list[i] = append(list[i], r)
		}
	}
	return list
}

func median(r []*result, of func(*result) float64) float64 {
	var list []float64
	for _, one := range r {
		list = append(list, of(one))
	}
	return percentile(list, 0.5)
}

// spread shows the median and, of several, the worst; never is worse than anything.
func spread(r []*result, of func(*result) *float64) string {
	list := slices.Clone(r)
	slices.SortFunc(list, func(a, b *result) int {
		x, y := of(a), of(b)
		switch {
		case x == nil && y == nil:
			return 0
		case x == nil:
			return 1
		case y == nil || *x < *y:
			return -1
		}
		return 1
	})
	text := second(of(list[(len(list)-1)/2]))
	if len(list) > 1 {
		text += " (" + second(of(list[len(list)-1])) + ")"
	}
	return text
}

func printTable(head []string, rows [][]string) {
	line := func(cells []string) { fmt.Println("| " + strings.Join(cells, " | ") + " |") }
	line(head)
	fmt.Println("|" + strings.Repeat("---|", len(head)))
	for _, r := range rows {
		line(r)
	}
}

// writeJSON writes all results to a file.
func writeJSON(name string, results []*result) error {
	b, err := json.Marshal(results)
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}
