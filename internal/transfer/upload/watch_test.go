package upload

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

// TestSlowDeparture sends little by little what was taken of a body at once: the request goes on for as long as anything
// is sent, and no longer.
func TestSlowDeparture(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := governor.New("", slog.New(slog.DiscardHandler)).Govern(raw.(*net.TCPConn), governor.Background)
	defer conn.Close()
	const stall = time.Second
	task := &Task{Stall: func() time.Duration { return stall }, On: func(*governor.Conn) {}, Waits: &httpconn.Waits{}}
	ctx, w := task.Watch(t.Context(), "http://a.example/", true)
	defer w.End()
	w.got(ctx, conn, true)
	w.Moved(false)
	for began := time.Now(); time.Since(began) < 5*stall/2; time.Sleep(stall / 20) {
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if ctx.Err() != nil {
			t.Fatalf("after %v: %v", time.Since(began), context.Cause(ctx))
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(20 * stall):
		t.Error("a request of which nothing more is sent goes on")
	}
}
