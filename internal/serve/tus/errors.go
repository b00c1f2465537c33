package tus

import (
	"errors"
	"io"
	"net/http"

	"github.com/ebbtransfer/ebb/internal/serve/front"
	"github.com/ebbtransfer/ebb/internal/serve/record"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// statusChecksumMismatch is tus's own.
const statusChecksumMismatch = 460

// statuses are the answers to what the store refuses. tus-js-client and those made after it try
// again after 409, 423 and 5xx and give up after the rest, which is the point of each choice here:
// so 409 is not for a target that exists, and will exist when asked again.
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
	{session.ErrBusy, http.StatusLocked},
	{session.ErrTaken, http.StatusLocked},
	{session.ErrTooMany, http.StatusServiceUnavailable},
	{session.ErrNoSpace, http.StatusInsufficientStorage},
}

// refusal is an error with a status of its own and words for the client.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

func refuse(status int, text string) error { return &refusal{status, text} }
func malformed(err error) error            { return refuse(http.StatusBadRequest, err.Error()) }

// fail answers with err.
func (h handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var own *refusal
	var read *front.ReadError
	status, text := http.StatusInternalServerError, "the server could not store the upload"
	switch {
	case errors.As(err, &own):
		status, text = own.status, own.text
	case errors.As(err, &read):
		// Most probably nobody is there to read this.
		status, text = http.StatusBadRequest, "the request's content did not arrive whole"
	default:
		for _, known := range statuses {
			if errors.Is(err, known.err) {
				status, text = known.status, front.Words(h.Prefix, known.err, err)
			}
		}
	}
	record.Why(r.Context(), "%v", err)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "60")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
