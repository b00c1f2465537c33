package loopback

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
)

func TestReservedPortRefusesClientsAndLetsItsServerListenAgain(t *testing.T) {
	p, err := Reserve(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		addr := net.JoinHostPort(host, strconv.Itoa(p.Number))
		for range 2 {
			if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatalf("dial %s without a server: %v, %v; want refused", addr, c, err)
			}
			ln, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			_ = ln.Close()
		}
	}
}

func TestReserveSaysWhichPortIsTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	if p, err := Reserve(ln.Addr().(*net.TCPAddr).Port); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("Reserve of a port in use = %v, %v; want EADDRINUSE", p, err)
	}
}
