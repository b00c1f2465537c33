package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/ebbtransfer/ebb/internal/serve/certs"
	"github.com/ebbtransfer/ebb/internal/serve/config"
)

// tlsConfig returns how TLS is spoken, nil if it is not. It notes a certificate that is self-signed.
func (s *server) tlsConfig(listeners []listener, started *Started) (*tls.Config, error) {
	var hosts []string
	wanted := false
	for _, l := range listeners {
		if l.tls {
			wanted = true
			hosts = append(hosts, l.host())
		}
	}
	if !wanted {
		return nil, nil
	}
	o := s.TLS
	if !o.On() {
		return nil, errors.New("HTTPS needs a certificate: give --tls-cert and --tls-key, or --self-signed")
	}
	if o.SelfSigned {
		name, err := os.Hostname()
		if err == nil {
			hosts = append(hosts, name)
		}
		if o.Cert, o.Key, err = certs.SelfSigned(s.State, append(hosts, "localhost", "127.0.0.1", "::1")); err != nil {
			return nil, err
		}
	}
	pair, err := certs.Open(o.Cert, o.Key, s.Log)
	if err != nil {
		return nil, err
	}
	if o.SelfSigned {
		c, err := pair.Certificate(nil)
		if err != nil {
			return nil, err
		}
		started.Certificate, started.Fingerprint = o.Cert, certs.Fingerprint(c.Certificate[0])
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.Certificate, NextProtos: []string{"h2", "http/1.1"}}
	if o.ClientCA != "" {
		if t.ClientCAs, err = clientCAs(o.ClientCA); err != nil {
			return nil, err
		}
		t.ClientAuth = tls.VerifyClientCertIfGiven
		if o.ClientRequired {
			t.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return t, nil
}

// clientCAs reads who may sign the certificates of clients.
func clientCAs(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("there is no certificate in %s", file)
	}
	return pool, nil
}

// Check says what a server with a configuration would lack of the files that it names: the directories
// of its groups, and certificates. It starts nothing and asks nobody. The error joins all that it finds.
func Check(c config.Config) error {
	var missing []error
	for _, g := range c.Groups {
		if g.Dir == "" {
			continue
		}
		if st, err := os.Stat(g.Dir); err != nil {
			missing = append(missing, fmt.Errorf("the group %s: %w", g.Path, err))
		} else if !st.IsDir() {
			missing = append(missing, fmt.Errorf("the group %s: %s is not a directory", g.Path, g.Dir))
		}
	}
	if c.TLS.Cert != "" {
		if _, err := certs.Open(c.TLS.Cert, c.TLS.Key, slog.New(slog.DiscardHandler)); err != nil {
			missing = append(missing, fmt.Errorf("tls: %w", err))
		}
	}
	if c.TLS.ClientCA != "" {
		if _, err := clientCAs(c.TLS.ClientCA); err != nil {
			missing = append(missing, fmt.Errorf("tls: client_ca: %w", err))
		}
	}
	if c.BranchCache.On && c.BranchCache.Secret != "" {
		if _, err := ReadSecret(c.BranchCache.Secret); err != nil {
			missing = append(missing, fmt.Errorf("branchcache: %w", err))
		}
	}
	return errors.Join(missing...)
}
