package httpconn

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/proxy"
	"github.com/ebbtransfer/ebb/internal/transfer/auth"
)

// Settings are how the requests of one job reach servers. The zero value is what most jobs have.
type Settings struct {
	Job   bits.ID
	Owner uint32 // the job's: whose proxy settings count

	Proxy      bits.ProxySettings
	Security   bits.SecurityFlags
	MinVersion string           // oldest TLS version, such as "1.3"; empty for 1.2
	Pins       []string         // public keys, "sha256/BASE64"; one must be in the server's chain
	Certifies  *tls.Certificate // shown to servers that ask for one; nil for none
	Verify     Verifier         // asked about each server's certificate that is good otherwise; nil for none
	Method     string           // of downloads; empty for GET
	Identity   *auth.Agent      // tells servers and proxies who the owner is; nil for nobody
}

// Verifier says whether the job's owner takes the certificate of a server. Its error, of type
// *bits.Error, is the job's.
type Verifier func(ctx context.Context, s Server) error

// Server is what a Verifier judges.
type Server struct {
	URL   string   // for which the connection is made; others on the same server may follow
	Addr  string   // host:port
	Chain [][]byte // certificates in DER, the server's own first
}

// Access is how the requests of one running job reach servers. It does not change. Requests that
// have it in their context use it, see With; others are made as the zero Settings say.
type Access struct {
	set  Settings
	c    *Client
	pool *pool
	list *proxy.List // of OVERRIDE
}

// Open returns the Access of a job that begins to run. Close must be called. An error, of type
// *bits.Error, says which setting is of no use.
func (c *Client) Open(s Settings) (*Access, error) {
	a := &Access{set: s, c: c}
	if _, err := tlsVersion(s.MinVersion); err != nil {
		return nil, err
	}
	if s.Proxy.Usage == bits.ProxyOverride {
		var err error
		if a.list, err = proxy.ParseList(s.Proxy.List, s.Proxy.Bypass); err != nil {
			return nil, &bits.Error{Code: bits.InvalidProxyInfo, Context: bits.ContextGeneralTransport, Message: err.Error()}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := a.key()
	if a.pool = c.pools[key]; a.pool == nil {
		a.pool = c.newPool(key)
		c.pools[key] = a.pool
	}
	a.pool.users++
	return a, nil
}

// Close says that the job makes no more requests.
func (a *Access) Close() {
	a.c.mu.Lock()
	a.pool.users--
	gone := a.pool.users == 0
	if gone {
		delete(a.c.pools, a.pool.key)
	}
	a.c.mu.Unlock()
	if gone {
		a.pool.closeIdle()
	}
}

// With returns a context whose requests are those of the job.
func (a *Access) With(ctx context.Context) context.Context {
	return context.WithValue(ctx, accessKey{}, a)
}

type accessKey struct{}

// access returns how the requests of a context reach servers.
func (c *Client) access(ctx context.Context) *Access {
	if a, ok := ctx.Value(accessKey{}).(*Access); ok {
		return a
	}
	return c.plain
}

// Method returns the method of a context's downloads.
func (c *Client) Method(ctx context.Context) string {
	if m := c.access(ctx).set.Method; m != "" {
		return m
	}
	return http.MethodGet
}

// ReportsRedirects reports whether a redirect changes the URL of a context's downloads for good.
func (c *Client) ReportsRedirects(ctx context.Context) bool {
	return c.access(ctx).redirects() == bits.SecurityRedirectReport
}

func (a *Access) redirects() bits.SecurityFlags { return a.set.Security & bits.SecurityRedirectMask }

// tlsFlags are the security flags that decide about certificates.
const tlsFlags = bits.SecurityCRLCheck | bits.SecurityIgnoreName | bits.SecurityIgnoreDate | bits.SecurityIgnoreUnknownCA | bits.SecurityIgnoreUsage

// key names the connections that jobs with the same settings share. What belongs to one job alone
// shares none.
func (a *Access) key() string {
	s := &a.set
	if s.Certifies != nil || s.Verify != nil || s.Identity != nil {
		return "job " + s.Job.String()
	}
	owner := uint32(0)
	if s.Proxy.Usage == bits.ProxyPreconfig || s.Proxy.Usage == bits.ProxyAutodetect {
		owner = s.Owner
	}
	pins := slices.Sorted(slices.Values(s.Pins))
	return fmt.Sprintf("%d %q %q %d %d %q %q", s.Proxy.Usage, s.Proxy.List, s.Proxy.Bypass, owner, s.Security&tlsFlags, s.MinVersion, pins)
}

// ways returns the ways to try, in order, for a request to u.
func (a *Access) ways(ctx context.Context, u *url.URL) ([]*way, error) {
	var found proxy.Found
	var err error
	switch a.set.Proxy.Usage {
	case bits.ProxyNone:
		found.Ways = direct
	case bits.ProxyOverride:
		found.Ways = a.list.For(u)
	case bits.ProxyAutodetect:
		found, err = a.c.proxies.Autodetect(ctx, a.set.Owner, u)
	default:
		found, err = a.c.proxies.Preconfig(ctx, a.set.Owner, u)
	}
	if err != nil {
		return nil, &bits.Error{Code: bits.InvalidProxyInfo, Context: bits.ContextGeneralTransport, File: u.String(), Message: err.Error(), Cause: err}
	}
	ways := make([]*way, len(found.Ways))
	for i, p := range found.Ways {
		ways[i] = &way{access: a, target: u, proxy: p, byNetwork: found.ByNetwork}
	}
	if len(ways) < 2 {
		return ways, nil
	}
	// Those that did not answer a moment ago come last.
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	now := time.Now()
	slices.SortStableFunc(ways, func(x, y *way) int { return a.c.downRank(x.proxy, now) - a.c.downRank(y.proxy, now) })
	return ways, nil
}

var direct = []*url.URL{nil}

// downTime is how long a proxy that cannot be reached is tried after all others.
const downTime = 5 * time.Minute

// downRank is 1 for a proxy that could not be reached; mu is held.
func (c *Client) downRank(u *url.URL, now time.Time) int {
	if u != nil && now.Before(c.down[u.Host]) {
		return 1
	}
	return 0
}

// noteDown remembers that a proxy could not be reached.
func (c *Client) noteDown(u *url.URL) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for host, until := range c.down {
		if now.After(until) {
			delete(c.down, host)
		}
	}
	c.down[u.Host] = now.Add(downTime)
}

// way is how one request, or the connection for it, goes.
type way struct {
	access    *Access
	target    *url.URL
	proxy     *url.URL // nil for none
	byNetwork bool     // see proxy.Found
}

type wayKey struct{}

// pool is what jobs with the same settings share: their connections. Foreground and background
// transfers share none, since their paces differ.
type pool struct {
	key             string
	users           int // guarded by Client.mu
	asking, sending [2]clients
}

func (c *Client) newPool(key string) *pool {
	p := &pool{key: key}
	for _, class := range []governor.Class{governor.Foreground, governor.Background} {
		p.asking[class] = clients{h1: c.httpClient(class, false, headerTimeout, 0), h2: c.httpClient(class, true, headerTimeout, 0)}
		p.sending[class] = clients{h1: c.httpClient(class, false, commitTimeout, writeBuffer), h2: c.httpClient(class, true, commitTimeout, writeBuffer)}
	}
	return p
}

// of returns the connections for a request.
func (p *pool) of(method string, class governor.Class) *clients {
	if asks(method) {
		return &p.asking[class]
	}
	return &p.sending[class]
}

func (p *pool) closeIdle() {
	for _, cl := range append(p.asking[:], p.sending[:]...) {
		cl.h1.CloseIdleConnections()
		cl.h2.CloseIdleConnections()
	}
}

// carrier sends the requests of all jobs of a pool, each by its own way.
type carrier struct {
	*http.Transport
	c     *Client
	lanes lanes
}

// CloseIdleConnections is what http.Client calls.
func (k *carrier) CloseIdleConnections() {
	k.Transport.CloseIdleConnections()
	k.lanes.close()
}

// RoundTrip implements http.RoundTripper. Where there are several proxies it takes the first one
// that can be reached.
func (k *carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	asksHost(ctx, req.URL.Host)
	a := k.c.access(ctx)
	ways, err := a.ways(ctx, req.URL)
	if err != nil {
		return nil, err
	}
	for i, w := range ways {
		out := req.WithContext(context.WithValue(ctx, wayKey{}, w))
		resp, err := k.lanes.roundTrip(k.Transport, out, w)
		if err == nil || w.proxy == nil || !unreached(err) {
			return resp, err
		}
		k.c.noteDown(w.proxy)
		if i == len(ways)-1 || ctx.Err() != nil {
			return nil, err
		}
		if req = repeat(req); req == nil {
			return nil, err
		}
	}
	return nil, errNoWay
}

// tlsVersion reads a version of TLS.
func tlsVersion(s string) (uint16, error) {
	switch s {
	case "", "1.2":
		return tls.VersionTLS12, nil
	case "1.0":
		return tls.VersionTLS10, nil
	case "1.1":
		return tls.VersionTLS11, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, bits.Errorf(bits.InvalidArg, "there is no TLS version %q", s)
}

// pin returns the pin of a public key, in DER.
func pin(spki []byte) string {
	sum := sha256.Sum256(spki)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

// samePin reports whether two pins are the same, whose base64 may lack its padding.
func samePin(a, b string) bool { return strings.TrimRight(a, "=") == strings.TrimRight(b, "=") }
