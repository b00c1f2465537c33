package peerdist

import (
	"context"
	"errors"
	"fmt"
	"io"

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

// readSize is how much of a file is read at once: little enough for a core's own cache to hold it until it is
// hashed. It is a multiple of BlockSize.
const readSize = BlockSize

// Generate reads a file to its end and hashes it. Next to the result it needs less than 1 MiB. It returns
// an error for an empty file, which cannot be described.
func Generate(ctx context.Context, r io.Reader, a Algorithm) (*Hashes, error) {
	next, longest := cut, MaxSegment2
	switch a.Version() {
	case 0:
		return nil, fmt.Errorf("hash algorithm %#x", uint32(a))
	case 1:
		next, longest = func(b []byte) int { return min(BlockSize, len(b)) }, BlockSize
	}
	h := &Hashes{Algorithm: a}
	space := make([]byte, readSize+longest)
	have := 0 // bytes at the beginning of space that are too few to say where the next part ends
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(r, space[have:have+readSize])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return nil, err
		}
		rest := space[:have+n]
		for len(rest) >= longest || last && len(rest) > 0 {
			end := next(rest)
			h.add(rest[:end])
			rest = rest[end:]
		}
		if last {
			break
		}
		have = copy(space, rest)
	}
	if h.Size == 0 {
		return nil, errors.New("an empty file has no content information")
	}
	h.finish()
	return h, nil
}

// add hashes the next block of the file (version 1) or its next segment (version 2).
func (h *Hashes) add(part []byte) {
	if h.Algorithm.Version() == 2 {
		h.Segments = append(h.Segments, SegmentHashes{Length: len(part), HashOfData: h.Algorithm.sum(nil, part)})
	} else {
		if h.Size%SegmentSize == 0 {
			h.finish()
			h.Segments = append(h.Segments, SegmentHashes{})
		}
		g := &h.Segments[len(h.Segments)-1]
		g.Blocks = h.Algorithm.sum(g.Blocks, part)
		g.Length += len(part)
	}
	h.Size += int64(len(part))
}

// finish hashes the last segment of version 1 when its blocks are complete.
func (h *Hashes) finish() {
	if n := len(h.Segments); n > 0 && h.Algorithm.Version() == 1 {
		g := &h.Segments[n-1]
		g.HashOfData = h.Algorithm.sum(nil, g.Blocks)
	}
}
