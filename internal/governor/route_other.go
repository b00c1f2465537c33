//go:build !linux

package governor

import "net/netip"

func routeTo(remote netip.Addr) route { return route{via: remote} }
