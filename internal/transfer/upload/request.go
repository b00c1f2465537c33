package upload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

const (
	maxHops   = 10       // redirects of one request
	maxAnswer = 64 << 10 // bytes of an answer's body that are read

	maxInterims = 1000 // answers before the final one
)

// Request is a request whose answer is small and whose body, if it has one, is a piece of the
// source.
type Request struct {
	Method string
	URL    string
	Header http.Header // the protocol's; it wins over what the job's owner gave
	// From and To are the first byte of the body and the one after its last; equal for no body.
	From, To int64
	// Sent is told how far the body was taken, in bytes of the file; nil is Task.Sent.
	Sent func(offset int64)
	// Interim is told of the answers that come before the final one (1xx); it may be nil.
	Interim func(status int, h http.Header)
}

// Answer is the answer to a Request.
type Answer struct {
	Response *http.Response // its body is closed
	Body     []byte         // its first bytes, at most 64 KiB
	URL      *url.URL       // of the resource that answered, after redirects
	Sent     int64          // bytes of the body that were read for sending before the answer came
	Conn     *governor.Conn // that it came over; nil if it is not known
	Waited   time.Duration  // from the request's last byte to the answer's first
}

// Do sends a request under the governor and reads its answer, whatever its status. It follows 307
// and 308 to where Allowed lets it, without the owner's headers if that is another origin. A
// connection that stands still for Stall is given up. Errors have a code; the context's own and
// the source's are returned as they are.
func (t *Task) Do(ctx context.Context, c *httpconn.Client, r Request) (*Answer, error) {
	for hops := 0; ; hops++ {
		a, err := t.once(ctx, c, r)
		if err != nil {
			return nil, err
		}
		if s := a.Response.StatusCode; s != http.StatusTemporaryRedirect && s != http.StatusPermanentRedirect {
			return a, nil
		}
		to, err := httpconn.Location(a.Response)
		if err != nil {
			return nil, err
		}
		if err := Allowed(a.URL, to); err != nil {
			return nil, err
		}
		if hops == maxHops {
			return nil, &bits.Error{Code: bits.RedirectFailed, Context: bits.ContextRemoteFile, File: r.URL}
		}
		r.URL = to.String()
	}
}

// Concurrent returns a copy of the task for requests that are made at the same time: what it tells
// about connections comes from one of them at a time. Its State and Sent are not for use.
func (t *Task) Concurrent() *Task {
	var mu sync.Mutex
	c := *t
	c.On = func(conn *governor.Conn) {
		mu.Lock()
		defer mu.Unlock()
		t.On(conn)
	}
	c.Connected = func() {
		mu.Lock()
		defer mu.Unlock()
		t.Connected()
	}
	return &c
}

// Allowed reports why the server at from may not direct an upload, or the request for its reply, to
// another URL, by a redirect or as the place of what it made; nil if it may. A URL that came over the network gets
// this machine to send a file somewhere, so it must not lead to what only this machine can reach. What a name
// means is known when a connection is made: httpconn.Abroad looks at that.
func Allowed(from, to *url.URL) error {
	why := ""
	switch {
	case to.Scheme != "http" && to.Scheme != "https" || to.Host == "":
		why = "something that is neither http nor https"
	case from.Scheme == "https" && to.Scheme == "http":
		why = "http, though the upload's URL is https"
	case httpconn.Here(to.Hostname()) && !strings.EqualFold(from.Hostname(), to.Hostname()) && !httpconn.Here(from.Hostname()):
		why = "an address that only this machine can reach"
	default:
		return nil
	}
	e := bits.Errorf(bits.RedirectFailed, "the server directs the upload to %s, which is refused", why)
	e.Context, e.File = bits.ContextRemoteFile, from.String()
	return e
}

// once sends a request without following redirects.
func (t *Task) once(ctx context.Context, c *httpconn.Client, r Request) (*Answer, error) {
	ctx, w := t.Watch(ctx, r.URL, r.To > r.From)
	defer w.End()
	interims := 0
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if interims++; interims > maxInterims { // net/http counts only where nobody listens
			return errors.New("net/http: too many 1xx informational responses")
		}
		if r.Interim != nil {
			r.Interim(code, http.Header(h))
		}
		return nil
	}})
	var b *body
	if r.To > r.From {
		b = t.body(r, w)
		defer b.stop()
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: b.mark})
	}

	target, err := url.Parse(r.URL)
	if err != nil {
		return nil, &bits.Error{Code: bits.InvalidArg, Context: bits.ContextRemoteFile, File: r.URL, Message: fmt.Sprintf("%q is not a URL", r.URL), Cause: err}
	}
	req, err := c.Request(ctx, r.Method, r.URL, t.ownHeader(target), nil)
	if err != nil {
		return nil, err
	}
	for name, values := range r.Header {
		req.Header[name] = values
	}
	if b != nil {
		req.Body, req.ContentLength = b, r.To-r.From
		req.GetBody = func() (io.ReadCloser, error) { // for a connection that closed before the first byte
			b.rewind()
			return b, nil
		}
	}
	resp, err := c.Do(req, t.Class)
	if b != nil {
		b.stop()
		if b.err != nil {
			if err == nil {
				resp.Body.Close()
			}
			return nil, b.err
		}
	}
	if err != nil {
		return nil, httpconn.TransportError(ctx, err, r.URL)
	}
	defer resp.Body.Close()
	w.Answered()
	t.Answered(resp)
	a := &Answer{Response: resp, URL: resp.Request.URL}
	a.Conn, a.Waited = w.told()
	if b != nil {
		a.Sent = b.at.Load() - r.From
		if interims == 0 {
			// More may have gone out since, to a server that had confirmed it unseen. After an
			// interim answer it is not known when the final one began.
			a.Sent = b.marked.Load() - r.From
		}
	}
	a.Body, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the header says it all, should the rest not come
	if b != nil && resp.StatusCode/100 == 2 && a.Sent < r.To-r.From {
		return nil, a.Broken("the server confirmed %d bytes when it could have had no more than %d", r.To-r.From, a.Sent)
	}
	return a, nil
}

// ownHeader returns the owner's headers if they may be sent to a URL.
func (t *Task) ownHeader(to *url.URL) http.Header {
	from, err := url.Parse(t.URL)
	if err != nil || !httpconn.SameOrigin(from, to) {
		return nil
	}
	return t.Header
}

// body is a piece of the source on its way.
type body struct {
	src   Source
	r     Request
	sent  func(int64)
	begun func()
	watch *Watch

	at     atomic.Int64 // next byte; changed under mu
	marked atomic.Int64 // what at was when the answer began

	mu   sync.Mutex // net/http may go on reading when it has already returned an answer
	err  error      // the source's
	over bool       // nothing may be read any more
}

func (t *Task) body(r Request, w *Watch) *body {
	b := &body{src: t.Source, r: r, sent: r.Sent, begun: t.Connected, watch: w}
	b.rewind()
	if b.sent == nil {
		b.sent = t.Sent
	}
	return b
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.at.Load()
	switch {
	case b.over:
		return 0, net.ErrClosed
	case at == b.r.To:
		return 0, io.EOF
	case at == b.r.From:
		b.begun()
	}
	p = p[:min(int64(len(p)), b.r.To-at)]
	n, err := b.src.ReadAt(p, at)
	at += int64(n)
	b.at.Store(at)
	if n < len(p) && err != nil {
		if errors.Is(err, io.EOF) {
			err = &bits.Error{Code: bits.LocalFileChanged, Context: bits.ContextLocalFile, File: b.src.Name(), Message: "the file became shorter while it was sent"}
		}
		b.err = err
		return n, err
	}
	b.sent(at)
	b.watch.Moved(at == b.r.To)
	return n, nil
}

// Close implements io.Closer.
func (b *body) Close() error { return nil }

func (b *body) rewind() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at.Store(b.r.From)
}

// mark notes how far the body is. It does not wait for a read: what that brings is not sent yet.
func (b *body) mark() { b.marked.Store(b.at.Load()) }

// stop ends the body: when it returns nothing is read any more.
func (b *body) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}

// Err returns the error that the answer's status is, in a sentence that says what was being done
// and, where the server gave one, why not: a *bits.Error or a *httpconn.RetryError.
func (a *Answer) Err(doing string) error {
	err := httpconn.StatusError(a.Response, a.URL.String())
	var e *bits.Error
	if errors.As(err, &e) {
		s := a.Response.StatusCode
		e.Message = strings.TrimSpace(fmt.Sprintf("%s: the server answered %d %s", doing, s, http.StatusText(s)))
		if why := a.said(); why != "" {
			e.Message += fmt.Sprintf(" and said %q", why)
		}
	}
	return err
}

// Number returns the number that a header of the answer is: digits and nothing else. It reports
// false if there is no such header, or more than one, or the number is not below 2^62.
func (a *Answer) Number(name string) (int64, bool) {
	values := a.Response.Header.Values(name)
	if len(values) != 1 || values[0] == "" || strings.Trim(values[0], "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	return n, err == nil && n < 1<<62
}

// Location returns where the answer says that something was made.
func (a *Answer) Location() (*url.URL, error) {
	location := a.Response.Header.Get("Location")
	to, err := a.URL.Parse(location)
	if err != nil || location == "" {
		return nil, a.Broken("the server made an upload but does not say where")
	}
	return to, Allowed(a.URL, to)
}

// Broken is the error of an answer that breaks its protocol.
func (a *Answer) Broken(format string, args ...any) error {
	e := bits.Errorf(bits.InvalidServerResponse, format, args...)
	e.Context, e.File = bits.ContextRemoteFile, a.URL.String()
	return e
}

// said returns what a server says about an error in plain text or as a problem (RFC 9457), as one
// short line; empty if it says nothing for people.
func (a *Answer) said() string {
	kind, _, _ := mime.ParseMediaType(a.Response.Header.Get("Content-Type"))
	text := ""
	switch kind {
	case "text/plain":
		text = string(a.Body)
	case "application/problem+json":
		var p struct{ Title, Detail string }
		if json.Unmarshal(a.Body, &p) == nil {
			text = p.Detail
			if text == "" {
				text = p.Title
			}
		}
	}
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, text)
	if r := []rune(text); len(r) > 120 {
		text = string(r[:120]) + "…"
	}
	return text
}

// Target returns the URL of the file that an upload makes where the URL names it: that of the job,
// with the source's name added if it ends in a slash and so names a directory.
func Target(u, name string) (string, error) {
	target, err := url.Parse(u)
	if err != nil {
		return "", &bits.Error{Code: bits.InvalidArg, Context: bits.ContextRemoteFile, File: u, Message: fmt.Sprintf("%q is not a URL", u), Cause: err}
	}
	if target.Path == "" || strings.HasSuffix(target.Path, "/") {
		target = target.JoinPath(url.PathEscape(name))
	}
	return target.String(), nil
}
