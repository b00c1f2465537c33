package httpconn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"encoding/pem"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/auth"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serial atomic.Int64

// issue makes a certificate; nil as its issuer signs it with its own key.
func issue(t testing.TB, by *authority, tmpl *x509.Certificate) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber = big.NewInt(serial.Add(1))
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore = time.Now().Add(-time.Hour)
	}
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = time.Now().Add(time.Hour)
	}
	tmpl.BasicConstraintsValid = true
	parent, signer := tmpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) certificate(chain ...*authority) tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
	for _, up := range chain {
		c.Certificate = append(c.Certificate, up.cert.Raw)
	}
	return c
}

// trusted is the authority that this test's process trusts; see TestMain.
var trusted *authority

func trustOwnAuthority() (remove func()) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-100 * 24 * time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	trusted = &authority{cert, key}
	dir, err := os.MkdirTemp("", "ebb-test-")
	if err != nil {
		panic(err)
	}
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", file) // read once by crypto/x509
	return func() { os.RemoveAll(dir) }
}

// serveTLS serves HTTPS and answers with the request's protocol and the client's certificate.
func serveTLS(t testing.TB, cfg *tls.Config, h2 bool) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_, _ = io.WriteString(w, r.Proto+" "+who)
	}))
	s.TLS, s.EnableHTTP2 = cfg, h2
	if h2 {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP2(true)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// get fetches a URL with a job's settings by both ways.
func get(t *testing.T, c *Client, s Settings, u string) (string, error) {
	t.Helper()
	a, err := c.Open(s)
	if err != nil {
		return "", err
	}
	defer a.Close()
	ctx := a.With(t.Context())
	req, err := c.Request(ctx, c.Method(ctx), u, http.Header{"X-Secret": {"owner's"}}, nil)
	if err != nil {
		return "", err
	}
	_, dialed := c.Dial(ctx, req.URL, governor.Foreground)
	resp, err := c.Do(req, governor.Foreground)
	if err != nil {
		err = TransportError(ctx, err, u)
		if codeOf(dialed) != codeOf(err) && codeOf(err).HTTPStatus() == 0 && codeOf(err) != bits.ClientCertNeeded && strings.HasPrefix(u, "https:") {
			t.Errorf("Dial says %v, Do says %v", dialed, err)
		}
		return "", err
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.Status + " " + string(b), err
}

func codeOf(err error) bits.Code {
	var e *bits.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestSecurityFlags(t *testing.T) {
	here := []net.IP{net.IPv4(127, 0, 0, 1)}
	day := 24 * time.Hour
	stranger := issue(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "stranger"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign})
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	certs := map[string]*authority{
		"good":      issue(t, trusted, &x509.Certificate{IPAddresses: here, ExtKeyUsage: server}),
		"name":      issue(t, trusted, &x509.Certificate{DNSNames: []string{"other.example"}, ExtKeyUsage: server}),
		"date":      issue(t, trusted, &x509.Certificate{IPAddresses: here, ExtKeyUsage: server, NotBefore: time.Now().Add(-3 * day), NotAfter: time.Now().Add(-2 * day)}),
		"ca":        issue(t, stranger, &x509.Certificate{IPAddresses: here, ExtKeyUsage: server}),
		"usage":     issue(t, trusted, &x509.Certificate{IPAddresses: here, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}),
		"name+date": issue(t, trusted, &x509.Certificate{DNSNames: []string{"other.example"}, ExtKeyUsage: server, NotBefore: time.Now().Add(-3 * day), NotAfter: time.Now().Add(-2 * day)}),
		"ca+date":   issue(t, stranger, &x509.Certificate{IPAddresses: here, ExtKeyUsage: server, NotBefore: time.Now().Add(-3 * day), NotAfter: time.Now().Add(-2 * day)}),
	}
	name, date, ca, usage := bits.SecurityIgnoreName, bits.SecurityIgnoreDate, bits.SecurityIgnoreUnknownCA, bits.SecurityIgnoreUsage
	all := name | date | ca | usage
	client := testClient()
	for _, c := range []struct {
		cert  string
		flags bits.SecurityFlags
		want  bits.Code
	}{
		{"good", 0, 0}, {"good", all, 0}, {"good", usage, 0},
		{"name", 0, bits.CertNameInvalid}, {"name", all &^ name, bits.CertNameInvalid}, {"name", name, 0},
		{"date", 0, bits.CertDateInvalid}, {"date", all &^ date, bits.CertDateInvalid}, {"date", date, 0},
		{"ca", 0, bits.CertUntrusted}, {"ca", all &^ ca, bits.CertUntrusted}, {"ca", ca, 0},
		{"usage", 0, bits.CertWrongUsage}, {"usage", all &^ usage, bits.CertWrongUsage}, {"usage", usage, 0},
		{"name+date", name, bits.CertDateInvalid}, {"name+date", date, bits.CertNameInvalid}, {"name+date", name | date, 0},
		{"ca+date", ca, bits.CertDateInvalid}, {"ca+date", ca | date, 0},
	} {
		s := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{certs[c.cert].certificate()}}, false)
		_, err := get(t, client, Settings{Security: c.flags}, s.URL)
		if codeOf(err) != c.want {
			t.Errorf("%s with %s: %v, want %s", c.cert, c.flags, err, c.want)
		}
	}
}

func goodServer(t *testing.T, cfg *tls.Config, h2 bool) (*httptest.Server, *authority) {
	leaf := issue(t, trusted, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	cfg.Certificates = []tls.Certificate{leaf.certificate()}
	return serveTLS(t, cfg, h2), leaf
}

func TestPins(t *testing.T) {
	s, leaf := goodServer(t, &tls.Config{}, false)
	other := issue(t, nil, &x509.Certificate{})
	client := testClient()
	for _, c := range []struct {
		pins []string
		want bits.Code
	}{
		{[]string{pin(leaf.cert.RawSubjectPublicKeyInfo)}, 0},
		{[]string{strings.TrimRight(pin(leaf.cert.RawSubjectPublicKeyInfo), "=")}, 0},
		{[]string{pin(trusted.cert.RawSubjectPublicKeyInfo)}, 0},
		{[]string{pin(other.cert.RawSubjectPublicKeyInfo), pin(leaf.cert.RawSubjectPublicKeyInfo)}, 0},
		{[]string{pin(other.cert.RawSubjectPublicKeyInfo)}, bits.SecureFailure},
	} {
		if _, err := get(t, client, Settings{Pins: c.pins}, s.URL); codeOf(err) != c.want {
			t.Errorf("%q: %v, want %s", c.pins, err, c.want)
		}
	}
	// A certificate that nobody vouches for proves nothing but its own key: that it came with
	// another one must not count.
	forged := issue(t, nil, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	bad := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{forged.certificate(leaf, trusted)}}, false)
	set := Settings{Security: bits.SecurityIgnoreUnknownCA, Pins: []string{pin(leaf.cert.RawSubjectPublicKeyInfo), pin(trusted.cert.RawSubjectPublicKeyInfo)}}
	if _, err := get(t, client, set, bad.URL); codeOf(err) != bits.SecureFailure {
		t.Errorf("a chain that proves nothing: %v", err)
	}
}

func TestTLSVersions(t *testing.T) {
	client := testClient()
	for _, c := range []struct {
		server uint16
		least  string
		ok     bool
	}{
		{tls.VersionTLS13, "", true}, {tls.VersionTLS12, "", true}, {tls.VersionTLS11, "", false},
		{tls.VersionTLS12, "1.3", false}, {tls.VersionTLS13, "1.3", true}, {tls.VersionTLS11, "1.1", true}, {tls.VersionTLS10, "1.0", true}, {tls.VersionTLS10, "1.1", false},
	} {
		s, _ := goodServer(t, &tls.Config{MinVersion: c.server, MaxVersion: c.server}, false)
		_, err := get(t, client, Settings{MinVersion: c.least}, s.URL)
		if want := map[bool]bits.Code{false: bits.SecureFailure}[c.ok]; codeOf(err) != want {
			t.Errorf("server %s, least %q: %v", tls.VersionName(c.server), c.least, err)
		}
	}
	if _, err := client.Open(Settings{MinVersion: "2.0"}); err == nil {
		t.Error("TLS 2.0 was taken")
	}
}

func TestHTTP2IsSpokenWhereNothingElseIs(t *testing.T) {
	s, _ := goodServer(t, &tls.Config{NextProtos: []string{"h2"}}, true)
	a, _ := testClient().Open(Settings{Security: bits.SecurityIgnoreUsage})
	defer a.Close()
	req, err := a.c.Request(a.With(t.Context()), http.MethodGet, s.URL, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := a.c.Do(req, governor.Foreground)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); !strings.HasPrefix(string(b), "HTTP/2") {
		t.Errorf("got %q", b)
	}
}

func TestClientCertificate(t *testing.T) {
	pool := x509.NewCertPool()
	pool.AddCert(trusted.cert)
	me := issue(t, trusted, &x509.Certificate{Subject: pkix.Name{CommonName: "me"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}).certificate()
	s, _ := goodServer(t, &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}, false)
	client := testClient()
	job := bits.NewID()
	if got, err := get(t, client, Settings{Job: job, Certifies: &me}, s.URL); got != "200 OK HTTP/1.1 me" {
		t.Errorf("with a certificate: %q, %v", got, err)
	}
	a, _ := client.Open(Settings{})
	defer a.Close()
	req, _ := client.Request(a.With(t.Context()), http.MethodGet, s.URL, nil, nil)
	resp, err := client.Do(req, governor.Foreground)
	if err == nil {
		resp.Body.Close()
	}
	if err = TransportError(t.Context(), err, s.URL); codeOf(err) != bits.ClientCertNeeded {
		t.Errorf("another job, without one: %v", err)
	}
}

func TestVerifierHasTheLastWord(t *testing.T) {
	s, leaf := goodServer(t, &tls.Config{}, false)
	client := testClient()
	asked := 0
	no := &bits.Error{Code: 0x80004005, Context: bits.ContextServerCertificateCallback}
	var answer error
	set := Settings{Verify: func(_ context.Context, s Server) error {
		asked++
		if len(s.Chain) != 1 || string(s.Chain[0]) != string(leaf.cert.Raw) {
			t.Errorf("asked about %d certificates of %s", len(s.Chain), s.Addr)
		}
		if answer != nil {
			return answer
		}
		return nil
	}}
	if _, err := get(t, client, set, s.URL); err != nil || asked == 0 {
		t.Errorf("%v after %d questions", err, asked)
	}
	answer = no
	if _, err := get(t, client, set, s.URL); codeOf(err) != no.Code {
		t.Errorf("refused, but %v", err)
	}
	asked = 0
	bad := httptest.NewTLSServer(http.NotFoundHandler())
	defer bad.Close()
	if _, err := get(t, client, set, bad.URL); codeOf(err) != bits.CertUntrusted || asked > 0 {
		t.Errorf("a certificate that is bad anyway: %v, asked %d times", err, asked)
	}
}

func TestRevocation(t *testing.T) {
	var list atomic.Pointer[[]byte]
	var asks atomic.Bool // who asks for the list
	crl := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization") + r.Header.Get("X-Secret"); got != "" {
			t.Errorf("the server of the list was told %q", got)
		}
		if asks.Load() {
			w.Header().Set("WWW-Authenticate", `Basic realm="list"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if b := list.Load(); b != nil {
			_, _ = w.Write(*b)
			return
		}
		http.NotFound(w, r)
	}))
	defer crl.Close()
	leaf := issue(t, trusted, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, CRLDistributionPoints: []string{crl.URL + "/crl"}})
	s := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf.certificate()}}, false)
	nowhere, _ := goodServer(t, &tls.Config{}, false)
	sign := func(by *authority, next time.Duration, revoked ...*authority) {
		l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: time.Now().Add(next)}
		for _, r := range revoked {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.cert.SerialNumber, RevocationTime: time.Now()})
		}
		der, err := x509.CreateRevocationList(rand.Reader, l, by.cert, by.key)
		if err != nil {
			t.Fatal(err)
		}
		list.Store(&der)
	}
	stranger := issue(t, nil, &x509.Certificate{Subject: trusted.cert.Subject, IsCA: true, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}})
	check := func(what, u string, want bits.Code) {
		t.Helper()
		if _, err := get(t, testClient(), Settings{Security: bits.SecurityCRLCheck}, u); codeOf(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	check("no list to be had", s.URL, bits.CertRevocationFailed)
	check("no list named", nowhere.URL, bits.CertRevocationFailed)
	sign(trusted, time.Hour)
	check("not revoked", s.URL, 0)
	sign(trusted, time.Hour, leaf)
	check("revoked", s.URL, bits.CertRevoked)
	sign(trusted, -time.Hour)
	check("an old list", s.URL, bits.CertRevocationFailed)
	sign(stranger, time.Hour)
	check("somebody else's list", s.URL, bits.CertRevocationFailed)
	if _, err := get(t, testClient(), Settings{}, s.URL); err != nil {
		t.Errorf("without the flag: %v", err)
	}
	sign(trusted, time.Hour)
	for _, wants := range []bool{false, true} {
		asks.Store(wants)
		who := auth.New([]auth.Credential{{Target: bits.TargetServer, Scheme: bits.AuthBasic, User: "alice", Password: "secret"},
			{Target: bits.TargetServer, Scheme: bits.AuthBearer, Password: "secret", Unasked: true}}, nil)
		want := bits.Code(0)
		if wants {
			want = bits.CertRevocationFailed
		}
		if _, err := get(t, testClient(), Settings{Security: bits.SecurityCRLCheck, Identity: who}, s.URL); codeOf(err) != want {
			t.Errorf("with credentials: %v, want %s", err, want)
		}
	}
}

func TestRedirectPolicies(t *testing.T) {
	var plain *httptest.Server
	secure, _ := goodServer(t, &tls.Config{}, false)
	secure.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL+"/end", http.StatusFound) })
	plain = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/end", http.StatusPermanentRedirect)
		case "/301", "/302", "/303", "/307":
			status, _ := strconv.Atoi(r.URL.Path[1:])
			http.Redirect(w, r, "/end", status)
		case "/303then302":
			http.Redirect(w, r, "/302", http.StatusSeeOther)
		default:
			_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+r.Header.Get("X-Secret"))
		}
	}))
	defer plain.Close()
	client := testClient()
	for _, c := range []struct {
		name string
		set  Settings
		url  string
		want string // the answer, or the code
	}{
		{"silent", Settings{}, plain.URL + "/moved", "200 OK GET /endowner's"},
		{"report", Settings{Security: bits.SecurityRedirectReport}, plain.URL + "/moved", "200 OK GET /endowner's"},
		{"deny", Settings{Security: bits.SecurityRedirectDeny}, plain.URL + "/moved", "308 Permanent Redirect "},
		{"downgrade", Settings{}, secure.URL, bits.HTTPStatus(302).String()},
		{"downgrade allowed", Settings{Security: bits.SecurityRedirectInsecure}, secure.URL, "200 OK GET /end"},
		{"a method of its own", Settings{Method: "REPORT"}, plain.URL + "/moved", "200 OK REPORT /endowner's"},
		{"a method of its own, 301", Settings{Method: "REPORT"}, plain.URL + "/301", "200 OK REPORT /endowner's"},
		{"a method of its own, 302", Settings{Method: "REPORT"}, plain.URL + "/302", "200 OK REPORT /endowner's"},
		{"a method of its own, 303", Settings{Method: "REPORT"}, plain.URL + "/303", "200 OK GET /endowner's"},
		{"a method of its own, 307", Settings{Method: "REPORT"}, plain.URL + "/307", "200 OK REPORT /endowner's"},
		{"a method of its own, 303 and 302", Settings{Method: "REPORT"}, plain.URL + "/303then302", "200 OK GET /endowner's"},
		{"POST, 302", Settings{Method: "POST"}, plain.URL + "/302", "200 OK GET /endowner's"},
		{"POST, 307", Settings{Method: "POST"}, plain.URL + "/307", "200 OK POST /endowner's"},
		{"HEAD, 302", Settings{Method: "HEAD"}, plain.URL + "/302", "200 OK "},
	} {
		got, err := get(t, client, c.set, c.url)
		if err != nil {
			got = codeOf(err).String()
		}
		if !strings.HasPrefix(got, c.want) || c.want == "200 OK GET /end" && strings.Contains(got, "owner") {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// anHTTPProxy is a proxy that notes what it is asked.
func anHTTPProxy(t *testing.T) (addr string, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method == http.MethodConnect {
			tunnel(w, r.Host)
			return
		}
		resp, err := http.DefaultTransport.(*http.Transport).RoundTrip(&http.Request{Method: r.Method, URL: r.URL, Header: r.Header})
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), asked
}

func TestOverriddenProxies(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "plain") }))
	defer plain.Close()
	secure, _ := goodServer(t, &tls.Config{}, false)
	up, asked := anHTTPProxy(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	client := testClient()
	over := func(bypass []string, list ...string) Settings {
		return Settings{Proxy: bits.ProxySettings{Usage: bits.ProxyOverride, List: list, Bypass: bypass}}
	}
	for _, c := range []struct {
		name  string
		set   Settings
		want  bits.Code
		asked bool
	}{
		{"one", over(nil, up), 0, true},
		{"the first is dead", over(nil, dead, up), 0, true},
		{"all are dead", over(nil, dead), bits.CannotConnect, false},
		{"bypassed", over([]string{"127.0.0.1"}, up), 0, false},
		{"none", Settings{Proxy: bits.ProxySettings{Usage: bits.ProxyNone}}, 0, false},
		{"nonsense", over(nil, "http://a b:c"), bits.InvalidProxyInfo, false},
	} {
		for _, u := range []string{plain.URL, secure.URL} {
			before := asked.Load()
			_, err := get(t, client, c.set, u)
			if codeOf(err) != c.want || (asked.Load() > before) != c.asked {
				t.Errorf("%s: %s: %v, asked %d times", c.name, u, err, asked.Load()-before)
			}
		}
	}
}

// TestConnectionsOfJobsAreShared opens and closes the same settings twice.
func TestConnectionsOfJobsAreShared(t *testing.T) {
	c := testClient()
	a, _ := c.Open(Settings{MinVersion: "1.3"})
	b, _ := c.Open(Settings{MinVersion: "1.3"})
	d, _ := c.Open(Settings{MinVersion: "1.3", Certifies: &tls.Certificate{}})
	if a.pool != b.pool || a.pool == d.pool || a.pool == c.plain.pool {
		t.Error("the wrong ones share connections")
	}
	a.Close()
	b.Close()
	d.Close()
	if len(c.pools) != 1 {
		t.Errorf("%d pools are left", len(c.pools))
	}
}

func TestSOCKS(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "plain") }))
	defer plain.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var tunnels atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				head := make([]byte, 2)
				if _, err := io.ReadFull(conn, head); err != nil {
					return
				}
				_, _ = io.CopyN(io.Discard, conn, int64(head[1]))
				_, _ = conn.Write([]byte{5, 0})
				req := make([]byte, 10) // of an IPv4 address
				if _, err := io.ReadFull(conn, req); err != nil {
					return
				}
				tunnels.Add(1)
				u, _ := url.Parse(plain.URL)
				server, err := net.Dial("tcp", u.Host)
				if err != nil {
					return
				}
				defer server.Close()
				_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
				go func() { _, _ = io.Copy(server, conn) }()
				_, _ = io.Copy(conn, server)
			}()
		}
	}()
	set := Settings{Proxy: bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{"socks=" + l.Addr().String()}}}
	got, err := get(t, testClient(), set, plain.URL)
	if got != "200 OK plain" || tunnels.Load() != 2 {
		t.Errorf("%q, %v over %d tunnels", got, err, tunnels.Load())
	}
}
