package localfile

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/ebbtransfer/ebb/bits"
)

// Owner says with whose rights files are opened, renamed and deleted. The zero value is the user
// that the process runs as. Owners are small, comparable values.
//
// For any other Owner a path is followed through a symbolic link only if the link is root's or the
// owner's own, never through /proc, and never beyond the last part of the path but where a method
// says so: who may write to a directory on the way gets no file of the owner touched that is not
// in the directory that the owner named.
type Owner struct {
	uid   uint32
	other bool // not the process's own user
}

// User returns the Owner with the rights of a user: its uid, its primary group and its groups as the
// system's user database has them, and nothing of what the process may do. It works on Linux only,
// for a process that may change its user.
func User(uid uint32) Owner { return Owner{uid: uid, other: true} }

// Do runs f with the owner's rights to files, on a thread that has no others, and returns its error.
// f must not start goroutines that need these rights, and keeps the thread busy until it returns;
// what it opens may be used from everywhere. If the rights cannot be had f does not run.
func (o Owner) Do(f func() error) error {
	if !o.other {
		return f()
	}
	return o.switched(f)
}

// Open opens the regular file at path for reading. Its last part may be a symbolic link of the
// owner's or root's. A FIFO or a device is neither waited for nor opened: it is refused with
// InvalidArg, as a directory is.
func (o Owner) Open(path string) (*os.File, error) {
	var f *os.File
	err := o.Do(func() (err error) {
		f, err = o.open(path)
		return err
	})
	return f, err
}

// notRegular refuses what is not a regular file.
func notRegular(path string, dir bool) error {
	what := "is not a regular file"
	if dir {
		what = "is a directory"
	}
	return &bits.Error{Code: bits.InvalidArg, Context: bits.ContextLocalFile, File: path, Message: fmt.Sprintf("%s %s, and cannot be read as a file", path, what)}
}

// CheckDir says whether the owner may make files in a directory.
func (o Owner) CheckDir(dir string) error { return o.CheckDirs([]string{dir})[0] }

// CheckDirs says of each directory whether the owner may make files in it. Many of them cost a switch
// of rights once.
func (o Owner) CheckDirs(dirs []string) []error {
	errs := make([]error, len(dirs))
	err := o.Do(func() error {
		for i, dir := range dirs {
			errs[i] = o.here(filepath.Join(dir, "x"), func(at int, _ string) error { return o.checkDir(at, dir) })
		}
		return nil
	})
	if err != nil { // the rights cannot be had
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// Kind is what there is at a path.
type Kind int

// What there may be at a path.
const (
	Nothing Kind = iota
	Regular
	Directory
	Special // a FIFO, a device, a socket, or a symbolic link
)

// Look tells what there is at path, for which the last part of it is not followed.
func (o Owner) Look(path string) (Kind, error) {
	k := Nothing
	err := o.at(path, func(at int, name string) error {
		e, err := lstat(at, name)
		switch {
		case err != nil:
			return err
		case e.regular:
			k = Regular
		case e.dir:
			k = Directory
		default:
			k = Special
		}
		return nil
	})
	return k, err
}
