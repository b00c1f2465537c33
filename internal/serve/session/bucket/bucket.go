// Package bucket keeps upload sessions in an S3-compatible bucket, so that any node of a farm can go
// on with any session: there is nothing on a node but the bytes of requests that it works on.
//
// A session is a record, an object that is only written under the condition that it did not change;
// the request that works on the session holds a lease in it. Bytes go into a multipart upload of the
// target, part by part; what is acknowledged and less than a part waits in objects of its own. A
// target appears when its multipart upload is completed. A bucket needs conditional writes
// (If-Match, If-None-Match), as Amazon S3, MinIO and versitygw have them.
package bucket

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

const (
	// smallestPart is what S3 takes as a part that is not the last one.
	smallestPart = 5 << 20
	// usualPart is the size of parts, which one request has in memory.
	usualPart = 8 << 20
	// mostParts of a multipart upload; S3 takes 10,000.
	mostParts = 9000
	// mostPieces is how many objects smaller than a part an upload has before they are joined.
	mostPieces = 32
	// budget bounds the memory that all requests of a store fill with bytes before they go to the
	// bucket; beyond it they go in smaller objects.
	budget = 256 << 20
	// maxRecord is the largest record in bytes.
	maxRecord = 16 << 20

	// sessionMark is in the metadata of a target, and tells which session made it.
	sessionMark = "ebb-session"
)

// Config says where a bucket is.
type Config struct {
	Endpoint  string // URL of the service; empty is Amazon's for the region
	Region    string // empty is us-east-1, which services of one's own mostly take
	Bucket    string
	Prefix    string // of the keys of all objects, such as "uploads/"; empty is none
	AccessKey string
	SecretKey string
	Token     string // of temporary credentials; empty is none
}

// Bucket is a store in a bucket. Names of targets are keys, so directories need not exist.
// Options.MinFree means nothing here, and Options.Sessions is enforced by Clean alone: to count at
// every Create would mean to list the bucket.
//
// Sessions that end with their process leave multipart uploads behind that no session knows of, if it
// ends between two requests to the bucket. The bucket should have a lifecycle rule that aborts
// multipart uploads some time after the session timeout.
type Bucket struct {
	s3     *s3.Client
	name   string
	prefix string
	log    *slog.Logger
	memory atomic.Int64 // bytes of budget that are used

	mu    sync.Mutex       // guards the rest
	here  map[string]*held // sessions that requests to this node have
	whole map[string]*record
}

var _ session.Store = (*Bucket)(nil)

// Open opens the store. It makes one request, to see that the bucket is there.
func Open(ctx context.Context, c Config, o session.Options) (*Bucket, error) {
	if c.Prefix != "" && !strings.HasSuffix(c.Prefix, "/") {
		c.Prefix += "/"
	}
	client := s3.New(s3.Options{
		Region: cmp.Or(c.Region, "us-east-1"),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: c.AccessKey, SecretAccessKey: c.SecretKey, SessionToken: c.Token, Source: "configuration"}, nil
		}),
		// Not every service knows the newer checksums; the signature covers the content anyway.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}, func(so *s3.Options) {
		if c.Endpoint != "" {
			so.BaseEndpoint = &c.Endpoint
			so.UsePathStyle = true // a service of one's own seldom has a name for each bucket
		}
	})
	b := &Bucket{s3: client, name: c.Bucket, prefix: c.Prefix, log: cmp.Or(o.Log, slog.Default()),
		here: map[string]*held{}, whole: map[string]*record{}}
	if _, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &c.Bucket}); err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", c.Bucket, err)
	}
	return b, nil
}

// record is the object that describes a session.
type record struct {
	session.Info
	// Holder is the token of the request that has the session, as long as the record is younger than
	// the lease; empty if none has.
	Holder string `json:"holder,omitempty"`
	// Upload is the multipart upload of the target, once there is one.
	Upload string `json:"upload,omitempty"`
	// Parts are the bytes from the beginning on: parts of Upload, or objects if the upload is staged.
	Parts []part `json:"parts,omitempty"`
	// Pieces are the objects with the bytes after those of Parts.
	Pieces []part `json:"pieces,omitempty"`
}

// part is a part of a multipart upload, with an ETag, or an object, with a key.
type part struct {
	Size int64  `json:"size"`
	ETag string `json:"etag,omitempty"`
	Key  string `json:"key,omitempty"`
}

func sum(parts []part) (n int64) {
	for _, p := range parts {
		n += p.Size
	}
	return n
}

// staged says whether the bytes are in objects until the end.
func (r *record) staged() bool { return r.Target == "" || r.Staged }

// partSize returns how long the next part is: so long that the number of parts suffices. It never
// shrinks.
func (r *record) partSize() int64 {
	return max(usualPart<<(len(r.Parts)/1000), (r.Size/mostParts|0xfffff)+1)
}

func (b *Bucket) target(r *record) string { return b.prefix + r.Target }

// dir is the prefix of the objects of a session.
func (b *Bucket) dir(id string) string { return b.prefix + session.Hidden + "/" + id + "/" }

func (b *Bucket) recordKey(id string) string { return b.dir(id) + "record" }
func (b *Bucket) wantedKey(id string) string { return b.dir(id) + "wanted" }

// load reads a record; session.ErrNotFound if there is none.
func (b *Bucket) load(ctx context.Context, id string) (r *record, etag string, age time.Duration, err error) {
	data, etag, age, err := b.get(ctx, b.recordKey(id), maxRecord)
	if errors.Is(err, errGone) {
		return nil, "", 0, session.ErrNotFound
	}
	if err != nil {
		return nil, "", 0, err
	}
	if r, err = parseRecord(data, id); err != nil {
		return nil, "", 0, err
	}
	return r, etag, age, nil
}

// errDamaged means that a record is none.
var errDamaged = errors.New("damaged record")

func parseRecord(data []byte, id string) (*record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: of session %s: %w", errDamaged, id, err)
	}
	ok := r.ID == id && session.ValidID(id) && r.Size >= -1 && r.Limit >= -1 && r.Offset >= 0 && (r.Size < 0 || r.Offset <= r.Size)
	for _, parts := range [][]part{r.Parts, r.Pieces} {
		for _, p := range parts {
			ok = ok && p.Size >= 0 && p.Size <= r.Offset
		}
	}
	if !ok || r.Target != "" && session.CheckTarget(r.Target) != nil || !r.Published && sum(r.Parts)+sum(r.Pieces) != r.Offset {
		return nil, fmt.Errorf("%w: of session %s: it contradicts itself", errDamaged, id)
	}
	return &r, nil
}

func (r *record) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("record of an upload session: %v", err)) // only for what cannot be JSON
	}
	return b
}

// Create makes a session, as Store says.
func (b *Bucket) Create(ctx context.Context, spec session.Spec) (session.Info, error) {
	r, err := b.newRecord(ctx, spec)
	if err == nil && spec.Whole {
		b.mu.Lock()
		b.whole[r.ID] = r
		b.mu.Unlock()
		return r.Info, nil
	}
	if err == nil {
		_, err = b.put(ctx, b.recordKey(r.ID), r.encode(), condition{absent: true}, nil)
	}
	if err != nil {
		return session.Info{}, fmt.Errorf("create an upload: %w", err)
	}
	return r.Info, nil
}

func (b *Bucket) newRecord(ctx context.Context, spec session.Spec) (*record, error) {
	now := time.Now().Round(0)
	r := &record{Info: session.Info{ID: session.NewID(), Spec: spec, Created: now, Touched: now}}
	if spec.Limit >= 0 && spec.Size > spec.Limit {
		return nil, session.ErrTooLarge
	}
	if spec.Target == "" {
		return r, nil
	}
	if err := session.CheckTarget(spec.Target); err != nil {
		return nil, err
	}
	if key := b.target(r); len(key) > 1024 {
		return nil, fmt.Errorf("%w: the key %q is longer than 1024 bytes: %w", session.ErrTarget, key, syscall.ENAMETOOLONG)
	}
	if !spec.Overwrite {
		_, err := b.publisher(ctx, b.target(r))
		if err == nil {
			return nil, session.ErrExists
		}
		if !errors.Is(err, errGone) {
			return nil, err
		}
	}
	return r, nil
}

// List returns all sessions but those of Spec.Whole, the oldest first.
func (b *Bucket) List(ctx context.Context) ([]session.Info, error) {
	list, _, err := b.scan(ctx)
	return list, err
}

// scan returns all sessions, and the ids of those that have objects but no record, with the time of
// the youngest.
func (b *Bucket) scan(ctx context.Context) (list []session.Info, orphans map[string]time.Time, err error) {
	orphans = map[string]time.Time{}
	recorded := map[string]bool{}
	root := b.prefix + session.Hidden + "/"
	err = b.list(ctx, root, func(o types.Object) error {
		id, rest, _ := strings.Cut(strings.TrimPrefix(aws.ToString(o.Key), root), "/")
		if !session.ValidID(id) {
			return nil
		}
		if rest == path.Base(b.recordKey(id)) {
			recorded[id] = true
		}
		if at := aws.ToTime(o.LastModified); at.After(orphans[id]) {
			orphans[id] = at
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for id := range recorded {
		delete(orphans, id)
		r, _, _, err := b.load(ctx, id)
		if errors.Is(err, session.ErrNotFound) {
			continue
		}
		if errors.Is(err, errDamaged) { // the others are to be cleaned all the same
			b.log.Warn("upload session is lost", "session", id, "reason", err)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		list = append(list, r.Info)
	}
	slices.SortFunc(list, func(x, y session.Info) int {
		return cmp.Or(x.Created.Compare(y.Created), strings.Compare(x.ID, y.ID))
	})
	return list, orphans, nil
}

// Clean removes sessions, as Store says. It leaves those that a request works on. Any node may do it.
func (b *Bucket) Clean(ctx context.Context, now time.Time, timeout time.Duration, limit int) (int, error) {
	list, orphans, err := b.scan(ctx)
	if err != nil {
		return 0, err
	}
	removed := 0
	unfinished := map[string]int{}
	expired := session.Expired(list, now, timeout)
	for _, i := range list {
		remove := expired[i.ID]
		if !remove && !i.Published {
			unfinished[i.Principal]++
			remove = limit > 0 && unfinished[i.Principal] > limit
		}
		if !remove {
			continue
		}
		h, err := b.take(ctx, i.ID, func(r *record) bool {
			return r.Touched.Equal(i.Touched) && r.Published == i.Published
		}, 0)
		if errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrBusy) {
			continue // it went, or went on, in the meantime
		}
		if err != nil {
			return removed, err
		}
		err = h.Remove(ctx)
		h.Release()
		if err != nil {
			return removed, err
		}
		removed++
	}
	for id, at := range orphans { // of a process that ended
		if now.Sub(at) >= timeout {
			if err := b.clear(ctx, id); err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}

// clear deletes all objects of a session, the record last, so that it can be repeated.
func (b *Bucket) clear(ctx context.Context, id string) error {
	var keys []string
	err := b.list(ctx, b.dir(id), func(o types.Object) error {
		if key := aws.ToString(o.Key); key != b.recordKey(id) {
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range append(keys, b.recordKey(id)) {
		if err := b.delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// Close does nothing: a store has nothing but memory.
func (b *Bucket) Close() error { return nil }
