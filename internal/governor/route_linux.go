package governor

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// routeTo asks the kernel how packets reach an address.
func routeTo(remote netip.Addr) route {
	ip := net.IP(remote.AsSlice())
	found, err := netlink.RouteGet(ip)
	if err != nil || len(found) == 0 {
		return route{via: remote}
	}
	link, err := netlink.LinkByIndex(found[0].LinkIndex)
	if err != nil {
		return route{via: remote}
	}
	r := route{device: link.Attrs().Name}
	gw := found[0].Gw
	if via, ok := found[0].Via.(*netlink.Via); ok && gw == nil {
		gw = via.Addr
	}
	if a, ok := netip.AddrFromSlice(gw); ok && !a.IsUnspecified() {
		r.via = a.Unmap()
		return r
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return r
	}
	for _, a := range addrs {
		if a.IPNet != nil && a.Contains(ip) && (a.Peer == nil || a.Peer.IP.Equal(a.IP)) {
			r.via, r.local = remote, true
		}
	}
	return r
}
