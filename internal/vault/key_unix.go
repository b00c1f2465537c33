//go:build unix

package vault

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// openKey opens a key file, through no link and without waiting for a pipe's other end.
func openKey(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// private reports why a file is not for our eyes only.
func private(info os.FileInfo) error {
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return fmt.Errorf("has the mode %04o; it must be 0600, and who could read it may have the secrets", m)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() {
		return errors.New("belongs to another user")
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
