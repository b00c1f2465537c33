package daemon

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// needed are the capabilities of a service for all users: to act as them. Nothing opens a file as root
// because it forgot to say as whom. What is kept beside them is that of preferThread.
const (
	needed = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	kept   = needed | 1<<unix.CAP_SYS_NICE
)

// keepRights gives up all capabilities but the ones that are needed. A process that was started with
// more, by root and without a unit, starts itself again without them: that is how all threads lose
// them. It fails if the process may not act as other users.
func keepRights() error {
	has, err := capabilities()
	if err != nil {
		return err
	}
	if has&needed != needed {
		return fmt.Errorf("the capabilities CAP_SETUID and CAP_SETGID are missing: start it as root, or with the unit ebb.service")
	}
	if has&^kept != 0 && has&(1<<unix.CAP_SETPCAP) != 0 {
		return restartWithout()
	}
	// The programs that the service starts get none of them.
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	if errno != 0 && errno != unix.ENOTSUP { // the latter in a program with C code, whose helpers give them up themselves
		return fmt.Errorf("clear the ambient capabilities: %w", errno)
	}
	return nil
}

// preferThread has the system prefer the calling thread to what users do. Without the right to, all
// works but the defence against users who do nothing but connect.
func preferThread() {
	const nice = -15
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice)
}

// capabilities returns the permitted set.
func capabilities() (uint64, error) {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return 0, fmt.Errorf("ask for the capabilities: %w", err)
	}
	return uint64(d[1].Permitted)<<32 | uint64(d[0].Permitted), nil
}

// restartWithout executes the program anew with a bounding set of what is kept. It returns only if
// that fails.
func restartWithout() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for c := uintptr(0); c <= 63; c++ {
		if kept&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); errors.Is(err, unix.EINVAL) {
			break // beyond the last one
		} else if err != nil {
			return fmt.Errorf("give up capabilities: %w", err)
		}
	}
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, os.Environ())
	}
	return fmt.Errorf("start again with fewer rights: %w", err)
}
