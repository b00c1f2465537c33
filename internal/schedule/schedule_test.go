package schedule

import (
	"slices"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

var limits = Limits{Foreground: 4, Background: 1, Slice: time.Minute}

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// plan asks at t0+after and compares the running jobs, in any order.
func plan(t *testing.T, s *Scheduler, after time.Duration, want ...int64) time.Time {
	t.Helper()
	run, next := s.Plan(t0.Add(after))
	slices.Sort(run)
	if !slices.Equal(run, want) {
		t.Fatalf("at +%v: running %v, want %v", after, run, want)
	}
	return next
}

func TestAllForegroundJobsRunBesideOneBackgroundJob(t *testing.T) {
	s := New(limits)
	s.Add(1, 1, bits.Foreground)
	s.Add(2, 1, bits.Foreground)
	s.Add(3, 1, bits.Normal)
	s.Add(4, 1, bits.Normal)
	plan(t, s, 0, 1, 2, 3)
}

func TestForegroundLimitIsFirstComeFirstServed(t *testing.T) {
	s := New(limits)
	for n := range int64(6) {
		s.Add(n, 1, bits.Foreground)
	}
	plan(t, s, 0, 0, 1, 2, 3)
	s.Remove(2)
	plan(t, s, 0, 0, 1, 3, 4)
}

func TestALowerForegroundLimitStopsTheNewest(t *testing.T) {
	s := New(limits)
	for n := range int64(6) {
		s.Add(n, 1, bits.Foreground)
	}
	plan(t, s, 0, 0, 1, 2, 3)
	s.SetLimits(Limits{Foreground: 2, Background: 1, Slice: limits.Slice})
	plan(t, s, time.Second, 0, 1)
	s.Remove(0)
	plan(t, s, 2*time.Second, 1, 2) // those that were stopped come before those that never ran
	s.Remove(1)
	plan(t, s, 3*time.Second, 2, 3)
}

func TestHigherLevelPreemptsAndThePreemptedJobComesBackFirst(t *testing.T) {
	s := New(limits)
	s.Add(1, 1, bits.Low)
	s.Add(2, 1, bits.Low)
	plan(t, s, 0, 1)
	s.Add(3, 1, bits.High)
	plan(t, s, time.Second, 3)
	s.Add(4, 1, bits.Normal)
	plan(t, s, 2*time.Second, 3)
	s.Remove(3)
	plan(t, s, 3*time.Second, 4)
	s.Remove(4)
	plan(t, s, 4*time.Second, 1)
}

func TestRotationOnlyWhenAnotherJobOfTheLevelWaits(t *testing.T) {
	s := New(limits)
	s.Add(1, 1, bits.Normal)
	s.Add(9, 1, bits.Low)
	if next := plan(t, s, 0, 1); !next.IsZero() {
		t.Errorf("asks again at %v though nobody waits in the level", next)
	}
	plan(t, s, time.Hour, 1)
	s.Add(2, 1, bits.Normal)
	// Job 1 has had its slice long ago: the newcomer's turn is now.
	if next := plan(t, s, time.Hour, 2); !next.Equal(t0.Add(time.Hour + time.Minute)) {
		t.Errorf("asks again at %v, want the end of the slice", next)
	}
	s.Add(3, 1, bits.Normal)
	plan(t, s, time.Hour+59*time.Second, 2)
	plan(t, s, time.Hour+60*time.Second, 1) // 1 went to the end before 3 came
	plan(t, s, time.Hour+120*time.Second, 3)
	plan(t, s, time.Hour+180*time.Second, 2)
}

func TestSeveralBackgroundJobsAtOnce(t *testing.T) {
	s := New(Limits{Foreground: 4, Background: 2, Slice: time.Minute})
	for n := int64(1); n <= 3; n++ {
		s.Add(n, 1, bits.Normal)
	}
	s.Add(7, 1, bits.Low)
	plan(t, s, 0, 1, 2)
	s.Remove(1)
	s.Remove(2)
	plan(t, s, 0, 3) // the free place does not go to a lower level
	s.SetLimits(limits)
	s.Add(4, 1, bits.Normal)
	plan(t, s, 0, 3)
}

func TestChangeOfPriorityMovesTheJob(t *testing.T) {
	s := New(limits)
	s.Add(1, 1, bits.Normal)
	s.Add(2, 1, bits.Normal)
	plan(t, s, 0, 1)
	s.Add(2, 1, bits.High)
	plan(t, s, 0, 2)
	s.Add(2, 1, bits.Low)
	plan(t, s, 0, 1)
	s.Add(1, 1, bits.Foreground)
	plan(t, s, 0, 1, 2)
}

func TestAddingAndRemovingAgainKeepsOnePlace(t *testing.T) {
	s := New(limits)
	s.Add(1, 1, bits.Normal)
	s.Add(2, 1, bits.Normal)
	s.Remove(2)
	s.Add(3, 1, bits.Normal)
	s.Add(2, 1, bits.Normal)
	plan(t, s, 0, 1)
	s.Remove(1)
	plan(t, s, 0, 3)
	s.Remove(3)
	plan(t, s, 0, 2)
	s.Remove(2)
	plan(t, s, 0)
}

// TestRandomCallsKeepTheRules checks the rules of client.md 4.1 after each of many random calls.
func TestRandomCallsKeepTheRules(t *testing.T) {
	seed := uint64(1)
	random := func(n uint64) uint64 { // xorshift: the same on every run
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		return seed % n
	}
	s := New(limits)
	known := map[int64]bits.Priority{}
	now := t0
	for range 20_000 {
		num := int64(random(40))
		switch random(3) {
		case 0:
			p := bits.Priority(random(4))
			s.Add(num, uint32(random(3)), p)
			known[num] = p
		case 1:
			s.Remove(num)
			delete(known, num)
		case 2:
			now = now.Add(time.Duration(random(90)) * time.Second)
		}
		run, next := s.Plan(now)
		if !next.IsZero() && !next.After(now) {
			t.Fatalf("asks again at once, at %v", now)
		}
		var count [bits.Priorities]int
		for _, n := range run {
			p, ok := known[n]
			if !ok {
				t.Fatalf("job %d runs though it was removed", n)
			}
			count[p]++
		}
		var want [bits.Priorities]int
		for _, p := range known {
			want[p]++
		}
		want[bits.Foreground] = min(want[bits.Foreground], limits.Foreground)
		top := true
		for p := bits.High; p <= bits.Low; p++ {
			if want[p] > 0 && top {
				want[p], top = 1, false
			} else {
				want[p] = 0
			}
		}
		if count != want {
			t.Fatalf("running per level %v, want %v", count, want)
		}
	}
}

func TestAPinnedJobKeepsItsTurnButIsPreempted(t *testing.T) {
	s := New(limits)
	s.Add(1, 1, bits.Normal)
	s.Add(2, 1, bits.Normal)
	plan(t, s, 0, 1)
	s.Pin(1, true)
	if next := plan(t, s, 2*time.Minute, 1); !next.Equal(t0.Add(2*time.Minute + pinnedLook)) {
		t.Errorf("asks again at %v", next)
	}
	s.Add(3, 1, bits.High)
	plan(t, s, 3*time.Minute, 3)
	s.Remove(3)
	plan(t, s, 4*time.Minute, 1)
	s.Pin(1, false)
	plan(t, s, 6*time.Minute, 2)
}

func TestComingAndGoingLeavesNothingBehind(t *testing.T) {
	s := New(limits)
	s.Add(0, 1, bits.Normal)
	plan(t, s, 0, 0)
	for i := range int64(100_000) {
		s.Add(1+i%3, 1, bits.Normal)
		s.Remove(1 + i%3)
	}
	if n := len(s.lanes[bits.Normal].turns); n > 0 {
		t.Errorf("%d users wait without a job", n)
	}
	s.Add(5, 1, bits.Normal)
	for i := range int64(100_000) {
		s.Add(1+i%3, 1, bits.Normal)
		s.Remove(1 + i%3)
	}
	if n := len(s.lanes[bits.Normal].lines[1].waiting); n > 200 {
		t.Errorf("%d entries for one waiting job", n)
	}
}

// Users take turns: who has many jobs is served no more than who has one.
func TestUsersTakeTurns(t *testing.T) {
	s := New(limits)
	for n := range int64(50) {
		s.Add(n, 1, bits.Normal)
	}
	s.Add(100, 2, bits.Normal)
	s.Add(200, 3, bits.Normal)
	s.Add(201, 3, bits.Normal)
	turns := map[int64]int{}
	for i := range 30 {
		run, _ := s.Plan(t0.Add(time.Duration(i) * time.Minute))
		turns[run[0]/100]++
	}
	if turns[0] != 10 || turns[1] != 10 || turns[2] != 10 {
		t.Errorf("turns of the users: %v", turns)
	}
	// What a higher level preempts has its turn first.
	was, _ := s.Plan(t0.Add(time.Hour))
	s.Add(300, 1, bits.High)
	plan(t, s, time.Hour+time.Second, 300)
	s.Remove(300)
	plan(t, s, 2*time.Hour, was...)
}

func TestPlacesAreSharedByUsers(t *testing.T) {
	s := New(Limits{Foreground: 4, Background: 3, Slice: time.Minute})
	for n := range int64(50) {
		s.Add(n, 1, bits.Normal)
		s.Add(1000+n, 1, bits.Foreground)
	}
	plan(t, s, 0, 0, 1, 2, 1000, 1001, 1002, 1003)
	s.Add(100, 2, bits.Normal)
	s.Add(2000, 2, bits.Foreground)
	plan(t, s, time.Second, 0, 1, 2, 1000, 1001, 1002, 1003)
	s.Remove(1001)
	plan(t, s, 2*time.Second, 0, 1, 2, 1000, 1002, 1003, 2000) // the first place that is free
	plan(t, s, time.Minute, 3, 4, 100, 1000, 1002, 1003, 2000)
	// The only job of the other user keeps its place, for which nobody else has to wait longer.
	next := plan(t, s, 2*time.Minute, 5, 6, 100, 1000, 1002, 1003, 2000)
	if !next.Equal(t0.Add(3 * time.Minute)) {
		t.Errorf("asks again at %v", next)
	}
	for n := range int64(50) {
		s.Remove(n)
	}
	if next = plan(t, s, 4*time.Minute, 100, 1000, 1002, 1003, 2000); !next.IsZero() {
		t.Errorf("asks again at %v, for nothing", next)
	}
}
