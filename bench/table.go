package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// figures are what was measured of one thing, run by run.
type figures []float64

// median returns the middle figure, 0 of none.
func (f figures) median() float64 {
	if len(f) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(f))
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

func (f figures) max() float64 {
	if len(f) == 0 {
		return 0
	}
	return slices.Max(f)
}

func (f figures) min() float64 {
	if len(f) == 0 {
		return 0
	}
	return slices.Min(f)
}

// spread shows the median with the least and the greatest figure.
func (f figures) spread(format string) string {
	if len(f) == 0 {
		return "-"
	}
	return fmt.Sprintf(format+" ("+format+" to "+format+")", f.median(), f.min(), f.max())
}

// table is a table in markdown.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(t.head)
	b.WriteString("|" + strings.Repeat("---|", len(t.head)) + "\n")
	for _, r := range t.rows {
		line(r)
	}
	return b.String()
}

// print prints the table under a title.
func (t *table) print(title string, args ...any) {
	fmt.Printf("\n%s\n\n%s", fmt.Sprintf(title, args...), t)
}

// target is something promised, and what was measured of it.
type target struct {
	what   string
	limit  float64
	got    float64
	format string // of both
	least  bool   // the limit is the least, not the most
}

func (t target) met() bool {
	if t.least {
		return t.got >= t.limit
	}
	return t.got <= t.limit
}

// printTargets prints what was promised beside what was measured.
func printTargets(targets []target) {
	t := table{head: []string{"target", "", "measured", ""}}
	for _, g := range targets {
		bound, verdict := "at most ", "**not met**"
		if g.least {
			bound = "at least "
		}
		if g.met() {
			verdict = "met"
		}
		t.add(g.what, bound+fmt.Sprintf(g.format, g.limit), fmt.Sprintf(g.format, g.got), verdict)
	}
	fmt.Printf("\n%s", &t)
}

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// size is a number of bytes. As a flag it is written with K, M or G for powers of 1024.
type size int64

func (s size) String() string {
	switch {
	case s >= 10*gib:
		return fmt.Sprintf("%.0f GiB", float64(s)/gib)
	case s >= gib && s%gib == 0:
		return fmt.Sprintf("%d GiB", s/gib)
	case s >= mib:
		return fmt.Sprintf("%.1f MiB", float64(s)/mib)
	case s >= kib:
		return fmt.Sprintf("%.1f KiB", float64(s)/kib)
	}
	return fmt.Sprintf("%d B", int64(s))
}

// MarshalText implements encoding.TextMarshaler, which flag.TextVar wants.
func (s size) MarshalText() ([]byte, error) {
	for _, u := range []struct {
		letter string
		bytes  size
	}{{"G", gib}, {"M", mib}, {"K", kib}} {
		if s >= u.bytes && s%u.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", s/u.bytes, u.letter), nil
		}
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(b []byte) error {
	text, shift := string(b), 0
	if i := strings.IndexAny(text, "KMG"); i > 0 && i == len(text)-1 {
		shift = 10 * (1 + strings.IndexByte("KMG", text[i]))
		text = text[:i]
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || cmp.Less(n, 1) || n > 1<<50>>shift {
		return fmt.Errorf("%q is not a size: want a number of bytes, or one with K, M or G", b)
	}
	*s = size(n << shift)
	return nil
}
