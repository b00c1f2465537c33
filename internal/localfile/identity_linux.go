package localfile

import (
	"io/fs"
	"syscall"
)

// inode returns the number of a file's inode, and when that was last changed in Unix nanoseconds.
func inode(info fs.FileInfo) (number uint64, changed int64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return st.Ino, st.Ctim.Nano()
}

// UserOf returns whose file it is.
func UserOf(info fs.FileInfo) (uid uint32, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Uid, true
}
