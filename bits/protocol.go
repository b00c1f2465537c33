package bits

import (
	"fmt"
	"slices"
	"strings"
)

// Protocol is a way to upload a file. The empty Protocol is none: a download's.
type Protocol string

// The protocols of uploads.
const (
	ProtocolAuto Protocol = "auto" // ask the server what it speaks, and choose
	ProtocolBITS Protocol = "bits" // BITS upload protocol, [MC-BUP]; the only one with a reply
	ProtocolTus  Protocol = "tus"  // tus 1.0
	ProtocolIETF Protocol = "ietf" // draft-ietf-httpbis-resumable-upload
	ProtocolS3   Protocol = "s3"   // S3 multipart upload
	ProtocolPut  Protocol = "put"  // plain HTTP PUT, which cannot go on after an interruption
	ProtocolFile Protocol = "file" // a file of this machine or of a mounted share is written; what its URL says
)

// Protocols lists them in the order people read them.
var Protocols = []Protocol{ProtocolAuto, ProtocolBITS, ProtocolTus, ProtocolIETF, ProtocolS3, ProtocolPut, ProtocolFile}

// ParseProtocol reads a protocol's name; case does not matter.
func ParseProtocol(s string) (Protocol, error) {
	p := Protocol(strings.ToLower(s))
	if slices.Contains(Protocols, p) {
		return p, nil
	}
	return "", fmt.Errorf("unknown protocol %q (want %s)", s, protocolNames())
}

// protocolNames lists them all.
func protocolNames() string {
	names := make([]string, len(Protocols))
	for i, p := range Protocols {
		names[i] = string(p)
	}
	return strings.Join(names, ", ")
}

// UnmarshalText implements encoding.TextUnmarshaler; case does not matter.
func (p *Protocol) UnmarshalText(b []byte) error {
	v, err := ParseProtocol(string(b))
	if err == nil {
		*p = v
	}
	return err
}
