package governor

import (
	"net/netip"
)

// route is what tells bottlenecks apart: everything that leaves through the same gateway of the
// same interface most likely meets the same one. A server without a gateway in between has a
// path of its own.
type route struct {
	device string     // empty if unknown
	via    netip.Addr // gateway, or the server itself
	local  bool       // the server is in a subnet of this machine
}

func (r route) String() string {
	if r.device == "" {
		return r.via.String()
	}
	if r.local {
		return r.device + " to " + r.via.String()
	}
	return r.device + " via " + r.via.String()
}
