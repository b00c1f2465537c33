package ietf

import "testing"

func TestParseLimits(t *testing.T) {
	tests := []struct {
		in   []string
		want limits
	}{
		{nil, noLimits},
		{[]string{"min-size=0"}, noLimits},
		{[]string{"max-size=100, min-size=2", "max-append-size=50;x=y,min-append-size=10, max-age=3600"}, limits{100, 2, 50, 10}},
		{[]string{"max-append-size=5, min-append-size=10"}, limits{-1, 0, 5, 5}},
		{[]string{"max-size=-1, min-size=1.5, max-append-size=?1, min-append-size"}, noLimits},
		{[]string{"max-size=9999999999999999"}, noLimits},
	}
	for _, tt := range tests {
		if got := parseLimits(tt.in); got != tt.want {
			t.Errorf("parseLimits(%q) = %+v, want %+v", tt.in, got, tt.want)
		}
	}
}

func TestItems(t *testing.T) {
	numbers := []struct {
		in   []string
		want int64
		ok   bool
	}{
		{[]string{"0"}, 0, true}, {[]string{" 12 ; a=b"}, 12, true}, {[]string{"999999999999999"}, 999999999999999, true},
		{nil, 0, false}, {[]string{""}, 0, false}, {[]string{"-1"}, 0, false}, {[]string{"1.0"}, 0, false},
		{[]string{"1000000000000000"}, 0, false}, {[]string{"1", "1"}, 0, false}, {[]string{"1,2"}, 0, false},
	}
	for _, tt := range numbers {
		if got, ok := number(tt.in); got != tt.want || ok != tt.ok {
			t.Errorf("number(%q) = %d, %v", tt.in, got, ok)
		}
	}
	booleans := []struct {
		in        []string
		value, ok bool
	}{
		{[]string{"?1"}, true, true}, {[]string{"?0"}, false, true}, {[]string{"?1;x"}, true, true},
		{nil, false, false}, {[]string{"1"}, false, false}, {[]string{"true"}, false, false}, {[]string{"?1", "?1"}, false, false},
	}
	for _, tt := range booleans {
		if value, ok := boolean(tt.in); value != tt.value || ok != tt.ok {
			t.Errorf("boolean(%q) = %v, %v", tt.in, value, ok)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("max-size=100, min-append-size=3")
	f.Add("?1;a")
	f.Add("12")
	f.Fuzz(func(t *testing.T, s string) {
		l := parseLimits([]string{s})
		if l.maxSize < -1 || l.minSize < 0 || l.maxAppend < 0 || l.minAppend < 0 || l.maxAppend > 0 && l.minAppend > l.maxAppend {
			t.Errorf("%q: %+v", s, l)
		}
		if n, ok := number([]string{s}); n < 0 || !ok && n != 0 {
			t.Errorf("%q: %d", s, n)
		}
		if value, ok := boolean([]string{s}); value && !ok {
			t.Errorf("%q", s)
		}
	})
}
