package httpconn_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

// A transfer is silent since the last of its requests began to wait, and not while one of them moves.
func TestSilenceOfATransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w httpconn.Waits
		begun := time.Now()
		silent := func(want string, for_ time.Duration) {
			t.Helper()
			s, ok := w.Silence()
			switch {
			case !ok && want != "":
				t.Errorf("it moves, want %q", want)
			case ok && (s.Tell(time.Now()) != want || time.Since(s.Since) != for_):
				t.Errorf("got %q for %v, want %q for %v", s.Tell(time.Now()), time.Since(s.Since), want, for_)
			}
		}
		const ends = " at the latest the connection is given up and made again"
		silent("", 0)
		ctx, cancel := context.WithCancelCause(t.Context())
		_, a := w.Begin(ctx, 30*time.Second, func(s httpconn.Silence) { cancel(s.Err("http://a/f")) })
		time.Sleep(12 * time.Second)
		silent("no connection to the source could be made for 12 s; after 30 s"+ends, 12*time.Second)
		a.At("a")
		a.Wait(httpconn.Reply, time.Minute)
		time.Sleep(4 * time.Second)
		silent("a has not answered for 4 s; after 60 s"+ends, 4*time.Second)
		_, b := w.Begin(ctx, time.Minute, func(httpconn.Silence) { t.Error("b was given up") })
		b.At("b")
		b.Wait(httpconn.Departure, 5*time.Minute)
		a.Wait(httpconn.Arrival, 10*time.Second)
		time.Sleep(time.Second)
		b.Rest() // it writes to the disk
		silent("", 0)
		b.Wait(httpconn.Departure, 5*time.Minute)
		time.Sleep(2 * time.Second)
		silent("b has taken nothing for 2 s; after 5 min"+ends, 2*time.Second)
		b.End()
		silent("a has sent nothing for 3 s; after 10 s"+ends, 3*time.Second)
		<-ctx.Done()
		var e *bits.Error
		if err := context.Cause(ctx); !errors.As(err, &e) || e.Code != bits.WinHTTPTimeout || e.Message != "a has sent nothing for 10 s" {
			t.Errorf("the request ends with %v", err)
		}
		if d := time.Since(begun); d != 12*time.Second+4*time.Second+10*time.Second {
			t.Errorf("it was given up after %v", d)
		}
		a.End()
		silent("", 0)
	})
}

// Bytes that a request gave away at once and that leave little by little are no silence, for as long as they do.
func TestSlowDeparture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w httpconn.Waits
		given := make(chan httpconn.Silence, 9)
		_, p := w.Begin(t.Context(), time.Minute, func(s httpconn.Silence) { given <- s })
		defer p.End()
		var left atomic.Pointer[time.Time]
		before := time.Now().Add(-time.Hour) // of another request
		left.Store(&before)
		var last time.Time
		p.Departed(func() time.Time { return *left.Load() })
		leave := func() time.Time {
			now := time.Now()
			left.Store(&now)
			return now
		}
		const stall = 30 * time.Second
		p.Wait(httpconn.Departure, stall)
		for range 10 {
			time.Sleep(stall * 9 / 10)
			last = leave()
			if s, ok := w.Silence(); !ok || !s.Since.Equal(last) || s.Limit != stall {
				t.Errorf("it is silent %v, since %v for at most %v", ok, s.Since, s.Limit)
			}
		}
		time.Sleep(stall - time.Second)
		synctest.Wait()
		if len(given) > 0 {
			t.Fatalf("given up after %v though bytes left", time.Since(last))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(given) != 1 {
			t.Fatalf("given up %d times", len(given))
		}
		if s := <-given; !s.Since.Equal(last) || s.Limit != stall {
			t.Errorf("given up with %+v; want for what began at %v", s, last)
		}

		p.Wait(httpconn.Reply, stall) // for which the bytes do not count
		time.Sleep(stall - time.Second)
		leave()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(given) != 1 || (<-given).For != httpconn.Reply {
			t.Error("not given up for a reply that did not come")
		}
	})
}
