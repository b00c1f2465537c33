package bound

import (
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
