package peerdist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ebbtransfer/ebb/bits"
)

// Hashes are what content information is made of and what is worth keeping, since it costs a read of
// the file. There is no secret in them (section 5).
type Hashes struct {
	Algorithm Algorithm
	Size      int64 // bytes of the file
	Segments  []SegmentHashes
}

// SegmentHashes are those of one segment.
type SegmentHashes struct {
	Length     int // bytes
	HashOfData []byte
	Blocks     []byte // the hashes of its blocks, one after the other; none in version 2
}

// Segment returns segment i with its secret, derived with Ks; offset is where it is in the file.
func (h *Hashes) segment(ks Secret, i int, offset int64) Segment {
	g := &h.Segments[i]
	return Segment{Algorithm: h.Algorithm, Offset: offset, Length: g.Length, HashOfData: g.HashOfData,
		Secret: h.Algorithm.segmentSecret(ks, g.HashOfData), Hashes: g.Blocks}
}

// Info makes content information of a range of the file, with the server's key Ks. The segments are
// listed whole, so that clients can check their hashes (section 3). It returns an error for a range
// that is not within the file, and for one that would take more than MaxInfo bytes.
func (h *Hashes) Info(ks Secret, r bits.Range) (*Info, error) {
	if r.Offset < 0 || r.Length < 1 || r.Offset >= h.Size || r.Length > h.Size-r.Offset {
		return nil, fmt.Errorf("content information of %d bytes from %d on, of a file of %d", r.Length, r.Offset, h.Size)
	}
	f := &Info{Range: r}
	if h.Algorithm.Version() == 2 {
		f.Whole = r.Length == h.Size
	}
	offset := int64(0)
	for i := range h.Segments {
		end := offset + int64(h.Segments[i].Length)
		if offset >= r.End() {
			break
		}
		if end > r.Offset {
			if len(f.Segments) == 0 && h.Algorithm.Version() == 2 {
				f.FirstIndex = uint64(i)
			}
			f.Segments = append(f.Segments, h.segment(ks, i, offset))
		}
		offset = end
	}
	if n := f.Size(); n > MaxInfo || len(f.Segments) > maxSegments {
		return nil, fmt.Errorf("content information would take %d bytes; %d are allowed", n, MaxInfo)
	}
	return f, nil
}

const (
	batchSize = 256 << 10 // bytes that one goroutine hashes at once: its core's cache holds them
	batches   = 2         // in flight for each goroutine, so that none waits for the reader
)

// batch is a part of the file with the blocks (version 1) or segments (version 2) that it consists of.
type batch struct {
	data  []byte
	cuts  []int  // where each of them ends
	sums  []byte // their hashes, when done is closed
	done  chan struct{}
	space []byte // what data is a part of
}

// Generate reads a file to its end and hashes it on as many cores as workers says, at least one. Next
// to the result it needs less than 1 MiB for each. It returns an error for an empty file, which cannot be
// described.
func Generate(ctx context.Context, r io.Reader, a Algorithm, workers int) (*Hashes, error) {
	if a.Version() == 0 {
		return nil, fmt.Errorf("hash algorithm %#x", uint32(a))
	}
	workers = max(workers, 1)
	work := make(chan *batch)
	ordered := make(chan *batch, workers*batches) // hashed or not yet, as they are in the file
	free := make(chan []byte, workers*batches)
	for range workers * batches {
		free <- nil // made when needed: most files are small
	}
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for b := range work {
				from := 0
				for _, to := range b.cuts {
					b.sums = a.sum(b.sums, b.data[from:to])
					from = to
				}
				close(b.done)
			}
		})
	}
	h := &Hashes{Algorithm: a}
	wait.Go(func() {
		for b := range ordered {
			<-b.done
			h.add(b)
			free <- b.space
		}
	})
	err := split(ctx, r, a, free, func(b *batch) {
		ordered <- b
		work <- b
	})
	close(work)
	close(ordered)
	wait.Wait()
	if err != nil {
		return nil, err
	}
	if h.Size == 0 {
		return nil, errors.New("an empty file has no content information")
	}
	h.finish()
	return h, nil
}

// split reads r and gives its parts to emit, each in a space of its own that it takes from free.
func split(ctx context.Context, r io.Reader, a Algorithm, free <-chan []byte, emit func(*batch)) error {
	next := func(b []byte) int { return min(BlockSize, len(b)) }
	longest := BlockSize
	if a.Version() == 2 {
		next, longest = cut, MaxSegment2
	}
	var rest []byte // begins the next part, but is too short to say where that ends
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		space := <-free
		if space == nil {
			space = make([]byte, batchSize+MaxSegment2)
		}
		n := copy(space, rest)
		m, err := io.ReadFull(r, space[n:])
		n += m
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		b := &batch{data: space[:n], done: make(chan struct{}), space: space}
		at := 0
		for n-at >= longest || last && at < n {
			at += next(space[at:n])
			b.cuts = append(b.cuts, at)
		}
		rest = append(rest[:0], space[at:n]...)
		if at > 0 {
			emit(b)
		}
		if last {
			return nil
		}
	}
}

// add takes the hashes of a batch, the next in the file.
func (h *Hashes) add(b *batch) {
	size := h.Algorithm.Size()
	from := 0
	for i, to := range b.cuts {
		sum := b.sums[i*size : (i+1)*size : (i+1)*size]
		if h.Algorithm.Version() == 2 {
			h.Segments = append(h.Segments, SegmentHashes{Length: to - from, HashOfData: sum})
		} else {
			if h.Size%SegmentSize == 0 {
				h.finish()
				h.Segments = append(h.Segments, SegmentHashes{})
			}
			g := &h.Segments[len(h.Segments)-1]
			g.Blocks = append(g.Blocks, sum...)
			g.Length += to - from
		}
		h.Size += int64(to - from)
		from = to
	}
}

// finish hashes the last segment of version 1 when its blocks are complete.
func (h *Hashes) finish() {
	if n := len(h.Segments); n > 0 && h.Algorithm.Version() == 1 {
		g := &h.Segments[n-1]
		g.HashOfData = h.Algorithm.sum(nil, g.Blocks)
	}
}
