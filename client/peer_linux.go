package client

import (
	"net"
	"os"
	"syscall"

	"github.com/ebbtransfer/ebb/bits"
)

// checkPeer refuses a service of another user: it would be told URLs, headers and passwords.
// The system's service belongs to root, or root's systemd listens for it.
func checkPeer(c net.Conn, socket string) error {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var cred *syscall.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) {
		cred, cerr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if own := os.Geteuid(); cred.Uid != 0 && int(cred.Uid) != own {
		return bits.Errorf(bits.AccessDenied, "the service on %s is run by the user %d; ebb, as the user %d, trusts only its own and root's", socket, cred.Uid, own)
	}
	return nil
}
