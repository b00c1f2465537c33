package extent

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

func r(offset, length int64) bits.Range { return bits.Range{Offset: offset, Length: length} }

func TestAddJoinsWhatTouches(t *testing.T) {
	for _, c := range []struct{ add, want []bits.Range }{
		{nil, nil},
		{[]bits.Range{r(5, 0)}, nil},
		{[]bits.Range{r(5, 5), r(0, 3)}, []bits.Range{r(0, 3), r(5, 5)}},
		{[]bits.Range{r(5, 5), r(0, 5)}, []bits.Range{r(0, 10)}},
		{[]bits.Range{r(0, 2), r(4, 2), r(8, 2), r(1, 8)}, []bits.Range{r(0, 10)}},
		{[]bits.Range{r(0, 10), r(3, 2)}, []bits.Range{r(0, 10)}},
	} {
		var s Set
		for _, a := range c.add {
			s = s.Add(a)
		}
		if !slices.Equal(s, Set(c.want)) {
			t.Errorf("%v make %v, want %v", c.add, s, c.want)
		}
	}
}

// TestAgainstBits compares with a bit for each byte.
func TestAgainstBits(t *testing.T) {
	const size = 64
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var (
			s    Set
			have [size]bool
		)
		for range rng.IntN(12) {
			a := rng.Int64N(size)
			n := rng.Int64N(size - a + 1)
			s = s.Add(r(a, n))
			for i := a; i < a+n; i++ {
				have[i] = true
			}
		}
		if !s.Valid(size) {
			t.Fatalf("%v is not valid", s)
		}
		a := rng.Int64N(size)
		n := rng.Int64N(size - a + 1)
		missing := map[int64]bool{}
		for _, m := range s.Missing(r(a, n)) {
			for i := m.Offset; i < m.End(); i++ {
				missing[i] = true
			}
		}
		var count int64
		all := true
		for i := range int64(size) {
			if have[i] {
				count++
			}
			in := i >= a && i < a+n
			if missing[i] != (in && !have[i]) {
				t.Fatalf("%v: byte %d of %v", s, i, r(a, n))
			}
			all = all && (!in || have[i])
		}
		if s.Bytes() != count || s.Has(r(a, n)) != all {
			t.Fatalf("%v: %d bytes, has %v: %v", s, s.Bytes(), r(a, n), s.Has(r(a, n)))
		}
	}
}

func TestValid(t *testing.T) {
	for _, s := range []Set{{r(0, 0)}, {r(-1, 2)}, {r(0, 2), r(2, 2)}, {r(4, 2), r(0, 2)}, {r(0, 11)}, {r(5, 1<<62), r(6, 1)}, {r(0, -1)}} {
		if s.Valid(10) {
			t.Errorf("%v is valid", s)
		}
	}
}
