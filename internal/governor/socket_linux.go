package governor

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection outside the runtime's poller, whose reader waits in the kernel. The
// poller would wake a thread for every packet, also while the reader lets them gather: on a
// virtual machine that costs ten times what moving the bytes does.
type socket struct {
	local, remote    net.Addr
	closed           atomic.Bool
	reading, writing *alarm

	mu sync.RWMutex // held shared by calls that use fd, wholly by the one that closes it
	fd int          // -1 once closed
}

// sendTimeout bounds, in seconds, a write to a peer that takes nothing; who waits for a transfer to
// move gives up sooner.
const sendTimeout = 60

// newSocket takes a connection out of the poller. After an error it is as it was.
func newSocket(conn *net.TCPConn) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	cerr := raw.Control(func(old uintptr) {
		if fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return
		}
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: sendTimeout})
		if err == nil {
			err = unix.SetNonblock(fd, false) // of both: they are one file
		}
	})
	if err := errors.Join(cerr, err); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, err
	}
	s := &socket{local: conn.LocalAddr(), remote: conn.RemoteAddr(), reading: newAlarm(), writing: newAlarm(), fd: fd}
	conn.Close()
	gather(fd, gatherMost)
	return s, nil
}

// gather says that nobody need be woken for fewer bytes than these. While fewer wait to be read the kernel acknowledges
// each two segments that come. Without it, while the window shrinks, it would do so only when the reader takes them, and
// the peer would answer a tick's worth of acknowledgements with a burst that makes a queue (__tcp_ack_snd_check).
func gather(fd, bytes int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes) }

// use calls f with the file descriptor, or returns net.ErrClosed.
func (s *socket) use(f func(fd int) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	return f(s.fd)
}

// control calls f with the file descriptor, if it is still open.
func (s *socket) control(f func(fd int)) {
	_ = s.use(func(fd int) error { f(fd); return nil })
}

func (s *socket) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	err = s.use(func(fd int) error {
		if n, err = receiveNow(fd, b); err != unix.EAGAIN {
			return err
		}
		gather(fd, 1)
		n, err = receive(fd, b)
		gather(fd, gatherMost)
		return err
	})
	switch {
	case s.closed.Load():
		return 0, s.failure("read", net.ErrClosed)
	case err != nil:
		return 0, s.failure("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// receive is recv, which a signal does not interrupt.
func receive(fd int, b []byte) (n int, err error) {
	for {
		n, _, err = unix.Recvfrom(fd, b, 0)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func (s *socket) Write(b []byte) (n int, err error) {
	for n < len(b) {
		var m int
		err = s.use(func(fd int) (err error) {
			if m, err = sendNow(fd, b[n:]); err == unix.EAGAIN {
				m, err = unix.SendmsgN(fd, b[n:], nil, nil, unix.MSG_NOSIGNAL)
			}
			return err
		})
		switch {
		case s.closed.Load():
			return n, s.failure("write", net.ErrClosed)
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN: // sendTimeout is over
			return n, s.failure("write", os.ErrDeadlineExceeded)
		case err != nil:
			return n, s.failure("write", err)
		}
		n += m
	}
	return n, nil
}

func (s *socket) failure(op string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: s.local, Addr: s.remote, Err: err}
}

// Close wakes who waits in a call and closes the descriptor once they left.
func (s *socket) Close() error {
	if s.closed.Swap(true) {
		return net.ErrClosed
	}
	s.control(func(fd int) { _ = unix.Shutdown(fd, unix.SHUT_RDWR) })
	s.reading.close()
	s.writing.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	fd := s.fd
	s.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

func (s *socket) LocalAddr() net.Addr  { return s.local }
func (s *socket) RemoteAddr() net.Addr { return s.remote }

// There are no deadlines: who gives up closes the connection, and writes are bounded.
func (s *socket) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (s *socket) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (s *socket) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
