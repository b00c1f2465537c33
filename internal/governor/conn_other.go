//go:build !linux

package governor

import (
	"errors"
	"net"
	"net/netip"
	"time"
)

// socket does not exist: this system offers no bound on the window of an open connection, so that
// background transfers yield only as their server's congestion control does.
type socket struct {
	net.Conn
	reading, writing alarm
}

type alarm struct{}

func (alarm) pause(d time.Duration) { time.Sleep(d) }

func newSocket(*net.TCPConn) (*socket, error) { return nil, errors.ErrUnsupported }

func (*socket) setLowerEffort(netip.Addr)     {}
func (*socket) setCongestion()                {}
func (*socket) setWindow(int)                 {}
func (*socket) setPacing(uint64)              {}
func (*socket) look(last reading) reading     { return last }
func (*socket) lookSend(last reading) reading { return last }
func setLowerEffort(int, netip.Addr)          {}
func setCongestion(int)                       {}
func firstWindow(int)                         {}
