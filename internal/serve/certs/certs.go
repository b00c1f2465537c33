// Package certs keeps the certificates of a TLS listener: those in files, which it reads again
// when they change, and one of its own making for a start.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// lookEvery is how often a handshake looks whether the files changed.
const lookEvery = time.Second

// Files is a certificate and its key in PEM files.
type Files struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex // guards what follows
	pair   *tls.Certificate
	seen   [2]seen
	looked time.Time
}

// seen is how a file was when it was read.
type seen struct {
	size int64
	time time.Time
}

// Open reads the files.
func Open(cert, key string, log *slog.Logger) (*Files, error) {
	f := &Files{cert: cert, key: key, log: log}
	f.look()
	if f.pair == nil {
		_, err := tls.LoadX509KeyPair(cert, key)
		if err == nil {
			err = errors.New("they changed while they were read")
		}
		return nil, fmt.Errorf("the certificate %s and its key %s: %w", cert, key, err)
	}
	return f, nil
}

// Certificate is for tls.Config's GetCertificate. A pair that does not fit, as while one of two
// files is replaced, does not displace the one that does.
func (f *Files) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) >= lookEvery {
		f.look()
	}
	return f.pair, nil
}

// look reads the files if they changed.
func (f *Files) look() {
	f.looked = time.Now()
	var now [2]seen
	for i, name := range []string{f.cert, f.key} {
		st, err := os.Stat(name)
		if err != nil {
			return // being replaced, or gone; what is known stays good
		}
		now[i] = seen{st.Size(), st.ModTime()}
	}
	if now == f.seen {
		return
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		if f.pair != nil {
			f.log.Error("the changed certificate cannot be used; the one before stays", "cert", f.cert, "err", err)
			f.seen = now // said once is enough
		}
		return
	}
	if f.pair != nil {
		f.log.Info("certificate reloaded", "cert", f.cert, "fingerprint", Fingerprint(pair.Certificate[0]))
	}
	f.pair, f.seen = &pair, now
}

// Fingerprint returns the SHA-256 of a certificate as browsers and openssl show it.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

// Of a certificate of our own making: how long it holds, and how long before its end it is
// replaced. Clients know it by its fingerprint, so it should last.
const (
	selfLife  = 5 * 365 * 24 * time.Hour
	selfRenew = 30 * 24 * time.Hour
)

// SelfSigned returns the files of a certificate that is signed by itself, for the host names and
// addresses that are given. It stays the same from one start to the next.
func SelfSigned(dir string, hosts []string) (cert, key string, err error) {
	cert, key = filepath.Join(dir, "self-signed.pem"), filepath.Join(dir, "self-signed.key")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err == nil && covers(pair.Leaf, hosts) && time.Until(pair.Leaf.NotAfter) > selfRenew {
		return cert, key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("the certificate of our own %s: %w", cert, err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return "", "", err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "ebb serve"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(selfLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	// The certificate goes last: without it, the next start makes both anew.
	_ = os.Remove(cert)
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600); err != nil {
		return "", "", err
	}
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return "", "", err
	}
	return cert, key, nil
}

// covers reports whether a certificate is good for all hosts.
func covers(c *x509.Certificate, hosts []string) bool {
	for _, h := range hosts {
		if c.VerifyHostname(h) != nil {
			return false
		}
	}
	return true
}
