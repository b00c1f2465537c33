package httpconn

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/auth"
)

const (
	// maxChallenge is how much of the body of a challenge is read, so that its connection can be
	// used again: some schemes need the same one.
	maxChallenge = 64 << 10
	// expectFrom is the size of a body that is not sent before it is known whether the server wants
	// to know who sends it.
	expectFrom = 64 << 10
	// maxLanes bounds the connections that wait for a request of their own.
	maxLanes = 64
)

// lanes are connections that have one request at a time, since they, not the requests, are
// identified. They belong to one job.
type lanes struct {
	mu   sync.Mutex
	idle map[string][]*http.Transport // guarded by mu, by where they lead
}

// take returns a lane to host, with the terms of base.
func (l *lanes) take(base *http.Transport, host string) *http.Transport {
	l.mu.Lock()
	defer l.mu.Unlock()
	if idle := l.idle[host]; len(idle) > 0 {
		t := idle[len(idle)-1]
		l.idle[host] = idle[:len(idle)-1]
		return t
	}
	t := base.Clone()
	t.MaxConnsPerHost, t.MaxIdleConnsPerHost = 1, 1
	return t
}

// give puts a lane back.
func (l *lanes) give(t *http.Transport, host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.idle[host]) >= maxLanes {
		t.CloseIdleConnections()
		return
	}
	if l.idle == nil {
		l.idle = map[string][]*http.Transport{}
	}
	l.idle[host] = append(l.idle[host], t)
}

// close ends the connections that wait.
func (l *lanes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, idle := range l.idle {
		for _, t := range idle {
			t.CloseIdleConnections()
		}
	}
}

// first returns the URL that a request was for before the server sent it on.
func first(req *http.Request) *url.URL {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return req.URL
}

// userKey is the key, in a request's context, of the user that its URL named.
type userKey struct{}

// place returns the URL of a request with the user that it is for, and reports whether the owner
// named its server: what he gave goes to no other. The same host by TLS is no other.
func place(req *http.Request) (*url.URL, bool) {
	from, to := first(req), *req.URL
	to.User, _ = req.Context().Value(userKey{}).(*url.Userinfo)
	if !Entitled(req.Context(), from) {
		return &to, false
	}
	if SameOrigin(from, &to) {
		return &to, true
	}
	secured := from.Scheme == "http" && to.Scheme == "https" && port(from) == "80" && port(&to) == "443" && strings.EqualFold(from.Hostname(), to.Hostname())
	return &to, secured
}

// whyKey is the key, in the context of an answer's request, of the words that say why the owner
// could not be identified.
type whyKey struct{}

// saidKey is the key, in the context of an answer's request, of whether the server was told who the owner is.
type saidKey struct{}

// Identified reports whether the request that was answered, or one that led to it by a redirect, told its server who
// asks, other than by a certificate.
func Identified(resp *http.Response) bool {
	for resp != nil && resp.Request != nil {
		r := resp.Request
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" || r.Context().Value(saidKey{}) != nil {
			return true
		}
		resp = r.Response
	}
	return false
}

// roundTrip sends a request by a way, and tells those on it who want to know it who the owner is.
func (l *lanes) roundTrip(base *http.Transport, req *http.Request, w *way) (*http.Response, error) {
	ctx := req.Context()
	who, proxy := w.access.set.Identity, w.proxy
	var server, via *auth.Attempt
	if to, named := place(req); named && req.Header.Get("Authorization") == "" {
		server = who.Begin(bits.TargetServer, to)
	}
	if proxy != nil && req.URL.Scheme == "http" && strings.HasPrefix(proxy.Scheme, "http") {
		via = who.BeginProxy(proxy, w.byNetwork)
	}
	if server == nil && via == nil {
		if req.Method != http.MethodPatch && expects(req) {
			req = req.Clone(ctx)
			req.Close = true
		}
		return base.RoundTrip(req)
	}
	t, free := base, func() {}
	bound := server.Bound() || via.Bound()
	if bound {
		host := req.URL.Scheme + "://" + req.URL.Host
		t = l.take(base, host)
		free = sync.OnceFunc(func() { l.give(t, host) })
	}
	uri := req.URL.RequestURI()
	said, saidVia := server.First(ctx, req.Method, uri), via.First(ctx, req.Method, uri)
	body := &repeatable{req: req}
	for leg := 0; ; leg++ {
		out := req.Clone(ctx)
		set(out.Header, "Authorization", said)
		set(out.Header, "Proxy-Authorization", saidVia)
		if err := body.put(out, leg, server.More() || via.More()); err != nil {
			free()
			return nil, err
		}
		if out.ContentLength >= expectFrom && (bound || !server.Known() || !via.Known()) && out.Header.Get("Expect") == "" {
			out.Header.Set("Expect", "100-continue")
		}
		out.Close = out.Close || expects(out) && (leg == 0 && bound || !bound && (!server.Known() || !via.Known()))
		resp, err := t.RoundTrip(out)
		if err != nil {
			free()
			return nil, err
		}
		again := false
		switch resp.StatusCode {
		case http.StatusUnauthorized:
			via.Done(resp.Header)
			if said, again = server.Next(ctx, resp.Header, req.Method, uri); again {
				saidVia = via.First(ctx, req.Method, uri)
			}
		case http.StatusProxyAuthRequired:
			saidVia, again = via.Next(ctx, resp.Header, req.Method, uri)
		default:
			via.Done(resp.Header)
			server.Done(resp.Header)
		}
		if again && body.can() {
			_, _ = io.CopyN(io.Discard, resp.Body, maxChallenge)
			resp.Body.Close()
			body.wait()
			continue
		}
		if why := strings.Trim(server.Why()+"; "+via.Why(), "; "); why != "" && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusProxyAuthRequired) {
			ctx = context.WithValue(ctx, whyKey{}, why)
		}
		if said != "" || server.Bound() {
			ctx = context.WithValue(ctx, saidKey{}, true)
		}
		resp.Request = req.WithContext(ctx)
		resp.Body = &lastBody{resp.Body, free}
		return resp, nil
	}
}

// expects reports whether a request waits with its body for the server's word. Where that is a
// refusal, net/http sends the body all the same, unless the connection is to be closed afterwards:
// gigabytes for nothing, after which some servers and proxies do not read another request. So the
// connection of one that may well be refused is closed: not that of the pieces of an upload, which the
// server has taken before.
func expects(req *http.Request) bool { return req.Header.Get("Expect") != "" && req.ContentLength > 0 }

// set sets a header, unless there is nothing to say.
func set(h http.Header, name, value string) {
	if value != "" {
		h.Set(name, value)
	}
}

// lastBody is that of the answer that the caller gets.
type lastBody struct {
	io.ReadCloser
	free func()
}

// Close implements io.Closer. The lane is free: whether its connection can be used again, net/http
// knows.
func (b *lastBody) Close() error {
	err := b.ReadCloser.Close()
	b.free()
	return err
}

// repeatable is the body of a request that may have to be sent several times, one after the other:
// all may read from the same source.
type repeatable struct {
	req  *http.Request
	open sync.WaitGroup // those that net/http may still read
}

// can reports whether the request can be sent again.
func (r *repeatable) can() bool {
	return r.req.Body == nil || r.req.Body == http.NoBody || r.req.GetBody != nil
}

// put gives the leg-th sending its body; none if it is only to be answered with a challenge.
func (r *repeatable) put(out *http.Request, leg int, bare bool) error {
	if r.req.Body == nil || r.req.Body == http.NoBody {
		return nil
	}
	if bare {
		if leg == 0 {
			r.req.Body.Close()
		}
		out.Body, out.GetBody, out.ContentLength = http.NoBody, nil, 0
		out.Header.Del("Expect")
		return nil
	}
	body := r.req.Body
	if leg > 0 {
		var err error
		if body, err = r.req.GetBody(); err != nil {
			return err
		}
	}
	out.Body = r.track(body)
	if r.req.GetBody != nil {
		out.GetBody = func() (io.ReadCloser, error) {
			b, err := r.req.GetBody()
			if err != nil {
				return nil, err
			}
			return r.track(b), nil
		}
	}
	return nil
}

func (r *repeatable) track(b io.ReadCloser) io.ReadCloser {
	r.open.Add(1)
	return &tracked{b, sync.OnceFunc(r.open.Done)}
}

// wait returns when nothing reads any body any more.
func (r *repeatable) wait() { r.open.Wait() }

type tracked struct {
	io.ReadCloser
	closed func()
}

// Close implements io.Closer.
func (t *tracked) Close() error {
	defer t.closed()
	return t.ReadCloser.Close()
}

// Identity returns what tells servers who the owner of a context's job is; nil for nobody.
func (c *Client) Identity(ctx context.Context) *auth.Agent { return c.access(ctx).set.Identity }
