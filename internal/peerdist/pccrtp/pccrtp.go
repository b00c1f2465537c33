// Package pccrtp is how a server gives content information in place of a file's bytes (MS-PCCRTP): a
// content encoding, and two headers in which client and server tell what they know. It has what both write
// and read, and nothing of files, secrets and connections.
//
// Sections named here are those of peercache.md.
package pccrtp

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Encoding is the content coding of a body that is content information.
const Encoding = "peerdist"

// Names of the headers, as they are written (section 6.1). Go spells them in another way when it reads
// them, and http.Header.Get and Values find that.
const (
	header   = "X-P2P-PeerDist"
	headerEx = "X-P2P-PeerDistEx"
)

// Vary is what answers depend on.
const Vary = "Accept-Encoding, " + header + ", " + headerEx

// LeastSize is how many bytes a file has for which content information is worth its while (section 5).
const LeastSize = 64 << 10

// Version is that of the protocol or of content information. Both numbers count by themselves: 1.23 comes
// after 1.3.
type Version struct{ Major, Minor int }

// Compare is as cmp.Compare.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Major, o.Major), cmp.Compare(v.Minor, o.Minor))
}

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// The versions of the protocol: the first, of Windows 7, knows no second header.
var (
	Version10 = Version{1, 0}
	Version11 = Version{1, 1}
)

// parseVersion reads two numbers with a dot and nothing else.
func parseVersion(text string) (v Version, ok bool) {
	major, minor, dot := strings.Cut(text, ".")
	a, errA := strconv.ParseUint(major, 10, 16)
	b, errB := strconv.ParseUint(minor, 10, 16)
	return Version{int(a), int(b)}, dot && errA == nil && errB == nil
}

// parameters reads a header that is a list of NAME=VALUE. Names come out in lower case. It is not ok if the
// header is missing, or says two things under one name; names that nobody knows are left for the caller to
// ignore.
func parameters(h http.Header, name string) (p map[string]string, ok bool) {
	values := h.Values(name)
	if len(values) == 0 {
		return nil, false
	}
	p = map[string]string{}
	for member := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, value, _ := strings.Cut(strings.Trim(member, " \t"), "=")
		name = strings.ToLower(strings.TrimRight(name, " \t"))
		value = strings.TrimLeft(value, " \t")
		if name == "" {
			continue
		}
		if old, twice := p[name]; twice && old != value {
			return nil, false
		}
		p[name] = value
	}
	return p, true
}

// truth reads a parameter that is true or false; missing, it is false.
func truth(p map[string]string, name string) (is, ok bool) {
	value, there := p[name]
	switch {
	case !there || strings.EqualFold(value, "false"):
		return false, true
	case strings.EqualFold(value, "true"):
		return true, true
	}
	return false, false
}

// set writes a header with its name as it is in the documents.
func set(h http.Header, name, value string) {
	unset(h, name)
	h[name] = []string{value}
}

func unset(h http.Header, name string) {
	delete(h, name)
	h.Del(name)
}

// Want is what a client may be given.
type Want struct {
	Version Version // of the protocol that both speak
	Second  bool    // it knows content information of version 2 too
	Hash    bool    // it asks for what was not ready before, and can wait a little (kind B, section 6.2)
}

// Wanted reports whether a request is for content information, and of which kind: rows 1, 2, 4 and 5 of the
// table in section 6.3. Whether its file is one that has content information, and who may have it, is
// the server's to know.
func Wanted(r *http.Request) (Want, bool) {
	var w Want
	p, ok := parameters(r.Header, header)
	if r.Method != http.MethodGet || !accepts(r.Header) || !ok {
		return w, false
	}
	if missing, ok := truth(p, "missingdatarequest"); missing || !ok {
		return w, false
	}
	if w.Version, ok = parseVersion(p["version"]); !ok || w.Version.Compare(Version10) < 0 {
		return w, false
	}
	if w.Version.Compare(Version11) > 0 {
		w.Version = Version11
	}
	if len(r.Header.Values(headerEx)) == 0 {
		return w, true
	}
	p, ok = parameters(r.Header, headerEx)
	if !ok || p["mincontentinformation"] != "1.0" {
		return w, false
	}
	switch p["maxcontentinformation"] {
	case "1.0":
	case "2.0":
		w.Second = true
	default:
		return w, false
	}
	w.Hash, ok = truth(p, "hashrequest")
	return w, ok
}

// Missing reports whether a request is for bytes that no peer had (kind C).
func Missing(r *http.Request) bool {
	p, _ := parameters(r.Header, header)
	missing, _ := truth(p, "missingdatarequest")
	return missing
}

// accepts reports whether the encoding is among those that a client takes.
func accepts(h http.Header) bool {
	for member := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, weight, weighted := strings.Cut(member, ";")
		if !strings.EqualFold(strings.Trim(name, " \t"), Encoding) {
			continue
		}
		if !weighted {
			return true
		}
		key, q, _ := strings.Cut(strings.Trim(weight, " \t"), "=")
		f, err := strconv.ParseFloat(strings.Trim(q, " \t"), 64)
		return strings.EqualFold(strings.Trim(key, " \t"), "q") && err == nil && f > 0 && f <= 1
	}
	return false
}

// Ask makes a request one for content information (kind A): of version 2 too, unless it is to be the first
// alone. With hash it says that it was told to ask again (kind B).
func Ask(h http.Header, second, hash bool) {
	h.Set("Accept-Encoding", Encoding)
	set(h, header, "Version=1.1")
	most := "1.0"
	if second {
		most = "2.0"
	}
	ex := "MinContentInformation=1.0, MaxContentInformation=" + most
	if hash {
		ex += ", HashRequest=true"
	}
	set(h, headerEx, ex)
}

// AskMissing makes a request one for bytes that no peer had (kind C). The caller asks for a range.
func AskMissing(h http.Header) {
	h.Set("Accept-Encoding", "identity")
	set(h, header, "Version=1.1, MissingDataRequest=true")
	unset(h, headerEx)
}

// Answer is what a server says in its answer.
type Answer struct {
	Version Version
	Encoded bool  // the body is content information
	Length  int64 // bytes of the body that it stands for; only if it is Encoded
	// MakeHash says that there will be content information later, for who asks with Hash.
	MakeHash bool
}

// Set writes the answer.
func (a Answer) Set(h http.Header) {
	text := "Version=" + a.Version.String()
	if a.Encoded {
		h.Set("Content-Encoding", Encoding)
		text += ", ContentLength=" + strconv.FormatInt(a.Length, 10)
	}
	set(h, header, text)
	if a.MakeHash {
		set(h, headerEx, "MakeHashRequest=true")
	}
}

// Answered reads what a server says. It is not ok if the server does not know the protocol or speaks it
// wrongly; a body is content information all the same then if Encoded says so, and no file.
func Answered(h http.Header) (a Answer, ok bool) {
	encodings := h.Values("Content-Encoding")
	a.Encoded = len(encodings) == 1 && strings.EqualFold(strings.Trim(encodings[0], " \t"), Encoding)
	p, ok := parameters(h, header)
	if !ok {
		return a, false
	}
	if a.Version, ok = parseVersion(p["version"]); !ok {
		return a, false
	}
	if a.Encoded {
		n, err := strconv.ParseUint(p["contentlength"], 10, 63)
		if err != nil {
			return a, false
		}
		a.Length = int64(n)
	}
	if p, there := parameters(h, headerEx); there {
		a.MakeHash, _ = truth(p, "makehashrequest")
	}
	return a, true
}
