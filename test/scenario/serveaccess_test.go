package scenario

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true}
	c := a.sign(template)
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) sign(c *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// server makes a certificate for 127.0.0.1 in files, and returns its serial number.
func (a *authority) server(cert, key string) *big.Int {
	a.t.Helper()
	c := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	pkcs8, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(name+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			a.t.Fatal(err)
		}
	}
	return c.Leaf.SerialNumber
}

func TestServeTLSReloads(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first := ca.server(cert, key)
	s := startServing(t, "", "--uploads", "--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(s.url, "https://") {
		t.Fatal(s.url)
	}
	serial := func() *big.Int {
		t.Helper()
		a, err := request(trusts(ca.pool(), nil, false), "GET", s.url+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		return a.TLS.PeerCertificates[0].SerialNumber
	}
	if serial().Cmp(first) != 0 {
		t.Fatal("another certificate")
	}
	// One that does not fit displaces nothing.
	if err := os.WriteFile(cert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // handshakes look once a second
	if serial().Cmp(first) != 0 {
		t.Fatal("another certificate")
	}
	s.logged("the one before stays")
	second := ca.server(cert, key)
	for end := time.Now().Add(patience); serial().Cmp(second) != 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the new certificate is not taken")
		}
	}
	// HTTP/2, both ways.
	c := trusts(ca.pool(), nil, true)
	body := strings.Repeat("x", 3<<20)
	a, err := request(c, "PUT", s.url+"/a", strings.NewReader(body))
	if err != nil || a.StatusCode != 201 || a.ProtoMajor != 2 {
		t.Fatal(a, err)
	}
	if a, err = request(c, "GET", s.url+"/a", nil); err != nil || a.body != body || a.ProtoMajor != 2 {
		t.Fatal(len(a.body), err)
	}
	if a, err = request(c, "GET", s.url+"/a", nil, "Range", "bytes=1-3"); err != nil || a.StatusCode != 206 || a.body != "xxx" {
		t.Fatal(a, err)
	}
}

func TestServeSelfSigned(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--self-signed")
	fetch := func() string {
		t.Helper()
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
		a, err := request(c, "GET", s.url+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf := a.TLS.PeerCertificates[0]
		if err := leaf.VerifyHostname("127.0.0.1"); err != nil {
			t.Error(err)
		}
		return strings.ReplaceAll(s.print, ":", "") + " " + strings.ToUpper(fmt.Sprintf("%x", sha256.Sum256(leaf.Raw)))
	}
	first := fetch()
	if told, is, _ := strings.Cut(first, " "); told != is {
		t.Errorf("the fingerprint is told as %s and is %s", told, is)
	}
	file := filepath.Join(s.home, "state", "self-signed.pem")
	if s.cert != file {
		t.Errorf("the certificate is told to be in %s, and is in %s", s.cert, file)
	}
	s.kill9()
	s.up()
	if fetch() != first {
		t.Error("another certificate after a restart")
	}
}

const accessConfig = `
[tls]
cert = "%HOME%/cert.pem"
key = "%HOME%/key.pem"
client_ca = "%HOME%/ca.pem"

[users.alice]
%PASSWORD%

[tokens.robot]
token = "0123456789abcdef"

[[group]]
path = "/"
dir = "%DIR%"
write = ["alice", "machine-7"]
[group.uploads]

[[group]]
path = "/open/"
dir = "%DIR%/open"
read = ["anyone"]
`

func TestServeAccess(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	setup := newServing(t, "") // only for its verb
	hash := func() string {
		c := setup.prepareServe("password")
		c.cmd.Stdin = strings.NewReader("correct horse\n")
		return c.begin().end().want(t, 0).out
	}()
	s := newServing(t, strings.ReplaceAll(accessConfig, "%PASSWORD%", hash))
	ca.server(filepath.Join(s.home, "cert.pem"), filepath.Join(s.home, "key.pem"))
	if err := os.WriteFile(filepath.Join(s.home, "ca.pem"), ca.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	s.write("secret", "secret")
	s.write("open/a", "open")
	s.up()

	basic := func(user, secret string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+secret))
	}
	machine := ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "machine-7"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	stranger := newAuthority(t).sign(&x509.Certificate{Subject: pkix.Name{CommonName: "alice"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	plain, cert := trusts(ca.pool(), nil, false), trusts(ca.pool(), &machine, false)
	for _, c := range []struct {
		name, method, path, authorization string
		client                            *http.Client
		status                            int
	}{
		{"nobody reads", "GET", "/secret", "", plain, 401},
		{"nobody reads what is open", "GET", "/open/a", "", plain, 200},
		{"a wrong password, even for what is open", "GET", "/open/a", basic("alice", "x"), plain, 401},
		{"a user reads", "GET", "/secret", basic("alice", "correct horse"), plain, 200},
		{"a wrong password", "GET", "/secret", basic("alice", "wrong"), plain, 401},
		{"an unknown user", "GET", "/secret", basic("mallory", "correct horse"), plain, 401},
		{"a token reads", "GET", "/secret", "Bearer 0123456789abcdef", plain, 200},
		{"a wrong token", "GET", "/secret", "Bearer 0123456789abcdee", plain, 401},
		{"a certificate reads", "GET", "/secret", "", cert, 200},
		{"nobody writes", "PUT", "/1", "", plain, 401},
		{"a user writes", "PUT", "/2", basic("alice", "correct horse"), plain, 201},
		{"a token may not", "PUT", "/3", "Bearer 0123456789abcdef", plain, 403},
		{"a certificate writes", "PUT", "/4", "", cert, 201},
		{"nobody writes by tus", "POST", "/5", "", plain, 401},
		{"what is not to be written", "PUT", "/open/b", basic("alice", "correct horse"), plain, 405},
		{"nobody asks for uploads", "GET", "/.ebb-uploads/x", "", plain, 401},
	} {
		a, err := request(c.client, c.method, s.url+c.path, strings.NewReader("x"), "Authorization", c.authorization, "Tus-Resumable", map[bool]string{true: "1.0.0"}[c.method == "POST"])
		if err != nil || a.StatusCode != c.status {
			t.Errorf("%s: %v %v, want %d", c.name, a.Response, err, c.status)
		}
		if c.status == 401 && len(a.Header.Values("WWW-Authenticate")) != 2 {
			t.Errorf("%s: %v", c.name, a.Header)
		}
	}
	// tus lets a method stand for another; who may not write must not get through by it.
	for _, method := range []string{"GET", "OPTIONS"} {
		a, err := request(plain, method, s.url+"/6", nil, "Tus-Resumable", "1.0.0", "X-HTTP-Method-Override", "POST", "Upload-Length", "0", "Authorization", "Bearer 0123456789abcdef")
		if err != nil || a.StatusCode != 403 {
			t.Errorf("%s that stands for POST: %v %v", method, a.Response, err)
		}
	}
	if _, err := request(trusts(ca.pool(), &stranger, false), "GET", s.url+"/secret", nil); err == nil {
		t.Error("a certificate of another authority is taken")
	}
	s.logged("principal=alice")
	s.logged(`why="wrong credentials of the user \"mallory\""`)
	s.logged(`why="robot is not in the group's list"`)
}

// A client sends what it has for a name also to a server that knows nobody. That keeps it from nothing that
// is for anyone, and opens nothing else.
func TestServeIgnoresCredentialsWhereThereAreNone(t *testing.T) {
	t.Parallel()
	s := newServing(t, `
[[group]]
path = "/"
dir = "%DIR%"
[group.uploads]

[[group]]
path = "/closed/"
dir = "%DIR%/closed"
read = ["authenticated"]
`)
	s.write("a", "text")
	s.write("closed/a", "text")
	s.up()
	for _, authorization := range []string{"", "Basic " + base64.StdEncoding.EncodeToString([]byte("alice:correct horse")), "Bearer 0123456789abcdef", "Negotiate abc"} {
		s.do("GET", "/a", "", "Authorization", authorization).want(t, 200)
		if a := s.do("GET", "/closed/a", "", "Authorization", authorization).want(t, 403); len(a.Header.Values("WWW-Authenticate")) > 0 {
			t.Error(a.Header)
		}
	}
	// What is begun with them is nobody's in particular.
	upload := s.tus("/b", 4, "Authorization", "Bearer 0123456789abcdef")
	s.do("HEAD", upload, "", "Tus-Resumable", "1.0.0").want(t, 200)
	s.do("HEAD", upload, "", "Tus-Resumable", "1.0.0", "Authorization", "Bearer fedcba9876543210").want(t, 200)
}

// Passwords are slow to check. Who sends wrong ones without end is refused, and does not make others
// wait without end.
func TestServeFloodOfPasswords(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("correct horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s := startServing(t, fmt.Sprintf(`
[users.alice]
password = %q
[users.slow]
password = "$2y$13$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
[[group]]
path = "/"
dir = "%%DIR%%"
`, hash))
	s.write("a", "text")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	refused := make(chan string, 100)
	var flood sync.WaitGroup
	for range cap(refused) {
		flood.Go(func() {
			r, err := http.NewRequestWithContext(ctx, "GET", s.url+"/a", nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.SetBasicAuth("slow", "wrong")
			a, err := http.DefaultClient.Do(r)
			if err != nil {
				return // the flood is over
			}
			_ = a.Body.Close()
			if a.StatusCode == 503 {
				refused <- a.Header.Get("Retry-After")
			} else if a.StatusCode != 401 {
				t.Error(a.Status)
			}
		})
	}
	select {
	case after := <-refused:
		if after != "10" {
			t.Errorf("Retry-After: %q", after)
		}
	case <-time.After(patience):
		t.Error("nobody is refused")
	}
	stop()
	flood.Wait()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		a, err := request(http.DefaultClient, "GET", s.url+"/a", nil, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("alice:correct horse")))
		if err == nil && a.StatusCode == 200 {
			break
		}
		if err != nil || a.StatusCode != 503 || time.Now().After(end) {
			t.Fatal(a.Response, err)
		}
	}
}

// Who may not upload is told so before his bytes are read.
func TestServeRefusesBeforeTheBody(t *testing.T) {
	t.Parallel()
	s := startServing(t, "[tokens.a]\ntoken = \"0123456789abcdef\"\n[[group]]\npath = \"/\"\ndir = \"%DIR%\"\n[group.uploads]\n")
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	began := time.Now()
	_, _ = fmt.Fprintf(c, "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 13631488\r\nExpect: 100-continue\r\n\r\n")
	b, _ := io.ReadAll(c) // it closes: so large a body is not worth reading
	if !strings.HasPrefix(string(b), "HTTP/1.1 401 ") {
		t.Errorf("%.200s", b)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("that took %v", took)
	}
	// A client that sends at once gets the answer too.
	a, err := request(http.DefaultClient, "PUT", s.url+"/a", strings.NewReader(strings.Repeat("x", 200_000)))
	if err != nil || a.StatusCode != 401 {
		t.Errorf("%v %v", a.Response, err)
	}
}

// fragment sends a fragment of 13 MiB as Windows does, all of it before it reads the answer, and then
// a Ping with credentials on the same connection. It returns the status of both answers.
func (s *serving) fragment() (fragment, ping int) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	const size = 13 * mib
	answers := bufio.NewReader(c)
	ask := func(head, body string) int {
		s.t.Helper()
		if _, err := io.WriteString(c, "BITS_POST /a HTTP/1.1\r\nHost: x\r\n"+head+"\r\n"+body); err != nil {
			s.t.Fatal(err)
		}
		a, err := http.ReadResponse(answers, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, a.Body)
		return a.StatusCode
	}
	fragment = ask(fmt.Sprintf("BITS-Packet-Type: Fragment\r\nBITS-Session-Id: %s\r\nContent-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n",
		"{7df0354d-249b-430f-820d-3d2a9bef4931}", size-1, size, size), strings.Repeat("x", size))
	return fragment, ask("BITS-Packet-Type: Ping\r\nContent-Length: 0\r\nAuthorization: Bearer 0123456789abcdef\r\n", "")
}

func TestServeRefusesAWholeFragment(t *testing.T) {
	t.Parallel()
	const group = "[tokens.a]\ntoken = \"0123456789abcdef\"\n[[group]]\npath = \"/\"\ndir = \"%DIR%\"\n"
	s := startServing(t, group+"[group.uploads]\n")
	if fragment, ping := s.fragment(); fragment != 401 || ping != 200 {
		t.Errorf("without credentials %d, then with them %d", fragment, ping)
	}
	// Also where the group is full, or takes no uploads any more.
	s = startServing(t, group+"connections = 1\nwrite = [\"anyone\"]\n[group.uploads]\n")
	other, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	_, _ = fmt.Fprintf(other, "PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx")
	for deadline := time.Now().Add(patience); !strings.Contains(s.metrics(), "ebb_serve_requests_running 1"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server does not get the request")
		}
	}
	if fragment, ping := s.fragment(); fragment != 503 || ping != 503 {
		t.Errorf("to a full group %d, then %d", fragment, ping)
	}
	s = startServing(t, group+"read = [\"anyone\"]\n")
	if fragment, ping := s.fragment(); fragment != 501 || ping != 501 {
		t.Errorf("where no uploads are taken %d, then %d", fragment, ping)
	}
}

// What somebody uploaded does not run in a browser, whichever group serves it.
func TestServeDoesNotTrustUploadsInOtherGroups(t *testing.T) {
	t.Parallel()
	s := newServing(t, `
[[group]]
path = "/in/"
dir = "%DIR%/in"
[group.uploads]
[[group]]
path = "/pub/"
dir = "%DIR%/in"
[[group]]
path = "/below/"
dir = "%DIR%/in/sub"
[[group]]
path = "/link/"
dir = "%HOME%/link"
[[group]]
path = "/all/"
dir = "%DIR%"
[[group]]
path = "/listed/"
files = { "a" = "%DIR%/in/a.html", "link" = "%HOME%/a.html", "own" = "%DIR%/inside.html" }
`)
	s.write("in/sub/a.html", "mine")
	s.write("inside.html", "mine")
	for link, to := range map[string]string{
		filepath.Join(s.home, "link"): filepath.Join(s.dir, "in"), filepath.Join(s.home, "a.html"): filepath.Join(s.dir, "in", "a.html"),
		filepath.Join(s.dir, "a.html"): "in/a.html",
	} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	s.up()
	s.do("PUT", "/in/a.html", "theirs").want(t, 201)
	s.do("PUT", "/in/sub/b.html", "theirs").want(t, 201)
	s.cli("group", "create", "made", "--dir", filepath.Join(s.dir, "in")).want(t, 0)
	s.cli("group", "create", "files").want(t, 0)
	s.cli("file", "add", "files", filepath.Join(s.dir, "in", "a.html")).want(t, 0)
	s.cli("file", "add", "files", filepath.Join(s.dir, "inside.html")).want(t, 0)
	for path, want := range map[string]string{
		"/in/a.html": "attachment", "/pub/a.html": "attachment", "/below/b.html": "attachment", "/link/a.html": "attachment",
		"/all/in/a.html": "attachment", "/all/a.html": "attachment", "/listed/a": "attachment", "/listed/link": "attachment",
		"/made/a.html": "attachment", "/files/a.html": "attachment",
		"/all/inside.html": "", "/listed/own": "", "/files/inside.html": "",
	} {
		if r := s.do("GET", path, "").want(t, 200); r.Header.Get("Content-Disposition") != want {
			t.Errorf("%s has %q, want %q", path, r.Header.Get("Content-Disposition"), want)
		}
	}
}

func TestServeSessionsPerUser(t *testing.T) {
	t.Parallel()
	const alice, bob = "Bearer 0123456789abcdef", "Bearer fedcba9876543210"
	s := startServing(t, `
[tokens]
alice = { token = "0123456789abcdef" }
bob = { token = "fedcba9876543210" }
[[group]]
path = "/"
dir = "%DIR%"
[group.bits]
BITSUploadEnabled = true
BITSNumberOfSessionsLimit = 2
`)
	first := s.tus("/1", 10, "Authorization", alice)
	s.tus("/2", 10, "Authorization", alice)
	if r := s.do("POST", "/3", "", "Tus-Resumable", "1.0.0", "Upload-Length", "10", "Authorization", alice).want(t, 503); r.Header.Get("Retry-After") == "" {
		t.Error(r.Header)
	}
	s.do("PUT", "/4", "x", "Authorization", alice).want(t, 503)
	s.tus("/3", 10, "Authorization", bob)
	// An upload answers to who began it, and to nobody else.
	s.do("HEAD", first, "", "Tus-Resumable", "1.0.0", "Authorization", bob).want(t, 404)
	s.do("DELETE", first, "", "Tus-Resumable", "1.0.0", "Authorization", bob).want(t, 404)
	s.do("DELETE", first, "", "Tus-Resumable", "1.0.0", "Authorization", alice).want(t, 204)
	s.do("PUT", "/4", "x", "Authorization", alice).want(t, 201)
}

func TestServeRequiresACertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	s := newServing(t, `
[tls]
cert = "cert.pem"
key = "key.pem"
client_ca = "ca.pem"
client_certificates = "required"
[[group]]
path = "/"
dir = "dir"
read = ["machine-7"]
`)
	ca.server(filepath.Join(s.home, "cert.pem"), filepath.Join(s.home, "key.pem"))
	if err := os.WriteFile(filepath.Join(s.home, "ca.pem"), ca.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	s.write("a", "text")
	s.up()
	for name, status := range map[string]int{"machine-7": 200, "machine-8": 403, "": 403} {
		c := ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if a, err := request(trusts(ca.pool(), &c, true), "GET", s.url+"/a", nil); err != nil || a.StatusCode != status {
			t.Errorf("%q: %v %v, want %d", name, a.Response, err, status)
		}
	}
	if _, err := request(trusts(ca.pool(), nil, true), "GET", s.url+"/a", nil); err == nil {
		t.Error("a client without a certificate is answered")
	}
}
