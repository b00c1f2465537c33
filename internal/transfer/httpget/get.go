// Package httpget makes one ranged request and says, before a byte is used, whether its answer
// may be joined to what is already there.
//
// It promises that an answer it returns begins at the offset it names, is not encoded, and
// belongs to the version of the file that the request's validator names; anything else starts
// at 0 or is an error with a code. It knows nothing of files on disk, jobs or retries.
package httpget

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrtp"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

// Client makes the requests of downloads. Its zero value is not usable; see New.
type Client struct{ conns *httpconn.Client }

// New returns a Client that asks over conns.
func New(conns *httpconn.Client) *Client { return &Client{conns} }

// Open returns how the requests of a job that begins to run reach servers.
func (c *Client) Open(s httpconn.Settings) (*httpconn.Access, error) { return c.conns.Open(s) }

// Validator identifies a version of a file on its server.
type Validator struct {
	ETag         string // strong entity tag with its quotes; empty if the server gave none
	LastModified string // as the server sent it; empty if it gave none
	Size         int64  // -1 if unknown
	// Fresh says that the file had changed within the last moments when the answer was made, so
	// that it could have changed again without any of the above showing it (RFC 9110 8.8.2.2).
	Fresh bool
	// Elsewhere says that it is of another source than the one that is asked: then its entity tag
	// says nothing, and size and date must be the same (client.md 6.5).
	Elsewhere bool
	// Verified says, with Elsewhere, that the whole file is checked by a digest at the end, so that
	// the same size is enough.
	Verified bool
}

// Usable reports whether the validator can tell two versions apart, so that a download may go
// on in the middle: a strong entity tag, or size and date together.
func (v Validator) Usable() bool {
	if v.Elsewhere {
		return v.Size >= 0 && (v.Verified || !v.Fresh && v.LastModified != "")
	}
	return !v.Fresh && (v.ETag != "" || v.LastModified != "" && v.Size >= 0)
}

// Same reports whether both identify the same version. What only one side knows counts
// against it: a server that named a version before and names none now gives no ground to
// join the two.
func (v Validator) Same(w Validator) bool {
	if v.Size >= 0 && w.Size >= 0 && v.Size != w.Size {
		return false
	}
	if v.Elsewhere {
		return v.Size >= 0 && v.Size == w.Size && (v.Verified || v.LastModified != "" && v.LastModified == w.LastModified)
	}
	if v.ETag != "" || w.ETag != "" {
		return v.ETag == w.ETag
	}
	return v.LastModified != "" && v.LastModified == w.LastModified
}

// difference says in words how w differs from v.
func (v Validator) difference(w Validator) string {
	switch {
	case v.Size >= 0 && w.Size >= 0 && v.Size != w.Size:
		return fmt.Sprintf("its size was %d, now it is %d", v.Size, w.Size)
	case v.ETag != w.ETag && v.ETag != "" && w.ETag != "":
		return fmt.Sprintf("its ETag was %.80s, now it is %.80s", v.ETag, w.ETag)
	case v.LastModified != w.LastModified && v.LastModified != "" && w.LastModified != "":
		return fmt.Sprintf("it was modified %.40s, now %.40s", v.LastModified, w.LastModified)
	}
	return "the server no longer tells which version it sends"
}

// Request asks for a file from an offset to its end.
type Request struct {
	URL       string
	Header    http.Header // what the job's owner wants to send
	Offset    int64       // bytes already here
	Validator Validator   // of the version they belong to; must be usable if Offset > 0
	Whole     bool        // ask without Range
	PeerDist  PeerDist    // content information may be the answer, see Response.Info
	Class     governor.Class
	// Got is called with the connection that the request goes over, before it is sent; several
	// times if there are redirects. It may be nil.
	Got func(*governor.Conn)
	// Answered is called with each answer, but those that redirect or ask who it is, before it is
	// checked. It does not touch the body. It may be nil.
	Answered func(*http.Response)
}

// Response is an answer whose body may be appended at Offset, unless Info is set.
type Response struct {
	Body      io.ReadCloser
	Offset    int64 // Request.Offset, or 0 if the file must be started again
	Length    int64 // bytes that Body will have; -1 if unknown
	Validator Validator
	Restart   string      // why the file must be started again, for people; empty if it need not
	Changed   bool        // it must be because it changed on the server
	Ranges    bool        // the server sends parts of the file
	Modified  time.Time   // from Last-Modified; zero if there is none
	Header    http.Header // of the answer
	URL       *url.URL    // that the answer came from in the end
	Moved     string      // the same, if it is another than was asked and the job is to keep it; else empty
	Info      bool        // the body is content information of the file from Offset on, for ReadInfo
	Speaks    bool        // the server gives content information of some files
	Makes     bool        // and will have it for this one soon
	Public    bool        // nothing shows that not everybody may have it: nobody said who asks, and no cache is told to keep off
	NoStore   bool        // no cache is to keep it

	limit int64 // bytes that content information may have
}

// Get sends a request and checks its answer. Errors are of type *bits.Error or *httpconn.RetryError,
// but for the context's own.
func (c *Client) Get(ctx context.Context, r Request) (*Response, error) {
	if r.Got != nil {
		ctx = httpconn.OnConn(ctx, r.Got)
	}
	req, err := c.conns.Request(ctx, c.conns.Method(ctx), r.URL, r.Header, nil)
	if err != nil {
		return nil, err
	}
	whole := r.Whole
	if r.PeerDist.Version > 0 && r.Offset == 0 {
		r.Whole = true // a server may describe whole files only (peercache.md 6.2)
	}
	r.PeerDist.set(req.Header)
	if !r.Whole {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(r.Offset, 10)+"-")
		if r.Offset > 0 {
			switch {
			case r.Validator.Verified:
			case r.Validator.ETag != "" && !r.Validator.Elsewhere:
				req.Header.Set("If-Range", r.Validator.ETag)
			case r.Validator.LastModified != "":
				req.Header.Set("If-Range", r.Validator.LastModified)
			}
		}
	}
	resp, err := c.conns.Do(req, r.Class)
	if err != nil {
		return nil, httpconn.TransportError(ctx, err, r.URL)
	}
	if r.Answered != nil {
		r.Answered(resp)
	}
	out, err := c.check(r, resp)
	if err != nil || out == nil || out.Body == nil {
		httpconn.Drain(resp)
	}
	if r.PeerDist.Version > 0 && (err == errInfo || err != nil && refusesInfo(resp.StatusCode)) {
		r.PeerDist, r.Whole = PeerDist{Missing: err == errInfo}, whole
		return c.Get(ctx, r)
	}
	if out != nil {
		out.Moved = c.moved(ctx, req, resp)
	}
	if out == nil && err == nil { // the range was of no use: ask for the whole
		again := r.Offset > 0
		r.Whole, r.Offset = true, 0
		out, err = c.Get(ctx, r)
		if err == nil && again && out.Restart == "" {
			out.Restart = "the server does not send parts of the file properly"
		}
	}
	return out, err
}

// moved returns the URL that an answer came from, if it is another than was asked and the job is to
// keep it; else nothing.
func (c *Client) moved(ctx context.Context, req *http.Request, resp *http.Response) string {
	to := resp.Request.URL.String()
	if !c.conns.ReportsRedirects(ctx) || to == req.URL.String() || len(to) > bits.MaxURLLen {
		return ""
	}
	return to
}

// check turns an answer into a Response. Neither a Response nor an error means that the range
// should be left out.
func (c *Client) check(r Request, resp *http.Response) (*Response, error) {
	status := resp.StatusCode
	if status != http.StatusOK && status != http.StatusPartialContent {
		return c.checkStatus(r, resp)
	}
	out := &Response{Body: resp.Body, Length: resp.ContentLength, Validator: validatorOf(resp.Header), Header: resp.Header, URL: resp.Request.URL}
	out.Modified, _ = http.ParseTime(out.Validator.LastModified) // zero if there is none
	out.Public = !httpconn.Identified(resp) && !keptOff(resp.Header)
	says, ok := pccrtp.Answered(resp.Header)
	out.Speaks, out.Makes, out.NoStore = ok, says.MakeHash, hasDirective(resp.Header, "no-store")
	if says.Encoded && r.PeerDist.Version > 0 {
		if !ok {
			return nil, errInfo
		}
		return out, checkInfo(r, resp, out, says.Length)
	}
	if err := checkEncoding(r.URL, resp.Header); err != nil {
		return nil, err
	}
	if status == http.StatusOK {
		out.Validator.Size = resp.ContentLength
		// Who was asked for a range would have sent it; who was not may, unless he says otherwise (RFC 9110 14.3).
		out.Ranges = r.PeerDist.Version > 0 && !strings.EqualFold(resp.Header.Get("Accept-Ranges"), "none")
		if r.Offset > 0 {
			out.Restart = "the server sent the whole file instead of the rest"
			if !r.Validator.Same(out.Validator) {
				out.Restart, out.Changed = "the file changed on the server: "+r.Validator.difference(out.Validator), true
			}
		}
		return out, nil
	}

	if strings.HasPrefix(resp.Header.Get("Content-Type"), "multipart/byteranges") {
		return nil, badAnswer(r.URL, "the server sent several parts though one range was asked for")
	}
	if r.Whole {
		return nil, badAnswer(r.URL, "the server sent a part of the file though all of it was asked for")
	}
	first, last, total, err := parseContentRange(resp.Header.Get("Content-Range"))
	if err != nil {
		return nil, badAnswer(r.URL, "the server sent %v", err)
	}
	if total < 0 { // whether this part reaches the end of the file cannot be known
		return nil, nil
	}
	length := last - first + 1
	switch {
	case first != r.Offset:
		return nil, badAnswer(r.URL, "the server sent the file from byte %d though byte %d was asked for", first, r.Offset)
	case resp.ContentLength >= 0 && resp.ContentLength != length:
		return nil, badAnswer(r.URL, "the server announced %d bytes in Content-Length but %d in Content-Range", resp.ContentLength, length)
	}
	out.Offset, out.Length, out.Validator.Size, out.Ranges = first, length, total, true
	if r.Offset > 0 && !r.Validator.Same(out.Validator) {
		// The server ignored If-Range and sent the rest of another version.
		return &Response{Validator: out.Validator, Restart: "the file changed on the server: " + r.Validator.difference(out.Validator)}, nil
	}
	return out, nil
}

// keptOff reports whether an answer is not for caches that several people use (RFC 9111 5.2.2).
func keptOff(h http.Header) bool { return hasDirective(h, "no-store", "private") }

// hasDirective reports whether Cache-Control has one of these directives.
func hasDirective(h http.Header, names ...string) bool {
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			return true
		}
	}
	return false
}

// checkStatus deals with answers that carry no file.
func (c *Client) checkStatus(r Request, resp *http.Response) (*Response, error) {
	status := resp.StatusCode
	switch {
	case status == http.StatusRequestedRangeNotSatisfiable && !r.Whole:
		_, _, total, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err == nil && total == 0 && r.Offset == 0 { // an empty file has no byte 0
			out := &Response{Body: http.NoBody, Validator: validatorOfEmpty(resp.Header)}
			out.Modified, _ = http.ParseTime(out.Validator.LastModified)
			return out, nil
		}
		if r.Offset > 0 {
			return &Response{Restart: "the file on the server is now shorter than what was here"}, nil
		}
		return nil, nil
	case status == http.StatusPreconditionFailed && r.Offset > 0:
		return &Response{Restart: "the file changed on the server"}, nil
	}
	return nil, httpconn.StatusError(resp, r.URL)
}

func validatorOfEmpty(h http.Header) Validator {
	v := validatorOf(h)
	v.Size = 0
	return v
}

// validatorOf reads the validators. A weak entity tag is none: it promises the same meaning,
// not the same bytes (RFC 9110 8.8.3).
func validatorOf(h http.Header) Validator {
	v := Validator{Size: -1, LastModified: h.Get("Last-Modified")}
	if tag := h.Get("Etag"); len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		v.ETag = tag
	}
	if len(v.ETag) > 1024 {
		v.ETag = ""
	}
	modified, err := http.ParseTime(v.LastModified)
	if err != nil {
		v.LastModified = ""
		return v
	}
	now, err := http.ParseTime(h.Get("Date"))
	settled := err == nil && now.Sub(modified) >= settleTime
	v.Fresh = !settled && (v.ETag == "" || tellsSeconds(v.ETag, modified))
	return v
}

// settleTime is how much older than its answer a file must be for its date to identify it: dates
// have whole seconds.
const settleTime = 2 * time.Second

// tellsSeconds reports whether an entity tag is made from the date, in seconds, and the size, as
// nginx and older versions of Caddy do: then it is no better than the date.
func tellsSeconds(tag string, modified time.Time) bool {
	for _, base := range []int{16, 36} {
		if strings.HasPrefix(tag, `"`+strconv.FormatInt(modified.Unix(), base)) {
			return true
		}
	}
	return false
}

// compressedNames are endings of files that some servers label with a content encoding
// although the compressed form is the file.
var compressedNames = map[string][]string{
	"gzip": {".gz", ".tgz", ".svgz", ".gzip"}, "x-gzip": {".gz", ".tgz", ".svgz", ".gzip"},
	"compress": {".z"}, "x-compress": {".z"}, "br": {".br"}, "zstd": {".zst"},
	"bzip2": {".bz2", ".tbz", ".tbz2"}, "x-bzip2": {".bz2", ".tbz", ".tbz2"}, "xz": {".xz", ".txz"}, "x-xz": {".xz", ".txz"},
}

// checkEncoding refuses a body that was compressed on the way: its bytes are not the file's,
// and ranges of it mean nothing.
func checkEncoding(u string, h http.Header) error {
	enc := strings.ToLower(strings.TrimSpace(strings.Join(h.Values("Content-Encoding"), ",")))
	if enc == "" || enc == "identity" {
		return nil
	}
	name, _, _ := strings.Cut(u, "?")
	ext := strings.ToLower(path.Ext(name))
	for _, e := range compressedNames[enc] {
		if e == ext {
			return nil
		}
	}
	return badAnswer(u, "the server sent the file with the encoding %.40q though none was asked for", enc)
}

// parseContentRange reads a Content-Range of one byte range (RFC 9110 14.4). total is -1 if it
// is unknown. Of an unsatisfied range ("bytes */123") only total is set, and first is -1.
func parseContentRange(s string) (first, last, total int64, err error) {
	bad := func() (int64, int64, int64, error) {
		if s == "" {
			return 0, 0, -1, errors.New("a partial answer without Content-Range")
		}
		return 0, 0, -1, fmt.Errorf("the malformed Content-Range %.80q", s)
	}
	unit, rest, ok := strings.Cut(s, " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return bad()
	}
	span, size, ok := strings.Cut(strings.TrimSpace(rest), "/")
	if !ok {
		return bad()
	}
	total = -1
	if size != "*" {
		if total, ok = digits(size); !ok {
			return bad()
		}
	}
	if span == "*" {
		if total < 0 {
			return bad()
		}
		return -1, -1, total, nil
	}
	a, b, ok := strings.Cut(span, "-")
	if !ok {
		return bad()
	}
	var ok1, ok2 bool
	first, ok1 = digits(a)
	last, ok2 = digits(b)
	if !ok1 || !ok2 || last < first || total >= 0 && last >= total {
		return bad()
	}
	return first, last, total, nil
}

// digits reads a number that has nothing but digits, so neither a sign nor a space.
func digits(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n < 1<<62
}

// Changed asks whether the file is still the version that v names. Only an answer that names
// another version counts: an error, a server that gives no validators and a link that works
// once do not.
func (c *Client) Changed(ctx context.Context, u string, header http.Header, v Validator, class governor.Class) (string, error) {
	w, err := c.look(ctx, u, header, v, class)
	if err != nil || w.Same(v) || w.ETag == "" && w.LastModified == "" {
		return "", err
	}
	if v.Size >= 0 && w.Size == v.Size && v.LastModified != "" && w.LastModified == v.LastModified {
		// Only the ETag is another. Some servers, and the machines behind one name, give each
		// answer a different one, which says nothing.
		if x, err := c.look(ctx, u, header, w, class); err == nil && x.ETag != w.ETag && x.ETag != "" {
			return "", nil
		}
	}
	return "the file changed on the server while it was fetched: " + v.difference(w), nil
}

// look returns the validator of the version that the server has now, by a conditional request
// whose body, should one come, is not read. It is v if the server says that nothing changed, and
// empty if it says something else.
func (c *Client) look(ctx context.Context, u string, header http.Header, v Validator, class governor.Class) (Validator, error) {
	req, err := c.conns.Request(ctx, http.MethodGet, u, header, nil)
	if err != nil {
		return Validator{}, err
	}
	// Without an ETag it takes date and size together to tell versions apart, and a condition on
	// the date alone would be answered without a size.
	if v.ETag != "" {
		req.Header.Set("If-None-Match", v.ETag)
	}
	req.Header.Set("Range", "bytes=0-0") // at most one byte of body is wanted
	resp, err := c.conns.Do(req, class)
	if err != nil {
		return Validator{}, httpconn.TransportError(ctx, err, u)
	}
	httpconn.Drain(resp)
	w := validatorOf(resp.Header)
	switch resp.StatusCode {
	case http.StatusOK:
		w.Size = resp.ContentLength
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		if _, _, total, err := parseContentRange(resp.Header.Get("Content-Range")); err == nil {
			w.Size = total
		}
	case http.StatusNotModified:
		return v, nil
	default:
		return Validator{}, nil
	}
	return w, nil
}

// badAnswer is an answer that breaks the protocol.
func badAnswer(u, format string, args ...any) *bits.Error {
	e := bits.Errorf(bits.InvalidServerResponse, format, args...)
	e.Context, e.File = bits.ContextRemoteFile, u
	return e
}
