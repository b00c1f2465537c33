package serve

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/peerdist/hosted"
	"github.com/ebbtransfer/ebb/internal/serve/access"
	"github.com/ebbtransfer/ebb/internal/serve/config"
	"github.com/ebbtransfer/ebb/internal/serve/ietf"
	"github.com/ebbtransfer/ebb/internal/serve/record"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// ServeHTTP finds the group of a request, checks that the caller may make it, and hands it to the
// files or to the front end that speaks its protocol. One line of the log tells how it went.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.active.Add(1)
	defer s.active.Done()
	s.metrics.running.Inc()
	defer s.metrics.running.Dec()
	if s.hosted != nil && hosted.Handles(r) { // thousands of small requests, with limits of their own
		s.hosted.ServeHTTP(w, r)
		return
	}
	ctx, rec := record.New(r.Context())
	e, r := newExchange(w, r, ctx)
	l := &line{exchange: e, record: rec, front: "none"}
	defer func() { s.done(l, r) }() // also of an answer that is broken off by a panic
	defer e.finish(r)
	s.route(l, r)
}

func (s *server) route(l *line, r *http.Request) {
	g, name := s.groups.Load().find(r.URL.Path)
	if g == nil {
		s.refuse(l, r, nil, http.StatusNotFound, "no group has this path")
		return
	}
	front, handler := g.choose(r, name)
	if !s.admit(l, r, g, name, front) {
		return
	}
	if g.slots != nil {
		select {
		case g.slots <- struct{}{}:
			defer func() { <-g.slots }()
		default:
			l.Header().Set("Retry-After", "10")
			s.refuse(l, r, g, http.StatusServiceUnavailable, "the group has as many connections as it may have")
			return
		}
	}
	l.up, l.down = g.up, g.down
	r = r.WithContext(session.WithStop(session.WithPrincipal(r.Context(), l.principal), s.life))
	l.front = front
	if r.Method == http.MethodOptions && !belowHidden(name) { // those of an upload have others
		l.Header().Set("Allow", g.allow())
	}
	if handler == nil {
		s.notOffered(l, r, g)
		return
	}
	handler.ServeHTTP(l, r)
}

// admit finds out who makes the request and whether he may; otherwise it answers, before a byte
// of the body is kept.
func (s *server) admit(l *line, r *http.Request, g *group, name, front string) bool {
	const override = "X-Http-Method-Override"                           // of tus: behind an OPTIONS there can be a POST
	if r.Method == http.MethodOptions && len(r.Header[override]) == 0 { // browsers ask before they have credentials
		return true
	}
	allowed := g.Read
	switch {
	case front != "files" && g.uploads != nil:
		allowed = g.Write
	case g.made != nil && len(g.made.Files[name].Read) > 0:
		allowed = g.made.Files[name].Read
	}
	principal, err := s.access.Principal(r)
	switch {
	case errors.Is(err, access.ErrBusy):
		l.Header().Set("Retry-After", "10")
		s.refuse(l, r, g, http.StatusServiceUnavailable, err.Error())
		return false
	case err != nil:
	case slices.Contains(allowed, config.Anyone),
		principal != "" && (slices.Contains(allowed, config.Authenticated) || slices.Contains(allowed, principal)):
		l.principal = principal
		return true
	case principal != "":
		l.principal = principal
		s.refuse(l, r, g, http.StatusForbidden, principal+" is not in the group's list")
		return false
	default:
		err = errors.New("the group wants to know who asks")
	}
	status := http.StatusForbidden
	if s.access.Challenge(l.Header()) {
		status = http.StatusUnauthorized
	}
	s.refuse(l, r, g, status, err.Error())
	return false
}

// choose returns the front end for a request, and its name in the log; nil if none is for it.
func (g *group) choose(r *http.Request, name string) (string, http.Handler) {
	h := r.Header
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return h.Get(n) != "" })
	}
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	if u := g.uploads; u != nil {
		first, _, _ := strings.Cut(name, "/")
		switch {
		case r.Method == bupwire.Method, read && strings.EqualFold(first, session.BITSSessions):
			return "bits", u.bits
		case has("Tus-Resumable"):
			return "tus", u.tus
		case has("Upload-Complete", "Upload-Draft-Interop-Version", "Upload-Offset"), first == session.Hidden:
			return "ietf", u.ietf
		case r.Method == http.MethodOptions && u.tus != nil && u.ietf != nil:
			return "tus", announcing(u.tus)
		case r.Method == http.MethodOptions:
			return "tus", u.tus
		case r.Method == http.MethodPut:
			return "put", u.put
		}
	}
	if read && g.files != nil {
		return "files", g.serveFile(name)
	}
	return "none", nil
}

// announcing says of the group that it also takes the uploads of the IETF's draft.
func announcing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ietf.Announce(w.Header())
		next.ServeHTTP(w, r)
	})
}

// serveFile serves a file of the group.
func (g *group) serveFile(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.files.Serve(w, r, name) })
}

// belowHidden reports whether a name is that of an upload under way.
func belowHidden(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return first == session.Hidden
}

// byBITSAlone reports whether uploads are taken by BITS and by nothing else.
func (g *group) byBITSAlone() bool { return g.uploads != nil && g.uploads.put == nil }

// allow returns the methods of a file's URL, as in the header Allow.
func (g *group) allow() string {
	allow := "OPTIONS"
	if g.files != nil {
		allow = "GET, HEAD, OPTIONS"
	}
	switch {
	case g.byBITSAlone():
		allow += ", " + bupwire.Method
	case g.uploads != nil:
		allow += ", PUT, POST, " + bupwire.Method
	}
	return allow
}

// notOffered answers a request with a method that the group does not have, or for a protocol.
func (s *server) notOffered(l *line, r *http.Request, g *group) {
	l.Header().Set("Allow", g.allow())
	switch r.Method {
	case http.MethodOptions:
		l.WriteHeader(http.StatusNoContent)
	case bupwire.Method: // server.md 1.5
		s.refuse(l, r, g, http.StatusNotImplemented, "the group takes no uploads")
	default:
		why := "no protocol has this request"
		switch {
		case g.uploads == nil:
			why = "the group takes no uploads"
		case g.byBITSAlone():
			why = "uploads here go to an application, which takes them by BITS alone"
		}
		record.Why(r.Context(), "%s", why)
		http.Error(l, why, http.StatusMethodNotAllowed)
	}
}
