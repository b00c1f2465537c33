package ietf

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"net/http"

	"github.com/dunglas/httpsfv"
)

// Header fields of the draft. Values are structured fields (RFC 9651); a value that is not of the
// field's type counts as absent (4.1 to 4.4).
const (
	offsetHeader   = "Upload-Offset"
	completeHeader = "Upload-Complete"
	lengthHeader   = "Upload-Length"
	limitHeader    = "Upload-Limit"
	interopHeader  = "Upload-Draft-Interop-Version"
)

// item returns the value of a field that is an item of the type T.
func item[T any](h http.Header, name string) (T, bool) {
	var none T
	it, err := httpsfv.UnmarshalItem(h.Values(name))
	if err != nil {
		return none, false
	}
	value, ok := it.Value.(T)
	return value, ok
}

// count returns the value of a field that is a number of bytes; -1 without one.
func count(h http.Header, name string) int64 {
	if n, ok := item[int64](h, name); ok && n >= 0 {
		return n
	}
	return -1
}

// boolean is a structured field's.
func boolean(b bool) string {
	if b {
		return "?1"
	}
	return "?0"
}

// algorithms are those of RFC 9530 that are fit for their purpose and not only there for old
// systems, the preferred one first.
var algorithms = []struct {
	name string
	new  func() hash.Hash
}{
	{"sha-256", sha256.New},
	{"sha-512", sha512.New},
}

// digests are the sums that a Repr-Digest or a Content-Digest gives, by algorithm, of those
// algorithms that we know.
type digests map[string][]byte

// parseDigests reads Repr-Digest or Content-Digest (RFC 9530). One that cannot be read is an error,
// not as if it were absent: whoever sends one wants to hear if it does not hold.
func parseDigests(fields []string) (digests, error) {
	if len(fields) == 0 {
		return nil, nil
	}
	dict, err := httpsfv.UnmarshalDictionary(fields)
	if err != nil {
		return nil, fmt.Errorf("read the digest: %w", err)
	}
	d := make(digests)
	for _, a := range algorithms {
		member, ok := dict.Get(a.name)
		if !ok {
			continue
		}
		it, _ := member.(httpsfv.Item)
		sum, ok := it.Value.([]byte)
		if !ok || len(sum) != a.new().Size() {
			return nil, errors.New("that is not a digest of " + a.name)
		}
		d[a.name] = sum
	}
	return d, nil
}

// wanted returns the algorithm of a Want-Repr-Digest (RFC 9530, 4) that we know and its sender likes
// best; empty if there is none.
func wanted(fields []string) string {
	dict, err := httpsfv.UnmarshalDictionary(fields)
	if err != nil {
		return ""
	}
	best, name := int64(0), "" // a preference of 0 is a refusal
	for _, a := range algorithms {
		member, _ := dict.Get(a.name)
		it, _ := member.(httpsfv.Item)
		if preference, ok := it.Value.(int64); ok && preference > best {
			best, name = preference, a.name
		}
	}
	return name
}

// digestField is the value of a Repr-Digest with one sum.
func digestField(name string, sum []byte) (string, error) {
	dict := httpsfv.NewDictionary()
	dict.Add(name, httpsfv.NewItem(sum))
	return httpsfv.Marshal(dict)
}

// sums computes the digests of what is written to it.
type sums map[string]hash.Hash

// newSums computes those of the named algorithms.
func newSums(names func(string) bool) sums {
	s := make(sums)
	for _, a := range algorithms {
		if names(a.name) {
			s[a.name] = a.new()
		}
	}
	return s
}

func (s sums) Write(p []byte) (int, error) {
	for _, h := range s {
		_, _ = h.Write(p) // a hash takes everything
	}
	return len(p), nil
}

// fit says whether every sum in d is that of what was written.
func (s sums) fit(d digests) bool {
	for name, sum := range d {
		if string(s[name].Sum(nil)) != string(sum) {
			return false
		}
	}
	return true
}
