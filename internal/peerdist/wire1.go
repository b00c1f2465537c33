package peerdist

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ebbtransfer/ebb/bits"
)

// Version 1 (section 3). All numbers are little-endian.

const header1 = 18

// description1 returns the bytes of a SegmentDescription.
func description1(a Algorithm) int { return 16 + 2*a.Size() }

func decode1(b []byte) (*Info, error) {
	f, first, last, err := parse1(b)
	if err != nil {
		return nil, err
	}
	// Checked in full by check; here only so that the sums make sense.
	s0, sn := &f.Segments[0], &f.Segments[len(f.Segments)-1]
	if int64(first) >= int64(s0.Length) {
		return nil, fmt.Errorf("content information that begins %d bytes into a segment of %d", first, s0.Length)
	}
	f.Range.Offset = s0.Offset + int64(first)
	end := sn.end()
	if last != 0 {
		// With one segment the count begins where the range does.
		end = max(sn.Offset, f.Range.Offset) + int64(last)
		if end > sn.end() {
			return nil, fmt.Errorf("content information of %d bytes in the last segment, which has %d", last, sn.Length)
		}
	}
	f.Range.Length = end - f.Range.Offset
	return f, nil
}

// parse1 reads the structure, and returns the two numbers that the range comes from as they are.
func parse1(b []byte) (f *Info, first, last uint32, err error) {
	if len(b) < header1 {
		return nil, 0, 0, errShort
	}
	le := binary.LittleEndian
	a := Algorithm(le.Uint32(b[2:]))
	if a.Version() != 1 {
		return nil, 0, 0, fmt.Errorf("content information with the hash algorithm %#x", uint32(a))
	}
	first, last = le.Uint32(b[6:]), le.Uint32(b[10:])
	n := int64(le.Uint32(b[14:]))
	h, size := a.Size(), description1(a)
	b = b[header1:]
	// Each segment has at least one block in the range.
	if n < 1 || n > maxSegments {
		return nil, 0, 0, fmt.Errorf("content information with %d segments", n)
	}
	if n*int64(size+4+h) > int64(len(b)) {
		return nil, 0, 0, errShort
	}
	f = &Info{Segments: make([]Segment, n)}
	for i := range f.Segments {
		d := b[:size:size]
		b = b[size:]
		offset, length := le.Uint64(d), le.Uint32(d[8:])
		if offset > maxOffset || length > SegmentSize || le.Uint32(d[12:]) != BlockSize {
			return nil, 0, 0, fmt.Errorf("content information with a segment of %d bytes at %d, in blocks of %d", length, offset, le.Uint32(d[12:]))
		}
		f.Segments[i] = Segment{Algorithm: a, Offset: int64(offset), Length: int(length), HashOfData: d[16 : 16+h : 16+h], Secret: Secret(d[16+h:])}
	}
	for i := range f.Segments {
		if len(b) < 4 {
			return nil, 0, 0, errShort
		}
		n := int64(le.Uint32(b)) * int64(h)
		b = b[4:]
		if n > int64(len(b)) {
			return nil, 0, 0, errShort
		}
		f.Segments[i].Hashes, b = b[:n:n], b[n:]
	}
	f.Trailing = len(b)
	return f, first, last, nil
}

// appendHead1 appends all but the segments.
func appendHead1(b []byte, a Algorithm, first, last uint32, n int) []byte {
	le := binary.LittleEndian
	b = append(b, 0, 1)
	b = le.AppendUint32(b, uint32(a))
	b = le.AppendUint32(b, first)
	b = le.AppendUint32(b, last)
	return le.AppendUint32(b, uint32(n))
}

func appendSegments1(b []byte, segments []Segment) []byte {
	le := binary.LittleEndian
	for i := range segments {
		s := &segments[i]
		b = le.AppendUint64(b, uint64(s.Offset))
		b = le.AppendUint32(b, uint32(s.Length))
		b = le.AppendUint32(b, BlockSize)
		b = append(b, s.HashOfData...)
		b = append(b, s.Secret...)
	}
	for i := range segments {
		s := &segments[i]
		b = le.AppendUint32(b, uint32(s.Known()))
		b = append(b, s.Hashes...)
	}
	return b
}

func (f *Info) append1(b []byte) []byte {
	first, last := &f.Segments[0], &f.Segments[len(f.Segments)-1]
	read := f.Range.End() - max(f.Range.Offset, last.Offset)
	if f.Range.End() == last.end() {
		read = 0 // as IIS writes it (16.4)
	}
	b = appendHead1(b, first.Algorithm, uint32(f.Range.Offset-first.Offset), uint32(read), len(f.Segments))
	return appendSegments1(b, f.Segments)
}

// AppendAlone appends content information of this one segment of version 1 as a hosted cache is told
// of it (section 10): start is where the segment's part begins that is offered, and, unlike anywhere
// else, the last number is the segment's length, whatever start is.
func (s *Segment) AppendAlone(b []byte, start int) []byte {
	b = appendHead1(b, s.Algorithm, uint32(start), uint32(s.Length), 1)
	return appendSegments1(b, []Segment{*s})
}

// DecodeAlone reads what AppendAlone writes. The segment keeps parts of b.
func DecodeAlone(b []byte) (s Segment, start int, err error) {
	if len(b) > header1+description1(SHA512)+4+SegmentSize/BlockSize*SHA512.Size() {
		return Segment{}, 0, fmt.Errorf("content information of one segment with %d bytes", len(b))
	}
	if len(b) < 2 || [2]byte(b) != [2]byte{0, 1} {
		return Segment{}, 0, errors.New("content information of a segment that is not of version 1")
	}
	f, first, last, err := parse1(b)
	if err != nil {
		return Segment{}, 0, err
	}
	s = f.Segments[0]
	f.Range = bits.Range{Offset: s.Offset, Length: int64(min(s.Length, s.Known()*BlockSize))}
	if err := f.check(); err != nil {
		return Segment{}, 0, err
	}
	// Zero is what whole segments have elsewhere.
	if len(f.Segments) != 1 || f.Trailing != 0 || int64(first) >= int64(s.Length) || last != 0 && int64(last) > int64(s.Length) {
		return Segment{}, 0, errors.New("content information that is not of one segment")
	}
	return s, int(first), nil
}
