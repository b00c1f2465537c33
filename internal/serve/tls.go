package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/ebbtransfer/ebb/internal/serve/certs"
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
		pem, err := os.ReadFile(o.ClientCA)
		if err != nil {
			return nil, err
		}
		t.ClientCAs = x509.NewCertPool()
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("there is no certificate in %s", o.ClientCA)
		}
		t.ClientAuth = tls.VerifyClientCertIfGiven
		if o.ClientRequired {
			t.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return t, nil
}
