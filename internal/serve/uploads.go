package serve

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/ebbtransfer/ebb/internal/serve/config"
	"github.com/ebbtransfer/ebb/internal/serve/files"
	"github.com/ebbtransfer/ebb/internal/serve/put"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// uploads is what takes those of a group.
type uploads struct {
	prefix               *session.Prefix
	put, bits, tus, ietf http.Handler // nil: not spoken
}

// openUploads opens the store of a group, and the front ends over it. The source, nil with a
// bucket, tells what is there already.
func openUploads(c config.Group, source files.Source, log *slog.Logger) (*uploads, error) {
	store, err := openStore(c)
	if err != nil {
		return nil, err
	}
	o := c.Uploads
	p := &session.Prefix{
		Path: c.Path, Root: c.Dir, Store: store, Log: log.With("group", c.Path),
		SessionTimeout: o.SessionTimeout, MaxSize: o.MaxSize, MaxFragment: o.MaxFragment, Overwrite: o.Overwrite,
		HostID: o.HostID, HostIDFallback: o.HostIDFallback,
		Notify: o.Notify, NotifyURL: o.NotifyURL, NotifyTimeout: o.NotifyTimeout, PublicURL: o.PublicURL,
	}
	return &uploads{prefix: p, put: put.New(p, source)}, nil
}

func openStore(config.Group) (session.Store, error) {
	return nil, errors.New("there is no store for uploads yet")
}
