package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// errGone means that there is no such object or multipart upload, errChanged that a condition of a
// write does not hold.
var (
	errGone    = errors.New("no such object")
	errChanged = errors.New("the object changed")
)

// errBroken means that of a multipart upload parts are missing, or all of it.
var errBroken = errors.New("the multipart upload is not what it was")

const (
	// patience is how long the storage may take for one request, and slowest how many bytes a second
	// go there at least; longPatience is for requests that have it copy. Without an end, one that stands
	// still would keep a session, and whoever waits for it, for ever.
	patience     = time.Minute
	slowest      = 64 << 10
	longPatience = 10 * time.Minute
)

// patiently returns a context for a request with size bytes.
func patiently(ctx context.Context, size int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, patience+time.Duration(size/slowest)*time.Second)
}

// classify wraps what storages answer, so that callers can tell what matters to them.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "NoSuchKey", "NoSuchUpload", "NotFound":
			return fmt.Errorf("%w: %w", errGone, err)
		case "PreconditionFailed", "ConditionalRequestConflict":
			return fmt.Errorf("%w: %w", errChanged, err)
		case "ObjectParentIsFile", "ExistingObjectIsDirectory", "KeyTooLongError", "KeyTooLong":
			return fmt.Errorf("%w: %w", session.ErrTarget, err)
		case "XMinioStorageFull", "QuotaExceeded", "InsufficientStorage":
			return fmt.Errorf("%w: %w", session.ErrNoSpace, err)
		}
	}
	var res *smithyhttp.ResponseError
	if errors.As(err, &res) {
		switch res.HTTPStatusCode() {
		case http.StatusNotFound:
			return fmt.Errorf("%w: %w", errGone, err)
		case http.StatusPreconditionFailed, http.StatusConflict:
			return fmt.Errorf("%w: %w", errChanged, err)
		case http.StatusInsufficientStorage:
			return fmt.Errorf("%w: %w", session.ErrNoSpace, err)
		}
	}
	return err
}

// condition is what a write depends on.
type condition struct {
	absent bool   // the object does not exist
	etag   string // it has this ETag
}

func (c condition) ifNoneMatch() *string {
	if c.absent {
		return aws.String("*")
	}
	return nil
}

func (c condition) ifMatch() *string {
	if c.etag != "" {
		return aws.String(c.etag)
	}
	return nil
}

// put writes an object and returns its ETag.
func (b *Bucket) put(ctx context.Context, key string, data []byte, c condition, metadata map[string]string) (string, error) {
	ctx, cancel := patiently(ctx, int64(len(data)))
	defer cancel()
	out, err := b.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.name, Key: &key, Body: bytes.NewReader(data), Metadata: metadata, IfNoneMatch: c.ifNoneMatch(), IfMatch: c.ifMatch(),
	})
	if err != nil {
		return "", classify(err)
	}
	return aws.ToString(out.ETag), nil
}

// get returns an object of at most limit bytes, its ETag, and how long ago it was written by the
// storage's own clock, which is the one that all nodes share.
func (b *Bucket) get(ctx context.Context, key string, limit int64) (data []byte, etag string, age time.Duration, err error) {
	ctx, cancel := patiently(ctx, limit)
	defer cancel()
	out, err := b.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return nil, "", 0, classify(err)
	}
	defer out.Body.Close()
	data, err = io.ReadAll(io.LimitReader(out.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", key, limit)
	}
	if err != nil {
		return nil, "", 0, err
	}
	if res, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response); ok && out.LastModified != nil {
		if now, err := http.ParseTime(res.Header.Get("Date")); err == nil {
			age = now.Sub(*out.LastModified)
		}
	}
	return data, aws.ToString(out.ETag), age, nil
}

// getRange reads part of an object.
func (b *Bucket) getRange(ctx context.Context, key string, from, size int64) (io.ReadCloser, error) {
	out, err := b.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key, Range: aws.String(byteRange(from, size))})
	if err != nil {
		return nil, classify(err)
	}
	return out.Body, nil
}

func byteRange(from, size int64) string { return fmt.Sprintf("bytes=%d-%d", from, from+size-1) }

func (b *Bucket) delete(ctx context.Context, key string) error {
	ctx, cancel := patiently(ctx, 0)
	defer cancel()
	_, err := b.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &key})
	if err = classify(err); errors.Is(err, errGone) {
		return nil
	}
	return err
}

// publisher returns which session made an object; empty if it has no such mark.
func (b *Bucket) publisher(ctx context.Context, key string) (id string, err error) {
	ctx, cancel := patiently(ctx, 0)
	defer cancel()
	out, err := b.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return "", classify(err)
	}
	for k, v := range out.Metadata {
		if strings.EqualFold(k, sessionMark) {
			return v, nil
		}
	}
	return "", nil
}

// list calls f with every object below prefix.
func (b *Bucket) list(ctx context.Context, prefix string, f func(types.Object) error) error {
	pages := s3.NewListObjectsV2Paginator(b.s3, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		pctx, cancel := patiently(ctx, 0)
		page, err := pages.NextPage(pctx)
		cancel()
		if err != nil {
			return classify(err)
		}
		for _, o := range page.Contents {
			if err := f(o); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin makes a multipart upload.
func (b *Bucket) begin(ctx context.Context, key, id string) (string, error) {
	ctx, cancel := patiently(ctx, 0)
	defer cancel()
	out, err := b.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &b.name, Key: &key, Metadata: map[string]string{sessionMark: id},
	})
	if err != nil {
		return "", classify(err)
	}
	return aws.ToString(out.UploadId), nil
}

func (b *Bucket) putPart(ctx context.Context, key, upload string, number int, data []byte) (etag string, err error) {
	ctx, cancel := patiently(ctx, int64(len(data)))
	defer cancel()
	out, err := b.s3.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &b.name, Key: &key, UploadId: &upload, PartNumber: aws.Int32(int32(number)), Body: bytes.NewReader(data),
	})
	if err != nil {
		return "", classify(err)
	}
	return aws.ToString(out.ETag), nil
}

// copyPart makes a part of bytes of an object without moving them through this process.
func (b *Bucket) copyPart(ctx context.Context, key, upload string, number int, from string, start, size int64) (etag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, longPatience)
	defer cancel()
	out, err := b.s3.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
		Bucket: &b.name, Key: &key, UploadId: &upload, PartNumber: aws.Int32(int32(number)),
		CopySource: aws.String((&url.URL{Path: b.name + "/" + from}).EscapedPath()), CopySourceRange: aws.String(byteRange(start, size)),
	})
	if err != nil {
		return "", classify(err)
	}
	return aws.ToString(out.CopyPartResult.ETag), nil
}

func (b *Bucket) complete(ctx context.Context, key, upload string, parts []part, c condition) error {
	var list []types.CompletedPart
	for i, p := range parts {
		list = append(list, types.CompletedPart{PartNumber: aws.Int32(int32(i + 1)), ETag: aws.String(p.ETag)})
	}
	ctx, cancel := context.WithTimeout(ctx, longPatience)
	defer cancel()
	_, err := b.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &b.name, Key: &key, UploadId: &upload, IfNoneMatch: c.ifNoneMatch(),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: list},
	})
	var api smithy.APIError
	if errors.As(err, &api) && slices.Contains([]string{"NoSuchUpload", "InvalidPart", "InvalidPartOrder"}, api.ErrorCode()) {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return classify(err)
}

func (b *Bucket) abort(ctx context.Context, key, upload string) error {
	ctx, cancel := patiently(ctx, 0)
	defer cancel()
	_, err := b.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: &key, UploadId: &upload})
	if err = classify(err); errors.Is(err, errGone) {
		return nil
	}
	return err
}
