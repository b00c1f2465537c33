package tus

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

const (
	checksumMismatch = 460 // tus's own status

	firstPause = 250 * time.Millisecond // before the server is asked again
	longPause  = 4 * time.Second
)

// algorithms are the checksums, the best first. They are here to find accidents, for which crc32c does
// and costs next to nothing; sha1 is the one that every server with the extension has.
var algorithms = []struct {
	name string
	make func() hash.Hash
}{{"crc32c", func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }}, {"sha256", sha256.New}, {"sha512", sha512.New}, {"sha1", sha1.New}}

// piece is an upload on the server: of the file or of a part of it.
type piece struct {
	t        *upload.Task // to make requests with
	index    int          // of the part in State.Parts; -1 for the whole file
	from, to int64        // bytes of the file
	url      string       // empty if it must be made
	at       int64        // next byte of the file; what is before it is acknowledged
	patience upload.Patience
	conn     *governor.Conn // of the last request; nil before
	next     *checksum      // of the bytes that the next request will most likely carry; nil for none
}

// complete brings all of the piece to the server.
func (u *run) complete(ctx context.Context, p *piece) error {
	defer func() { p.next.wait() }() // it reads the file, which the caller closes
	for begins := 0; ; begins++ {
		err := u.attempt(ctx, p)
		if !errors.Is(err, upload.ErrGone) {
			return err
		}
		if begins == upload.MaxBegins {
			return upload.Vanishing(p.url)
		}
		p.url = ""
	}
}

// attempt goes on with the piece where it is, or begins it.
func (u *run) attempt(ctx context.Context, p *piece) error {
	if p.url == "" {
		concat := ""
		if p.index >= 0 {
			concat = partial
		}
		made, err := u.create(ctx, p.t, p.to-p.from, concat)
		if err != nil {
			return err
		}
		p.url = made
		if err := u.moved(p, p.from, true); err != nil {
			return err
		}
	} else if err := u.look(ctx, p); err != nil {
		return err
	}
	for p.at < p.to {
		if err := u.patch(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// moved notes how far the piece is and records it: if it must, else now and then.
func (u *run) moved(p *piece, at int64, record bool) error {
	p.at = at
	p.patience.Progress(at)
	u.mu.Lock()
	defer u.mu.Unlock()
	s := &u.t.State
	if p.index < 0 {
		s.URL, s.Offset = p.url, at
	} else {
		s.Parts[p.index].URL, s.Parts[p.index].Offset = p.url, at-p.from
		s.Offset = 0
		for _, part := range s.Parts {
			s.Offset += part.Offset
		}
	}
	u.t.Sent(s.Offset)
	if !record && time.Since(u.saved) < saveEvery {
		return nil
	}
	u.saved = time.Now()
	return u.t.Record()
}

// look asks the server how far the piece is.
func (u *run) look(ctx context.Context, p *piece) error {
	for pause := firstPause; ; pause *= 2 {
		a, err := p.t.Do(ctx, u.c.http, upload.Request{Method: http.MethodHead, URL: p.url, Header: http.Header{"Tus-Resumable": {version}}})
		if err != nil {
			return err
		}
		switch s := a.Response.StatusCode; {
		case s == http.StatusNotFound, s == http.StatusGone, s == http.StatusForbidden:
			return upload.ErrGone
		case s == http.StatusLocked && pause <= longPause:
			// The request before this one, whose connection broke, may still have the upload.
			if err := upload.Wait(ctx, pause); err != nil {
				return err
			}
			continue
		case s/100 != 2:
			return a.Err("the server did not say how far the upload is")
		}
		at, ok := a.Number("Upload-Offset")
		switch length, known := a.Number("Upload-Length"); {
		case known && length != p.to-p.from:
			return upload.ErrGone // it is another file's by now
		case !ok || at > p.to-p.from:
			return a.Broken("the server says that it has %.40q of %d bytes", a.Response.Header.Get("Upload-Offset"), p.to-p.from)
		}
		return u.moved(p, p.from+at, false)
	}
}

// patch sends the next bytes of the piece.
func (u *run) patch(ctx context.Context, p *piece) error {
	n := u.fragment(p)
	h := http.Header{
		"Tus-Resumable": {version}, "Content-Type": {"application/offset+octet-stream"},
		"Upload-Offset": {strconv.FormatInt(p.at-p.from, 10)},
	}
	if u.server.checksum != "" {
		sum := u.sum(p, n)
		if n = sum.n; sum.err != nil {
			return sum.err
		}
		h.Set("Upload-Checksum", sum.header)
	}
	if n > upload.FullStake {
		h.Set("Expect", "100-continue") // so that 413 costs nothing
	}
	a, err := p.t.Do(ctx, u.c.http, upload.Request{Method: http.MethodPatch, URL: p.url, Header: h, From: p.at, To: p.at + n, Sent: u.sent(p)})
	if err != nil {
		if n > upload.FullStake && ctx.Err() == nil && upload.Transient(err) {
			if err := u.shrink(max(n/2, upload.FullStake)); err != nil {
				return err
			}
		}
		return err
	}
	p.conn = a.Conn
	switch s := a.Response.StatusCode; {
	case s/100 == 2:
		return u.acknowledged(ctx, p, a, n)
	case s == http.StatusNotFound, s == http.StatusGone:
		return upload.ErrGone
	case s == http.StatusConflict, s == http.StatusLocked:
		if err := p.patience.Setback(a); err != nil {
			return err
		}
		if s == http.StatusLocked {
			if err := upload.Wait(ctx, firstPause); err != nil {
				return err
			}
		}
		return u.look(ctx, p)
	case s == checksumMismatch:
		return p.patience.Setback(a) // the server has thrown it away
	case s == http.StatusRequestEntityTooLarge && n > upload.LeastFragment:
		return u.shrink(max(n/2, upload.LeastFragment))
	case s == http.StatusExpectationFailed && n > upload.FullStake:
		return u.shrink(upload.FullStake)
	}
	return a.Err("the server did not take a piece of the upload")
}

// acknowledged takes the answer to n bytes sent.
func (u *run) acknowledged(ctx context.Context, p *piece, a *upload.Answer, n int64) error {
	at, ok := a.Number("Upload-Offset")
	switch at += p.from; {
	case !ok:
		return a.Broken("the server took a piece of the upload but says %.40q of how far it is", a.Response.Header.Get("Upload-Offset"))
	case at < p.at:
		return a.Broken("the server took a piece of the upload at byte %d and says that it is now at %d", p.at, at)
	case at > p.at+n:
		return a.Broken("the server says that it has %d bytes of which it cannot have more than %d", at-p.from, p.at+n-p.from)
	case at == p.at:
		if err := p.patience.Setback(a); err != nil {
			return err
		}
	}
	return u.moved(p, at, false)
}

// shrink makes requests carry n bytes at most from now on.
func (u *run) shrink(n int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := &u.t.State; s.Fragment == 0 || n < s.Fragment {
		s.Fragment = n
	}
	return u.t.Record()
}

// fragment returns how many bytes the next request carries. What comes with a checksum the server
// keeps only whole.
func (u *run) fragment(p *piece) int64 {
	conn := p.conn
	if conn == nil {
		conn = u.conn
	}
	n := u.t.Fragment(p.to-p.at, conn, u.server.checksum != "")
	u.mu.Lock()
	defer u.mu.Unlock()
	if limit := u.t.State.Fragment; limit > 0 {
		n = min(n, limit)
	}
	return n
}

// sent returns what is told how far a request's body went.
func (u *run) sent(p *piece) func(int64) {
	return func(at int64) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.t.Sent(u.t.State.Offset + at - p.at)
	}
}

// checksum is that of n bytes of the file. It is made while the bytes before them are sent, as a server
// that verifies what it gets would else stand still in the meantime.
type checksum struct {
	from, n int64
	header  string // Upload-Checksum
	err     error
	made    chan struct{} // closed once header or err is set
}

// wait waits until the checksum is made; nil is.
func (s *checksum) wait() {
	if s != nil {
		<-s.made
	}
}

// sum returns the checksum of the next n bytes of the piece, or of fewer if that is made already, and
// begins that of the bytes after them.
func (u *run) sum(p *piece, n int64) *checksum {
	p.next.wait()
	s := p.next
	if s == nil || s.from != p.at || s.n > n {
		s = u.begin(p.at, n)
	}
	s.wait()
	p.next = nil
	if from := s.from + s.n; s.err == nil && from < p.to {
		p.next = u.begin(from, min(n, p.to-from))
	}
	return s
}

// begin begins to make the checksum of n bytes of the file.
func (u *run) begin(from, n int64) *checksum {
	s := &checksum{from: from, n: n, made: make(chan struct{})}
	go func() {
		defer close(s.made)
		s.header, s.err = u.checksum(from, n)
	}()
	return s
}

// checksum returns the header Upload-Checksum of n bytes of the file.
func (u *run) checksum(from, n int64) (string, error) {
	for _, a := range algorithms {
		if a.name != u.server.checksum {
			continue
		}
		h := a.make()
		if got, err := io.Copy(h, io.NewSectionReader(u.t.Source, from, n)); err != nil {
			return "", err
		} else if got < n {
			return "", &bits.Error{Code: bits.LocalFileChanged, Context: bits.ContextLocalFile, File: u.t.Source.Name(), Message: "the file became shorter while it was sent"}
		}
		return a.name + " " + base64.StdEncoding.EncodeToString(h.Sum(nil)), nil
	}
	return "", fmt.Errorf("no checksum %s", u.server.checksum)
}
