// Package proxy finds the proxies that lead to a server: from a job's own list, from the settings
// of the environment and the desktop, from a script of the network's or the owner's (PAC), which it
// runs in a process that may do nothing else.
//
// It makes no connection to a server or a proxy; it only says which to take. Client.md 7.8.
package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// List is a list of proxies and of hosts that are reached without one.
type List struct {
	items  []item
	bypass []bypass
}

// item is a proxy of a list.
type item struct {
	scheme string // of the URLs that it is for; empty for all
	proxy  *url.URL
}

// direct is no proxy.
var direct = []*url.URL{nil}

// ParseList reads proxies, each as [PROTOCOL=][SCHEME://]HOST[:PORT], and hosts to reach without
// one, each a name, an address, a network in CIDR form, a name that begins with *, or <local> for
// all names without a dot, each with a scheme before it or a port after it if it is for that only.
// Blanks, commas and semicolons stand between them, also within one string.
func ParseList(proxies, without []string) (*List, error) {
	l := &List{}
	for _, s := range words(proxies) {
		it, err := parseItem(s)
		if err != nil {
			return nil, err
		}
		if it.proxy != nil {
			l.items = append(l.items, it)
		}
	}
	if len(l.items) == 0 {
		return nil, fmt.Errorf("the list of proxies is empty")
	}
	for _, s := range words(without) {
		b, err := parseBypass(s)
		if err != nil {
			return nil, err
		}
		l.bypass = append(l.bypass, b)
	}
	return l, nil
}

func words(list []string) []string {
	return strings.FieldsFunc(strings.Join(list, " "), func(r rune) bool { return r == ' ' || r == ',' || r == ';' || r == '\t' })
}

// parseItem reads one proxy. That of a protocol which is never spoken here is nil.
func parseItem(s string) (item, error) {
	bad := fmt.Errorf("%.100q is not a proxy of the form [PROTOCOL=][SCHEME://]HOST[:PORT]", redact(s))
	protocol, rest, ok := strings.Cut(s, "=")
	if !ok || strings.Contains(protocol, "://") {
		protocol, rest = "", s
	}
	protocol = strings.ToLower(protocol)
	scheme := "http"
	switch protocol {
	case "", "http", "https":
	case "socks", "socks5":
		protocol, scheme = "", "socks5"
	case "ftp", "gopher":
		return item{}, nil
	default:
		return item{}, fmt.Errorf("there is no protocol %.20q for a proxy (want http, https or socks)", protocol)
	}
	u, err := parseProxy(rest, scheme)
	if err != nil {
		return item{}, bad
	}
	return item{protocol, u}, nil
}

// parseProxy reads [SCHEME://]HOST[:PORT] and sets the port.
func parseProxy(s, scheme string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = scheme + "://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	u.Scheme = strings.ToLower(u.Scheme)
	usual := ""
	switch u.Scheme {
	case "http":
		usual = "80"
	case "https":
		usual = "443"
	case "socks", "socks5", "socks5h":
		u.Scheme, usual = "socks5", "1080"
	default:
		return nil, fmt.Errorf("proxies of the kind %.20q are not spoken to", u.Scheme)
	}
	host, port := u.Hostname(), u.Port()
	if host == "" || strings.ContainsAny(host, "*<>=\" ") || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("no host and port")
	}
	if port == "" {
		port = usual
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("bad port")
	}
	return &url.URL{Scheme: u.Scheme, User: u.User, Host: net.JoinHostPort(host, port)}, nil
}

// redact hides a user and a password.
func redact(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "…" + s[i:]
	}
	return s
}

// bypass are hosts that are reached without a proxy.
type bypass struct {
	scheme, port string       // empty for all
	local        bool         // <local>
	name         string       // in small letters, perhaps with *
	prefix       netip.Prefix // valid for addresses and networks
}

func parseBypass(s string) (bypass, error) {
	bad := fmt.Errorf("%.100q is not a host to reach without a proxy (want a name, an address, *.example.org or <local>)", s)
	if strings.EqualFold(s, "<local>") {
		return bypass{local: true}, nil
	}
	var b bypass
	rest := strings.ToLower(s)
	if scheme, after, ok := strings.Cut(rest, "://"); ok {
		b.scheme, rest = scheme, after
	}
	if p, err := netip.ParsePrefix(rest); err == nil {
		b.prefix = p.Masked()
		return b, nil
	}
	if host, port, err := net.SplitHostPort(rest); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return b, bad
		}
		b.port, rest = port, host
	}
	rest = strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")
	if a, err := netip.ParseAddr(rest); err == nil {
		a = a.Unmap().WithZone("")
		b.prefix = netip.PrefixFrom(a, a.BitLen())
		return b, nil
	}
	rest = strings.TrimSuffix(rest, ".")
	if rest == "" || strings.ContainsAny(rest, `?[]\<>/:@"`) {
		return b, bad
	}
	if strings.HasPrefix(rest, ".") { // as in NO_PROXY
		rest = "*" + rest
	}
	b.name = rest
	return b, nil
}

// covers reports whether a URL's host is one of these.
func (b bypass) covers(scheme, host, port string) bool {
	if b.local {
		_, err := netip.ParseAddr(host)
		return err != nil && !strings.Contains(host, ".")
	}
	if b.scheme != "" && b.scheme != scheme || b.port != "" && b.port != port {
		return false
	}
	if b.prefix.IsValid() {
		a, err := netip.ParseAddr(host)
		return err == nil && b.prefix.Contains(a.Unmap().WithZone(""))
	}
	ok, err := path.Match(b.name, host)
	return err == nil && ok
}

// For returns the proxies to try, in order, for a URL; nil among them is none.
func (l *List) For(u *url.URL) []*url.URL {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	for _, b := range l.bypass {
		if b.covers(u.Scheme, host, port) {
			return direct
		}
	}
	var ways []*url.URL
	for _, it := range l.items {
		if it.scheme == "" || it.scheme == u.Scheme {
			ways = append(ways, it.proxy)
		}
	}
	if len(ways) == 0 {
		return direct // the list says nothing of this protocol
	}
	return ways
}

// parseFound reads what a script found (FindProxyForURL): "PROXY a:80; SOCKS b; DIRECT". What cannot be
// used of it is left out, as browsers do; it is an error if nothing is left.
func parseFound(s string) ([]*url.URL, error) {
	var ways []*url.URL
	why := errors.New("it names no proxy that can be spoken to")
	for part := range strings.SplitSeq(s, ";") {
		kind, host, _ := strings.Cut(strings.TrimSpace(part), " ")
		scheme := ""
		switch strings.ToUpper(kind) {
		case "":
			continue
		case "DIRECT":
			ways = append(ways, nil)
			continue
		case "PROXY", "HTTP":
			scheme = "http"
		case "HTTPS":
			scheme = "https"
		case "SOCKS", "SOCKS5":
			scheme = "socks5"
		default:
			continue // of a kind that is not spoken, such as SOCKS4
		}
		u, err := parseProxy(strings.TrimSpace(host), scheme)
		if err != nil {
			why = err
			continue
		}
		ways = append(ways, u)
	}
	if strings.TrimSpace(s) == "" {
		return direct, nil
	}
	if len(ways) == 0 {
		return nil, fmt.Errorf("the proxy script answered %.100q: %w", s, why)
	}
	return ways, nil
}
