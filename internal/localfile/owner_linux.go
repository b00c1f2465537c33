package localfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bits"
)

const (
	// threadIdle is how long a thread waits for more work of its user: files of a job come one after
	// the other, and making a thread costs ten times what using one costs.
	threadIdle = 5 * time.Second
	// maxIdle bounds the threads of a user that wait.
	maxIdle = 4
	// groupsAge is for how long the groups of a user are taken to be still the same.
	groupsAge = 10 * time.Second
)

// acting is a user that threads act as.
type acting struct {
	uid  uint32
	idle chan func() // taken from by the threads that wait

	mu      sync.Mutex // guards what follows
	waiting int        // threads that wait
	gid     uint32
	groups  []uint32
	looked  time.Time // when gid and groups were looked up
}

var (
	usersMu sync.Mutex
	users   = map[uint32]*acting{} // guarded by usersMu; an entry stays, it is small
)

// switched is Do for another user.
func (o Owner) switched(f func() error) error {
	usersMu.Lock()
	a := users[o.uid]
	if a == nil {
		a = &acting{uid: o.uid, idle: make(chan func())}
		users[o.uid] = a
	}
	usersMu.Unlock()
	gid, groups, err := a.lookUp()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	work := func() { done <- f() }
	select {
	case a.idle <- work:
	default:
		go a.thread(gid, groups, work, done)
	}
	return <-done
}

// lookUp returns the primary group and all groups of the user.
func (a *acting) lookUp() (gid uint32, groups []uint32, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.looked.IsZero() || time.Since(a.looked) > groupsAge {
		if a.gid, a.groups, err = groupsOf(a.uid); err != nil {
			return 0, nil, err
		}
		a.looked = time.Now()
	}
	return a.gid, a.groups, nil
}

// thread does the work with the user's rights, then more of it as long as there is some. The thread
// is never given back to the runtime: it ends with this function. New threads are not made from it
// either, as the runtime does not make them from a locked one.
func (a *acting) thread(gid uint32, groups []uint32, work func(), done chan<- error) {
	runtime.LockOSThread()
	if err := become(a.uid, gid, groups); err != nil {
		done <- &bits.Error{Code: bits.AccessDenied, Context: bits.ContextLocalFile, Cause: err,
			Message: fmt.Sprintf("the service may not use files as the user %d", a.uid)}
		return
	}
	born := time.Now()
	work()
	for {
		a.mu.Lock()
		stay := a.waiting < maxIdle && time.Since(born) < groupsAge
		if stay {
			a.waiting++
		}
		a.mu.Unlock()
		if !stay {
			return
		}
		timer := time.NewTimer(threadIdle)
		var more func()
		select {
		case more = <-a.idle:
		case <-timer.C:
		}
		timer.Stop()
		a.mu.Lock()
		a.waiting--
		a.mu.Unlock()
		if more == nil {
			return
		}
		more()
	}
}

// become gives the calling thread, and no other, the rights to files of a user. It is not the user
// for what signals and traces processes.
func become(uid, gid uint32, groups []uint32) error {
	var list unsafe.Pointer
	if len(groups) > 0 {
		list = unsafe.Pointer(&groups[0])
	}
	// The functions of package syscall would change all threads.
	if _, _, errno := unix.RawSyscall(sysSetgroups, uintptr(len(groups)), uintptr(list), 0); errno != 0 {
		return fmt.Errorf("set the groups: %w", errno)
	}
	// These calls tell no error: what they did has to be asked for, which -1 does.
	_, _ = unix.SetfsgidRetGid(int(gid))
	_, _ = unix.SetfsuidRetUid(int(uid))
	if now, err := unix.SetfsgidRetGid(-1); err != nil || uint32(now) != gid {
		return errors.New("set the group: not permitted")
	}
	if now, err := unix.SetfsuidRetUid(-1); err != nil || uint32(now) != uid {
		return errors.New("set the user: not permitted")
	}
	return nil
}

// noGroup is the group of users that the user database does not know.
const noGroup = 65534

// groupsOf looks up a user's groups. A user that is not known has none.
func groupsOf(uid uint32) (gid uint32, groups []uint32, err error) {
	a, known, err := AccountOf(context.Background(), uid)
	if err == nil && !known {
		return noGroup, nil, nil
	}
	return a.GID, a.Groups, err
}

// mode returns the mode of a finished file: what the process's umask leaves or, for another user,
// whose umask is not known, what the usual one does.
func (o Owner) mode() uint32 {
	if o.other {
		return 0o644
	}
	return 0o666 &^ umask()
}

// open opens a regular file for reading; the thread has the owner's rights.
func (o Owner) open(path string) (*os.File, error) {
	fail := func(err error) error { return &os.PathError{Op: "open", Path: path, Err: err} }
	if !o.other {
		// O_NONBLOCK: opening must not wait for the other end of a FIFO. Regular files ignore it.
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = notRegular(path, info.IsDir())
		}
		if err != nil {
			_ = f.Close() // err is what counts
			return nil, err
		}
		return f, nil
	}
	// The name is looked at before the file is opened: opening a device may do something.
	at, err := o.walk(path, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(at) }()
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, notRegular(path, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	}
	if err := noProc(at, path); err != nil {
		return nil, err
	}
	var fd int
	err = again(func() (err error) {
		fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", at), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fail(err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
