package bup

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

// broken is the error of a server that breaks the protocol.
func (s *session) broken(code bits.Code, format string, args ...any) error {
	e := bits.Errorf(code, format, args...)
	e.Context, e.File = bits.ContextRemoteFile, s.target().String()
	return e
}

// forgotten reports whether the server does not know the session. One that is no BITS server's own
// answer says it with the status alone, which counts if the session was begun some time ago.
func (s *session) forgotten(a *answer) bool {
	if a.Code == bits.SessionNotFound && !a.ok() {
		return true
	}
	return !s.fresh && a.Context == bits.ContextNone && (a.Status == http.StatusNotFound || a.Status == http.StatusGone)
}

// own lists the codes that a server may give a job. Others would make it wait for something that
// does not happen here, or mean nothing.
var own = map[bits.Code]string{
	bits.TooLarge:             "the file is larger than the server takes",
	bits.AccessDenied:         "the server does not allow the upload: the file may exist there already, or may not be written",
	bits.InvalidArg:           "the server refuses the upload as wrong",
	bits.DiskFull:             "the server's disk is full",
	bits.ServerExecuteEnabled: "",
	bits.ProtocolMismatch:     "",
	bits.TimedOut:             "",
}

// refused returns the error that an answer is. Its class is that of the HTTP status (server.md
// 1.9), unless the server gives a code that says more.
func (s *session) refused(a *answer, doing string) error {
	err := httpconn.StatusError(a.resp, s.target().String())
	var e *bits.Error
	if !errors.As(err, &e) {
		return err
	}
	status := fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
	e.Message = s.inWords(a)
	if e.Message == "" {
		e.Message = fmt.Sprintf("%s: the server answered %s", doing, status)
		if a.Code != 0 {
			e.Message += " with the code " + a.Code.Hex()
		}
	}
	text, mine := own[a.Code]
	switch {
	case a.Context == bits.ContextRemoteApplication:
		e.Context, e.Message = bits.ContextRemoteApplication, s.application(a)
		return err // only the status decides whether it is tried again
	case !mine:
		return err
	case a.Code == bits.AccessDenied && a.Status == http.StatusNotImplemented:
		return err // uploads are not enabled
	}
	if e.Code = a.Code; text != "" {
		e.Message = text
	}
	if e.Code.Class() != bits.Transient {
		return e // nothing to come back for
	}
	return err
}

// application says in words how the server's application did not take the file.
func (s *session) application(a *answer) string {
	// Ebb's server tells a status that would mean something else of its own by the code.
	status := a.Status
	if n := a.Code.HTTPStatus(); n != 0 {
		status = n
	}
	text := fmt.Sprintf("the server has the file, but its application answered %d %s", status, http.StatusText(status))
	switch {
	case a.Code == bits.TimedOut:
		return "the server has the file, but its application did not answer in time"
	case a.Code != 0 && a.Code.HTTPStatus() == 0:
		return text + " with the code " + a.Code.Hex()
	}
	return text
}

// inWords says what an answer without a code means for an upload; empty if nothing more than its
// status does.
func (s *session) inWords(a *answer) string {
	switch a.Status {
	case http.StatusUnauthorized:
		return "the server wants credentials for uploads"
	case http.StatusForbidden:
		return own[bits.AccessDenied]
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return "uploads by BITS are not enabled at this URL"
	case http.StatusConflict:
		return "the file exists on the server already, and may not be overwritten"
	}
	if a.Status/100 == 3 {
		a.resp.Request = &http.Request{Method: http.MethodGet, URL: s.target()}
		if to, err := a.resp.Location(); err == nil && len(to.String()) < bits.MaxURLLen {
			return fmt.Sprintf("the server redirects to %s; uploads do not follow, give that URL", bits.RedactURL(to.String()))
		}
		return "the server redirects, which uploads do not follow"
	}
	return ""
}
