package disco

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

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
	family := unix.AF_INET
	if l.v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
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

// join binds a socket to the group's address and joins the group at one interface.
func join(fd, index int, v6 bool) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("share the port of discovery: %w", err)
	}
	var err error
	if v6 {
		group := pccrd.Group6.As16()
		if err = unix.Bind(fd, &unix.SockaddrInet6{Port: pccrd.Port, ZoneId: uint32(index), Addr: group}); err == nil {
			err = unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: group, Interface: uint32(index)})
		}
	} else {
		group := pccrd.Group4.As4()
		if err = unix.Bind(fd, &unix.SockaddrInet4{Port: pccrd.Port, Addr: group}); err == nil {
			err = unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group, Ifindex: int32(index)})
		}
		if err == nil {
			// Else it would get what comes by all interfaces at which anybody on this machine joined. That of
			// IPv6 is bound to its interface by the zone.
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
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
		err := raw.Control(func(fd uintptr) { opt = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
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
