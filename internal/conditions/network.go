// Package conditions tells what the machine allows: whether and when its network changes, what
// the network costs, how the machine is powered, and when its clock is set. It reports and never
// decides.
package conditions

import (
	"net"
	"net/netip"
)

// AddrAlive reports whether an address belongs to an interface that is up and has a carrier: a
// connection from an address that is not alive will never hear from its peer again.
func AddrAlive(a netip.Addr) bool {
	interfaces, err := net.Interfaces()
	if err != nil {
		return true // not known: leave it to timeouts
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagRunning == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return true
		}
		for _, n := range addrs {
			if p, err := netip.ParsePrefix(n.String()); err == nil && p.Addr().Unmap().WithZone("") == a.WithZone("") {
				return true
			}
			// Every address of 127.0.0.0/8 belongs to the loopback interface.
			if i.Flags&net.FlagLoopback != 0 && a.IsLoopback() {
				return true
			}
		}
	}
	return false
}

// Online reports whether there is any network besides this machine itself: an interface that is
// up, has a carrier and an address that is not only valid on its link.
func Online() bool {
	interfaces, err := net.Interfaces()
	if err != nil {
		return true // not known
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagRunning == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return true
		}
		for _, n := range addrs {
			if p, err := netip.ParsePrefix(n.String()); err == nil && p.Addr().IsGlobalUnicast() {
				return true
			}
		}
	}
	return false
}
