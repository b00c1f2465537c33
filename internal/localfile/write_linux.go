package localfile

import (
	"io"

	"golang.org/x/sys/unix"
)

// writeMode is how a file system takes blocks past the page cache. A file starts with direct and
// steps down when its file system refuses.
type writeMode int

const (
	direct    writeMode = iota // O_DIRECT
	dontCache                  // RWF_DONTCACHE, from kernel 6.14 on
	buffered                   // the page cache, written back and dropped behind
)

// rwfDontCache is RWF_DONTCACHE, which x/sys does not have.
const rwfDontCache = 0x80

// lag bounds the dirty pages of the two modes that go through the page cache: when so much was
// written, all but the last half is waited for and dropped. It keeps a later fdatasync short, which
// over a large dirty file took 2.9 times as long as the writes.
const lag = 8 << 20

// writeAt writes whole pages from an aligned block.
func (f *file) writeAt(b []byte, off int64) error {
	if err := f.writeAll(b, off); err != nil || f.mode == direct {
		return err
	}
	return f.writeBack(off + int64(len(b)))
}

// writeLast writes the end of the file with its exact length. What is less than a page goes through
// the page cache, the one way that takes it.
func (f *file) writeLast(b []byte, off int64) error {
	if f.mode != direct {
		return f.writeAll(b, off)
	}
	whole := len(b) &^ (page - 1)
	if err := f.writeAll(b[:whole], off); err != nil || whole == len(b) {
		return err
	}
	if f.mode == direct {
		if err := f.stepDown(off + int64(whole)); err != nil {
			return err
		}
	}
	return f.writeAll(b[whole:], off+int64(whole))
}

// writeTail writes what is less than a page at the end of a file that will go on. In direct mode the
// page cache takes it; the kernel throws that page away when the direct write of the whole page comes.
func (f *file) writeTail(b []byte, off int64) error {
	if f.mode != direct {
		return f.writeAll(b, off)
	}
	if err := f.setFlags(0); err != nil {
		return err
	}
	for len(b) > 0 {
		n, err := unix.Pwrite(f.fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return f.setFlags(unix.O_DIRECT)
}

// setFlags sets the status flags of the open file.
func (f *file) setFlags(flags int) error {
	_, err := unix.FcntlInt(uintptr(f.fd), unix.F_SETFL, flags)
	return err
}

// stepDown leaves direct, with nothing in the page cache below off.
func (f *file) stepDown(off int64) error {
	f.mode, f.dropped = dontCache, off
	return f.setFlags(0)
}

// writeAll writes b in the mode of the file, or in the next that the file system takes.
func (f *file) writeAll(b []byte, off int64) error {
	for len(b) > 0 {
		n, err := f.write(b, off)
		switch {
		case err == unix.EINTR:
			continue
		case f.mode == direct && (err == unix.EINVAL || err == unix.EOPNOTSUPP):
			if err := f.stepDown(off); err != nil {
				return err
			}
			continue
		case f.mode == dontCache && (err == unix.EOPNOTSUPP || err == unix.EINVAL || err == unix.ENOSYS):
			f.mode = buffered
			continue
		case err != nil:
			return err
		}
		if f.mode == direct && n%page != 0 {
			// A direct write that ended within a page goes on at that page's start, with the same bytes.
			if n &^= page - 1; n == 0 {
				if err := f.stepDown(off); err != nil {
					return err
				}
			}
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

func (f *file) write(b []byte, off int64) (int, error) {
	if f.mode == dontCache {
		return unix.Pwritev2(f.fd, [][]byte{b}, off, rwfDontCache)
	}
	return unix.Pwrite(f.fd, b, off)
}

// writeBack starts the write-back of what is dirty up to end, waits for the older part of it, and
// drops that from the page cache.
func (f *file) writeBack(end int64) error {
	if end < f.dropped {
		f.dropped = end
	}
	if end-f.dropped < reserveFrom { // a small file: finish writes it out with others
		return nil
	}
	if err := f.syncRange(f.dropped, end, unix.SYNC_FILE_RANGE_WRITE); err != nil {
		return err
	}
	if end-f.dropped < lag {
		return nil
	}
	old := (end - lag/2) &^ (page - 1)
	const wait = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if err := f.syncRange(f.dropped, old, wait); err != nil {
		return err
	}
	f.drop(f.dropped, old)
	f.dropped = old
	return nil
}

func (f *file) syncRange(from, to int64, flags int) error {
	err := again(func() error { return unix.SyncFileRange(f.fd, from, to-from, flags) })
	if err == unix.ENOSYS || err == unix.EINVAL || err == unix.ESPIPE {
		return nil // a file system without it writes back when it likes
	}
	return err
}

// drop takes clean pages out of the page cache. It is a favour to others and may fail.
func (f *file) drop(from, to int64) { _ = unix.Fadvise(f.fd, from, to-from, unix.FADV_DONTNEED) }

// forget takes what is durable out of the page cache, where the file is written through it.
func (f *file) forget(from, to int64) {
	if f.mode == buffered {
		f.drop(from, to)
	}
}

// readAt reads pages of the file into b without leaving them in the page cache. The first need bytes
// must be there.
func (f *file) readAt(b []byte, need int, off int64) error {
	from := off
	for need > 0 {
		n, err := unix.Pread(f.fd, b, off)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EINVAL && f.mode == direct:
			if err := f.stepDown(0); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		b, need, off = b[n:], need-n, off+int64(n)
	}
	if f.mode != direct {
		f.drop(from, off)
	}
	return nil
}
