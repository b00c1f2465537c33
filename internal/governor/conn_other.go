//go:build !linux

package governor

import (
	"net/netip"
	"syscall"
)

// This system offers no bound on the window of an open connection, so that background transfers
// yield only as their server's congestion control does.

func setLowerEffort(syscall.RawConn, netip.Addr) {}
func setWindow(syscall.RawConn, int)             {}
func (c *Conn) read() reading                    { return reading{} }
