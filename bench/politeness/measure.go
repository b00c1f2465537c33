package main

import (
	"slices"
	"time"

	"github.com/ebbtransfer/ebb/bench/politeness/link"
)

// owner is whose bytes these are.
type owner int

// Owners.
const (
	background owner = iota
	foreground
	other // probes, names
	owners
)

// ownerOf tells the owner by the server's port.
func ownerOf(f link.Flow) owner {
	for _, port := range []uint16{f.FromPort, f.ToPort} {
		switch port {
		case httpPort, httpsPort, h2Port, bitsPort:
			return background
		case foregroundPort:
			return foreground
		}
	}
	return other
}

// bin is how finely bytes are counted over time.
const bin = 20 * time.Millisecond

// recorder counts what passes the bottleneck in one direction. It may be read when its wire has
// stopped.
type recorder struct {
	payload [owners][]int64 // bytes in each bin
	waiting []int           // most bytes in the queue in each bin
	first   [owners]time.Duration
	last    [owners]time.Duration // of packets with payload
	packets [owners]int
	dropped [owners]int
}

// newRecorder returns a recorder with room for a time.
func newRecorder(d time.Duration) *recorder {
	n := int(d/bin) + 1
	r := &recorder{waiting: make([]int, n)}
	for o := range r.payload {
		r.payload[o] = make([]int64, n)
	}
	return r
}

// Departed implements link.Meter.
func (r *recorder) Departed(p *link.Packet, at time.Duration) {
	o := ownerOf(p.Flow)
	if r.packets[o]++; r.packets[o] == 1 {
		r.first[o] = at
	}
	if i := int(at / bin); i < len(r.waiting) {
		r.payload[o][i] += int64(p.Payload)
	}
	if p.Payload > 0 {
		r.last[o] = at
	}
}

// Dropped implements link.Meter.
func (r *recorder) Dropped(p *link.Packet, _ time.Duration) { r.dropped[ownerOf(p.Flow)]++ }

// Queued implements link.Meter.
func (r *recorder) Queued(bytes int, at time.Duration) {
	if i := int(at / bin); i < len(r.waiting) {
		r.waiting[i] = max(r.waiting[i], bytes)
	}
}

// rate returns the mean rate from one time to another, in bit/s of payload.
func rate(bytes []int64, from, to time.Duration) float64 {
	i, j := int(from/bin), int(to/bin)
	i, j = max(0, min(i, len(bytes))), max(0, min(j, len(bytes)))
	if i >= j {
		return 0
	}
	var sum int64
	for _, n := range bytes[i:j] {
		sum += n
	}
	return float64(sum) * 8 / (time.Duration(j-i) * bin).Seconds()
}

const (
	// smoothing is the width of the window over which a rate is taken where its course matters.
	smoothing = 100 * time.Millisecond
	// settling is how long a rate must stay on the new side in the mean, so that neither a dip nor
	// a peak counts.
	settling = 500 * time.Millisecond
)

// passes returns the first time from a start on, up to an end, at which the rate around it is as
// wanted and stays so in the mean, and false when it never is.
func passes(bytes []int64, start, end time.Duration, wanted func(bps float64) bool) (time.Duration, bool) {
	for at := start.Truncate(bin); at+smoothing/2 <= end; at += bin {
		if wanted(rate(bytes, at-smoothing/2, at+smoothing/2)) && wanted(rate(bytes, at, min(at+settling, end))) {
			return max(at, start), true
		}
	}
	return end, false
}

// percentile returns the value below which a share of the samples lies, 0 of none.
func percentile(samples []float64, share float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	return s[min(len(s)-1, int(share*float64(len(s))))]
}
