//go:build !linux

package localfile

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"time"
)

// BootID is empty: this system does not tell, so only checkpoints count.
func BootID() string { return "" }

// file is a plain file that goes through the page cache: nothing is reserved and nothing dropped, and
// the owner of a leftover is not checked.
type file struct {
	*os.File
	inode  uint64  // always 0: Place cannot be repeated here
	rights *Rights // always nil
}

func openFile(as Owner, path string, _, _ bool) (*file, int64, error) {
	if as.other {
		return nil, 0, errOther(path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return &file{File: f}, 0, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, 0, err
	}
	was, err := os.Lstat(path)
	if err != nil {
		return nil, 0, err
	}
	if !was.Mode().IsRegular() {
		return nil, 0, refuse(path, "it is not a regular file")
	}
	if f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !os.SameFile(was, st) {
		err = refuse(path, "it was replaced while it was opened")
	}
	if err != nil {
		_ = f.Close() // err is what counts
		return nil, 0, err
	}
	return &file{File: f}, st.Size(), nil
}

func adopt(f *os.File, _ bool) (*file, int64, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	return &file{File: f}, st.Size(), nil
}

func (f *file) reserve(_, _ int64) error { return nil }

func (f *file) writeAt(b []byte, off int64) error {
	_, err := f.WriteAt(b, off)
	return err
}

func (f *file) writeLast(b []byte, off int64) error { return f.writeAt(b, off) }

func (f *file) writeTail(b []byte, off int64) error { return f.writeAt(b, off) }

func (f *file) forget(_, _ int64) {}

func (f *file) readAt(b []byte, need int, off int64) error {
	_, err := f.ReadAt(b[:need], off)
	return err
}

func (f *file) truncate(size int64) error { return f.Truncate(size) }

func (f *file) datasync() error { return f.Sync() }

func (f *file) finish(_ int64, mtime time.Time) error {
	if !mtime.IsZero() {
		if err := os.Chtimes(f.Name(), time.Time{}, mtime); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (f *file) close() error { return f.Close() }

// SyncDir makes the names in dir durable, where the system can.
func (o Owner) SyncDir(dir string) error {
	if o.other {
		return errOther(dir)
	}
	if runtime.GOOS == "windows" {
		return nil // directories cannot be flushed; NTFS journals names
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func mapBlock(n int) []byte { return make([]byte, n) }

func unmapBlock([]byte) {}
