// Package linkheader reads what a server says about a file in headers: where else it can be had
// (Link with rel=duplicate, RFC 6249 and RFC 8288) and what digest it has (Repr-Digest of RFC 9530,
// Digest of RFC 3230). All of it comes from the network and may be anything.
package linkheader

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	maxLinks  = 64      // looked at in one answer
	maxHeader = 1 << 16 // bytes of Link that are looked at
	maxURL    = 8192
)

// Link is one link of a Link header.
type Link struct {
	URL    string // as it stands there, perhaps relative
	Params map[string]string
}

// Links reads the Link headers. What is malformed ends the header that it is in.
func Links(h http.Header) []Link {
	var out []Link
	size := 0
	for _, s := range h.Values("Link") {
		if size += len(s); size > maxHeader {
			break
		}
		for len(out) < maxLinks {
			var l Link
			var ok bool
			if l, s, ok = next(s); !ok {
				break
			}
			out = append(out, l)
		}
	}
	return out
}

// next reads the first link of a header and returns the rest.
func next(s string) (l Link, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t,")
	if !strings.HasPrefix(s, "<") {
		return l, "", false
	}
	l.URL, s, ok = strings.Cut(s[1:], ">")
	if !ok {
		return l, "", false
	}
	l.Params = map[string]string{}
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == ',' {
			return l, s, true
		}
		if s[0] != ';' {
			return l, "", false
		}
		s = strings.TrimLeft(s[1:], " \t")
		end := strings.IndexAny(s, "=;, \t")
		if end < 0 {
			end = len(s)
		}
		name := strings.ToLower(s[:end])
		s = strings.TrimLeft(s[end:], " \t")
		value := ""
		if strings.HasPrefix(s, "=") {
			value, s, ok = parameter(strings.TrimLeft(s[1:], " \t"))
			if !ok {
				return l, "", false
			}
		}
		if _, has := l.Params[name]; !has && name != "" { // the first counts (RFC 8288 3.3)
			l.Params[name] = value
		}
	}
}

// parameter reads a token or a quoted string.
func parameter(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ";, \t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// Duplicates returns the URLs of the links with rel=duplicate, those with the best priority first
// (1 is the best; without one a link comes last), resolved against the URL of the answer.
func Duplicates(h http.Header, base *url.URL) []string {
	type duplicate struct {
		url string
		pri int
	}
	var found []duplicate
	for _, l := range Links(h) {
		if !slices.Contains(strings.Fields(strings.ToLower(l.Params["rel"])), "duplicate") || len(l.URL) > maxURL {
			continue
		}
		u, err := url.Parse(l.URL)
		if err != nil || base == nil && !u.IsAbs() {
			continue
		}
		if base != nil {
			u = base.ResolveReference(u)
		}
		u.Fragment, u.RawFragment = "", ""
		pri, err := strconv.Atoi(l.Params["pri"])
		if err != nil || pri < 1 || pri > 999_999 {
			pri = 1_000_000
		}
		found = append(found, duplicate{u.String(), pri})
	}
	slices.SortStableFunc(found, func(a, b duplicate) int { return cmp.Compare(a.pri, b.pri) })
	var out []string
	for _, f := range found {
		if !slices.Contains(out, f.url) {
			out = append(out, f.url)
		}
	}
	return out
}

// digests are the algorithms, best first, with the names that headers have for them.
var digests = []struct {
	name, own string
	size      int
}{{"sha-512", "sha512", 64}, {"sha-256", "sha256", 32}}

// Digest returns the digest of the whole file that an answer tells, as ALGORITHM:HEX, and nothing if
// it tells none that is worth checking.
func Digest(h http.Header) string {
	for _, d := range digests {
		for _, header := range []string{"Repr-Digest", "Digest"} {
			for item := range strings.SplitSeq(strings.Join(h.Values(header), ","), ",") {
				name, value, ok := strings.Cut(strings.TrimSpace(item), "=")
				if !ok || !strings.EqualFold(name, d.name) {
					continue
				}
				if header == "Repr-Digest" { // a byte sequence of RFC 8941, which parameters may follow
					value, _, _ = strings.Cut(value, ";")
					value = strings.TrimSpace(value)
					if len(value) < 2 || value[0] != ':' || value[len(value)-1] != ':' {
						continue
					}
					value = value[1 : len(value)-1]
				}
				if sum, err := base64.StdEncoding.DecodeString(value); err == nil && len(sum) == d.size {
					return d.own + ":" + hex.EncodeToString(sum)
				}
			}
		}
	}
	return ""
}
