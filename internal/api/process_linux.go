package api

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerProcess returns the process that made a connection and its program, for the log. Nothing is
// decided by it: a process may have ended, and another one have its number.
func peerProcess(c net.Conn) (pid int32, program string) {
	u, ok := c.(syscall.Conn)
	if !ok {
		return 0, ""
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, ""
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) { cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || cred == nil {
		return 0, ""
	}
	dir := fmt.Sprintf("/proc/%d/", cred.Pid)
	program, err = os.Readlink(dir + "exe")
	if err != nil { // another user's, of which a service without root's rights sees the name only
		name, _ := os.ReadFile(dir + "comm")
		program = strings.TrimSpace(string(name))
	}
	return cred.Pid, program
}
