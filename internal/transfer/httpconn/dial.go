package httpconn

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
)

// Conn is a connection to a server, or to a proxy on the way to it, for requests that net/http
// cannot write.
type Conn struct {
	net.Conn
	Governed *governor.Conn
	// Absolute says that requests go to a proxy, which needs their target in absolute form (RFC
	// 9112 3.2.2) and ProxyAuthorization, if that is not empty, in the header of the same name.
	Absolute           bool
	ProxyAuthorization string

	tcp net.Conn
}

// Close ends the connection at once, whatever is under way in other goroutines, and without the
// farewell of TLS, which could have to wait. It is the only way to end a wait: under the governor
// connections have no deadlines.
func (c *Conn) Close() error { return c.tcp.Close() }

// Dial connects to the server of a URL to speak HTTP/1.1: through the proxy that the environment
// names, by TLS for https. Its errors are those of TransportError.
func (c *Client) Dial(ctx context.Context, u *url.URL, class governor.Class) (*Conn, error) {
	conn, err := c.connect(ctx, u, class)
	if err != nil {
		return nil, TransportError(ctx, &url.Error{Op: "dial", URL: u.Redacted(), Err: err}, u.String())
	}
	return conn, nil
}

func (c *Client) connect(ctx context.Context, u *url.URL, class governor.Class) (*Conn, error) {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	if err != nil {
		return nil, err
	}
	next := u
	if proxy != nil {
		if next = proxy; proxy.Scheme != "http" && proxy.Scheme != "https" {
			return nil, fmt.Errorf("uploads cannot go through a proxy of kind %s", proxy.Scheme)
		}
	}
	tcp, err := c.dial(ctx, "tcp", net.JoinHostPort(next.Hostname(), port(next)), class)
	if err != nil {
		return nil, err
	}
	conn := &Conn{Conn: tcp, Governed: governed(tcp), tcp: tcp}
	if err := conn.prepare(ctx, u, proxy, c.agent); err != nil {
		tcp.Close()
		return nil, err
	}
	return conn, nil
}

// prepare makes a new connection speak to the server of u.
func (c *Conn) prepare(ctx context.Context, u, proxy *url.URL, agent string) error {
	if proxy != nil {
		if proxy.Scheme == "https" {
			if err := c.secure(ctx, proxy.Hostname()); err != nil {
				return err
			}
		}
		if user := proxy.User; user != nil {
			password, _ := user.Password()
			c.ProxyAuthorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
		}
		if u.Scheme != "https" {
			c.Absolute = true
			return nil
		}
		if err := c.tunnel(ctx, net.JoinHostPort(u.Hostname(), port(u)), agent); err != nil {
			return err
		}
	}
	if u.Scheme != "https" {
		return nil
	}
	return c.secure(ctx, u.Hostname())
}

// secure puts TLS on what goes over the connection.
func (c *Conn) secure(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, tlsHandshakeLimit)
	defer cancel()
	t := tls.Client(c.Conn, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.Conn = t
	return nil
}

// tunnel asks the proxy to connect to a server.
func (c *Conn) tunnel(ctx context.Context, addr, agent string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, headerTimeout, os.ErrDeadlineExceeded)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	err := c.ask(addr, agent)
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// ask sends the request for a tunnel and reads the answer.
func (c *Conn) ask(addr, agent string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{"User-Agent": {agent}}}
	if c.ProxyAuthorization != "" {
		req.Header.Set("Proxy-Authorization", c.ProxyAuthorization)
		c.ProxyAuthorization = "" // the server has no business with it
	}
	if err := req.Write(c.Conn); err != nil {
		return err
	}
	answer := bufio.NewReader(io.LimitReader(c.Conn, maxHeaderBytes))
	resp, err := http.ReadResponse(answer, req)
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode != http.StatusOK:
		e := bits.Errorf(bits.HTTPStatus(resp.StatusCode), "the proxy does not connect to %s: %.100s", addr, resp.Status)
		e.Context = bits.ContextGeneralTransport
		return e
	case answer.Buffered() > 0:
		return errors.New("the proxy sent bytes before the server was spoken to")
	}
	return nil
}
