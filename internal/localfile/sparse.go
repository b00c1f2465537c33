package localfile

import (
	"context"
	"hash"
	"time"
)

// sparseBlock is the block of a file that is written in pieces: what it would win by more is lost when
// a piece ends within it.
const sparseBlock = 256 << 10

// Sparse is an open part file that is written in pieces, in any order: of a file of which parts are
// fetched, or whose parts are fetched as somebody needs them. Other than a Part it does not tell by
// its size what is in it; the caller remembers what Sync made durable. Its methods are for one
// goroutine at a time. After an error it takes only Restart and Close.
type Sparse struct {
	path  string
	f     *file // nil after Close
	inode uint64

	base int64  // offset in the file of buf's first byte
	buf  []byte // the current block; nil when none was needed yet
	n    int    // bytes of buf that are filled

	high     int64 // where the file ends
	from, to int64 // what was written since the last Sync lies within
	done     bool  // Finish succeeded
	err      error // the first failure
}

// OpenSparse creates the part file of an owner at path or, if keep is set, goes on with what is there; a file that
// is used must be as Open wants it. If size is not -1 the space for so many bytes is reserved.
func OpenSparse(o Owner, path string, keep bool, size int64) (*Sparse, error) {
	f, have, err := openFile(o, path, keep, true)
	if err != nil {
		return nil, err
	}
	s := &Sparse{path: path, f: f, inode: f.inode, high: have}
	if !keep && have > 0 {
		err = s.wrap("truncate", f.truncate(0))
		s.high = 0
	}
	if err == nil {
		err = s.Reserve(size)
	}
	if err != nil {
		s.err = err
		_ = s.Close() // err is what counts
		return nil, err
	}
	return s, nil
}

func (s *Sparse) wrap(doing string, err error) error {
	return (&Part{path: s.path}).wrap(doing, err)
}

func (s *Sparse) fail(doing string, err error) error {
	if err != nil && s.err == nil {
		s.err = s.wrap(doing, err)
	}
	return s.err
}

// Inode returns the inode number, which Place needs; 0 where files have none.
func (s *Sparse) Inode() uint64 { return s.inode }

// Reserve reserves the space for a file of size bytes; -1 reserves none.
func (s *Sparse) Reserve(size int64) error {
	if size < reserveFrom {
		return nil
	}
	return s.wrap("reserve space for", s.f.reserve(size, s.high))
}

// GoTo goes on at an offset.
func (s *Sparse) GoTo(offset int64) error {
	if offset == s.base+int64(s.n) {
		return s.err
	}
	err := s.flush()
	s.base = offset
	return err
}

// Space returns the free rest of the current block, whose first byte belongs where GoTo went or the
// last Advance ended. It is never empty, and valid until the next call of another method.
func (s *Sparse) Space() []byte {
	if s.buf == nil {
		s.buf = blocks.get(sparseBlock)
	}
	return s.buf[s.n:]
}

// Advance says that n bytes of Space were filled.
func (s *Sparse) Advance(n int) error {
	s.n += n
	if s.n < len(s.buf) {
		return s.err
	}
	return s.flush()
}

// flush writes the current block to the file.
func (s *Sparse) flush() error {
	if s.err != nil || s.n == 0 {
		return s.err
	}
	if err := s.fail("write", s.f.writeLast(s.buf[:s.n], s.base)); err != nil {
		return err
	}
	end := s.base + int64(s.n)
	if s.to == s.from {
		s.from, s.to = s.base, end
	}
	s.from, s.to = min(s.from, s.base), max(s.to, end)
	s.base, s.n = end, 0
	s.high = max(s.high, end)
	return nil
}

// Sync makes all that was accepted durable.
func (s *Sparse) Sync() error {
	if err := s.flush(); err != nil || s.to == s.from {
		return err
	}
	if err := s.fail("checkpoint", s.f.datasync()); err != nil {
		return err
	}
	s.f.forget(s.from, s.to)
	s.from, s.to = 0, 0
	return nil
}

// ReadAt fills b with bytes that were accepted, from an offset on.
func (s *Sparse) ReadAt(b []byte, offset int64) error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.wrap("read back", s.f.readAt(b, len(b), offset))
}

// Hash feeds the first size bytes to h. It ends early, with its error, when ctx does.
func (s *Sparse) Hash(ctx context.Context, h hash.Hash, size int64) error {
	if err := s.flush(); err != nil {
		return err
	}
	b := blocks.get(sparseBlock)
	defer blocks.put(b)
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int(min(int64(len(b)), size-off))
		if err := s.f.readAt(b[:n], n, off); err != nil {
			return s.wrap("read back", err)
		}
		_, _ = h.Write(b[:n]) // never fails, says hash.Hash
		off += int64(n)
	}
	return nil
}

// Finish gives the file its exact size, the mode of a newly created file, and mtime unless that is
// zero; then it makes all of it durable. Where users are switched it must run as the file's owner.
func (s *Sparse) Finish(size int64, mtime time.Time) error {
	if s.done {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	if s.high > size { // what a former version of the file had
		if err := s.fail("truncate", s.f.truncate(size)); err != nil {
			return err
		}
	}
	if err := s.fail("finish", s.f.finish(size, mtime)); err != nil {
		return err
	}
	s.done = true
	return nil
}

// Restart throws all away, also an error. A caller that remembers what is durable must have forgotten
// it durably before.
func (s *Sparse) Restart() error {
	s.err, s.n, s.base, s.from, s.to, s.high, s.done = nil, 0, 0, 0, 0, 0, false
	return s.fail("restart", s.f.truncate(0))
}

// Close closes the file. What was not made durable may or may not be there.
func (s *Sparse) Close() error {
	if s.f == nil {
		return nil
	}
	blocks.put(s.buf)
	s.buf, s.n = nil, 0
	err := s.wrap("close", s.f.close())
	s.f = nil
	return err
}
