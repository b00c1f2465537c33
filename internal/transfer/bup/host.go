package bup

import (
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// target returns the URL that packets go to: the file's, on the host that the server named, if it
// named one (server.md 1.12).
func (s *session) target() *url.URL {
	if s.State.Host == "" {
		return s.origin
	}
	u := *s.origin
	u.Host, u.User = s.State.Host, nil
	return &u
}

// header returns the headers that requests to a URL have besides the packet's own. What the job's
// owner gave may be a secret and does not go to another host.
func (s *session) header(to *url.URL) http.Header {
	h := http.Header{}
	if httpconn.SameOrigin(s.origin, to) {
		for name, values := range s.Header {
			h[http.CanonicalHeaderKey(name)] = values
		}
		if user := s.origin.User; user != nil && h.Get("Authorization") == "" {
			password, _ := user.Password()
			h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
		}
	}
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", s.conns.Agent())
	}
	if s.conn.ProxyAuthorization != "" {
		h.Set("Proxy-Authorization", s.conn.ProxyAuthorization)
	}
	return h
}

// pin keeps the session to the host that the server named. It is no more to be trusted than a
// redirect; that https stays https is in the nature of a host.
func (s *session) pin(a bupwire.Ack) error {
	s.State.Host, s.State.HostFallback, s.State.HostFailed = "", nil, 0
	if a.HostID == "" {
		return nil
	}
	u, err := hostURL(s.origin, a.HostID)
	if err != nil {
		return s.broken(bits.InvalidServerResponse, "the server names %q as the host for the rest of the upload", a.HostID)
	}
	if err := upload.Allowed(s.origin, u); err != nil {
		return err
	}
	s.State.Host = u.Host
	if a.HostIDFallback != nil {
		seconds := int64(*a.HostIDFallback / time.Second)
		s.State.HostFallback = &seconds
	}
	return nil
}

// hostURL returns a URL of another host, which may be an IPv6 address without brackets. Without a
// port it has that of the URL.
func hostURL(u *url.URL, host string) (*url.URL, error) {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	to, err := url.Parse(u.Scheme + "://" + host + "/")
	if err != nil {
		return nil, err
	}
	if to.Hostname() == "" || to.User != nil || to.Path != "/" || strings.Contains(to.Hostname(), "%") { // a zone is this machine's matter
		return nil, errors.New("not a host")
	}
	if to.Port() == "" && u.Port() != "" {
		to.Host = net.JoinHostPort(to.Hostname(), u.Port())
	}
	return to, nil
}

// fallBack goes back to the URL's own host once the one that the server named could not be
// reached for as long as the server gave it. It reports whether it did; its error is that of saving.
func (s *session) fallBack(err error) (bool, error) {
	if s.State.Host == "" || !unreachable(err) {
		return false, nil
	}
	now := time.Now().Unix()
	if s.State.HostFailed == 0 || s.State.HostFailed > now { // the clock was set back
		s.State.HostFailed = now
	}
	back := s.State.HostFallback != nil && now-s.State.HostFailed >= *s.State.HostFallback
	if back {
		s.State.Host, s.State.HostFallback, s.State.HostFailed = "", nil, 0
	}
	return back, s.Save(s.State)
}

// reached ends the time in which the named host could not be reached.
func (s *session) reached() error {
	if s.State.HostFailed == 0 {
		return nil
	}
	s.State.HostFailed = 0
	return s.Save(s.State)
}

// unreachable reports whether an error says that a host does not answer. That there is no network
// at all is not the host's.
func unreachable(err error) bool {
	for _, code := range []bits.Code{bits.CannotConnect, bits.ConnectionError, bits.WinHTTPTimeout, bits.NameNotResolved} {
		if errors.Is(err, &bits.Error{Code: code}) {
			return true
		}
	}
	return false
}
