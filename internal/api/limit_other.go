//go:build !linux

package api

import (
	"errors"
	"net"
)

// LimitPeers is for a service of all users, of which this system has none.
func LimitPeers(net.Listener, func()) (net.Listener, error) { return nil, errors.ErrUnsupported }
