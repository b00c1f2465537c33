//go:build unix

package daemon

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkPrivate refuses a state directory that another user could have prepared or could change.
func checkPrivate(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || int(sys.Uid) != os.Geteuid() || st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("the state directory %s must belong to the service's user and be writable by no one else", dir)
	}
	return nil
}

func setUmask(mask int) (restore func()) {
	old := unix.Umask(mask)
	return func() { unix.Umask(old) }
}
