// Package pccrr is the retrieval protocol of BranchCache (MS-PCCRR): who has which blocks of a segment,
// and the blocks, encrypted under the segment's secret. It has the messages and both of their ends.
//
// Sections named here are those of peercache.md.
package pccrr

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// Path is what requests are posted to (section 7.1); its case does not matter.
const Path = "/116B50EB-ECE2-41ac-8429-9F9E963361B7/"

// Limits of section 7.2 and 7.3.
const (
	MaxRequest  = 98304  // bytes of a request
	MaxResponse = 393216 // bytes of a response without the four that tell its size
	MaxBlocks   = 512    // of a segment: indexes are below it
	maxRanges   = 256    // of a request for a list
	header      = 16
)

// Type is the kind of a message.
type Type uint32

// The kinds.
const (
	TypeNegotiateRequest Type = iota
	TypeNegotiateResponse
	TypeGetBlockList
	TypeGetBlocks
	TypeBlockList
	TypeBlock
	TypeGetSegmentList
	TypeSegmentList
)

// Version is that of the protocol.
type Version struct{ Major, Minor uint16 }

// The versions that there are: messages about lists of segments have the second, all others the first.
var (
	Version1 = Version{Major: 1}
	Version2 = Version{Major: 2}
)

// ErrVersion is the answer to a request of a version that is neither. It is to be answered with
// NegotiateResponse.
var ErrVersion = errors.New("a message of a version that there is not")

// Range is a row of blocks, or of the segments of a request.
type Range struct{ Index, Count uint32 }

// End returns the index after the last.
func (r Range) End() uint64 { return uint64(r.Index) + uint64(r.Count) }

// Message is one of the types below; they are used as values.
type Message interface {
	Type() Type
	append(b []byte) []byte
}

// The messages. Slices in those that were decoded are parts of what they were decoded from.
type (
	// NegotiateRequest asks for the versions of a peer.
	NegotiateRequest struct{ Min, Max Version }
	// NegotiateResponse tells them.
	NegotiateResponse struct{ Min, Max Version }
	// GetBlockList asks which blocks of those that it names a peer has. It names at most 256 ranges.
	GetBlockList struct {
		Segment []byte // its public id
		Ranges  []Range
	}
	// GetBlocks asks for one block, the first that it names.
	GetBlocks struct {
		Segment []byte
		Ranges  []Range
	}
	// BlockList answers GetBlockList.
	BlockList struct {
		Segment []byte
		Ranges  []Range // sorted, apart from each other; none if the peer has none or is busy
		Next    uint32  // sent as 0 and ignored, for nobody knows what it is (section 16.7)
	}
	// Block answers GetBlocks.
	Block struct {
		Segment []byte
		Index   uint32
		Next    uint32 // the next block that the peer has; 0 if it has none
		Data    []byte // encrypted; empty if the peer does not have it or is busy
		IV      []byte // what it was encrypted with
	}
	// GetSegmentList asks a hosted cache which segments it has.
	GetSegmentList struct {
		RequestID [16]byte
		Segments  [][]byte // public ids
		Blob      []byte   // as in peerdist.AppendAges; may be empty
	}
	// SegmentList answers GetSegmentList.
	SegmentList struct {
		RequestID [16]byte
		Ranges    []Range // of indexes in the request
		Blob      []byte
	}
)

func (NegotiateRequest) Type() Type  { return TypeNegotiateRequest }
func (NegotiateResponse) Type() Type { return TypeNegotiateResponse }
func (GetBlockList) Type() Type      { return TypeGetBlockList }
func (GetBlocks) Type() Type         { return TypeGetBlocks }
func (BlockList) Type() Type         { return TypeBlockList }
func (Block) Type() Type             { return TypeBlock }
func (GetSegmentList) Type() Type    { return TypeGetSegmentList }
func (SegmentList) Type() Type       { return TypeSegmentList }

var be = binary.BigEndian

func appendVersion(b []byte, v Version) []byte {
	return be.AppendUint16(be.AppendUint16(b, v.Minor), v.Major)
}

// appendBytes appends a field of any length, without what fills it up.
func appendBytes(b, field []byte) []byte {
	return append(be.AppendUint32(b, uint32(len(field))), field...)
}

// fill appends what a field of n bytes lacks to a multiple of 4.
func fill(b []byte, n int) []byte { return append(b, make([]byte, -n&3)...) }

func appendID(b, id []byte) []byte { return fill(appendBytes(b, id), len(id)) }

func appendRanges(b []byte, ranges []Range) []byte {
	b = be.AppendUint32(b, uint32(len(ranges)))
	for _, r := range ranges {
		b = be.AppendUint32(be.AppendUint32(b, r.Index), r.Count)
	}
	return b
}

func (m NegotiateRequest) append(b []byte) []byte {
	return appendVersion(appendVersion(b, m.Min), m.Max)
}
func (m NegotiateResponse) append(b []byte) []byte { return NegotiateRequest(m).append(b) }
func (m GetBlockList) append(b []byte) []byte {
	return appendRanges(appendID(b, m.Segment), m.Ranges)
}
func (m GetBlocks) append(b []byte) []byte {
	return be.AppendUint32(GetBlockList(m).append(b), 0)
}
func (m BlockList) append(b []byte) []byte {
	return be.AppendUint32(appendRanges(appendID(b, m.Segment), m.Ranges), m.Next)
}
func (m Block) append(b []byte) []byte {
	b = appendID(b, m.Segment)
	b = be.AppendUint32(be.AppendUint32(b, m.Index), m.Next)
	b = fill(appendBytes(b, m.Data), len(m.Data))
	b = be.AppendUint32(b, 0)
	return appendBytes(b, m.IV) // the last field is not filled up
}
func (m GetSegmentList) append(b []byte) []byte {
	b = append(b, m.RequestID[:]...)
	b = be.AppendUint32(b, uint32(len(m.Segments)))
	for _, id := range m.Segments {
		b = appendID(b, id)
	}
	return appendBytes(b, m.Blob)
}
func (m SegmentList) append(b []byte) []byte {
	return appendBytes(appendRanges(append(b, m.RequestID[:]...), m.Ranges), m.Blob)
}

// AppendRequest appends a request as it is posted. The cipher is what the client would like; servers
// may choose another.
func AppendRequest(b []byte, c Cipher, m Message) []byte {
	at := len(b)
	v := Version1
	if m.Type() >= TypeGetSegmentList {
		v = Version2
	}
	b = appendVersion(b, v)
	b = be.AppendUint32(b, uint32(m.Type()))
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, uint32(c))
	b = m.append(b)
	be.PutUint32(b[at+8:], uint32(len(b)-at))
	return b
}

// AppendResponse appends a response as it is sent, with its size before it. The cipher is the one of a
// Block's data, and the request's where there is none.
func AppendResponse(b []byte, c Cipher, m Message) []byte {
	at := len(b)
	b = AppendRequest(append(b, 0, 0, 0, 0), c, m)
	be.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// DecodeRequest reads a request, and the cipher that the client would like. The error is ErrVersion
// for versions that there are not.
func DecodeRequest(b []byte) (Message, Cipher, error) {
	m, c, err := decode(b, MaxRequest)
	if err == nil {
		switch m.Type() {
		case TypeNegotiateRequest, TypeGetBlockList, TypeGetBlocks, TypeGetSegmentList:
		default:
			return nil, 0, fmt.Errorf("a request of type %d", m.Type())
		}
	}
	return m, c, err
}

// DecodeResponse reads a response, and the cipher of its data.
func DecodeResponse(b []byte) (Message, Cipher, error) {
	if len(b) < 4 || uint64(be.Uint32(b)) > uint64(len(b)-4) {
		return nil, 0, errShort
	}
	m, c, err := decode(b[4:], MaxResponse)
	if err != nil {
		return nil, 0, err
	}
	if be.Uint32(b) != be.Uint32(b[4+8:]) {
		return nil, 0, errors.New("a response with two sizes")
	}
	switch m.Type() {
	case TypeNegotiateResponse, TypeBlockList, TypeBlock, TypeSegmentList:
		return m, c, nil
	}
	return nil, 0, fmt.Errorf("a response of type %d", m.Type())
}

var errShort = errors.New("a message that ends too early")

func decode(b []byte, most int) (Message, Cipher, error) {
	if len(b) < header {
		return nil, 0, errShort
	}
	size, kind, c := be.Uint32(b[8:]), Type(be.Uint32(b[4:])), Cipher(be.Uint32(b[12:]))
	switch {
	case size < header || int64(size) > int64(most):
		return nil, 0, fmt.Errorf("a message of %d bytes", size)
	case int64(size) > int64(len(b)):
		return nil, 0, errShort
	case len(b)-int(size) > 3: // what fills a last field up may be there, or not (section 7.3)
		return nil, 0, errors.New("bytes after a message")
	}
	if major := be.Uint16(b[2:]); major < Version1.Major || major > Version2.Major {
		return nil, c, ErrVersion
	}
	r := reader{rest: b[header:size]}
	var m Message
	switch kind {
	case TypeNegotiateRequest:
		m = NegotiateRequest{r.version(), r.version()}
	case TypeNegotiateResponse:
		m = NegotiateResponse{r.version(), r.version()}
	case TypeGetBlockList:
		m = GetBlockList{r.id(), r.ranges(1, maxRanges, MaxBlocks)}
	case TypeGetBlocks:
		m = GetBlocks{r.id(), r.ranges(1, maxRanges, MaxBlocks)}
		r.field() // DataForVrfBlock, which nobody uses
	case TypeBlockList:
		m = BlockList{r.id(), r.ranges(0, MaxBlocks, MaxBlocks), r.number()}
	case TypeBlock:
		v := Block{Segment: r.id(), Index: r.number(), Next: r.number(), Data: r.field()}
		r.field() // VrfBlock, which nobody uses
		v.IV = r.field()
		m = v
	case TypeGetSegmentList:
		v := GetSegmentList{RequestID: r.guid()}
		n := r.number()
		if int64(n)*8 > int64(len(r.rest)) { // a length and at least a byte, filled up
			return nil, 0, errShort
		}
		v.Segments = make([][]byte, 0, n)
		for range n {
			v.Segments = append(v.Segments, r.id())
		}
		v.Blob = r.field()
		m = v
	case TypeSegmentList:
		m = SegmentList{r.guid(), r.ranges(0, MaxRequest/8, MaxRequest/8), r.field()}
	default:
		return nil, 0, fmt.Errorf("a message of type %d", kind)
	}
	if r.err == nil && len(r.rest) > 3 {
		r.err = errors.New("bytes after the last field of a message")
	}
	if r.err != nil {
		return nil, 0, r.err
	}
	return m, c, nil
}

// reader takes fields off the beginning of a message. After an error it returns zeros.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n uint32) []byte {
	if r.err != nil || int64(n) > int64(len(r.rest)) {
		if r.err == nil {
			r.err = errShort
		}
		r.rest = nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) number() uint32 {
	if b := r.take(4); b != nil {
		return be.Uint32(b)
	}
	return 0
}

func (r *reader) version() Version {
	n := r.number()
	return Version{Major: uint16(n), Minor: uint16(n >> 16)}
}

func (r *reader) guid() (g [16]byte) {
	copy(g[:], r.take(16))
	return g
}

// field takes a field of any length with what fills it up, which may be missing at the end.
func (r *reader) field() []byte {
	b := r.take(r.number())
	r.rest = r.rest[min(-len(b)&3, len(r.rest)):]
	return b
}

func (r *reader) id() []byte {
	b := r.field()
	if r.err == nil && (len(b) == 0 || len(b) > peerdist.MaxID) {
		r.err = fmt.Errorf("an id of %d bytes", len(b))
	}
	return b
}

// ranges takes least to most ranges of indexes below limit.
func (r *reader) ranges(least, most, limit uint32) []Range {
	n := r.number()
	if r.err == nil && (n < least || n > most) {
		r.err = fmt.Errorf("%d ranges", n)
	}
	if int64(n)*8 > int64(len(r.rest)) && r.err == nil {
		r.err = errShort
	}
	if r.err != nil || n == 0 {
		return nil
	}
	ranges := make([]Range, n)
	for i := range ranges {
		ranges[i] = Range{r.number(), r.number()}
		if v := ranges[i]; v.Count == 0 || v.Index >= limit {
			r.err = fmt.Errorf("a range of %d from %d on", v.Count, v.Index)
			return nil
		}
	}
	return ranges
}
