package daemon

import "testing"

func TestGrowth(t *testing.T) {
	for _, c := range []struct {
		live uint64 // MiB
		want int
	}{{0, gcMost}, {4, gcMost}, {24, gcMost}, {36, 100}, {48, 50}, {64, gcPercent}, {96, gcPercent}, {1 << 20, gcPercent}} {
		if got := growth(c.live << 20); got != c.want {
			t.Errorf("a heap of %d MiB may grow by %d %%, want %d", c.live, got, c.want)
		}
	}
}
