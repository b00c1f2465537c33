package client

import (
	"errors"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestConnectInACrowd: while the queue of the socket is full a client waits, and is not told that there is
// no service.
func TestConnectInACrowd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(l) }()
	if err := errors.Join(unix.Bind(l, &unix.SockaddrUnix{Name: path}), unix.Listen(l, 0)); err != nil {
		t.Fatal(err)
	}
	waiting := 0
	for {
		c, err := net.Dial("unix", path)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		waiting++
		defer func() { _ = c.Close() }()
	}
	served := make(chan error, 1)
	go func() {
		for range waiting + 1 {
			c, _, err := unix.Accept(l)
			if err != nil {
				served <- err
				return
			}
			_ = unix.Close(c)
		}
		served <- nil
	}()
	c, err := connect(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
