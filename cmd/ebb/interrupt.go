package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Why waiting ended early.
var (
	errInterrupted = errors.New("interrupted")
	errHungUp      = errors.New("the session ended")
)

// catchSignals returns a context that the first Ctrl+C, termination or loss of the terminal
// ends; Ctrl+C after that ends the program at once. The others do not: at the end of a session
// they come in pairs. A signal that this program was started to ignore, as nohup does, stays
// ignored.
func catchSignals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	got := make(chan os.Signal, 2)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(got, s)
		}
	}
	done := make(chan struct{})
	go func() {
		for first := true; ; first = false {
			select {
			case s := <-got:
				switch {
				case s != os.Interrupt:
					cancel(errHungUp)
				case first:
					cancel(errInterrupted)
				default:
					os.Exit(exitInterrupted)
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(got)
		close(done)
		cancel(nil)
	}
}

// patience is for how long ebb tidies up after a signal.
const patience = 10 * time.Second

// outlive returns a context that goes on for a while after the parent ended.
func outlive(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() {
		time.AfterFunc(patience, func() { cancel(context.Cause(parent)) })
	})
	return ctx, func() { stop(); cancel(nil) }
}

// interrupted reports whether a signal ended the context.
func interrupted(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, errInterrupted) || errors.Is(cause, errHungUp)
}
