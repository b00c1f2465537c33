//go:build unix

package policy

import (
	"os"
	"syscall"
)

// chown gives a new file the owner of another, where it is not that already.
func chown(f *os.File, other os.FileInfo) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	is, ok := mine.Sys().(*syscall.Stat_t)
	want, also := other.Sys().(*syscall.Stat_t)
	if !ok || !also || is.Uid == want.Uid && is.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}
