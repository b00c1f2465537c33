package peerdist

import (
	"crypto/hmac"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/ebbtransfer/ebb/bits"
)

// In the digest mode (section 20.5) there is no origin that describes a file: machines that have it and know a digest
// of all of it make content information of version 1 under a secret that follows from the digest, and give that to
// others as a segment of its own, the index, whose id and key follow from the digest too. It is our own invention, not
// Microsoft's.

// DigestSecret returns the secret p' of a file with a strong digest: who knows one knows the other.
func DigestSecret(sum []byte) Secret {
	m := hmac.New(SHA256.new, []byte("gobits digest mode v1"))
	m.Write(sum)
	return m.Sum(nil)
}

// Index returns the segment that content information is found by and travels under. It cannot be verified, and its
// length is not known.
func Index(p Secret) *Segment {
	return &Segment{Algorithm: SHA256, Length: 1, HashOfData: []byte("index"), Secret: SHA256.mac(p, []byte("index"))}
}

// OfDigest reports what is wrong with content information that somebody gave for a file of a size, of which
// nothing else but its secret is known. That the blocks are those of the file shows only when all are here.
func (f *Info) OfDigest(p Secret, size int64) error {
	if f.Version() != 1 || f.Trailing > 0 || f.Range != (bits.Range{Length: size}) {
		return fmt.Errorf("content information of version %d for the range %v, of a file of %d bytes", f.Version(), f.Range, size)
	}
	ks := SHA256.ServerKey(p)
	for i := range f.Segments {
		s := &f.Segments[i]
		switch {
		case s.Algorithm != SHA256 || s.Known() != s.Blocks():
			return fmt.Errorf("the segment at %d has algorithm %#x and %d hashes", s.Offset, uint32(s.Algorithm), s.Known())
		case subtle.ConstantTimeCompare(s.Secret, SHA256.segmentSecret(ks, s.HashOfData)) != 1:
			return errors.New("a segment with the key of another file")
		}
	}
	if last := &f.Segments[len(f.Segments)-1]; last.end() != size {
		return fmt.Errorf("content information up to byte %d, of a file of %d bytes", last.end(), size)
	}
	return nil
}
