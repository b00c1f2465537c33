// Package clientcert reads the certificates, with their keys, that jobs show to servers: PEM and
// PKCS#12 files as people have them, and the one form in which the service takes and seals them.
package clientcert

import (
	"bytes"
	"crypto"
	"crypto/sha1" //nolint:gosec // the name by which Windows knows a certificate, not a proof of it
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ebbtransfer/ebb/bits"
)

const (
	// MaxSize bounds what a certificate, its key and its chain have as PEM, in bytes.
	MaxSize = 32 << 10
	// MaxSubject bounds a subject that is looked for, in characters (client.md 0.4).
	MaxSubject = 256

	maxChain = 16
)

// FromFile makes PEM, with the key unprotected, of what a file has: PEM, or PKCS#12 with a password,
// which may be empty. It runs with the rights and on the time of who has the file, since a PKCS#12
// file says itself how much work it is to open. Its errors, of type *bits.Error, are
// InvalidPassword, CertNotFound and InvalidArg.
func FromFile(data []byte, password string) (string, error) {
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		text, _, err := normal(data)
		return string(text), err
	}
	key, leaf, chain, err := pkcs12.DecodeChain(data, password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return "", bits.Errorf(bits.InvalidPassword, "the password does not open the file")
	case err != nil:
		return "", bits.Errorf(bits.CertNotFound, "the file has no certificate and key that can be read, neither as PEM nor as PKCS#12: %v", err)
	}
	text, err := encode(key, append([]*x509.Certificate{leaf}, chain...))
	return string(text), err
}

// Read checks what a job is given and returns it as it is sealed, and what may be shown of it. Its
// errors, of type *bits.Error, are CertNotFound, StringTooLong and InvalidArg.
func Read(f bits.ClientCertificateFile) ([]byte, *bits.ClientCertificate, error) {
	if n := len([]rune(f.Subject)); n > MaxSubject {
		return nil, nil, bits.Errorf(bits.StringTooLong, "the subject has %d characters; %d are allowed", n, MaxSubject)
	}
	text, leaf, err := normal([]byte(f.PEM))
	if err != nil {
		return nil, nil, err
	}
	long, short := sha256.Sum256(leaf.Raw), sha1.Sum(leaf.Raw) //nolint:gosec // see the import
	c := &bits.ClientCertificate{Subject: leaf.Subject.String(), Fingerprint: hex.EncodeToString(long[:]), SHA1: hex.EncodeToString(short[:])}
	if want := strings.NewReplacer(" ", "", ":", "").Replace(f.SHA1); want != "" && !strings.EqualFold(want, c.SHA1) {
		return nil, nil, bits.Errorf(bits.CertNotFound, "the certificate has the SHA-1 hash %s, not %s", c.SHA1, want)
	}
	if f.Subject != "" && !hasSubject(c.Subject, f.Subject) {
		return nil, nil, bits.Errorf(bits.CertNotFound, "the certificate's subject %s has no %q in it", c.Subject, f.Subject)
	}
	return text, c, nil
}

// Open returns the certificate that Read returned.
func Open(text []byte) (*tls.Certificate, error) {
	c, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// hasSubject looks for a text in a subject, whose parts may be named in either order.
func hasSubject(subject, want string) bool {
	plain := func(parts []string) string {
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		return strings.ToLower(strings.Join(parts, ","))
	}
	parts := strings.Split(subject, ",")
	w := plain(strings.Split(want, ","))
	if strings.Contains(plain(parts), w) {
		return true
	}
	slices.Reverse(parts)
	return strings.Contains(plain(parts), w)
}

// normal reads PEM and writes it again: the key's certificate, those of its authorities, the key.
func normal(data []byte) ([]byte, *x509.Certificate, error) {
	if len(data) > MaxSize {
		return nil, nil, bits.Errorf(bits.InvalidArg, "the certificate and its key have %d bytes; %d are allowed", len(data), MaxSize)
	}
	var (
		key   crypto.PrivateKey
		certs []*x509.Certificate
	)
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, bits.Errorf(bits.InvalidArg, "a certificate cannot be read: %v", err)
			}
			if certs = append(certs, c); len(certs) > maxChain {
				return nil, nil, bits.Errorf(bits.InvalidArg, "there are more than %d certificates", maxChain)
			}
		case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["DEK-Info"] != "":
			return nil, nil, bits.Errorf(bits.InvalidArg, "the key in the PEM file has a password; make a PKCS#12 file of both with `openssl pkcs12 -export`, and give that")
		case strings.HasSuffix(block.Type, "PRIVATE KEY") && key == nil:
			var err error
			if key, err = parseKey(block.Bytes); err != nil {
				return nil, nil, bits.Errorf(bits.InvalidArg, "the private key cannot be read")
			}
		}
	}
	switch {
	case len(certs) == 0:
		return nil, nil, bits.Errorf(bits.CertNotFound, "there is no certificate in what was given")
	case key == nil:
		return nil, nil, bits.Errorf(bits.CertNotFound, "there is no private key beside the certificate")
	}
	own := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return fits(key, c) })
	if own < 0 {
		return nil, nil, bits.Errorf(bits.CertNotFound, "none of the certificates is that of the private key")
	}
	certs[0], certs[own] = certs[own], certs[0]
	text, err := encode(key, certs)
	return text, certs[0], err
}

// parseKey reads a private key in any of the forms that are in use.
func parseKey(der []byte) (crypto.PrivateKey, error) {
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	return x509.ParseECPrivateKey(der)
}

// fits reports whether a key is that of a certificate.
func fits(key crypto.PrivateKey, c *x509.Certificate) bool {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return false
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(c.PublicKey)
}

func encode(key crypto.PrivateKey, certs []*x509.Certificate) ([]byte, error) {
	var text bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // never fails
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, bits.Errorf(bits.InvalidArg, "the private key is of a kind that TLS does not use")
	}
	_ = pem.Encode(&text, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if text.Len() > MaxSize {
		return nil, bits.Errorf(bits.InvalidArg, "the certificate and its key have %d bytes; %d are allowed", text.Len(), MaxSize)
	}
	return text.Bytes(), nil
}
