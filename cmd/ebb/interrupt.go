package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// Why waiting ended early.
var (
	errInterrupted = errors.New("interrupted")
	errHungUp      = errors.New("the terminal is gone")
)

// catchSignals returns a context that the first Ctrl+C (or termination, or loss of the
// terminal) ends; a second one ends the program at once. A signal that this program was
// started to ignore, as nohup does, stays ignored.
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
				if !first {
					os.Exit(exitInterrupted)
				}
				if s == syscall.SIGHUP {
					cancel(errHungUp)
				} else {
					cancel(errInterrupted)
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

// interrupted reports whether a signal ended the context.
func interrupted(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, errInterrupted) || errors.Is(cause, errHungUp)
}
