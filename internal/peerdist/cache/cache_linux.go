package cache

import (
	"os"

	"golang.org/x/sys/unix"
)

// open opens a file through no link and without waiting for a pipe's other end.
func open(name string, flags int) (*os.File, error) {
	return os.OpenFile(name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
}

// space returns how many bytes a disk has free for us, and how many it has.
func space(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// clone makes a file share length bytes of another, which are at an offset there and will be at one here. It works on few file
// systems, and there for what begins and ends with their blocks or with the file.
func clone(to, from *os.File, at, length, there int64) error {
	return unix.IoctlFileCloneRange(int(to.Fd()), &unix.FileCloneRange{Src_fd: int64(from.Fd()), Src_offset: uint64(at), Src_length: uint64(length), Dest_offset: uint64(there)})
}
