package localfile

import (
	"context"
	"fmt"
	"hash"
	"io"
	"os"
	"time"
)

// maxBlock is how much is collected before it is written. Of 256 KiB to 4 MiB, written in place or by
// a second goroutine with a second block, 4 MiB in place cost the least for 1 GiB from loopback TCP
// with a checkpoint each 16 MiB: 0.39-0.43 CPU seconds against 0.50-0.63 for two blocks of 2 MiB,
// which take the same memory, and 0.42-0.68 for 1 MiB, all at about the same wall time, 1.3 to 2 s.
const maxBlock = 4 << 20

// firstBlock is the first block of a file of unknown size; later ones grow with what has come.
const firstBlock = 64 << 10

// reserveFrom is the size from which space is reserved. A smaller file fits into one write, which
// allocates as well as a reservation does and tells as early that the disk is full.
const reserveFrom = 1 << 20

// Options say how a part file is opened.
type Options struct {
	// Owner is whose file it is.
	Owner Owner
	// Keep is how many bytes of an existing part file are kept, rounded down to 4 KiB. A file that is
	// shorter, or missing, keeps what it has: Offset tells. 0 starts from nothing.
	Keep int64
	// Size is the expected total size in bytes, or -1. If it is known, the space is reserved.
	Size int64
	// Hash is nil, or is fed with all bytes in order, the kept ones first.
	Hash hash.Hash
}

// Part is an open part file. Its methods are for one goroutine at a time. After an error it takes
// only Restart and Close: what was accepted since the last success may be lost.
type Part struct {
	path  string
	f     *file // nil after Close
	inode uint64
	size  int64 // expected, or -1
	hash  hash.Hash

	base    int64  // offset in the file of buf's first byte
	buf     []byte // the current block; nil when none was needed yet
	n       int    // bytes of buf that are filled
	written int    // bytes of buf, whole pages, that are in the file

	durable int64 // what the last fdatasync covered, -1 before the first
	done    bool  // Finish succeeded
	err     error // the first failure
}

// Open creates the part file at path, or continues it. The file has mode 0600 until Finish. A file
// that is there already is used only if it is a regular file of ours with one name; a symbolic link,
// a FIFO, a hard link or another user's file is refused with AccessDenied. If the space for
// Options.Size is not there, Open fails with DiskFull or FileTooLarge and leaves the kept bytes.
// Reading many kept bytes for the hash takes a while; it ends early, with its error, when ctx does.
func Open(ctx context.Context, path string, o Options) (*Part, error) {
	keep := max(o.Keep, 0) &^ (page - 1)
	f, have, err := openFile(o.Owner, path, keep > 0, o.Size >= 0 && o.Size < reserveFrom)
	if err != nil {
		return nil, err
	}
	p := &Part{path: path, f: f, inode: f.inode, size: -1, hash: o.Hash, durable: -1}
	p.base = min(keep, have&^(page-1))
	if have > p.base {
		err = p.wrap("truncate", f.truncate(p.base))
	}
	if err == nil {
		err = p.SetSize(o.Size)
	}
	if err == nil && p.hash != nil {
		err = p.hashKept(ctx)
	}
	if err != nil {
		p.err = err
		_ = p.Close() // err is what counts
		return nil, err
	}
	return p, nil
}

// Continue makes a Part of f, which is open for reading and writing in a directory that nobody else
// can write to: neither its owner nor its mode are looked at or changed. Exactly keep bytes of it
// stay; if it has fewer, Continue fails with io.ErrUnexpectedEOF. The file's size is not known, and
// nothing is reserved. small says that it will not be larger than about a megabyte. f belongs to the
// Part, also if Continue fails.
func Continue(f *os.File, keep int64, small bool) (*Part, error) {
	lf, have, err := adopt(f, small)
	if err != nil {
		_ = f.Close() // err is what counts
		return nil, err
	}
	p := &Part{path: f.Name(), f: lf, inode: lf.inode, size: -1, durable: -1, base: keep &^ (page - 1)}
	switch {
	case have < keep:
		err = p.wrap("continue", io.ErrUnexpectedEOF)
	case have > keep:
		err = p.wrap("truncate", lf.truncate(keep))
	}
	if tail := int(keep - p.base); err == nil && tail > 0 {
		// The last page is written again as soon as it is full, so it has to be in memory.
		b := p.Space()
		if err = p.wrap("read back", lf.readAt(b[:page], tail, p.base)); err == nil {
			p.n = tail
		}
	}
	if err != nil {
		p.err = err
		_ = p.Close() // err is what counts
		return nil, err
	}
	return p, nil
}

// hashKept feeds the kept bytes to the hash.
func (p *Part) hashKept(ctx context.Context) error {
	p.hash.Reset()
	if p.base == 0 {
		return nil
	}
	b := blocks.get(int(min(p.base, int64(blocks.block))))
	defer blocks.put(b)
	for off := int64(0); off < p.base; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int(min(int64(len(b)), p.base-off))
		if err := p.f.readAt(b[:n], n, off); err != nil {
			return p.wrap("read back", err)
		}
		_, _ = p.hash.Write(b[:n]) // never fails, says hash.Hash
		off += int64(n)
	}
	return nil
}

func (p *Part) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", doing, p.path, err)
}

// fail remembers the first failure: a write that did not happen leaves a hole which nothing after it
// may hide.
func (p *Part) fail(doing string, err error) error {
	if err != nil && p.err == nil {
		p.err = p.wrap(doing, err)
	}
	return p.err
}

// Offset returns how many bytes were accepted, those still in memory included.
func (p *Part) Offset() int64 { return p.base + int64(p.n) }

// Inode returns the inode number, which Place needs; 0 where files have none.
func (p *Part) Inode() uint64 { return p.inode }

// Space returns the free rest of the current block. It is never empty, and valid until the next call
// of any other method but Offset.
func (p *Part) Space() []byte {
	if p.buf != nil && p.n == len(p.buf) {
		// Advance has handed the block to the disk: go on in it, or in a longer one
		p.base += int64(p.n)
		p.n, p.written = 0, 0
		if blocks.grows(p.buf, p.want()) {
			blocks.put(p.buf)
			p.buf = nil
		}
	}
	if p.buf == nil {
		p.buf = blocks.get(p.want())
	}
	return p.buf[p.n:]
}

// want returns how long a block pays from here on.
func (p *Part) want() int {
	if rest := p.size - p.base; rest > 0 {
		return int(min(rest, int64(blocks.block)))
	}
	return int(min(max(p.base, firstBlock), int64(blocks.block)))
}

// Advance says that n bytes of Space were filled. It feeds the hash, and writes a full block out.
func (p *Part) Advance(n int) error {
	if p.err != nil || n == 0 {
		return p.err
	}
	if p.hash != nil {
		_, _ = p.hash.Write(p.buf[p.n : p.n+n]) // never fails, says hash.Hash
	}
	p.n += n
	if p.n < len(p.buf) {
		return nil
	}
	return p.writePages()
}

// writePages writes the whole pages of the current block that are not in the file yet.
func (p *Part) writePages() error {
	if p.err != nil {
		return p.err
	}
	whole := p.n &^ (page - 1)
	if whole == p.written {
		return nil
	}
	if err := p.fail("write", p.f.writeAt(p.buf[p.written:whole], p.base+int64(p.written))); err != nil {
		return err
	}
	p.written = whole
	return nil
}

// Checkpoint writes the whole pages of what was accepted, keeps the rest in memory, and returns how
// many bytes will be there after a power loss.
func (p *Part) Checkpoint() (int64, error) {
	if err := p.writePages(); err != nil {
		return 0, err
	}
	if end := p.base + int64(p.written); end != p.durable {
		if err := p.fail("checkpoint", p.f.datasync()); err != nil {
			return 0, err
		}
		p.durable = end
	}
	return p.durable, nil
}

// Flush writes the whole pages of what was accepted, so that a killed process leaves them.
func (p *Part) Flush() error { return p.writePages() }

// Sync makes all that was accepted durable, at its exact length; Checkpoint is cheaper where a page
// more or less does not matter.
func (p *Part) Sync() error {
	if err := p.writePages(); err != nil {
		return err
	}
	if p.Offset() == p.durable {
		return nil
	}
	if p.n > p.written {
		// It stays in the block: the whole page will be written over it.
		if err := p.fail("write", p.f.writeTail(p.buf[p.written:p.n], p.base+int64(p.written))); err != nil {
			return err
		}
	}
	if err := p.fail("sync", p.f.datasync()); err != nil {
		return err
	}
	p.durable = p.Offset()
	return nil
}

// Finish writes the rest, gives the file its exact size, the mode of a newly created file (0666
// without the umask), and mtime unless that is zero; then it makes all of it durable. The tail is
// written with its exact length, never padded, so that a crash in between leaves only content.
func (p *Part) Finish(mtime time.Time) error {
	if p.done {
		return nil
	}
	if p.err != nil {
		return p.err
	}
	if p.n > p.written {
		if err := p.fail("write", p.f.writeLast(p.buf[p.written:p.n], p.base+int64(p.written))); err != nil {
			return err
		}
	}
	if err := p.fail("finish", p.f.finish(p.Offset(), mtime)); err != nil {
		return err
	}
	p.done = true
	p.release()
	return nil
}

// SetSize says that the total size is n, or not known if -1, and reserves the space for it. If it
// fails with DiskFull or FileTooLarge the part file is as it was and may be continued.
func (p *Part) SetSize(n int64) error {
	if n >= reserveFrom {
		if err := p.f.reserve(n, p.base+int64(p.written)); err != nil {
			return p.wrap("reserve space for", err)
		}
	}
	p.size = max(n, -1)
	return nil
}

// Restart throws all away, also an error, and starts at 0. A caller that remembers a durable length
// must have forgotten it durably before: after a power loss the new bytes may stand below it.
func (p *Part) Restart() error {
	p.err = nil
	p.base, p.n, p.written, p.durable, p.done = 0, 0, 0, -1, false
	if p.hash != nil {
		p.hash.Reset()
	}
	if err := p.fail("restart", p.f.truncate(0)); err != nil {
		return err
	}
	return p.SetSize(p.size)
}

// Close closes the file. Without Finish it first writes the whole pages, so that Watermark is as high
// as possible; it does not make them durable.
func (p *Part) Close() error {
	if p.f == nil {
		return nil
	}
	err := p.err
	if err == nil && !p.done {
		err = p.writePages()
	}
	p.release()
	if cerr := p.wrap("close", p.f.close()); err == nil {
		err = cerr
	}
	p.f = nil
	return err
}

// release gives the blocks back.
func (p *Part) release() {
	p.base, p.n, p.written = p.Offset(), 0, 0
	blocks.put(p.buf)
	p.buf = nil
}
