package serve

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/serve/record"
)

const (
	// drainStep is what must come of a fragment that is refused in each drainPatience.
	drainStep = 1 << 20
	// mostDrains is how many of them are read at once, so that to be refused is no way to keep
	// the server busy. Those beyond may see a reset instead of the answer.
	mostDrains = 64
)

// refuse answers a request that no front end gets; g is its group, nil if there is none. The log is
// told why; the client no more than the status says.
func (s *server) refuse(l *line, r *http.Request, g *group, status int, why string) {
	record.Why(r.Context(), "%s", why)
	if r.Method == bupwire.Method {
		s.drain(l, r, g)
		code, context := bits.AccessDenied, bits.ContextRemoteFile
		if status == http.StatusUnauthorized || status == http.StatusServiceUnavailable || status == http.StatusNotFound {
			context = bits.ContextNone // the status says it all
		}
		bupwire.Ack{Status: status, Code: code, Context: context, Received: -1}.Write(l)
		return
	}
	http.Error(l, fmt.Sprintf("%d %s", status, http.StatusText(status)), status)
}

// drain reads a fragment that is refused. Windows sends all of it before it reads the answer, and says
// who it is only once it was asked: of a connection that is reset meanwhile it would never hear that.
// net/http itself reads no more than 256 KiB. A stream of HTTP/2 is refused without any of this.
func (s *server) drain(l *line, r *http.Request, g *group) {
	most := int64(bupwire.MaxFragment)
	if g != nil && g.Uploads != nil {
		most = max(most, g.Uploads.MaxFragment)
	}
	if r.ContentLength <= 0 || r.ContentLength > most || r.Header.Get("Expect") != "" || r.ProtoMajor >= 2 {
		return
	}
	select {
	case s.drains <- struct{}{}:
		defer func() { <-s.drains }()
	default:
		return
	}
	var err error
	for err == nil { // its end is an error too
		_ = l.SetReadDeadline(time.Now().Add(drainPatience))
		_, err = io.CopyN(io.Discard, r.Body, drainStep)
	}
	_ = l.SetReadDeadline(time.Time{})
}
