// Package metalink reads Metalink 4 documents (RFC 5854): files with several URLs and digests. A
// document comes from anywhere, so nothing in it is trusted but as what it is: names that lead out
// of a directory, digests of weak algorithms and URLs of other schemes are refused or left out.
package metalink

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
)

// MaxSize is the most bytes that a document may have.
const MaxSize = 32 << 20

const (
	namespace = "urn:ietf:params:xml:ns:metalink"
	lastPri   = 1_000_000
)

// File is one file of a document.
type File struct {
	Name     string   // relative, with '/'; never leads out of its directory
	Size     int64    // bytes; -1 if it is not told
	Checksum string   // ALGORITHM:HEX as bits.ParseChecksum returns it; empty if none is told
	URLs     []string // http and https, the best first; at least one
}

type document struct {
	XMLName xml.Name
	Files   []struct {
		Name   string `xml:"name,attr"`
		Size   *int64 `xml:"size"`
		Hashes []struct {
			Type  string `xml:"type,attr"`
			Value string `xml:",chardata"`
		} `xml:"hash"`
		URLs []struct {
			Priority int    `xml:"priority,attr"`
			Value    string `xml:",chardata"`
		} `xml:"url"`
	} `xml:"file"`
}

// algorithms are the digests that count, the best first, by the names of the IANA registry.
var algorithms = []struct{ name, own string }{{"sha-512", "sha512"}, {"sha-256", "sha256"}}

// Is reports whether a text begins as a Metalink 4 document does.
func Is(text []byte) bool {
	return bytes.Contains(text[:min(len(text), 4096)], []byte(namespace))
}

// Parse reads a document.
func Parse(r io.Reader) ([]File, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxSize {
		return nil, fmt.Errorf("the Metalink document is larger than %d bytes", MaxSize)
	}
	var doc document
	if err := xml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("the Metalink document cannot be read: %w", err)
	}
	if doc.XMLName.Space != namespace || doc.XMLName.Local != "metalink" {
		return nil, fmt.Errorf("it is no Metalink 4 document (RFC 5854)")
	}
	var out []File
	for _, f := range doc.Files {
		file := File{Name: f.Name, Size: -1}
		if !filepath.IsLocal(f.Name) || strings.ContainsAny(f.Name, "\\\x00") || strings.HasSuffix(f.Name, "/") || f.Name == "." {
			return nil, fmt.Errorf("the Metalink document has a file with the name %q, which leaves the directory", f.Name)
		}
		if f.Size != nil && *f.Size >= 0 {
			file.Size = *f.Size
		}
		for _, a := range algorithms {
			for _, h := range f.Hashes {
				if file.Checksum == "" && strings.EqualFold(h.Type, a.name) {
					if file.Checksum, err = bits.ParseChecksum(a.own + ":" + strings.TrimSpace(h.Value)); err != nil {
						return nil, fmt.Errorf("file %q: %w", f.Name, err)
					}
				}
			}
		}
		type place struct {
			url string
			pri int
		}
		var places []place
		for _, u := range f.URLs {
			text := strings.TrimSpace(u.Value)
			if !strings.HasPrefix(text, "http://") && !strings.HasPrefix(text, "https://") {
				continue // a document that came over the network names no files of this machine
			}
			if checked, e := bits.CheckURL(text, bits.Download); e == nil {
				pri := u.Priority
				if pri < 1 {
					pri = lastPri
				}
				places = append(places, place{checked, pri})
			}
		}
		slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(a.pri, b.pri) })
		for _, p := range places {
			if !slices.Contains(file.URLs, p.url) && len(file.URLs) <= bits.MaxMirrors {
				file.URLs = append(file.URLs, p.url)
			}
		}
		if len(file.URLs) == 0 {
			return nil, fmt.Errorf("file %q of the Metalink document has no http or https URL", f.Name)
		}
		out = append(out, file)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the Metalink document has no files")
	}
	return out, nil
}
