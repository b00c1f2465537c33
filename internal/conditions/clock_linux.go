package conditions

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// WatchClock calls changed each time that the clock was set, or the machine woke up, until ctx
// ends. It sleeps in between.
func WatchClock(ctx context.Context, changed func()) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch the clock: %w", err)
	}
	timer := os.NewFile(uintptr(fd), "clock")
	defer timer.Close()
	defer context.AfterFunc(ctx, func() { _ = timer.SetReadDeadline(time.Now()) })()
	for {
		// The timer is there to be cancelled; a year hence it is set again.
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(time.Now().AddDate(1, 0, 0).UnixNano())}
		err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &at, nil)
		if errors.Is(err, unix.ECANCELED) { // it was set while the last time was dealt with
			changed()
			continue
		}
		if err != nil {
			return fmt.Errorf("watch the clock: %w", err)
		}
		var ticks [8]byte
		_, err = timer.Read(ticks[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ECANCELED):
			changed()
		case err != nil:
			return fmt.Errorf("watch the clock: %w", err)
		}
	}
}

// Asleep returns how long the machine was suspended since it was started.
func Asleep() time.Duration {
	var all, awake unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &all) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil {
		return 0
	}
	return time.Duration(all.Nano() - awake.Nano())
}
