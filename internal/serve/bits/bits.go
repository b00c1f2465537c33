// Package bits is the front end for the BITS upload protocol, [MC-BUP]: Windows's BITS uploads to
// it as to IIS with the BITS Server Extensions, and so does ebb.
//
// It promises what session.Store promises, and that the target is there, or the application at the
// notification URL has the file, before the last fragment is acknowledged. All that a session is,
// also the application's answer, is kept in the store, so that every request may meet a new process.
// It knows nothing of connections, users and the limits of either: package serve keeps those.
package bits

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/serve/front"
	"github.com/ebbtransfer/ebb/internal/serve/record"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// retryAfter is how many seconds a client that met a limit should wait.
const retryAfter = "60"

type handler struct {
	p     *session.Prefix
	began time.Time
}

// New returns the front end for a prefix. It takes requests with the method BITS_POST below the
// prefix, and GET and HEAD of the replies that it handed out.
func New(p *session.Prefix) http.Handler {
	h := &handler{p, time.Now()}
	h.clearNotifyFiles()
	return h
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case bupwire.Method:
		a := h.answer(w, r)
		h.drain(r)
		if a.Status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", retryAfter)
		}
		if a.Code == bits.TooLarge {
			w.Header().Set("Upload-Limit", front.Limit(h.p, h.p.SessionTimeout))
		}
		a.Write(w)
	case http.MethodGet, http.MethodHead:
		h.serveReply(w, r)
	default:
		w.Header().Set("Allow", bupwire.Method+", GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

// drain reads what is left of a fragment. A client that is still sending when the connection is
// closed would lose the answer, and with a 416 the offset in it. One that waits for 100 Continue
// sends nothing, and what is larger than any fragment is not worth it.
func (h *handler) drain(r *http.Request) {
	most := max(h.p.MaxFragment, bupwire.MaxFragment)
	if r.ContentLength <= most && r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, r.Body, most) // who hung up needs no answer
	}
}

// answer carries out a packet. The checks come in the order of [MC-BUP] 3.2.5.2.3.
func (h *handler) answer(w http.ResponseWriter, r *http.Request) bupwire.Ack {
	req, err := bupwire.ParseRequest(r.Header, r.ContentLength)
	var bad *bupwire.Error
	if errors.As(err, &bad) {
		record.Why(r.Context(), "%v", bad)
		return bad.Ack()
	}
	switch req.Type {
	case bupwire.CreateSession:
		return h.create(r, req)
	case bupwire.Ping:
		return ack("")
	case bupwire.Fragment:
		if req.Range.Len() > h.p.MaxFragment {
			record.Why(r.Context(), "the fragment has %d bytes; %d are allowed", req.Range.Len(), h.p.MaxFragment)
			return refuse(http.StatusRequestEntityTooLarge, bits.OK)
		}
	case bupwire.CloseSession, bupwire.CancelSession:
	}
	id, ok := session.ParseGUID(req.SessionID)
	if !ok {
		return h.failed(r, session.ErrNotFound)
	}
	ctx, s, err := h.p.Store.Acquire(r.Context(), id, session.Who{Principal: session.Principal(r.Context()), URL: r.URL.Path})
	if err != nil {
		return h.failed(r, err)
	}
	defer s.Release()
	if s.Info().Protocol != "bits" { // of the same URL, and another protocol's
		return h.failed(r, session.ErrNotFound)
	}
	st, err := stateOf(s)
	if err != nil {
		return h.failed(r, err)
	}
	if req.Type != bupwire.Fragment {
		return h.end(r, s, st, req.Type)
	}
	return h.fragment(ctx, w, r, s, st, req)
}

// ack is the answer to a request that succeeded. GUID is the session's; IIS sends it only once,
// [MC-BUP] wants it always.
func ack(guid string) bupwire.Ack {
	return bupwire.Ack{Status: http.StatusOK, SessionID: guid, Received: -1}
}

func refuse(status int, code bits.Code) bupwire.Ack {
	a := bupwire.Ack{Status: status, Received: -1, Code: code}
	if code != bits.OK {
		a.Context = bits.ContextRemoteFile
	}
	return a
}

// answers are the status and the code for what a store says (server.md 1.5).
var answers = []struct {
	err    error
	status int
	code   bits.Code // OK: the status tells enough
}{
	{session.ErrNotFound, http.StatusInternalServerError, bits.SessionNotFound},
	{session.ErrExists, http.StatusForbidden, bits.AccessDenied},
	{fs.ErrPermission, http.StatusForbidden, bits.AccessDenied},
	{fs.ErrNotExist, http.StatusNotFound, bits.PathNotFound},
	{session.ErrTarget, http.StatusBadRequest, bits.InvalidArg},
	{session.ErrSizeChanged, http.StatusBadRequest, bits.InvalidArg},
	{session.ErrTooLarge, http.StatusInternalServerError, bits.TooLarge},
	{session.ErrNoSpace, http.StatusInternalServerError, bits.DiskFull},
	{session.ErrTooMany, http.StatusServiceUnavailable, bits.OK},
	{session.ErrBusy, http.StatusServiceUnavailable, bits.OK},
	{session.ErrTaken, http.StatusServiceUnavailable, bits.OK},
}

func (h *handler) failed(r *http.Request, err error) bupwire.Ack {
	record.Why(r.Context(), "%v", err)
	for _, a := range answers {
		if errors.Is(err, a.err) {
			return refuse(a.status, a.code)
		}
	}

	if r.Context().Err() == nil { // otherwise the client hung up
		h.p.Log.Error("upload failed", "url", r.URL.Path, "err", err)
	}
	return refuse(http.StatusInternalServerError, bits.Unexpected)
}

// create answers Create-Session.
func (h *handler) create(r *http.Request, req bupwire.Request) bupwire.Ack {
	if !req.Speaks() {
		record.Why(r.Context(), "the client speaks none of our protocols, but %q", req.Protocols)
		return refuse(http.StatusBadRequest, bits.InvalidArg)
	}
	target := strings.TrimPrefix(r.URL.Path, h.p.Path)
	if err := session.CheckTarget(target); err != nil { // the store knows uploads without one
		return h.failed(r, err)
	}
	info, err := h.p.Store.Create(r.Context(), session.Spec{
		Protocol: "bits", Target: target, URL: r.URL.Path, Principal: session.Principal(r.Context()),
		Size: -1, Limit: h.p.MaxSize, Overwrite: h.p.Overwrite,
		Staged: h.p.Notify != session.NotifyNone, // the application reads it first
		Reply:  h.p.Notify != session.NotifyNone, // and may answer
	})
	if err != nil {
		return h.failed(r, err)
	}
	a := ack(session.GUID(info.ID))
	a.Protocol = bupwire.Protocol
	a.HostID = h.p.HostID
	if h.p.HostIDFallback > 0 {
		a.HostIDFallback = &h.p.HostIDFallback
	}
	return a
}

// end answers Close-Session and Cancel-Session. What was published stays; a Close before all bytes
// are here, or before they could be published, discards them like a Cancel.
func (h *handler) end(r *http.Request, s session.Session, st state, kind bupwire.PacketType) bupwire.Ack {
	ctx := context.WithoutCancel(r.Context())
	info := s.Info()
	// The reply goes first: should the server be killed in between, the client's next Close
	// finds the rest.
	if st.Reply != "" {
		if err := h.removeReply(ctx, st.Reply, info.Principal); err != nil {
			return h.failed(r, err)
		}
	}
	if err := s.Remove(ctx); err != nil {
		return h.failed(r, err)
	}
	if !info.Published && !st.Delivered {
		h.p.Log.Info("upload discarded", "url", r.URL.Path, "packet", string(kind), "bytes", info.Offset)
	}
	return ack(session.GUID(info.ID))
}

// state is what the front end keeps with a session.
type state struct {
	// Delivered: the application took the file.
	Delivered bool `json:"delivered,omitempty"`
	// Copy: the application wants the file at its destination too.
	Copy bool `json:"copy,omitempty"`
	// Reply is the id of the session that keeps the application's reply; ReplyURL is a URL of a reply
	// that the application keeps itself.
	Reply    string `json:"reply,omitempty"`
	ReplyURL string `json:"reply_url,omitempty"`
	// Refused: the application answered 403, after which it is not asked again.
	Refused bool `json:"refused,omitempty"`
}

func stateOf(s session.Session) (state, error) {
	var st state
	raw := s.Info().State
	if len(raw) == 0 {
		return st, nil
	}
	err := json.Unmarshal(raw, &st)
	return st, err
}

func (st state) keep(ctx context.Context, s session.Session) error {
	raw, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return s.SetState(ctx, raw)
}
