package bup

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
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

// What servers mean by a status or a code, each in the same words.
const (
	refusedText = "the server refused: the file exists there and may not be overwritten, or you may not write there; " +
		"choose another name, or have the server allow overwriting"
	absentText = "the server has no such directory, or takes no uploads by BITS there"
)

// own lists the codes that a server may give a job. Others would make it wait for something that
// does not happen here, or mean nothing.
var own = map[bits.Code]string{
	bits.TooLarge:             "", // upload.TooLarge says it
	bits.AccessDenied:         refusedText,
	bits.InvalidArg:           "the server refuses the upload as wrong: the URL may be that of a directory, or be no name for a file there",
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
	if a.Code == bits.TooLarge {
		e.Message = upload.TooLarge(s.Source.Size(), a.resp.Header)
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
	case http.StatusNotFound:
		if a.Code == bits.PathNotFound {
			return "the server has no such directory"
		}
		return absentText
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return "the server takes no uploads by BITS there"
	case http.StatusConflict:
		return "the file exists on the server already, and may not be overwritten"
	}
	if a.Status == http.StatusServiceUnavailable && a.Code == 0 && !a.Foreign {
		return "the server can take no more uploads now: it answered 503 Service Unavailable"
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
