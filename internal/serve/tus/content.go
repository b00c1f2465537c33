package tus

import (
	"bytes"
	"context"
	"hash"
	"io"
	"net/http"

	"github.com/ebbtransfer/ebb/internal/serve/front"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// checkContent looks at what a request says of its content, and returns its checksum if it has one.
// A checksum without an algorithm comes after the content.
func checkContent(r *http.Request) (*checksum, error) {
	if r.Header.Get("Content-Type") != contentType {
		return nil, refuse(http.StatusUnsupportedMediaType, "the content of an upload is "+contentType)
	}
	if _, later := r.Trailer["Upload-Checksum"]; later {
		return &checksum{}, nil
	}
	header := r.Header.Get("Upload-Checksum")
	if header == "" {
		return nil, nil
	}
	sum, err := parseChecksum(header)
	if err != nil {
		return nil, malformed(err)
	}
	return &sum, nil
}

// add adds the request's content to the upload: all that arrives, or, with a checksum, all or
// nothing.
func (h handler) add(ctx context.Context, w http.ResponseWriter, r *http.Request, s session.Session, sum *checksum) error {
	content, stop := front.Content(ctx, w, r)
	defer stop()
	if sum == nil {
		_, err := s.Append(ctx, content)
		return err
	}
	sums := map[string]hash.Hash{}
	for name, algorithm := range algorithms {
		if sum.algorithm == "" || sum.algorithm == name { // one that comes after the content can be any
			sums[name] = algorithm()
		}
	}
	writers := make([]io.Writer, 0, len(sums))
	for _, s := range sums {
		writers = append(writers, s)
	}
	return s.AppendVerified(ctx, io.TeeReader(content, io.MultiWriter(writers...)), func() error {
		want := *sum
		if want.algorithm == "" {
			late, err := parseChecksum(r.Trailer.Get("Upload-Checksum"))
			if err != nil {
				return malformed(err)
			}
			want = late
		}
		if !bytes.Equal(sums[want.algorithm].Sum(nil), want.sum) {
			return refuse(statusChecksumMismatch, "the content is not what Upload-Checksum says; it was discarded")
		}
		return nil
	})
}
