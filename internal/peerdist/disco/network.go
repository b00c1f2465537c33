package disco

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Network is an interface of this machine and its addresses there, with the networks that they are in.
type Network struct {
	Name      string // of the interface
	Addresses []netip.Prefix
}

// Equal reports whether two are the same.
func (n Network) Equal(o Network) bool {
	return n.Name == o.Name && slices.Equal(n.Addresses, o.Addresses)
}

// Has reports whether a is an address of the network, as of a machine that is directly reached. The zone
// of a link-local address is the interface's name.
func (n Network) Has(a netip.Addr) bool {
	if a.Zone() != "" && a.Zone() != n.Name || a.Zone() == "" && a.Is6() && a.IsLinkLocalUnicast() {
		return false
	}
	return n.ours(a).IsValid()
}

// ours returns our address in the network of a; the zero address if a is in none.
func (n Network) ours(a netip.Addr) netip.Addr {
	for _, p := range n.Addresses {
		if p.Contains(a.WithZone("")) {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// virtual are the beginnings of names of interfaces that lead to no other machine, or through a tunnel.
var virtual = []string{"br-", "cali", "cilium", "cni", "docker", "dummy", "flannel", "gre", "ipsec", "kube", "lxc", "lxd", "nebula",
	"podman", "ppp", "sit", "tailscale", "tap", "tun", "utun", "vboxnet", "veth", "virbr", "vmnet", "vnet", "wg", "wwan", "zt"}

// Networks returns those whose interfaces have names that one of the patterns matches, as in "eth*". Without
// patterns it is those of all private interfaces that are not virtual, but for those that skip names: private is one
// whose addresses of IPv4 are all private, or which has none and a unique local address of IPv6.
func Networks(patterns []string, skip func(name string) bool) ([]Network, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	var out []Network
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagRunning == 0 {
			continue
		}
		n := Network{Name: i.Name}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				n.Addresses = append(n.Addresses, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()))
			}
		}
		if len(patterns) > 0 {
			if slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, i.Name); return ok }) {
				out = append(out, n)
			}
			continue
		}
		if i.Flags&net.FlagMulticast == 0 || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 || skip(i.Name) ||
			slices.ContainsFunc(virtual, func(v string) bool { return strings.HasPrefix(i.Name, v) }) || !n.private() {
			continue
		}
		out = append(out, n)
	}
	return out, nil
}

// private reports whether nobody of the Internet has an address in the network, as far as addresses tell.
func (n Network) private() bool {
	four, six := false, false
	for _, p := range n.Addresses {
		a := p.Addr()
		switch {
		case a.Is4() && !a.IsPrivate() && !a.IsLinkLocalUnicast():
			return false
		case a.Is4():
			four = true
		case a.IsPrivate():
			six = true
		}
	}
	return four || six
}
