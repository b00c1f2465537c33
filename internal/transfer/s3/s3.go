// Package s3 uploads to object stores by the S3 API: a small file by PutObject, a larger one by
// multipart upload. The URL is s3://BUCKET/KEY; endpoint, region and credentials are those of the
// service's environment, as for any AWS tool (AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID,
// AWS_PROFILE and so on), but for the machine's own role in AWS, which no request asks for.
//
// It promises that an upload goes on with the parts that the store lists, also after a restart, and
// that every part is signed together with its SHA-256, so that the store refuses what arrives
// damaged. It knows nothing of presigned URLs, which are for package put.
package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// defaultRegion is what most stores other than AWS's call theirs.
const defaultRegion = "us-east-1"

// Client uploads by the S3 API.
type Client struct {
	http *httpconn.Client
}

// New returns a Client.
func New(c *httpconn.Client) *Client { return &Client{c} }

var _ upload.Uploader = (*Client)(nil)

// object is what is uploaded to, for one call.
type object struct {
	t           *upload.Task
	api         *s3.Client
	bucket, key string
	url         string // for errors
}

// Upload implements upload.Uploader.
func (c *Client) Upload(ctx context.Context, t *upload.Task) error {
	if t.State.Done {
		return nil
	}
	t.State.Protocol = bits.ProtocolS3
	if t.State.URL == "" {
		target, err := upload.Target(t.URL, t.Source.Name())
		if err != nil {
			return err
		}
		t.State.URL = target // Cancel has no source to name it
	}
	o, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	if t.Source.Size() <= wholeSize && t.State.ID == "" {
		return o.whole(ctx)
	}
	m := &multipart{object: o, size: t.Source.Size()}
	for begins := 0; ; begins++ {
		err := m.run(ctx)
		if !errors.Is(err, upload.ErrGone) {
			return err
		}
		if begins == upload.MaxBegins {
			return upload.Vanishing(o.url)
		}
		t.State = upload.State{Protocol: t.State.Protocol, URL: t.State.URL}
		t.Sent(0)
	}
}

// Close implements upload.Uploader; an object that is complete needs no more.
func (c *Client) Close(context.Context, *upload.Task) error { return nil }

// Cancel implements upload.Uploader. Parts that are left cost money with most stores.
func (c *Client) Cancel(ctx context.Context, t *upload.Task) error {
	if t.State.ID == "" || t.State.Done {
		return nil
	}
	o, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	_, err = o.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &o.bucket, Key: &o.key, UploadId: &t.State.ID})
	if err = o.fail(ctx, "the upload was not cancelled", err); err == nil || apiCode(err) == noSuchUpload {
		return nil
	}
	return err
}

// open makes a client of the API for a task.
func (c *Client) open(ctx context.Context, t *upload.Task) (*object, error) {
	raw := cmp.Or(t.State.URL, t.URL)
	bucket, key, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	o := &object{t: t, bucket: bucket, key: key, url: raw}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
		// It would be asked outside the governor, and where there is none the answer takes its time.
		config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	if err == nil {
		_, err = cfg.Credentials.Retrieve(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &bits.Error{Code: bits.AccessDenied, Context: bits.ContextRemoteFile, File: raw, Cause: err,
			Message: "the service has no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in its environment, or AWS_PROFILE and the files that go with it"}
	}
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	o.api = s3.NewFromConfig(cfg, func(opts *s3.Options) {
		opts.HTTPClient = &transport{http: c.http, t: t.Concurrent()}
		opts.UsePathStyle = opts.BaseEndpoint != nil // only AWS is sure to have a host name for each bucket
	})
	return o, nil
}

// parseURL reads s3://BUCKET/KEY.
func parseURL(raw string) (bucket, key string, err error) {
	u, err := url.Parse(raw)
	why := ""
	switch {
	case err != nil || u.Scheme != "s3":
		why = "an upload to S3 needs a URL like s3://BUCKET/KEY"
	case u.Host == "" || u.User != nil || u.Port() != "":
		why = "the URL does not name a bucket and nothing else before the key"
	case strings.Trim(u.Path, "/") == "" || strings.HasSuffix(u.Path, "/"):
		why = "the URL names no key in the bucket"
	case u.RawQuery != "" || u.Fragment != "":
		why = "the URL has something after the key; write ? and # as %3F and %23"
	case len(u.Path)-1 > 1024:
		why = "the key has more than 1,024 bytes"
	default:
		return u.Host, strings.TrimPrefix(u.Path, "/"), nil
	}
	return "", "", &bits.Error{Code: bits.InvalidArg, Context: bits.ContextRemoteFile, File: raw, Message: why, Cause: err}
}

// Codes of the API.
const (
	noSuchUpload = "NoSuchUpload"
	invalidPart  = "InvalidPart"
)

// apiError is an error of the API.
type apiError struct {
	error
	code string
}

func (e *apiError) Unwrap() error { return e.error }

// apiCode returns the API's code of an error that fail returned; empty if it has none.
func apiCode(err error) string {
	var e *apiError
	if errors.As(err, &e) {
		return e.code
	}
	return ""
}

// fail gives an error of the API its code; nil stays nil.
func (o *object) fail(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var known *bits.Error
	if errors.As(err, &known) { // the source's, or of a connection that stood still
		return known
	}
	var answer *awshttp.ResponseError
	if !errors.As(err, &answer) {
		return httpconn.TransportError(ctx, err, o.url)
	}
	resp := answer.HTTPResponse().Response
	code := "an error"
	var api smithy.APIError
	if errors.As(err, &api) && plain(api.ErrorCode()) {
		code = api.ErrorCode()
	}
	if resp.StatusCode/100 == 2 { // CompleteMultipartUpload has its errors in the body
		clone := *resp
		clone.StatusCode, resp = http.StatusInternalServerError, &clone
	}
	out := httpconn.StatusError(resp, o.url)
	var e *bits.Error
	if errors.As(out, &e) {
		e.Message, e.Cause = fmt.Sprintf("%s: the store answered %d %s", doing, resp.StatusCode, code), err
	}
	return &apiError{out, code}
}

// plain reports whether a server's word can be shown to people.
func plain(s string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	return s != "" && len(s) <= 64 && strings.Trim(s, letters) == ""
}
