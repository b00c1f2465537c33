package clientcert_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/clientcert"
)

// made is a certificate of its own for a test.
type made struct{ cert *x509.Certificate }

func makeSelf(t testing.TB, key, public any, name string) made {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Acme"}}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made{c}
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestFiles(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der := func(key any) []byte {
		t.Helper()
		b, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	alice, authority := signed(t, ec, "alice"), signed(t, rs, "authority")
	own, other := block("CERTIFICATE", alice.cert.Raw), block("CERTIFICATE", authority.cert.Raw)
	sealed, err := pkcs12.Modern.Encode(ec, alice.cert, []*x509.Certificate{authority.cert}, "secret")
	if err != nil {
		t.Fatal(err)
	}
	open, err := pkcs12.Legacy.Encode(ec, alice.cert, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file, password string
		chain                int
		want                 bits.Code
	}{
		{"PEM, PKCS#8", own + block("PRIVATE KEY", der(ec)), "", 1, bits.OK},
		{"PEM, SEC 1, key first", block("EC PRIVATE KEY", sec1) + own, "", 1, bits.OK},
		{"PEM, PKCS#1", other + block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rs)), "", 1, bits.OK},
		{"PEM, authority first", other + "words\n" + own + block("PRIVATE KEY", der(ec)), "", 2, bits.OK},
		{"PKCS#12", string(sealed), "secret", 2, bits.OK},
		{"PKCS#12 of old, no password", string(open), "", 1, bits.OK},
		{"PKCS#12, wrong password", string(sealed), "wrong", 0, bits.InvalidPassword},
		{"PKCS#12, no password", string(sealed), "", 0, bits.InvalidPassword},
		{"PKCS#12, cut", string(sealed[:len(sealed)/2]), "secret", 0, bits.CertNotFound},
		{"nothing", "", "", 0, bits.CertNotFound},
		{"no key", own, "", 0, bits.CertNotFound},
		{"no certificate", block("PRIVATE KEY", der(ec)), "", 0, bits.CertNotFound},
		{"another's key", own + block("PRIVATE KEY", der(rs)), "", 0, bits.CertNotFound},
		{"key with a password", own + block("ENCRYPTED PRIVATE KEY", []byte{1}), "", 0, bits.InvalidArg},
		{"damaged certificate", block("CERTIFICATE", []byte{1}) + block("PRIVATE KEY", der(ec)), "", 0, bits.InvalidArg},
		{"damaged key", own + block("PRIVATE KEY", []byte{1}), "", 0, bits.InvalidArg},
		{"too many", strings.Repeat(own, 17) + block("PRIVATE KEY", der(ec)), "", 0, bits.InvalidArg},
		{"too large", own + block("PRIVATE KEY", der(ec)) + strings.Repeat("x", clientcert.MaxSize), "", 0, bits.InvalidArg},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := clientcert.FromFile([]byte(c.file), c.password)
			if got := codeOf(err); got != c.want {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err != nil {
				return
			}
			sealable, shown, err := clientcert.Read(bits.ClientCertificateFile{PEM: text})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(sealable, []byte(text)) {
				t.Error("what is read is not what was made")
			}
			cert, err := clientcert.Open(sealable)
			if err != nil || len(cert.Certificate) != c.chain {
				t.Fatalf("%d certificates, want %d; %v", len(cert.Certificate), c.chain, err)
			}
			if !strings.Contains(shown.Subject, "CN="+cert.Leaf.Subject.CommonName) || len(shown.Fingerprint) != 64 || len(shown.SHA1) != 40 {
				t.Errorf("shown is %+v", shown)
			}
		})
	}
	text := own + block("PRIVATE KEY", der(ec))
	_, shown, err := clientcert.Read(bits.ClientCertificateFile{PEM: text})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sha1, subject string
		want          bits.Code
	}{
		{shown.SHA1, "", bits.OK},
		{strings.ToUpper(shown.SHA1[:2]) + " " + shown.SHA1[2:], "", bits.OK},
		{strings.Repeat("0", 40), "", bits.CertNotFound},
		{"", "ALI", bits.OK},
		{"", "cn=alice, o=acme", bits.OK},
		{"", "O=Acme,CN=alice", bits.OK},
		{"", "bob", bits.CertNotFound},
		{"", strings.Repeat("a", 257), bits.StringTooLong},
	} {
		_, _, err := clientcert.Read(bits.ClientCertificateFile{PEM: text, SHA1: c.sha1, Subject: c.subject})
		if got := codeOf(err); got != c.want {
			t.Errorf("%q %q: %v, want %v", c.sha1, c.subject, err, c.want)
		}
	}
}

func signed(t testing.TB, key any, name string) made {
	t.Helper()
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return makeSelf(t, k, k.Public(), name)
	case *rsa.PrivateKey:
		return makeSelf(t, k, k.Public(), name)
	}
	panic("no such key")
}

func codeOf(err error) bits.Code {
	var e *bits.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return bits.Unexpected
	}
	return bits.OK
}

func FuzzRead(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(block("CERTIFICATE", signed(f, key, "fuzz").cert.Raw)+block("PRIVATE KEY", der), "fuzz")
	f.Add("-----BEGIN ", "")
	f.Fuzz(func(t *testing.T, text, subject string) {
		sealable, shown, err := clientcert.Read(bits.ClientCertificateFile{PEM: text, Subject: subject})
		if err != nil {
			if codeOf(err) == bits.Unexpected {
				t.Error(err)
			}
			return
		}
		if _, err := clientcert.Open(sealable); err != nil || shown == nil {
			t.Errorf("what was accepted cannot be used: %v", err)
		}
	})
}
