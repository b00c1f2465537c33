package faultserver

import (
	"cmp"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// answer is what will be sent: a status, a header without its framing, and a body that is a text
// or a stretch of the file between two texts.
type answer struct {
	status       int
	header       http.Header
	text         string
	file         File
	offset, size int64 // of the stretch; size 0 is no file content
	tail         string
}

// length returns the length of the body.
func (a *answer) length() int64 { return int64(len(a.text)) + a.size + int64(len(a.tail)) }

// message is an answer without file content.
func message(status int, text string) *answer {
	a := &answer{status: status, header: http.Header{}, text: text}
	a.header.Set("Content-Type", "text/plain; charset=utf-8")
	return a
}

// boundary parts the answers of RangeMultipart.
const boundary = "EBB_TEST_BOUNDARY"

// plan decides what a request is answered under a program.
func (e *Entry) plan(r *http.Request, p *Program) *answer {
	a := e.choose(r, p)
	for name, values := range p.Header {
		// Without values the key must stay: net/http puts a Content-Type where there is no key.
		a.header[textproto.CanonicalMIMEHeaderKey(name)] = values
	}
	const line = 4 << 10
	for i := 0; i*line < p.HeaderBytes; i++ {
		name := fmt.Sprintf("X-Padding-%06d", i)
		a.header.Set(name, strings.Repeat("x", line-len(name)-len(": \r\n")))
	}
	return a
}

func (e *Entry) choose(r *http.Request, p *Program) *answer {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		a := message(http.StatusMethodNotAllowed, "only GET and HEAD\n")
		a.header.Set("Allow", "GET, HEAD")
		return a
	case p.Redirect != "":
		return redirect(hop{path: e.path, to: p.Redirect, status: cmp.Or(p.RedirectStatus, http.StatusFound), left: p.Hops})
	case p.Status != 0:
		a := message(p.Status, http.StatusText(p.Status)+"\n")
		if p.RetryAfter != "" {
			a.header.Set("Retry-After", p.RetryAfter)
		}
		if p.Status == http.StatusUnauthorized {
			a.header.Set("WWW-Authenticate", `Basic realm="test"`)
		}
		return a
	}

	if p.Change != nil && p.Change.After == 0 {
		e.Replace(p.Change.To)
	}
	f := e.Current()
	etag := e.etag(f, p.ETag)
	a := &answer{status: http.StatusOK, header: http.Header{}, file: f, size: f.Size}
	a.header.Set("Content-Type", "application/octet-stream")
	if etag != "" {
		a.header.Set("ETag", etag)
	}
	if !p.NoLastModified {
		a.header.Set("Last-Modified", f.LastModified.Format(http.TimeFormat))
	}
	if p.Range != RangeIgnored {
		a.header.Set("Accept-Ranges", "bytes")
	}
	if unchanged(r, etag, a.header.Get("Last-Modified")) {
		a.status, a.size = http.StatusNotModified, 0
		return a
	}
	a.rangeOf(r, p, etag)
	if p.Gzip && a.size > 0 {
		a.header.Set("Content-Encoding", "gzip")
	}
	if p.BareRange && a.status == http.StatusPartialContent {
		a.header.Del("ETag")
		a.header.Del("Last-Modified")
	}
	return a
}

// unchanged evaluates If-None-Match and If-Modified-Since (RFC 9110, section 13.2.2).
func unchanged(r *http.Request, etag, modified string) bool {
	if list := r.Header.Get("If-None-Match"); list != "" {
		for tag := range strings.SplitSeq(list, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || etag != "" && strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(etag, "W/") {
				return true
			}
		}
		return false
	}
	since, err := http.ParseTime(r.Header.Get("If-Modified-Since"))
	if err != nil {
		return false
	}
	m, err := http.ParseTime(modified)
	return err == nil && !m.After(since)
}

// rangeOf makes a whole answer the one to a request for a range, if it is one and may be honoured.
func (a *answer) rangeOf(r *http.Request, p *Program, etag string) {
	size := a.file.Size
	first, last, ok := parseRange(r.Header.Get("Range"), size)
	if !ok || r.Method == http.MethodHead || p.Range == RangeIgnored {
		return
	}
	if cond := r.Header.Get("If-Range"); cond != "" && !p.IgnoreIfRange && !sameVersion(cond, etag, a.header.Get("Last-Modified")) {
		return
	}
	if first >= size || p.Range == RangeRefused || p.Range == RangeRefusedBare {
		a.status, a.size, a.text = http.StatusRequestedRangeNotSatisfiable, 0, "no such range\n"
		a.header.Set("Content-Type", "text/plain; charset=utf-8")
		if p.Range != RangeRefusedBare {
			a.header.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		}
		return
	}
	a.status = http.StatusPartialContent
	label := func(first, last int64, total string) string { return fmt.Sprintf("bytes %d-%d/%s", first, last, total) }
	total := strconv.FormatInt(size, 10)
	contentRange := label(first, last, total)
	switch p.Range {
	case RangeHonoured, RangeIgnored, RangeRefused, RangeRefusedBare, RangeUnlabelled, RangeMultipart:
	case RangeShifted:
		first++
		contentRange = label(first, last, total)
	case RangeMislabelled:
		contentRange = label(first+1, last+1, total)
	case RangeWrongTotal:
		contentRange = label(first, last, strconv.FormatInt(size+1, 10))
	case RangeStarTotal:
		contentRange = label(first, last, "*")
	case RangeGarbage:
		contentRange = "bytes one-two/three"
	case RangeShort:
		last = first + (last-first)/2
		contentRange = label(first, last, total)
	}
	a.offset, a.size = first, last-first+1
	switch p.Range {
	case RangeUnlabelled:
	case RangeMultipart:
		a.header.Set("Content-Type", "multipart/byteranges; boundary="+boundary)
		a.text = "--" + boundary + "\r\nContent-Type: application/octet-stream\r\nContent-Range: " + contentRange + "\r\n\r\n"
		a.tail = "\r\n--" + boundary + "--\r\n"
	default:
		a.header.Set("Content-Range", contentRange)
	}
}

// parseRange reads a Range header that asks for one range. One that is malformed or asks for
// several is not ok: a server may then send the whole file (RFC 9110, section 14.2).
func parseRange(s string, size int64) (first, last int64, ok bool) {
	spec, found := strings.CutPrefix(s, "bytes=")
	from, to, dash := strings.Cut(spec, "-")
	if !found || !dash || strings.Contains(to, ",") {
		return 0, 0, false
	}
	if from == "" { // the last bytes of the file
		n, err := strconv.ParseInt(to, 10, 64)
		return max(size-n, 0), size - 1, err == nil && n > 0
	}
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil || first < 0 {
		return 0, 0, false
	}
	if to == "" {
		return first, size - 1, true
	}
	last, err = strconv.ParseInt(to, 10, 64)
	return first, min(last, size-1), err == nil && last >= first
}

// sameVersion evaluates If-Range, which a weak ETag never satisfies (RFC 9110, section 13.1.5).
func sameVersion(cond, etag, modified string) bool {
	if strings.HasPrefix(cond, `"`) {
		return cond == etag
	}
	_, err := time.Parse(http.TimeFormat, cond)
	return err == nil && cond == modified
}

// hop is a place in a chain of redirects. All of it stands in the hop's own address, so chains
// need no memory and their hops do not use up a script.
type hop struct {
	path, to string
	status   int
	left     int // hops that come before to
}

// redirect is the answer of a hop.
func redirect(h hop) *answer {
	location := h.to
	if h.left > 0 {
		query := url.Values{"hops": {strconv.Itoa(h.left - 1)}, "to": {h.to}, "status": {strconv.Itoa(h.status)}}
		location = h.path + "?" + query.Encode()
	}
	a := message(h.status, "elsewhere\n")
	a.header.Set("Location", location)
	return a
}

// hopOf returns the hop that a request is for, if it is one.
func hopOf(r *http.Request) (hop, bool) {
	query := r.URL.Query()
	left, err := strconv.Atoi(query.Get("hops"))
	if err != nil {
		return hop{}, false
	}
	status, err := strconv.Atoi(query.Get("status"))
	return hop{path: r.URL.Path, to: query.Get("to"), status: status, left: left}, err == nil
}
