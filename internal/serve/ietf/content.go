package ietf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/front"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// receive adds the request's content to the upload, and finishes and answers it if that completes
// it; it returns whether it did.
func (h handler) receive(ctx context.Context, w http.ResponseWriter, r *http.Request, s session.Session, q request, fresh bool) (bool, error) {
	if err := h.add(ctx, w, r, s, q, fresh); err != nil {
		return false, err
	}
	switch info := s.Info(); {
	case !q.complete:
		return false, settle(ctx, s)
	case info.Size < 0:
		if err := s.SetSize(ctx, info.Offset); err != nil {
			return false, err
		}
	case info.Offset != info.Size:
		return false, inconsistent()
	}
	return true, h.finish(ctx, w, s)
}

// settle is called before a client hears of an offset: the byte that completes an upload counts for sure
// only with this or with Publish, which the client may not have asked for yet.
func settle(ctx context.Context, s session.Session) error {
	if info := s.Info(); info.Offset == info.Size && !info.Published {
		return s.SetState(ctx, info.State)
	}
	return nil
}

// add adds all that arrives, so that a client whose connection breaks can go on from there. The
// content of a request with a Content-Digest is added once it is verified; that of the request that
// made the upload (fresh) at once, since all of it can still be forgotten.
func (h handler) add(ctx context.Context, w http.ResponseWriter, r *http.Request, s session.Session, q request, fresh bool) error {
	content, stop := front.Content(ctx, w, r)
	defer stop()
	got := newSums(func(name string) bool { _, ok := q.content[name]; return ok })
	content = io.TeeReader(content, got)
	if len(q.content) > 0 && !fresh {
		return tooLong(s, s.AppendVerified(ctx, content, func() error {
			if !got.fit(q.content) {
				return refuse(http.StatusBadRequest, "the content is not what Content-Digest says; it was discarded")
			}
			return nil
		}))
	}
	p := portions{r: content}
	for !p.ended {
		p.end = time.Now().Add(h.every)
		if _, err := s.Append(ctx, &p); err != nil {
			return tooLong(s, err)
		}
		if q.told && !p.ended {
			w.Header().Set(offsetHeader, number(s.Info().Offset))
			interim(w)
			w.Header().Del(offsetHeader)
		}
	}
	if fresh && !got.fit(q.content) {
		return reject(http.StatusBadRequest, "the content is not what Content-Digest says")
	}
	return nil
}

// tooLong tells a client that broke its own word about the length from one that passed a limit.
// Neither can go on (4.4.2).
func tooLong(s session.Session, err error) error {
	if !errors.Is(err, session.ErrTooLarge) {
		return err
	}
	p := refuse(http.StatusRequestEntityTooLarge, session.ErrTooLarge.Error())
	if s.Info().Size >= 0 {
		p = inconsistent()
	}
	p.over = true
	return p
}

// over says whether the upload that met err is over.
func over(err error) bool {
	var p *problem
	return errors.As(err, &p) && p.over
}

// portions cuts content where a client is to hear of its progress.
type portions struct {
	r     io.Reader
	end   time.Time // of the portion
	ended bool      // the content
}

func (p *portions) Read(b []byte) (int, error) {
	if p.ended || time.Now().After(p.end) {
		return 0, io.EOF
	}
	n, err := p.r.Read(b)
	p.ended = errors.Is(err, io.EOF)
	return n, err
}

// verify compares the whole upload with the digest that its client gave at first, and returns the
// value of the Repr-Digest that it asked for then.
func verify(ctx context.Context, s session.Session) (string, error) {
	meta := s.Info().Metadata
	given, want := meta[digestHeader], meta[wantDigestHeader]
	if given == "" && want == "" || s.Info().Published {
		return "", nil
	}
	promised, err := parseDigests([]string{given})
	if err != nil && given != "" {
		return "", fmt.Errorf("read a digest that was read before: %w", err)
	}
	name := wanted([]string{want})
	got := newSums(func(algorithm string) bool {
		_, ok := promised[algorithm]
		return ok || algorithm == name
	})
	if len(got) == 0 {
		return "", nil
	}
	f, err := s.Open(ctx)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.Copy(got, f); err != nil {
		return "", fmt.Errorf("read the upload %s: %w", s.Info().ID, err)
	}
	if !got.fit(promised) {
		return "", reject(http.StatusBadRequest, "the upload is not what Repr-Digest says")
	}
	if name == "" {
		return "", nil
	}
	return digestField(name, got[name].Sum(nil))
}
