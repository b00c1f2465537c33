package transfer

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
)

// TestWhoWaitsForWhom has transfers that want the same content come one after the other.
func TestWhoWaitsForWhom(t *testing.T) {
	const fg, bg = governor.Foreground, governor.Background
	for _, c := range []struct {
		first, second governor.Class
		waits         bool
	}{{fg, fg, true}, {bg, bg, true}, {fg, bg, true}, {bg, fg, false}} {
		t.Run(fmt.Sprintf("%v after %v", c.second, c.first), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s shares
				of := content{Identity{1}, "http://a/b"}
				one, two := bits.NewID(), bits.NewID()
				first, err := s.enter(t.Context(), of, c.first, one, nil)
				if err != nil {
					t.Fatal(err)
				}
				var told []bits.ID
				var second *share
				go func() {
					second, _ = s.enter(t.Context(), of, c.second, two, func(id bits.ID) { told = append(told, id) })
				}()
				synctest.Wait()
				if waits := second == nil; waits != c.waits {
					t.Fatalf("it waits: %v, want %v", waits, c.waits)
				}
				if c.waits && (len(told) != 1 || told[0] != one) {
					t.Errorf("it waits for %v, want %v", told, one)
				}
				s.free(of, first)
				s.free(of, first)
				synctest.Wait()
				if second == nil || c.waits && (len(told) != 2 || told[1] != bits.ID{}) {
					t.Fatalf("it goes on: %v, told %v", second != nil, told)
				}
				// The first one's end does not take the place of the second.
				if s.moving[of] != second {
					t.Error("nobody would wait for the second one")
				}
				s.free(of, second)
				if len(s.moving) != 0 {
					t.Error("the content is still moving")
				}
			})
		})
	}
}

func TestOthersDoNotWait(t *testing.T) {
	var s shares
	for i, of := range []content{{Identity{1}, "http://a/b"}, {Identity{2}, "http://a/b"}, {Identity{1}, "http://a/c"}} {
		if _, err := s.enter(t.Context(), of, governor.Foreground, bits.NewID(), nil); err != nil {
			t.Fatal(i, err)
		}
	}
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errChanged)
	var told []bits.ID
	_, err := s.enter(ctx, content{Identity{1}, "http://a/b"}, governor.Foreground, bits.NewID(), func(id bits.ID) { told = append(told, id) })
	if err != errChanged || len(told) != 2 || told[1] != (bits.ID{}) {
		t.Errorf("the waiting ended with %v, told %v", err, told)
	}
}

// TestLeavingsAreFew checks that what is remembered has a bound, and that the oldest is forgotten.
func TestLeavingsAreFew(t *testing.T) {
	var s shares
	began := time.Now()
	name := func(i int) content { return content{Identity{1}, fmt.Sprint("http://a/", i)} }
	for i := range 2 * mostLeavings {
		s.leave(&leavings{content: name(i), at: began.Add(time.Duration(i+1) * time.Second), part: fmt.Sprint(i)})
		s.leave(&leavings{content: name(i), at: began.Add(time.Duration(i+1) * time.Second), part: fmt.Sprint("again ", i)})
	}
	if len(s.left) != mostLeavings || len(s.places) != mostLeavings {
		t.Errorf("%d are remembered by content and %d by place, want %d", len(s.left), len(s.places), mostLeavings)
	}
	last := 2*mostLeavings - 1
	if s.find(name(0), began) != nil || s.find(name(last), began) == nil || s.at(fmt.Sprint("again ", last)) == nil {
		t.Error("not the oldest are forgotten")
	}
	if s.find(name(last), began.Add(time.Hour)) != nil {
		t.Error("a job that was made later takes what was left before")
	}
}
