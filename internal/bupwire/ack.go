package bupwire

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// Ack is the server's answer to a request. Its body is empty.
type Ack struct {
	Status    int    // HTTP
	Protocol  string // to Create-Session
	SessionID string // required after Create-Session only: IIS leaves it out elsewhere
	// HostID is the host, with its port if need be, that the session's further requests should go
	// to; it is as little to be trusted as a redirect. HostIDFallback is for how long that host
	// may fail before the client goes back to the URL's; nil is forever.
	HostID         string
	HostIDFallback *time.Duration
	Received       int64  // to Fragment, also with 416: the next offset that is expected; -1 is none
	ReplyURL       string // to the last fragment; see ReplyURL
	// Code and Context tell more about an error; Context is ContextNone where they are missing.
	Code    bits.Code
	Context bits.Context
	// Foreign says that the answer was not made by a BITS server, but by something on the way to
	// it, or that there is none. Only Status counts then.
	Foreign bool
}

// mcbupDiskFull is the value that [MC-BUP] prints for a full disk and for a timeout of the
// application: a slip between decimal and hexadecimal (server.md 1.5).
const mcbupDiskFull bits.Code = 0x80070112

// ParseAck reads an answer. It returns an error where a BITS server's answer makes no sense.
func ParseAck(resp *http.Response) (Ack, error) {
	a := Ack{Status: resp.StatusCode, Received: -1}
	h := resp.Header
	a.Foreign = !strings.EqualFold(strings.TrimSpace(h.Get(hdrPacketType)), ackType)
	if a.Foreign {
		return a, nil
	}
	var bad *Error
	get := func(name string) string {
		v, err := single(h, name)
		if err != nil {
			bad = err
		}
		return v
	}
	a.Protocol = get(hdrProtocol)
	a.SessionID = get(hdrSessionID)
	a.HostID = get(hdrHostID)
	a.ReplyURL = get(hdrReplyURL)
	fallback, received := get(hdrHostFallback), get(hdrReceived)
	if received == "" {
		received = get(hdrRecieved)
	}
	if bad != nil {
		return Ack{}, errors.New(bad.Reason)
	}
	switch {
	case len(a.SessionID) > MaxSessionID || !visible(a.SessionID):
		return Ack{}, fmt.Errorf("%s %.120q", hdrSessionID, a.SessionID)
	case len(a.HostID) > MaxHostID || !visible(a.HostID) || strings.ContainsAny(a.HostID, `/\?#@%`):
		return Ack{}, fmt.Errorf("%s %.320q is not a host", hdrHostID, a.HostID)
	case len(a.ReplyURL) > MaxReplyURL:
		return Ack{}, fmt.Errorf("%s has %d characters; %d are allowed", hdrReplyURL, len(a.ReplyURL), MaxReplyURL)
	}
	if received != "" {
		n, ok := decimal(received)
		if !ok {
			return Ack{}, fmt.Errorf("%s %q is not an offset", hdrReceived, received)
		}
		a.Received = n
	}
	// 0xFFFFFFFF is Windows's word for never, and a number that is none is as good as none.
	if n, err := strconv.ParseUint(fallback, 10, 32); err == nil && a.HostID != "" && n < 0xFFFFFFFF {
		d := time.Duration(n) * time.Second
		a.HostIDFallback = &d
	}
	a.parseError(h)
	return a, nil
}

// parseError reads the pair about an error. What cannot be read is left out, since the status
// tells enough.
func (a *Ack) parseError(h http.Header) {
	code, ok := hex32(h.Get(hdrErrorCode))
	if !ok {
		if code, ok = hex32(h.Get(hdrError)); !ok {
			return
		}
	}
	a.Code, a.Context = bits.Code(code), bits.ContextRemoteFile
	if c, ok := hex32(h.Get(hdrErrorContext)); ok && c == uint32(bits.ContextRemoteApplication) {
		a.Context = bits.ContextRemoteApplication
	}
	if a.Code == mcbupDiskFull {
		a.Code = bits.DiskFull
		if a.Context == bits.ContextRemoteApplication {
			a.Code = bits.TimedOut
		}
	}
}

// hex32 reads a value such as 0x80070057, also without its prefix.
func hex32(s string) (uint32, bool) {
	s = strings.TrimSpace(s)
	if len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X") {
		s = s[2:]
	}
	n, err := strconv.ParseUint(s, 16, 32)
	return uint32(n), err == nil
}

// Write answers a request with a.
func (a Ack) Write(w http.ResponseWriter) {
	h := w.Header()
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value} // Set would change the case
		}
	}
	set(hdrPacketType, ackType)
	set(hdrProtocol, a.Protocol)
	set(hdrSessionID, a.SessionID)
	set(hdrHostID, a.HostID)
	if a.HostID != "" && a.HostIDFallback != nil {
		set(hdrHostFallback, strconv.FormatInt(int64(*a.HostIDFallback/time.Second), 10))
	}
	if a.Received >= 0 {
		set(hdrReceived, strconv.FormatInt(a.Received, 10))
	}
	set(hdrReplyURL, a.ReplyURL)
	if a.Context != bits.ContextNone {
		set(hdrErrorCode, fmt.Sprintf("0x%X", uint32(a.Code)))
		set(hdrError, fmt.Sprintf("0x%X", uint32(a.Code)))
		set(hdrErrorContext, fmt.Sprintf("0x%X", uint8(a.Context)))
	}
	if a.Protocol != "" {
		set("Accept-Encoding", "identity") // what codings fragments may have
	}
	set("Pragma", "no-cache")
	set("Cache-Control", "no-store")
	set("Content-Length", "0")
	w.WriteHeader(a.Status)
}
