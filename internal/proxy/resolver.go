package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpproxy"
)

const (
	desktopAge = 30 * time.Second // of an owner's settings that are kept
	scriptAge  = 5 * time.Minute  // of a script, or of the news that there is none
	maxScript  = 1 << 20          // bytes
	// mostScripts bounds the scripts that are remembered: with maxScript, 16 MiB.
	mostScripts = 16
	fetchTime   = 10 * time.Second // for a script
)

// Found are the proxies for a URL.
type Found struct {
	Ways []*url.URL // in the order to try; nil among them is none
	// ByNetwork says that the network named them (WPAD): neither the job's owner nor who runs the machine.
	ByNetwork bool
}

// Resolver knows the proxies of this machine and of its users.
type Resolver struct {
	env     func(*url.URL) (*url.URL, error) // nil if the environment names none
	helpers helpers

	mu       sync.Mutex
	desktops map[uint32]kept[desktop] // guarded by mu
	scripts  map[string]kept[string]  // guarded by mu, by URL
	network  kept[string]             // guarded by mu: the URL of the network's script
}

// kept is a value that is used until a time.
type kept[T any] struct {
	value T
	err   error
	until time.Time
}

// New returns a Resolver that goes by the environment as it is now.
func New() *Resolver {
	r := &Resolver{}
	r.Forget()
	env := httpproxy.FromEnvironment()
	if all := firstOf("ALL_PROXY", "all_proxy"); all != "" {
		if env.HTTPProxy == "" {
			env.HTTPProxy = all
		}
		if env.HTTPSProxy == "" {
			env.HTTPSProxy = all
		}
	}
	if env.HTTPProxy != "" || env.HTTPSProxy != "" {
		r.env = env.ProxyFunc()
	}
	return r
}

func firstOf(names ...string) string {
	for _, n := range names {
		if v := os.Getenv(n); v != "" {
			return v
		}
	}
	return ""
}

// Forget drops what was learned: the network is another one.
func (r *Resolver) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.desktops, r.scripts, r.network = map[uint32]kept[desktop]{}, map[string]kept[string]{}, kept[string]{}
}

// Preconfig returns the proxies for a URL by the settings of a user: those of the environment and
// of his desktop. The environment is the service's, so it counts first for the user who runs the
// service and last for others.
func (r *Resolver) Preconfig(ctx context.Context, owner uint32, u *url.URL) (Found, error) {
	own := int64(owner) == int64(os.Getuid())
	if own && r.env != nil {
		return r.environment(u)
	}
	d, err := r.desktop(ctx, owner)
	if err != nil {
		return Found{}, err
	}
	switch {
	case d.list != nil:
		return Found{Ways: d.list.For(u)}, nil
	case d.script != "":
		ways, err := r.run(ctx, owner, d.script, u)
		return Found{Ways: ways}, err
	case d.auto:
		return r.Autodetect(ctx, owner, u)
	case r.env != nil:
		return r.environment(u)
	}
	return Found{Ways: direct}, nil
}

func (r *Resolver) environment(u *url.URL) (Found, error) {
	p, err := r.env(u)
	if err != nil || p == nil {
		return Found{Ways: direct}, err
	}
	if p, err = parseProxy(p.String(), "http"); err != nil {
		return Found{}, fmt.Errorf("the environment names a proxy that is of no use: %w", err)
	}
	return Found{Ways: []*url.URL{p}}, nil
}

func (r *Resolver) desktop(ctx context.Context, owner uint32) (desktop, error) {
	r.mu.Lock()
	k, ok := r.desktops[owner]
	r.mu.Unlock()
	if ok && time.Now().Before(k.until) {
		return k.value, k.err
	}
	k.value, k.err = readDesktop(ctx, owner)
	if ctx.Err() != nil {
		return desktop{}, context.Cause(ctx)
	}
	k.until = time.Now().Add(desktopAge)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.desktops[owner] = k
	return k.value, k.err
}

// Autodetect returns the proxies for a URL by the script that the network names (WPAD); none if it
// names none. The script is run for the owner of a job, as that of a user is.
func (r *Resolver) Autodetect(ctx context.Context, owner uint32, u *url.URL) (Found, error) {
	r.mu.Lock()
	k := r.network
	r.mu.Unlock()
	if !time.Now().Before(k.until) {
		k.value = ""
		for _, at := range candidates(ctx) {
			if _, err := r.script(ctx, at); err == nil {
				k.value = at
				break
			}
		}
		if ctx.Err() != nil {
			return Found{}, context.Cause(ctx)
		}
		k.until = time.Now().Add(scriptAge)
		r.mu.Lock()
		r.network = k
		r.mu.Unlock()
	}
	if k.value == "" {
		return Found{Ways: direct}, nil
	}
	ways, err := r.run(ctx, owner, k.value, u)
	return Found{ways, true}, err
}

// run asks the script at a URL for the proxies.
func (r *Resolver) run(ctx context.Context, owner uint32, at string, u *url.URL) ([]*url.URL, error) {
	script, err := r.script(ctx, at)
	if err != nil {
		return nil, err
	}
	shown := *u
	shown.User, shown.Fragment = nil, ""
	if u.Scheme == "https" { // what is secret stays so
		shown.Path, shown.RawPath, shown.RawQuery = "/", "", ""
	}
	found, err := r.helpers.find(ctx, owner, script, shown.String(), u.Hostname())
	if err != nil {
		return nil, fmt.Errorf("the proxy script %s: %w", at, err)
	}
	return parseFound(found)
}

// script returns the script at a URL.
func (r *Resolver) script(ctx context.Context, at string) (string, error) {
	r.mu.Lock()
	k, ok := r.scripts[at]
	r.mu.Unlock()
	if ok && time.Now().Before(k.until) {
		return k.value, k.err
	}
	k.value, k.err = fetch(ctx, at)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if k.err != nil {
		k.err = fmt.Errorf("the proxy script %s cannot be had: %w", at, k.err)
	}
	k.until = time.Now().Add(scriptAge)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(at, k)
	return k.value, k.err
}

// keep remembers a script, in the place of the one that was read first if there are many: users choose
// where theirs are. r.mu is held.
func (r *Resolver) keep(at string, k kept[string]) {
	if _, there := r.scripts[at]; !there && len(r.scripts) >= mostScripts {
		oldest := ""
		for other, o := range r.scripts {
			if oldest == "" || o.until.Before(r.scripts[oldest].until) {
				oldest = other
			}
		}
		delete(r.scripts, oldest)
	}
	r.scripts[at] = k
}

// fetch reads a script, without a proxy. A file is not read: the service can read what its user
// cannot.
func fetch(ctx context.Context, at string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return "", err
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return "", errors.New("it is at no http or https URL")
	}
	t := &http.Transport{DisableKeepAlives: true}
	resp, err := t.RoundTrip(req)
	if err == nil && resp.StatusCode/100 == 3 { // once
		to, lerr := resp.Location()
		resp.Body.Close()
		if lerr != nil || to.Scheme != "http" && to.Scheme != "https" {
			return "", errors.New("it is redirected to no proper address")
		}
		req.URL, req.Host = to, ""
		resp, err = t.RoundTrip(req)
	}
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxScript+1))
	switch {
	case err != nil:
		return "", err
	case len(b) > maxScript:
		return "", fmt.Errorf("it has more than %d bytes", maxScript)
	case !strings.Contains(string(b), "FindProxyForURL"):
		return "", errors.New("it is no proxy script: it has no FindProxyForURL")
	}
	return string(b), nil
}
