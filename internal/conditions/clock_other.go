//go:build !linux

package conditions

import (
	"context"
	"time"
)

const (
	// lookEvery is how often the clock is looked at: this system has no event for its being set.
	lookEvery = time.Minute
	// leastStep is what counts as being set; what is less, clocks do by themselves.
	leastStep = time.Second
)

// WatchClock calls changed within a minute after the clock was set, until ctx ends.
func WatchClock(ctx context.Context, changed func()) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			wall := now.Round(0).Sub(last.Round(0))
			if d := wall - now.Sub(last); d > leastStep || d < -leastStep {
				changed()
			}
			last = now
		}
	}
}

// Asleep returns 0: how long this system was suspended is not known.
func Asleep() time.Duration { return 0 }
