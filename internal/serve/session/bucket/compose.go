package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// largestCopy is how much one request copies; S3 takes 5 GiB.
const largestCopy = 1 << 30

// compose makes parts of a multipart upload of the bytes of objects in their order. The storage copies
// what is long enough for parts; the rest goes through this process.
func (b *Bucket) compose(ctx context.Context, key, upload string, objects []part) ([]part, error) {
	var parts []part
	var buf []byte // less than a part, before what follows
	flush := func() error {
		etag, err := b.putPart(ctx, key, upload, len(parts)+1, buf)
		parts = append(parts, part{Size: int64(len(buf)), ETag: etag})
		buf = buf[:0]
		return err
	}
	for _, o := range objects {
		for from := int64(0); from < o.Size; {
			rest := o.Size - from
			if len(buf) == 0 && rest >= smallestPart {
				n := min(rest, largestCopy)
				etag, err := b.copyPart(ctx, key, upload, len(parts)+1, o.Key, from, n)
				if err != nil {
					return nil, err
				}
				parts = append(parts, part{Size: n, ETag: etag})
				from += n
				continue
			}
			n := min(rest, smallestPart-int64(len(buf)))
			had := len(buf)
			buf = append(buf, make([]byte, n)...)
			if err := b.readRange(ctx, o.Key, from, buf[had:]); err != nil {
				return nil, err
			}
			from += n
			if len(buf) >= smallestPart {
				if err := flush(); err != nil {
					return nil, err
				}
			}
		}
	}
	if len(buf) > 0 {
		if err := flush(); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// readRange reads the bytes of an object that begin at from.
func (b *Bucket) readRange(ctx context.Context, key string, from int64, to []byte) error {
	ctx, cancel := patiently(ctx, int64(len(to)))
	defer cancel()
	body, err := b.getRange(ctx, key, from, int64(len(to)))
	if err != nil {
		return err
	}
	_, err = io.ReadFull(body, to)
	if err = errors.Join(err, body.Close()); err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return nil
}

// Concat makes a session of the bytes of parts, as Store says. The storage copies them.
func (b *Bucket) Concat(ctx context.Context, spec session.Spec, parts []string) (session.Info, error) {
	r, err := b.concat(ctx, spec, parts)
	if err != nil {
		return session.Info{}, fmt.Errorf("concatenate uploads: %w", err)
	}
	return r.Info, nil
}

func (b *Bucket) concat(ctx context.Context, spec session.Spec, parts []string) (*record, error) {
	had := map[string][]part{} // one may come twice
	var objects []part
	for _, id := range parts {
		of, ok := had[id]
		if !ok {
			h, err := b.take(ctx, id, func(r *record) bool { return r.Allows(session.Who{Principal: spec.Principal}) }, takeover)
			if err != nil {
				return nil, err
			}
			defer h.Release()
			ctx = h.ctx // ends when any of the parts is wanted by somebody else
			r := h.record()
			switch {
			case r.Size < 0 || r.Offset != r.Size:
				return nil, session.ErrIncomplete
			case r.Published && r.Target == "": // used up
				return nil, session.ErrNotFound
			case r.Published:
				of = []part{{Size: r.Size, Key: b.target(&r)}}
			case !r.staged() && len(r.Parts) > 0:
				return nil, fmt.Errorf("of %s, which is not published: %w", id, errors.ErrUnsupported)
			default:
				of = slices.Concat(r.Parts, r.Pieces)
			}
			had[id] = of
		}
		objects = append(objects, of...)
	}
	total := sum(objects)
	if spec.Size >= 0 && spec.Size != total {
		return nil, session.ErrSizeChanged
	}
	if spec.Target == "" {
		return nil, fmt.Errorf("%w: it has no name", session.ErrTarget)
	}
	spec.Size, spec.Whole, spec.Staged = total, false, false
	r, err := b.newRecord(ctx, spec)
	if err != nil {
		return nil, err
	}
	r.Offset = total
	if total < smallestPart {
		data, err := b.readAll(ctx, objects)
		if err != nil {
			return nil, err
		}
		p := part{Size: total, Key: b.dir(r.ID) + session.NewID()}
		if _, err := b.put(ctx, p.Key, data, condition{absent: true}, nil); err != nil {
			return nil, err
		}
		r.Pieces = []part{p}
	} else {
		if r.Upload, err = b.begin(ctx, b.target(r), r.ID); err != nil {
			return nil, err
		}
		if r.Parts, err = b.compose(ctx, b.target(r), r.Upload, objects); err != nil {
			return nil, errors.Join(err, b.abort(context.WithoutCancel(ctx), b.target(r), r.Upload))
		}
	}
	if _, err := b.put(ctx, b.recordKey(r.ID), r.encode(), condition{absent: true}, nil); err != nil {
		return nil, err
	}
	return r, nil
}
