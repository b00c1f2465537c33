package bucket

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// held is a session that a request has.
type held struct {
	b      *Bucket
	id     string
	whole  bool // Spec.Whole
	token  string
	ctx    context.Context // the holder's; ends when it has to leave
	cancel context.CancelCauseFunc
	// life is what the holder writes under also when its client is gone; it ends when the session is
	// released, or is not ours any more.
	life context.Context
	end  context.CancelCauseFunc
	done chan struct{} // closed when it is released
	kept chan struct{} // closed when nobody renews the lease any more

	mu    sync.Mutex // guards the rest
	rec   record
	etag  string    // of the record
	saved time.Time // before it was written

	// removed says that there is no record any more.
	removed bool
}

var _ session.Session = (*held)(nil)

func (h *held) Info() session.Info { return h.record().Info }

// record returns a copy; what it points to is never changed.
func (h *held) record() record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rec
}

func (h *held) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	if h.life.Err() != nil && !errors.Is(err, session.ErrTaken) {
		err = fmt.Errorf("%w: %w", context.Cause(h.life), err)
	}
	return fmt.Errorf("%s upload %s: %w", doing, h.id, err)
}

func (h *held) SetSize(_ context.Context, size int64) error {
	r := h.record()
	switch {
	case r.Size == size:
		return nil
	case r.Size >= 0:
		return h.wrap("set the size of", session.ErrSizeChanged)
	case size < r.Offset || r.Limit >= 0 && size > r.Limit:
		return h.wrap("set the size of", session.ErrTooLarge)
	}
	return h.wrap("set the size of", h.save(h.life, func(r *record) { r.Size = size }))
}

func (h *held) SetState(_ context.Context, state json.RawMessage) error {
	return h.wrap("keep the state of", h.save(h.life, func(r *record) { r.State = state }))
}

// Append adds bytes, as Session says. They count with the record, which is written after every part
// and at the end.
func (h *held) Append(ctx context.Context, r io.Reader) (int64, error) {
	was := h.record()
	if was.Published {
		return 0, h.wrap("append to", session.ErrTooLarge)
	}
	err := h.fill(ctx, r)
	return h.Info().Offset - was.Offset, h.wrap("append to", err)
}

func (h *held) fill(ctx context.Context, r io.Reader) error {
	rec := h.record()
	most := rec.Size
	if most < 0 {
		most = rec.Limit
	}
	var buf []byte
	defer func() { h.b.memory.Add(-int64(cap(buf))) }()
	for {
		rec := h.record()
		room := rec.partSize() - sum(rec.Pieces) - int64(len(buf))
		if most >= 0 {
			room = min(room, most-rec.Offset-int64(len(buf)))
		}
		full := room <= 0
		if !full && len(buf) == cap(buf) {
			var grown []byte
			if grown, full = h.grow(buf, room); !full {
				buf = grown
			}
		}
		if full {
			if err := h.add(buf); err != nil {
				return err
			}
			buf = buf[:0]
			if most >= 0 && h.Info().Offset >= most {
				return session.AtEnd(r)
			}
			continue
		}
		var n int
		err := cmp.Or(context.Cause(ctx), context.Cause(h.ctx))
		if err == nil {
			n, err = r.Read(buf[len(buf):min(int64(cap(buf)), int64(len(buf))+room)])
			buf = buf[:len(buf)+n]
		}
		if err != nil {
			if err = cmp.Or(context.Cause(ctx), context.Cause(h.ctx), err); errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, h.add(buf))
		}
	}
}

// grow returns buf with more room. full says that there is no memory for it; buf has some bytes then.
func (h *held) grow(buf []byte, room int64) (grown []byte, full bool) {
	const first = 64 << 10
	size := max(first, min(2*int64(cap(buf)), int64(len(buf))+room))
	if h.b.memory.Add(size) > budget && len(buf) > 0 {
		h.b.memory.Add(-size)
		return nil, true
	}
	h.b.memory.Add(-int64(cap(buf)))
	return append(make([]byte, 0, size), buf...), false
}

// add makes data, which follows what is there, durable and counts it: as a part if there is enough
// for one, else as a piece.
func (h *held) add(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if err := h.sure(); err != nil {
		return err
	}
	rec := h.record()
	offset := rec.Offset + int64(len(data))
	joined := sum(rec.Pieces) + int64(len(data))
	last := offset == rec.Size && rec.Upload != ""
	old := rec.Pieces
	if joined >= rec.partSize() || last || len(old) >= mostPieces {
		before, err := h.b.readAll(h.life, old)
		if err != nil {
			return err
		}
		data = append(before, data...)
		old = nil
	}
	var p part
	var err error
	big := (joined >= rec.partSize() || last) && !rec.staged()
	if big {
		p, err = h.putPart(data)
	} else {
		p, err = h.putPiece(data)
	}
	if err != nil {
		return err
	}
	err = h.save(h.life, func(r *record) {
		switch {
		case big, joined >= r.partSize():
			r.Parts, r.Pieces = slices.Concat(r.Parts, []part{p}), nil
		default:
			r.Pieces = slices.Concat(old, []part{p})
		}
		r.Offset, r.Touched = offset, time.Now().Round(0)
	})
	if err == nil && len(old) == 0 {
		h.drop(rec.Pieces)
	}
	return err
}

// drop deletes objects that no record speaks of any more. Those that stay go with the session.
func (h *held) drop(objects []part) {
	for _, p := range objects {
		if p.Key != "" {
			_ = h.b.delete(h.life, p.Key)
		}
	}
}

// putPart makes data the next part of the target's multipart upload, which it begins if need be.
func (h *held) putPart(data []byte) (part, error) {
	r := h.record()
	if r.Upload == "" {
		upload, err := h.b.begin(h.life, h.b.target(&r), r.ID)
		if err != nil {
			return part{}, err
		}
		if err := h.save(h.life, func(r *record) { r.Upload = upload }); err != nil {
			return part{}, errors.Join(err, h.b.abort(h.life, h.b.target(&r), upload))
		}
		r.Upload = upload
	}
	etag, err := h.b.putPart(h.life, h.b.target(&r), r.Upload, len(r.Parts)+1, data)
	return part{Size: int64(len(data)), ETag: etag}, err
}

// putPiece makes data an object. Its name is its own, so that one who lost the session without having
// noticed does no harm.
func (h *held) putPiece(data []byte) (part, error) {
	key := h.b.dir(h.id) + session.NewID()
	_, err := h.b.put(h.life, key, data, condition{absent: true}, nil)
	return part{Size: int64(len(data)), Key: key}, err
}

// readAll returns the bytes of objects.
func (b *Bucket) readAll(ctx context.Context, objects []part) ([]byte, error) {
	data := make([]byte, 0, sum(objects))
	for _, p := range objects {
		o, _, _, err := b.get(ctx, p.Key, p.Size)
		if err != nil {
			return nil, err
		}
		if int64(len(o)) != p.Size {
			return nil, fmt.Errorf("%s has %d bytes instead of %d", p.Key, len(o), p.Size)
		}
		data = append(data, o...)
	}
	return data, nil
}

// Open reads the bytes, as Session says. Those of an upload that has a target and is not staged can be
// read once it is published, and before as long as they are less than a part.
func (h *held) Open(ctx context.Context) (io.ReadSeekCloser, error) {
	r := h.record()
	objects := slices.Concat(r.Parts, r.Pieces)
	switch {
	case r.Published && r.Target == "":
		return nil, h.wrap("read", fmt.Errorf("its bytes were used: %w", session.ErrNotFound))
	case r.Published:
		id, err := h.b.publisher(ctx, h.b.target(&r))
		if err == nil && id != r.ID {
			err = fmt.Errorf("%s was replaced", r.Target)
		}
		if err != nil {
			return nil, h.wrap("read", err)
		}
		objects = []part{{Size: r.Size, Key: h.b.target(&r)}}
	case len(r.Parts) > 0 && !r.staged():
		return nil, h.wrap("read", fmt.Errorf("before it is published: %w", errors.ErrUnsupported))
	}
	return &reader{ctx: ctx, b: h.b, objects: objects, size: r.Offset}, nil
}

// Publish makes the target appear, as Session says.
func (h *held) Publish(context.Context) error { return h.wrap("publish", h.publish()) }

func (h *held) publish() error {
	r := h.record()
	switch {
	case r.Published:
		return nil
	case r.Size < 0 || r.Offset != r.Size:
		return session.ErrIncomplete
	}
	if err := h.sure(); err != nil {
		return err
	}
	if r.Target == "" {
		return h.published(&r) // its bytes were used
	}
	if err := h.appear(); err != nil {
		if !errors.Is(err, errChanged) && !errors.Is(err, errGone) && !errors.Is(err, errBroken) {
			return err
		}
		// Perhaps it was ourselves, and the answer to it was lost.
		id, perr := h.b.publisher(h.life, h.b.target(&r))
		switch {
		case perr == nil && id == r.ID:
		case perr == nil && !r.Overwrite:
			return session.ErrExists
		case errors.Is(err, errBroken) && !r.staged() && (perr == nil || errors.Is(perr, errGone)):
			// Somebody aborted it, such as a lifecycle rule. No try ends otherwise, so the client begins again.
			return fmt.Errorf("%w: %w", session.ErrNotFound, errors.Join(err, h.Remove(h.life)))
		default:
			return err
		}
	}
	return h.published(&r)
}

// published notes that the session's bytes are in its target, or were used, and deletes what it has of
// them. was is the record before.
func (h *held) published(was *record) error {
	objects := slices.Concat(was.Parts, was.Pieces)
	err := h.save(h.life, func(r *record) {
		r.Published, r.Touched = true, time.Now().Round(0)
		r.Upload, r.Parts, r.Pieces = "", nil, nil
	})
	if err == nil {
		h.drop(objects)
	}
	return err
}

// appear writes the target in one step, of which the last request is the one that counts.
func (h *held) appear() error {
	r := h.record()
	key, c := h.b.target(&r), condition{absent: !r.Overwrite}
	objects := slices.Concat(r.Parts, r.Pieces)
	switch {
	case len(r.Parts) == 0 && !r.staged() || r.staged() && r.Size < smallestPart:
		data, err := h.b.readAll(h.life, objects)
		if err == nil {
			_, err = h.b.put(h.life, key, data, c, map[string]string{sessionMark: r.ID})
		}
		if err == nil && r.Upload != "" { // begun, and then its first part failed
			err = h.b.abort(h.life, key, r.Upload)
		}
		return err
	case r.staged():
		if r.Upload != "" { // of a try before
			if err := h.b.abort(h.life, key, r.Upload); err != nil {
				return err
			}
		}
		upload, err := h.b.begin(h.life, key, r.ID)
		if err != nil {
			return err
		}
		if err := h.save(h.life, func(r *record) { r.Upload = upload }); err != nil {
			return err
		}
		parts, err := h.b.compose(h.life, key, upload, objects)
		if err != nil {
			return err
		}
		return h.b.complete(h.life, key, upload, parts, c)
	}
	if len(r.Pieces) > 0 {
		data, err := h.b.readAll(h.life, r.Pieces)
		if err != nil {
			return err
		}
		p, err := h.putPart(data)
		if err != nil {
			return err
		}
		r.Parts = slices.Concat(r.Parts, []part{p})
	}
	return h.b.complete(h.life, key, r.Upload, r.Parts, c)
}

// Remove deletes the session, as Session says.
func (h *held) Remove(context.Context) error {
	if err := h.sure(); err != nil {
		return h.wrap("remove", err)
	}
	r := h.record()
	var err error
	if r.Upload != "" && !r.Published {
		err = h.b.abort(h.life, h.b.target(&r), r.Upload)
	}
	if err == nil {
		h.mu.Lock() // nobody renews the lease of what is gone
		err = h.b.clear(h.life, r.ID)
		h.removed = err == nil
		h.mu.Unlock()
	}
	return h.wrap("remove", err)
}

func (h *held) Release() {
	if h.whole {
		if !h.removed && !h.record().Published {
			if err := h.Remove(h.life); err != nil {
				h.b.log.Warn("upload is left over", "session", h.id, "reason", err)
			}
		}
	} else if h.life.Err() == nil {
		ctx, cancel := context.WithTimeout(h.life, lease)
		if err := h.save(ctx, func(r *record) { r.Holder = "" }); err != nil {
			h.b.log.Warn("upload session is not free before its lease ends", "session", h.id, "reason", err)
		}
		cancel()
	}
	h.end(nil)
	<-h.kept
	h.b.mu.Lock()
	delete(h.b.here, h.id)
	delete(h.b.whole, h.id)
	h.b.mu.Unlock()
	h.cancel(nil)
	close(h.done)
}

// reader reads objects as if they were one.
type reader struct {
	ctx     context.Context
	b       *Bucket
	objects []part
	size    int64
	at      int64
	body    io.ReadCloser // of the object at at; nil if none is open
	rest    int64         // of body
}

func (r *reader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.body == nil {
		from := r.at
		for _, o := range r.objects {
			if from < o.Size {
				body, err := r.b.getRange(r.ctx, o.Key, from, o.Size-from)
				if err != nil {
					return 0, err
				}
				r.body, r.rest = body, o.Size-from
				break
			}
			from -= o.Size
		}
	}
	n, err := r.body.Read(p[:min(int64(len(p)), r.rest)])
	r.at += int64(n)
	r.rest -= int64(n)
	switch {
	case r.rest == 0:
		err = r.Close()
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *reader) Seek(offset int64, whence int) (int64, error) {
	// The standard library knows the rules; it never reads.
	at, err := io.NewSectionReader(bytes.NewReader(nil), 0, r.size).Seek(offset, whence)
	if whence == io.SeekCurrent {
		at, err = r.at+offset, nil
		if at < 0 {
			return 0, errors.New("seek before the beginning")
		}
	}
	if err != nil {
		return 0, err
	}
	if at != r.at {
		_ = r.Close()
		r.at = at
	}
	return at, nil
}

func (r *reader) Close() error {
	if r.body == nil {
		return nil
	}
	body := r.body
	r.body = nil
	return body.Close()
}
