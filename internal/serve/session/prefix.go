package session

import (
	"context"
	"log/slog"
	"time"
)

// NotifyType says how a server application is told of a finished upload (server.md 1.11).
type NotifyType int

// The ways, with the values of BITSServerNotificationType.
const (
	NotifyNone        NotifyType = 0
	NotifyByReference NotifyType = 1 // the application gets the names of files
	NotifyByValue     NotifyType = 2 // the application gets the bytes
)

// Prefix is a URL prefix that takes uploads, as its front ends see it: what is configured (server.md
// chapter 2, with the same defaults) and the store. The request's path below Path names the target.
type Prefix struct {
	Path  string // of the URL, with a slash at both ends
	Root  string // local directory; empty where the storage is a bucket
	Store Store
	Log   *slog.Logger

	SessionTimeout time.Duration // without progress
	MaxSize        int64         // bytes of an upload; -1 is no limit
	MaxFragment    int64         // bytes of one request's body that BITS clients may send
	Overwrite      bool
	HostID         string
	HostIDFallback time.Duration // 0 is never
	Notify         NotifyType
	NotifyURL      string
	NotifyTimeout  time.Duration
	PublicURL      string // scheme and host as clients see them, such as behind a proxy; empty: as the request says
	// Origins are those whose scripts in browsers may upload, such as "https://app.example.org", or
	// "*" for all, which then come without the browser's credentials.
	Origins []string
}

type principalKey struct{}

// WithPrincipal returns a context of a request that was authenticated as name; empty is anonymous.
func WithPrincipal(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, principalKey{}, name)
}

// Principal returns who makes the request; empty is anonymous.
func Principal(ctx context.Context) string {
	name, _ := ctx.Value(principalKey{}).(string)
	return name
}

type stopKey struct{}

// WithStop returns a context of a request to a server whose stop ends the context stop.
func WithStop(ctx, stop context.Context) context.Context {
	return context.WithValue(ctx, stopKey{}, stop)
}

// Outlive returns a context for what goes on when the client of the request of ctx is gone. It ends with
// the server.
func Outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	on, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if stop, ok := ctx.Value(stopKey{}).(context.Context); ok {
		ended := context.AfterFunc(stop, cancel)
		return on, func() {
			ended()
			cancel()
		}
	}
	return on, cancel
}
