package ietf

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"

	"github.com/ebbtransfer/ebb/internal/serve/front"
	"github.com/ebbtransfer/ebb/internal/serve/record"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

const problemTypes = "https://iana.org/assignments/http-problem-types#"

// problem is an answer by RFC 9457.
type problem struct {
	status   int
	kind     string // the type's name in IANA's registry; empty where the status says it all
	title    string
	members  map[string]any    // extensions
	header   map[string]string // that goes with it
	complete string            // Upload-Complete of the answer: ?1 if it is for the file, ?0 for the upload
	over     bool              // the upload cannot go on
}

func (p *problem) Error() string { return p.title }

// statuses are the answers to what the store refuses. A client may try again after a 5xx and should
// not after a 4xx (4.3, 4.4).
var statuses = []struct {
	err    error
	status int
}{
	{session.ErrNotFound, http.StatusNotFound},
	{session.ErrExists, http.StatusForbidden},
	{session.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{session.ErrSizeChanged, http.StatusBadRequest},
	{session.ErrTarget, http.StatusNotFound},
	{session.ErrIncomplete, http.StatusBadRequest},
	{session.ErrBusy, http.StatusServiceUnavailable},
	{session.ErrTaken, http.StatusServiceUnavailable},
	{session.ErrTooMany, http.StatusServiceUnavailable},
	{session.ErrNoSpace, http.StatusInsufficientStorage},
}

func refuse(status int, title string) *problem { return &problem{status: status, title: title} }

// reject is the answer of the resource that the file was to be: however the upload goes on, that
// cannot be. No one resumes after it (4.1.2).
func reject(status int, title string) *problem {
	return &problem{status: status, title: title, complete: boolean(true), over: true}
}

func inconsistent() *problem {
	return &problem{status: http.StatusBadRequest, kind: "inconsistent-upload-length",
		title: "inconsistent length values for upload", complete: boolean(false)}
}

func mismatching(expected, provided int64) *problem {
	return &problem{status: http.StatusConflict, kind: "mismatching-upload-offset",
		title:    "offset from request does not match offset of resource",
		members:  map[string]any{"expected-offset": expected, "provided-offset": provided},
		header:   map[string]string{offsetHeader: number(expected)},
		complete: boolean(false)}
}

// asProblem returns what a client hears of err.
func (h handler) asProblem(err error) *problem {
	var own *problem
	var read *front.ReadError
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, session.ErrSizeChanged):
		return inconsistent()
	case errors.As(err, &read):
		// Most probably nobody is there to read this.
		return refuse(http.StatusBadRequest, "the request's content did not arrive whole")
	}
	for _, known := range statuses {
		if errors.Is(err, known.err) {
			return refuse(known.status, front.Words(h.Prefix, known.err, err))
		}
	}
	return refuse(http.StatusInternalServerError, "the server could not store the upload")
}

// fail answers with err.
func (h handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := h.asProblem(err)
	record.Why(r.Context(), "%v", err)
	body := map[string]any{"title": p.title, "status": p.status}
	if p.kind != "" {
		body["type"] = problemTypes + p.kind
	}
	maps.Copy(body, p.members)
	text, err := json.Marshal(body)
	if err != nil { // numbers and strings
		panic(err)
	}
	for name, value := range p.header {
		w.Header().Set(name, value)
	}
	if p.complete != "" {
		w.Header().Set(completeHeader, p.complete)
	}
	if p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	if p.status == http.StatusRequestEntityTooLarge {
		w.Header().Set(limitHeader, front.Limit(h.Prefix, h.SessionTimeout))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.status)
	_, _ = w.Write(text)
}
