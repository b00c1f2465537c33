package client

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

// listenAs listens on a socket as another user. Only root can.
func listenAs(t *testing.T, socket string, uid int) net.Listener {
	t.Helper()
	type made struct {
		l   net.Listener
		err error
	}
	done := make(chan made)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			done <- made{nil, errno}
			return
		}
		l, err := net.Listen("unix", socket)
		done <- made{l, err}
	}()
	m := <-done
	if m.err != nil {
		t.Fatal(m.err)
	}
	t.Cleanup(func() { _ = m.l.Close() })
	return m.l
}

func TestServiceOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can listen as another user")
	}
	dir, err := os.MkdirTemp("", "ebb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l := listenAs(t, socket, 65534)
	told := make(chan int, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n, _ := c.Read(make([]byte, 1))
			told <- n
		}
	}()
	m := New(socket)
	defer m.Close()
	m.OnAway(func(context.Context, error) error { t.Error("the service counts as away"); return nil })
	if _, err := m.Create(context.Background(), bits.NewJob{}); !errors.Is(err, &bits.Error{Code: bits.AccessDenied}) {
		t.Errorf("got %v", err)
	}
	if n := <-told; n != 0 {
		t.Error("the service was told something")
	}
}
