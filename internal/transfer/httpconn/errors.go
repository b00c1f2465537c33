package httpconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
)

// TransportError maps an error of the network, met before or in the middle of an answer, to
// its code. A context that ended is returned as it is.
func TransportError(ctx context.Context, err error, u string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var known *bits.Error
	if errors.As(err, &known) {
		return err
	}
	e := &bits.Error{Context: bits.ContextGeneralTransport, File: u, Cause: err}
	e.Code, e.Message = classify(err)
	if errors.Is(err, errRedirectLoop) || errors.Is(err, errRedirectDowngrade) || errors.Is(err, errRedirectScheme) || errors.Is(err, errRedirectNowhere) {
		e.Context = bits.ContextRemoteFile
	}
	return e
}

func classify(err error) (bits.Code, string) {
	host := ""
	var ue *url.Error
	if errors.As(err, &ue) {
		if u, perr := url.Parse(ue.URL); perr == nil {
			host = u.Host
		}
	}
	var (
		dns      *net.DNSError
		certName x509.HostnameError
		certCA   x509.UnknownAuthorityError
		certBad  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		alert    tls.AlertError
		netErr   net.Error
		op       *net.OpError
	)
	if errors.As(err, &op) && op.Op == opProxy {
		// What could not be reached is the proxy.
		code, why := classify(op.Err)
		return code, strings.TrimSpace("the proxy cannot be reached: " + why)
	}
	switch {
	case errors.Is(err, errRedirectLoop):
		return bits.RedirectFailed, ""
	case errors.Is(err, errRedirectDowngrade):
		return bits.HTTPStatus(http.StatusFound), "the server redirects from https to http, which is refused"
	case errors.Is(err, errRedirectScheme):
		return bits.RedirectFailed, "the server redirects to something that is neither http nor https"
	case errors.Is(err, errRedirectNowhere):
		return bits.RedirectFailed, "the server redirects to no proper address"
	case errors.Is(err, errNoWay):
		return bits.CannotConnect, "there is no way to " + host
	case !loopback(host) && isConnecting(err) && !conditions.Online():
		return bits.NetworkDisconnected, ""
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ENETDOWN), errors.Is(err, syscall.EADDRNOTAVAIL):
		// There is a network, but none that leads there: an IPv6 address without IPv6, say.
		return bits.CannotConnect, "there is no way to " + host
	case errors.As(err, &dns):
		return bits.NameNotResolved, "the host name " + dns.Name + " could not be resolved"
	case errors.As(err, &certName):
		return bits.CertNameInvalid, "the certificate of " + host + " is for another name"
	case errors.As(err, &certCA):
		return bits.CertUntrusted, "the certificate of " + host + " is not signed by an authority this machine trusts"
	case errors.As(err, &certBad):
		if certBad.Reason == x509.Expired {
			return bits.CertDateInvalid, "the certificate of " + host + " has expired or is not valid yet"
		}
		if certBad.Reason == x509.IncompatibleUsage {
			return bits.CertWrongUsage, "the certificate of " + host + " is not for servers"
		}
		return bits.SecureFailure, "the certificate of " + host + " is not valid: " + certBad.Error()
	case errors.As(err, &verify):
		return bits.SecureFailure, "the certificate of " + host + " could not be verified"
	case errors.As(err, &record):
		return bits.SecureFailure, host + " does not speak TLS"
	case strings.Contains(err.Error(), "remote error: tls: certificate required"): // no type in crypto/tls
		return bits.ClientCertNeeded, host + " wants a certificate of the client"
	case errors.As(err, &alert):
		return bits.SecureFailure, host + " refused the TLS connection: " + alert.Error()
	case errors.Is(err, syscall.ECONNREFUSED):
		return bits.CannotConnect, host + " refused the connection"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return bits.CannotConnect, "there is no way to " + host
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return bits.TooManyOpenFiles, ""
	case errors.As(err, &netErr) && netErr.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		return bits.WinHTTPTimeout, host + " did not answer in time"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return bits.ConnectionError, ""
	}
	// net/http has no types for what follows.
	text := err.Error()
	var shake *handshakeError
	if errors.As(err, &shake) || strings.Contains(text, "remote error: tls:") {
		return bits.SecureFailure, "no secure connection to " + host + " could be made: " + text[max(strings.Index(text, "tls: "), 0):]
	}
	switch {
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return bits.SecureFailure, host + " does not speak TLS"
	case strings.Contains(text, "malformed HTTP"), strings.Contains(text, "bad Content-Length"), strings.Contains(text, "multiple Content-Length"), strings.Contains(text, "too many 1xx"), strings.Contains(text, "server response headers exceeded"),
		strings.Contains(text, "invalid byte in chunk length"), strings.Contains(text, "malformed chunked encoding"), strings.Contains(text, "http: invalid"),
		strings.Contains(text, "too many transfer encodings"), strings.Contains(text, "unsupported transfer encoding"), strings.Contains(text, "malformed MIME header"):
		return bits.InvalidServerAnswer, "the answer of " + host + " is not proper HTTP"
	case strings.Contains(text, "failed to parse Location header"), strings.Contains(text, "response missing Location header"):
		return bits.RedirectFailed, "the server redirects to no proper address"
	}
	return bits.ConnectionError, ""
}

// isConnecting reports whether a connection, or the address for it, could not be had.
func isConnecting(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

// loopback reports whether a host is this machine, which needs no network.
func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && a.IsLoopback()
}

// RetryError is an answer that asks to come back later.
type RetryError struct {
	Err   *bits.Error
	After time.Duration // from Retry-After; 0 if the server did not say
}

func (e *RetryError) Error() string { return e.Err.Error() }
func (e *RetryError) Unwrap() error { return e.Err }

// maxRetryAfter bounds what a server can ask for.
const maxRetryAfter = 24 * time.Hour

// StatusError returns the error that an answer's status is: a *bits.Error, or a *RetryError if it
// is worth coming back.
func StatusError(resp *http.Response, u string) error {
	e := &bits.Error{Code: bits.HTTPStatus(resp.StatusCode), Context: bits.ContextRemoteFile, File: u}
	if resp.Request != nil {
		if why, ok := resp.Request.Context().Value(whyKey{}).(string); ok {
			e.Message = "the job's owner could not be identified: " + why
		}
	}
	if e.Code.Class() == bits.Transient {
		return &RetryError{e, retryAfter(resp.Header, time.Now())}
	}
	return e
}

// retryAfter reads Retry-After as seconds or as a date (RFC 9110 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	s := strings.TrimSpace(h.Get("Retry-After"))
	if s != "" && strings.Trim(s, "0123456789") == "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil { // more than fits
			return maxRetryAfter
		}
		return time.Duration(min(n, int64(maxRetryAfter/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
