package bound

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p PerSecond
		one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		for range 3 {
			taken := map[netip.Addr]int{}
			for range 10 {
				for _, a := range []netip.Addr{one, two, {}} {
					if p.Take(a, 2, 5) {
						taken[a]++
					}
				}
			}
			if taken[one] != 2 || taken[two] != 2 || taken[netip.Addr{}] != 1 {
				t.Errorf("of 5 in a second, 2 for each, there are %v", taken)
			}
			if !p.Full(one, 2) || p.Full(one, 3) || p.Full(netip.Addr{}, 2) {
				t.Error("it does not know who has all")
			}
			time.Sleep(time.Second)
			if p.Full(one, 2) {
				t.Error("a new second is full")
			}
		}
	})
}

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns[string](2)
		take := func(k string) func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return turns.Take(ctx, k)
		}
		first, second := take("a"), take("a")
		if first == nil || second == nil {
			t.Fatal("two have no turn")
		}
		if take("a") != nil {
			t.Error("a third has a turn")
		}
		other := take("b")
		if other == nil {
			t.Fatal("others have to wait")
		}
		other()
		time.AfterFunc(time.Second/2, first)
		third := take("a")
		if third == nil {
			t.Fatal("who waits has no turn when it is free")
		}
		third()
		second()
		if len(turns.of) > 0 {
			t.Errorf("%d machines are remembered", len(turns.of))
		}
	})
}
