// Package front is what the front ends for resumable uploads over HTTP share: which file and which
// session a request is about, where a session is found, the content of a request as the store wants
// it, and what browsers of other origins may do.
//
// It knows nothing of any one protocol and keeps nothing.
package front

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// SessionPath is the path of the URL of the session id.
func SessionPath(p *session.Prefix, id string) string { return p.Path + session.Hidden + "/" + id }

// SessionID returns the session that path, of a URL below p, names; false if it names none.
func SessionID(p *session.Prefix, path string) (string, bool) {
	id, ok := strings.CutPrefix(path, p.Path+session.Hidden+"/")
	if !ok || id == "" || strings.Contains(id, "/") {
		return "", false
	}
	return id, true
}

// Location is the reference to path that an answer carries: absolute if the prefix says how clients
// see the server, else one that they resolve against the URL they asked, which no proxy can spoil.
func Location(p *session.Prefix, path string) string {
	return strings.TrimSuffix(p.PublicURL, "/") + (&url.URL{Path: path}).EscapedPath()
}

// Target returns the file that a request makes by its path: a path that ends in a slash is of a
// directory, in which the file gets the given name. ErrTarget, with words that are for the client, if
// there is no such file to make.
func Target(p *session.Prefix, path, name string) (string, error) {
	if path+"/" == p.Path {
		path = p.Path
	}
	rel, ok := strings.CutPrefix(path, p.Path)
	if !ok {
		return "", fmt.Errorf("%w: it is not below %s", session.ErrTarget, p.Path)
	}
	if rel == "" || strings.HasSuffix(rel, "/") {
		// A name is one of a file and not a way to another directory, on any client's system.
		if name == "" {
			return "", fmt.Errorf("%w: it is a directory, and no file name is given", session.ErrTarget)
		}
		if strings.ContainsAny(name, `/\`) {
			return "", fmt.Errorf("%w: the file name %q is a path", session.ErrTarget, name)
		}
		rel += name
	}
	return rel, session.CheckTarget(rel)
}

// Acquire takes the session id for the request r. Of its context's ends only ErrTaken is left: what
// a client sent before it went away is stored all the same, and its last byte publishes the file.
// ErrNotFound also for a session of another protocol.
func Acquire(p *session.Prefix, r *http.Request, id, protocol string) (context.Context, session.Session, error) {
	who := session.Who{Principal: session.Principal(r.Context())}
	ctx, s, err := p.Store.Acquire(context.WithoutCancel(r.Context()), id, who)
	if err != nil {
		return nil, nil, err
	}
	if s.Info().Protocol != protocol {
		s.Release()
		return nil, nil, session.ErrNotFound
	}
	return ctx, s, nil
}

// Limit is the value of the IETF draft's Upload-Limit (4.1.4) for an upload that lives for another age.
// Every upload is limited in some way or says min-size=0.
func Limit(p *session.Prefix, age time.Duration) string {
	var limits []string
	if p.MaxSize >= 0 {
		limits = append(limits, "max-size="+strconv.FormatInt(p.MaxSize, 10))
	}
	if p.SessionTimeout > 0 {
		limits = append(limits, "max-age="+strconv.FormatInt(int64(max(age, 0)/time.Second), 10))
	}
	if len(limits) == 0 {
		return "min-size=0"
	}
	return strings.Join(limits, ", ")
}

// Proxied reports whether a request came through a proxy that says so, or is of HTTP/1.0, as nginx's are.
func Proxied(r *http.Request) bool {
	for _, name := range []string{"Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return !r.ProtoAtLeast(1, 1)
}

// Delete ends an upload, as both tus and the draft do it.
func Delete(w http.ResponseWriter, r *http.Request, p *session.Prefix, id, protocol string) error {
	ctx, s, err := Acquire(p, r, id, protocol)
	if err != nil {
		return err
	}
	defer s.Release()
	if err := s.Remove(ctx); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
