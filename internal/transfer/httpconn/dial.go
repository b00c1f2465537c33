package httpconn

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"

	"golang.org/x/net/proxy"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/auth"
)

// Conn is a connection to a server, or to a proxy on the way to it, for requests that net/http
// cannot write.
type Conn struct {
	net.Conn
	Governed *governor.Conn
	// Proxy is the proxy that requests go to, nil if they go to the server. It needs their target in
	// absolute form (RFC 9112 3.2.2) and ProxyAuthorization, if that is not empty, in the header of the
	// same name; it may ask for what Identity has for it.
	Proxy              *url.URL
	ProxyAuthorization string
	// ByNetwork says that only the network named Proxy, see auth.Agent.BeginProxy.
	ByNetwork bool

	tcp net.Conn
}

// Close ends the connection at once, whatever is under way in other goroutines, and without the
// farewell of TLS, which could have to wait. It is the only way to end a wait: under the governor
// connections have no deadlines.
func (c *Conn) Close() error { return c.tcp.Close() }

// Dial connects to the server of a URL to speak HTTP/1.1, by the way that the context's job goes and
// by TLS for https. Its errors are those of TransportError.
func (c *Client) Dial(ctx context.Context, u *url.URL, class governor.Class) (*Conn, error) {
	conn, err := c.dialAny(ctx, u, class)
	if err != nil {
		return nil, TransportError(ctx, &url.Error{Op: "dial", URL: u.Redacted(), Err: err}, u.String())
	}
	return conn, nil
}

// dialAny connects by the first way that leads to a server.
func (c *Client) dialAny(ctx context.Context, u *url.URL, class governor.Class) (*Conn, error) {
	asksHost(ctx, u.Host)
	a := c.access(ctx)
	ways, err := a.ways(ctx, u)
	if err != nil {
		return nil, err
	}
	err = errNoWay
	for _, w := range ways {
		var conn *Conn
		conn, err = c.connect(ctx, w, class, "http/1.1")
		if err == nil {
			return conn, nil
		}
		if w.proxy == nil || !unreached(err) || ctx.Err() != nil {
			return nil, err
		}
		c.noteDown(w.proxy)
	}
	return nil, err
}

// connect makes a connection over which the server of a way can be spoken to, or over which its
// proxy can be asked for what is there.
func (c *Client) connect(ctx context.Context, w *way, class governor.Class, proto string) (*Conn, error) {
	next, may := w.target, abroad(ctx, w.target)
	if w.proxy != nil {
		next, may = w.proxy, nil // which finds out what the name means
	}
	tcp, err := c.dial(ctx, net.JoinHostPort(next.Hostname(), port(next)), class, may)
	if err != nil {
		if w.proxy != nil {
			err = &net.OpError{Op: opProxy, Net: "tcp", Err: err}
		}
		return nil, err
	}
	conn := &Conn{Conn: tcp, Governed: tcp.Conn, tcp: tcp}
	if err := conn.prepare(ctx, w, c.agent, proto); err != nil {
		tcp.Close()
		return nil, err
	}
	return conn, nil
}

// Abroad returns a context for requests that may go where the server of a URL sends them: not to what only
// this machine can reach, whatever name that has, unless the URL's own server is there.
func Abroad(ctx context.Context, from *url.URL) context.Context {
	return context.WithValue(ctx, abroadKey{}, from)
}

type abroadKey struct{}

// abroad returns what looks at the addresses that a server's name turns out to mean; nil if any will do.
func abroad(ctx context.Context, to *url.URL) func(context.Context, string, string, syscall.RawConn) error {
	from, _ := ctx.Value(abroadKey{}).(*url.URL)
	if from == nil || strings.EqualFold(from.Hostname(), to.Hostname()) || Here(from.Hostname()) {
		return nil
	}
	return func(_ context.Context, _, addr string, _ syscall.RawConn) error {
		host, _, err := net.SplitHostPort(addr)
		if err != nil || Here(host) {
			return &bits.Error{Code: bits.RedirectFailed, Context: bits.ContextRemoteFile, File: from.Redacted(),
				Message: "the server directs the job to " + to.Hostname() + ", which is an address that only this machine can reach"}
		}
		return nil
	}
}

// Here reports whether a host, by its name or its address, is this machine or its link.
func Here(host string) bool {
	host, _, _ = strings.Cut(host, "%") // the zone of an address
	a, err := netip.ParseAddr(host)
	if err != nil {
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		return host == "localhost" || strings.HasSuffix(host, ".localhost")
	}
	a = a.Unmap()
	return a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast()
}

// opProxy is the operation of a net.OpError that says that a proxy could not be reached; net/http
// wraps its own in the same.
const opProxy = "proxyconnect"

// unreached reports whether an error means that a proxy could not be reached.
func unreached(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == opProxy
}

// isHTTP reports whether a proxy speaks HTTP.
func isHTTP(proxy *url.URL) bool { return proxy.Scheme == "http" || proxy.Scheme == "https" }

// prepare makes a new connection fit for the requests of a way.
func (c *Conn) prepare(ctx context.Context, w *way, agent, proto string) error {
	u, proxy := w.target, w.proxy
	switch {
	case proxy == nil:
	case !isHTTP(proxy):
		if err := c.socks(ctx, w); err != nil {
			return err
		}
	default:
		if proxy.Scheme == "https" {
			// The job's settings are for servers: its proxy is judged as usual.
			if err := c.secure(ctx, w.access.c.plain.config(ctx, proxy, "http/1.1")); err != nil {
				return &net.OpError{Op: opProxy, Net: "tcp", Err: err}
			}
		}
		if user := proxy.User; user != nil {
			password, _ := user.Password()
			c.ProxyAuthorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
		}
		if u.Scheme != "https" {
			c.Proxy, c.ByNetwork = proxy, w.byNetwork
			return nil
		}
		if err := c.tunnel(ctx, net.JoinHostPort(u.Hostname(), port(u)), agent, w.access.set.Identity.BeginProxy(proxy, w.byNetwork)); err != nil {
			return err
		}
	}
	if u.Scheme != "https" {
		return nil
	}
	return c.secure(ctx, w.access.config(ctx, u, proto))
}

// secure puts TLS on what goes over the connection.
func (c *Conn) secure(ctx context.Context, cfg *tls.Config) error {
	t, err := handshake(ctx, c.Conn, cfg)
	if err != nil {
		return err
	}
	c.Conn = t
	return nil
}

// socks asks a SOCKS5 proxy to connect to the server (RFC 1928), which it finds by name.
func (c *Conn) socks(ctx context.Context, w *way) error {
	var auth *proxy.Auth
	if user := w.proxy.User; user != nil {
		password, _ := user.Password()
		auth = &proxy.Auth{User: user.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", w.proxy.Host, auth, given{c.Conn})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, headerTimeout, os.ErrDeadlineExceeded)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	_, err = d.Dial("tcp", net.JoinHostPort(w.target.Hostname(), port(w.target)))
	if !stop() {
		return context.Cause(ctx)
	}
	if err != nil {
		e := bits.Errorf(bits.CannotConnect, "the proxy %s does not connect to %s", w.proxy.Host, w.target.Host)
		e.Context, e.Cause = bits.ContextGeneralTransport, err
		return e
	}
	return nil
}

// given is a dialer that has its connection already.
type given struct{ net.Conn }

// Dial implements proxy.Dialer.
func (g given) Dial(string, string) (net.Conn, error) { return g.Conn, nil }

// tunnel asks the proxy to connect to a server.
func (c *Conn) tunnel(ctx context.Context, addr, agent string, who *auth.Attempt) error {
	ctx, cancel := context.WithTimeoutCause(ctx, headerTimeout, os.ErrDeadlineExceeded)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	err := c.ask(ctx, addr, agent, who)
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// ask sends the request for a tunnel and reads the answer, several times if the proxy wants to know
// who asks.
func (c *Conn) ask(ctx context.Context, addr, agent string, who *auth.Attempt) error {
	said := c.ProxyAuthorization
	c.ProxyAuthorization = "" // the server has no business with it
	if first := who.First(ctx, http.MethodConnect, addr); first != "" {
		said = first
	}
	answer := bufio.NewReader(io.LimitReader(c.Conn, maxHeaderBytes))
	for {
		req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{"User-Agent": {agent}}}
		set(req.Header, "Proxy-Authorization", said)
		if err := req.Write(c.Conn); err != nil {
			return err
		}
		resp, err := http.ReadResponse(answer, req)
		if err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK {
			who.Done(resp.Header)
			if answer.Buffered() > 0 {
				return errors.New("the proxy sent bytes before the server was spoken to")
			}
			return nil
		}
		again := false
		if resp.StatusCode == http.StatusProxyAuthRequired {
			said, again = who.Next(ctx, resp.Header, http.MethodConnect, addr)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if !again || resp.Close {
			e := bits.Errorf(bits.HTTPStatus(resp.StatusCode), "the proxy does not connect to %s: %.100s", addr, resp.Status)
			if why := who.Why(); why != "" {
				e.Message += "; " + why
			}
			e.Context = bits.ContextGeneralTransport
			return e
		}
	}
}
