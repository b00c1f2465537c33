package bits

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Range is a part of a file (BG_FILE_RANGE).
type Range struct {
	Offset int64 `json:"offset" doc:"First byte, counted from 0"`
	Length int64 `json:"length" doc:"Bytes; -1 for all up to the end of the file"`
}

// ToEOF is the length of a range that goes up to the end of its file (BG_LENGTH_TO_EOF).
const ToEOF int64 = -1

// MaxRangesPerFile is the number of ranges that one file may have, whatever the policy.
const MaxRangesPerFile = 100_000

// End returns the offset after the last byte; the largest number for a range up to the end of the file.
func (r Range) End() int64 {
	if r.Length == ToEOF {
		return math.MaxInt64
	}
	return r.Offset + r.Length
}

// String returns the form that ParseRanges reads: OFFSET:LENGTH, with the length eof.
func (r Range) String() string {
	if r.Length == ToEOF {
		return strconv.FormatInt(r.Offset, 10) + ":eof"
	}
	return strconv.FormatInt(r.Offset, 10) + ":" + strconv.FormatInt(r.Length, 10)
}

// ParseRanges reads ranges of the form OFFSET:LENGTH, separated by commas; the length may be eof.
func ParseRanges(s string) ([]Range, error) {
	var out []Range
	for text := range strings.SplitSeq(s, ",") {
		offset, length, ok := strings.Cut(strings.TrimSpace(text), ":")
		first, err := strconv.ParseUint(offset, 10, 63)
		if !ok || err != nil {
			return nil, fmt.Errorf("%q is not a range (want OFFSET:LENGTH, such as 0:4096 or 4096:eof)", text)
		}
		if strings.EqualFold(length, "eof") {
			out = append(out, Range{int64(first), ToEOF})
			continue
		}
		n, err := strconv.ParseUint(length, 10, 63)
		if err != nil {
			return nil, fmt.Errorf("%q is not a range (want OFFSET:LENGTH, such as 0:4096 or 4096:eof)", text)
		}
		out = append(out, Range{int64(first), int64(n)})
	}
	return out, nil
}

// CheckRange validates one range: InvalidRange if it begins before the file, has no bytes or ends
// beyond what numbers reach.
func CheckRange(r Range) *Error {
	switch {
	case r.Offset < 0 || r.Length < ToEOF:
		return Errorf(InvalidRange, "the range %d:%d begins or ends before the file does", r.Offset, r.Length)
	case r.Length == 0:
		return Errorf(InvalidRange, "the range %v has no bytes", r)
	case r.Length > math.MaxInt64-r.Offset:
		return Errorf(InvalidRange, "the range %v ends beyond what a file can have", r)
	}
	return nil
}

// CheckRanges validates the ranges of a file (client.md 3.3): InvalidArg if there are none,
// TooManyRangesInFile, InvalidRange, and OverlappingRanges if two have a byte in common. Their order
// is free.
func CheckRanges(ranges []Range) *Error {
	switch {
	case len(ranges) == 0:
		return Errorf(InvalidArg, "there are no ranges")
	case len(ranges) > MaxRangesPerFile:
		return Errorf(TooManyRangesInFile, "the file has %d ranges; %d are allowed", len(ranges), MaxRangesPerFile)
	}
	for _, r := range ranges {
		if e := CheckRange(r); e != nil {
			return e
		}
	}
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b Range) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	for i, r := range sorted[1:] {
		if sorted[i].End() > r.Offset {
			return Errorf(OverlappingRanges, "the ranges %v and %v overlap", sorted[i], r)
		}
	}
	return nil
}
