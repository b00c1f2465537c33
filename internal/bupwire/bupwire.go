// Package bupwire is the messages of the BITS upload protocol, [MC-BUP]: requests with the method
// BITS_POST and the Acks that answer them, parsed and written once for both ends.
//
// It writes what Windows writes, byte by byte, and reads more than that: any case and order, both
// names of the error header, HTTP/1.0, a missing Content-Length, the spellings of other people's
// servers. Reading never trusts the other side: lengths, numbers and characters are checked, and
// what comes back can be used as it is. It knows nothing of files, sessions or connections.
package bupwire

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
)

// Method is the HTTP method of every request.
const Method = "BITS_POST"

// Protocol is the GUID of the one upload protocol that exists, "BITS 1.5 Upload Protocol".
const Protocol = "{7df0354d-249b-430f-820d-3d2a9bef4931}"

// Limits, with their places in server.md.
const (
	MinFragment    = 5 << 10  // bytes that a client does not shrink a fragment below (1.6)
	MaxFragment    = 13 << 20 // bytes that a fragment of a client may have (1.6)
	MaxHeaderValue = 4 << 10  // bytes of a header's value (1.2)
	MaxSessionID   = 100      // characters (1.4)
	MaxHostID      = 300      // characters (1.4)
	MaxReplyURL    = 2200     // characters (1.4)
	MaxContentName = 260      // characters (1.4)

	maxProtocols = 100 // of BITS-Supported-Protocols that are looked at (1.4)
)

// PacketType is a kind of message, spelled as Windows spells it.
type PacketType string

// The packet types.
const (
	CreateSession PacketType = "Create-Session"
	Ping          PacketType = "Ping"
	Fragment      PacketType = "Fragment"
	CloseSession  PacketType = "Close-Session"
	CancelSession PacketType = "Cancel-Session"
)

const ackType = "Ack"

// The names of the headers, as they are written: some peers do not ignore their case.
const (
	hdrPacketType   = "BITS-Packet-Type"
	hdrProtocols    = "BITS-Supported-Protocols"
	hdrProtocol     = "BITS-Protocol"
	hdrSessionID    = "BITS-Session-Id"
	hdrHostID       = "BITS-Host-Id"
	hdrHostFallback = "BITS-Host-Id-Fallback-Timeout"
	hdrReceived     = "BITS-Received-Content-Range"
	hdrRecieved     = "BITS-Recieved-Content-Range" //nolint:misspell // GoBITS writes it so
	hdrReplyURL     = "BITS-Reply-URL"
	hdrErrorCode    = "BITS-Error-Code" // the documentation's name
	hdrError        = "BITS-Error"      // [MC-BUP]'s name of the same
	hdrErrorContext = "BITS-Error-Context"
	hdrContentName  = "Content-Name"
	hdrContentRange = "Content-Range"
)

// Error is a request that cannot be understood, with the answer that it earns.
type Error struct {
	Status int // HTTP
	Code   bits.Code
	Reason string
}

func (e *Error) Error() string { return "BITS packet: " + e.Reason }

// Ack returns the answer to the request.
func (e *Error) Ack() Ack {
	return Ack{Status: e.Status, Code: e.Code, Context: bits.ContextRemoteFile, Received: -1}
}

func malformed(format string, args ...any) *Error {
	return &Error{http.StatusBadRequest, bits.InvalidArg, fmt.Sprintf(format, args...)}
}

// single returns the value of a header that may be there once: one that a proxy and we could read
// differently is refused.
func single(h http.Header, name string) (string, *Error) {
	vs := h.Values(name)
	for _, v := range vs {
		if len(v) > MaxHeaderValue {
			return "", malformed("%s has %d bytes; %d are allowed", name, len(v), MaxHeaderValue)
		}
		if v != vs[0] {
			return "", malformed("%s is there twice", name)
		}
	}
	if len(vs) == 0 {
		return "", nil
	}
	return strings.TrimSpace(vs[0]), nil
}

// visible reports whether s is made of ASCII that can stand in a header without being taken for
// something else.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
