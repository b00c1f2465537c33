package front

import (
	"net/http"
	"slices"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// What scripts of other origins may use: the browser asks before it knows which protocol follows, so
// these are of all.
const (
	corsMethods = "POST, PUT, HEAD, GET, PATCH, DELETE, OPTIONS"
	corsHeaders = "Authorization, Content-Type, Content-Disposition, Content-Digest, Repr-Digest, Want-Repr-Digest, Tus-Resumable, " +
		"Upload-Checksum, Upload-Complete, Upload-Concat, Upload-Defer-Length, Upload-Draft-Interop-Version, Upload-Length, " +
		"Upload-Metadata, Upload-Offset, X-HTTP-Method-Override, X-Request-ID, X-Requested-With"
	corsExposed = "Location, Repr-Digest, Retry-After, Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, " +
		"Upload-Complete, Upload-Concat, Upload-Defer-Length, Upload-Expires, Upload-Length, Upload-Limit, Upload-Metadata, Upload-Offset"
)

// CORS lets the script that makes the request r use its answer if its origin is among the prefix's.
// It returns true if the request was a browser's question about that and is answered.
//
// Without origins there are none: a page of any site could otherwise upload in the name of a person
// who visits it, to a server that is open to his network. A browser's own credentials (client
// certificates, passwords it remembers) come only from origins that are listed by name, never from
// "*"; a script may always send a token that it has.
func CORS(p *session.Prefix, w http.ResponseWriter, r *http.Request) bool {
	if len(p.Origins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin") // also without one: a cache must not give that answer to those with one
	origin := r.Header.Get("Origin")
	switch {
	case origin == "":
		return false
	case slices.Contains(p.Origins, origin):
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	case slices.Contains(p.Origins, "*"):
		h.Set("Access-Control-Allow-Origin", "*")
	default:
		return false
	}
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		h.Set("Access-Control-Expose-Headers", corsExposed)
		return false
	}
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
	return true
}
