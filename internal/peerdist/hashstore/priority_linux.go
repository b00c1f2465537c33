package hashstore

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// yieldDisk makes the goroutine read only what no other process wants to read at the time. It keeps its thread,
// which ends with it.
func yieldDisk() {
	const (
		whoProcess = 1       // IOPRIO_WHO_PROCESS: one thread
		idle       = 3 << 13 // IOPRIO_CLASS_IDLE
	)
	runtime.LockOSThread()
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, idle) // a kernel without it reads as always
}
