package session

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Hidden is the directory below a root that holds what is under way. It is also a path element of
// the URLs of tus's and the IETF's uploads, so it can be no target, and files in it are never served.
const Hidden = ".ebb-uploads"

// BITSSessions is the path element of the URLs of BITS replies. It can be no target either.
const BITSSessions = "BITS-Sessions"

const (
	maxElement = 255  // bytes, what file systems take
	maxTarget  = 1024 // bytes, what object stores take
)

// CheckTarget says whether target can be the name of an upload: a relative path with slashes, which
// means the same file on every system, stays below the root, and is not one of the store's own. The
// error is ErrTarget with the reason.
func CheckTarget(target string) error {
	bad := func(why string) error { return fmt.Errorf("%w: the name %q %s", ErrTarget, target, why) }
	switch {
	case target == "":
		return bad("is empty")
	case len(target) > maxTarget:
		return fmt.Errorf("%w: the name is longer than %d bytes", ErrTarget, maxTarget)
	case !utf8.ValidString(target):
		return bad("is not UTF-8")
	case strings.Contains(target, `\`):
		return bad("has a backslash")
	case strings.ContainsFunc(target, unicode.IsControl):
		return bad("has a control character")
	}
	for element := range strings.SplitSeq(target, "/") {
		switch {
		case element == "":
			return bad("has an empty element")
		case element == "." || element == "..":
			return bad("has an element of dots")
		case len(element) > maxElement:
			return bad(fmt.Sprintf("has an element longer than %d bytes", maxElement))
		case Reserved(element):
			return bad("has an element that the server keeps for itself")
		case isDevice(element):
			return bad("has an element that is a device on Windows")
		}
	}
	if _, err := filepath.Localize(target); err != nil { // what else this system does not take
		return bad("cannot be a file here")
	}
	return nil
}

// Reserved says whether a path element, of a target or of a URL to serve, is the store's own.
func Reserved(element string) bool {
	// Windows takes no notice of dots and spaces at the end.
	element = strings.TrimRight(element, ". ")
	return strings.EqualFold(element, Hidden) || strings.EqualFold(element, BITSSessions)
}

var devices = map[string]bool{"CON": true, "PRN": true, "AUX": true, "NUL": true, "CONIN$": true, "CONOUT$": true}

// isDevice says whether Windows takes a path element, whatever its extension, for a device.
func isDevice(element string) bool {
	name, _, _ := strings.Cut(element, ".")
	name, _, _ = strings.Cut(name, ":")
	name = strings.ToUpper(strings.TrimRight(name, " "))
	if devices[name] {
		return true
	}
	number, ok := strings.CutPrefix(name, "COM")
	if !ok {
		number, ok = strings.CutPrefix(name, "LPT")
	}
	digit, n := utf8.DecodeRuneInString(number)
	return ok && n == len(number) && (digit >= '0' && digit <= '9' || digit == '¹' || digit == '²' || digit == '³')
}

// GUID writes the id of a session in the way of BITS: braced, upper case.
func GUID(id string) string {
	if len(id) != 2*idLen {
		return id
	}
	id = strings.ToUpper(id)
	return "{" + id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:] + "}"
}

// ParseGUID returns the id of the session that GUID wrote; case and braces do not matter.
func ParseGUID(guid string) (id string, ok bool) {
	if inner, found := strings.CutPrefix(guid, "{"); found {
		if guid, found = strings.CutSuffix(inner, "}"); !found {
			return "", false
		}
	}
	parts := strings.Split(guid, "-")
	if len(parts) != 5 || len(parts[0]) != 8 || len(parts[1]) != 4 || len(parts[2]) != 4 || len(parts[3]) != 4 {
		return "", false
	}
	id = strings.ToLower(strings.Join(parts, ""))
	return id, ValidID(id)
}

// idLen is the length of a session's id in bytes.
const idLen = 16

// ValidID says whether id has the form of a session's id, which is a file name as well.
func ValidID(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == idLen && strings.ToLower(id) == id
}
