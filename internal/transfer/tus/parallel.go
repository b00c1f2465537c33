package tus

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// An upload in parts goes over several connections at once, and the server then joins what they
// brought. That pays where a connection is bound by its window and not by the line: far away. On a
// short way the server's joining, which copies the file, costs more than it brings.
const (
	partial = "partial"
	parts   = 4
	// farAway is how long a server must take for its first answer for parts to be worth it.
	farAway = 20 * time.Millisecond
	// largeFile is the size from which they are: below it, the requests that parts need take as long
	// as they win.
	largeFile = 64 << 20

	maxJoinLooks = 8 // times that the server is asked whether it has joined the parts
)

// errNoConcat says that the server could not join parts, and that there are none any more.
var errNoConcat = errors.New("the server could not join the parts")

// worthParts reports whether the upload should go in parts.
func (u *run) worthParts() bool {
	return u.t.Class == governor.Foreground && u.server.concatenation && u.server.waited >= farAway && u.t.Source.Size() >= largeFile
}

// split plans the parts.
func (u *run) split() error {
	rest := u.t.Source.Size()
	for i := range int64(parts) {
		n := rest / (parts - i)
		u.t.State.Parts = append(u.t.State.Parts, upload.Part{Size: n})
		rest -= n
	}
	return u.t.Record()
}

// parallel uploads the parts at once and has them joined.
func (u *run) parallel(ctx context.Context) error {
	s := &u.t.State
	whole := int64(0)
	for _, p := range s.Parts {
		whole += p.Size
	}
	if whole != u.t.Source.Size() { // the record is not this file's
		return u.dropParts()
	}
	for joins := 0; ; joins++ {
		if s.URL == "" {
			if err := u.uploadParts(ctx); err != nil {
				return err
			}
			if err := u.join(ctx); err != nil {
				return err
			}
		}
		err := u.joined(ctx)
		if !errors.Is(err, upload.ErrGone) {
			return err
		}
		s.URL = ""
		if joins == upload.MaxBegins {
			return u.dropParts()
		}
	}
}

// uploadParts brings all parts to the server.
func (u *run) uploadParts(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := u.t.Concurrent()
	pieces := make([]*piece, len(u.t.State.Parts))
	at := int64(0)
	for i, part := range u.t.State.Parts {
		pieces[i] = &piece{t: t, index: i, from: at, to: at + part.Size, url: part.URL, at: at}
		at += part.Size
	}
	var all sync.WaitGroup
	for _, p := range pieces {
		all.Go(func() {
			if err := u.complete(ctx, p); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// join has the server make the file of the parts.
func (u *run) join(ctx context.Context) error {
	urls := make([]string, len(u.t.State.Parts))
	for i, p := range u.t.State.Parts {
		urls[i] = p.URL
	}
	made, err := u.create(ctx, u.t, -1, "final;"+strings.Join(urls, " "))
	if err != nil {
		if status := statusOf(err); status/100 == 4 && !upload.Transient(err) && status != http.StatusUnauthorized && status != http.StatusForbidden {
			return u.dropParts()
		}
		return err
	}
	u.t.State.URL = made
	return u.t.Record()
}

func statusOf(err error) int {
	var e *bits.Error
	if errors.As(err, &e) {
		return e.Code.HTTPStatus()
	}
	return 0
}

// joined waits until the server has joined the parts. While it has not, it does not name an offset.
func (u *run) joined(ctx context.Context) error {
	s := &u.t.State
	for looks, pause := 0, firstPause; ; looks, pause = looks+1, min(2*pause, longPause) {
		a, err := u.t.Do(ctx, u.c.http, upload.Request{Method: http.MethodHead, URL: s.URL, Header: http.Header{"Tus-Resumable": {version}}})
		if err != nil {
			return err
		}
		status := a.Response.StatusCode
		at, ok := a.Number("Upload-Offset")
		switch {
		case status == http.StatusNotFound, status == http.StatusGone, status == http.StatusForbidden:
			return upload.ErrGone
		case status/100 != 2 && status != http.StatusLocked:
			return a.Err("the server did not say whether it has joined the parts")
		case ok && at == u.t.Source.Size():
			return u.done()
		case ok && at > u.t.Source.Size():
			return a.Broken("the server made a file of %d bytes from parts of %d", at, u.t.Source.Size())
		case looks == maxJoinLooks:
			e := bits.Errorf(bits.WinHTTPTimeout, "the server is still joining the parts of the upload")
			e.Context, e.File = bits.ContextRemoteFile, s.URL
			return e
		}
		if err := upload.Wait(ctx, pause); err != nil {
			return err
		}
	}
}

// dropParts forgets the parts, so that the file goes as one upload.
func (u *run) dropParts() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.t.State.Parts, u.t.State.URL, u.t.State.Offset = nil, "", 0
	u.t.Sent(0)
	if err := u.t.Record(); err != nil {
		return err
	}
	return errNoConcat
}
