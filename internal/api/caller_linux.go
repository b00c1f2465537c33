package api

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/internal/polkit"
)

// peerOf returns the user and the number of the process that made the connection (SO_PEERCRED). They
// stay the same if the connection is handed on.
func peerOf(c net.Conn) (uid uint32, pid int32, ok bool) {
	if k, ok := c.(*counted); ok {
		return k.uid, k.pid, true
	}
	u, ok := c.(syscall.Conn)
	if !ok {
		return 0, 0, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || cerr != nil {
		return 0, 0, false
	}
	return cred.Uid, cred.Pid, true
}

// soPeerPIDFD is SO_PEERPIDFD, of kernel 6.5.
const soPeerPIDFD = 77

// process returns what polkit has to know of the process at the other end. That the process which has
// the number now is the one that connected is known from its descriptor: it must live after its start
// was read. A kernel without such descriptors leaves the start, which is that of the process as long
// as its number was not used again before.
func process(p peer) (polkit.Process, error) {
	out := polkit.Process{PID: uint32(p.pid), UID: p.uid}
	u, ok := p.conn.(syscall.Conn)
	if !ok || p.pid <= 0 {
		return out, errors.New("the caller's process is not known")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return out, err
	}
	pidfd := -1
	var perr error
	if err := raw.Control(func(fd uintptr) { pidfd, perr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, soPeerPIDFD) }); err != nil {
		return out, err
	}
	if perr != nil && perr != unix.ENOPROTOOPT {
		return out, errors.New("the caller's process has ended")
	}
	if perr == nil {
		defer func() { _ = unix.Close(pidfd) }()
	}
	if out.Start, err = startOf(p.pid); err != nil {
		return out, err
	}
	if perr == nil {
		if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err == unix.ESRCH {
			return out, errors.New("the caller's process has ended")
		}
	}
	return out, nil
}

// startOf returns when a process started, in clock ticks.
func startOf(pid int32) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses, and may hold everything.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, errors.New("the process cannot be read")
	}
	const start = 22 - 3 // the first field after the name is the third
	f := bytes.Fields(b[i+1:])
	if len(f) <= start {
		return 0, errors.New("the process cannot be read")
	}
	return strconv.ParseUint(string(f[start]), 10, 64)
}
