package faultserver

import (
	"net/http"
	"time"
)

// Program says what is wrong with one answer. The zero value is a correct answer, and every
// field is a fault of its own that can be combined with the others.
//
// Faults marked (raw) are written to the connection by hand, which then closes; they exist over
// HTTP/1.1 only, and asking for them over HTTP/2 is answered with 500 and a sentence.
type Program struct {
	// Before the answer.

	// Silent reads the request and sends nothing until Entry.Release; then it answers.
	Silent bool
	// Garbage is sent, and the connection closed, in place of an HTTP answer. (raw)
	Garbage string
	// Informational is a number of 103 answers sent before the final one.
	Informational int

	// In place of the file.

	// Status answers with this status and no file: 404, 429, 503 and so on.
	Status int
	// RetryAfter is the Retry-After header as sent: seconds, or a time in http.TimeFormat.
	RetryAfter string
	// Redirect answers with this Location, sent as it is: absolute, relative or nonsense.
	Redirect string
	// RedirectStatus is the status of Redirect; 0 is 302.
	RedirectStatus int
	// Hops is a number of redirects inside this server that come before the one to Redirect.
	Hops int

	// In the header.

	// ETag is what becomes of the file's ETag.
	ETag ETagFault
	// NoLastModified leaves Last-Modified out.
	NoLastModified bool
	// BareRange leaves ETag and Last-Modified out of 206 answers.
	BareRange bool
	// ContentLength is sent in place of the true one, each value as a line of its own. (raw)
	ContentLength []string
	// Header is set over what the server would send, except for the body's framing; a name without
	// values is removed.
	Header http.Header
	// HeaderBytes is a number of bytes of padding in further header lines.
	HeaderBytes int
	// HeaderDrip sends the status line and header in small pieces. (raw)
	HeaderDrip Drip

	// The range.

	// Range is what becomes of a request for a range.
	Range RangeFault
	// IgnoreIfRange answers 206 whatever If-Range says.
	IgnoreIfRange bool

	// The body.

	// Framing is how the end of the body is told.
	Framing Framing
	// Gzip sends the body compressed, asked or not. Rate, Drip, Cut and Change count bytes before
	// compression; the log counts those after it.
	Gzip bool
	// Rate is a limit in bytes a second of this answer, kept evenly; 0 is none.
	Rate int64
	// Drip sends the body in small pieces.
	Drip Drip
	// Cut is what ends or stops the body before its end.
	Cut Cut
	// Change puts another version in the file's place, for this answer and those that follow.
	Change *Change
}

// Drip sends Bytes, waits Every, and so on; with Bytes 0 there is no drip.
type Drip struct {
	Bytes int
	Every time.Duration
}

// Change replaces a file while it is served.
type Change struct {
	// To is the new version.
	To File
	// After is how many body bytes of this answer go out before the change. With 0 the change
	// precedes the answer, whose header then already tells of the new version.
	After int64
	// InPlace goes on with the new bytes under the old header, like a file that is overwritten;
	// otherwise this answer goes on with the old bytes, like a file that is renamed over.
	InPlace bool
}

// Cut ends or stops a body.
type Cut struct {
	How CutKind
	// After is how many body bytes of this answer are sent first; a body that is not longer is
	// sent whole and then cut.
	After int64
}

// CutKind is a way to end a body early.
type CutKind int

// Ways to end a body early. Over HTTP/2, Reset and Close both end the stream with RST_STREAM and
// leave the connection open.
const (
	NoCut CutKind = iota
	// Reset ends the connection with a TCP reset, once the client's kernel has what was sent.
	Reset
	// Close ends the connection in good order: a body with a length is short, one in chunks
	// lacks the last chunk, one that ends with the connection looks whole.
	Close
	// Stall sends nothing more until Entry.Release or until the client leaves.
	Stall
)

// ETagFault is what becomes of an ETag.
type ETagFault int

// Faults of an ETag.
const (
	// ETagStrong is the file's own: correct.
	ETagStrong ETagFault = iota
	// ETagWeak marks it W/, which If-Range must not match.
	ETagWeak
	// ETagNone leaves it out.
	ETagNone
	// ETagToken is another with each request although the content is the same.
	ETagToken
)

// RangeFault is what becomes of a request for a range.
type RangeFault int

// Faults of a range.
const (
	// RangeHonoured answers 206 with what was asked: correct.
	RangeHonoured RangeFault = iota
	// RangeIgnored answers 200 with the whole file and offers no ranges: correct, too.
	RangeIgnored
	// RangeShifted answers, in header and body, with a range that starts one byte later.
	RangeShifted
	// RangeMislabelled sends what was asked under a Content-Range that starts one byte later.
	RangeMislabelled
	// RangeWrongTotal tells a total that is one byte more than the file has.
	RangeWrongTotal
	// RangeStarTotal tells the total as '*': allowed, the total is just not known.
	RangeStarTotal
	// RangeGarbage sends a Content-Range that cannot be read.
	RangeGarbage
	// RangeUnlabelled sends 206 without Content-Range.
	RangeUnlabelled
	// RangeShort answers, in header and body, with the first half of what was asked: allowed.
	RangeShort
	// RangeMultipart answers a single range as multipart/byteranges.
	RangeMultipart
	// RangeRefused answers 416 with the file's size in Content-Range.
	RangeRefused
	// RangeRefusedBare answers 416 without Content-Range.
	RangeRefusedBare
)

// Framing is how the end of a body is told.
type Framing int

// Framings of a body.
const (
	// FramingLength sends Content-Length.
	FramingLength Framing = iota
	// FramingChunked sends chunks; over HTTP/2 it just leaves Content-Length out. Together with
	// ContentLength the answer has both, which is an attack.
	FramingChunked
	// FramingClose answers as HTTP/1.0 without a length; the body ends with the connection. (raw)
	FramingClose
)

// ends reports whether the cut ends the answer.
func (k CutKind) ends() bool { return k == Reset || k == Close }

// handmade reports whether the program needs HTTP/1.1 written by hand. Cuts that end the answer
// do, too, over HTTP/1.1, but have a counterpart over HTTP/2.
func (p *Program) handmade() bool {
	return p.Garbage != "" || p.ContentLength != nil || p.HeaderDrip.Bytes > 0 || p.Framing == FramingClose
}
