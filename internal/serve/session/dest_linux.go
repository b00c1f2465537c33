package session

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dest is the directory of a target. It was reached from the root without following a symbolic link,
// so that whoever may make links below the root cannot lead an upload out of it.
type dest struct {
	f    *os.File
	base string // the target's name in it
}

// openDest opens the directory of target below top.
func openDest(top *os.Root, target string) (*dest, error) {
	f, err := top.Open(".")
	if err != nil {
		return nil, err
	}
	elements := strings.Split(target, "/")
	last := len(elements) - 1
	for _, element := range elements[:last] {
		var fd int
		err := again(func() (err error) {
			fd, err = unix.Openat(int(f.Fd()), element, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			return err
		})
		f.Close()
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: element, Err: err}
		}
		f = os.NewFile(uintptr(fd), element)
	}
	return &dest{f: f, base: elements[last]}, nil
}

func (d *dest) close() { d.f.Close() }

// lookup returns what has the target's name.
func (d *dest) lookup() (found, error) {
	var st unix.Statx_t
	err := again(func() error {
		return unix.Statx(int(d.f.Fd()), d.base, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	})
	if err != nil {
		return found{}, &fs.PathError{Op: "stat", Path: d.base, Err: err}
	}
	return found{dir: st.Mode&unix.S_IFMT == unix.S_IFDIR, id: idOf(&st), size: int64(st.Size)}, nil
}

// identify returns by what f is known again.
func identify(f *os.File) (fileID, error) {
	var st unix.Statx_t
	err := again(func() error {
		return unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st)
	})
	if err != nil {
		return fileID{}, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return idOf(&st), nil
}

func idOf(st *unix.Statx_t) fileID {
	id := fileID{Inode: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.Born = time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)).UnixNano()
	}
	return id
}

// open opens the target for reading.
func (d *dest) open() (*os.File, error) {
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Openat(int(d.f.Fd()), d.base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: d.base, Err: err}
	}
	return os.NewFile(uintptr(fd), d.base), nil
}

// sameDisk says whether a file can be renamed from the directory hidden to d.
func (d *dest) sameDisk(hidden *os.Root) bool {
	var here unix.Stat_t
	there, err := hidden.Stat(".")
	return err != nil || unix.Fstat(int(d.f.Fd()), &here) != nil || deviceOf(there) == here.Dev
}

// take renames the file name in the directory hidden to the target. Without overwrite the error is
// fs.ErrExist if something has the target's name.
func (d *dest) take(hidden *os.Root, name string, overwrite bool) error {
	h, err := hidden.Open(".")
	if err != nil {
		return err
	}
	defer h.Close()
	from, to := int(h.Fd()), int(d.f.Fd())
	if overwrite {
		err = again(func() error { return unix.Renameat(from, name, to, d.base) })
	} else {
		err = again(func() error { return unix.Renameat2(from, name, to, d.base, unix.RENAME_NOREPLACE) })
		if err == unix.EINVAL || err == unix.ENOSYS {
			// A file system that does not know the flag. A link never replaces; until the other
			// name is gone a crash leaves both, which counts as published.
			if err = again(func() error { return unix.Linkat(from, name, to, d.base, 0) }); err == nil {
				err = again(func() error { return unix.Unlinkat(from, name, 0) })
			}
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: name, New: d.base, Err: err}
	}
	return nil
}

// sync makes the names in the directory durable.
func (d *dest) sync() error { return d.f.Sync() }

func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func datasync(f *os.File) error {
	return again(func() error { return unix.Fdatasync(int(f.Fd())) })
}

func deviceOf(st fs.FileInfo) uint64 { return st.Sys().(*syscall.Stat_t).Dev }

// free returns how many bytes can be written to the disk that f is on.
func free(f *os.File) (int64, error) {
	var st unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(int(f.Fd()), &st) }); err != nil {
		return 0, err
	}
	if st.Blocks == 0 {
		return 0, errors.ErrUnsupported // a file system that cannot say
	}
	return int64(st.Bavail * uint64(st.Bsize)), nil
}
