package httpget

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

// MaxRanges is how many ranges one request asks for: far fewer than what servers refuse (200 of
// Apache's), and a header of less than 4 KiB.
const MaxRanges = 64

const (
	maxPartHeader = 8 << 10  // of one part; BITS wants no more than 180 bytes besides the two that count
	maxPreamble   = 4 << 10  // before the first boundary
	maxSurplus    = 64 << 10 // bytes that a server may send between ranges that it has joined
)

// PartsRequest asks for parts of a file.
type PartsRequest struct {
	URL       string
	Header    http.Header  // what the job's owner wants to send
	Ranges    []bits.Range // 1 to MaxRanges, disjoint, in the order in which they are wanted
	Validator Validator    // of the version that they must be of; all zero if any will do
	PeerDist  PeerDist     // with Missing alone, or nothing
	Class     governor.Class
	Got       func(*governor.Conn) // as in Request
	Answered  func(*http.Response) // as in Request
}

// Parts is the answer to a PartsRequest: parts that belong to the version that Validator names.
// A server may send them in another order, join some and leave others out (RFC 9110 15.3.7.2):
// what is missing has to be asked for again.
type Parts struct {
	Validator Validator // its size is that of the whole file; known unless Restart is set
	Modified  time.Time
	// Restart says, for people, that the file is another one than the request's validator names,
	// and how it differs. Then there are no parts.
	Restart string
	Moved   string // as in Response

	url    string
	body   io.ReadCloser
	parser *partsParser // nil for a single part
	next   bits.Range   // the single part
	got    bool         // it was given out
	asked  []bits.Range
	left   int64 // bytes that the rest of the parts may have in all
	count  int   // parts that may still come
}

// ErrManyRanges means that the server answers requests for several ranges with the whole file; it may
// still do for one.
var ErrManyRanges = errors.New("the server takes no request for several ranges")

// GetParts sends a request for parts and checks the head of its answer. Its errors are those of Get, and
// ErrManyRanges; InsufficientRangeSupport if the server sends the whole file though one range was asked
// for, and InvalidRange if it has none of the bytes.
func (c *Client) GetParts(ctx context.Context, r PartsRequest) (*Parts, error) {
	if r.Got != nil {
		ctx = httpconn.OnConn(ctx, r.Got)
	}
	req, err := c.conns.Request(ctx, http.MethodGet, r.URL, r.Header, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Range", rangeHeader(r.Ranges))
	r.PeerDist.set(req.Header)
	switch v := r.Validator; {
	case v.ETag != "":
		req.Header.Set("If-Range", v.ETag)
	case v.LastModified != "" && !v.Fresh:
		req.Header.Set("If-Range", v.LastModified)
	}
	resp, err := c.conns.Do(req, r.Class)
	if err != nil {
		return nil, httpconn.TransportError(ctx, err, r.URL)
	}
	if r.Answered != nil {
		r.Answered(resp)
	}
	out, err := checkParts(r, resp)
	if err != nil || out.Restart != "" {
		httpconn.Drain(resp)
	}
	if out != nil {
		out.Moved = c.moved(ctx, req, resp)
	}
	return out, err
}

// rangeHeader writes ranges as a Range header does.
func rangeHeader(ranges []bits.Range) string {
	b := []byte("bytes=")
	for i, r := range ranges {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendInt(b, r.Offset, 10), '-')
		if r.Length != bits.ToEOF {
			b = strconv.AppendInt(b, r.End()-1, 10)
		}
	}
	return string(b)
}

// checkParts turns the head of an answer into Parts.
func checkParts(r PartsRequest, resp *http.Response) (*Parts, error) {
	known := r.Validator.ETag != "" || r.Validator.LastModified != "" || r.Validator.Size > 0
	out := &Parts{Validator: validatorOf(resp.Header), url: r.URL, body: resp.Body, asked: r.Ranges, count: len(r.Ranges)}
	out.Modified, _ = http.ParseTime(out.Validator.LastModified) // zero if there is none
	changed := func() (*Parts, error) {
		out.Restart = "the file changed on the server: " + r.Validator.difference(out.Validator)
		return out, nil
	}
	switch resp.StatusCode {
	case http.StatusOK:
		out.Validator.Size = resp.ContentLength
		switch {
		case known && !r.Validator.Same(out.Validator):
			return changed()
		case len(r.Ranges) > 1:
			return nil, ErrManyRanges
		}
		return nil, insufficient(r.URL, "the server sent the whole file though a part of it was asked for")
	case http.StatusPreconditionFailed:
		if known {
			return changed()
		}
		return nil, httpconn.StatusError(resp, r.URL)
	case http.StatusRequestedRangeNotSatisfiable:
		_, _, total, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err == nil {
			out.Validator.Size = total
		}
		if known && r.Validator.Size >= 0 && total >= 0 && err == nil && total != r.Validator.Size {
			return changed()
		}
		e := bits.Errorf(bits.InvalidRange, "the file on the server has none of the bytes that were asked for")
		if err == nil {
			e = bits.Errorf(bits.InvalidRange, "the file on the server has %d bytes, and none of those that were asked for", total)
		}
		e.Context, e.File = bits.ContextRemoteFile, r.URL
		return out, e
	case http.StatusPartialContent:
	default:
		return nil, httpconn.StatusError(resp, r.URL)
	}
	if err := checkEncoding(r.URL, resp.Header); err != nil {
		return nil, err
	}
	kind, params, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // of an unreadable one both are empty
	if kind == "multipart/byteranges" {
		boundary := params["boundary"]
		if boundary == "" || len(boundary) > 70 {
			return nil, badAnswer(r.URL, "the server sent several parts without a usable boundary between them")
		}
		out.parser = newPartsParser(resp.Body, boundary)
		first, total, err := out.parser.header()
		if err != nil {
			return nil, out.bad(resp.Request.Context(), err)
		}
		out.next, out.Validator.Size = first, total
	} else {
		first, last, total, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil {
			return nil, badAnswer(r.URL, "the server sent %v", err)
		}
		out.next, out.Validator.Size = bits.Range{Offset: first, Length: last - first + 1}, total
		if resp.ContentLength >= 0 && resp.ContentLength != out.next.Length {
			return nil, badAnswer(r.URL, "the server announced %d bytes in Content-Length but %d in Content-Range", resp.ContentLength, out.next.Length)
		}
	}
	if out.Validator.Size < 0 {
		return nil, insufficient(r.URL, "the server does not tell how large the file is of which it sends a part")
	}
	if known && !r.Validator.Same(out.Validator) {
		return changed() // the server ignored If-Range
	}
	out.left = maxSurplus * int64(len(r.Ranges))
	for _, a := range r.Ranges {
		out.left += max(0, min(a.End(), out.Validator.Size)-a.Offset)
	}
	return out, nil
}

func insufficient(u, why string) *bits.Error {
	return &bits.Error{Code: bits.InsufficientRangeSupport, Context: bits.ContextRemoteFile, File: u, Message: why}
}

// Next returns the next part, which lies within the file, and its bytes; io.EOF after the last. What is
// read of the bytes before the next call is the caller's choice only up to their end: a part has to be read
// whole. Each byte was asked for or lies close to one that was; at most so many parts come as ranges
// were asked for.
func (p *Parts) Next(ctx context.Context) (bits.Range, io.Reader, error) {
	if p.got {
		if p.parser == nil {
			return bits.Range{}, nil, io.EOF
		}
		part, total, err := p.parser.header()
		switch {
		case err == io.EOF:
			return bits.Range{}, nil, err
		case err != nil:
			return bits.Range{}, nil, p.bad(ctx, err)
		case total != p.Validator.Size:
			return bits.Range{}, nil, badAnswer(p.url, "the server sent parts of a file of %d and of one of %d bytes in one answer", p.Validator.Size, total)
		}
		p.next = part
	}
	p.got = true
	if p.count--; p.count < 0 {
		return bits.Range{}, nil, badAnswer(p.url, "the server sent more parts than were asked for")
	}
	wanted := false
	for _, a := range p.asked {
		wanted = wanted || a.Offset < p.next.End() && a.End() > p.next.Offset
	}
	if p.left -= p.next.Length; p.left < 0 || !wanted {
		return bits.Range{}, nil, badAnswer(p.url, "the server sent the bytes from %d to %d, which were not asked for", p.next.Offset, p.next.End())
	}
	if p.parser == nil {
		return p.next, io.LimitReader(p.body, p.next.Length), nil
	}
	return p.next, p.parser.content(), nil
}

// Close ends the answer. If all of it was read its connection can be used again.
func (p *Parts) Close() {
	if p.parser != nil {
		_, _ = io.CopyN(io.Discard, p.parser.r, maxPreamble) // what follows the last boundary
	}
	p.body.Close()
}

// bad is the error for an answer that could not be read on: the connection's, or the answer's own.
func (p *Parts) bad(ctx context.Context, err error) error {
	var form partsError
	if errors.As(err, &form) {
		return badAnswer(p.url, "the server sent %s", string(form))
	}
	return httpconn.TransportError(ctx, err, p.url)
}

// partsError says what is wrong with the form of an answer.
type partsError string

func (e partsError) Error() string { return string(e) }

// partsParser reads multipart/byteranges (RFC 9110 14.6). Each part tells its length, so that its bytes
// need not be searched for the boundary.
type partsParser struct {
	r        *bufio.Reader
	boundary []byte // with the two dashes before it
	begun    bool
	left     int64 // bytes of the present part that were not read
}

func newPartsParser(r io.Reader, boundary string) *partsParser {
	return &partsParser{r: bufio.NewReaderSize(r, 64<<10), boundary: []byte("--" + boundary)}
}

// header reads up to the bytes of the next part; io.EOF after the last.
func (p *partsParser) header() (part bits.Range, total int64, err error) {
	if p.left > 0 {
		return part, 0, partsError("parts that were not read")
	}
	room := maxPreamble
	for {
		line, err := p.line(&room)
		if err != nil {
			return part, 0, err
		}
		rest, ok := bytes.CutPrefix(line, p.boundary)
		rest = bytes.TrimRight(rest, " \t")
		if ok && len(rest) == 0 {
			break
		}
		if ok && p.begun && string(rest) == "--" {
			return part, 0, io.EOF
		}
		if p.begun && len(line) > 0 {
			return part, 0, partsError("a part that is longer than it says")
		}
	}
	p.begun = true
	room = maxPartHeader
	value, seen := "", false
	for {
		line, err := p.line(&room)
		if err != nil {
			return part, 0, err
		}
		if len(line) == 0 {
			break
		}
		name, v, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return part, 0, partsError("a part with a malformed header")
		}
		if strings.EqualFold(string(name), "Content-Range") {
			if seen {
				return part, 0, partsError("a part with two Content-Range headers")
			}
			value, seen = textproto.TrimString(string(v)), true
		}
	}
	first, last, total, err := parseContentRange(value)
	switch {
	case err != nil:
		return part, 0, partsError(err.Error())
	case first < 0 || total < 0:
		return part, 0, partsError("a part that does not tell where it belongs")
	}
	part = bits.Range{Offset: first, Length: last - first + 1}
	p.left = part.Length
	return part, total, nil
}

// line reads one line without its end. room is how many bytes may still be read.
func (p *partsParser) line(room *int) ([]byte, error) {
	line, err := p.r.ReadSlice('\n')
	*room -= len(line)
	switch {
	case *room < 0 || err == bufio.ErrBufferFull:
		return nil, partsError("parts with too much between them")
	case err == io.EOF:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// content returns the bytes of the present part.
func (p *partsParser) content() io.Reader { return (*partReader)(p) }

type partReader partsParser

func (p *partReader) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n, err := p.r.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	if err == io.EOF && p.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if n > 0 {
		err = nil
	}
	return n, err
}
