package bits

import (
	"math"
	"testing"
)

func TestRanges(t *testing.T) {
	for text, want := range map[string]Code{
		"0:10":                     OK,
		"10:5,0:10":                OK,
		"0:10, 20:eof":             OK,
		"20:EOF,0:20":              OK,
		"0:10,9:1":                 OverlappingRanges,
		"0:eof,100:1":              OverlappingRanges,
		"5:1,5:1":                  OverlappingRanges,
		"0:0":                      InvalidRange,
		"9223372036854775807:1":    InvalidRange,
		"9223372036854775807:2":    InvalidRange,
		"1:9223372036854775807":    InvalidRange,
		"9223372036854775807:eof":  OK,
		"0:9223372036854775807,1:": 1,
		"":                         1,
		"-1:5":                     1,
		"+1:5":                     1,
		"1-5":                      1,
		"99999999999999999999:1":   1,
	} {
		ranges, err := ParseRanges(text)
		if err != nil {
			if want != 1 {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		got := OK
		if e := CheckRanges(ranges); e != nil {
			got = e.Code
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got.Name(), want.Name())
		}
	}
	if e := CheckRanges([]Range{}); e == nil || e.Code != InvalidArg {
		t.Errorf("no ranges: %v", e)
	}
	if e := CheckRanges(make([]Range, MaxRangesPerFile+1)); e == nil || e.Code != TooManyRangesInFile {
		t.Errorf("too many: %v", e)
	}
	for _, r := range []Range{{-1, 5}, {0, -2}, {math.MinInt64, math.MaxInt64}} {
		if e := CheckRange(r); e == nil || e.Code != InvalidRange {
			t.Errorf("%v: %v", r, e)
		}
	}
}

func FuzzParseRanges(f *testing.F) {
	f.Add("0:10,20:eof")
	f.Fuzz(func(t *testing.T, s string) {
		ranges, err := ParseRanges(s)
		if err != nil || CheckRanges(ranges) != nil {
			return
		}
		for _, r := range ranges {
			again, err := ParseRanges(r.String())
			if err != nil || again[0] != r || r.Offset < 0 || r.Length == 0 || r.End() <= r.Offset && r.Length != ToEOF {
				t.Errorf("%q has %v", s, r)
			}
		}
	})
}
