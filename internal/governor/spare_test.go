package governor

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

func TestLeft(t *testing.T) {
	const gigabit = 125e6
	for _, c := range []struct {
		name               string
		speed, others, own float64
		want               float64
	}{
		{"nobody else", gigabit, 0, 0, 0.9 * gigabit},
		{"what only seems to be others", gigabit, 5e6, 100e6, 0.9 * gigabit},
		{"somebody", gigabit, 10e6, 0, gigabit / 4},
		{"somebody who sends a lot", gigabit, 100e6, 0, 12.5e6},
		{"somebody who sends all", gigabit, 120e6, 100e6, leastSpare},
		{"a radio", 0, 0, 0, 20e6},
		{"a radio with others", 0, 1e6, 0, 5e6},
	} {
		if got := left(c.speed, c.others, c.own); got != c.want {
			t.Errorf("%s: %.0f bytes per second, want %.0f", c.name, got, c.want)
		}
	}
}

// TestSpareKeepsItsLimit sends through two connections that share a limit.
func TestSpareKeepsItsLimit(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const limit, total = 8 << 20, 4 << 20
	s := NewSpare(limit)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := time.Now()
	failed := make(chan error, 2)
	for range 2 {
		go func() {
			c, err := l.Accept()
			if err == nil {
				defer c.Close()
				_, err = s.Conn(ctx, c.(*net.TCPConn)).Write(make([]byte, total))
			}
			failed <- err
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() { _, _ = io.Copy(io.Discard, c) }()
	}
	for range 2 {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	if least := time.Duration(float64(2*total-2*spareBurst) / limit * float64(time.Second)); time.Since(began) < least {
		t.Errorf("%d bytes went in %v", 2*total, time.Since(began))
	}
	cancel()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := s.Conn(ctx, c.(*net.TCPConn)).Write(make([]byte, total)); err == nil {
		t.Error("a connection sends after the end")
	}
}
