package localfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bits"
)

// startMode is direct; tests set it to take the other roads.
var startMode = direct

// file is an open part file on Linux.
type file struct {
	fd       int
	as       Owner    // whose file it is
	owner    *os.File // nil, or who closes fd
	path     string
	inode    uint64
	dev      uint64
	mode     writeMode
	reserved int64 // blocks are reserved up to here
	dropped  int64 // below it nothing is in the page cache, if mode is not direct
	rights   *Rights
	lent     bool // its file system makes up whose the files are
}

// again repeats a system call that a signal interrupted; the runtime's own signals do that on FUSE
// and network file systems, and to fallocate.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// BootID returns the kernel's boot id. If two are equal and not empty, what a killed process wrote is
// still there without fsync. It is empty if it cannot be read.
func BootID() string { return bootID() }

var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})

// umask is read from /proc because umask(2) would change it for all threads while it asks.
var umask = sync.OnceValue(func() uint32 {
	b, _ := os.ReadFile("/proc/self/status") // without it the mode stays private
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Umask:"); ok {
			if m, err := strconv.ParseUint(strings.TrimSpace(v), 8, 32); err == nil {
				return uint32(m)
			}
		}
	}
	return 0o077
})

// openFile opens the part file at path, creating it if need be, and returns the size it has.
// A small file goes through the page cache, which is written out when the file is finished, together with
// other files, and dropped: its one write need not be split in pages and a tail, nor go to the disk alone.
func openFile(as Owner, path string, continues, small bool) (*file, int64, error) {
	f := &file{as: as, path: path, mode: startMode}
	if small && f.mode == direct {
		f.mode = buffered
	}
	size := int64(0)
	err := as.at(path, func(dir int, name string) error {
		created := !continues
		err := f.open(dir, name, created)
		if continues && err == unix.ENOENT || !continues && err == unix.EEXIST {
			created = continues
			err = f.open(dir, name, created)
		}
		switch err {
		case nil:
		case unix.ELOOP:
			return refuse(path, "it is a symbolic link")
		case unix.EISDIR:
			return refuse(path, "it is a directory")
		case unix.ENXIO:
			return refuse(path, "it is not a regular file")
		default:
			return &fs.PathError{Op: "open", Path: path, Err: err}
		}
		st, err := f.check(dir, path, created)
		if err != nil {
			_ = f.close() // err is what counts
			return err
		}
		f.inode, f.dev, size = st.Ino, st.Dev, st.Size
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return f, size, nil
}

// adopt takes over f, which has the size that is returned.
func adopt(f *os.File, small bool) (*file, int64, error) {
	a := &file{fd: int(f.Fd()), owner: f, path: f.Name(), mode: startMode}
	if small && a.mode == direct {
		a.mode = buffered
	}
	if a.mode == direct && a.setFlags(unix.O_DIRECT) != nil {
		a.mode = dontCache
	}
	var st unix.Stat_t
	if err := unix.Fstat(a.fd, &st); err != nil {
		return nil, 0, &fs.PathError{Op: "stat", Path: a.path, Err: err}
	}
	a.inode, a.dev = st.Ino, st.Dev
	if a.mode != direct {
		a.dropped = st.Size
	}
	return a, st.Size, nil
}

// open opens the file with O_DIRECT if the file system can, either as a new or as an existing one.
func (f *file) open(dir int, name string, create bool) error {
	// O_NONBLOCK: opening must not wait for the other end of a FIFO. Regular files ignore it.
	flags := unix.O_RDWR | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	for {
		fl := flags
		if f.mode == direct {
			fl |= unix.O_DIRECT
		}
		if create {
			fl |= unix.O_CREAT | unix.O_EXCL
		}
		err := again(func() (err error) {
			f.fd, err = unix.Openat(dir, name, fl, 0o600)
			return err
		})
		if err == unix.EINVAL && f.mode == direct {
			// Some kernels have created the file before they refuse the flag: with create the second
			// round then says EEXIST, and the file is taken for a leftover, which is what it is.
			f.mode = dontCache
			continue
		}
		return err
	}
}

// check refuses what is not a regular file of ours with one name, and makes it private.
func (f *file) check(dir int, path string, created bool) (*unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, refuse(path, "it is not a regular file")
	}
	if another(st.Uid) {
		if !created && !f.as.madeUp(dir, path, st.Uid) {
			return nil, refuse(path, "it belongs to another user")
		}
		f.lent = true
	}
	if st.Nlink != 1 {
		return nil, refuse(path, "it has more than one name")
	}
	if st.Mode&0o7777 != 0o600 { // finished, and then not placed
		if err := f.unlessLent(unix.Fchmod(f.fd, 0o600)); err != nil {
			return nil, &fs.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	return &st, nil
}

// another reports whether a user is not the one as which the thread uses files: the effective user,
// unless the thread was switched to act for another.
func another(uid uint32) bool {
	fsuid, err := unix.SetfsuidRetUid(-1)
	return err == nil && int(uid) != fsuid
}

// madeUp reports whether the owner of a file in an open directory says nothing of who made it: on a
// mounted share, or another file system that knows no users, all files and their directory have the one
// of the mount.
func (o Owner) madeUp(dir int, path string, uid uint32) bool {
	if !o.other {
		err := again(func() (err error) {
			dir, err = unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			return err
		})
		if err != nil {
			return false
		}
		defer func() { _ = unix.Close(dir) }()
	}
	var vfs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstat(dir, &st) != nil || st.Uid != uid || again(func() error { return unix.Fstatfs(dir, &vfs) }) != nil {
		return false
	}
	switch uint32(vfs.Type) {
	case unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC, unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC:
		return true
	}
	return false
}

// unlessLent drops the error of a change that only the owner may make, where the owner is made up: the
// mount says what mode and dates its files have.
func (f *file) unlessLent(err error) error {
	if f.lent && err == unix.EPERM {
		return nil
	}
	return err
}

// reserve sees to it that a file of size bytes fits on the disk, and reserves the space without
// changing st_size, which now is have.
func (f *file) reserve(size, have int64) error {
	if size <= f.reserved {
		return nil
	}
	var st unix.Stat_t
	var vfs unix.Statfs_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return err
	}
	// Asking first spares the file system the work of filling itself up before it says no.
	if err := again(func() error { return unix.Fstatfs(f.fd, &vfs) }); err == nil {
		need, free := size-st.Blocks*512, vfs.Bavail*uint64(vfs.Bsize)
		if need > 0 && vfs.Blocks > 0 && uint64(need) > free { // no blocks: a file system that cannot say
			dir := filepath.Dir(f.path)
			return &bits.Error{Code: bits.DiskFull, Context: bits.ContextLocalFile, File: f.path, Cause: unix.ENOSPC,
				Message: fmt.Sprintf("%s needs %d bytes more, but only %d are free on the disk that holds %s", f.path, need, free, dir)}
		}
	}
	err := again(func() error { return unix.Fallocate(f.fd, unix.FALLOC_FL_KEEP_SIZE, 0, size) })
	switch err {
	case nil:
		f.reserved = size
	case unix.EOPNOTSUPP, unix.ENOSYS:
		return nil // the free space was checked, more cannot be had
	default:
		_ = unix.Ftruncate(f.fd, have) // gives back what was reserved before the failure
		f.reserved = 0
	}
	return err
}

func (f *file) truncate(size int64) error {
	f.reserved, f.dropped = 0, min(f.dropped, size)
	return again(func() error { return unix.Ftruncate(f.fd, size) })
}

func (f *file) datasync() error { return again(func() error { return unix.Fdatasync(f.fd) }) }

// finish sets what a finished file of size bytes has, then makes it durable.
func (f *file) finish(size int64, mtime time.Time) error {
	if f.reserved > size { // the file came out shorter than expected
		if err := f.truncate(size); err != nil {
			return err
		}
	}
	if mode := f.as.mode(); mode != 0o600 || !mtime.IsZero() || f.rights != nil {
		err := f.as.Do(func() error {
			if !mtime.IsZero() {
				if err := f.unlessLent(f.setMtime(mtime)); err != nil {
					return err
				}
			}
			if f.rights != nil { // the last: the file may be another's then
				return f.give(f.rights)
			}
			return f.unlessLent(unix.Fchmod(f.fd, mode))
		})
		if err != nil {
			return err
		}
	}
	if err := groupOf(f.dev, f.fd).sync(f.fd); err != nil {
		return err
	}
	if f.mode == buffered {
		f.drop(f.dropped, size)
	}
	return nil
}

// setMtime is futimens(3): the system call takes a null path for the file itself, which x/sys does
// not let through.
func (f *file) setMtime(t time.Time) error {
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(t.UnixNano())}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(f.fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// close is not repeated after EINTR: Linux has closed the descriptor then.
func (f *file) close() error {
	if f.owner != nil {
		return f.owner.Close()
	}
	if err := unix.Close(f.fd); err != unix.EINTR {
		return err
	}
	return nil
}

// SyncDir makes the names in dir durable. In a directory that its owner may write to but not read
// the file system makes them durable in its own time.
func (o Owner) SyncDir(dir string) error {
	var fd int
	err := o.at(filepath.Join(dir, "x"), func(at int, _ string) error {
		name := "."
		if !o.other {
			name = dir
		}
		return again(func() (err error) {
			fd, err = unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			return err
		})
	})
	if err == unix.EACCES && o.other {
		return nil
	}
	if err == nil {
		err = errors.Join(again(func() error { return unix.Fsync(fd) }), unix.Close(fd))
	}
	if err != nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: err}
	}
	return nil
}

// mapBlock maps memory that is aligned to pages and that the collector neither scans nor counts.
func mapBlock(n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(fmt.Sprintf("map a block of %d bytes: %v", n, err)) // out of memory, as for make
	}
	return b
}

func unmapBlock(b []byte) { _ = unix.Munmap(b) } // fails only for what is not a mapping
