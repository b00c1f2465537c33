// Package auto finds out which protocol of uploads a server speaks, and uploads with that.
//
// It asks without sending a byte of the file, and prefers what loses least when something breaks:
//
//   - s3 for its scheme, and PUT for a URL with the signature of an object store: neither leaves a
//     choice.
//   - the IETF's resumable uploads of the version that Ebb speaks, which a server must name: the server
//     keeps what came before a connection broke, and writes it once.
//   - tus, which does the same but where pieces carry checksums, which a server verifies before it keeps them.
//   - BITS, which nothing announces: a session is begun, and used if the server knows what that is.
//   - PUT, which everything else may understand, and which cannot resume. A method of the job's own is for that
//     one request.
//
// A job whose server must reply speaks BITS, since nothing else has replies.
package auto

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// Beginner is the BITS client: it begins a session to find out whether the server knows what that
// is.
type Beginner interface {
	Begin(ctx context.Context, t *upload.Task) (bool, error)
}

// Client chooses a protocol.
type Client struct {
	http  *httpconn.Client
	bits  Beginner
	known map[upload.Protocol]upload.Uploader
}

// New returns a Client that chooses among the known protocols.
func New(c *httpconn.Client, b Beginner, known map[upload.Protocol]upload.Uploader) *Client {
	return &Client{http: c, bits: b, known: known}
}

var _ upload.Uploader = (*Client)(nil)

// Upload implements upload.Uploader.
func (c *Client) Upload(ctx context.Context, t *upload.Task) error {
	if t.State.Protocol == "" {
		p, why, err := c.choose(ctx, t)
		if err != nil {
			return err
		}
		t.State.Protocol = p
		t.Note(fmt.Sprintf("uploaded by %s: %s", p, why))
		if err := t.Record(); err != nil {
			return err
		}
	}
	u, err := c.chosen(t)
	if err != nil {
		return err
	}
	return u.Upload(ctx, t)
}

// Close implements upload.Uploader.
func (c *Client) Close(ctx context.Context, t *upload.Task) error {
	u, err := c.chosen(t)
	if err != nil {
		return err
	}
	return u.Close(ctx, t)
}

// Cancel implements upload.Uploader.
func (c *Client) Cancel(ctx context.Context, t *upload.Task) error {
	if t.State.Protocol == "" {
		return nil // it never began
	}
	u, err := c.chosen(t)
	if err != nil {
		return err
	}
	return u.Cancel(ctx, t)
}

func (c *Client) chosen(t *upload.Task) (upload.Uploader, error) {
	u, ok := c.known[t.State.Protocol]
	if !ok {
		return nil, bits.Errorf(bits.NotImplemented, "ebb does not upload with the protocol %q", t.State.Protocol)
	}
	return u, nil
}

var errBroken = &bits.Error{Code: bits.ConnectionError}

// choose finds the protocol for the upload and says why it is that, for people.
func (c *Client) choose(ctx context.Context, t *upload.Task) (upload.Protocol, string, error) {
	u, err := url.Parse(t.URL)
	switch {
	case err != nil:
		return "", "", &bits.Error{Code: bits.InvalidArg, Context: bits.ContextRemoteFile, File: t.URL, Message: fmt.Sprintf("%q is not a URL", t.URL), Cause: err}
	case t.Reply:
		return upload.BITS, "no other protocol has replies", nil
	case t.Method != "":
		return upload.Put, "the job has a method of its own, which makes one request of it", nil
	case u.Scheme == "s3":
		return upload.S3, "the URL names an object of a bucket", nil
	case presigned(u):
		return upload.Put, "the URL carries a signature for one PUT", nil
	}
	options := upload.Request{Method: http.MethodOptions, URL: t.URL}
	a, err := t.Do(ctx, c.http, options)
	if errors.Is(err, errBroken) {
		a, err = t.Do(ctx, c.http, options) // to tell a network that broke from a server that hangs up
	}
	switch {
	case errors.Is(err, errBroken):
		a = &upload.Answer{Response: &http.Response{}} // it has nothing to say to OPTIONS
	case err != nil:
		return "", "", err
	}
	switch a.Response.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return "", "", a.Err("the server was asked how it takes uploads") // what it can do, it will say later
	}
	if p, why := announced(a.Response.Header); p != "" {
		return p, why, nil
	}
	speaks, err := c.bits.Begin(ctx, t)
	if errors.Is(err, errBroken) {
		speaks, err = c.bits.Begin(ctx, t)
	}
	switch {
	case speaks:
		return upload.BITS, "the server began a session", err
	case err != nil && !foreign(err):
		return "", "", err
	}
	return upload.Put, "the server announces no protocol that can resume, and does not offer BITS", nil
}

// foreign reports whether an error of Begin is that of a server that does not understand it, rather
// than of a network that breaks.
func foreign(err error) bool {
	var e *bits.Error
	return errors.As(err, &e) && (e.Context != bits.ContextGeneralTransport || e.Code == bits.InvalidServerAnswer || e.Code == bits.ConnectionError)
}

// announced returns the protocol that an answer to OPTIONS announces and what it says; empty for
// none.
func announced(h http.Header) (upload.Protocol, string) {
	version := strings.TrimSpace(h.Get("Upload-Draft-Interop-Version"))
	if version == "8" {
		return upload.IETF, "the server offers resumable uploads, interop version 8"
	}
	for _, v := range h.Values("Tus-Version") {
		for version := range strings.SplitSeq(v, ",") {
			if strings.TrimSpace(version) == "1.0.0" {
				return upload.Tus, "the server offers tus 1.0.0"
			}
		}
	}
	if version == "" && len(h.Values("Upload-Limit")) > 0 { // of another version it is another protocol
		return upload.IETF, "the server names its limits for resumable uploads"
	}
	return "", ""
}

// presigned reports whether a URL carries the signature of an object store, which is for one PUT
// and nothing else.
func presigned(u *url.URL) bool {
	q := u.Query()
	return q.Has("X-Amz-Signature") || q.Has("X-Goog-Signature") || q.Has("Signature") && q.Has("AWSAccessKeyId")
}
