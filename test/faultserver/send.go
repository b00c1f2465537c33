package faultserver

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"time"
)

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	q := s.log.begin(r, connOf(r.Context()).number)
	defer s.log.change(func() { q.Done, q.Waiting = true, false })
	s.mu.Lock()
	e := s.entries[r.URL.Path]
	s.mu.Unlock()
	x := &exchange{server: s, entry: e, request: r, log: q}
	if e == nil {
		x.answer = message(http.StatusNotFound, "no such file\n")
		x.send(w)
		return
	}
	if h, ok := hopOf(r); ok {
		x.answer = redirect(h)
		x.send(w)
		return
	}
	x.program = e.next()
	if x.program.handmade() && r.ProtoMajor > 1 {
		x.program = Program{}
		x.answer = message(http.StatusInternalServerError, "this fault exists over HTTP/1.1 only\n")
		x.send(w)
		return
	}
	if x.program.Silent && x.stall(r.Context()) != nil {
		panic(http.ErrAbortHandler) // the client left: nothing must be sent
	}
	x.answer = e.plan(r, &x.program)
	if x.program.handmade() || x.program.Cut.How.ends() && r.ProtoMajor == 1 {
		x.sendByHand(w)
		return
	}
	x.send(w)
}

// exchange is a request with its answer.
type exchange struct {
	server  *Server
	entry   *Entry
	request *http.Request
	log     *Request
	program Program
	answer  *answer
}

// hasBody reports whether the answer has a body.
func (x *exchange) hasBody() bool {
	return x.request.Method != http.MethodHead && x.answer.status != http.StatusNotModified
}

// compressed reports whether the body is gzipped, which only file content is.
func (x *exchange) compressed() bool { return x.program.Gzip && x.answer.size > 0 }

// begin notes in the log what is about to be sent, so that a client that has the answer finds it
// there.
func (x *exchange) begin() {
	x.server.log.change(func() {
		x.log.Status = x.answer.status
		if x.answer.size > 0 && x.hasBody() && !x.compressed() {
			x.log.Offset = x.answer.offset
		}
	})
}

// stall waits for the next Release. It takes the gate before it shows in the log, so whoever saw
// it there can release it.
func (x *exchange) stall(ctx context.Context) error {
	gate := x.entry.barrier()
	x.server.log.change(func() { x.log.Waiting = true })
	select {
	case <-gate:
		x.server.log.change(func() { x.log.Waiting = false })
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send writes the answer with net/http, over HTTP/1.1 or HTTP/2.
func (x *exchange) send(w http.ResponseWriter) {
	a, ctx := x.answer, x.request.Context()
	for range x.program.Informational {
		if ctx.Err() != nil {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusEarlyHints)
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if x.program.Framing == FramingLength && !x.compressed() && a.status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.FormatInt(a.length(), 10))
	}
	x.begin()
	w.WriteHeader(a.status)
	flush := http.NewResponseController(w).Flush
	if x.program.Framing != FramingLength || x.compressed() {
		_ = flush() // or net/http would find out the length of a short body by itself
	}
	if !x.hasBody() {
		return
	}
	if err := x.body(ctx, w, flush); err != nil || x.program.Cut.How.ends() {
		panic(http.ErrAbortHandler)
	}
}

// sendByHand writes the answer to the connection and closes it.
func (x *exchange) sendByHand(w http.ResponseWriter) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // the client has left
	}
	defer func() { _ = c.Close() }()
	// net/http no longer watches the connection for the client's leaving.
	ctx, cancel := context.WithCancel(context.WithoutCancel(x.request.Context()))
	defer cancel()
	x.server.watch(c, rw.Reader, cancel)

	if x.program.Garbage != "" {
		_, _ = io.WriteString(c, x.program.Garbage)
		return
	}
	for range x.program.Informational {
		if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
			return
		}
	}
	x.begin()
	if err := x.writeHead(ctx, c); err != nil {
		return
	}
	if x.hasBody() && x.bodyByHand(ctx, c) != nil {
		return
	}
	if x.program.Cut.How == Reset {
		innermost(c).reset(ctx)
	}
}

func (x *exchange) bodyByHand(ctx context.Context, c net.Conn) error {
	flush := func() error { return nil }
	if !x.chunked() {
		return x.body(ctx, c, flush)
	}
	chunks := httputil.NewChunkedWriter(c)
	if err := x.body(ctx, chunks, flush); err != nil || x.program.Cut.How.ends() {
		return err
	}
	if err := chunks.Close(); err != nil {
		return err
	}
	_, err := io.WriteString(c, "\r\n")
	return err
}

// watch reads what the client still sends until it closes, and then calls left.
func (s *Server) watch(c net.Conn, buffered *bufio.Reader, left func()) {
	go func() {
		defer left()
		_, _ = buffered.WriteTo(io.Discard)
		_, _ = io.Copy(io.Discard, c)
	}()
}

// chunked reports whether an answer written by hand is chunked.
func (x *exchange) chunked() bool {
	switch x.program.Framing {
	case FramingChunked:
		return true
	case FramingLength:
		return x.compressed() && x.program.ContentLength == nil
	default:
		return false
	}
}

func (x *exchange) writeHead(ctx context.Context, c io.Writer) error {
	version := "HTTP/1.1"
	if x.program.Framing == FramingClose {
		version = "HTTP/1.0"
	}
	h := x.answer.header
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("Connection", "close")
	if x.chunked() {
		h.Set("Transfer-Encoding", "chunked")
	}
	switch {
	case x.program.ContentLength != nil:
		h["Content-Length"] = x.program.ContentLength
	case x.program.Framing == FramingLength && !x.compressed():
		h.Set("Content-Length", strconv.FormatInt(x.answer.length(), 10))
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %d %s\r\n", version, x.answer.status, http.StatusText(x.answer.status))
	_ = h.Write(&head)
	head.WriteString("\r\n")
	pace := pacer{drip: x.program.HeaderDrip}
	for head.Len() > 0 {
		piece := head.Next(int(pace.piece()))
		if err := pace.wait(ctx, int64(len(piece))); err != nil {
			return err
		}
		if _, err := c.Write(piece); err != nil {
			return err
		}
	}
	return nil
}
