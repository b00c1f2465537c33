package httpconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// config returns how TLS is spoken to the server of a URL, to which protos may be spoken.
func (a *Access) config(ctx context.Context, u *url.URL, protos ...string) *tls.Config {
	host, addr := u.Hostname(), net.JoinHostPort(u.Hostname(), port(u))
	version, _ := tlsVersion(a.set.MinVersion) // Open read it
	cfg := &tls.Config{ServerName: host, MinVersion: version, NextProtos: protos}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if a.set.Certifies != nil {
			return a.set.Certifies, nil
		}
		a.c.noteAsked(addr)
		return new(tls.Certificate), nil
	}
	if a.set.Security&tlsFlags != 0 || len(a.set.Pins) > 0 || a.set.Verify != nil {
		cfg.InsecureSkipVerify = true // VerifyConnection does it
		cfg.VerifyConnection = func(cs tls.ConnectionState) error {
			return a.verify(ctx, cs, u, addr)
		}
	}
	return cfg
}

// verify judges a server's certificates: as crypto/tls does but for what the job's flags ignore,
// then its pins, revocation, and the owner's own judgement (client.md 7.7).
func (a *Access) verify(ctx context.Context, cs tls.ConnectionState, u *url.URL, addr string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("tls: the server has no certificate")
	}
	flags, leaf := a.set.Security, cs.PeerCertificates[0]
	chains, trusted, err := build(cs.PeerCertificates, flags)
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
	}
	if flags&bits.SecurityIgnoreName == 0 {
		if err := leaf.VerifyHostname(u.Hostname()); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
		}
	}
	if len(a.set.Pins) > 0 && !slices.ContainsFunc(chains, a.pinned) {
		e := bits.Errorf(bits.SecureFailure, "the certificate of %s has none of the public keys that the job wants; the server's own is %s", addr, pin(leaf.RawSubjectPublicKeyInfo))
		e.Context = bits.ContextGeneralTransport
		return e
	}
	if flags&bits.SecurityCRLCheck != 0 {
		if err := a.unrevoked(ctx, cs, chains, trusted, addr); err != nil {
			return err
		}
	}
	if a.set.Verify == nil {
		return nil
	}
	s := Server{URL: u.String(), Addr: addr}
	for _, c := range cs.PeerCertificates {
		s.Chain = append(s.Chain, c.Raw)
	}
	return a.set.Verify(ctx, s)
}

// pinned reports whether a chain has a public key that the job wants.
func (a *Access) pinned(chain []*x509.Certificate) bool {
	return slices.ContainsFunc(chain, func(c *x509.Certificate) bool {
		p := pin(c.RawSubjectPublicKeyInfo)
		return slices.ContainsFunc(a.set.Pins, func(want string) bool { return samePin(p, want) })
	})
}

// build returns the chains of certificates from a server's to an authority that this machine
// trusts. If there is none and flags say that it does not matter, what it returns is the server's
// certificate alone, since nothing proves the rest, and trusted is false.
func build(certs []*x509.Certificate, flags bits.SecurityFlags) (chains [][]*x509.Certificate, trusted bool, err error) {
	opts := x509.VerifyOptions{Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, c := range certs[1:] {
		opts.Intermediates.AddCert(c)
	}
	if flags&bits.SecurityIgnoreUsage != 0 {
		opts.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	chains, err = buildAt(certs, opts, flags)
	var unknown x509.UnknownAuthorityError
	if err == nil || flags&bits.SecurityIgnoreUnknownCA == 0 || !errors.As(err, &unknown) {
		return chains, err == nil, err
	}
	opts.Roots = x509.NewCertPool()
	opts.Roots.AddCert(certs[0])
	chains, err = buildAt(certs, opts, flags)
	return chains, false, err
}

// buildAt is build at the time that it is or, if flags say that dates do not matter, at one at
// which the certificates are valid.
func buildAt(certs []*x509.Certificate, opts x509.VerifyOptions, flags bits.SecurityFlags) ([][]*x509.Certificate, error) {
	chains, err := certs[0].Verify(opts)
	var invalid x509.CertificateInvalidError
	if err == nil || flags&bits.SecurityIgnoreDate == 0 || !expired(err, &invalid) {
		return chains, err
	}
	last := certs[0].NotAfter // of the chain: when the first of them expires
	for _, c := range certs {
		if c.NotAfter.Before(last) {
			last = c.NotAfter
		}
	}
	for _, t := range []time.Time{last, certs[0].NotAfter, certs[0].NotBefore} {
		opts.CurrentTime = t
		if chains, again := certs[0].Verify(opts); again == nil {
			return chains, nil
		} else if !expired(again, &invalid) {
			err = again
		}
	}
	return nil, err
}

func expired(err error, invalid *x509.CertificateInvalidError) bool {
	return errors.As(err, invalid) && invalid.Reason == x509.Expired
}

// handshake puts TLS over a connection.
func handshake(ctx context.Context, conn net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, tlsHandshakeLimit+verifyPatience(cfg))
	defer cancel()
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, &handshakeError{err}
	}
	return t, nil
}

// handshakeError is why TLS could not be spoken; crypto/tls has no types for most of it.
type handshakeError struct{ error }

func (e *handshakeError) Unwrap() error { return e.error }

// verifyPatience is how much longer a handshake may take in which somebody is asked.
func verifyPatience(cfg *tls.Config) time.Duration {
	if cfg.VerifyConnection == nil {
		return 0
	}
	return VerifyTime
}

// VerifyTime is how long the checks of a certificate that ask somebody, the owner or the publisher
// of a list of what was revoked, may take.
const VerifyTime = 60 * time.Second
