package governor

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// routeTo asks the kernel how packets reach an address.
func routeTo(remote netip.Addr) route {
	r := route{via: remote}
	found, err := netlink.RouteGet(net.IP(remote.AsSlice()))
	if err != nil || len(found) == 0 {
		return r
	}
	if link, err := netlink.LinkByIndex(found[0].LinkIndex); err == nil {
		r.device = link.Attrs().Name
	}
	r.local = true
	if gw, ok := netip.AddrFromSlice(found[0].Gw); ok && !gw.IsUnspecified() {
		r.via, r.local = gw.Unmap(), false
	}
	return r
}
