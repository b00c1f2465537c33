package disco

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/ebbtransfer/ebb/internal/peerdist/pccrd"
)

// listenGroup returns a socket that gets what is sent to all machines of a network, and nothing else: it is
// bound to the group's address, which package net would not do, so that what is sent to this machine alone
// goes to others here that listen at the port.
func listenGroup(l *link) (*net.UDPConn, error) {
	i, err := net.InterfaceByName(l.Name)
	if err != nil {
		return nil, err
	}
	family := syscall.AF_INET
	if l.v6 {
		family = syscall.AF_INET6
	}
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "discovery")
	defer f.Close()
	if err := join(fd, i.Index, l.v6); err != nil {
		return nil, err
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// multicastAll is IP_MULTICAST_ALL of <linux/in.h>, which package syscall lacks.
const multicastAll = 49

// join binds a socket to the group's address and joins the group at one interface.
func join(fd, index int, v6 bool) error {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("share the port of discovery: %w", err)
	}
	var err error
	if v6 {
		group := pccrd.Group6.As16()
		if err = syscall.Bind(fd, &syscall.SockaddrInet6{Port: pccrd.Port, ZoneId: uint32(index), Addr: group}); err == nil {
			err = syscall.SetsockoptIPv6Mreq(fd, syscall.IPPROTO_IPV6, syscall.IPV6_JOIN_GROUP, &syscall.IPv6Mreq{Multiaddr: group, Interface: uint32(index)})
		}
	} else {
		group := pccrd.Group4.As4()
		if err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: pccrd.Port, Addr: group}); err == nil {
			err = syscall.SetsockoptIPMreqn(fd, syscall.IPPROTO_IP, syscall.IP_ADD_MEMBERSHIP, &syscall.IPMreqn{Multiaddr: group, Ifindex: int32(index)})
		}
		if err == nil {
			// Else it would get what comes by all interfaces at which anybody on this machine joined. That of
			// IPv6 is bound to its interface by the zone.
			err = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, multicastAll, 0)
		}
	}
	if err != nil {
		return fmt.Errorf("join the group of discovery: %w", err)
	}
	return nil
}

// listenOwn returns a socket at this machine's own address, from which all are asked and which gets their
// answers: its address is what chooses the interface, and its port is the one that firewalls know (section 9.5).
func listenOwn(l *link) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var opt error
		err := raw.Control(func(fd uintptr) { opt = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
		if err == nil {
			err = opt
		}
		return err
	}}
	network := "udp4"
	if l.v6 {
		network = "udp6"
	}
	c, err := lc.ListenPacket(context.Background(), network, netip.AddrPortFrom(l.source(), pccrd.Port).String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}
