package api

import (
	"errors"
	"maps"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	// connRate is how many connections a second a user may make, beside the first maxConns: more than
	// commands that are run one after the other, far fewer than a program that does nothing else.
	connRate = 1000
	// manyUsers is from which number of users on those without connections are forgotten.
	manyUsers = 1024
)

// tooMany is the answer to a connection too many.
const tooMany = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 46\r\nConnection: close\r\n\r\nthis user has, or makes, too many connections\r\n"

// LimitPeers returns a listener that gives each user a bounded number of connections, and of new ones
// a second. One goroutine calls its Accept; it keeps the thread that first does, which prefer is called in
// before. The error is errors.ErrUnsupported if l is no Unix socket's.
//
// To refuse a connection has to cost less than to make one, else whoever makes them keeps the queue of the
// socket full, and nobody else gets in. So those too many never become more than a descriptor here, and
// prefer should see to it that the system prefers the thread to all that users' programs do.
func LimitPeers(l net.Listener, prefer func()) (net.Listener, error) {
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	socket := -1
	var failed error
	err = raw.Control(func(fd uintptr) { socket, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(socket)
		return nil, os.NewSyscallError("eventfd", err)
	}
	return &limited{Listener: l, socket: socket, wake: wake, prefer: prefer, users: map[uint32]*conns{}}, nil
}

type limited struct {
	net.Listener
	socket int // the listener's, which the thread of Accept waits for by itself
	ending atomic.Bool
	wake   int // an eventfd that Close writes to
	thread sync.Once
	prefer func()

	mu    sync.Mutex // guards users
	users map[uint32]*conns
}

// conns are a user's connections: those that are open, and how fast new ones are made.
type conns struct {
	open int
	made *rate.Limiter
}

// Accept takes the next connection of a user who may have it.
func (l *limited) Accept() (net.Conn, error) {
	l.thread.Do(func() {
		runtime.LockOSThread()
		l.prefer()
	})
	for !l.ending.Load() {
		fd, _, err := unix.Accept4(l.socket, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch err {
		case nil:
		case unix.EAGAIN:
			waits := []unix.PollFd{{Fd: int32(l.socket), Events: unix.POLLIN}, {Fd: int32(l.wake), Events: unix.POLLIN}}
			_, _ = unix.Poll(waits, -1) // interrupted, it is called again
			continue
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			return nil, &net.OpError{Op: "accept", Net: "unix", Addr: l.Addr(), Err: os.NewSyscallError("accept4", err)}
		}
		by, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil && l.enter(by.Uid) {
			return l.conn(fd, by)
		}
		_ = unix.Sendto(fd, []byte(tooMany), unix.MSG_NOSIGNAL, nil) // into an empty buffer: it does not wait
		_ = unix.Close(fd)
	}
	return nil, net.ErrClosed
}

// conn makes a connection of a descriptor.
func (l *limited) conn(fd int, by *unix.Ucred) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "")
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		l.leave(by.Uid)
		return nil, err
	}
	return &counted{Conn: c, uid: by.Uid, pid: by.Pid, close: sync.OnceFunc(func() { l.leave(by.Uid) })}, nil
}

// Close ends Accept too.
func (l *limited) Close() error {
	l.ending.Store(true)
	_, err := unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return errors.Join(l.Listener.Close(), err)
}

// enter counts a connection of a user and reports whether the user may have it. Root may have all.
func (l *limited) enter(uid uint32) bool {
	if uid == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.users[uid]
	if c == nil {
		if len(l.users) >= manyUsers {
			maps.DeleteFunc(l.users, func(_ uint32, c *conns) bool { return c.open == 0 && c.made.Tokens() >= maxConns })
		}
		c = &conns{made: rate.NewLimiter(connRate, maxConns)}
		l.users[uid] = c
	}
	if c.open >= maxConns || !c.made.Allow() {
		return false
	}
	c.open++
	return true
}

func (l *limited) leave(uid uint32) {
	if uid == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users[uid].open--
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	uid   uint32
	pid   int32
	close func()
}

func (c *counted) Close() error {
	c.close()
	return c.Conn.Close()
}

// SyscallConn gives access to the socket.
func (c *counted) SyscallConn() (syscall.RawConn, error) {
	s, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, syscall.ENOTSOCK
	}
	return s.SyscallConn()
}
