//go:build unix

package serve

import "golang.org/x/sys/unix"

// privately runs a function that makes a socket, which is then its owner's alone.
func privately(listen func() error) error {
	defer unix.Umask(unix.Umask(0o177))
	return listen()
}
