package bupwire

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
)

// Request is a message of the client.
type Request struct {
	Type        PacketType
	Method      string   // a token, of the client's choice; empty for BITS_POST. Of no meaning to ParseRequest
	SessionID   string   // of Fragment, Close-Session and Cancel-Session
	Protocols   []string // of Create-Session, in order of preference
	ContentName string   // leaf name of the client's file; servers ignore it
	Range       Range    // of Fragment
	// Length is how many bytes of body follow. It is -1 where a fragment came without a
	// Content-Length but with a body (chunked, through a proxy): Range then says how many.
	Length int64
}

// Speaks reports whether the client speaks Protocol.
func (r *Request) Speaks() bool {
	return slices.ContainsFunc(r.Protocols, func(p string) bool { return strings.EqualFold(p, Protocol) })
}

// ParseRequest reads the headers of a request with the method BITS_POST, whose body has length
// bytes; -1 means that it is not known. A missing Content-Length is forgiven where there is no
// body (length is 0 then, as net/http has it). The error is an *Error.
func ParseRequest(h http.Header, length int64) (Request, error) {
	r, err := parseRequest(h, length)
	if err != nil {
		return Request{}, err // not the nil *Error in an interface
	}
	return r, nil
}

func parseRequest(h http.Header, length int64) (Request, *Error) {
	r := Request{Length: length}
	kind, err := single(h, hdrPacketType)
	if err != nil {
		return r, err
	}
	i := slices.IndexFunc(packetTypes[:], func(t PacketType) bool { return strings.EqualFold(string(t), kind) })
	if i < 0 {
		return r, malformed("unknown %s %q", hdrPacketType, kind)
	}
	r.Type = packetTypes[i]
	if r.ContentName, err = single(h, hdrContentName); err != nil {
		return r, err
	}
	switch r.Type {
	case CreateSession:
		list, err := single(h, hdrProtocols)
		if err != nil {
			return r, err
		}
		r.Protocols = strings.FieldsFunc(list, func(c rune) bool { return c == ' ' || c == ',' || c == '\t' })
		r.Protocols = r.Protocols[:min(len(r.Protocols), maxProtocols)]
	case Fragment, CloseSession, CancelSession:
		if r.SessionID, err = single(h, hdrSessionID); err != nil {
			return r, err
		}
		if r.SessionID == "" || len(r.SessionID) > MaxSessionID || !visible(r.SessionID) {
			return r, malformed("%s without a proper %s", r.Type, hdrSessionID)
		}
	case Ping:
	}
	if r.Type != Fragment {
		if length != 0 {
			return r, malformed("%s with a body", r.Type)
		}
		return r, nil
	}
	err = r.parseFragment(h)
	return r, err
}

var packetTypes = [...]PacketType{CreateSession, Ping, Fragment, CloseSession, CancelSession}

func (r *Request) parseFragment(h http.Header) *Error {
	coding, err := single(h, "Content-Encoding")
	if err != nil {
		return err
	}
	if coding != "" && !strings.EqualFold(coding, "identity") {
		return malformed("Content-Encoding %q", coding)
	}
	value, err := single(h, hdrContentRange)
	if err != nil {
		return err
	}
	var rerr error
	if r.Range, rerr = ParseRange(value); rerr != nil {
		return malformed("%v", rerr)
	}
	switch {
	case r.Length == r.Range.Len(), r.Length < 0:
		return nil
	case r.Length == 0 && len(h.Values("Content-Length")) == 0:
		return &Error{http.StatusLengthRequired, bits.InvalidArg, "fragment without Content-Length"}
	}
	return malformed("Content-Length %d with Content-Range %q", r.Length, value)
}

// Head returns the request line and the headers of r, to which the body of r.Length bytes is to be
// added. Target is the request target, such as a URL's RequestURI, or the whole URL for a proxy.
// Extra is sent as well, but not over a header that the packet has itself. net/http cannot do this:
// it leaves out "Content-Length: 0", which servers insist on, and changes the case of the names.
func (r *Request) Head(target, host string, extra http.Header) ([]byte, error) {
	if !visible(target) || target == "" || !visible(host) {
		return nil, errors.New("request target or host with bytes that cannot be sent")
	}
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	method := cmp.Or(r.Method, Method)
	if !token(method) {
		return nil, fmt.Errorf("the method %q cannot be sent", method)
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, target)
	field("Accept", "*/*")
	field(hdrPacketType, string(r.Type))
	if r.SessionID != "" {
		if !visible(r.SessionID) {
			return nil, errors.New("session id with bytes that cannot be sent")
		}
		field(hdrSessionID, r.SessionID)
	}
	if len(r.Protocols) > 0 {
		field(hdrProtocols, strings.Join(r.Protocols, " "))
	}
	if sendable(r.ContentName) {
		field(hdrContentName, r.ContentName)
	}
	if r.Type == Fragment {
		field(hdrContentRange, r.Range.String())
	}
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if own[http.CanonicalHeaderKey(name)] {
			continue
		}
		for _, v := range extra[name] {
			if !token(name) || strings.ContainsFunc(v, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
				return nil, fmt.Errorf("header %q cannot be sent", name)
			}
			field(name, v)
		}
	}
	field("Host", host)
	field("Content-Length", fmt.Sprint(r.Length))
	field("Connection", "Keep-Alive")
	b.WriteString("\r\n")
	return b.Bytes(), nil
}

// own lists the headers, in net/http's spelling, that Head writes itself or that would change what
// the message is.
var own = func() map[string]bool {
	m := map[string]bool{}
	for _, name := range []string{
		"Accept", "Host", "Content-Length", "Connection", "Transfer-Encoding", "Trailer", "Upgrade", "Te", "Expect", "Content-Encoding",
		hdrPacketType, hdrSessionID, hdrProtocols, hdrContentName, hdrContentRange,
	} {
		m[http.CanonicalHeaderKey(name)] = true
	}
	return m
}()

// sendable reports whether a leaf name may be sent as Content-Name. It is of no use to the server,
// so that one with characters that BITS or HTTP do not allow is left out.
func sendable(name string) bool {
	return name != "" && len(name) <= MaxContentName && strings.TrimSpace(name) == name && !strings.ContainsAny(name, `\/:*?"<>|`) &&
		visible(strings.ReplaceAll(name, " ", ""))
}

// token reports whether s may be a header's name (RFC 9110 5.6.2).
func token(s string) bool {
	return s != "" && visible(s) && !strings.ContainsAny(s, `"(),/:;<=>?@[\]{}`)
}
