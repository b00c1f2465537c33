package tus

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxMetadata is how many bytes of Upload-Metadata are kept with an upload: names and types of
// files, of which the longest path is 4 KiB.
const maxMetadata = 8 << 10

// parseMetadata reads Upload-Metadata: pairs of a key and a value in base64, separated by commas. A
// value may be empty and then be left out.
func parseMetadata(header string) (map[string]string, error) {
	metadata := make(map[string]string)
	if strings.TrimSpace(header) == "" {
		return metadata, nil
	}
	for pair := range strings.SplitSeq(header, ",") {
		key, encoded, _ := strings.Cut(strings.TrimSpace(pair), " ")
		value, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		switch _, twice := metadata[key]; {
		case key == "":
			return nil, errors.New("Upload-Metadata has an empty key")
		case twice:
			return nil, fmt.Errorf("Upload-Metadata has the key %q twice", key)
		case err != nil:
			return nil, fmt.Errorf("Upload-Metadata: the value of %q is not base64", key)
		}
		metadata[key] = string(value)
	}
	return metadata, nil
}

// concat is what Upload-Concat says: nothing, that the upload is a part, or of which parts, named
// by the paths of their URLs, the upload is made.
type concat struct {
	partial bool
	final   bool
	parts   []string
}

// parseConcat reads Upload-Concat. Of the URLs of parts only the paths count: a part is on this
// server, under whatever name the client knows it.
func parseConcat(header string) (concat, error) {
	urls, final := strings.CutPrefix(header, "final;")
	switch {
	case header == "":
		return concat{}, nil
	case header == "partial":
		return concat{partial: true}, nil
	case !final:
		return concat{}, errors.New(`Upload-Concat is neither "partial" nor "final;" and URLs`)
	}
	c := concat{final: true}
	for _, raw := range strings.Fields(urls) {
		u, err := url.Parse(raw)
		if err != nil || u.Path == "" {
			return concat{}, fmt.Errorf("Upload-Concat: %q is not the URL of an upload", raw)
		}
		c.parts = append(c.parts, u.Path)
	}
	if len(c.parts) == 0 {
		return concat{}, errors.New("Upload-Concat names no parts")
	}
	return c, nil
}

// algorithms are those of Upload-Checksum. A sum is made to find damage on the way, for which all of
// them do; crc32 is that of zip, crc32c that of iSCSI, both big endian as S3 has them.
var algorithms = map[string]func() hash.Hash{
	"sha1":   sha1.New,
	"sha256": sha256.New,
	"sha512": sha512.New,
	"md5":    md5.New,
	"crc32":  func() hash.Hash { return crc32.NewIEEE() },
	"crc32c": func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
}

// algorithmNames is the value of Tus-Checksum-Algorithm.
var algorithmNames = strings.Join(slices.Sorted(maps.Keys(algorithms)), ",")

// checksum is what Upload-Checksum says of the content of a request.
type checksum struct {
	algorithm string // of algorithms
	sum       []byte
}

// parseChecksum reads Upload-Checksum: an algorithm, a space, the sum in base64.
func parseChecksum(header string) (checksum, error) {
	name, encoded, _ := strings.Cut(header, " ")
	algorithm, ok := algorithms[name]
	if !ok {
		return checksum{}, fmt.Errorf("Upload-Checksum: the algorithm %q is not supported, but %s are", name, algorithmNames)
	}
	sum, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil || len(sum) != algorithm().Size() {
		return checksum{}, fmt.Errorf("Upload-Checksum: that is no sum of %s in base64", name)
	}
	return checksum{name, sum}, nil
}

// parseNumber reads a header that must be a count of bytes.
func parseNumber(name, value string) (int64, error) {
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number of bytes", name)
	}
	return int64(n), nil
}
