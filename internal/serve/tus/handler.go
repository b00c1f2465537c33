// Package tus is the front end for uploads by the tus protocol 1.0.0 (https://tus.io) with the
// extensions creation, creation-with-upload, creation-defer-length, expiration, checksum,
// checksum-trailer, termination and concatenation.
//
// A file is made by its own URL, as with PUT, or by the URL of its directory (with a slash at its
// end) and the metadata "filename" or "name". It appears when the last byte has arrived. What the
// protocol leaves open and clients rely on is said at the statuses in errors.go.
package tus

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/ebbtransfer/ebb/internal/serve/front"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

const (
	protocol   = "tus" // of sessions
	version    = "1.0.0"
	extensions = "creation,creation-with-upload,creation-defer-length,expiration,checksum,checksum-trailer," +
		"termination,concatenation"
	contentType = "application/offset+octet-stream"
)

// The front end's metadata of a session: headers, as the client sent them.
const (
	metadataHeader = "Upload-Metadata"
	concatHeader   = "Upload-Concat"
)

// handler is the front end of one prefix.
type handler struct{ *session.Prefix }

// New returns the front end of the prefix p.
func New(p *session.Prefix) http.Handler { return handler{p} }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if front.CORS(h.Prefix, w, r) {
		return
	}
	w.Header().Set("Tus-Resumable", version)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	method := r.Method
	if instead := r.Header.Get("X-HTTP-Method-Override"); instead != "" {
		method = instead
	}
	if method == http.MethodOptions {
		h.options(w)
		return
	}
	if r.Header.Get("Tus-Resumable") != version {
		w.Header().Set("Tus-Version", version)
		h.fail(w, r, refuse(http.StatusPreconditionFailed, "this server speaks tus "+version))
		return
	}
	if err := h.serve(w, r, method); err != nil {
		h.fail(w, r, err)
	}
}

func (h handler) serve(w http.ResponseWriter, r *http.Request, method string) error {
	id, isUpload := front.SessionID(h.Prefix, r.URL.Path)
	switch {
	case !isUpload && method == http.MethodPost:
		return h.post(w, r)
	case !isUpload && method == http.MethodHead:
		return session.ErrNotFound
	case !isUpload:
		w.Header().Set("Allow", "POST, OPTIONS")
		return refuse(http.StatusMethodNotAllowed, "here uploads are made, by POST")
	}
	switch method {
	case http.MethodHead:
		return h.head(w, r, id)
	case http.MethodPatch:
		return h.patch(w, r, id)
	case http.MethodDelete:
		return h.delete(w, r, id)
	default:
		w.Header().Set("Allow", "HEAD, PATCH, DELETE, OPTIONS")
		return refuse(http.StatusMethodNotAllowed, "an upload takes HEAD, PATCH and DELETE")
	}
}

// options tells what the server can do. It is also the answer to who asks for no protocol by name, so
// it tells of that of package ietf too.
func (h handler) options(w http.ResponseWriter) {
	w.Header().Set("Tus-Version", version)
	w.Header().Set("Tus-Extension", extensions)
	w.Header().Set("Tus-Checksum-Algorithm", algorithmNames)
	w.Header().Set("Upload-Limit", front.Limit(h.Prefix, h.SessionTimeout))
	if h.MaxSize >= 0 {
		w.Header().Set("Tus-Max-Size", strconv.FormatInt(h.MaxSize, 10))
	}
	w.WriteHeader(http.StatusNoContent)
}

// post makes an upload, with its first bytes if the request has content.
func (h handler) post(w http.ResponseWriter, r *http.Request) error {
	spec, c, err := h.spec(r)
	if err != nil {
		return err
	}
	if c.final {
		return h.concatenate(w, r, spec, c)
	}
	var sum *checksum
	hasContent := r.ContentLength != 0
	if hasContent {
		if sum, err = checkContent(r); err != nil {
			return err
		}
	}
	// An upload whose last byte comes with this request is over with its answer: there is no record
	// of it to write, and none to keep.
	spec.Whole = spec.Target != "" && max(r.ContentLength, 0) == spec.Size
	info, err := h.Store.Create(r.Context(), spec)
	if err != nil {
		return err
	}
	if hasContent || spec.Whole {
		if info, err = h.fill(w, r, info.ID, sum); err != nil {
			return err
		}
	}
	if hasContent {
		w.Header().Set("Upload-Offset", strconv.FormatInt(info.Offset, 10))
	}
	h.expires(w, info)
	w.Header().Set("Location", front.Location(h.Prefix, front.SessionPath(h.Prefix, info.ID)))
	w.WriteHeader(http.StatusCreated)
	return nil
}

// fill adds the content of the request that made the session. What cannot be added whole ends the
// upload, since its client will never learn where it is.
func (h handler) fill(w http.ResponseWriter, r *http.Request, id string, sum *checksum) (session.Info, error) {
	ctx, s, err := front.Acquire(h.Prefix, r, id, protocol)
	if err != nil {
		return session.Info{}, err
	}
	defer s.Release()
	if err = h.add(ctx, w, r, s, sum); err == nil {
		err = finish(ctx, s)
	}
	if err != nil {
		return session.Info{}, errors.Join(err, s.Remove(context.WithoutCancel(ctx)))
	}
	return s.Info(), nil
}

// spec is what a POST asks for.
func (h handler) spec(r *http.Request) (session.Spec, concat, error) {
	spec := session.Spec{
		Protocol: protocol, URL: r.URL.Path, Principal: session.Principal(r.Context()),
		Size: -1, Limit: h.MaxSize, Overwrite: h.Overwrite, Metadata: make(map[string]string),
	}
	header := func(name string) string {
		value := strings.Join(r.Header.Values(name), ",")
		if value != "" {
			spec.Metadata[name] = value
		}
		return value
	}
	raw := header(metadataHeader)
	if len(raw) > maxMetadata {
		return spec, concat{}, refuse(http.StatusRequestHeaderFieldsTooLarge, "Upload-Metadata is too long")
	}
	metadata, err := parseMetadata(raw)
	if err != nil {
		return spec, concat{}, malformed(err)
	}
	c, err := parseConcat(header(concatHeader))
	if err != nil {
		return spec, concat{}, malformed(err)
	}
	length, deferred := r.Header.Get("Upload-Length"), r.Header.Get("Upload-Defer-Length")
	switch {
	case c.final && (length != "" || deferred != "" || r.ContentLength != 0):
		return spec, c, refuse(http.StatusBadRequest, "an upload that is made of others has their length and content")
	case c.final:
	case length != "" && deferred != "", length == "" && deferred != "1":
		return spec, c, refuse(http.StatusBadRequest, "either Upload-Length or Upload-Defer-Length: 1 is needed")
	case length != "":
		if spec.Size, err = parseNumber("Upload-Length", length); err != nil {
			return spec, c, malformed(err)
		}
	}
	if !c.partial {
		name := metadata["filename"]
		if name == "" {
			name = metadata["name"]
		}
		if spec.Target, err = front.Target(h.Prefix, r.URL.Path, name); err != nil {
			return spec, c, malformed(err)
		}
	}
	return spec, c, nil
}

// head tells how far an upload is.
func (h handler) head(w http.ResponseWriter, r *http.Request, id string) error {
	ctx, s, err := front.Acquire(h.Prefix, r, id, protocol)
	if err != nil {
		return err
	}
	defer s.Release()
	// The server may have ended between the last byte and the file's appearance. A client that hears
	// of all its bytes asks no further, so this is when the file must be there.
	if err := finish(ctx, s); err != nil {
		return err
	}
	info := s.Info()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Upload-Offset", strconv.FormatInt(info.Offset, 10))
	if info.Size >= 0 {
		w.Header().Set("Upload-Length", strconv.FormatInt(info.Size, 10))
	} else {
		w.Header().Set("Upload-Defer-Length", "1")
	}
	for _, name := range []string{metadataHeader, concatHeader} {
		if value := info.Metadata[name]; value != "" {
			w.Header().Set(name, value)
		}
	}
	h.expires(w, info)
	w.WriteHeader(http.StatusOK)
	return nil
}

// patch adds the request's content to an upload.
func (h handler) patch(w http.ResponseWriter, r *http.Request, id string) error {
	offset, err := parseNumber("Upload-Offset", r.Header.Get("Upload-Offset"))
	if err != nil {
		return malformed(err)
	}
	sum, err := checkContent(r)
	if err != nil {
		return err
	}
	ctx, s, err := front.Acquire(h.Prefix, r, id, protocol)
	if err != nil {
		return err
	}
	defer s.Release()
	if strings.HasPrefix(s.Info().Metadata[concatHeader], "final") {
		return refuse(http.StatusForbidden, "an upload that was made of others cannot be added to")
	}
	info := s.Info()
	if offset != info.Offset {
		w.Header().Set("Upload-Offset", strconv.FormatInt(info.Offset, 10))
		return refuse(http.StatusConflict, "the upload goes on at another offset")
	}
	size := info.Size
	if length := r.Header.Get("Upload-Length"); length != "" {
		if size, err = parseNumber("Upload-Length", length); err != nil {
			return malformed(err)
		}
		if size < offset {
			return refuse(http.StatusBadRequest, "Upload-Length is less than what is here already")
		}
	}
	if size >= 0 && r.ContentLength > size-offset || info.Published && r.ContentLength != 0 {
		return session.ErrTooLarge
	}
	if size >= 0 {
		if err := s.SetSize(ctx, size); err != nil { // nothing if it is that already
			return err
		}
	}
	if !info.Published {
		if err := h.add(ctx, w, r, s, sum); err != nil {
			return err
		}
	}
	if err := finish(ctx, s); err != nil {
		return err
	}
	w.Header().Set("Upload-Offset", strconv.FormatInt(s.Info().Offset, 10))
	h.expires(w, s.Info())
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h handler) delete(w http.ResponseWriter, r *http.Request, id string) error {
	return front.Delete(w, r, h.Prefix, id, protocol)
}

// expires tells until when the client can go on with an unfinished upload.
func (h handler) expires(w http.ResponseWriter, info session.Info) {
	if complete(info) && info.Target != "" || h.SessionTimeout <= 0 {
		return
	}
	w.Header().Set("Upload-Expires", info.Expires(h.SessionTimeout).UTC().Format(http.TimeFormat))
}

// complete says whether every byte is here.
func complete(info session.Info) bool { return info.Size >= 0 && info.Offset == info.Size }

// finish makes a complete upload appear as the file it was made for, if it has not.
func finish(ctx context.Context, s session.Session) error {
	info := s.Info()
	if !complete(info) || info.Target == "" {
		return nil
	}
	return s.Publish(ctx) // nothing if it was published
}
