//go:build !linux

package session

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"runtime"
)

// dest is the directory of a target. No element of it was a symbolic link when it was looked at; if
// one becomes one, os.Root still keeps what happens below the root.
type dest struct {
	top  *os.Root
	path string // of the target
}

// openDest looks at the directory of target below top.
func openDest(top *os.Root, target string) (*dest, error) {
	for dir := path.Dir(target); dir != "."; dir = path.Dir(dir) {
		st, err := top.Lstat(dir)
		if err != nil {
			return nil, err
		}
		if !st.IsDir() {
			return nil, &fs.PathError{Op: "open", Path: dir, Err: errNotDir}
		}
	}
	return &dest{top: top, path: target}, nil
}

func (d *dest) close() {}

// lookup returns what has the target's name.
func (d *dest) lookup() (found, error) {
	st, err := d.top.Lstat(d.path)
	if err != nil {
		return found{}, err
	}
	return found{dir: st.IsDir(), size: st.Size()}, nil
}

// open opens the target for reading.
func (d *dest) open() (*os.File, error) { return d.top.Open(d.path) }

// sameDisk says whether a file can be renamed from the directory hidden to d, as far as it can know.
func (d *dest) sameDisk(*os.Root) bool { return true }

// take renames the file name in the directory hidden, which is Hidden below the root, to the target.
// Without overwrite the error is fs.ErrExist if something has the target's name.
func (d *dest) take(_ *os.Root, name string, overwrite bool) error {
	from := Hidden + "/" + name
	if overwrite {
		return d.top.Rename(from, d.path)
	}
	// A link never replaces.
	if err := d.top.Link(from, d.path); err != nil {
		return err
	}
	return d.top.Remove(from)
}

// sync makes the names in the directory durable, where the system can.
func (d *dest) sync() error { return syncDir(d.top, path.Dir(d.path)) }

func syncDir(root *os.Root, dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be flushed; NTFS journals names
	}
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func datasync(f *os.File) error { return f.Sync() }

// identify returns nothing: a file is not known again here.
func identify(*os.File) (fileID, error) { return fileID{}, nil }

// free is not known here.
func free(*os.File) (int64, error) { return 0, errors.ErrUnsupported }
