// Package httpconn is how everything that moves files reaches HTTP servers: it makes connections
// under the governor, sends requests over them by HTTP/1.1 or HTTP/2, follows redirects where
// that is safe, and gives every failure its code.
//
// It knows nothing of what the requests are for.
package httpconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/proxy"
)

const (
	maxRedirects      = 20
	maxHeaderBytes    = 256 << 10
	headerTimeout     = 60 * time.Second
	commitTimeout     = 5 * time.Minute // a server may have much to do before it answers a body
	continueTimeout   = time.Second     // a server that is asked whether it wants a body, and does not say, gets it
	dialTimeout       = 30 * time.Second
	idleTimeout       = 20 * time.Second
	idleConnsPerHost  = 64
	tlsHandshakeLimit = 20 * time.Second
	writeBuffer       = 64 << 10 // of requests with a body
)

// Client makes the requests of all jobs. Its zero value is not usable; see New.
type Client struct {
	agent   string
	gov     *governor.Governor
	proxies *proxy.Resolver
	plain   *Access // of requests that are no job's
	crls    crls

	mu     sync.Mutex
	pools  map[string]*pool          // guarded by mu: of the jobs that run, by Access.key
	conns  map[*trackedConn]struct{} // guarded by mu: open connections
	h2only map[string]bool           // guarded by mu: whether a host refused HTTP/1.1, see remember
	asked  map[string]bool           // guarded by mu: servers, by host:port, that asked for a client certificate and got none
	down   map[string]time.Time      // guarded by mu: proxies that could not be reached, and until when they come last
}

// clients are the connections of one class of transfers.
type clients struct {
	h1 *http.Client // HTTP/1.1, which costs a third less CPU than HTTP/2 for large bodies
	h2 *http.Client // for servers that speak nothing else
}

// New returns a Client that names itself agent in requests and moves bytes as gov lets it. It takes
// the proxies that the environment and the desktop name now.
func New(agent string, gov *governor.Governor) *Client {
	c := &Client{agent: agent, gov: gov, proxies: proxy.New(), pools: map[string]*pool{}, conns: map[*trackedConn]struct{}{},
		h2only: map[string]bool{}, asked: map[string]bool{}, down: map[string]time.Time{}, crls: crls{lists: map[string]*keptCRL{}}}
	c.plain, _ = c.Open(Settings{Owner: uint32(os.Getuid())}) // it has nothing that could be refused
	return c
}

// asks reports whether a method has neither a body nor an effect on the server.
func asks(method string) bool { return method == http.MethodGet || method == http.MethodHead }

func (c *Client) httpClient(class governor.Class, h2 bool, patience time.Duration, writeBuffer int) *http.Client {
	proto := "http/1.1"
	if h2 {
		proto = "h2"
	}
	t := &http.Transport{
		// Only plain HTTP is asked for from a proxy; what comes through a tunnel comes from DialTLSContext.
		Proxy: func(req *http.Request) (*url.URL, error) {
			w := wayOf(req.Context())
			if w.proxy != nil && isHTTP(w.proxy) && w.target.Scheme == "http" {
				return w.proxy, nil
			}
			return nil, nil
		},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := c.connect(ctx, wayOf(ctx), class, proto)
			if err != nil {
				return nil, err
			}
			return conn.Conn, nil
		},
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := c.connect(ctx, wayOf(ctx), class, proto)
			if err != nil {
				return nil, err
			}
			return conn.Conn, nil
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnsPerHost,
		IdleConnTimeout:        idleTimeout,
		ResponseHeaderTimeout:  patience,
		ExpectContinueTimeout:  continueTimeout,
		WriteBufferSize:        writeBuffer,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(!h2)
	t.Protocols.SetHTTP2(h2)
	if h2 {
		t.HTTP2 = &http.HTTP2Config{MaxReadFrameSize: 1 << 20}
	}
	return &http.Client{Transport: &carrier{Transport: t, c: c}, CheckRedirect: c.checkRedirect}
}

func wayOf(ctx context.Context) *way { return ctx.Value(wayKey{}).(*way) }

var (
	errRedirectLoop      = errors.New("redirect loop")
	errRedirectDowngrade = errors.New("redirect from https to http")
	errRedirectScheme    = errors.New("redirect to another scheme")
	errRedirectNowhere   = errors.New("redirect without an address")
	errNoWay             = errors.New("no proxy is left to try")
)

// checkRedirect follows the policy of the job, client.md 2.8: by default silent, but never from
// https to http. Headers that the job's owner gave do not travel to another host. An upload is not
// repeated elsewhere: its redirect is the answer, see Location.
func (c *Client) checkRedirect(req *http.Request, via []*http.Request) error {
	a := c.access(req.Context())
	if !asks(via[0].Method) && via[0].Method != a.set.Method || a.redirects() == bits.SecurityRedirectDeny {
		return http.ErrUseLastResponse
	}
	if len(via) > maxRedirects {
		return errRedirectLoop
	}
	// A 301 or 302 may make GET of POST, for what POST once was, and of no other method (RFC 9110 15.4.2,
	// 15.4.3); net/http makes it of all. A 303 does of all (15.4.4).
	last := via[len(via)-1]
	if s := req.Response.StatusCode; (s == http.StatusMovedPermanently || s == http.StatusFound) && last.Method != http.MethodPost {
		req.Method = last.Method
	}
	err := allowed(last.URL, req.URL)
	if err != nil && (err != errRedirectDowngrade || a.set.Security&bits.SecurityRedirectInsecure == 0) {
		return err
	}
	if may, ok := req.Context().Value(redirectKey{}).(func(from, to *url.URL) error); ok {
		if err := may(last.URL, req.URL); err != nil {
			return err
		}
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
	if !SameOrigin(via[0].URL, req.URL) {
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
var ownHeader = map[string]bool{"X-P2P-PeerDist": true, "X-P2P-PeerDistEx": true, "Range": true, "If-Range": true, "Accept": true, "Accept-Encoding": true, "User-Agent": true, "If-None-Match": true, "If-Modified-Since": true}

// allowed reports why a server may not send a request on from one URL to another; nil if it may.
func allowed(from, to *url.URL) error {
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return errRedirectScheme
	case from.Scheme == "https" && to.Scheme == "http":
		return errRedirectDowngrade
	}
	return nil
}

// Location returns where an answer sends a request that Do did not send on, since repeating it
// there is for the caller to decide. It refuses what checkRedirect refuses; the caller counts, and
// keeps what is secret from another origin.
func Location(resp *http.Response) (*url.URL, error) {
	u := resp.Request.URL
	to, err := resp.Location()
	if err != nil {
		err = errRedirectNowhere
	} else {
		err = allowed(u, to)
	}
	if err != nil {
		return nil, TransportError(resp.Request.Context(), &url.Error{Op: resp.Request.Method, URL: u.String(), Err: err}, u.String())
	}
	return to, nil
}

// SameOrigin reports whether two URLs have scheme, host and port in common.
func SameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// port returns the port of an http or https URL.
func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
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

func (c *Client) dial(ctx context.Context, addr string, class governor.Class, may func(context.Context, string, string, syscall.RawConn) error) (*trackedConn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	d.ControlContext = func(ctx context.Context, network, to string, raw syscall.RawConn) error {
		governor.Prepare(to, class, raw)
		if may == nil {
			return nil
		}
		return may(ctx, network, to, raw)
	}
	d.SetMultipathTCP(false) // its subflows would escape the governor
	conn, err := d.DialContext(ctx, "tcp", addr)
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

// NetworkChanged drops connections that no transfer uses, and what was learned of proxies.
func (c *Client) NetworkChanged() {
	c.proxies.Forget()
	c.mu.Lock()
	pools := slices.Collect(maps.Values(c.pools))
	clear(c.down)
	c.mu.Unlock()
	for _, p := range pools {
		p.closeIdle()
	}
}

// Agent returns what the client names itself in requests.
func (c *Client) Agent() string { return c.agent }

// OnBehalf returns a context for requests that go where the server of a URL that the job's owner
// named has sent them once and for all. What is the owner's is for that server; for none if u is empty.
func OnBehalf(ctx context.Context, u string) context.Context {
	return context.WithValue(ctx, behalfKey{}, u)
}

type behalfKey struct{}

// Entitled reports whether a request to u may carry what is the owner's.
func Entitled(ctx context.Context, u *url.URL) bool {
	named, ok := ctx.Value(behalfKey{}).(string)
	if !ok {
		return true
	}
	from, err := url.Parse(named)
	return err == nil && SameOrigin(from, u)
}

// Request makes a request with the headers that the job's owner gave, where those may go, and those
// that all requests have. Its error is of type *bits.Error.
func (c *Client) Request(ctx context.Context, method, u string, header http.Header, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, &bits.Error{Code: bits.InvalidArg, Context: bits.ContextRemoteFile, File: u, Message: fmt.Sprintf("%q is not a URL", u), Cause: err}
	}
	req.Header.Set("User-Agent", c.agent)
	if Entitled(ctx, req.URL) {
		for name, values := range header {
			req.Header[name] = values
		}
	}
	req.Header.Set("Accept-Encoding", "identity")
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "*/*")
	}
	return req, nil
}

// OnRedirect returns a context for requests that are sent on from one URL to another only if may
// lets them: its error, of type *bits.Error, is theirs.
func OnRedirect(ctx context.Context, may func(from, to *url.URL) error) context.Context {
	return context.WithValue(ctx, redirectKey{}, may)
}

type redirectKey struct{}

// OnConn returns a context for requests that tells got which connection one goes over, before it
// is sent; several times if there are redirects.
func OnConn(ctx context.Context, got func(*governor.Conn)) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if conn := governed(i.Conn); conn != nil {
			got(conn)
		}
	}})
}

// governed returns the governor's connection under one of net/http's.
func governed(conn net.Conn) *governor.Conn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(*trackedConn); ok {
		return t.Conn
	}
	return nil
}

// Drain ends an answer whose body is of no use. A short one is read, so that the connection can
// be used again.
func Drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	resp.Body.Close()
}

// Do sends a request over HTTP/1.1, or over HTTP/2 where the server speaks nothing else. GET and
// HEAD follow redirects, others do not. Its errors are for TransportError.
func (c *Client) Do(req *http.Request, class governor.Class) (*http.Response, error) {
	a := c.access(req.Context())
	resp, err := c.do(a, req, class)
	if err == nil && a.set.Certifies == nil && c.missesCertificate(resp) {
		Drain(resp)
		return nil, &bits.Error{Code: bits.ClientCertNeeded, Context: bits.ContextGeneralTransport, File: resp.Request.URL.String(),
			Message: resp.Request.URL.Host + " wants a certificate of the client: " + resp.Status}
	}
	return resp, err
}

// missesCertificate reports whether a server that asked for a client certificate, and got none,
// refuses because of that. Servers say so in words of their own (nginx: 400, Apache: 403).
func (c *Client) missesCertificate(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusForbidden, 495, 496:
	default:
		return false
	}
	u := resp.Request.URL
	c.mu.Lock()
	defer c.mu.Unlock()
	return u.Scheme == "https" && c.asked[net.JoinHostPort(u.Hostname(), port(u))]
}

// Bounds of what is remembered of servers: which asked for a client certificate, and which version of
// HTTP each speaks. Beyond them it is learned anew.
const (
	maxAsked = 1000
	maxHosts = 10_000
)

// noteAsked remembers that a server asked for a client certificate.
func (c *Client) noteAsked(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) >= maxAsked {
		clear(c.asked)
	}
	c.asked[addr] = true
}

func (c *Client) do(a *Access, req *http.Request, class governor.Class) (*http.Response, error) {
	cl := a.pool.of(req.Method, class)
	if req.URL.User != nil && a.set.Identity.Begin(bits.TargetServer, req.URL) != nil {
		// net/http would tell the server the name alone.
		u := *req.URL
		u.User = nil
		req = req.WithContext(context.WithValue(req.Context(), userKey{}, req.URL.User))
		req.URL = &u
	}
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
		if again := repeat(req); again != nil {
			return cl.h2.Do(again)
		}
	case !known && req.URL.Scheme == "https" && hungUp(err):
		// A server made with Go accepts the connection and hangs up.
		if again := repeat(req); again != nil {
			if resp, err := cl.h2.Do(again); err == nil {
				c.remember(host, true)
				return resp, nil
			}
		}
	}
	return nil, err
}

// hungUp reports whether the server closed the connection instead of answering. net/http has no name for
// the error of a server that did so before the request was written.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || strings.HasSuffix(err.Error(), "http: server closed idle connection")
}

// repeat returns a request that can be sent once more; nil if its body is used up.
func repeat(req *http.Request) *http.Request {
	again := req.Clone(req.Context())
	if req.Body == nil || req.Body == http.NoBody {
		return again
	}
	if req.GetBody == nil {
		return nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil
	}
	again.Body = body
	return again
}

// remember notes whether a host speaks nothing but HTTP/2.
func (c *Client) remember(host string, h2only bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.h2only) >= maxHosts {
		clear(c.h2only)
	}
	c.h2only[host] = h2only
}

// refusesHTTP1 reports whether a server ended the handshake because HTTP/1.1 was all that was
// offered: with the alert no_application_protocol (RFC 7301 3.2).
func refusesHTTP1(err error) bool {
	var alert tls.AlertError
	return errors.As(err, &alert) && alert == 120
}
