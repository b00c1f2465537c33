package peerdist

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/ebbtransfer/ebb/bits"
)

// Segment is a part of a file, the unit that has a public id and a secret.
type Segment struct {
	Algorithm  Algorithm
	Offset     int64  // in the file
	Length     int    // bytes, at least 1
	HashOfData []byte // HoD
	Secret     Secret // Kp
	// Hashes are those of the first blocks, one after the other; all of them from our servers.
	// Version 2 has none: its segments are checked as a whole.
	Hashes []byte
}

// ID returns the segment's public id, HoHoDk.
func (s *Segment) ID() []byte { return s.Algorithm.SegmentID(s.Secret, s.HashOfData) }

// Blocks returns how many blocks the segment has. In version 2 it is 1.
func (s *Segment) Blocks() int {
	if s.Algorithm.Version() == 2 {
		return 1
	}
	return (s.Length + BlockSize - 1) / BlockSize
}

// Block returns where block i, of 0 to Blocks()-1, is in the segment.
func (s *Segment) Block(i int) (offset, length int) {
	if s.Algorithm.Version() == 2 {
		return 0, s.Length
	}
	offset = i * BlockSize
	return offset, min(BlockSize, s.Length-offset)
}

// Known returns how many blocks can be checked: the first ones of Blocks().
func (s *Segment) Known() int {
	if s.Algorithm.Version() == 2 {
		return 1
	}
	return len(s.Hashes) / s.Algorithm.Size()
}

// Verify reports whether data is block i. It is false for blocks that cannot be checked.
func (s *Segment) Verify(i int, data []byte) bool {
	if i < 0 || i >= s.Known() {
		return false
	}
	if _, n := s.Block(i); n != len(data) {
		return false
	}
	want := s.HashOfData
	if s.Algorithm.Version() == 1 {
		h := s.Algorithm.Size()
		want = s.Hashes[i*h : (i+1)*h]
	}
	var sum [MaxID]byte
	return subtle.ConstantTimeCompare(s.Algorithm.sum(sum[:0], data), want) == 1
}

// end returns the offset in the file that the segment ends before.
func (s *Segment) end() int64 { return s.Offset + int64(s.Length) }

// check reports what is wrong with a segment by itself, whoever described it.
func (s *Segment) check() error {
	size := s.Algorithm.Size()
	most := MaxSegment2
	if s.Algorithm.Version() == 1 {
		most = SegmentSize
	}
	switch {
	case s.Algorithm.Version() == 0:
		return fmt.Errorf("hash algorithm %#x", uint32(s.Algorithm))
	case s.Offset < 0 || s.Offset > maxOffset:
		return fmt.Errorf("a segment at %d", s.Offset)
	case s.Length < 1 || s.Length > most:
		return fmt.Errorf("a segment of %d bytes", s.Length)
	case len(s.HashOfData) != size || len(s.Secret) != size || len(s.Hashes)%size != 0:
		return errors.New("a segment with hashes of another size")
	case s.Algorithm.Version() == 2:
		return nil
	case s.Known() > s.Blocks():
		return fmt.Errorf("%d hashes of a segment of %d blocks", s.Known(), s.Blocks())
	case s.Known() < s.Blocks():
		return nil // nothing tells whether these hashes belong to the segment's
	}
	var sum [MaxID]byte
	if subtle.ConstantTimeCompare(s.Algorithm.sum(sum[:0], s.Hashes), s.HashOfData) != 1 {
		return fmt.Errorf("the hashes of the segment at %d do not have its hash", s.Offset)
	}
	return nil
}

// Info is content information of a file or of a range of it.
type Info struct {
	Range bits.Range // that it describes; the first and the last segment may reach out of it
	// Segments are in order without a gap, and there is at least one. They have the same algorithm.
	Segments   []Segment
	FirstIndex uint64 // of Segments[0] in the file; 0 in version 1, where the offset tells it
	Whole      bool   // the range is said to be the whole file; false in version 1, which does not say it
	Trailing   int    // bytes after the end of what was decoded: none should be there (section 3)
}

// Version returns 1 or 2.
func (f *Info) Version() int { return f.Segments[0].Algorithm.Version() }

// check reports what is wrong with the whole: with what it lists and with the range that it covers.
func (f *Info) check() error {
	if len(f.Segments) == 0 || len(f.Segments) > maxSegments {
		return fmt.Errorf("content information with %d segments", len(f.Segments))
	}
	first, last := &f.Segments[0], &f.Segments[len(f.Segments)-1]
	for i := range f.Segments {
		s := &f.Segments[i]
		if err := s.check(); err != nil {
			return fmt.Errorf("content information: %w", err)
		}
		one := s.Algorithm.Version() == 1
		switch {
		case s.Algorithm != first.Algorithm:
			return errors.New("content information with two algorithms")
		case i > 0 && s.Offset != f.Segments[i-1].end():
			return fmt.Errorf("content information with a segment at %d after one that ends at %d", s.Offset, f.Segments[i-1].end())
		case one && s.Offset%SegmentSize != 0:
			return fmt.Errorf("content information with a segment at %d, which is no multiple of 32 MiB", s.Offset)
		case one && s != last && s.Length != SegmentSize:
			return fmt.Errorf("content information with a segment of %d bytes that is not the last", s.Length)
		}
		// The blocks of the range must be known, or the list is of no use.
		need := min(f.Range.End(), s.end()) - s.Offset
		if known := int64(s.Known()) * BlockSize; one && known < need {
			return fmt.Errorf("content information with hashes for %d of %d bytes of a segment", known, need)
		}
	}
	switch {
	case f.Range.Length <= 0 || f.Range.Offset < first.Offset || f.Range.Offset >= first.end():
		return fmt.Errorf("content information of %d bytes from %d on, with a first segment from %d to %d", f.Range.Length, f.Range.Offset, first.Offset, first.end())
	case f.Range.Length > last.end()-f.Range.Offset:
		return fmt.Errorf("content information of %d bytes from %d on, with segments that end at %d", f.Range.Length, f.Range.Offset, last.end())
	}
	return nil
}

// Decode reads content information of either version. The result keeps parts of b, which the caller
// leaves as it is. The range is what the server says: the caller compares it with what it asked for.
func Decode(b []byte) (*Info, error) {
	if len(b) > MaxInfo {
		return nil, fmt.Errorf("content information of %d bytes; %d are allowed", len(b), MaxInfo)
	}
	if len(b) < 2 {
		return nil, errShort
	}
	var f *Info
	var err error
	switch [2]byte(b) {
	case [2]byte{0, 1}:
		f, err = decode1(b)
	case [2]byte{0, 2}:
		f, err = decode2(b)
	default:
		return nil, fmt.Errorf("content information of version %d.%d", b[1], b[0])
	}
	if err != nil {
		return nil, err
	}
	return f, f.check()
}

// Append appends the content information's bytes.
func (f *Info) Append(b []byte) []byte {
	if f.Version() == 1 {
		return f.append1(b)
	}
	return f.append2(b)
}

// Size returns how many bytes Append appends.
func (f *Info) Size() int {
	n := header1
	if f.Version() == 2 {
		n = header2 + chunk2
	}
	for i := range f.Segments {
		s := &f.Segments[i]
		if f.Version() == 2 {
			n += segment2
			continue
		}
		n += description1(s.Algorithm) + 4 + len(s.Hashes)
	}
	return n
}

var errShort = errors.New("content information that ends too early")
