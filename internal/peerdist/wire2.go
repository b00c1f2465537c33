package peerdist

import (
	"encoding/binary"
	"fmt"

	"github.com/ebbtransfer/ebb/bits"
)

// Version 2 (section 4). All numbers are big-endian.

const (
	header2  = 31
	chunk2   = 5
	segment2 = 68
	hash2    = 32
)

func decode2(b []byte) (*Info, error) {
	if len(b) < header2 {
		return nil, errShort
	}
	be := binary.BigEndian
	if Algorithm(b[2]) != TruncatedSHA512 {
		return nil, fmt.Errorf("content information with the hash algorithm %#x", b[2])
	}
	at, first, length := be.Uint64(b[3:]), be.Uint32(b[19:]), be.Uint64(b[23:])
	if at > maxOffset || length > maxOffset {
		return nil, fmt.Errorf("content information of %d bytes from %d on", length, at)
	}
	f := &Info{FirstIndex: be.Uint64(b[11:])}
	b = b[header2:]
	n := 0
	for rest := b; len(rest) > 0; {
		if len(rest) < chunk2 {
			return nil, errShort
		}
		size := int64(be.Uint32(rest[1:]))
		if rest[0] != 0 || size == 0 || size%segment2 != 0 {
			return nil, fmt.Errorf("content information with a chunk of type %d with %d bytes", rest[0], size)
		}
		if size > int64(len(rest)-chunk2) {
			return nil, errShort
		}
		rest = rest[chunk2+size:]
		n += int(size / segment2)
	}
	if n < 1 || n > maxSegments {
		return nil, fmt.Errorf("content information with %d segments", n)
	}
	f.Segments = make([]Segment, 0, n)
	end := int64(at)
	for len(b) > 0 {
		size := be.Uint32(b[1:])
		chunk := b[chunk2 : chunk2+size]
		b = b[chunk2+size:]
		for ; len(chunk) > 0; chunk = chunk[segment2:] {
			length := be.Uint32(chunk)
			if length > MaxSegment2 || end > maxOffset {
				return nil, fmt.Errorf("content information with a segment of %d bytes at %d", length, end)
			}
			f.Segments = append(f.Segments, Segment{Algorithm: TruncatedSHA512, Offset: end, Length: int(length),
				HashOfData: chunk[4 : 4+hash2 : 4+hash2], Secret: Secret(chunk[4+hash2 : segment2 : segment2])})
			end += int64(length)
		}
	}
	f.Whole = length == 0
	f.Range = bits.Range{Offset: int64(at) + int64(first), Length: int64(length)}
	if f.Whole {
		f.Range.Length = end - f.Range.Offset
	}
	return f, nil
}

func (f *Info) append2(b []byte) []byte {
	be := binary.BigEndian
	first := &f.Segments[0]
	b = append(b, 0, 2, byte(TruncatedSHA512))
	b = be.AppendUint64(b, uint64(first.Offset))
	b = be.AppendUint64(b, f.FirstIndex)
	b = be.AppendUint32(b, uint32(f.Range.Offset-first.Offset))
	length := uint64(f.Range.Length)
	if f.Whole {
		length = 0
	}
	b = be.AppendUint64(b, length)
	b = append(b, 0)
	b = be.AppendUint32(b, uint32(len(f.Segments)*segment2))
	for i := range f.Segments {
		s := &f.Segments[i]
		b = be.AppendUint32(b, uint32(s.Length))
		b = append(b, s.HashOfData...)
		b = append(b, s.Secret...)
	}
	return b
}
