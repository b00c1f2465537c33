// Package extent computes with parts of a file: which bytes are here, and which are missing.
package extent

import (
	"slices"
	"sort"

	"github.com/ebbtransfer/ebb/bits"
)

// Set is a set of bytes of a file as ranges: sorted, disjoint, none adjacent to the next, none empty,
// all with a length. Its methods do not change it.
type Set []bits.Range

// from returns the index of the first range that ends at or after an offset.
func (s Set) from(offset int64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].End() >= offset })
}

// Add returns the set with the bytes of r, which has a length.
func (s Set) Add(r bits.Range) Set {
	if r.Length <= 0 {
		return s
	}
	first, end := r.Offset, r.End()
	i := s.from(first)
	j := i
	for ; j < len(s) && s[j].Offset <= end; j++ {
		first, end = min(first, s[j].Offset), max(end, s[j].End())
	}
	out := make(Set, 0, len(s)-(j-i)+1)
	out = append(out, s[:i]...)
	out = append(out, bits.Range{Offset: first, Length: end - first})
	return append(out, s[j:]...)
}

// Bytes returns the number of bytes in the set.
func (s Set) Bytes() int64 {
	var n int64
	for _, r := range s {
		n += r.Length
	}
	return n
}

// Has reports whether all bytes of r, which has a length, are in the set.
func (s Set) Has(r bits.Range) bool {
	i := s.from(r.Offset + 1)
	return r.Length <= 0 || i < len(s) && s[i].Offset <= r.Offset && s[i].End() >= r.End()
}

// Missing returns the parts of r, which has a length, that are not in the set, in order.
func (s Set) Missing(r bits.Range) []bits.Range {
	var out []bits.Range
	at, end := r.Offset, r.End()
	for i := s.from(at + 1); i < len(s) && s[i].Offset < end; i++ {
		if s[i].Offset > at {
			out = append(out, bits.Range{Offset: at, Length: s[i].Offset - at})
		}
		at = max(at, s[i].End())
	}
	if at < end {
		out = append(out, bits.Range{Offset: at, Length: end - at})
	}
	return out
}

// Valid reports whether a set that was read from somewhere keeps the promise of the type, with all of
// its bytes below size.
func (s Set) Valid(size int64) bool {
	at := int64(-1)
	for _, r := range s {
		if r.Offset <= at || r.Length <= 0 || r.Length > size-r.Offset {
			return false
		}
		at = r.End()
	}
	return true
}

// Clone returns a copy.
func (s Set) Clone() Set { return slices.Clone(s) }
