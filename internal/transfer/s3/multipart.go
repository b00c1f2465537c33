package s3

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

const (
	// wholeSize is the size up to which a file goes in one request, in bytes.
	wholeSize = 8 << 20

	// Of parts the API allows 5 MiB to 5 GiB, the last one less, and 10,000 in all.
	leastPart = 5 << 20
	mostPart  = 5 << 30
	maxParts  = 10_000
	// swiftPart is a part in the foreground: for less, the wait for answers costs too much.
	swiftPart = 16 << 20
	// workers is how many parts are under way at once in the foreground.
	workers = 4

	saveEvery = time.Second // of what a restart need not know
)

// partSize returns the size of an upload's parts.
func partSize(size int64, class governor.Class) int64 {
	const unit = 1 << 20
	n := int64(leastPart)
	if class == governor.Foreground {
		n = swiftPart
	}
	least := (size + maxParts - 1) / maxParts
	return max(n, (least+unit-1)/unit*unit)
}

// whole uploads a small file by one request.
func (o *object) whole(ctx context.Context) error {
	size := o.t.Source.Size()
	o.t.Sent(0)
	kind, headers := o.headers()
	signed, err := o.signed(0, size)
	if err != nil {
		return err
	}
	ctx = context.WithValue(ctx, sentKey{}, o.t.Sent)
	_, err = o.api.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &o.bucket, Key: &o.key, Body: o.section(0, size), ContentLength: &size, ContentType: &kind,
	}, headers, signed)
	if err := o.fail(ctx, "the object was not made", err); err != nil {
		return err
	}
	return o.done()
}

// section returns a piece of the source, for requests.
func (o *object) section(from, n int64) *io.SectionReader {
	return io.NewSectionReader(o.t.Source, from, n)
}

// signed makes the SHA-256 of a request's body a part of what is signed. The SDK would leave it out
// under TLS, which ends at the store's front and says nothing of what lies behind.
func (o *object) signed(from, n int64) (func(*s3.Options), error) {
	h := sha256.New()
	if _, err := io.Copy(h, o.section(from, n)); err != nil {
		return nil, err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	set := middleware.InitializeMiddlewareFunc("SignPayload", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(v4.SetPayloadHash(ctx, sum), in)
	})
	return func(opts *s3.Options) {
		opts.APIOptions = append(opts.APIOptions, func(stack *middleware.Stack) error { return stack.Initialize.Add(set, middleware.Before) })
	}, nil
}

// done records that the store has the file.
func (o *object) done() error {
	s := &o.t.State
	s.Offset, s.Done = o.t.Source.Size(), true
	o.t.Sent(s.Offset)
	return o.t.Record()
}

// headers returns the content type, and adds what else of the owner's headers is about the object.
// The rest is for servers that are spoken to directly.
func (o *object) headers() (string, func(*s3.Options)) {
	kind := o.t.Header.Get("Content-Type")
	if kind == "" {
		kind = mime.TypeByExtension(path.Ext(o.t.Source.Name()))
	}
	if kind == "" {
		kind = "application/octet-stream"
	}
	return kind, func(opts *s3.Options) {
		for name, values := range o.t.Header {
			switch {
			case name == "Cache-Control", name == "Content-Disposition", name == "Content-Language", name == "Expires", strings.HasPrefix(name, "X-Amz-Meta-"),
				name == "X-Amz-Storage-Class", name == "X-Amz-Acl", name == "X-Amz-Tagging":
				opts.APIOptions = append(opts.APIOptions, smithyhttp.SetHeaderValue(name, strings.Join(values, ",")))
			}
		}
	}
}

// multipart is one run of a multipart upload. The state that it keeps is small however many parts
// there are: the store lists them. Before the end it notes the entity tag that the object will
// have, so that it can tell, should the last answer be lost, whether the object is made.
type multipart struct {
	*object
	size int64
	part int64 // bytes of each but the last

	mu       sync.Mutex
	etags    []string  // guarded by mu: by part, empty for those to upload
	has      int64     // guarded by mu: bytes of parts that the store has
	underway int64     // guarded by mu: bytes taken of the parts on their way
	saved    time.Time // guarded by mu
}

// run brings all parts to the store and makes the object of them.
func (m *multipart) run(ctx context.Context) error {
	s := &m.t.State
	begun := s.ID != ""
	if !begun {
		if err := m.create(ctx); err != nil {
			return err
		}
	}
	m.part = s.Fragment
	if m.part < leastPart || (m.size+m.part-1)/m.part > maxParts {
		return upload.ErrGone // the record is not this file's
	}
	m.etags, m.has, m.underway = make([]string, (m.size+m.part-1)/m.part), 0, 0
	if begun {
		if made, err := m.list(ctx); err != nil || made {
			return err
		}
	}
	if err := m.send(ctx); err != nil {
		return err
	}
	return m.complete(ctx)
}

// create begins the upload.
func (m *multipart) create(ctx context.Context) error {
	part := partSize(m.size, m.t.Class)
	if part > mostPart {
		return &bits.Error{Code: bits.TooLarge, Context: bits.ContextRemoteFile, File: m.url, Message: "the file is larger than S3 takes"}
	}
	kind, headers := m.headers()
	out, err := m.api.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &m.bucket, Key: &m.key, ContentType: &kind}, headers)
	if err := m.fail(ctx, "the upload was not begun", err); err != nil {
		return err
	}
	if out.UploadId == nil || *out.UploadId == "" || len(*out.UploadId) > 4<<10 {
		e := bits.Errorf(bits.InvalidServerResponse, "the store began an upload without giving it a proper id")
		e.Context, e.File = bits.ContextRemoteFile, m.url
		return e
	}
	s := &m.t.State
	s.ID, s.Fragment, s.Offset, s.Parts = *out.UploadId, part, 0, nil
	return m.t.Record()
}

// list learns which parts the store has. It reports whether the object is made already.
func (m *multipart) list(ctx context.Context) (bool, error) {
	var marker *string
	for range maxParts/1000 + 1 {
		out, err := m.api.ListParts(ctx, &s3.ListPartsInput{Bucket: &m.bucket, Key: &m.key, UploadId: &m.t.State.ID, PartNumberMarker: marker})
		if err := m.fail(ctx, "the parts of the upload were not listed", err); err != nil {
			if apiCode(err) != noSuchUpload {
				return false, err
			}
			return m.made(ctx)
		}
		for _, p := range out.Parts {
			if p.PartNumber == nil || p.Size == nil || p.ETag == nil || len(*p.ETag) > 256 {
				continue
			}
			if i := int(*p.PartNumber) - 1; i >= 0 && i < len(m.etags) && m.etags[i] == "" && *p.Size == m.length(i) {
				m.has += m.length(i)
				m.etags[i] = *p.ETag
			}
		}
		if out.IsTruncated == nil || !*out.IsTruncated || out.NextPartNumberMarker == nil {
			break
		}
		marker = out.NextPartNumberMarker
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return false, m.moved(true)
}

// made reports whether the object is the one that the upload was about to become. If it is not, the
// upload is gone.
func (m *multipart) made(ctx context.Context) (bool, error) {
	s := &m.t.State
	if len(s.Parts) == 0 {
		return false, upload.ErrGone
	}
	out, err := m.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &m.bucket, Key: &m.key})
	if err := m.fail(ctx, "the object was not looked at", err); err != nil {
		var e *bits.Error
		if errors.As(err, &e) && e.Code.HTTPStatus() == http.StatusNotFound {
			return false, upload.ErrGone
		}
		return false, err
	}
	if out.ETag == nil || strings.Trim(*out.ETag, `"`) != s.Parts[0].ETag || out.ContentLength == nil || *out.ContentLength != m.size {
		return false, upload.ErrGone
	}
	return true, m.done()
}

// length returns the size of a part, which counts from 0.
func (m *multipart) length(i int) int64 { return min(m.part, m.size-int64(i)*m.part) }

// moved tells how far the upload is and records it: if it must, else now and then. mu is held.
func (m *multipart) moved(record bool) error {
	m.t.State.Offset = m.has
	m.t.Sent(m.has + m.underway)
	if !record && time.Since(m.saved) < saveEvery {
		return nil
	}
	m.saved = time.Now()
	return m.t.Record()
}

// send uploads the parts that are missing, several at once in the foreground.
func (m *multipart) send(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	missing := make(chan int)
	n := workers
	if m.t.Class != governor.Foreground {
		n = 1
	}
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for i := range missing {
				if err := m.sendPart(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i, tag := range m.etags {
		if tag != "" {
			continue
		}
		select {
		case missing <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(missing)
	all.Wait()
	return context.Cause(ctx)
}

// sendPart uploads a part.
func (m *multipart) sendPart(ctx context.Context, i int) error {
	number, size := int32(i+1), m.length(i)
	signed, err := m.signed(int64(i)*m.part, size)
	if err != nil {
		return err
	}
	taken := int64(0) // guarded by mu
	ctx = context.WithValue(ctx, sentKey{}, func(n int64) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.underway += n - taken
		taken = n
		_ = m.moved(false) // what it would record is recorded again
	})
	out, err := m.api.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &m.bucket, Key: &m.key, UploadId: &m.t.State.ID, PartNumber: &number, Body: m.section(int64(i)*m.part, size), ContentLength: &size,
	}, signed)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.underway -= taken
	if err := m.fail(ctx, fmt.Sprintf("part %d of the upload was not taken", number), err); err != nil {
		if apiCode(err) == noSuchUpload {
			return upload.ErrGone
		}
		return err
	}
	if out.ETag == nil || *out.ETag == "" || len(*out.ETag) > 256 {
		return &bits.Error{Code: bits.InvalidServerResponse, Context: bits.ContextRemoteFile, File: m.url, Message: "the store took a part without giving it an entity tag"}
	}
	m.etags[i] = *out.ETag
	m.has += size
	return m.moved(false)
}

// complete makes the object of its parts.
func (m *multipart) complete(ctx context.Context) error {
	s := &m.t.State
	s.Parts = nil
	if tag := objectTag(m.etags); tag != "" {
		s.Parts = []upload.Part{{ETag: tag, Size: m.size}}
	}
	if err := m.t.Record(); err != nil {
		return err
	}
	parts := make([]types.CompletedPart, len(m.etags))
	for i := range m.etags {
		number := int32(i + 1)
		parts[i] = types.CompletedPart{PartNumber: &number, ETag: &m.etags[i]}
	}
	_, err := m.api.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &m.bucket, Key: &m.key, UploadId: &s.ID, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	err = m.fail(ctx, "the object was not made of its parts", err)
	switch apiCode(err) {
	case noSuchUpload: // the SDK may have asked twice, and the first time been heard
		_, err = m.made(ctx)
		return err
	case invalidPart:
		// Begun anew, nobody would know of this one again. Should it stay, the store's own rules end it.
		_, _ = m.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &m.bucket, Key: &m.key, UploadId: &s.ID})
		return upload.ErrGone
	}
	if err != nil {
		return err
	}
	return m.done()
}

// objectTag returns the entity tag that an object will have that is made of parts with these, as
// AWS and most others compute it; empty if theirs are no MD5s.
func objectTag(etags []string) string {
	h := md5.New()
	for _, tag := range etags {
		sum, err := hex.DecodeString(strings.Trim(tag, `"`))
		if err != nil || len(sum) != md5.Size {
			return ""
		}
		h.Write(sum)
	}
	return fmt.Sprintf("%x-%d", h.Sum(nil), len(etags))
}
