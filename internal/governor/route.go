package governor

import (
	"net/netip"
)

// route is what tells bottlenecks apart: everything that leaves through the same gateway of the
// same interface, in one direction, most likely meets the same one. A server in a subnet of this machine has a path
// of its own.
type route struct {
	device string     // empty if unknown
	via    netip.Addr // gateway, or the server itself if it is local; invalid on a link without gateways
	local  bool       // the server is in a subnet of this machine
	up     bool       // what this machine sends; else what it receives
}

func (r route) String() string {
	if r.up {
		r.up = false
		return r.String() + ", upload"
	}
	switch {
	case r.device == "":
		return r.via.String()
	case r.local:
		return r.device + " to " + r.via.String()
	case !r.via.IsValid():
		return r.device
	}
	return r.device + " via " + r.via.String()
}

// server returns the address for people; empty if there is none to tell.
func (r route) server() string {
	if !r.via.IsValid() {
		return ""
	}
	return r.via.String()
}
