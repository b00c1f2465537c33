//go:build !linux

package disco

import (
	"errors"
	"net"
)

var errSystem = errors.New("peers are discovered on Linux only")

func listenGroup(*link) (*net.UDPConn, error) { return nil, errSystem }

func listenOwn(*link) (*net.UDPConn, error) { return nil, errSystem }
