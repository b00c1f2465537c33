package httpget

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrtp"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

// PeerDist is what a request says of content information, by which a file can be had from peers
// (peercache.md 6). The zero value says nothing.
type PeerDist struct {
	Version int  // asks for content information of at most this version, 1 or 2, in the place of the file; 0 does not
	Make    bool // with Version: it was asked for before, and the server had to make it first
	Missing bool // content information is here, and the bytes of the file are asked for
}

// set writes what p says into the header of a request.
func (p PeerDist) set(h http.Header) {
	switch {
	case p.Version > 0:
		pccrtp.Ask(h, p.Version > 1, p.Make)
	case p.Missing:
		pccrtp.AskMissing(h)
	}
}

// errInfo says that an answer should be content information and is of no use as such. The file can be had
// all the same.
var errInfo = errors.New("content information that cannot be used")

// checkInfo turns the head of an answer into a Response whose body is content information of n bytes. Its
// error is errInfo.
func checkInfo(r Request, resp *http.Response, out *Response, n int64) error {
	out.Info, out.Validator.Size = true, n
	if resp.StatusCode == http.StatusPartialContent {
		first, last, total, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil || first != r.Offset || last != total-1 || n != last-first+1 {
			return errInfo
		}
		out.Offset, out.Validator.Size, out.Ranges = first, total, true
	}
	// What is longer than the file that it describes is of no use to anybody.
	out.limit = min(out.Validator.Size-out.Offset, peerdist.MaxInfo)
	if out.limit <= 0 || resp.ContentLength > out.limit {
		return errInfo
	}
	return nil
}

// ErrInfo reports whether an error of ReadInfo means that there is something wrong with the content
// information alone: the file may be asked for.
func ErrInfo(err error) bool { return errors.Is(err, errInfo) }

// ReadInfo reads the body of an answer that is content information of the whole file. more is called before
// each read. Its errors are those of Get, and such as ErrInfo knows.
func (r *Response) ReadInfo(ctx context.Context, more func()) (*peerdist.Info, error) {
	body := &telling{r.Body, more}
	b, err := io.ReadAll(io.LimitReader(body, r.limit+1))
	switch {
	case err != nil:
		return nil, httpconn.TransportError(ctx, err, r.URL.String())
	case int64(len(b)) > r.limit:
		return nil, errInfo
	case r.Length >= 0 && int64(len(b)) < r.Length:
		return nil, httpconn.TransportError(ctx, io.ErrUnexpectedEOF, r.URL.String())
	}
	info, err := peerdist.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInfo, err)
	}
	last := &info.Segments[len(info.Segments)-1]
	if want := (bits.Range{Length: r.Validator.Size}); info.Range != want || info.FirstIndex != 0 || last.Offset+int64(last.Length) != want.Length {
		return nil, fmt.Errorf("%w: it is of the range %v of a file of %d bytes", errInfo, info.Range, r.Validator.Size)
	}
	return info, nil
}

// telling calls more before each read.
type telling struct {
	io.Reader
	more func()
}

func (t *telling) Read(b []byte) (int, error) {
	t.more()
	return t.Reader.Read(b)
}

// refusesInfo reports whether a server may have refused a request because it asks for content
// information.
func refusesInfo(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusNotAcceptable, http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		return true
	}
	return false
}
