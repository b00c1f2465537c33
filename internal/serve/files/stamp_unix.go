//go:build linux || freebsd || darwin

package files

import (
	"io/fs"
	"os"
	"syscall"
)

// openFlags keep a named pipe from holding up whoever opens it.
const openFlags = os.O_RDONLY | syscall.O_NONBLOCK

// stampOf returns the stamp of what the file system told.
func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size(), mtime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode, s.ctime = uint64(st.Dev), st.Ino, changed(st) //nolint:unconvert // of another type elsewhere
	}
	return s
}
