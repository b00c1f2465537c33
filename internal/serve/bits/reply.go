package bits

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/ebbtransfer/ebb/internal/serve/front"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// The place of replies below a prefix, as IIS has it: BITS-Sessions/Replies/{GUID}/responsefile.bin.
const (
	repliesDir = session.BITSSessions + "/Replies/"
	replyName  = "/responsefile.bin"
)

// A reply is kept in a session of its own, which belongs to the uploader and has no target: it is then
// as durable as an upload, is there on every node that shares the store, and expires like any other.

// replyOf identifies the owner of a reply to the store. All replies below a prefix have one URL there,
// since the id that tells them apart is not known before the session is made. Their owner is not
// quite the uploader: where he may have only so many sessions, and has them, none of them could end. No
// uploader has such a name: access refuses it.
func (h *handler) replyOf(principal string) session.Who {
	return session.Who{Principal: principal + "\x00:replies", URL: h.p.Path + repliesDir}
}

// reply is a reply that is being written.
type reply struct {
	ctx  context.Context
	s    session.Session
	kept bool
}

// newReply makes room for a reply to principal. Its end must be called.
func (h *handler) newReply(ctx context.Context, principal string) (*reply, error) {
	who := h.replyOf(principal)
	info, err := h.p.Store.Create(ctx, session.Spec{Protocol: "bits", URL: who.URL, Principal: who.Principal, Size: -1, Limit: -1})
	if err != nil {
		return nil, err
	}
	ctx, s, err := h.p.Store.Acquire(ctx, info.ID, who)
	if err != nil {
		return nil, err
	}
	return &reply{ctx: ctx, s: s}, nil
}

// fill takes in the reply and returns the id of its session; empty if r has no bytes. The error is
// that of r or that of the store.
func (p *reply) fill(r io.Reader) (id string, err error) {
	n, err := p.s.Append(p.ctx, r)
	if err != nil || n == 0 {
		return "", err
	}
	if err := p.s.SetSize(p.ctx, n); err != nil {
		return "", err
	}
	p.kept = true
	return p.s.Info().ID, nil
}

// end gives up the session, which is removed unless it has a reply.
func (p *reply) end(h *handler) {
	if !p.kept {
		if err := p.s.Remove(context.WithoutCancel(p.ctx)); err != nil {
			h.p.Log.Warn("the room for a reply is left over", "err", err) // until it expires
		}
	}
	p.s.Release()
}

// removeReply deletes a reply, if it is still there.
func (h *handler) removeReply(ctx context.Context, id, principal string) error {
	_, s, err := h.p.Store.Acquire(ctx, id, h.replyOf(principal))
	if errors.Is(err, session.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Release()
	return s.Remove(ctx)
}

// replyURL returns the URL of a reply as the client should use it: whole, and escaped, unless a
// proxy is in between that may have changed the host or undone the TLS.
func (h *handler) replyURL(r *http.Request, id string) string {
	u := url.URL{Path: h.p.Path + repliesDir + session.GUID(id) + replyName}
	if h.p.PublicURL == "" && front.Proxied(r) {
		return u.EscapedPath()
	}
	return h.publicURL(r) + u.EscapedPath()
}

// publicURL returns the scheme and the host that the client used.
func (h *handler) publicURL(r *http.Request) string {
	if h.p.PublicURL != "" {
		return h.p.PublicURL
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// serveReply answers GET and HEAD of a reply, with ranges, to the uploader alone.
func (h *handler) serveReply(w http.ResponseWriter, r *http.Request) {
	f, info, err := h.openReply(r)
	if err != nil {
		status := http.StatusNotFound
		if !errors.Is(err, session.ErrNotFound) {
			status = h.failed(r, err).Status
		}
		http.Error(w, http.StatusText(status), status)
		return
	}
	defer f.Close()
	head := w.Header()
	head.Set("Content-Type", "application/octet-stream")
	head.Set("Content-Disposition", "attachment")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Cache-Control", "private, no-cache")
	head.Set("ETag", `"`+info.Created.UTC().Format("20060102150405.000000000")+`"`)
	http.ServeContent(w, r, "", info.Created, f)
}

// openReply opens the reply that a request asks for.
func (h *handler) openReply(r *http.Request) (io.ReadSeekCloser, session.Info, error) {
	guid, ok := strings.CutPrefix(r.URL.Path, h.p.Path+repliesDir)
	if ok {
		guid, ok = strings.CutSuffix(guid, replyName)
	}
	id, ok2 := session.ParseGUID(guid)
	if !ok || !ok2 {
		return nil, session.Info{}, session.ErrNotFound
	}
	ctx, s, err := h.p.Store.Acquire(r.Context(), id, h.replyOf(session.Principal(r.Context())))
	if err != nil {
		return nil, session.Info{}, err
	}
	// It does not change any more, so that many requests at once may read it.
	defer s.Release()
	info := s.Info()
	if info.Size < 0 {
		return nil, info, session.ErrNotFound // still being written, or left over from a crash
	}
	f, err := s.Open(context.WithoutCancel(ctx))
	return f, info, err
}
