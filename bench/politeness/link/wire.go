package link

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TUN is a network device whose packets go through this process.
type TUN struct{ fd int }

// OpenTUN makes a TUN device in the network namespace of the calling thread.
func OpenTUN(name string) (*TUN, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make the TUN device %s: %w", name, err)
	}
	return &TUN{fd}, nil
}

// Close removes the device.
func (t *TUN) Close() error { return unix.Close(t.fd) }

// Wire is a link between two TUN devices that runs in real time. There should be one at a time, in
// a program that does little else: while it runs there is no garbage collection.
type Wire struct {
	began time.Time
	stop  atomic.Bool
	ended chan struct{}
	err   error
	lanes [2]lane
	gc    int // percentage of the garbage collector before
}

// lane carries packets in one direction.
type lane struct {
	direction *Direction
	from, to  *TUN
	late      []time.Duration // how late packets came out
	lost      int             // packets that the far device did not take
}

// Run has a link between two devices until Stop: down carries packets from far to near, up those
// from near to far. Time 0 of both is now.
func Run(far, near *TUN, down, up *Direction) *Wire {
	runtime.GC()
	w := &Wire{ended: make(chan struct{}), gc: debug.SetGCPercent(-1)}
	w.lanes = [2]lane{{direction: down, from: far, to: near}, {direction: up, from: near, to: far}}
	for i := range w.lanes {
		w.lanes[i].late = make([]time.Duration, 0, 1<<18)
		w.lanes[i].drain()
	}
	w.began = time.Now()
	go func() {
		defer close(w.ended)
		w.err = w.run()
	}()
	return w
}

// Began returns the time of the wire's zero.
func (w *Wire) Began() time.Time { return w.began }

// Now returns the time since then.
func (w *Wire) Now() time.Duration { return time.Since(w.began) }

// Report tells how well the wire kept time.
type Report struct {
	Packets       int
	P50, P99, Max time.Duration // how much later than due packets came out
	Lost          int           // packets that a device did not take
}

// Stop ends the wire; what is still on its way is lost.
func (w *Wire) Stop() (Report, error) {
	w.stop.Store(true)
	<-w.ended
	debug.SetGCPercent(w.gc)
	late := slices.Concat(w.lanes[0].late, w.lanes[1].late)
	slices.Sort(late)
	r := Report{Packets: len(late), Lost: w.lanes[0].lost + w.lanes[1].lost}
	if n := len(late); n > 0 {
		r.P50, r.P99, r.Max = late[n/2], late[n*99/100], late[n-1]
	}
	return r, w.err
}

const (
	// nap is how long the thread sleeps at most, so that it sees the end.
	nap = 20 * time.Millisecond
	// spin is how long before a packet is due the thread no longer goes to sleep.
	spin = 30 * time.Microsecond
)

// run carries packets until Stop. Everything happens at the time when it should have, however late
// the thread wakes up; only what is read and written is as late as the thread is. One thread does
// both directions: what a packet causes at its end is there to be read when its write returns.
//
// Its system calls are not announced to the runtime, whose monitor would wake up every 20 µs
// because of them.
func (w *Wire) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fds := [2]unix.PollFd{{Fd: int32(w.lanes[0].from.fd), Events: unix.POLLIN}, {Fd: int32(w.lanes[1].from.fd), Events: unix.POLLIN}}
	for !w.stop.Load() {
		wait := nap
		for i := range w.lanes {
			l := &w.lanes[i]
			if err := l.read(w.began); err != nil {
				return err
			}
			l.write(w.began)
		}
		now := time.Since(w.began)
		for i := range w.lanes {
			if due, ok := w.lanes[i].direction.Next(); ok {
				wait = min(wait, due-now-spin)
			}
		}
		if wait <= 0 {
			continue
		}
		timeout := unix.NsecToTimespec(int64(wait))
		_, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds)), uintptr(len(fds)), uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return os.NewSyscallError("ppoll", errno)
		}
	}
	return nil
}

// drain throws away what came while there was no wire.
func (l *lane) drain() {
	var b [MTU]byte
	for {
		if _, err := unix.Read(l.from.fd, b[:]); err != nil {
			return
		}
	}
}

// read takes in all packets that have arrived.
func (l *lane) read(began time.Time) error {
	for {
		p := l.direction.Packet()
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(l.from.fd), uintptr(unsafe.Pointer(&p.Data[0])), uintptr(len(p.Data)))
		if errno != 0 {
			l.direction.Done(p)
			if errno == unix.EAGAIN || errno == unix.EINTR {
				return nil
			}
			return os.NewSyscallError("read from a TUN device", errno)
		}
		p.Data = p.Data[:n]
		l.direction.Arrive(p, time.Since(began))
	}
}

// write puts out all packets that are due.
func (l *lane) write(began time.Time) {
	for {
		now := time.Since(began)
		p, due := l.direction.Due(now)
		if p == nil {
			return
		}
		if _, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(l.to.fd), uintptr(unsafe.Pointer(&p.Data[0])), uintptr(len(p.Data))); errno != 0 {
			l.lost++
		}
		l.late = append(l.late, now-due)
		l.direction.Done(p)
	}
}
