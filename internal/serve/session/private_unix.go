//go:build unix

package session

import (
	"io/fs"
	"os"
	"syscall"
)

// private says whether only this user can write to a directory.
func private(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Geteuid() && st.Mode().Perm()&0o022 == 0
}
