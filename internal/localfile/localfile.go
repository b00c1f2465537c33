// Package localfile keeps the part files of downloads and of uploads that come in: it writes them
// front to back past the page cache, makes them durable at checkpoints, and renames them into place.
//
// It promises that a part file never holds a byte that was not written in order: after a killed
// process everything below st_size is content, and after a power loss everything below what the last
// Checkpoint returned. It knows nothing of jobs, of the network or of which bytes are the right ones.
//
// All that looks at a path does so with the rights of an Owner.
package localfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/ebbtransfer/ebb/bits"
)

// ErrLocked means that somebody else has the lock.
var ErrLocked = errors.New("the lock is taken")

// Watermark returns the size of the part file at path: after a killed process, in the same boot, so
// many bytes of it are content. It may be larger than the whole file only if somebody else wrote to it.
func (o Owner) Watermark(path string) (size int64, err error) {
	err = o.at(path, func(dir int, name string) error {
		e, err := lstat(dir, name)
		if err == nil && !e.regular {
			err = refuse(path, "it is not a regular file")
		}
		size = e.Size
		return err
	})
	if err != nil {
		return 0, err
	}
	return size, nil
}

// Place renames the finished part over dest, which is in the same directory. It may be repeated: if
// part is gone and dest is the file with that inode, the work was done before a crash and nothing is
// wrong. It is durable only after SyncDir of the directory.
func (o Owner) Place(part, dest string, inode uint64) error {
	if filepath.Dir(part) != filepath.Dir(dest) {
		return fmt.Errorf("%s and %s are not in the same directory", part, dest)
	}
	return o.at(part, func(dir int, from string) error {
		to := filepath.Join(filepath.Dir(from), filepath.Base(dest)) // from may be a whole path
		return place(dir, from, to, part, dest, inode)
	})
}

// place is Place in an open directory.
func place(dir int, from, to, part, dest string, inode uint64) error {
	st, err := lstat(dir, from)
	if errors.Is(err, fs.ErrNotExist) {
		if d, derr := lstat(dir, to); derr == nil && inode != 0 && d.Inode == inode {
			return nil
		}
		return &bits.Error{Code: bits.FileNotFound, Context: bits.ContextLocalFile, File: part,
			Message: fmt.Sprintf("the part file %s is gone", part), Cause: err}
	}
	if err != nil {
		return err
	}
	// Whoever may write to the directory could have put another file, or a symbolic link, in its place.
	if !st.regular || st.Inode != inode {
		return &bits.Error{Code: bits.LocalFileChanged, Context: bits.ContextLocalFile, File: part,
			Message: fmt.Sprintf("%s is not the part file any more, it was replaced", part)}
	}
	if err = rename(dir, from, to); err == nil {
		return nil
	}
	if d, derr := lstat(dir, to); derr == nil && d.dir {
		return &bits.Error{Code: bits.AccessDenied, Context: bits.ContextLocalFile, File: dest,
			Message: fmt.Sprintf("the destination %s is a directory", dest), Cause: err}
	}
	return &fs.PathError{Op: "rename", Path: dest, Err: err}
}

// Remove unlinks the part file at path; one that is not there is fine.
func (o Owner) Remove(path string) error {
	err := o.at(path, func(dir int, name string) error {
		// Not os.Remove, which would also take away an empty directory.
		err := unlink(dir, name)
		if err == nil {
			return nil
		}
		// A file system that is read-only says so before it looks.
		if _, lerr := lstat(dir, name); errors.Is(lerr, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return &fs.PathError{Op: "unlink", Path: path, Err: err}
	}
	return nil
}

// refuse is the error for a file that may not be written to.
func refuse(path, why string) error {
	return &bits.Error{Code: bits.AccessDenied, Context: bits.ContextLocalFile, File: path,
		Message: fmt.Sprintf("%s cannot be used as a part file: %s", path, why)}
}

// errnos is the table of system errors; %s in a sentence is the directory or, if inFile, the path.
var errnos = []struct {
	errno    syscall.Errno
	code     bits.Code
	inFile   bool
	sentence string
}{
	{syscall.ENOSPC, bits.DiskFull, false, "no space is left on the disk that holds %s"},
	{syscall.EDQUOT, bits.DiskQuotaExceeded, false, "the disk quota for %s is used up"},
	{syscall.EROFS, bits.WriteProtect, false, "the file system that holds %s is read-only"},
	{syscall.ENOENT, bits.PathNotFound, false, "the directory %s does not exist"},
	{syscall.ENOTDIR, bits.PathNotFound, false, "%s is not a directory"},
	{syscall.EACCES, bits.AccessDenied, true, "access to %s is denied"},
	{syscall.EPERM, bits.AccessDenied, true, "access to %s is not permitted"},
	{syscall.EFBIG, bits.FileTooLarge, true, "%s would be larger than its file system or the file size limit allows"},
	{syscall.EIO, bits.DiskIO, true, "the disk reported an error for %s"},
	{syscall.EMFILE, bits.TooManyOpenFiles, true, "%s cannot be opened, the service has too many files open"},
	{syscall.ENFILE, bits.TooManyOpenFiles, true, "%s cannot be opened, the system has too many files open"},
}

// Err returns the error that a job reports for err, which happened with the file at path: errno
// becomes a code, a *bits.Error inside err is returned as it is, nil is nil.
func Err(err error, path string) *bits.Error {
	if err == nil {
		return nil
	}
	var be *bits.Error
	if errors.As(err, &be) {
		return be
	}
	for _, e := range errnos {
		if errors.Is(err, e.errno) {
			what := filepath.Dir(path)
			if e.inFile {
				what = path
			}
			return &bits.Error{Code: e.code, Context: bits.ContextLocalFile, File: path,
				Message: fmt.Sprintf(e.sentence, what), Cause: err}
		}
	}
	return &bits.Error{Code: bits.Unexpected, Context: bits.ContextLocalFile, File: path,
		Message: fmt.Sprintf("the file %s cannot be written: %v", path, err), Cause: err}
}
