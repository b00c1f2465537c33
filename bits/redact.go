package bits

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// RedactURL returns a URL that may be shown: its password is replaced by xxxxx. What has no
// password, such as a path, stays as it is. What cannot be parsed loses all that may be a user
// and a password.
func RedactURL(s string) string {
	if !strings.Contains(s, "@") || strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") {
		return s
	}
	u, err := url.Parse(s)
	if err == nil && u.User != nil {
		if _, has := u.User.Password(); has {
			return u.Redacted()
		}
		return s
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		// Such as "user:password@host/path", whose scheme somebody forgot.
		if at := strings.LastIndex(authority(s), "@"); at > strings.Index(s, ":") && strings.Contains(s[:at], ":") {
			return s[at+1:]
		}
		return s
	}
	if err == nil {
		return s
	}
	at := strings.LastIndex(authority(rest), "@")
	if at < 0 && strings.Contains(authority(rest), ":") {
		at = strings.LastIndex(rest, "@") // a password with a bare '/', '?' or '#'
	}
	return scheme + "://" + rest[at+1:]
}

// authority is what stands before the path.
func authority(s string) string {
	if i := strings.Index(s, "/"); i >= 0 {
		return s[:i]
	}
	return s
}

// password finds the passwords of URLs in a text.
var password = regexp.MustCompile(`(://[^/?#\s"'<>:@]*):[^/?#\s"'<>]*@`)

// redactText takes the passwords out of a text: that of the URL file, which the text may be
// about, however it is spelt, and those of other URLs as far as they can be recognised.
func redactText(text, file string) string {
	if !strings.Contains(text, "@") {
		return text
	}
	if safe := RedactURL(file); safe != file {
		text = strings.ReplaceAll(text, file, safe)
		text = strings.ReplaceAll(text, inner(file), inner(safe))
	}
	return password.ReplaceAllString(text, "$1:xxxxx@")
}

// inner is how %q spells s, without the quotes.
func inner(s string) string {
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}
