package bup

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

const (
	maxAnswer = 256 << 10 // bytes of an answer, with header and body

	// deafTime is how long a write may wait after an answer that came too early: longer than it takes
	// to return from one that was not waiting.
	deafTime = 100 * time.Millisecond
)

// ear listens to a connection all the time: a server may answer in the middle of a request, and hang
// up between two.
type ear struct {
	conn *httpconn.Conn
	in   bounded
	r    *bufio.Reader

	heard   chan heard   // has room for one, and is closed after the last
	over    atomic.Bool  // nothing more is heard
	sending atomic.Int64 // odd while a request is written
}

// heard is an answer, or why there is none.
type heard struct {
	resp *http.Response // without its body
	err  error
	last bool // nothing comes after it
}

// listen begins to listen, until the connection ends or nobody hears what was heard.
func listen(conn *httpconn.Conn) *ear {
	e := &ear{conn: conn, in: bounded{Reader: conn}, heard: make(chan heard, 1)}
	e.r = bufio.NewReaderSize(&e.in, 4<<10)
	go e.run()
	return e
}

func (e *ear) run() {
	defer close(e.heard)
	defer e.over.Store(true)
	for {
		h := e.next()
		if n := e.sending.Load(); n%2 == 1 {
			// The server reads no further.
			time.AfterFunc(deafTime, func() {
				if e.sending.Load() == n {
					e.conn.Close()
				}
			})
		}
		select {
		case e.heard <- h:
		default: // two answers and no question
			e.conn.Close()
			return
		}
		if h.last {
			return
		}
	}
}

// ended reports whether the server said something, or hung up, without being asked.
func (e *ear) ended() bool { return len(e.heard) > 0 || e.over.Load() }

// next reads an answer.
func (e *ear) next() heard {
	e.in.left = maxAnswer
	for {
		resp, err := http.ReadResponse(e.r, &http.Request{Method: bupwire.Method})
		switch {
		case err != nil && e.in.left <= 0:
			return heard{err: errEndless, last: true}
		case err != nil:
			return heard{err: err, last: true}
		case resp.StatusCode/100 == 1: // the server does more than to keep us waiting
			continue
		case resp.Close || resp.ContentLength < 0 && len(resp.TransferEncoding) == 0:
			return heard{resp: resp, last: true}
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return heard{resp: resp, last: err != nil || e.r.Buffered() > 0}
	}
}

var errEndless = errors.New("an answer without end")

// bounded reads no more than left bytes.
type bounded struct {
	io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.Reader.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
