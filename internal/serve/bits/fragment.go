package bits

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/serve/front"
	"github.com/ebbtransfer/ebb/internal/serve/record"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// fragment answers a Fragment: bytes that are here already are skipped, those that follow are
// kept, and a gap is refused (server.md 1.8). Any answer but an error tells the next offset.
func (h *handler) fragment(ctx context.Context, w http.ResponseWriter, r *http.Request, s session.Session, st state, req bupwire.Request) bupwire.Ack {
	if err := s.SetSize(ctx, req.Range.Total); err != nil {
		return h.failed(r, err)
	}
	info := s.Info()
	a := ack(session.GUID(info.ID))
	if info.Offset < info.Size {
		if req.Range.First > info.Offset || req.Range.Last < info.Offset {
			a.Status, a.Received = http.StatusRequestedRangeNotSatisfiable, info.Offset
			a.Context = bits.ContextRemoteFile // [MC-BUP] wants an error code here too, and that it is 0
			return a
		}
		if err := receive(ctx, w, r, s, req.Range); err != nil {
			return h.failed(r, err)
		}
		if a.Received = s.Info().Offset; a.Received < info.Size {
			return a
		}
	}
	// All bytes are here, now or since an earlier request whose answer was lost.
	return h.finish(r, s, st)
}

// receive appends the bytes of a fragment that are not here yet. It returns no error if the body
// ends early, for whatever reason that does not lie with the store: what came is kept.
func receive(ctx context.Context, w http.ResponseWriter, r *http.Request, s session.Session, rng bupwire.Range) error {
	content, stop := front.Content(ctx, w, r)
	defer stop()
	offset := s.Info().Offset
	_, err := io.CopyN(io.Discard, content, offset-rng.First)
	if err == nil {
		// A body without a length may be longer than its range says.
		_, err = s.Append(ctx, io.LimitReader(content, rng.Last-offset+1))
	}
	var early *front.ReadError
	if errors.As(err, &early) || errors.Is(err, io.EOF) || ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		w.Header().Set("Connection", "close")
		return nil
	}
	return err
}

// finish does what has to be done before a whole upload may be acknowledged, if it is not done yet,
// and answers the last fragment. It goes on also if the client hangs up.
func (h *handler) finish(r *http.Request, s session.Session, st state) bupwire.Ack {
	ctx := context.WithoutCancel(r.Context())
	switch {
	case st.Refused:
		record.Why(ctx, "the application refused the upload before")
		return refusedByApplication(http.StatusForbidden)
	case !st.Delivered && h.p.Notify != session.NotifyNone && !s.Info().Published:
		var refusal *bupwire.Ack
		var err error
		if st, refusal, err = h.deliver(ctx, r, s); err != nil {
			return h.failed(r, err)
		}
		// What comes after this cannot be asked of the application again.
		if st != (state{}) {
			if err := st.keep(ctx, s); err != nil {
				return h.failed(r, err)
			}
		}
		if refusal != nil {
			return *refusal
		}
	}
	if !s.Info().Published && (!st.Delivered || st.Copy) {
		if err := s.Publish(ctx); err != nil {
			return h.failed(r, err)
		}
		h.p.Log.Info("upload published", "target", s.Info().Target, "bytes", s.Info().Size)
	}
	a := ack(session.GUID(s.Info().ID))
	a.Received = s.Info().Size
	if a.ReplyURL = st.ReplyURL; st.Reply != "" {
		a.ReplyURL = h.replyURL(r, st.Reply)
	}
	return a
}
