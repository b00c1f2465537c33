package session

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/ebbtransfer/ebb/internal/localfile"
)

const (
	// smallFile is below what size a file is written through the page cache, which is as fast and
	// needs no care for its last page.
	smallFile = 1 << 20
	// flushEvery is how often the bytes of a slow upload go to its file while its block fills, so
	// that few are lost if the process is killed.
	flushEvery = 5 * time.Second
	// roomEvery is after how many bytes an upload looks whether the disk has room for more.
	roomEvery = 16 << 20
)

// held is a session that a request has.
type held struct {
	d      *Dir
	e      *entry
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it is released

	part    *localfile.Part // the data file, if it is open
	removed bool
}

var _ Session = (*held)(nil)

func (h *held) Info() Info {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	return h.e.rec.Info
}

// change changes the record in memory.
func (h *held) change(f func(r *record)) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	f(&h.e.rec)
}

func (h *held) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s upload %s: %w", doing, h.e.rec.ID, storageError(err))
}

// SetSize makes the size known. It is durable with what is made durable next.
func (h *held) SetSize(_ context.Context, size int64) error {
	r := &h.e.rec
	switch {
	case r.Size == size:
		return nil
	case r.Size >= 0:
		return h.wrap("set the size of", ErrSizeChanged)
	case size < r.Offset || r.Limit >= 0 && size > r.Limit:
		return h.wrap("set the size of", ErrTooLarge)
	}
	if err := h.d.room(size - r.Offset); err != nil {
		return h.wrap("set the size of", err)
	}
	h.change(func(r *record) { r.Size = size })
	return h.wrap("set the size of", h.d.note(h.e, change{Size: &size}, false))
}

// Append adds bytes, as Session says. The bytes are durable when it returns. That they count after a
// power loss is settled by then too, but for those that complete an upload with a target: that is
// left to the Publish that comes next, which needs no such thing, or to SetState.
func (h *held) Append(ctx context.Context, r io.Reader) (int64, error) {
	if h.e.rec.Published {
		return 0, h.wrap("append to", ErrTooLarge)
	}
	was := h.e.rec.Offset
	err := h.openPart()
	if err == nil {
		err = h.fill(ctx, r)
	}
	if h.part == nil {
		return 0, h.wrap("append to", err)
	}
	// Also when the request failed, what has come is kept.
	if serr := h.settle(localfile.BootID()); serr != nil {
		return 0, h.wrap("append to", serr)
	}
	return h.e.rec.Offset - was, h.wrap("append to", err)
}

// AppendVerified adds bytes that were verified, as Session says. They are written to their place at once,
// and count when the offset passes them.
func (h *held) AppendVerified(ctx context.Context, r io.Reader, verify func() error) error {
	if h.e.rec.Published {
		return h.wrap("append to", ErrTooLarge)
	}
	if err := h.openPart(); err != nil {
		return h.wrap("append to", err)
	}
	err := h.distrust()
	if err == nil {
		err = h.fill(ctx, r)
	}
	if err == nil {
		err = verify()
	}
	if err != nil {
		h.closePart()
		return h.wrap("append to", errors.Join(err, h.cut()))
	}
	return h.wrap("append to", h.settle(""))
}

// cut cuts off what the data file has beyond the offset, if that may be what does not count.
func (h *held) cut() error {
	r := &h.e.rec
	if r.Boot != "" || r.Published {
		return nil
	}
	err := h.openPart()
	if r.Publishing && errors.Is(err, fs.ErrNotExist) {
		return nil // it was renamed, and cut before
	}
	return err
}

// distrust notes that what the data file has beyond the offset is not the upload's, should the process
// be killed. No power loss undoes it, as nothing there is trusted after one.
func (h *held) distrust() error {
	if h.e.rec.Boot == "" {
		return nil
	}
	boot := ""
	h.change(func(r *record) { r.Boot = boot })
	return h.d.note(h.e, change{Boot: &boot}, false)
}

// settle makes what was written durable and counts it; boot is what record.Boot becomes. If it fails
// the part is closed.
func (h *held) settle(boot string) error {
	err := h.part.Sync()
	if offset := h.part.Offset(); err == nil && offset > h.e.rec.Offset {
		err = h.advance(offset, boot)
	}
	if err != nil {
		h.closePart()
	}
	return err
}

// advance notes that all bytes below offset are durable.
func (h *held) advance(offset int64, boot string) error {
	now := time.Now().Round(0)
	c := change{Offset: &offset, Touched: now}
	next := h.e.rec
	next.Offset, next.Touched = offset, now
	if next.Boot != boot {
		c.Boot, next.Boot = &boot, boot
	}
	was := h.e.rec
	h.change(func(r *record) { *r = next })
	whole := offset == next.Size && next.Target != ""
	if err := h.d.note(h.e, c, !whole); err != nil {
		h.change(func(r *record) { *r = was })
		return err
	}
	return nil
}

// fill reads r into the data file.
func (h *held) fill(ctx context.Context, r io.Reader) error {
	most := h.e.rec.Size
	if most < 0 {
		most = h.e.rec.Limit
	}
	flushed, looked := time.Now(), int64(-roomEvery)
	for {
		for _, c := range []context.Context{ctx, h.ctx} {
			if c.Err() != nil {
				return context.Cause(c)
			}
		}
		room := int64(1) << 62
		if most >= 0 {
			room = most - h.part.Offset()
		}
		if room <= 0 {
			return AtEnd(r)
		}
		// That there was room for it when it began says nothing if its size is not known, and little
		// if others began at the same time.
		if h.part.Offset()-looked >= roomEvery {
			if err := h.d.room(0); err != nil {
				return err
			}
			looked = h.part.Offset()
		}
		space := h.part.Space()
		n, err := r.Read(space[:min(int64(len(space)), room)])
		if aerr := h.part.Advance(n); aerr != nil {
			return aerr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return cmp.Or(context.Cause(ctx), context.Cause(h.ctx), err)
		}
		if now := time.Now(); now.Sub(flushed) >= flushEvery {
			flushed = now
			if err := h.part.Flush(); err != nil {
				return err
			}
		}
	}
}

// AtEnd returns nil if r is at its end, ErrTooLarge if it has more, or its error.
func AtEnd(r io.Reader) error {
	var b [1]byte
	for range 100 { // a Reader may return nothing without an error, but not for ever
		n, err := r.Read(b[:])
		switch {
		case n > 0:
			return ErrTooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

func (h *held) openPart() error {
	if h.part != nil {
		return nil
	}
	r := &h.e.rec
	f, err := h.d.hidden.OpenFile(r.ID, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) && r.Whole {
		f, err = h.createPart()
	}
	if err != nil {
		return err
	}
	h.part, err = localfile.Continue(f, r.Offset, r.Size >= 0 && r.Size < smallFile)
	return err
}

// createPart makes the data file of an upload that has none before its first byte.
func (h *held) createPart() (*os.File, error) {
	f, err := h.d.hidden.OpenFile(h.e.rec.ID, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	id, err := identify(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	h.change(func(r *record) { r.File = id })
	return f, nil
}

func (h *held) closePart() {
	if h.part != nil {
		_ = h.part.Close() // what counts was made durable before
		h.part = nil
	}
}

func (h *held) SetState(_ context.Context, state json.RawMessage) error {
	if state == nil {
		state = json.RawMessage("null")
	}
	h.change(func(r *record) { r.State = state })
	return h.wrap("keep the state of", h.d.note(h.e, change{State: state}, true))
}

func (h *held) Open(context.Context) (io.ReadSeekCloser, error) {
	f, err := h.openData()
	if err != nil {
		return nil, h.wrap("read", err)
	}
	return struct {
		*io.SectionReader
		io.Closer
	}{io.NewSectionReader(f, 0, h.e.rec.Offset), f}, nil
}

// openData opens the data file for reading, or the target that it has become.
func (h *held) openData() (*os.File, error) {
	r := &h.e.rec
	if !r.Published {
		return h.d.hidden.Open(r.ID)
	}
	if r.Target == "" {
		return nil, fmt.Errorf("its bytes were used: %w", ErrNotFound)
	}
	to, err := openDest(h.d.top, r.Target)
	if err != nil {
		return nil, err
	}
	defer to.close()
	f, err := to.open()
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	var id fileID
	if err == nil {
		id, err = identify(f)
	}
	if err != nil || id != r.File || st.Size() != r.Size {
		f.Close()
		return nil, fmt.Errorf("%s was replaced: %w", r.Target, fs.ErrNotExist)
	}
	return f, nil
}

// Link gives the bytes that are here a second name below the root, in a directory that exists.
func (h *held) Link(name string) error {
	r := &h.e.rec
	from := path.Join(Hidden, r.ID)
	if r.Published {
		from = r.Target
	}
	return h.wrap("link", h.d.top.Link(from, name))
}

// Publish renames the data file to the target, as Session says.
func (h *held) Publish(context.Context) error { return h.wrap("publish", h.publish()) }

func (h *held) publish() error {
	r := &h.e.rec
	switch {
	case r.Published:
		return nil
	case r.Size < 0 || r.Offset != r.Size:
		return ErrIncomplete
	case r.Target == "":
		return h.useUp()
	}
	if err := h.cut(); err != nil {
		return err
	}
	if r.Size == 0 && !r.Publishing { // nothing was appended that would have made it durable
		if err := h.openPart(); err != nil {
			return err
		}
		if err := h.part.Sync(); err != nil {
			return err
		}
	}
	h.closePart()
	to, err := openDest(h.d.top, r.Target)
	if err != nil {
		return targetError(r.Target, err)
	}
	defer to.close()
	if !r.Publishing {
		// Not durable: it tells a killed process that the file was renamed. After a power loss the
		// target's inode does.
		yes := true
		h.change(func(r *record) { r.Publishing = yes })
		if err := h.d.note(h.e, change{Publishing: &yes}, false); err != nil {
			return err
		}
	}
	if err := h.rename(to); err != nil {
		return err
	}
	if err := h.d.syncs.do(path.Dir(r.Target), to.sync); err != nil {
		return err
	}
	yes, now := true, time.Now().Round(0)
	h.d.mu.Lock()
	r.Published, r.Touched = yes, now
	h.d.finished(h.e)
	h.d.mu.Unlock()
	h.e.dirty = false // what was not durable does not matter any more
	return h.d.note(h.e, change{Published: &yes, Touched: now}, false)
}

// useUp deletes the bytes of an upload that never becomes a file. That they went is noted first: then
// it is no damage that they are not there.
func (h *held) useUp() error {
	h.closePart()
	yes, now := true, time.Now().Round(0)
	if err := h.d.note(h.e, change{Published: &yes, Touched: now}, true); err != nil {
		return err
	}
	r := &h.e.rec
	h.d.mu.Lock()
	r.Published, r.Touched = yes, now
	h.d.finished(h.e)
	h.d.mu.Unlock()
	return h.d.hidden.Remove(r.ID)
}

// rename renames the data file to the target, unless it was renamed before.
func (h *held) rename(to *dest) error {
	r := &h.e.rec
	err := to.take(h.d.hidden, r.ID, r.Overwrite)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		// Renamed, and then its directory could not be made durable.
		if at, lerr := to.lookup(); lerr == nil && at.id == r.File && at.size == r.Size {
			return nil
		}
		return err
	case errors.Is(err, fs.ErrExist):
		if at, lerr := to.lookup(); lerr == nil && at.dir {
			return fmt.Errorf("%w: %s: %w", ErrTarget, r.Target, syscall.EISDIR)
		}
		return ErrExists
	}
	return targetError(r.Target, err)
}

// Remove deletes the session, as Session says. After a power loss it may be there again; it then
// expires like any other.
func (h *held) Remove(context.Context) error {
	h.closePart()
	h.d.mu.Lock()
	if !h.removed {
		h.d.drop(h.e)
		h.removed = true
	}
	h.d.mu.Unlock()
	return h.wrap("remove", h.d.removeFiles(h.e))
}

// removeFiles deletes what a session has below Hidden.
func (d *Dir) removeFiles(e *entry) error {
	r := &e.rec
	err := d.hidden.Remove(r.ID + recordExt)
	if r.Whole && errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if derr := d.hidden.Remove(r.ID); derr != nil && !errors.Is(derr, fs.ErrNotExist) {
		err = errors.Join(err, derr)
	}
	return err
}

func (h *held) Release() {
	h.closePart()
	e := h.e
	if e.rec.Whole && !h.removed {
		if err := h.Remove(context.Background()); err != nil {
			h.d.log.Warn("upload is left over", "session", e.rec.ID, "reason", err)
		}
	}
	if e.dirty && !h.removed && !e.rec.Published {
		if err := h.d.note(e, change{}, true); err != nil {
			h.d.log.Error("last bytes of an upload may have to come again", "session", e.rec.ID, "reason", err)
		}
	}
	h.d.mu.Lock()
	e.holder = nil
	h.d.mu.Unlock()
	h.cancel(nil)
	close(h.done)
}
