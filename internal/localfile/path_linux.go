package localfile

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bits"
)

// maxLinks bounds the symbolic links in a path, as the kernel does.
const maxLinks = 40

// at runs f as the owner with the directory of path open, and with the last part of path.
func (o Owner) at(path string, f func(dir int, name string) error) error {
	return o.Do(func() error { return o.here(path, f) })
}

// here is at on a thread that has the owner's rights already.
func (o Owner) here(path string, f func(dir int, name string) error) error {
	if !o.other {
		return f(unix.AT_FDCWD, path)
	}
	dir, err := o.dir(path)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	return f(dir, filepath.Base(path))
}

// dir opens the directory of path (O_PATH); the thread has the owner's rights.
func (o Owner) dir(path string) (int, error) {
	dir := filepath.Dir(path)
	fd, err := o.walk(dir, unix.O_DIRECTORY) // which also mounts what is mounted when it is used
	if err != nil {
		return -1, err
	}
	if err := noProc(fd, dir); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}

// walk opens what is at path (O_PATH and more flags), without any link on the way that is neither root's
// nor the owner's. Of a path with links it may open something else than the flags ask for.
func (o Owner) walk(path string, more uint64) (int, error) {
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | more, Resolve: unix.RESOLVE_NO_SYMLINKS})
		return err
	})
	switch err {
	case nil:
		return fd, nil
	case unix.ELOOP, unix.ENOSYS, unix.EPERM: // a link; a kernel or a filter without the call
		return o.walkLinks(path)
	}
	return -1, &fs.PathError{Op: "open", Path: path, Err: err}
}

// walkLinks is walk, part by part.
func (o Owner) walkLinks(path string) (int, error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	open := func(at int, name string) (fd int, err error) {
		err = again(func() (err error) {
			fd, err = unix.Openat(at, name, flags, 0)
			return err
		})
		return fd, err
	}
	fail := func(err error) (int, error) { return -1, &fs.PathError{Op: "open", Path: path, Err: err} }
	at, err := open(unix.AT_FDCWD, "/")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = unix.Close(at) }() // the last one is not at, but what is returned
	links := 0
	for todo := strings.Split(path, "/"); ; {
		for len(todo) > 0 && (todo[0] == "" || todo[0] == ".") {
			todo = todo[1:]
		}
		if len(todo) == 0 {
			fd, err := unix.FcntlInt(uintptr(at), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return fail(err)
			}
			return fd, nil
		}
		next, err := open(at, todo[0])
		if err != nil {
			return fail(err)
		}
		todo = todo[1:]
		var st unix.Stat_t
		if err := unix.Fstat(next, &st); err != nil {
			_ = unix.Close(next)
			return fail(err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			_ = unix.Close(at)
			at = next
			continue
		}
		target, err := readLink(next)
		_ = unix.Close(next)
		switch {
		case err != nil:
			return fail(err)
		case st.Uid != 0 && st.Uid != o.uid:
			return -1, &bits.Error{Code: bits.AccessDenied, Context: bits.ContextLocalFile, File: path,
				Message: fmt.Sprintf("%s leads through a symbolic link of another user, to %s; links of the job's owner and of root are followed", path, target)}
		case links == maxLinks:
			return fail(unix.ELOOP)
		}
		links++
		if strings.HasPrefix(target, "/") {
			root, err := open(at, "/")
			if err != nil {
				return fail(err)
			}
			_ = unix.Close(at)
			at = root
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
}

// readLink returns where the open link leads to.
func readLink(fd int) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", b)
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// noProc refuses what is in /proc: there this process is the service itself, and its open files and
// its memory are those of all users.
func noProc(fd int, path string) error {
	var vfs unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(fd, &vfs) }); err != nil {
		return &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	if vfs.Type == unix.PROC_SUPER_MAGIC {
		return &bits.Error{Code: bits.AccessDenied, Context: bits.ContextLocalFile, File: path, Message: fmt.Sprintf("%s is in the system's own %s, where jobs have no files", path, "/proc")}
	}
	return nil
}

// checkDir says whether the thread may make files in an open directory.
func (o Owner) checkDir(at int, dir string) error {
	name := "."
	if !o.other {
		name = dir + "/."
	}
	// The flag makes the call look at the file system user, which is also the effective one.
	err := again(func() error { return unix.Faccessat(at, name, unix.W_OK|unix.X_OK, unix.AT_EACCESS) })
	if err != nil {
		return &fs.PathError{Op: "access", Path: dir, Err: err}
	}
	return nil
}

// entry is what a name stands for; links are not followed.
type entry struct {
	regular, dir bool
	Version
}

func lstat(dir int, name string) (entry, error) {
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return entry{}, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	return entry{regular: kind == unix.S_IFREG, dir: kind == unix.S_IFDIR,
		Version: Version{Size: st.Size, Modified: st.Mtim.Nano(), Changed: st.Ctim.Nano(), Inode: st.Ino}}, nil
}

func rename(dir int, from, to string) error {
	return again(func() error { return unix.Renameat(dir, from, dir, to) })
}

func unlink(dir int, name string) error {
	return again(func() error { return unix.Unlinkat(dir, name, 0) })
}
