package conditions

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// told runs a watch and returns a channel of its calls.
func told(t *testing.T, run func(ctx context.Context, changed func()) error) <-chan struct{} {
	t.Helper()
	calls := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, func() { calls <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			ok(t, err)
		case <-time.After(patience):
			t.Error("the watch does not end")
		}
	})
	return calls
}

// TestTheClockThatIsSetIsSeen sets the clock to what it shows.
func TestTheClockThatIsSetIsSeen(t *testing.T) {
	calls := told(t, WatchClock)
	for range 3 {
		for deadline := time.Now().Add(patience); ; {
			var now unix.Timespec
			ok(t, unix.ClockGettime(unix.CLOCK_REALTIME, &now))
			if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
				t.Skipf("the clock cannot be set here: %v", err)
			}
			select {
			case <-calls:
			case <-time.After(50 * time.Millisecond): // the watch may not have begun
				if time.Now().After(deadline) {
					t.Fatal("it is not seen that the clock was set")
				}
				continue
			}
			break
		}
	}
}
