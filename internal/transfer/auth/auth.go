// Package auth identifies the owner of a job to servers and proxies that ask who he is: it reads
// their challenges, chooses the strongest scheme that they offer and the owner gave something for,
// and makes what answers it: Basic and Digest (RFC 7617, 7616), NTLM ([MS-NLMP]), Negotiate
// (RFC 4559: Kerberos, or NTLM where there is none), and bearer tokens (RFC 6750).
//
// It promises that nothing is said for a scheme, a target or an origin that the owner gave nothing
// for, and that a challenge cannot make it go on without end. It sends nothing itself but the
// questions to the realm's KDC, and knows nothing of jobs.
package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/Azure/go-ntlmssp"

	"github.com/ebbtransfer/ebb/bits"
)

// Credential is what the owner gave for one target and one scheme.
type Credential struct {
	Target         bits.AuthTarget
	Scheme         bits.AuthScheme
	User, Password string // both empty: the owner's own identity
	// Place is the only user and origin that it is for, as PlaceOf gives it; empty for all servers
	// that the owner named. What came with a URL has one.
	Place string
	// Stored says that it is the owner's own only since use_stored_credentials says so: for proxies
	// alone.
	Stored bool
	// Unasked says that it is sent before the server asks.
	Unasked bool
}

func (c *Credential) own() bool {
	return c.User == "" && c.Password == "" && (c.Scheme == bits.AuthNTLM || c.Scheme == bits.AuthNegotiate)
}

// PlaceOf returns the user and the origin of a URL: scheme://user@host:port.
func PlaceOf(u *url.URL) string {
	user := ""
	if u.User != nil {
		user = url.User(u.User.Username()).String() + "@"
	}
	return u.Scheme + "://" + user + hostPort(u)
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		if port = "80"; u.Scheme == "https" {
			port = "443"
		}
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}

// strength orders the schemes, the strongest first.
var strength = []bits.AuthScheme{bits.AuthNegotiate, bits.AuthNTLM, bits.AuthDigest, bits.AuthBearer, bits.AuthBasic}

// Agent speaks for the owner of one job. It remembers what servers and proxies took, so that they
// need not ask each time. It is safe for use by several goroutines at once.
type Agent struct {
	credentials []Credential
	tickets     *Tickets

	mu    sync.Mutex
	known map[key]*known // guarded by mu
	told  map[key]bool   // guarded by mu

	// Told, if set before the first use, is called once for each target, origin and scheme that
	// took a credential, and each time that one was refused.
	Told func(News)
}

// News is what became of a credential (events 203 and 204 of BITS).
type News struct {
	Target   bits.AuthTarget
	Scheme   bits.AuthScheme
	Origin   string // scheme://host:port
	Accepted bool
}

type key struct {
	target bits.AuthTarget
	place  string
	scheme bits.AuthScheme // only in told
}

// known is what a target took last.
type known struct {
	c *Credential
	d *digest // for Digest
}

// New returns an Agent with the credentials; tickets, which may be nil, are the owner's own
// identity. Without credentials it is nil, which is an Agent that has nothing to say.
func New(credentials []Credential, tickets *Tickets) *Agent {
	if len(credentials) == 0 {
		return nil
	}
	a := &Agent{credentials: slices.Clone(credentials), tickets: tickets, known: map[key]*known{}, told: map[key]bool{}}
	// The owner's own identity, once given for the proxy, is for servers too, unless they have
	// credentials of their own (client.md 7.5).
	explicit := slices.ContainsFunc(a.credentials, func(c Credential) bool { return c.Target == bits.TargetServer })
	if !explicit {
		for _, c := range credentials {
			if c.Target == bits.TargetProxy && c.own() && !c.Stored {
				c.Target = bits.TargetServer
				a.credentials = append(a.credentials, c)
			}
		}
	}
	slices.SortStableFunc(a.credentials, func(x, y Credential) int {
		return slices.Index(strength, x.Scheme) - slices.Index(strength, y.Scheme)
	})
	return a
}

// fit returns the credentials for a target, the strongest first.
func (a *Agent) fit(t bits.AuthTarget, u *url.URL) []*Credential {
	if a == nil {
		return nil
	}
	var out []*Credential
	place := PlaceOf(u)
	for i := range a.credentials {
		if c := &a.credentials[i]; c.Target == t && (c.Place == "" || c.Place == place) && (!c.own() || a.tickets.may(u)) {
			out = append(out, c)
		}
	}
	return out
}

// maxLegs bounds the answers to challenges for one request.
const maxLegs = 8

// Attempt is the way of one request past one target. It is for one goroutine.
type Attempt struct {
	a      *Agent
	target bits.AuthTarget
	u      *url.URL
	place  string
	left   []*Credential // not refused yet
	now    *Credential   // what the last request said; nil for nothing
	d      *digest       // with Digest
	ntlm   bool          // the first message of NTLM was sent last
	mech   bool          // by Kerberos
	krbOff bool          // Kerberos is of no use here: NTLM
	// withheld says that there is something for a proxy that the owner would have named.
	withheld bool
	legs     int
	why      []string
}

// Begin returns an Attempt to get past a target: the server of the URL u, or the proxy at u. It is
// nil if the owner gave nothing for it; a nil Attempt has nothing to say.
func (a *Agent) Begin(t bits.AuthTarget, u *url.URL) *Attempt {
	fit := a.fit(t, u)
	if len(fit) == 0 {
		return nil
	}
	return &Attempt{a: a, target: t, u: u, place: PlaceOf(u), left: fit}
}

// BeginProxy is Begin for a proxy. One that only the network named (WPAD) is whoever answered first there:
// it gets the owner's tickets, which say who one is and give no secret away, but no password and nothing
// made of one.
func (a *Agent) BeginProxy(u *url.URL, byNetwork bool) *Attempt {
	t := a.Begin(bits.TargetProxy, u)
	if t != nil && byNetwork {
		n := len(t.left)
		t.left = slices.DeleteFunc(t.left, func(c *Credential) bool { return !c.own() })
		t.withheld = len(t.left) < n
	}
	return t
}

// Bound reports whether the target may have to be spoken to by a scheme that identifies a
// connection instead of a request: then the connection has one request at a time.
func (t *Attempt) Bound() bool {
	return t != nil && slices.ContainsFunc(t.left, func(c *Credential) bool {
		return !c.own() && (c.Scheme == bits.AuthNTLM || c.Scheme == bits.AuthNegotiate)
	})
}

// Known reports whether the target took a credential before, so that the request may well be
// answered at the first time.
func (t *Attempt) Known() bool {
	if t == nil {
		return true
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	return t.a.known[key{target: t.target, place: t.place}] != nil
}

// First returns the value of Authorization, or Proxy-Authorization, that a request says unasked;
// empty for none.
func (t *Attempt) First(ctx context.Context, method, uri string) string {
	if t == nil {
		return ""
	}
	t.a.mu.Lock()
	k := t.a.known[key{target: t.target, place: t.place}]
	t.a.mu.Unlock()
	if k == nil {
		for _, c := range t.left {
			if c.Unasked || c.Scheme == bits.AuthBearer && t.u.Scheme == "https" {
				t.now = c
				return plain(c)
			}
		}
		return ""
	}
	switch k.c.Scheme {
	case bits.AuthBasic, bits.AuthBearer:
		t.now = k.c
		return plain(k.c)
	case bits.AuthDigest:
		t.now, t.d = k.c, k.d
		return t.digest(method, uri)
	case bits.AuthNegotiate:
		if token, err := t.a.tickets.token(ctx, k.c, t.u.Hostname()); err == nil {
			t.now, t.mech = k.c, true
			return "Negotiate " + base64.StdEncoding.EncodeToString(token)
		}
	}
	return "" // NTLM: the connection may be known
}

// plain is the answer of schemes that need no challenge.
func plain(c *Credential) string {
	if c.Scheme == bits.AuthBearer {
		return "Bearer " + c.Password
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User+":"+c.Password))
}

func (t *Attempt) digest(method, uri string) string {
	t.a.mu.Lock()
	t.d.count++
	n := t.d.count
	t.a.mu.Unlock()
	return t.d.answer(t.now, method, uri, n)
}

// Next returns what to say to an answer with the status 401, or 407, and reports whether there is
// something: if not, that answer is the last. The request is then repeated; while More reports
// true, its body is of no use yet.
func (t *Attempt) Next(ctx context.Context, h http.Header, method, uri string) (string, bool) {
	if t == nil {
		return "", false
	}
	name := "Www-Authenticate"
	if t.target == bits.TargetProxy {
		name = "Proxy-Authenticate"
	}
	offers := Parse(h.Values(name))
	if t.legs++; t.legs > maxLegs {
		return "", false
	}
	if t.ntlm { // the server's message should be here
		t.ntlm = false
		if value, ok := t.finish(offers); ok {
			return value, true
		}
	}
	if t.now != nil {
		if value, ok := t.again(offers, method, uri); ok {
			return value, true
		}
		t.refused()
	}
	for len(t.left) > 0 {
		c := t.left[0]
		if value, ok := t.answer(ctx, c, offers, method, uri); ok {
			t.now = c
			return value, true
		}
		t.left = t.left[1:]
	}
	if t.withheld {
		t.why = append(t.why, "the network named this proxy, and nobody else, so it gets no password; to use it all the same name it in the job's proxy settings")
		t.withheld = false
	}
	return "", false
}

// More reports whether what Next returned last will be answered by another challenge.
func (t *Attempt) More() bool { return t != nil && t.ntlm }

// refused takes back what the target did not like.
func (t *Attempt) refused() {
	c := t.now
	t.now = nil
	t.a.mu.Lock()
	k := key{target: t.target, place: t.place}
	if at := t.a.known[k]; at != nil && at.c == c {
		delete(t.a.known, k)
	}
	t.a.mu.Unlock()
	if t.mech && !c.own() && c.Scheme == bits.AuthNegotiate && !t.krbOff {
		t.krbOff = true // once more, by NTLM
		return
	}
	t.left = slices.DeleteFunc(slices.Clone(t.left), func(l *Credential) bool { return l == c })
	t.why = append(t.why, fmt.Sprintf("it refused the %s credentials", strings.ToLower(c.Scheme.String())))
	t.tell(c, false)
}

func (t *Attempt) tell(c *Credential, accepted bool) {
	if t.a.Told != nil {
		t.a.Told(News{Target: t.target, Scheme: c.Scheme, Origin: t.u.Scheme + "://" + hostPort(t.u), Accepted: accepted})
	}
}

// again answers a challenge that only says that the last answer was out of date: a nonce that is.
func (t *Attempt) again(offers []Challenge, method, uri string) (string, bool) {
	if t.now.Scheme != bits.AuthDigest {
		return "", false
	}
	d := bestDigest(offers)
	if d == nil || d.nonce == t.d.nonce {
		return "", false
	}
	stale := slices.ContainsFunc(offers, func(c Challenge) bool { return c.Scheme == "digest" && strings.EqualFold(c.Params["stale"], "true") })
	if !stale && t.legs > 1 { // the nonce was this very answer's
		return "", false
	}
	t.d = d
	return t.digest(method, uri), true
}

func bestDigest(offers []Challenge) *digest {
	var best *digest
	for _, o := range offers {
		if o.Scheme != "digest" {
			continue
		}
		if d := newDigest(o); d != nil && (best == nil || rank(d.algorithm) < rank(best.algorithm)) {
			best = d
		}
	}
	return best
}

// answer begins to identify by a credential's scheme, if the target offers it.
func (t *Attempt) answer(ctx context.Context, c *Credential, offers []Challenge, method, uri string) (string, bool) {
	if !slices.ContainsFunc(offers, func(o Challenge) bool { return o.Scheme == strings.ToLower(c.Scheme.String()) }) {
		return "", false
	}
	switch c.Scheme {
	case bits.AuthBasic, bits.AuthBearer:
		return plain(c), true
	case bits.AuthDigest:
		if t.d = bestDigest(offers); t.d == nil {
			t.why = append(t.why, "it asks for a kind of Digest that is not known"+digestKind(offers))
			return "", false
		}
		t.now = c
		return t.digest(method, uri), true
	case bits.AuthNegotiate:
		if !t.krbOff {
			token, err := t.a.tickets.token(ctx, c, t.u.Hostname())
			if err == nil {
				t.mech = true
				return "Negotiate " + base64.StdEncoding.EncodeToString(token), true
			}
			if c.own() {
				t.why = append(t.why, "Kerberos: "+err.Error())
			}
		}
		return t.begin("Negotiate", c)
	case bits.AuthNTLM:
		return t.begin("NTLM", c)
	}
	return "", false
}

// digestKind names what the first challenge of Digest asks for, where that is for the integrity of bodies.
func digestKind(offers []Challenge) string {
	for _, o := range offers {
		if o.Scheme == "digest" && strings.EqualFold(strings.TrimSpace(o.Params["qop"]), "auth-int") {
			return " (auth-int)"
		}
	}
	return ""
}

// begin sends the first message of NTLM.
func (t *Attempt) begin(scheme string, c *Credential) (string, bool) {
	if c.own() {
		if scheme == "NTLM" {
			t.why = append(t.why, "NTLM needs a user and a password on this system")
		}
		return "", false
	}
	first, err := ntlmssp.NewNegotiateMessage("", "")
	if err != nil {
		return "", false
	}
	t.ntlm, t.mech = true, false
	return scheme + " " + base64.StdEncoding.EncodeToString(first), true
}

// finish answers the server's message of NTLM.
func (t *Attempt) finish(offers []Challenge) (string, bool) {
	for _, o := range offers {
		if o.Scheme != strings.ToLower(t.now.Scheme.String()) || o.Token == "" {
			continue
		}
		message, err := base64.StdEncoding.DecodeString(o.Token)
		if err == nil {
			message, err = thirdMessage(message, t.now)
		}
		if err != nil {
			t.why = append(t.why, "NTLM: "+err.Error())
			return "", false
		}
		scheme := "NTLM "
		if t.now.Scheme == bits.AuthNegotiate {
			scheme = "Negotiate "
		}
		return scheme + base64.StdEncoding.EncodeToString(message), true
	}
	return "", false
}

// thirdMessage is that of NTLM. What comes from the network must not end the service.
func thirdMessage(challenge []byte, c *Credential) (message []byte, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the server's message makes no sense")
		}
	}()
	return ntlmssp.NewAuthenticateMessage(challenge, c.User, c.Password, nil)
}

// Done takes an answer that is not a challenge: what was said last was taken.
func (t *Attempt) Done(h http.Header) {
	if t == nil || t.now == nil || t.ntlm {
		return
	}
	k := key{target: t.target, place: t.place}
	n := &known{c: t.now, d: t.d}
	name := "Authentication-Info"
	if t.target == bits.TargetProxy {
		name = "Proxy-Authentication-Info"
	}
	if t.now.Scheme == bits.AuthDigest {
		if info := Parse([]string{"Info " + h.Get(name)}); len(info) == 1 && info[0].Params["nextnonce"] != "" {
			next := newDigestAfter(t.d, info[0].Params["nextnonce"])
			if next != nil {
				n.d = next
			}
		}
	}
	t.a.mu.Lock()
	if t.now.Scheme != bits.AuthNTLM && (t.now.Scheme != bits.AuthNegotiate || t.mech) {
		t.a.known[k] = n
	}
	k.scheme = t.now.Scheme
	first := !t.a.told[k]
	t.a.told[k] = true
	t.a.mu.Unlock()
	if first {
		t.tell(t.now, true)
	}
}

// newDigestAfter is what a server told, with the nonce that it wants next.
func newDigestAfter(d *digest, nonce string) *digest {
	if strings.ContainsFunc(nonce, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return nil
	}
	return &digest{realm: d.realm, nonce: nonce, opaque: d.opaque, algorithm: d.algorithm, qop: d.qop, session: d.session, userhash: d.userhash, utf8: d.utf8}
}

// Why says in words why the target was not got past; empty if there is nothing to say.
func (t *Attempt) Why() string {
	if t == nil {
		return ""
	}
	return strings.Join(t.why, "; ")
}
