// Package httpget makes one ranged request and says, before a byte is used, whether its answer
// may be joined to what is already there.
//
// It promises that an answer it returns begins at the offset it names, is not encoded, and
// belongs to the version of the file that the request's validator names; anything else starts
// at 0 or is an error with a code. It knows nothing of files on disk, jobs or retries.
package httpget

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
)

const (
	maxRedirects      = 20
	maxHeaderBytes    = 256 << 10
	headerTimeout     = 60 * time.Second
	dialTimeout       = 30 * time.Second
	idleTimeout       = 20 * time.Second
	idleConnsPerHost  = 64
	tlsHandshakeLimit = 20 * time.Second
)

// Client makes the requests of all jobs. Its zero value is not usable; see New.
type Client struct {
	agent string
	gov   *governor.Governor
	// Foreground and background transfers share no connection: their paces differ.
	foreground, background clients

	mu     sync.Mutex
	conns  map[*trackedConn]struct{} // guarded by mu: open connections
	h2only map[string]bool           // guarded by mu: whether a host refused HTTP/1.1
}

// clients are the connections of one class of transfers.
type clients struct {
	h1 *http.Client // HTTP/1.1, which costs a third less CPU than HTTP/2 for large bodies
	h2 *http.Client // for servers that speak nothing else
}

// New returns a Client that names itself agent in requests and moves bytes as gov lets it.
func New(agent string, gov *governor.Governor) *Client {
	c := &Client{agent: agent, gov: gov, conns: map[*trackedConn]struct{}{}, h2only: map[string]bool{}}
	for _, class := range []governor.Class{governor.Foreground, governor.Background} {
		*c.of(class) = clients{h1: c.httpClient(class, false), h2: c.httpClient(class, true)}
	}
	return c
}

func (c *Client) of(class governor.Class) *clients {
	if class == governor.Foreground {
		return &c.foreground
	}
	return &c.background
}

func (c *Client) httpClient(class governor.Class, h2 bool) *http.Client {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return c.dial(ctx, network, addr, class)
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnsPerHost,
		IdleConnTimeout:        idleTimeout,
		TLSHandshakeTimeout:    tlsHandshakeLimit,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              new(http.Protocols),
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
	}
	t.Protocols.SetHTTP1(!h2)
	t.Protocols.SetHTTP2(h2)
	if h2 {
		t.HTTP2 = &http.HTTP2Config{MaxReadFrameSize: 1 << 20}
	}
	return &http.Client{Transport: t, CheckRedirect: checkRedirect}
}

var (
	errRedirectLoop      = errors.New("redirect loop")
	errRedirectDowngrade = errors.New("redirect from https to http")
	errRedirectScheme    = errors.New("redirect to another scheme")
)

// checkRedirect follows the default policy of client.md 2.8: silent, but never from https to
// http. Headers that the job's owner gave do not travel to another host.
func checkRedirect(req *http.Request, via []*http.Request) error {
	last := via[len(via)-1]
	switch {
	case len(via) > maxRedirects:
		return errRedirectLoop
	case req.URL.Scheme != "http" && req.URL.Scheme != "https":
		return errRedirectScheme
	case last.URL.Scheme == "https" && req.URL.Scheme == "http":
		return errRedirectDowngrade
	}
	seen := 0
	for _, v := range via {
		if v.URL.String() == req.URL.String() {
			seen++
		}
	}
	if seen > 1 { // once may be a server that sets a cookie and comes back
		return errRedirectLoop
	}
	if !sameOrigin(via[0].URL, req.URL) {
		for name := range req.Header {
			if !ownHeader[name] {
				req.Header.Del(name)
			}
		}
	}
	req.Header.Del("Referer")
	return nil
}

// ownHeader lists the headers that the client itself sets.
var ownHeader = map[string]bool{"Range": true, "If-Range": true, "Accept": true, "Accept-Encoding": true, "User-Agent": true, "If-None-Match": true, "If-Modified-Since": true}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && a.Host == b.Host
}

// trackedConn is a connection that NetworkChanged can find.
type trackedConn struct {
	*governor.Conn
	c *Client
}

func (t *trackedConn) Close() error {
	t.c.mu.Lock()
	delete(t.c.conns, t)
	t.c.mu.Unlock()
	return t.Conn.Close()
}

func (c *Client) dial(ctx context.Context, network, addr string, class governor.Class) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	d.SetMultipathTCP(false) // its subflows would escape the governor
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	t := &trackedConn{c.gov.Govern(conn.(*net.TCPConn), class), c}
	c.mu.Lock()
	c.conns[t] = struct{}{}
	c.mu.Unlock()
	return t, nil
}

// DropConns closes the connections whose local address is dead, so that their transfers need
// not wait for a timeout to learn that the network went away.
func (c *Client) DropConns(dead func(netip.Addr) bool) {
	c.mu.Lock()
	var gone []*trackedConn
	for t := range c.conns {
		if a, ok := t.LocalAddr().(*net.TCPAddr); ok && dead(a.AddrPort().Addr().Unmap()) {
			gone = append(gone, t)
		}
	}
	c.mu.Unlock()
	for _, t := range gone {
		t.Close()
	}
}

// CloseIdle drops connections that no transfer uses.
func (c *Client) CloseIdle() {
	for _, cl := range []*clients{&c.foreground, &c.background} {
		cl.h1.CloseIdleConnections()
		cl.h2.CloseIdleConnections()
	}
}

// do sends a request over HTTP/1.1, or over HTTP/2 where the server speaks nothing else.
func (c *Client) do(req *http.Request, class governor.Class) (*http.Response, error) {
	cl := c.of(class)
	host := req.URL.Host
	c.mu.Lock()
	h2, known := c.h2only[host]
	c.mu.Unlock()
	if h2 {
		return cl.h2.Do(req)
	}
	resp, err := cl.h1.Do(req)
	switch {
	case err == nil:
		if !known {
			c.remember(host, false)
		}
		return resp, nil
	case refusesHTTP1(err):
		// The host that refused may be one behind a redirect: remembering the first is enough,
		// because HTTP/2 would be tried from there on.
		c.remember(host, true)
		return cl.h2.Do(req.Clone(req.Context()))
	case !known && req.URL.Scheme == "https" && errors.Is(err, io.EOF):
		// A server made with Go accepts the connection and hangs up.
		if resp, err := cl.h2.Do(req.Clone(req.Context())); err == nil {
			c.remember(host, true)
			return resp, nil
		}
	}
	return nil, err
}

func (c *Client) remember(host string, h2only bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.h2only[host] = h2only
}

// refusesHTTP1 reports whether a server ended the handshake because HTTP/1.1 was all that was
// offered: with the alert no_application_protocol (RFC 7301 3.2).
func refusesHTTP1(err error) bool {
	var alert tls.AlertError
	return errors.As(err, &alert) && alert == 120
}

// badAnswer is an answer that breaks the protocol.
func badAnswer(u, format string, args ...any) *bits.Error {
	e := bits.Errorf(bits.InvalidServerResponse, format, args...)
	e.Context, e.File = bits.ContextRemoteFile, u
	return e
}
