package bits

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// RedactURL returns a URL for logs and errors: its password is replaced by xxxxx, and so is what in
// its query lets whoever has it do what the owner may: the signature, credential, key or token of a
// presigned URL. What has nothing of these, such as a path, stays as it is. What cannot be parsed
// loses all that may be a user and a password.
func RedactURL(s string) string {
	if strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") {
		return s
	}
	s = RedactPassword(s)
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i] + secretParameter.ReplaceAllString(s[i:], "${1}xxxxx")
	}
	return s
}

// Query parameters that are secrets, by the end of the names that Amazon, Google, Azure, Akamai,
// CloudFront, nginx and others have for them: in a URL, and in a text, where the value ends before
// the punctuation. Rather a harmless one too many than a secret.
const secretNames = `([?&;#](?i:[^=?&;#\s"'<>]*(?:token_{0,2}|signature|sig|credentials?|key|key-pair-id|policy|secret|password|passwd|passphrase|pass|pwd|auth|authorization|` +
	`session|session_?id|sid|ticket|code|jwt|hmac|md5|hash|sas|hdnea|hdnts|hdntl))=)`

var (
	secretParameter = regexp.MustCompile(secretNames + `[^&#]+`)
	secretInText    = regexp.MustCompile(secretNames + `[^&#\s"'<>]*[^&#\s"'<>.,:;)\\]`)
)

// RedactPassword returns a URL that may be shown to its owner: its password is replaced by xxxxx,
// and nothing else; see RedactURL.
func RedactPassword(s string) string {
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

// RedactPath returns of an http or https URL only which server it is of, if it has more: that of a web
// hook, which as a rule lets whoever knows it post there. Any other text is all hidden.
func RedactPath(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return "..."
	}
	server := u.Scheme + "://" + u.Host
	if rest := u.User != nil || u.RawQuery != "" || u.Fragment != ""; !rest && (u.Path == "" || u.Path == "/") {
		return s
	}
	return server + "/..."
}

// password finds the passwords of URLs in a text.
var password = regexp.MustCompile(`(://[^/?#\s"'<>:@]*):[^/?#\s"'<>]*@`)

// RedactText takes out of a text for the log what RedactURL takes out of the URLs in it, as far as
// they can be recognised.
func RedactText(text string) string { return redactText(text, "") }

// redactText is RedactText for a text that may be about the URL file, which it finds however it is
// spelt.
func redactText(text, file string) string {
	if !strings.ContainsAny(text, "@=") {
		return text
	}
	if safe := RedactURL(file); safe != file {
		text = strings.ReplaceAll(text, file, safe)
		text = strings.ReplaceAll(text, inner(file), inner(safe))
	}
	text = password.ReplaceAllString(text, "$1:xxxxx@")
	return secretInText.ReplaceAllString(text, "${1}xxxxx")
}

// inner is how %q spells s, without the quotes.
func inner(s string) string {
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}
