package scenario

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
	"github.com/ebbtransfer/ebb/test/servers"
)

// certified is somebody with a certificate of an authority for clients.
type certified struct {
	authority string // PEM file of the authority
	pem, p12  string // files of the certificate and its key; the password of p12 is "secret"
	secret    []byte // bytes that must be nowhere in the service's state
}

func newCertified(t *testing.T, name string) certified {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	make := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if signer == nil {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		must(err)
		c, err := x509.ParseCertificate(der)
		must(err)
		return c, key
	}
	ca, caKey := make(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	cert, key := make(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, caKey)
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, data, 0o644))
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	p12, err := pkcs12.Modern.Encode(key, cert, nil, "secret")
	must(err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return certified{
		authority: write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})),
		pem:       write("me.pem", append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), text...)),
		p12:       write("me.p12", p12), secret: text[40:100],
	}
}

// real starts a server of the system's packages that ends after the service, or skips the test.
func real(t *testing.T, srv *servers.Server, err error) *servers.Server {
	t.Helper()
	if errors.Is(err, servers.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

// contentDir is a directory of a server with one file.
func contentDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	b, err := io.ReadAll(io.NewSectionReader(faultserver.Content(7, 300_000), 0, 300_000))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "file"), b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestClientCertificate fetches from an nginx that wants certificates.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	me, stranger := newCertified(t, "Alice of Ebb"), newCertified(t, "a stranger")
	content := contentDir(t)
	srv, err := servers.Nginx(content, servers.Options{TLS: true, ClientCA: me.authority})
	srv = real(t, srv, err)
	s := start(t, options{env: trusting(t)})
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	job := s.fetch(srv.URL+"/file", "file")
	info := s.settled(job, bits.Errored)
	if info.Error.Code != bits.ClientCertNeeded.Name() || !strings.Contains(info.Error.Hint, "ebb certificate set") {
		t.Fatalf("without a certificate: %+v", info.Error)
	}
	if _, err := job.Certificate(s.ctx()); !failsWith(err, bits.BadStubData) {
		t.Errorf("the certificate of a job without one: %v", err)
	}
	if out := s.cli("certificate", "set", job.ID.String(), stranger.pem).want(t, 0); !strings.Contains(out.out, "CN=a stranger") {
		t.Errorf("it says %q", out.out)
	}
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	if info = s.settled(job, bits.Errored); info.Error.Code != bits.HTTPStatus(400).Name() { // as nginx has it
		t.Errorf("with a stranger's certificate: %+v", info.Error)
	}
	if r := s.cli("certificate", "set", job.ID.String(), me.p12); r.code == 0 || !strings.Contains(r.err, "password") {
		t.Errorf("without its password: %d %s", r.code, r.err)
	}
	s.cli("certificate", "set", job.ID.String(), me.p12, "--from", password).want(t, 0)
	s.restart() // it is there after a crash
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	s.settled(job, bits.Transferred)
	shown := s.info(job).Properties.ClientCertificate
	if shown == nil || shown.Subject != "CN=Alice of Ebb" || len(shown.Fingerprint) != 64 {
		t.Errorf("shown is %+v", shown)
	}
	if out := s.cli("certificate", "show", job.ID.String()).want(t, 0); !strings.Contains(out.out, shown.Fingerprint) || strings.Contains(out.out, "PRIVATE") {
		t.Errorf("show says %q", out.out)
	}
	nowhere(t, s, me.secret)
	s.cli("certificate", "remove", job.ID.String()).want(t, 0)
	if had, err := job.RemoveCertificate(s.ctx()); had || err != nil {
		t.Errorf("a certificate that was removed is removed again: %v %v", had, err)
	}
	if s.info(job).Properties.ClientCertificate != nil {
		t.Error("it is still there")
	}
	if _, err := job.Cancel(s.ctx()); err != nil {
		t.Fatal(err)
	}
	f, err := client.ReadCertificate(read(t, me.pem), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := job.SetCertificate(s.ctx(), f); !failsWith(err, bits.InvalidState) {
		t.Errorf("of a cancelled job: %v", err)
	}

	t.Run("bitsadmin", func(t *testing.T) {
		s := s.in(t)
		job := s.create(fetched{name: "by bitsadmin", files: []bits.FileSpec{s.file(srv.URL+"/file", "second")}, waits: true})
		admin := func(code int, args ...string) string {
			t.Helper()
			r := s.cli(append([]string{"bitsadmin", "/rawreturn"}, args...)...).want(t, code)
			return r.out + r.err
		}
		id := job.ID.String()
		for _, c := range []struct {
			args []string
			want string
		}{
			{[]string{"/setclientcertificatebyid", id, "NOWHERE", me.pem, shown.SHA1}, "0x80004001"},
			{[]string{"/setclientcertificatebyid", id, "CURRENT_USER", "MY", shown.SHA1}, "PKCS#12 file"},
			{[]string{"/setclientcertificatebyid", id, "CURRENT_USER", me.pem, strings.Repeat("0", 40)}, "0x80092004"},
			{[]string{"/setclientcertificatebyname", id, "LOCAL_MACHINE", me.pem, "Bob"}, "0x80092004"},
		} {
			r := s.cli(append([]string{"bitsadmin"}, c.args...)...)
			if r.code == 0 || !strings.Contains(strings.ToLower(r.out+r.err), strings.ToLower(c.want)) {
				t.Errorf("%q: %d %q, want %s", c.args, r.code, r.out+r.err, c.want)
			}
		}
		admin(0, "/setclientcertificatebyid", id, "CURRENT_USER", me.pem, shown.SHA1)
		admin(0, "/removeclientcertificate", id)
		if got := admin(0, "/getclientcertificate", id); got != "NULL" {
			t.Errorf("after its removal: %q", got)
		}
		admin(0, "/setclientcertificatebyname", id, "CURRENT_USER", me.pem, "alice")
		if got := admin(0, "/getclientcertificate", id); got != strings.ToUpper(shown.SHA1)+" CN=Alice of Ebb" {
			t.Errorf("it has %q", got)
		}
		if err := job.Resume(s.ctx()); err != nil {
			t.Fatal(err)
		}
		s.settled(job, bits.Transferred)
	})
	t.Run("cmdlets", func(t *testing.T) {
		s := s.in(t)
		to := filepath.Join(s.dir, "third")
		s.cli("Start-BitsTransfer", srv.URL+"/file", to, "-CertStoreLocation", "CurrentUser", "-CertStoreName", me.pem, "-CertHash", shown.SHA1).want(t, 0)
		if !bytes.Equal(read(t, to), read(t, filepath.Join(content, "file"))) {
			t.Error("the file is not what it should be")
		}
		job := s.create(fetched{name: "set by a cmdlet", files: []bits.FileSpec{s.file(srv.URL+"/file", "fourth")}, waits: true})
		wrong := strings.Repeat("0", 40)
		for _, c := range []struct{ args, says string }{
			{"-CertHash " + shown.SHA1, "there are no certificate stores here (ERROR_FILE_NOT_FOUND 0x80070002)\nhint: give the path of a PEM or PKCS#12 file"},
			{"-CertStoreLocation CurrentUser -CertStoreName My -CertHash " + shown.SHA1, "there are no certificate stores here, and no file My (ERROR_FILE_NOT_FOUND 0x80070002)\nhint: give the path of a PEM or PKCS#12 file"},
			{"-CertStoreLocation Nowhere -CertStoreName " + me.pem + " -CertHash " + shown.SHA1, "0x80004001"},
			{"-CertStoreLocation LocalMachine -CertStoreName " + me.pem + " -CertHash " + wrong, "0x80092004"},
		} {
			for _, args := range [][]string{{"Start-BitsTransfer", srv.URL + "/file", to + "no"}, {"Set-BitsTransfer", job.ID.String()}} {
				if r := s.cli(append(args, strings.Fields(c.args)...)...); r.code == 0 || !strings.Contains(r.err, c.says) {
					t.Errorf("%s %s: %d %s", args[0], c.args, r.code, r.err)
				}
			}
		}
		s.cli("Set-BitsTransfer", job.ID.String(), "-CertStoreLocation", "LocalMachine", "-CertStoreName", me.pem, "-CertHash", strings.ToUpper(shown.SHA1)).want(t, 0)
		if c, err := job.Certificate(s.ctx()); err != nil || c.Fingerprint != shown.Fingerprint {
			t.Errorf("it has %+v, %v", c, err)
		}
	})
}

// nowhere checks that a secret is in no file of the service's.
func nowhere(t *testing.T, s *service, secret []byte) {
	t.Helper()
	check := func(path string) {
		if b, err := os.ReadFile(path); err != nil {
			t.Error(err)
		} else if bytes.Contains(b, secret) {
			t.Errorf("%s has the secret", path)
		}
	}
	check(s.log)
	err := filepath.WalkDir(s.state, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			check(path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func failsWith(err error, want bits.Code) bool {
	var e *bits.Error
	return errors.As(err, &e) && e.Code == want
}

// TestServerCertificateCallback: a program of the owner's judges servers that the machine trusts.
func TestServerCertificateCallback(t *testing.T) {
	t.Parallel()
	srv, err := servers.Nginx(contentDir(t), servers.Options{TLS: true, AccessLog: true})
	srv = real(t, srv, err)
	s := start(t, options{env: trusting(t)})
	yes := true
	judged := func(name string) *client.Job {
		t.Helper()
		delay := int64(5)
		return s.create(fetched{name: name, files: []bits.FileSpec{s.file(srv.URL+"/file", name)},
			settings: bits.Settings{MinimumRetryDelay: &delay, Options: bits.Options{VerifyCertificates: &yes}}})
	}
	job := judged("nobody answers")
	info := s.untilState(job, bits.TransientError)
	if info.Error.Code != bits.ServerCertAnswerRequired.Name() || info.Error.HResult != "0x80200074" || info.Error.Context != bits.ContextServerCertificateCallback {
		t.Fatalf("without an answer: %+v", info.Error)
	}
	if requests, err := srv.Requests(); err != nil || len(requests) > 0 {
		t.Fatalf("the server was asked for %v, %v", requests, err)
	}
	if err := job.Set(s.ctx(), bits.Settings{Options: bits.Options{VerifyCertificates: &yes}}); !failsWith(err, bits.ReadOnlyWhenJobActive) {
		t.Errorf("set while it is active: %v", err)
	}

	// A program that refuses, then one that trusts: each question comes once.
	ask := func(jobs []bits.ID, trust func(bits.CertificateQuestion) error) (stop func()) {
		ctx, cancel := context.WithCancel(s.ctx())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.VerifyCertificates(ctx, jobs, func(_ context.Context, q bits.CertificateQuestion) error { return trust(q) })
		}()
		return func() { cancel(); <-ended }
	}
	const odd = bits.Code(0x8004ABCD)
	stop := ask(nil, func(q bits.CertificateQuestion) error {
		c, err := x509.ParseCertificate(q.Chain[0])
		if err != nil || q.Job != job.ID || !strings.HasPrefix(srv.URL, "https://"+q.Addr) || q.URL != srv.URL+"/file" || c.VerifyHostname("127.0.0.1") != nil {
			t.Errorf("the question is %+v, %v", q, err)
		}
		return &bits.Error{Code: odd, Message: "not today"}
	})
	info = s.until(job, "refused", func(j *bits.Job) bool { return j.Error != nil && j.Error.HResult == odd.Hex() })
	if info.State != bits.TransientError || info.Error.Context != bits.ContextServerCertificateCallback || !strings.Contains(info.Error.Message, "not today") {
		t.Errorf("refused: %s %+v", info.State, info.Error)
	}
	stop()
	var asked atomic.Int32
	stop = ask([]bits.ID{job.ID}, func(bits.CertificateQuestion) error { asked.Add(1); return nil })
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	s.settled(job, bits.Transferred)
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times, want 1", n)
	}

	// What was trusted is not asked again, though it is a new connection, until the property is set again.
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := job.AddFiles(s.ctx(), s.file(srv.URL+"/file?2", "again")); err != nil {
		t.Fatal(err)
	}
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	if info = s.settled(job, bits.Transferred); info.Files[1].BytesTransferred != 300_000 {
		t.Errorf("the second file is %+v", info.Files[1])
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times in all, want 1", n)
	}
	stop()
	if err := job.Suspend(s.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := job.Set(s.ctx(), bits.Settings{Options: bits.Options{VerifyCertificates: &yes}}); err != nil {
		t.Fatal(err)
	}
	if err := job.AddFiles(s.ctx(), s.file(srv.URL+"/file?3", "third")); err != nil {
		t.Fatal(err)
	}
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	s.until(job, "asking again", func(j *bits.Job) bool {
		return j.State == bits.TransientError && j.Error.Code == bits.ServerCertAnswerRequired.Name()
	})

	// A program that comes late is asked at once, not after the retry delay.
	stop = ask(nil, func(bits.CertificateQuestion) error { return nil })
	defer stop()
	s.settled(job, bits.Transferred)
}
