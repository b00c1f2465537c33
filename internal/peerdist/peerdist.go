// Package peerdist is content information, the base of BranchCache (MS-PCCRC): which segments a
// file has, how their bytes are checked, by which public name other machines know them and which key
// their blocks travel under.
//
// Servers make it with Generate and Hashes.Info, clients read it with Decode and check every byte
// that they get of anyone with Segment.Verify. What Decode returns was checked and can be used as it
// is; it came from an origin all the same, which may have described a file that there is not.
//
// It knows nothing of HTTP, peers and files. Sections named here are those of peercache.md.
package peerdist

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
)

// Sizes, with their places in peercache.md.
const (
	BlockSize   = 64 << 10             // bytes of a block of version 1 but the last of a segment (2)
	SegmentSize = 32 << 20             // bytes of a segment of version 1 but the last of a file (3)
	MaxSegment2 = 128 << 10            // bytes of a segment of version 2 (4)
	MaxInfo     = 64 << 20             // bytes of content information (3)
	MaxID       = 64                   // bytes of a segment's public id, with SHA-512
	maxSegments = 1 << 20              // in content information (3)
	maxOffset   = 1<<63 - 1<<32 - 1    // bytes; no sum of an offset and a length overflows below it
	c2          = "MS_P2P_CACHING\x00" // in UTF-16LE (2, and 16.1)
)

// Algorithm is how the parts of a segment are hashed, by its number on the wire. It tells the
// version of content information too.
type Algorithm uint32

// The algorithms.
const (
	SHA256          Algorithm = 0x800C // version 1; what Windows makes and we make
	SHA384          Algorithm = 0x800D // version 1
	SHA512          Algorithm = 0x800E // version 1
	TruncatedSHA512 Algorithm = 4      // version 2: the first 32 bytes of SHA-512
)

// Version returns the version of content information that an algorithm belongs to: 1, 2, or 0 for a
// number that is none.
func (a Algorithm) Version() int {
	switch a {
	case SHA256, SHA384, SHA512:
		return 1
	case TruncatedSHA512:
		return 2
	}
	return 0
}

// Size returns the bytes of a hash: 32, 48 or 64.
func (a Algorithm) Size() int {
	switch a {
	case SHA384:
		return sha512.Size384
	case SHA512:
		return sha512.Size
	}
	return sha256.Size
}

func (a Algorithm) new() hash.Hash {
	switch a {
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	}
	return sha512.New()
}

// sum appends the hash of data to b.
func (a Algorithm) sum(b, data []byte) []byte {
	switch a {
	case SHA256:
		h := sha256.Sum256(data)
		return append(b, h[:]...)
	case SHA384:
		h := sha512.Sum384(data)
		return append(b, h[:]...)
	}
	h := sha512.Sum512(data)
	return append(b, h[:a.Size()]...)
}

// mac returns the HMAC of the parts. What is longer than a hash of the algorithm is cut only here,
// never inside (section 2).
func (a Algorithm) mac(key []byte, parts ...[]byte) []byte {
	m := hmac.New(a.new, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)[:a.Size()]
}

// magic is C2 as it is hashed.
var magic = func() []byte {
	var b []byte
	for _, c := range []byte(c2) {
		b = append(b, c, 0)
	}
	return b
}()

// Secret is a key: of a server (Ks), or of a segment (Kp). It is as precious as the content, so that
// printing, logging and marshalling it tells nothing.
type Secret []byte

// Format writes the same whatever the verb is.
func (Secret) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("(secret)")) }

// MarshalText returns a word in place of the key.
func (Secret) MarshalText() ([]byte, error) { return []byte("(secret)"), nil }

// ServerKey derives Ks, which the secrets of all segments come from, from a server's secret p: 32
// random bytes, or what another server exported.
func (a Algorithm) ServerKey(p []byte) Secret { return a.sum(nil, p) }

// segmentSecret derives Kp.
func (a Algorithm) segmentSecret(ks Secret, hashOfData []byte) Secret { return a.mac(ks, hashOfData) }

// SegmentID derives a segment's public id (HoHoDk) from its secret Kp and its hash of data: the name
// that is told to other machines.
func (a Algorithm) SegmentID(kp Secret, hashOfData []byte) []byte {
	return a.mac(kp, hashOfData, magic)
}
