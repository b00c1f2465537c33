package serve

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/bits"
	"github.com/ebbtransfer/ebb/internal/serve/config"
	"github.com/ebbtransfer/ebb/internal/serve/files"
	"github.com/ebbtransfer/ebb/internal/serve/ietf"
	"github.com/ebbtransfer/ebb/internal/serve/put"
	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/internal/serve/session/bucket"
	"github.com/ebbtransfer/ebb/internal/serve/tus"
)

// uploads is what takes those of a group.
type uploads struct {
	prefix               *session.Prefix
	put, bits, tus, ietf http.Handler // nil: not spoken
}

// openUploads opens the store of a group, and the front ends over it. The source, nil with a
// bucket, tells what is there already.
func openUploads(c config.Group, source files.Source, log *slog.Logger) (*uploads, error) {
	log = log.With("group", c.Path)
	store, err := openStore(c, log)
	if err != nil {
		return nil, err
	}
	o := c.Uploads
	p := &session.Prefix{
		Path: c.Path, Root: c.Dir, Store: store, Log: log,
		SessionTimeout: o.SessionTimeout, MaxSize: o.MaxSize, MaxFragment: o.MaxFragment, Overwrite: o.Overwrite,
		HostID: o.HostID, HostIDFallback: o.HostIDFallback,
		Notify: o.Notify, NotifyURL: o.NotifyURL, NotifyTimeout: o.NotifyTimeout, PublicURL: o.PublicURL, Origins: o.Origins,
	}
	if p.Notify != session.NotifyNone {
		// The application decides what becomes of an upload; the other protocols have no word for it,
		// and would go past it.
		return &uploads{prefix: p, bits: bits.New(p)}, nil
	}
	return &uploads{prefix: p, put: put.New(p, source), bits: bits.New(p), tus: tus.New(p), ietf: ietf.New(p)}, nil
}

// bucketPatience is how long a bucket may take to answer when the server starts.
const bucketPatience = 30 * time.Second

// mostSessions is how many unfinished uploads a group has at most, so that strangers do not fill the
// disk's tables of files. No real use comes near it.
const mostSessions = 10_000

// openStore opens the store of a group.
func openStore(c config.Group, log *slog.Logger) (session.Store, error) {
	o := session.Options{Log: log, MinFree: c.Uploads.MinFree, Sessions: c.Uploads.SessionsPerUser, AllSessions: mostSessions}
	at := c.Uploads.Storage
	if at.Bucket == "" {
		return session.OpenDir(c.Dir, o)
	}
	b := bucket.Config{Endpoint: at.Endpoint, Region: at.Region, Bucket: at.Bucket, Prefix: at.Prefix,
		AccessKey: at.AccessKey, SecretKey: at.SecretKey, Token: at.Token}
	ctx, cancel := context.WithTimeout(context.Background(), bucketPatience)
	defer cancel()
	return bucket.Open(ctx, b, o)
}
