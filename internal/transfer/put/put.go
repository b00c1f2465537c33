// Package put uploads by one PUT (RFC 9110 9.3.4), which every WebDAV server, object store's
// presigned URL and many a script understands, or by one request with the method that the job's owner gave.
//
// It promises that nothing is taken for done that the server did not confirm with the whole body
// sent. It cannot resume: an upload that was interrupted begins again, and its offset says so.
package put

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// askFirst is the size from which the server is asked whether it wants the body: below it, sending
// in vain costs less than asking.
const askFirst = 256 << 10

// Client uploads by PUT.
type Client struct {
	http *httpconn.Client
}

// New returns a Client.
func New(c *httpconn.Client) *Client { return &Client{c} }

var _ upload.Uploader = (*Client)(nil)

// Upload implements upload.Uploader.
func (c *Client) Upload(ctx context.Context, t *upload.Task) error {
	if t.State.Done {
		return nil
	}
	t.State.Protocol, t.State.Offset = upload.Put, 0
	t.Sent(0)
	size := t.Source.Size()
	target, err := upload.Target(t.URL, t.Source.Name())
	if err != nil {
		return err
	}
	r := upload.Request{Method: cmp.Or(t.Method, http.MethodPut), URL: target, From: 0, To: size}
	if size >= askFirst {
		// So that a refusal, a missing password or a redirect costs no byte (RFC 9110 10.1.1).
		r.Header = http.Header{"Expect": {"100-continue"}}
	}
	a, err := t.Do(ctx, c.http, r)
	if err == nil && a.Response.StatusCode == http.StatusExpectationFailed && r.Header != nil {
		r.Header = nil
		a, err = t.Do(ctx, c.http, r)
	}
	if err != nil {
		return err
	}
	if a.Response.StatusCode/100 != 2 {
		return refusal(a, r.Method, size)
	}
	t.State.Offset, t.State.Done = size, true
	t.Sent(size)
	return t.Save(t.State)
}

// Close implements upload.Uploader; PUT knows no such thing.
func (c *Client) Close(context.Context, *upload.Task) error { return nil }

// Cancel implements upload.Uploader. A server throws away by itself what did not come whole.
func (c *Client) Cancel(context.Context, *upload.Task) error { return nil }

// refusal is the error of an answer other than 2xx.
func refusal(a *upload.Answer, method string, size int64) error {
	doing := "the upload was not taken"
	switch a.Response.StatusCode {
	case http.StatusUnauthorized:
		doing = "the upload is not allowed"
	case http.StatusForbidden:
		doing = "the upload is not allowed: the file may exist there and not be for overwriting, or you may not write there"
	case http.StatusNotFound, http.StatusConflict:
		doing = "there is no place for the upload, such as a directory that does not exist"
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		doing = fmt.Sprintf("uploads by %s are not turned on there", method)
	case http.StatusRequestEntityTooLarge:
		doing = upload.TooLarge(size, a.Response.Header)
	case http.StatusPreconditionFailed:
		doing = "the target exists, or is not what the conditions given with the job ask for"
	case http.StatusInsufficientStorage:
		doing = "the server has no room for the upload"
	}
	return a.Err(doing)
}
