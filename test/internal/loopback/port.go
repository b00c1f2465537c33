// Package loopback keeps TCP ports for test servers that stop and start again on the same port.
//
// A port found by listening on port 0 and closing can be taken by any other process before the
// server comes to it. A reserved port is bound but does not listen: clients are refused, the
// kernel gives it to nobody else, and a server that sets SO_REUSEADDR can still listen on it.
package loopback

import (
	"errors"
	"fmt"
	"syscall"
)

// Port is a TCP port on 127.0.0.1 and 127.0.0.2, kept until Close. Two addresses, so that a
// server can be another host for itself.
type Port struct {
	Number int
	fds    []int
}

// Hosts are the addresses on which a Port is kept.
var Hosts = [][4]byte{{127, 0, 0, 1}, {127, 0, 0, 2}}

// Reserve keeps the given port, or one of the kernel's choice for 0.
func Reserve(number int) (*Port, error) {
	for {
		p, err := reserve(number)
		if errors.Is(err, syscall.EADDRINUSE) && number == 0 {
			continue // what was free on the first address is in use on the second
		}
		if err != nil {
			return nil, fmt.Errorf("reserve port %d on the loopback interface: %w", number, err)
		}
		return p, nil
	}
}

func reserve(number int) (*Port, error) {
	p := &Port{Number: number}
	for _, host := range Hosts {
		if err := p.bind(host); err != nil {
			p.Close()
			return nil, err
		}
	}
	return p, nil
}

func (p *Port) bind(host [4]byte) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.fds = append(p.fds, fd)
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: host, Port: p.Number}); err != nil {
		return err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return err
	}
	p.Number = name.(*syscall.SockaddrInet4).Port
	return nil
}

// Close gives the port back. Servers that listen on it are not disturbed.
func (p *Port) Close() {
	for _, fd := range p.fds {
		_ = syscall.Close(fd)
	}
	p.fds = nil
}
