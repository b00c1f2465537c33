package main

import (
	"math"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// chartSpan is how much of the past a chart shows, about: a column is a whole number of seconds.
const chartSpan = 2 * time.Minute

// historyLen is how many seconds are kept. It is more than chartSpan because a chart whose
// columns are seconds may be wider.
const historyLen = 256

// history is the traffic of a network path over the last minutes, second by second.
type history struct {
	seconds [historyLen]traffic // the second of a Unix time is at that time modulo historyLen
	newest  int64               // Unix time
}

// traffic is what moves over a path during a time, in bytes per second.
type traffic struct {
	second   int64                // its Unix time
	samples  float64              // how many it is the mean of; 0 means that nothing is known
	series   [seriesCount]float64 // means
	capacity float64              // mean of the estimate; 0 while unknown
}

// The series of a chart, from the bottom up.
const (
	ownBackground = iota
	ownForeground
	others
	seriesCount
)

// seriesOf is the traffic of a path as the service told it.
func seriesOf(p *bits.Path) (s [seriesCount]float64) {
	s[ownBackground], s[ownForeground] = float64(p.Background), float64(p.Foreground)
	if p.Others != nil {
		s[others] = float64(*p.Others)
	}
	return s
}

// add notes what the service said of the path.
func (h *history) add(now time.Time, p *bits.Path) {
	h.newest = now.Unix()
	t := &h.seconds[h.newest%historyLen]
	if t.second != h.newest {
		*t = traffic{second: h.newest}
	}
	t.merge(&traffic{samples: 1, series: seriesOf(p), capacity: float64(p.Capacity)})
}

// merge makes t the mean of both.
func (t *traffic) merge(o *traffic) {
	if o.samples == 0 {
		return
	}
	t.samples += o.samples
	weight := o.samples / t.samples
	for i := range t.series {
		t.series[i] += weight * (o.series[i] - t.series[i])
	}
	t.capacity += weight * (o.capacity - t.capacity)
}

func (t *traffic) total() (sum float64) {
	for _, v := range t.series {
		sum += v
	}
	return sum
}

// columnSeconds is how many seconds a column stands for in a chart of n columns.
func columnSeconds(n int) int64 {
	return max(1, int64(math.Round(chartSpan.Seconds()/float64(n))))
}

// columns returns the past in n columns. They begin at fixed times, so that a chart moves by
// whole columns and what is drawn does not change on its way.
func (h *history) columns(now time.Time, n int) []traffic {
	step := columnSeconds(n)
	cols := make([]traffic, n)
	for i := range cols {
		first := (now.Unix()/step - int64(n-1-i)) * step
		for s := first; s < first+step; s++ {
			if t := &h.seconds[s%historyLen]; t.second == s {
				cols[i].merge(t)
			}
		}
	}
	return cols
}

// chartTop is the value of the upper end of a chart: a round number, so that it seldom changes.
func chartTop(cols []traffic) float64 {
	most := 1024.0
	for i := range cols {
		most = max(most, cols[i].total(), cols[i].capacity)
	}
	unit := 1024.0
	for most >= 1000*unit {
		unit *= 1024
	}
	for decade := unit; ; decade *= 10 {
		for _, step := range []float64{1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9} {
			if step*decade >= most {
				return step * decade
			}
		}
	}
}

// eighths are the cells that are filled from below by so many eighths.
var eighths = []string{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}

// seriesColour are the colours of the series. They lie apart for eyes that do not tell red from
// green, and show on dark and on light ground.
var seriesColour = [seriesCount]string{cyan, magenta, yellow}

// key is how a series looks in a cell of its own.
func (k look) key(series int) (style, glyph string) {
	switch {
	case !k.utf8:
		glyph = []string{"#", "=", ":"}[series]
	case !k.colour:
		glyph = []string{"█", "▒", "░"}[series]
	default:
		glyph = eighths[8]
	}
	return seriesColour[series], glyph
}

// rule is the glyph of a horizontal line.
func (k look) rule() string {
	if k.utf8 {
		return "─"
	}
	return "-"
}

// cell draws one column in one row, counted from the bottom, of a chart with so many rows.
func (k look) cell(t *traffic, row, rows int, top float64) (style, glyph string) {
	units := float64(8*rows) / top
	var share [seriesCount]int // how many eighths of this cell each series has
	sum, from, largest := 0.0, 0, 0
	for i, v := range t.series {
		sum += v
		to := min(8*rows, int(math.Round(sum*units)))
		share[i] = filledTo(to, row) - filledTo(from, row)
		from = to
		if v > t.series[largest] {
			largest = i
		}
	}
	if from == 0 && sum > 0 && row == 0 { // a little is not nothing
		share[largest] = 1
	}
	filled, low, high := 0, -1, -1
	for i, n := range share {
		filled += n
		if n > 0 {
			if low < 0 {
				low = i
			}
			high = i
		}
		if n > share[largest] {
			largest = i
		}
	}
	shaded := !k.colour || !k.utf8 // a cell is full or empty
	switch {
	case filled == 0, shaded && filled < 4 && row > 0:
		if t.capacity > 0 && row == min(rows-1, int(t.capacity/top*float64(rows))) {
			return dim, k.rule()
		}
		return "", " "
	case shaded:
		return k.key(largest)
	case filled < 8 || low == high:
		return seriesColour[largest], eighths[filled]
	}
	return seriesColour[low] + ";" + ground(seriesColour[high]), eighths[share[low]]
}

// filledTo is how many eighths of the row are below a height in eighths.
func filledTo(height, row int) int { return min(8, max(0, height-8*row)) }

// ground is a colour as that of the background.
func ground(colour string) string { return "4" + colour[1:] }
