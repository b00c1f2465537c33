package bupwire

import (
	"fmt"
	"strconv"
	"strings"
)

// Range is the Content-Range of a fragment: the bytes First to Last, both included, of Total. The
// one fragment of an empty file is {0, -1, 0}.
type Range struct{ First, Last, Total int64 }

// RangeOf returns the range of n bytes at offset of a file of total bytes.
func RangeOf(offset, n, total int64) Range { return Range{offset, offset + n - 1, total} }

// Len returns how many bytes the range has.
func (r Range) Len() int64 { return r.Last - r.First + 1 }

// String returns the value of the header. RFC 9110 has no range for an empty file; ours is the one
// that it has for an unsatisfied range (server.md 1.13).
func (r Range) String() string {
	if r.Total == 0 {
		return "bytes */0"
	}
	return fmt.Sprintf("bytes %d-%d/%d", r.First, r.Last, r.Total)
}

// ParseRange reads a Content-Range. For an empty file it takes any of "*/0", "0--1/0" and "0-0/0".
// The error says what is wrong in words.
func ParseRange(s string) (Range, error) {
	unit, rest, ok := strings.Cut(strings.TrimSpace(s), " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return Range{}, fmt.Errorf("Content-Range %q does not begin with bytes", s)
	}
	span, total, ok := strings.Cut(strings.TrimSpace(rest), "/")
	if !ok {
		return Range{}, fmt.Errorf("Content-Range %q has no total", s)
	}
	t, ok := decimal(total)
	if !ok {
		return Range{}, fmt.Errorf("the total of Content-Range %q is not a number", s)
	}
	if t == 0 {
		if span == "*" || span == "0--1" || span == "0-0" {
			return Range{0, -1, 0}, nil
		}
		return Range{}, fmt.Errorf("Content-Range %q has bytes of an empty file", s)
	}
	first, last, ok := strings.Cut(span, "-")
	if !ok {
		return Range{}, fmt.Errorf("Content-Range %q has no first and last byte", s)
	}
	f, ok1 := decimal(first)
	l, ok2 := decimal(last)
	switch {
	case !ok1 || !ok2:
		return Range{}, fmt.Errorf("the bytes of Content-Range %q are not numbers", s)
	case l < f:
		return Range{}, fmt.Errorf("Content-Range %q ends before it begins", s)
	case l >= t:
		return Range{}, fmt.Errorf("Content-Range %q ends behind its total", s)
	}
	return Range{f, l, t}, nil
}

// decimal reads digits alone; what does not fit into an int64 is no size that a file can have.
func decimal(s string) (int64, bool) {
	s = strings.TrimSpace(s)
	if s == "" || strings.ContainsAny(s, "+-_") {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
