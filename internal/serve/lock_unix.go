//go:build unix

package serve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockState makes sure that no other server uses a state directory. The lock ends with the process.
func lockState(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("another server uses the state directory %s; give --state", dir)
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// privately runs a function that makes a socket, which is then its owner's alone.
func privately(listen func() error) error {
	defer unix.Umask(unix.Umask(0o177))
	return listen()
}
