//go:build !linux

package localfile

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/ebbtransfer/ebb/bits"
)

// errOther says that this system has no rights per thread.
func errOther(path string) error {
	return &bits.Error{Code: bits.NotImplemented, Context: bits.ContextLocalFile, File: path, Message: "on this system the service works with the files of its own user only"}
}

func (o Owner) switched(func() error) error { return errOther("") }

// at runs f; the directory is not opened here.
func (o Owner) at(path string, f func(dir int, name string) error) error {
	if o.other {
		return errOther(path)
	}
	return o.here(path, f)
}

func (o Owner) here(path string, f func(dir int, name string) error) error { return f(0, path) }

func (o Owner) open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(path, info.IsDir())
	}
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

func (o Owner) checkDir(_ int, dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "stat", Path: dir, Err: fmt.Errorf("it is not a directory")}
	}
	return err // whether files can be made in it shows when one is made
}

// entry is what a name stands for; links are not followed.
type entry struct {
	regular, dir bool
	Version
}

func lstat(_ int, name string) (entry, error) {
	st, err := os.Lstat(name)
	if err != nil {
		return entry{}, err
	}
	return entry{regular: st.Mode().IsRegular(), dir: st.IsDir(), Version: VersionOf(st)}, nil
}

func rename(_ int, from, to string) error { return os.Rename(from, to) }

func unlink(_ int, name string) error {
	if st, err := os.Lstat(name); err == nil && st.IsDir() {
		return fs.ErrInvalid
	}
	return os.Remove(name)
}
