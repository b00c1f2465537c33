package faultserver

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// errShrunk ends an answer whose file became shorter than what its header promises.
var errShrunk = errors.New("the file became shorter while it was served")

// pieces are the buffers that content is made in.
var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// body writes the answer's body to w, with the faults that its program has for bodies. It
// returns nil when the body was sent as far as the program wants.
func (x *exchange) body(ctx context.Context, w io.Writer, flush func() error) error {
	a := x.answer
	counted := io.Writer(&counter{w: w, x: x})
	if a.size == 0 {
		w = counted // a text that is the whole body counts, one around file content does not
	}
	if _, err := io.WriteString(w, a.text); err != nil {
		return err
	}
	finish := func() error { return nil }
	if x.compressed() {
		// Stored, not compressed: random content would not become smaller, and gzip is gzip.
		z, err := gzip.NewWriterLevel(counted, gzip.NoCompression)
		if err != nil {
			return err
		}
		below := flush
		counted, finish = z, z.Close
		flush = func() error { return errors.Join(z.Flush(), below()) }
	}
	if whole, err := x.stretch(ctx, counted, flush); err != nil || !whole {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	_, err := io.WriteString(w, a.tail)
	return err
}

// stretch writes the answer's stretch of the file. It is not whole if the program cut it.
func (x *exchange) stretch(ctx context.Context, w io.Writer, flush func() error) (whole bool, err error) {
	buf := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(buf)
	a, p := x.answer, &x.program
	src := Content(a.file.Seed, a.file.Size)
	// A write that does not fit the send buffer is counted only when the client has read the rest.
	pace := pacer{rate: p.Rate, drip: p.Drip, most: min(int64(x.server.options.SendBuffer), pieceSize)}
	cut, change := p.Cut.How, p.Change
	if change != nil && change.After == 0 {
		change = nil // made before the answer
	}
	cutAt := min(p.Cut.After, a.size)
	for sent := int64(0); ; {
		if cut != NoCut && sent == cutAt {
			if cut.ends() {
				return false, nil
			}
			if err := x.stall(ctx); err != nil {
				return false, err
			}
			cut = NoCut
		}
		if sent == a.size {
			return true, nil
		}
		n := min(pace.piece(), a.size-sent)
		if cut != NoCut {
			n = min(n, cutAt-sent)
		}
		if change != nil {
			n = min(n, change.After-sent)
		}
		if err := pace.wait(ctx, n); err != nil {
			return false, err
		}
		got, err := src.ReadAt(buf[:n], a.offset+sent)
		if int64(got) < n {
			return false, fmt.Errorf("read at %d: %w (%w)", a.offset+sent, errShrunk, err)
		}
		var next io.ReaderAt
		if change != nil && (sent+n == change.After || sent+n == a.size) {
			// Made before the write that reaches it: a client that has those bytes and comes
			// back finds the new version.
			x.entry.Replace(change.To)
			if change.InPlace {
				next = Content(change.To.Seed, change.To.Size)
			}
			change = nil
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return false, err
		}
		if err := flush(); err != nil {
			return false, err
		}
		sent += n
		if next != nil {
			src = next
		}
	}
}

// counter notes in the log what passes.
type counter struct {
	w io.Writer
	x *exchange
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.x.server.log.change(func() { c.x.log.Sent += int64(n) })
	return n, err
}
