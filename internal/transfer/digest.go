package transfer

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/ebbtransfer/ebb/internal/extent"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrtp"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

// In the digest mode (peercache.md 20.5) files are shared that their servers do not describe, if a strong digest of them
// is known before they come. It begins with an answer of the file's server all the same, so that it says each time who
// may have the file; peers are looked for while its bytes come.

// sum returns the digest of the file by which others may know it, nil if they may not: if the answer is not one for
// everybody, or nothing but a server that nobody proves has told the digest.
func (d *download) sum(resp *httpget.Response) []byte {
	switch {
	case d.node == nil || d.plain || resp.URL == nil || !d.node.Settings().DigestMode || !d.mayShare(&d.f):
		return nil
	case !resp.Public || d.job.Access.Certifies != nil || resp.Speaks || !d.parts || resp.Validator.Size < pccrtp.LeastSize || len(d.src.urls) > 1:
		return nil
	case d.f.Checksum == "" && resp.URL.Scheme != "https" && !d.node.Settings().PlainHTTP:
		return nil
	}
	_, text, _ := strings.Cut(d.expected(), ":")
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) == 0 {
		return nil
	}
	return sum
}

// seek begins to look for what peers say of the file, of which the server has begun to send the rest.
func (d *download) seek(ctx context.Context, resp *httpget.Response) {
	d.known, d.sought = d.sum(resp), nil
	if d.known == nil || resp.Length >= 0 && resp.Length < minRun {
		return
	}
	sought, sum, size := make(chan *description, 1), d.known, resp.Validator.Size
	d.sought = sought
	about := description{validator: resp.Validator, modified: resp.Modified, digest: d.expected()}
	go func() { // it ends with the request, at the latest
		if info, from := d.node.Index(ctx, sum, size); info != nil {
			about.info, about.from = info, from
			sought <- &about
		}
	}()
}

// found reports whether it is known now what peers say of the file, and worth more than what is on its way: left bytes.
func (d *download) found(left int64) bool {
	select {
	case about := <-d.sought:
		if left >= 0 && left < minRun {
			return false
		}
		d.about = about
		return true
	default:
		return false
	}
}

// publish gives the whole file to others who know its digest. What goes wrong is nobody's concern.
func (d *download) publish(ctx context.Context) {
	if d.known == nil {
		return
	}
	f, err := d.job.Owner.Open(d.path)
	if err != nil {
		return
	}
	defer f.Close()
	_ = d.node.Publish(ctx, f, d.part.Offset(), d.known)
}

// agrees reports whether what the server has sent is what a peer says of it.
func (s *swarm) agrees(filled extent.Set) bool {
	f, err := s.job.Owner.Open(s.path)
	if err != nil {
		return len(filled) == 0
	}
	defer f.Close()
	data := make([]byte, peerdist.BlockSize)
	for b := range s.blocks {
		seg, i, at := s.block(b)
		if len(filled) == 0 || !filled.Has(at) {
			continue
		}
		if _, err := f.ReadAt(data[:at.Length], at.Offset); err != nil || !seg.Verify(i, data[:at.Length]) {
			return false
		}
	}
	return true
}

// refute throws away a file that came by the word of a peer, which has turned out to be wrong. It returns errPlain.
func (s *swarm) refute(why string) error {
	s.node.Lied(s.about.from, fmt.Errorf("an index of another file: %s", why))
	if s.cache != nil {
		for i := range s.info.Segments {
			_ = s.cache.Delete(s.info.Segments[i].ID()) // of no use to anybody
		}
	}
	return s.discard("what peers said of the file was wrong", false)
}

// byWord reports whether nobody but a peer has described the file.
func (s *swarm) byWord() bool { return s.about.digest != "" }
