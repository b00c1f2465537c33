package faultserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Certificate is what a server shows in the TLS handshake.
type Certificate int

// Certificates.
const (
	// NoTLS is a server without TLS.
	NoTLS Certificate = iota
	// Valid is signed by the CA of CAFile, for 127.0.0.1, 127.0.0.2, ::1 and localhost.
	Valid
	// Expired was valid until an hour ago.
	Expired
	// WrongName is for another host.
	WrongName
	// Untrusted is signed by a CA that nobody trusts.
	Untrusted
)

// authority signs certificates.
type authority struct {
	der  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// The process has one CA that is trusted and one that is not, so that one CA file serves a test
// with several servers.
var (
	trusted   = sync.OnceValues(func() (*authority, error) { return newAuthority("Ebb test CA") })
	untrusted = sync.OnceValues(func() (*authority, error) { return newAuthority("CA that nobody trusts") })
)

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{der: der, cert: cert, key: key}, nil
}

// issue makes a server certificate of the given kind; Valid ones are for more addresses, too.
func issue(kind Certificate, more ...net.IP) (tls.Certificate, error) {
	signer := trusted
	if kind == Untrusted {
		signer = untrusted
	}
	ca, err := signer()
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: append([]net.IP{{127, 0, 0, 1}, {127, 0, 0, 2}, net.IPv6loopback}, more...),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	switch kind {
	case Valid, Untrusted:
	case Expired:
		template.NotAfter = time.Now().Add(-time.Hour)
	case WrongName:
		template.DNSNames, template.IPAddresses = []string{"elsewhere.example"}, nil
	default:
		return tls.Certificate{}, fmt.Errorf("no such certificate: %d", kind)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// CAFile writes the CA of every Valid, Expired and WrongName certificate of this process to
// dir/ca.pem and returns that name.
func CAFile(dir string) (string, error) {
	ca, err := trusted()
	if err != nil {
		return "", fmt.Errorf("make the test CA: %w", err)
	}
	name := filepath.Join(dir, "ca.pem")
	return name, writePEM(name, "CERTIFICATE", ca.der)
}

// CAPool returns the same CA for a tls.Config.
func CAPool() (*x509.CertPool, error) {
	ca, err := trusted()
	if err != nil {
		return nil, fmt.Errorf("make the test CA: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool, nil
}

// WriteCertificate writes a certificate of the given kind and its key to dir/cert.pem and
// dir/key.pem, for servers that read them from files. A Valid one is for more addresses, too.
func WriteCertificate(dir string, kind Certificate, more ...net.IP) (certFile, keyFile string, err error) {
	cert, err := issue(kind, more...)
	if err != nil {
		return "", "", fmt.Errorf("make a test certificate: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return "", "", fmt.Errorf("make a test certificate: %w", err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := writePEM(certFile, "CERTIFICATE", cert.Certificate[0]); err != nil {
		return "", "", err
	}
	return certFile, keyFile, writePEM(keyFile, "PRIVATE KEY", key)
}

func writePEM(name, kind string, der []byte) error {
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
