// Package ietf is the front end for "Resumable Uploads for HTTP"
// (draft-ietf-httpbis-resumable-upload, interop version 8). Numbers in comments are sections of the
// draft's editor's copy of July 2026.
//
// A file is made by POST or PUT to its own URL, or to the URL of its directory (with a slash at its
// end) with a file name in Content-Disposition. It appears once a request said that it completes the
// upload, and all of that request arrived.
package ietf

import (
	"context"
	"errors"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/front"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

const (
	protocol       = "ietf" // of sessions
	interop        = 8
	partialContent = "application/partial-upload"

	statusResumptionSupported = 104

	// progress is often enough for a person who watches, and for a client that lost its connection;
	// every time costs a flush of the disk.
	progress = 5 * time.Second
)

// The front end's metadata of a session: headers, as the client sent them.
const (
	digestHeader     = "Repr-Digest"
	wantDigestHeader = "Want-Repr-Digest"
)

// handler is the front end of one prefix.
type handler struct {
	*session.Prefix
	// every is how often what arrived is made durable, of which a client hears.
	every time.Duration
}

// New returns the front end of the prefix p.
func New(p *session.Prefix) http.Handler { return handler{p, progress} }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if front.CORS(h.Prefix, w, r) {
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := h.serve(w, r); err != nil {
		h.fail(w, r, err)
	}
}

// Announce says in an answer which version of the draft the server speaks: a client that asks in
// general, with OPTIONS, may choose among protocols.
func Announce(h http.Header) { h.Set(interopHeader, strconv.Itoa(interop)) }

func (h handler) serve(w http.ResponseWriter, r *http.Request) error {
	id, isUpload := front.SessionID(h.Prefix, r.URL.Path)
	switch {
	case !isUpload && (r.Method == http.MethodPost || r.Method == http.MethodPut):
		return h.create(w, r)
	case isUpload && (r.Method == http.MethodHead || r.Method == http.MethodGet):
		return h.head(w, r, id)
	case isUpload && r.Method == http.MethodPatch:
		return h.patch(w, r, id)
	case isUpload && r.Method == http.MethodDelete:
		return h.delete(w, r, id)
	}
	allow := "POST, PUT, OPTIONS"
	if isUpload {
		allow = "HEAD, GET, PATCH, DELETE, OPTIONS"
	}
	w.Header().Set("Allow", allow)
	if r.Method != http.MethodOptions {
		return refuse(http.StatusMethodNotAllowed, "the method is not one of "+allow)
	}
	w.Header().Set(limitHeader, front.Limit(h.Prefix, h.SessionTimeout))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// limit is the value of Upload-Limit for an upload.
func (h handler) limit(info session.Info) string {
	return front.Limit(h.Prefix, time.Until(info.Expires(h.SessionTimeout)))
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// request is what the header of a request says about an upload.
type request struct {
	resumable bool  // it gives Upload-Complete
	complete  bool  // its content is all of the rest
	offset    int64 // -1 without one
	length    int64 // Upload-Length; -1 without one
	told      bool  // the client understands 104
	content   digests
}

func parse(r *http.Request) (request, error) {
	q := request{offset: count(r.Header, offsetHeader), length: count(r.Header, lengthHeader)}
	q.complete, q.resumable = item[bool](r.Header, completeHeader)
	// The draft forbids a 104 to whom does not know this version of it (B).
	version, _ := item[int64](r.Header, interopHeader)
	q.told = q.resumable && version == interop && direct(r)
	var err error
	if q.content, err = parseDigests(r.Header.Values("Content-Digest")); err != nil {
		return q, refuse(http.StatusBadRequest, err.Error())
	}
	return q, nil
}

// direct says whether a 104 can do no harm: nginx (tried: 1.22, HTTP/1.1 to the server) takes it for the
// answer, and sends no more of the content. So a request that shows signs of a proxy gets none, and nor
// does HTTP/1.0, which knows no interim answers.
func direct(r *http.Request) bool {
	return !front.Proxied(r) && !r.Close // nginx closes each connection unless it is told otherwise
}

// size is the length of the upload, as a request whose content of n bytes (-1 if unknown) begins at
// offset tells it; -1 if it does not (4.1.3).
func (q request) size(offset, n int64) (int64, error) {
	size := q.length
	if n > math.MaxInt64-offset {
		return 0, inconsistent()
	}
	if q.complete && n >= 0 {
		if size >= 0 && size != offset+n {
			return 0, inconsistent()
		}
		size = offset + n
	}
	if size >= 0 && offset+max(n, 0) > size {
		return 0, inconsistent()
	}
	return size, nil
}

// create makes an upload of a request (4.2).
func (h handler) create(w http.ResponseWriter, r *http.Request) error {
	q, err := parse(r)
	if err != nil {
		return err
	}
	if !q.resumable {
		q.complete = true // an upload as without the draft
	}
	spec, err := h.spec(r, q)
	if err != nil {
		return err
	}
	// Without a 104 nobody learns of the upload before it is over.
	spec.Whole = q.complete && !q.told
	info, err := h.Store.Create(r.Context(), spec)
	if err != nil {
		return err
	}
	ctx, s, err := front.Acquire(h.Prefix, r, info.ID, protocol)
	if err != nil {
		return err
	}
	defer s.Release()
	location := front.Location(h.Prefix, front.SessionPath(h.Prefix, info.ID))
	if q.told {
		w.Header().Set("Location", location)
		w.Header().Set(limitHeader, h.limit(info))
		interim(w)
		w.Header().Del("Location")
		w.Header().Del(limitHeader)
	}
	if done, err := h.receive(ctx, w, r, s, q, true); err != nil {
		if !q.told || over(err) {
			// Nobody will go on with it: its client does not know where it is.
			return errors.Join(err, s.Remove(context.WithoutCancel(ctx)))
		}
		return err
	} else if done {
		return nil
	}
	w.Header().Set("Location", location)
	w.Header().Set(limitHeader, h.limit(s.Info()))
	w.Header().Set(offsetHeader, number(s.Info().Offset))
	w.Header().Set(completeHeader, boolean(false))
	w.WriteHeader(http.StatusCreated)
	return nil
}

// spec is what a request that makes an upload asks for.
func (h handler) spec(r *http.Request, q request) (session.Spec, error) {
	spec := session.Spec{
		Protocol: protocol, URL: r.URL.Path, Principal: session.Principal(r.Context()),
		Limit: h.MaxSize, Overwrite: h.Overwrite, Metadata: make(map[string]string),
	}
	// What makes the bytes other than the file's, which is published as it is.
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return spec, refuse(http.StatusUnsupportedMediaType, "the content must not be encoded")
	}
	if r.Header.Get("Content-Range") != "" {
		return spec, refuse(http.StatusBadRequest, "a part of a file cannot replace it")
	}
	for _, name := range []string{digestHeader, wantDigestHeader} {
		if value := strings.Join(r.Header.Values(name), ", "); value != "" {
			spec.Metadata[name] = value
		}
	}
	promised, err := parseDigests(r.Header.Values(digestHeader))
	if err != nil {
		return spec, refuse(http.StatusBadRequest, err.Error())
	}
	spec.Staged = len(promised) > 0 || wanted(r.Header.Values(wantDigestHeader)) != "" // verify reads the bytes
	if spec.Size, err = q.size(0, r.ContentLength); err != nil {
		return spec, err
	}
	_, disposition, _ := mime.ParseMediaType(r.Header.Get("Content-Disposition"))
	if spec.Target, err = front.Target(h.Prefix, r.URL.Path, disposition["filename"]); err != nil {
		return spec, refuse(http.StatusBadRequest, err.Error())
	}
	return spec, nil
}

// head tells how far an upload is (4.3).
func (h handler) head(w http.ResponseWriter, r *http.Request, id string) error {
	ctx, s, err := front.Acquire(h.Prefix, r, id, protocol)
	if err != nil {
		return err
	}
	defer s.Release()
	if err := settle(ctx, s); err != nil {
		return err
	}
	info := s.Info()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(offsetHeader, number(info.Offset))
	w.Header().Set(completeHeader, boolean(info.Published))
	if info.Size >= 0 {
		w.Header().Set(lengthHeader, number(info.Size))
	}
	w.Header().Set(limitHeader, h.limit(info))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// patch adds the request's content to an upload (4.4).
func (h handler) patch(w http.ResponseWriter, r *http.Request, id string) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != partialContent {
		return refuse(http.StatusUnsupportedMediaType, "a part of an upload is "+partialContent)
	}
	q, err := parse(r)
	switch {
	case err != nil:
		return err
	case q.offset < 0:
		return refuse(http.StatusBadRequest, offsetHeader+" is missing")
	case !q.resumable:
		return refuse(http.StatusBadRequest, completeHeader+" is missing")
	}
	ctx, s, err := front.Acquire(h.Prefix, r, id, protocol)
	if err != nil {
		return err
	}
	defer s.Release()
	info := s.Info()
	size, err := q.size(q.offset, r.ContentLength)
	switch {
	case q.offset != info.Offset:
		return mismatching(info.Offset, q.offset)
	case err != nil:
		return err
	case info.Published && q.complete && r.ContentLength == 0:
		return h.finish(ctx, w, s) // the answer was lost
	case info.Published:
		return &problem{status: http.StatusBadRequest, title: "the upload is complete", complete: boolean(false)}
	case size >= 0:
		if err := s.SetSize(ctx, size); err != nil {
			return err
		}
	case info.Size >= 0 && r.ContentLength > info.Size-info.Offset:
		return inconsistent()
	}
	if done, err := h.receive(ctx, w, r, s, q, false); err != nil {
		if over(err) {
			return errors.Join(err, s.Remove(context.WithoutCancel(ctx)))
		}
		return err
	} else if done {
		return nil
	}
	w.Header().Set(limitHeader, h.limit(s.Info()))
	w.Header().Set(offsetHeader, number(s.Info().Offset))
	w.Header().Set(completeHeader, boolean(false))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// delete ends an upload (4.5).
func (h handler) delete(w http.ResponseWriter, r *http.Request, id string) error {
	return front.Delete(w, r, h.Prefix, id, protocol)
}

// finish makes the file of an upload whose last request arrived, and answers for the file.
func (h handler) finish(ctx context.Context, w http.ResponseWriter, s session.Session) error {
	digest, err := verify(ctx, s)
	if err != nil {
		return err
	}
	if err := s.Publish(ctx); err != nil {
		if p := h.asProblem(err); p.status < http.StatusInternalServerError {
			return reject(p.status, p.title)
		}
		return err
	}
	if digest != "" {
		w.Header().Set(digestHeader, digest)
	}
	w.Header().Set("Location", front.Location(h.Prefix, h.Path+s.Info().Target))
	w.Header().Set(completeHeader, boolean(true))
	w.WriteHeader(http.StatusCreated)
	return nil
}

// interim sends a 104 with the header that is set.
func interim(w http.ResponseWriter) {
	w.Header().Set(interopHeader, strconv.Itoa(interop))
	w.WriteHeader(statusResumptionSupported)
	w.Header().Del(interopHeader)
}
