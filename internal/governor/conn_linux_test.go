package governor

import (
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A server may not send more than two segments before the law has said anything, and later as much as the law says.
func TestFirstWindow(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 1<<20)
		for err == nil {
			_, err = c.Write(b)
		}
	}()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { firstWindow(int(fd)) })
	}}
	conn, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var offered uint32
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			var i *unix.TCPInfo
			if i, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				offered = i.Rcv_wnd
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	if offered == 0 {
		t.Skip("the system does not tell the offered window (before Linux 6.2)")
	}
	if offered > 2*listenFirst {
		t.Errorf("%d bytes were offered with the handshake; want about %.0f", offered, listenFirst)
	}
	s, err := newSocket(conn.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const later = 400 << 10
	s.setWindow(later)
	b := make([]byte, 64<<10)
	for most, came := 0, 0; most < later/2; came += len(b) {
		if _, err := io.ReadFull(s, b); err != nil {
			t.Fatal(err)
		}
		if most = s.look(reading{}).window; came > 1<<30 {
			t.Fatalf("after %d bytes the window is %d; want %d", came, most, later)
		}
	}
}

// What we send says that it is the least important, whichever the protocol.
func TestLowerEffort(t *testing.T) {
	for _, c := range []struct {
		address             string
		family, level, name int
	}{{"127.0.0.1", unix.AF_INET, unix.IPPROTO_IP, unix.IP_TOS}, {"::1", unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_TCLASS}} {
		fd, err := unix.Socket(c.family, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		setLowerEffort(fd, netip.MustParseAddr(c.address))
		got, err := unix.GetsockoptInt(fd, c.level, c.name)
		if err != nil || got != 0x04 { // DSCP 000001, RFC 8622
			t.Errorf("%s: the class is %#x, %v", c.address, got, err)
		}
		unix.Close(fd)
	}
}

// An alarm does not go off early, however often it is set, and without one a pause is as long.
func TestAlarm(t *testing.T) {
	a := newAlarm()
	if a == nil {
		t.Fatal("the kernel gave no timer")
	}
	pauses := func(a *alarm) {
		t.Helper()
		for _, d := range []time.Duration{time.Millisecond, 20 * time.Millisecond, time.Nanosecond, 5 * time.Millisecond, 0, time.Millisecond} {
			began := time.Now()
			if a.pause(d); time.Since(began) < d {
				t.Errorf("a pause of %v took %v", d, time.Since(began))
			}
		}
	}
	pauses(a)
	a.close()
	pauses(a)
	pauses(nil)
}
