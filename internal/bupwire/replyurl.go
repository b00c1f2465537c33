package bupwire

import (
	"fmt"
	"net/url"
	"strings"
)

// ReplyURL resolves the BITS-Reply-URL of an answer about an upload to the URL upload. IIS sends a
// path relative to the upload's directory with backslashes and braces, others a whole URL. The
// result is http or https, but not http where the upload was https, and holds no user and no
// password. On the upload's own host http becomes https, for a server behind a proxy that ends TLS
// and takes itself for one without.
//
// It may lead to another host: credentials must not follow it there.
func ReplyURL(upload *url.URL, reply string) (*url.URL, error) {
	if len(reply) > MaxReplyURL {
		return nil, fmt.Errorf("%s has %d characters; %d are allowed", hdrReplyURL, len(reply), MaxReplyURL)
	}
	path, query, hasQuery := strings.Cut(reply, "?")
	ref := strings.ReplaceAll(path, `\`, "/")
	if hasQuery {
		ref += "?" + query
	}
	r, err := url.Parse(ref)
	if err != nil {
		return nil, fmt.Errorf("%s %q is not a URL", hdrReplyURL, reply)
	}
	u := upload.ResolveReference(r)
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if u.Hostname() == "" || u.Opaque != "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s %q is not an http or https URL", hdrReplyURL, reply)
	}
	if upload.Scheme == "https" && u.Scheme == "http" {
		if !strings.EqualFold(u.Hostname(), upload.Hostname()) || u.Port() != "" && u.Port() != upload.Port() {
			return nil, fmt.Errorf("%s %q leads from https to http", hdrReplyURL, reply)
		}
		u.Scheme, u.Host = upload.Scheme, upload.Host
	}
	return u, nil
}
