// Package ietf uploads by "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload,
// interop version 8). Numbers in comments are sections of the draft.
//
// It makes an upload carefully, before it sends a byte of the file (4.2.2), so that nothing depends
// on the interim answer 104, which many proxies and libraries drop. It promises to go on where the
// server says that it is, also after a restart, and to take an upload for done only when the
// server has said so. A server that keeps sending it back is given up.
package ietf

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

const (
	interop        = "8"
	interopHeader  = "Upload-Draft-Interop-Version"
	completeHeader = "Upload-Complete"
	offsetHeader   = "Upload-Offset"
	lengthHeader   = "Upload-Length"
	limitHeader    = "Upload-Limit"
	partialContent = "application/partial-upload"

	statusResumptionSupported = 104

	// saveEvery is how often the offset is recorded while all goes well. Nothing depends on it,
	// since the server is asked after a restart.
	saveEvery = time.Second
)

// Client uploads by the draft.
type Client struct {
	http *httpconn.Client
}

// New returns a Client.
func New(c *httpconn.Client) *Client { return &Client{c} }

var _ upload.Uploader = (*Client)(nil)

// run is one call of Upload.
type run struct {
	c        *Client
	t        *upload.Task
	size     int64
	limits   limits
	patience upload.Patience
	conn     *governor.Conn // of the last request
	saved    time.Time
}

// Upload implements upload.Uploader.
func (c *Client) Upload(ctx context.Context, t *upload.Task) error {
	if t.State.Done {
		return nil
	}
	t.State.Protocol = bits.ProtocolIETF
	u := &run{c: c, t: t, size: t.Source.Size(), limits: noLimits}
	for begins := 0; ; begins++ {
		err := u.attempt(ctx)
		if !errors.Is(err, upload.ErrGone) {
			return err
		}
		if begins == upload.MaxBegins {
			return upload.Vanishing(t.State.URL)
		}
		t.State.URL, t.State.Offset = "", 0
	}
}

// Close implements upload.Uploader; the draft knows no such thing.
func (c *Client) Close(context.Context, *upload.Task) error { return nil }

// Cancel implements upload.Uploader (4.5). Servers that cannot, or do not know the upload, need not.
func (c *Client) Cancel(ctx context.Context, t *upload.Task) error {
	if t.State.URL == "" || t.State.Done {
		return nil
	}
	a, err := t.Do(ctx, c.http, upload.Request{Method: http.MethodDelete, URL: t.State.URL, Header: http.Header{interopHeader: {interop}}})
	if err != nil {
		return err
	}
	if err := a.Err("the upload was not cancelled"); a.Response.StatusCode/100 != 2 && upload.Transient(err) {
		return err
	}
	return nil
}

// attempt goes on with the upload where it is, or begins it.
func (u *run) attempt(ctx context.Context) error {
	if u.t.State.URL == "" {
		if err := u.create(ctx); err != nil {
			return err
		}
	} else if err := u.look(ctx); err != nil {
		return err
	}
	for !u.t.State.Done {
		if err := u.append(ctx); err != nil {
			return err
		}
	}
	return nil
}

// moved notes how far the upload is and records it: if it must, else now and then.
func (u *run) moved(at int64, record bool) error {
	u.t.State.Offset = at
	u.patience.Progress(at)
	u.t.Sent(at)
	if !record && time.Since(u.saved) < saveEvery {
		return nil
	}
	u.saved = time.Now()
	return u.t.Record()
}

// done records that the server has the file.
func (u *run) done() error {
	u.t.State.Done = true
	return u.moved(u.size, true)
}

func mismatch(a *upload.Answer, format string, args ...any) error {
	e := bits.Errorf(bits.ProtocolMismatch, format, args...)
	e.Context, e.File = bits.ContextRemoteFile, a.URL.String()
	return e
}

// create makes an upload without content (4.2.2).
func (u *run) create(ctx context.Context) error {
	target, err := url.Parse(u.t.URL)
	if err != nil {
		return &bits.Error{Code: bits.InvalidArg, Context: bits.ContextRemoteFile, File: u.t.URL, Message: "this is not a URL", Cause: err}
	}
	// A URL that names a file is PUT there; one that ends in a slash makes files of what is POSTed
	// to it. A program may well take one of the two only.
	methods := []string{http.MethodPut, http.MethodPost}
	if target.Path == "" || strings.HasSuffix(target.Path, "/") {
		methods = methods[1:]
	}
	for i, method := range methods {
		err := u.createBy(ctx, method)
		status := 0
		var e *bits.Error
		if errors.As(err, &e) {
			status = e.Code.HTTPStatus()
		}
		if i == len(methods)-1 || status != http.StatusNotFound && status != http.StatusMethodNotAllowed && status != http.StatusNotImplemented {
			return err
		}
	}
	return nil
}

func (u *run) createBy(ctx context.Context, method string) error {
	name := u.t.Source.Name()
	h := http.Header{interopHeader: {interop}, completeHeader: {"?0"}, lengthHeader: {strconv.FormatInt(u.size, 10)}}
	if method == http.MethodPost {
		h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	}
	if kind := mime.TypeByExtension(path.Ext(name)); kind != "" && u.t.Header.Get("Content-Type") == "" {
		h.Set("Content-Type", kind)
	}
	var mu sync.Mutex
	var interim http.Header // of the last 104; guarded by mu
	r := upload.Request{Method: method, URL: u.t.URL, Header: h, Interim: func(status int, h http.Header) {
		if status == statusResumptionSupported {
			mu.Lock()
			defer mu.Unlock()
			interim = h
		}
	}}
	a, err := u.t.Do(ctx, u.c.http, r)
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			return errors.Join(err, u.remember(interim))
		}
		return err
	}
	u.conn = a.Conn
	known := interim != nil || a.Response.Header.Get(completeHeader) != "" || a.Response.Header.Get(interopHeader) != ""
	location := a.Response.Header.Get("Location")
	if location == "" {
		location = interim.Get("Location")
	}
	switch s := a.Response.StatusCode; {
	case s/100 != 2:
		return upload.NotMade(a, u.size)
	case location == "":
		return mismatch(a, "the server does not know resumable uploads: it answered %d when asked for one", s)
	}
	a.Response.Header.Set("Location", location)
	to, err := a.Location()
	if err != nil {
		return err
	}
	u.t.State.URL = to.String()
	for _, h := range []http.Header{interim, a.Response.Header} {
		if err := u.learn(a.URL, h); err != nil {
			return err
		}
	}
	if err := u.moved(0, true); err != nil || known {
		return err
	}
	return u.look(ctx) // whether this is an upload or an ordinary answer
}

// remember keeps the upload of which a 104 told before the connection broke.
func (u *run) remember(interim http.Header) error {
	base, err := url.Parse(u.t.URL)
	if err != nil || interim.Get("Location") == "" {
		return nil
	}
	to, err := base.Parse(interim.Get("Location"))
	if err != nil || upload.Allowed(base, to) != nil {
		return nil
	}
	u.t.State.URL = to.String()
	return u.moved(0, true)
}

// learn takes the limits that a header tells (4.1.4).
func (u *run) learn(from *url.URL, h http.Header) error {
	if len(h.Values(limitHeader)) == 0 {
		return nil
	}
	u.limits = parseLimits(h.Values(limitHeader))
	if l := u.limits; l.maxSize >= 0 && u.size > l.maxSize || u.size < l.minSize {
		e := bits.Errorf(bits.TooLarge, "the file has %d bytes, and the server takes %d at most", u.size, l.maxSize)
		if u.size < l.minSize {
			e = bits.Errorf(bits.InvalidArg, "the file has %d bytes, and the server takes no resumable upload below %d", u.size, l.minSize)
		}
		e.Context, e.File = bits.ContextRemoteFile, from.String()
		return e
	}
	return nil
}

// look asks the server how far the upload is (4.3).
func (u *run) look(ctx context.Context) error {
	a, err := u.t.Do(ctx, u.c.http, upload.Request{Method: http.MethodHead, URL: u.t.State.URL, Header: http.Header{interopHeader: {interop}}})
	if err != nil {
		return err
	}
	u.conn = a.Conn
	h := a.Response.Header
	switch s := a.Response.StatusCode; {
	case s == http.StatusNotFound, s == http.StatusGone, s == http.StatusForbidden:
		return upload.ErrGone
	case s/100 != 2:
		return a.Err("the server did not say how far the upload is")
	}
	if err := u.learn(a.URL, h); err != nil {
		return err
	}
	at, ok := number(h.Values(offsetHeader))
	length, known := number(h.Values(lengthHeader))
	complete, said := boolean(h.Values(completeHeader))
	switch {
	case known && length != u.size:
		return upload.ErrGone // it is another file's by now
	case complete:
		return u.done()
	case !ok && !said:
		return mismatch(a, "the server does not know resumable uploads: it says nothing of how far one is")
	case !ok || at > u.size:
		return a.Broken("the server says that it has %.40q of %d bytes", h.Get(offsetHeader), u.size)
	}
	return u.moved(at, false)
}

// append sends the next bytes, and with the last of them that they are the last (4.4).
func (u *run) append(ctx context.Context) error {
	at := u.t.State.Offset
	n := u.fragment(u.size - at)
	last := at+n == u.size
	h := http.Header{
		interopHeader: {interop}, "Content-Type": {partialContent}, offsetHeader: {strconv.FormatInt(at, 10)}, completeHeader: {"?0"},
	}
	if last {
		h.Set(completeHeader, "?1")
	}
	if n > upload.FullStake {
		h.Set("Expect", "100-continue") // so that 413 costs nothing
	}
	a, err := u.t.Do(ctx, u.c.http, upload.Request{Method: http.MethodPatch, URL: u.t.State.URL, Header: h, From: at, To: at + n})
	if err != nil {
		if n > upload.FullStake && ctx.Err() == nil && upload.Transient(err) {
			if err := u.shrink(max(n/2, upload.FullStake)); err != nil {
				return err
			}
		}
		return err
	}
	u.conn = a.Conn
	complete, said := boolean(a.Response.Header.Values(completeHeader))
	switch s := a.Response.StatusCode; {
	case s/100 == 2:
		if err := u.learn(a.URL, a.Response.Header); err != nil {
			return err
		}
		if last && (complete || !said) {
			return u.done()
		}
		return u.appended(ctx, a, at, n)
	case complete: // the answer is the target's own: it has had all and does not want it
		u.t.State.URL, u.t.State.Offset = "", 0
		if err := u.moved(0, true); err != nil {
			return err
		}
		return a.Err("the server had the whole file and did not take it")
	case s == http.StatusNotFound, s == http.StatusGone:
		return upload.ErrGone
	case s == http.StatusConflict, s == http.StatusBadRequest && problem(a) == "completed-upload":
		if err := u.patience.Setback(a); err != nil {
			return err
		}
		if at, ok := number(a.Response.Header.Values(offsetHeader)); ok && at <= u.size && s == http.StatusConflict {
			return u.moved(at, false)
		}
		return u.look(ctx)
	case s == http.StatusRequestEntityTooLarge && n > max(u.limits.minAppend, upload.LeastFragment):
		return u.shrink(max(n/2, u.limits.minAppend, upload.LeastFragment))
	case s == http.StatusExpectationFailed && n > upload.FullStake:
		return u.shrink(upload.FullStake)
	}
	return a.Err("the server did not take a piece of the upload")
}

// appended takes the answer to n bytes sent from at that does not complete the upload.
func (u *run) appended(ctx context.Context, a *upload.Answer, at, n int64) error {
	next, ok := number(a.Response.Header.Values(offsetHeader))
	switch {
	case !ok && at+n == u.size, !ok && len(a.Response.Header.Values(offsetHeader)) > 0:
		if err := u.patience.Setback(a); err != nil {
			return err
		}
		return u.look(ctx)
	case !ok:
		next = at + n // it took the request, so it took all of it (4.4.2)
	case next < at:
		return a.Broken("the server took a piece of the upload at byte %d and says that it is now at %d", at, next)
	case next > at+n:
		return a.Broken("the server says that it has %d bytes of which it cannot have more than %d", next, at+n)
	}
	if next == at {
		if err := u.patience.Setback(a); err != nil {
			return err
		}
	}
	return u.moved(next, false)
}

// shrink makes requests carry n bytes at most from now on.
func (u *run) shrink(n int64) error {
	if s := &u.t.State; s.Fragment == 0 || n < s.Fragment {
		s.Fragment = n
	}
	return u.t.Record()
}

// fragment returns how many of the n bytes that are left the next request carries.
func (u *run) fragment(left int64) int64 {
	n := u.t.Fragment(left, u.conn, false)
	if limit := u.t.State.Fragment; limit > 0 {
		n = min(n, limit)
	}
	n = min(max(n, u.limits.minAppend), left)
	if u.limits.maxAppend > 0 {
		n = min(n, u.limits.maxAppend)
	}
	return n
}

// problem returns the name of the draft's problem (RFC 9457) that an answer is; empty for others.
func problem(a *upload.Answer) string {
	kind, _, _ := mime.ParseMediaType(a.Response.Header.Get("Content-Type"))
	var p struct{ Type string }
	if kind != "application/problem+json" || json.Unmarshal(a.Body, &p) != nil {
		return ""
	}
	_, name, _ := strings.Cut(p.Type, "#")
	return name
}
