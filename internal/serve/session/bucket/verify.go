package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// small is how many bytes are kept in memory until they are verified. What clients send in practice to
// be verified is larger and goes to the bucket.
const small = 256 << 10

// AppendVerified adds bytes that were verified, as Session says. What is in a part cannot be taken back, so they
// are kept apart before.
func (h *held) AppendVerified(ctx context.Context, r io.Reader, verify func() error) error {
	i := h.Info()
	if i.Published {
		return h.wrap("append to", session.ErrTooLarge)
	}
	room := int64(-1)
	for _, end := range []int64{i.Size, i.Limit} {
		if end >= 0 && (room < 0 || end-i.Offset < room) {
			room = end - i.Offset
		}
	}
	// Receiving ends also if a newer request wants this session.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.ctx, func() { cancel(context.Cause(h.ctx)) })()

	var head bytes.Buffer
	switch _, err := io.CopyN(&head, r, small); {
	case err != nil && !errors.Is(err, io.EOF):
		return h.wrap("append to", err)
	case room >= 0 && int64(head.Len()) > room:
		return h.wrap("append to", session.ErrTooLarge)
	case err != nil: // that was all
		return h.addVerified(ctx, bytes.NewReader(head.Bytes()), verify)
	}
	whole, err := h.b.spool(ctx, i.Principal, room, io.MultiReader(&head, r))
	if err != nil {
		return h.wrap("append to", err)
	}
	defer whole.Close() // what it leaves is logged
	return h.addVerified(ctx, whole, verify)
}

func (h *held) addVerified(ctx context.Context, whole io.Reader, verify func() error) error {
	if err := verify(); err != nil {
		return h.wrap("append to", err)
	}
	_, err := h.Append(ctx, whole)
	return err
}

// spool keeps what r brings in a session of its own that nobody knows, without a target: it is counted
// and limited as every upload is. The caller closes it.
func (b *Bucket) spool(ctx context.Context, principal string, room int64, r io.Reader) (io.ReadCloser, error) {
	info, err := b.Create(ctx, session.Spec{Protocol: "held", Principal: principal, Size: -1, Limit: room, Whole: true})
	if err != nil {
		return nil, fmt.Errorf("keep what is to be verified: %w", err)
	}
	_, s, err := b.Acquire(ctx, info.ID, session.Who{Principal: principal})
	if err != nil {
		return nil, fmt.Errorf("keep what is to be verified: %w", err)
	}
	f := &spooled{ctx: context.WithoutCancel(ctx), s: s}
	if _, err = s.Append(ctx, r); err == nil {
		f.ReadSeekCloser, err = s.Open(f.ctx)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

type spooled struct {
	io.ReadSeekCloser // nil until it was received
	ctx               context.Context
	s                 session.Session
}

func (f *spooled) Close() error {
	defer f.s.Release()
	if f.ReadSeekCloser != nil {
		_ = f.ReadSeekCloser.Close()
	}
	return f.s.Remove(f.ctx)
}
