// Package put receives uploads in one PUT request. There is nothing to resume, but the rest is as
// with every upload: the file appears whole and durable, or not at all.
package put

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/ebbtransfer/ebb/internal/serve/files"
	"github.com/ebbtransfer/ebb/internal/serve/front"
	"github.com/ebbtransfer/ebb/internal/serve/record"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// New returns the front end for a prefix. The group's files, nil where a bucket is behind it, tell
// what is there now.
func New(p *session.Prefix, source files.Source) http.Handler { return &handler{p, source} }

type handler struct {
	*session.Prefix
	files files.Source
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	existed, err := h.receive(w, r)
	var no *refusal
	switch {
	case err == nil && existed:
		w.WriteHeader(http.StatusNoContent)
	case err == nil:
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusCreated)
	case errors.As(err, &no):
		record.Why(r.Context(), "%s", no.reason)
		http.Error(w, no.reason, no.status)
	default:
		status, text := h.answerTo(err)
		record.Why(r.Context(), "%v", err)
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "60")
		}
		if status == http.StatusRequestEntityTooLarge {
			w.Header().Set("Upload-Limit", front.Limit(h.Prefix, h.SessionTimeout))
		}
		http.Error(w, text, status)
	}
}

// refusal is an answer to a request that is refused for what it says.
type refusal struct {
	status int
	reason string
}

func (e *refusal) Error() string { return e.reason }

// answerTo returns the status for an error of the store and words for the client. That the target
// exists is final, as with BITS; 409 would tell a client of BITS's rules to try again.
func (h *handler) answerTo(err error) (status int, text string) {
	for _, m := range []struct {
		err    error
		status int
	}{
		{session.ErrExists, http.StatusForbidden},
		{session.ErrTooLarge, http.StatusRequestEntityTooLarge},
		{session.ErrTarget, http.StatusNotFound},
		{session.ErrTooMany, http.StatusServiceUnavailable},
		{session.ErrBusy, http.StatusServiceUnavailable},
		{session.ErrNoSpace, http.StatusInsufficientStorage},
		{context.Canceled, http.StatusBadRequest}, // nobody is there to read it, but the log tells
		{os.ErrDeadlineExceeded, http.StatusRequestTimeout},
	} {
		if errors.Is(err, m.err) {
			return m.status, front.Words(h.Prefix, m.err, err)
		}
	}
	var broke *front.ReadError
	if errors.As(err, &broke) {
		return http.StatusBadRequest, "the request's content did not arrive whole"
	}
	return http.StatusInternalServerError, "the server could not store the upload"
}

// receive makes the file of the request, and reports whether there was one before.
func (h *handler) receive(w http.ResponseWriter, r *http.Request) (existed bool, err error) {
	target := strings.TrimPrefix(r.URL.Path, h.Path)
	if target == "" || strings.HasSuffix(target, "/") {
		return false, &refusal{http.StatusBadRequest, "the URL names a directory, not a file"}
	}
	if r.Header.Get("Content-Range") != "" { // RFC 9110, 14.5
		return false, &refusal{http.StatusBadRequest, "a part of a file cannot be put"}
	}
	tag, existed, err := h.current(r, target)
	if err != nil {
		return false, err
	}
	if err := matches(r.Header, tag, existed); err != nil {
		return existed, err
	}
	spec := session.Spec{
		Protocol: "put", Target: target, URL: r.URL.Path, Principal: session.Principal(r.Context()),
		Size: r.ContentLength, Limit: h.MaxSize, Overwrite: h.Overwrite && r.Header.Get("If-None-Match") != "*",
		Whole: true, // nobody can go on with it, so nothing of it is to survive a crash
	}
	// Whatever happens to the client now, the session comes to an end.
	keep := context.WithoutCancel(r.Context())
	info, err := h.Store.Create(r.Context(), spec)
	if err != nil {
		return existed, h.conflict(r, err)
	}
	ctx, s, err := h.Store.Acquire(r.Context(), info.ID, session.Who{Principal: spec.Principal, URL: spec.URL})
	if err != nil {
		return existed, err
	}
	defer s.Release()
	content, stop := front.Content(ctx, w, r)
	err = h.fill(ctx, s, r, content)
	stop()
	if err == nil {
		// Somebody else may have been here while the bytes came.
		if tag, existed, err = h.current(r, target); err == nil {
			err = matches(r.Header, tag, existed)
		}
	}
	if err == nil {
		err = h.conflict(r, s.Publish(keep))
	}
	if rerr := s.Remove(keep); rerr != nil {
		if h.Log.Warn("a finished upload could not be cleared away", "id", info.ID, "err", rerr); err == nil {
			return existed, nil // the next cleaning does it
		}
	}
	return existed, err
}

// fill takes in the body.
func (h *handler) fill(ctx context.Context, s session.Session, r *http.Request, content io.Reader) error {
	n, err := s.Append(ctx, content)
	if err != nil {
		return err
	}
	if r.ContentLength < 0 {
		return s.SetSize(ctx, n)
	}
	return nil
}

// conflict tells that the target exists in the way that the request asked for.
func (h *handler) conflict(r *http.Request, err error) error {
	if errors.Is(err, session.ErrExists) && r.Header.Get("If-None-Match") == "*" {
		return &refusal{http.StatusPreconditionFailed, "the file exists"}
	}
	return err
}

// current returns the entity tag of what is there; in a bucket the store alone can tell.
func (h *handler) current(r *http.Request, target string) (tag string, exists bool, err error) {
	if h.files == nil || !fs.ValidPath(target) {
		return "", false, nil
	}
	file, err := h.files.Open(target)
	if err != nil { // whatever it is, the store says what is wrong with the target
		return "", false, nil
	}
	defer func() { _ = file.Close() }()
	if r.Header.Get("If-Match") != "" {
		tag, err = files.ETag(r, file)
	}
	return tag, true, err
}

// matches checks If-Match and If-None-Match.
func matches(head http.Header, tag string, exists bool) error {
	if want := head.Get("If-Match"); want != "" {
		found := exists && want == "*"
		for t := range strings.SplitSeq(want, ",") {
			found = found || exists && strings.TrimSpace(t) == tag && !strings.HasPrefix(tag, "W/")
		}
		if !found {
			return &refusal{http.StatusPreconditionFailed, "the file is not the one that the request names"}
		}
	}
	switch head.Get("If-None-Match") {
	case "":
	case "*":
		if exists {
			return &refusal{http.StatusPreconditionFailed, "the file exists"}
		}
	default:
		return &refusal{http.StatusBadRequest, "of If-None-Match only * is understood here"}
	}
	return nil
}
