package upload

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
)

// What protocols that resume have in common.

// FullStake is how much a request may carry for all that an interruption can tell: a proxy that
// passes a body on only once it is whole loses all of it with the connection.
const FullStake = 16 << 20

// LeastFragment is what a server must take in one request, in bytes: one that takes less will
// take no upload.
const LeastFragment = 4 << 10

// MaxBegins is how many uploads are made in one go because the one before was gone.
const MaxBegins = 3

// ErrGone says that the server does not know an upload, or not as the one that it was.
var ErrGone = errors.New("the server does not know the upload any more")

// Vanishing is the error of a server that makes uploads and forgets them at once.
func Vanishing(u string) error {
	e := bits.Errorf(bits.SessionNotFound, "the server makes uploads and forgets them at once")
	e.Context, e.File = bits.ContextRemoteFile, u
	return e
}

// Patience is with a server that sends an upload back.
type Patience struct {
	best     int64 // the furthest that the upload has been
	setbacks int   // answers that cost bytes or time, since then
}

const maxSetbacks = 8

// Progress says that the server has all before at.
func (p *Patience) Progress(at int64) {
	if at > p.best {
		p.best, p.setbacks = at, 0
	}
}

// Setback says that an answer cost bytes or time. It returns an error when there were too many
// since the upload was as far as it ever was.
func (p *Patience) Setback(a *Answer) error {
	if p.setbacks++; p.setbacks <= maxSetbacks {
		return nil
	}
	e := bits.Errorf(bits.InvalidServerAnswer, "the server sends the upload back again and again, at last with %d", a.Response.StatusCode)
	e.Context, e.File = bits.ContextRemoteFile, a.URL.String()
	return e
}

// Fragment returns how many of n bytes the next request should carry. In the background that is
// what the governor says, so that the path can be left soon. In the foreground it is all there is,
// as a server keeps what it got should the connection break, unless whole says that it would not.
// conn is the connection of the request before, nil if that is not known.
func (t *Task) Fragment(n int64, conn *governor.Conn, whole bool) int64 {
	if t.Class == governor.Foreground && !whole {
		return n
	}
	size := int64(1 << 20)
	if conn != nil {
		size = conn.Fragment()
	}
	return min(n, size)
}

// Record stores a copy of the state.
func (t *Task) Record() error {
	s := t.State
	s.Parts = slices.Clone(s.Parts)
	return t.Save(s)
}

// Transient reports whether an error may be gone when the request is made again.
func Transient(err error) bool {
	var e *bits.Error
	return errors.As(err, &e) && e.Code.Class() != bits.Fatal
}

// Wait waits, or returns why ctx ended before.
func Wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
