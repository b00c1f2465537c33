// Package pchc is the messages by which a machine offers segments to a hosted cache (MS-PCHC), which
// then fetches them from it by MS-PCCRR. Version 1 gives the cache the segment's secret and hashes, over
// HTTPS; version 2 gives it public ids alone, so that the cache can read nothing of what it keeps.
//
// Sections named here are those of peercache.md.
package pchc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// Paths that the versions are posted to. Each takes its own alone.
const (
	Path1 = "/C574AC30-5794-4AEE-B1BB-6651C5315029"
	Path2 = "/0131501b-d67f-491b-9a40-c4bf27bcb4d4"
)

// Limits.
const (
	MaxMessage = 64 << 10 // bytes of a message; a segment with all hashes of SHA-512 has 33 KiB
	MaxBatch   = 128      // segments of a BatchedOffer
)

// Tag says what kind of program fetched the content. It is for statistics only.
type Tag [16]byte

// TagBITS is ours.
var TagBITS = Tag([]byte("BITS-4.0\x00\x00\x00\x00\x00\x00\x00\x00"))

// The messages. Slices in those that were decoded are parts of what they were decoded from.
type (
	// InitialOffer of version 1 offers one segment.
	InitialOffer struct {
		Port uint16 // where the offering machine serves blocks
		ID   []byte // the segment's public id
	}
	// SegmentInfo of version 1 tells all about a segment that the cache was interested in.
	SegmentInfo struct {
		Port    uint16
		Tag     Tag
		Segment peerdist.Segment
		Start   int // where in the segment the part begins that is offered
	}
	// BatchedOffer of version 2 offers up to MaxBatch segments.
	BatchedOffer struct {
		Port     uint16
		Segments []Offered
	}
)

// Offered is a segment of a BatchedOffer.
type Offered struct {
	BlockSize   uint32 // of version 2 of content information: SegmentSize
	SegmentSize uint32
	Tag         Tag
	Version     int    // of the content information: 1 with SHA-256, or 2
	ID          []byte // 32 bytes
}

// Answer is what the cache says.
type Answer uint8

// The answers.
const (
	OK         Answer = 0 // it will fetch what was offered
	Interested Answer = 1 // it wants a SegmentInfo; to an InitialOffer only
)

const (
	typeInitial = 1
	typeInfo    = 2
	typeBatched = 3

	header  = 16
	offered = 4 + 4 + 2 + 16 + 1 + 32
)

// algorithms are the numbers of HashAlgorithm, by the version of content information.
var algorithms = map[int]byte{1: 1, 2: 4}

var be = binary.BigEndian

func appendHeader(b []byte, major byte, kind, port uint16) []byte {
	b = be.AppendUint16(append(b, 0, major), kind)
	b = be.AppendUint16(append(b, 0, 0, 0, 0), port)
	return append(b, 0, 0, 0, 0, 0, 0)
}

// Append appends the message.
func (m *InitialOffer) Append(b []byte) []byte {
	return append(appendHeader(b, 1, typeInitial, m.Port), m.ID...)
}

// Append appends the message.
func (m *SegmentInfo) Append(b []byte) []byte {
	return m.Segment.AppendAlone(append(appendHeader(b, 1, typeInfo, m.Port), m.Tag[:]...), m.Start)
}

// Append appends the message.
func (m *BatchedOffer) Append(b []byte) []byte {
	b = appendHeader(b, 2, typeBatched, m.Port)
	for i := range m.Segments {
		s := &m.Segments[i]
		b = be.AppendUint32(be.AppendUint32(b, s.BlockSize), s.SegmentSize)
		b = append(be.AppendUint16(b, uint16(len(s.Tag))), s.Tag[:]...)
		b = append(append(b, algorithms[s.Version]), s.ID...)
	}
	return b
}

// Decode1 reads a message of version 1: a *InitialOffer or a *SegmentInfo.
func Decode1(b []byte) (any, error) {
	kind, port, rest, err := decodeHeader(b, 1)
	if err != nil {
		return nil, err
	}
	switch kind {
	case typeInitial:
		if len(rest) < 1 || len(rest) > peerdist.MaxID {
			return nil, fmt.Errorf("an offer of an id of %d bytes", len(rest))
		}
		return &InitialOffer{Port: port, ID: rest}, nil
	case typeInfo:
		m := &SegmentInfo{Port: port}
		if copy(m.Tag[:], rest) < len(m.Tag) {
			return nil, errShort
		}
		m.Segment, m.Start, err = peerdist.DecodeAlone(rest[len(m.Tag):])
		return m, err
	}
	return nil, fmt.Errorf("a message of type %d", kind)
}

// Decode2 reads a message of version 2.
func Decode2(b []byte) (*BatchedOffer, error) {
	kind, port, rest, err := decodeHeader(b, 2)
	if err != nil {
		return nil, err
	}
	n := len(rest) / offered
	if kind != typeBatched || n < 1 || n > MaxBatch || len(rest) != n*offered {
		return nil, fmt.Errorf("a message of type %d with %d bytes", kind, len(rest))
	}
	m := &BatchedOffer{Port: port, Segments: make([]Offered, n)}
	for i := range m.Segments {
		d := rest[i*offered : (i+1)*offered : (i+1)*offered]
		s := &m.Segments[i]
		s.BlockSize, s.SegmentSize, s.ID = be.Uint32(d), be.Uint32(d[4:]), d[27:]
		copy(s.Tag[:], d[10:])
		for version, a := range algorithms {
			if a == d[26] {
				s.Version = version
			}
		}
		largest := uint32(peerdist.SegmentSize)
		if s.Version == 2 {
			largest = peerdist.MaxSegment2
		}
		switch {
		case int(be.Uint16(d[8:])) != len(s.Tag) || s.Tag == Tag{}:
			return nil, errors.New("an offer without a tag")
		case s.Version == 0:
			return nil, fmt.Errorf("an offer with the hash algorithm %d", d[26])
		case s.SegmentSize < 1 || s.SegmentSize > largest || s.BlockSize < 1 || s.BlockSize > peerdist.SegmentSize:
			return nil, fmt.Errorf("an offer of a segment of %d bytes in blocks of %d", s.SegmentSize, s.BlockSize)
		}
	}
	return m, nil
}

func decodeHeader(b []byte, major byte) (kind, port uint16, rest []byte, err error) {
	switch {
	case len(b) > MaxMessage:
		return 0, 0, nil, fmt.Errorf("a message of %d bytes", len(b))
	case len(b) < header:
		return 0, 0, nil, errShort
	case b[0] != 0 || b[1] != major:
		return 0, 0, nil, fmt.Errorf("a message of version %d.%d", b[1], b[0])
	}
	return be.Uint16(b[2:]), be.Uint16(b[8:]), b[header:], nil
}

// AppendAnswer appends an answer as it is sent.
func AppendAnswer(b []byte, a Answer) []byte { return append(b, 0, 0, 0, 1, byte(a)) }

// DecodeAnswer reads an answer.
func DecodeAnswer(b []byte) (Answer, error) {
	if len(b) != 5 || be.Uint32(b) != 1 || b[4] > byte(Interested) {
		return 0, fmt.Errorf("an answer of a hosted cache that is %.16x", b)
	}
	return Answer(b[4]), nil
}

var errShort = errors.New("a message that ends too early")
