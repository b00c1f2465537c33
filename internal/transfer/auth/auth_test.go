package auth

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/Azure/go-ntlmssp"
	"github.com/google/go-cmp/cmp"

	"github.com/ebbtransfer/ebb/bits"
)

func TestParse(t *testing.T) {
	p := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	tests := []struct {
		in   []string
		want []Challenge
	}{
		{nil, nil},
		{[]string{""}, nil},
		{[]string{"Negotiate"}, []Challenge{{Scheme: "negotiate"}}},
		{[]string{"Negotiate", "NTLM"}, []Challenge{{Scheme: "negotiate"}, {Scheme: "ntlm"}}},
		{[]string{`Negotiate, NTLM, Basic realm="a, b = \"c\""`}, []Challenge{{Scheme: "negotiate"}, {Scheme: "ntlm"}, {Scheme: "basic", Params: p("realm", `a, b = "c"`)}}},
		{[]string{"NTLM TlRMTVNTUAAC=="}, []Challenge{{Scheme: "ntlm", Token: "TlRMTVNTUAAC=="}}},
		{[]string{"NTLM TlRM/+VNT, Basic realm=x"}, []Challenge{{Scheme: "ntlm", Token: "TlRM/+VNT"}, {Scheme: "basic", Params: p("realm", "x")}}},
		{[]string{`Digest REALM = "r" , nonce="n",, qop="auth,auth-int" , algorithm=SHA-256, Basic realm="b", charset="UTF-8"`},
			[]Challenge{{Scheme: "digest", Params: p("realm", "r", "nonce", "n", "qop", "auth,auth-int", "algorithm", "SHA-256")}, {Scheme: "basic", Params: p("realm", "b", "charset", "UTF-8")}}},
		{[]string{`Basic realm="x", realm="y"`}, []Challenge{{Scheme: "basic", Params: p("realm", "x")}}},
		{[]string{`Basic realm="open`, "Negotiate"}, []Challenge{{Scheme: "basic"}, {Scheme: "negotiate"}}},
		{[]string{`=, Basic`}, nil},
	}
	for _, test := range tests {
		if d := cmp.Diff(test.want, Parse(test.in)); d != "" {
			t.Errorf("%q: %s", test.in, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`Digest realm="r", nonce="n", qop="auth", Basic realm="x", NTLM abc==`)
	f.Add(`Negotiate`)
	f.Fuzz(func(t *testing.T, s string) {
		offers := Parse([]string{s})
		if len(offers) > maxChallenges {
			t.Fatalf("%d challenges", len(offers))
		}
		if d := bestDigest(offers); d != nil {
			c := &Credential{User: "user", Password: "pass"}
			v := d.answerWith(c, "GET", "/", 1, "cnonce")
			if strings.ContainsAny(v, "\r\n\x00") {
				t.Fatalf("%q makes the header %q", s, v)
			}
			if again := Parse([]string{v}); len(again) != 1 || again[0].Params["nonce"] != d.nonce || again[0].Params["realm"] != d.realm {
				t.Fatalf("%q makes %q", s, v)
			}
		}
	})
}

// TestDigestOfTheStandard has the examples of RFC 7616 3.9 and RFC 2069.
func TestDigestOfTheStandard(t *testing.T) {
	const nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
	const cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
	tests := []struct {
		challenge, user, password, uri, cnonce, want string
	}{
		{`realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5, nonce="` + nonce + `", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`,
			"Mufasa", "Circle of Life", "/dir/index.html", cnonce, `response="8ca523f5e9506fed4657c9700eebdbec"`},
		{`realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="` + nonce + `", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`,
			"Mufasa", "Circle of Life", "/dir/index.html", cnonce, `response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"`},
		{`realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"`,
			"Mufasa", "CircleOfLife", "/dir/index.html", "", `response="1949323746fe6a43ef61f9606e7febea"`},
	}
	for _, test := range tests {
		d := bestDigest(Parse([]string{"Digest " + test.challenge}))
		if d == nil {
			t.Fatalf("%s: refused", test.challenge)
		}
		got := d.answerWith(&Credential{User: test.user, Password: test.password}, "GET", test.uri, 1, test.cnonce)
		if !strings.Contains(got, test.want) {
			t.Errorf("%s\nwant %s", got, test.want)
		}
	}
	d := bestDigest(Parse([]string{`Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true`}))
	got := d.answerWith(&Credential{User: "J\u00e4s\u00f8n Doe", Password: "Secret, or not?"}, "GET", "/doe.json", 1, "NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm")
	if !strings.Contains(got, "userhash=true") || strings.Contains(got, "Doe") {
		t.Errorf("the user's name is in %s", got)
	}
	for _, bad := range []string{`realm="r", nonce="n", qop="auth-int"`, `realm="r", nonce="n", algorithm="MD4"`, `realm="r", nonce=""`} {
		if bestDigest(Parse([]string{"Digest " + bad})) != nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if d := bestDigest(Parse([]string{`Digest realm="r", nonce="a", algorithm=MD5`, `Digest realm="r", nonce="b", algorithm=SHA-256`})); d.nonce != "b" {
		t.Error("the weaker algorithm was chosen")
	}
}

func challenges(values ...string) http.Header { return http.Header{"Www-Authenticate": values} }

func at(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestOnlyAuthInt: a server that takes Digest only with the integrity of bodies is told nothing, and the
// owner why.
func TestOnlyAuthInt(t *testing.T) {
	try := New([]Credential{{Target: bits.TargetServer, Scheme: bits.AuthDigest, User: "d", Password: "p"}}, nil).Begin(bits.TargetServer, at(t, "http://h/x"))
	value, ok := try.Next(t.Context(), challenges(`Digest realm="r", nonce="n", qop="auth-int"`), "GET", "/x")
	if ok || value != "" || !strings.Contains(try.Why(), "kind of Digest that is not known (auth-int)") {
		t.Errorf("the answer is %q, %t, because %q", value, ok, try.Why())
	}
}

// TestServersOfferPicks: of what the owner gave, the strongest that the server offers is used, then
// the next one.
func TestServersOfferPicks(t *testing.T) {
	ctx := t.Context()
	a := New([]Credential{
		{Target: bits.TargetServer, Scheme: bits.AuthBasic, User: "b", Password: "p"},
		{Target: bits.TargetServer, Scheme: bits.AuthDigest, User: "d", Password: "p"},
		{Target: bits.TargetProxy, Scheme: bits.AuthBasic, User: "proxy", Password: "p"},
	}, nil)
	var news []News
	a.Told = func(n News) { news = append(news, n) }
	u := at(t, "http://example.org/x")
	try := a.Begin(bits.TargetServer, u)
	if v := try.First(ctx, "GET", "/x"); v != "" {
		t.Errorf("said unasked: %s", v)
	}
	v, ok := try.Next(ctx, challenges(`Basic realm="r"`, `Digest realm="r", nonce="n", qop="auth"`), "GET", "/x")
	if !ok || !strings.HasPrefix(v, `Digest username="d"`) {
		t.Fatalf("first: %q %t", v, ok)
	}
	v, ok = try.Next(ctx, challenges(`Basic realm="r"`, `Digest realm="r", nonce="n", qop="auth"`), "GET", "/x")
	if !ok || v != "Basic "+base64.StdEncoding.EncodeToString([]byte("b:p")) {
		t.Fatalf("second: %q %t", v, ok)
	}
	try.Done(http.Header{})
	again := a.Begin(bits.TargetServer, at(t, "http://EXAMPLE.org:80/y"))
	if got := again.First(ctx, "GET", "/y"); got != v || !again.Known() {
		t.Errorf("the next request says %q", got)
	}
	if _, ok := again.Next(ctx, challenges(`Basic realm="r"`), "GET", "/y"); ok {
		t.Error("what was refused is said again")
	}
	if again.Known() {
		t.Error("what was refused is still taken for good")
	}
	if d := cmp.Diff([]News{
		{bits.TargetServer, bits.AuthDigest, "http://example.org:80", false},
		{bits.TargetServer, bits.AuthBasic, "http://example.org:80", true},
		{bits.TargetServer, bits.AuthBasic, "http://example.org:80", false},
	}, news); d != "" {
		t.Error(d)
	}
	none := a.Begin(bits.TargetServer, u)
	if _, ok := none.Next(ctx, challenges(`Bearer realm="r"`, "Negotiate", "NTLM"), "GET", "/x"); ok {
		t.Error("something is said to a scheme that nothing was given for")
	}
}

func TestDigestNonceThatRanOut(t *testing.T) {
	ctx := t.Context()
	a := New([]Credential{{Target: bits.TargetServer, Scheme: bits.AuthDigest, User: "d", Password: "p"}}, nil)
	u := at(t, "https://example.org/x")
	one := a.Begin(bits.TargetServer, u)
	one.Next(ctx, challenges(`Digest realm="r", nonce="n1", qop="auth"`), "GET", "/x")
	one.Done(http.Header{})
	two := a.Begin(bits.TargetServer, u)
	if v := two.First(ctx, "GET", "/x"); !strings.Contains(v, `nonce="n1"`) || !strings.Contains(v, "nc=00000002") {
		t.Errorf("the second request says %q", v)
	}
	v, ok := two.Next(ctx, challenges(`Digest realm="r", nonce="n2", qop="auth", stale=true`), "GET", "/x")
	if !ok || !strings.Contains(v, `nonce="n2"`) || !strings.Contains(v, "nc=00000001") {
		t.Fatalf("after the nonce ran out: %q %t", v, ok)
	}
	two.Done(http.Header{"Authentication-Info": {`nextnonce="n3", qop=auth`}})
	three := a.Begin(bits.TargetServer, u)
	if v := three.First(ctx, "GET", "/x"); !strings.Contains(v, `nonce="n3"`) {
		t.Errorf("the nonce that the server wanted next is not in %q", v)
	}
	// A server that has a new nonce each time and likes none is not asked for ever.
	legs := 0
	for ok := true; ok && legs < 100; legs++ {
		_, ok = three.Next(ctx, challenges(`Digest realm="r", nonce="n`+strings.Repeat("x", legs)+`", qop="auth", stale=true`), "GET", "/x")
	}
	if legs > maxLegs+1 {
		t.Errorf("%d answers", legs)
	}
}

func TestWhatCameWithAURLIsForItsPlace(t *testing.T) {
	ctx := t.Context()
	u := at(t, "https://alice@example.org/x")
	a := New([]Credential{{Target: bits.TargetServer, Scheme: bits.AuthBasic, User: "alice", Password: "p", Place: PlaceOf(u), Unasked: true}}, nil)
	if v := a.Begin(bits.TargetServer, u).First(ctx, "GET", "/x"); !strings.HasPrefix(v, "Basic ") {
		t.Errorf("said %q", v)
	}
	for _, other := range []string{"https://example.org/x", "https://bob@example.org/x", "http://alice@example.org/x", "https://alice@example.org:444/x", "https://alice@example.com/x"} {
		if a.Begin(bits.TargetServer, at(t, other)) != nil {
			t.Errorf("it is for %s too", other)
		}
	}
	if a.Begin(bits.TargetProxy, u) != nil {
		t.Error("it is for a proxy too")
	}
}

func TestBearerGoesUnaskedOverTLSOnly(t *testing.T) {
	a := New([]Credential{{Target: bits.TargetServer, Scheme: bits.AuthBearer, Password: "tok"}}, nil)
	if v := a.Begin(bits.TargetServer, at(t, "https://example.org/")).First(t.Context(), "GET", "/"); v != "Bearer tok" {
		t.Errorf("over TLS: %q", v)
	}
	try := a.Begin(bits.TargetServer, at(t, "http://example.org/"))
	if v := try.First(t.Context(), "GET", "/"); v != "" {
		t.Errorf("without TLS: %q", v)
	}
	if v, ok := try.Next(t.Context(), challenges(`Bearer realm="x"`), "GET", "/"); !ok || v != "Bearer tok" {
		t.Errorf("asked for: %q", v)
	}
}

func TestImplicitProxyIdentityIsForServersToo(t *testing.T) {
	u := at(t, "http://example.org/")
	if New([]Credential{{Target: bits.TargetProxy, Scheme: bits.AuthNegotiate}}, nil).Begin(bits.TargetServer, u) == nil {
		t.Error("the owner's own identity, given for the proxy, is not for the server")
	}
	withOwn := New([]Credential{{Target: bits.TargetProxy, Scheme: bits.AuthNegotiate}, {Target: bits.TargetServer, Scheme: bits.AuthBasic, User: "u", Password: "p"}}, nil)
	if _, ok := withOwn.Begin(bits.TargetServer, u).Next(t.Context(), challenges("Negotiate"), "GET", "/"); ok {
		t.Error("it is, though the server has credentials of its own")
	}
	try := New([]Credential{Implicit(bits.TargetServer)}, nil).Begin(bits.TargetServer, u)
	if _, ok := try.Next(t.Context(), challenges("Negotiate", "NTLM"), "GET", "/"); ok || !strings.Contains(try.Why(), "Kerberos") {
		t.Errorf("without tickets: %t, %q", ok, try.Why())
	}
}

// TestProxiesOfTheNetwork: nothing secret answers a proxy that nobody but the network named, and who waits
// for it learns why.
func TestProxiesOfTheNetwork(t *testing.T) {
	u := at(t, "http://proxy.example:3128")
	for _, scheme := range strength {
		c := Credential{Target: bits.TargetProxy, Scheme: scheme, User: "alice", Password: "secret", Unasked: true}
		for _, byNetwork := range []bool{false, true} {
			try := New([]Credential{c}, nil).BeginProxy(u, byNetwork)
			said := try.First(t.Context(), "GET", "/")
			next, ok := try.Next(t.Context(), challenges("Basic realm=x", `Digest realm=x, nonce=y, qop="auth"`, "NTLM", "Negotiate", "Bearer"), "GET", "/")
			if byNetwork && (said+next != "" || ok || try.Bound() || !strings.Contains(try.Why(), "the network named this proxy")) {
				t.Errorf("%s: it said %q and %q; why: %q", scheme, said, next, try.Why())
			}
			if !byNetwork && (said == "" || strings.Contains(try.Why(), "network")) {
				t.Errorf("%s: to the owner's proxy it said nothing; why: %q", scheme, try.Why())
			}
		}
	}
	if New([]Credential{Implicit(bits.TargetProxy)}, nil).BeginProxy(u, true) == nil {
		t.Error("nor do the owner's tickets, which are no secret to it")
	}
	if New(nil, nil).BeginProxy(u, true) != nil {
		t.Error("who has nothing says something")
	}
}

// TestNTLMThatMakesNoSense: no message of a server ends the service, or is answered for ever.
func TestNTLMThatMakesNoSense(t *testing.T) {
	for _, token := range []string{"", "AAAA", "TlRMTVNTUAACAAAA", base64.StdEncoding.EncodeToString(append([]byte("NTLMSSP\x00\x02\x00\x00\x00"), make([]byte, 40)...)), "!!!"} {
		a := New([]Credential{{Target: bits.TargetServer, Scheme: bits.AuthNTLM, User: `D\u`, Password: "p"}}, nil)
		try := a.Begin(bits.TargetServer, at(t, "http://example.org/"))
		if _, ok := try.Next(t.Context(), challenges("NTLM"), "GET", "/"); !ok || !try.More() || !try.Bound() {
			t.Fatal("the handshake does not begin")
		}
		for range 2 * maxLegs {
			if _, ok := try.Next(t.Context(), challenges("NTLM "+token), "GET", "/"); !ok {
				break
			}
			if try.legs > maxLegs {
				t.Fatal("it does not end")
			}
		}
	}
}

func FuzzNTLM(f *testing.F) {
	first, err := ntlmssp.NewNegotiateMessage("", "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(first)
	f.Add(append([]byte("NTLMSSP\x00\x02\x00\x00\x00"), make([]byte, 60)...))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = thirdMessage(b, &Credential{User: "u", Password: "p"}) })
}

// TestOwnIdentity: it goes only where the policy allows, and what is for proxies by
// use_stored_credentials goes to no server.
func TestOwnIdentity(t *testing.T) {
	own := Credential{Target: bits.TargetProxy, Scheme: bits.AuthNegotiate}
	at := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	only := &Tickets{Allow: func(u *url.URL) bool { return u.Hostname() == "allowed" }}
	for _, test := range []struct {
		name    string
		c       Credential
		tickets *Tickets
		target  bits.AuthTarget
		to      string
		want    bool
	}{
		{"a proxy", own, nil, bits.TargetProxy, "http://p", true},
		{"that of the proxy is for servers", own, nil, bits.TargetServer, "http://s", true},
		{"by the property, a proxy", Implicit(bits.TargetProxy), nil, bits.TargetProxy, "http://p", true},
		{"by the property, a server", Implicit(bits.TargetProxy), nil, bits.TargetServer, "http://s", false},
		{"the policy allows it", own, only, bits.TargetProxy, "http://allowed:3128", true},
		{"the policy does not", own, only, bits.TargetProxy, "http://other:3128", false},
		{"the policy is not about passwords", Credential{Target: bits.TargetProxy, Scheme: bits.AuthNegotiate, User: "u", Password: "p"}, only, bits.TargetProxy, "http://other:3128", true},
	} {
		if got := New([]Credential{test.c}, test.tickets).Begin(test.target, at(test.to)) != nil; got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
