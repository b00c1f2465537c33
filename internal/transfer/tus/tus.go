// Package tus uploads by tus 1.0 (https://tus.io/protocols/resumable-upload, text of 2025-06) with
// the extensions creation, checksum, termination, expiration and concatenation.
//
// It promises to go on where the server says that it is, also after a restart, to send a checksum
// with every piece where the server can verify it, and to take an upload for done only when the
// server has acknowledged the file's last byte. A server that keeps sending it back is given up.
package tus

import (
	"context"
	"encoding/base64"
	"errors"
	"mime"
	"net/http"
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
	version = "1.0.0"

	// saveEvery is how often the offset is recorded while all goes well. Nothing depends on it,
	// since the server is asked after a restart.
	saveEvery = time.Second
)

// Client uploads by tus.
type Client struct {
	http *httpconn.Client
}

// New returns a Client.
func New(c *httpconn.Client) *Client { return &Client{c} }

var _ upload.Uploader = (*Client)(nil)

// run is one call of Upload.
type run struct {
	c      *Client
	t      *upload.Task // State is guarded by mu
	server server
	conn   *governor.Conn // of the first request

	mu    sync.Mutex
	saved time.Time // guarded by mu
}

// Upload implements upload.Uploader.
func (c *Client) Upload(ctx context.Context, t *upload.Task) error {
	if t.State.Done {
		return nil
	}
	t.State.Protocol = bits.ProtocolTus
	u := &run{c: c, t: t}
	if err := u.ask(ctx); err != nil {
		return err
	}
	if len(t.State.Parts) == 0 && t.State.URL == "" && u.worthParts() {
		if err := u.split(); err != nil {
			return err
		}
	}
	if len(t.State.Parts) > 0 {
		err := u.parallel(ctx)
		if !errors.Is(err, errNoConcat) {
			return err
		}
	}
	return u.single(ctx)
}

// single uploads the file as one upload.
func (u *run) single(ctx context.Context) error {
	p := &piece{t: u.t, index: -1, to: u.t.Source.Size(), url: u.t.State.URL}
	if err := u.complete(ctx, p); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.done()
}

// done records that the server has the file; mu is held.
func (u *run) done() error {
	size := u.t.Source.Size()
	u.t.State.Offset, u.t.State.Done = size, true
	u.t.Sent(size)
	return u.t.Record()
}

// Close implements upload.Uploader: it lets the server throw away the parts that a file was
// made of, which would otherwise take room until they expire.
func (c *Client) Close(ctx context.Context, t *upload.Task) error {
	for _, p := range t.State.Parts {
		if p.URL != "" {
			_ = c.remove(ctx, t, p.URL) // they expire
		}
	}
	return nil
}

// Cancel implements upload.Uploader by the termination extension.
func (c *Client) Cancel(ctx context.Context, t *upload.Task) error {
	urls := []string{t.State.URL}
	for _, p := range t.State.Parts {
		urls = append(urls, p.URL)
	}
	var failed error
	for _, u := range urls {
		if u == "" || u == t.State.URL && t.State.Done {
			continue
		}
		if err := c.remove(ctx, t, u); err != nil {
			failed = err
		}
	}
	return failed
}

// remove ends an upload. Servers that cannot, or do not know it, need not.
func (c *Client) remove(ctx context.Context, t *upload.Task, u string) error {
	a, err := t.Do(ctx, c.http, upload.Request{Method: http.MethodDelete, URL: u, Header: http.Header{"Tus-Resumable": {version}}})
	if err != nil {
		return err
	}
	if err := a.Err("the upload was not cancelled"); a.Response.StatusCode/100 != 2 && upload.Transient(err) {
		return err
	}
	return nil
}

// server is what a server says that it can do.
type server struct {
	asked         bool // it answered
	creation      bool
	concatenation bool
	checksum      string // the best algorithm that both know; empty for none
	maxSize       int64  // -1 if it names none
	waited        time.Duration
}

// ask learns what the server can do. A server that does not say is taken for one that makes
// uploads and no more.
func (u *run) ask(ctx context.Context) error {
	a, err := u.t.Do(ctx, u.c.http, upload.Request{Method: http.MethodOptions, URL: u.t.URL, Header: http.Header{"Tus-Resumable": {version}}})
	if err != nil {
		return err
	}
	u.conn = a.Conn
	u.server = server{creation: true, maxSize: -1, waited: a.Waited}
	versions := a.Response.Header.Values("Tus-Version")
	if a.Response.StatusCode/100 != 2 || len(versions) == 0 {
		return nil
	}
	if !lists(versions, version) {
		return mismatch(a, "the server speaks tus %.40q and not "+version, strings.Join(versions, ","))
	}
	u.server = parseServer(a.Response.Header)
	u.server.waited = a.Waited
	if n, ok := a.Number("Tus-Max-Size"); ok {
		u.server.maxSize = n
	}
	size := u.t.Source.Size()
	switch {
	case !u.server.creation:
		return mismatch(a, "the server makes no uploads by tus")
	case u.server.maxSize >= 0 && size > u.server.maxSize:
		e := bits.Errorf(bits.TooLarge, "the file has %d bytes, and the server takes %d at most", size, u.server.maxSize)
		e.Context, e.File = bits.ContextRemoteFile, u.t.URL
		return e
	}
	return nil
}

func mismatch(a *upload.Answer, format string, args ...any) error {
	e := bits.Errorf(bits.ProtocolMismatch, format, args...)
	e.Context, e.File = bits.ContextRemoteFile, a.URL.String()
	return e
}

// parseServer reads the answer to OPTIONS.
func parseServer(h http.Header) server {
	extensions := h.Values("Tus-Extension")
	s := server{asked: true, maxSize: -1, creation: lists(extensions, "creation"), concatenation: lists(extensions, "concatenation")}
	if lists(extensions, "checksum") {
		for _, known := range algorithms {
			if lists(h.Values("Tus-Checksum-Algorithm"), known.name) {
				s.checksum = known.name
				break
			}
		}
	}
	return s
}

// lists reports whether lists of values with commas between them have one.
func lists(values []string, want string) bool {
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(item), want) {
				return true
			}
		}
	}
	return false
}

// create makes an upload and returns its URL. concat is the header Upload-Concat, without which it
// becomes a file; a negative size leaves Upload-Length out.
func (u *run) create(ctx context.Context, t *upload.Task, size int64, concat string) (string, error) {
	h := http.Header{"Tus-Resumable": {version}}
	if size >= 0 {
		h.Set("Upload-Length", strconv.FormatInt(size, 10))
	}
	if concat != "" {
		h.Set("Upload-Concat", concat)
	}
	if concat != partial {
		h.Set("Upload-Metadata", metadata(t))
	}
	a, err := t.Do(ctx, u.c.http, upload.Request{Method: http.MethodPost, URL: t.URL, Header: h})
	if err != nil {
		return "", err
	}
	switch s := a.Response.StatusCode; {
	case s == http.StatusPreconditionFailed && a.Response.Header.Get("Tus-Version") != "":
		return "", mismatch(a, "the server speaks tus %.40q and not "+version, a.Response.Header.Get("Tus-Version"))
	case s/100 != 2:
		return "", upload.NotMade(a, u.t.Source.Size())
	case s != http.StatusCreated || a.Response.Header.Get("Location") == "":
		return "", mismatch(a, "the server does not speak tus: it answered %d when asked for an upload", s)
	}
	to, err := a.Location()
	if err != nil {
		return "", err
	}
	return to.String(), nil
}

// metadata is the header Upload-Metadata: what the job's owner gave, else the file's name and type.
func metadata(t *upload.Task) string {
	if own := t.Header.Get("Upload-Metadata"); own != "" {
		return own
	}
	name := t.Source.Name()
	kind := mime.TypeByExtension(path.Ext(name))
	if kind == "" {
		kind = "application/octet-stream"
	}
	encode := base64.StdEncoding.EncodeToString
	return "filename " + encode([]byte(name)) + ",filetype " + encode([]byte(kind))
}
