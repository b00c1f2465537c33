package serve

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// SecretName is the file in a server's state directory that has its BranchCache secret, unless the
// configuration names another.
const SecretName = "branchcache.secret"

const (
	secretSize = 32 // bytes of a secret that is made here
	maxSecret  = 4 << 10
)

// ReadSecret reads a server's BranchCache secret: the bytes of a file, all of them, which nobody but the
// server's user and group may read. What is derived from it opens every file that the server describes.
func ReadSecret(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch mode := i.Mode(); {
	case !mode.IsRegular():
		return nil, fmt.Errorf("the BranchCache secret %s is not a regular file", file)
	case runtime.GOOS != "windows" && mode.Perm()&0o027 != 0:
		return nil, fmt.Errorf("others may read the BranchCache secret %s, or change it: chmod 600 it", file)
	}
	secret, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return nil, err
	case len(secret) == 0 || len(secret) > maxSecret:
		return nil, fmt.Errorf("the BranchCache secret %s has %d bytes; want 1 to %d", file, i.Size(), maxSecret)
	}
	return secret, nil
}

// WriteSecret makes the file of a server's BranchCache secret, or puts it into the place of another.
func WriteSecret(file string, secret []byte) error { return replace(file, secret) }

// ownSecret reads the secret of a state directory, and makes one at random if there is none.
func ownSecret(state string) ([]byte, error) {
	file := filepath.Join(state, SecretName)
	secret, err := ReadSecret(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	secret = make([]byte, secretSize)
	_, _ = rand.Read(secret) // never fails
	return secret, WriteSecret(file, secret)
}

// replace writes a file that is its owner's alone, durably, all or nothing.
func replace(name string, b []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already if all went well
	_, err = tmp.Write(b)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}
