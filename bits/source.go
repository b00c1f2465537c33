package bits

import (
	"net/url"
	"path"
	"slices"
	"strings"
)

// MaxMirrors is how many other URLs a file may have.
const MaxMirrors = 64

// CheckURL validates a URL that a job of a type fetches from or sends to and returns it without
// its fragment. A file of a mounted share may also be given as \\SERVER\SHARE\PATH, which becomes
// a URL with the scheme smb.
func CheckURL(raw string, t Type) (string, *Error) {
	shown := RedactURL(raw)
	bad := func(file, format string, args ...any) (string, *Error) {
		e := Errorf(InvalidArg, format, args...)
		e.Context, e.File = ContextRemoteFile, file
		return "", e
	}
	if len(raw) > MaxURLLen {
		return bad("", "the URL has %d bytes; %d are allowed", len(raw), MaxURLLen)
	}
	if strings.HasPrefix(raw, `\\`) {
		raw = fromUNC(raw)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return bad(shown, "%q is not a URL", shown)
	}
	switch u.Scheme {
	case "http", "https":
	case "file", "smb":
		return checkFileURL(u, shown, t)
	case "s3":
		if t == Upload {
			break
		}
		fallthrough
	default:
		if t == UploadReply {
			return bad(shown, "%q is not an http or https URL", shown)
		}
		return bad(shown, "%q is not an http, https, file or smb URL", shown)
	}
	if u.Hostname() == "" {
		return bad(shown, "the URL %q has no host", shown)
	}
	u.Fragment, u.RawFragment = "", ""
	return u.String(), nil
}

// fromUNC writes a Windows network path as a URL.
func fromUNC(p string) string {
	u := url.URL{Scheme: "smb"}
	u.Host, u.Path, _ = strings.Cut(strings.ReplaceAll(p[2:], `\`, "/"), "/")
	u.Path = "/" + u.Path
	return u.String()
}

// checkFileURL validates the URL of a file on this machine, or on a share that is mounted here.
func checkFileURL(u *url.URL, shown string, t Type) (string, *Error) {
	bad := func(format string, args ...any) (string, *Error) {
		e := Errorf(InvalidArg, format, args...)
		e.Context, e.File = ContextRemoteFile, shown
		return "", e
	}
	host := u.Hostname()
	switch {
	case t == UploadReply:
		e := Errorf(NotImplemented, "a reply comes from http and https servers only, and %q is a file", shown)
		e.Context, e.File = ContextRemoteFile, shown
		return "", e
	case u.User != nil:
		return bad("the URL %q of a file has a user; the share is used as it is mounted", shown)
	case u.RawQuery != "" || u.Opaque != "":
		return bad("%q is not the URL of a file, such as file:///srv/image.iso; '?' is written %%3F", shown)
	case u.Scheme == "smb" && host == "":
		return bad("the URL %q has no host", shown)
	case u.Scheme == "file" && strings.EqualFold(host, "localhost"):
		host = ""
	}
	p := path.Clean(u.Path)
	switch {
	case !strings.HasPrefix(u.Path, "/") || strings.ContainsRune(u.Path, 0):
		return bad("%q is not the URL of a file, such as file:///srv/image.iso", shown)
	case slices.Contains(strings.Split(u.Path, "/"), ".."):
		return bad("the URL %q holds \"..\"", shown)
	case p == "/" || host != "" && strings.Count(p, "/") < 2:
		return bad("the URL %q names no file", shown)
	case strings.HasSuffix(u.Path, "/"):
		return bad("the URL %q names a directory, not a file", shown)
	}
	out := url.URL{Scheme: "file", Path: p}
	if host != "" { // a share either way
		out.Scheme, out.Host = "smb", strings.ToLower(u.Host)
	}
	return out.String(), nil
}

// checkSources validates the mirrors of a file.
func (f *FileSpec) checkSources(t Type) *Error {
	if t != Download && (len(f.Mirrors) > 0 || f.OnlyIfNewer) {
		e := Errorf(NotImplemented, "an upload has neither mirrors nor only_if_newer")
		e.Context, e.File = ContextLocalFile, f.Local
		return e
	}
	if f.NamedBy != "" {
		u, err := url.Parse(f.NamedBy)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || t != Download {
			e := Errorf(InvalidArg, "named_by is the http or https URL of a document that named the URLs of a download")
			e.Context, e.File = ContextRemoteFile, RedactURL(f.NamedBy)
			return e
		}
		f.NamedBy = u.Scheme + "://" + u.Host // the rest may be a secret, and says nothing
	}
	mirrors, e := CheckMirrors(f.Remote, f.Mirrors)
	if e == nil {
		f.Mirrors = mirrors
	}
	return e
}

// CheckMirrors validates the other URLs of a file and returns them without repetitions.
func CheckMirrors(remote string, mirrors []string) ([]string, *Error) {
	if len(mirrors) > MaxMirrors {
		return nil, Errorf(InvalidArg, "the file has %d mirrors; %d are allowed", len(mirrors), MaxMirrors)
	}
	var out []string
	for _, m := range mirrors {
		u, e := CheckURL(m, Download)
		if e != nil {
			return nil, e
		}
		if u != remote && !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	return out, nil
}

// FileChange changes one file of a job; a nil field leaves its property alone.
type FileChange struct {
	Remote  *string   `json:"remote,omitempty" doc:"New URL (BITS's SetRemoteName). What is here is kept if the new source has the same size and date, else the file starts again; a transferred file is not fetched again. Downloads only"`
	Mirrors *[]string `json:"mirrors,omitempty" doc:"Other URLs of the same content; an empty list removes them. Downloads only"`
	Skipped *bool     `json:"skipped,omitempty" doc:"true leaves the file out: the job is done without it. false takes it in again; resume the job then. Downloads only"`
}

// PrefixChange replaces the beginning of the URLs of a job's files (BITS's ReplaceRemotePrefix).
type PrefixChange struct {
	Old string `json:"old" doc:"Beginning of the URLs to change, in the case that they have"`
	New string `json:"new" doc:"What comes in its place"`
}
