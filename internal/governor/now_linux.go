package governor

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls in this file wait for no network and no disk, and the runtime does not know of them. Of any other system call it expects that it may
// take long, and has a thread of its own watch who makes one: to wake that thread, and one more for the watched one's
// other work, a hundred times a second costs more than all that is done here.

// receiveNow is recv for what is there; EAGAIN if nothing is.
func receiveNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// sendNow is send for what there is room for; EAGAIN if there is none.
func sendNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// readNow is pread from the beginning of a file that the kernel makes in memory.
func readNow(fd uintptr, b []byte) (int, error) {
	// The zeros are the offset, which takes one argument or more of them, by the processor.
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// tcpInfo is getsockopt(TCP_INFO).
func tcpInfo(fd int) (i unix.TCPInfo, err error) {
	size := uint32(unix.SizeofTCPInfo)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO, uintptr(unsafe.Pointer(&i)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return i, errno
	}
	return i, nil
}

// setOption is setsockopt of a number.
func setOption[T int32 | uint64](fd, level, name int, value T) {
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
}

// alarm wakes a goroutine after a pause, as the poller wakes one whose connection is ready: one thread wakes. The runtime's own
// timers wake two or three for each. A nil alarm uses those.
type alarm struct {
	f    *os.File // a timer of the kernel
	conn syscall.RawConn
	wait func(fd uintptr) (over bool)

	// Of the pause that is under way.
	d   time.Duration
	set bool
}

// newAlarm returns nil if the system has no timer for it.
func newAlarm() *alarm {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil
	}
	a := &alarm{f: os.NewFile(uintptr(fd), "timer")}
	if a.conn, err = a.f.SyscallConn(); err != nil {
		a.f.Close()
		return nil
	}
	a.wait = a.begin
	return a
}

// begin sets the timer; called again, when it has gone off, it says so.
func (a *alarm) begin(fd uintptr) bool {
	if a.set {
		return true
	}
	a.set = true
	t := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(a.d))}
	_, _, errno := unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
	return errno != 0
}

// pause waits for d. One goroutine at a time may.
func (a *alarm) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	if a != nil {
		a.d, a.set = d, false
		if a.conn.Read(a.wait) == nil {
			return
		}
	}
	time.Sleep(d) // there is no alarm, or it is closed: who comes again and again waits all the same
}

func (a *alarm) close() {
	if a != nil {
		a.f.Close()
	}
}
