package httpconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/ebbtransfer/ebb/bits"
)

const (
	maxCRL     = 32 << 20         // bytes of a list of revoked certificates
	crlTimeout = 20 * time.Second // to fetch one
	maxCRLs    = 32               // lists that are kept
	maxCRLAge  = 24 * time.Hour   // of a list that is kept, however long it is valid
)

// unrevoked checks that none of a server's certificates was revoked: by the server's own proof for
// its certificate (stapled OCSP), else by the lists that the certificates name. That it cannot be
// known is an error too (client.md 2.8).
func (a *Access) unrevoked(ctx context.Context, cs tls.ConnectionState, chains [][]*x509.Certificate, trusted bool, addr string) error {
	fail := func(code bits.Code, format string, args ...any) error {
		e := bits.Errorf(code, format, args...)
		e.Context = bits.ContextGeneralTransport
		return e
	}
	if !trusted || len(chains) == 0 {
		return fail(bits.CertRevocationFailed, "whether the certificate of %s was revoked cannot be known: its authority is unknown", addr)
	}
	chain := chains[0]
	for i, cert := range chain[:len(chain)-1] {
		issuer := chain[i+1]
		if i == 0 && len(cs.OCSPResponse) > 0 {
			r, err := ocsp.ParseResponseForCert(cs.OCSPResponse, cert, issuer)
			switch {
			case err == nil && r.Status == ocsp.Revoked:
				return fail(bits.CertRevoked, "the certificate of %s was revoked at %s", addr, r.RevokedAt.UTC().Format(time.RFC3339))
			case err == nil && r.Status == ocsp.Good && time.Now().Before(r.NextUpdate):
				continue
			}
		}
		list, err := a.crl(ctx, cert, issuer)
		if err != nil {
			return fail(bits.CertRevocationFailed, "whether the certificate of %s was revoked cannot be known: %v", addr, err)
		}
		for _, r := range list.RevokedCertificateEntries {
			if r.SerialNumber.Cmp(cert.SerialNumber) == 0 && r.ReasonCode != removeFromCRL {
				return fail(bits.CertRevoked, "the certificate of %s, or of an authority behind it, was revoked at %s", addr, r.RevocationTime.UTC().Format(time.RFC3339))
			}
		}
	}
	return nil
}

// removeFromCRL is the reason of an entry that takes an earlier one back (RFC 5280 5.3.1).
const removeFromCRL = 8

// crl returns the list on which a certificate would be, signed by its issuer and up to date.
func (a *Access) crl(ctx context.Context, cert, issuer *x509.Certificate) (*x509.RevocationList, error) {
	if len(cert.CRLDistributionPoints) == 0 {
		return nil, fmt.Errorf("%s names no list", cert.Subject)
	}
	var errs []error
	for _, u := range cert.CRLDistributionPoints {
		list, err := a.c.crls.get(u, issuer, func() ([]byte, error) { return a.fetchCRL(ctx, u) })
		if err == nil {
			return list, nil
		}
		errs = append(errs, fmt.Errorf("%.200s: %w", u, err))
	}
	return nil, errors.Join(errs...)
}

// fetchCRL reads a list. It is signed, so it needs no TLS, which would need a list in turn.
func (a *Access) fetchCRL(ctx context.Context, u string) ([]byte, error) {
	if !strings.HasPrefix(u, "http://") {
		return nil, errors.New("it is not at an http URL")
	}
	// The request is none of the job's: whoever follows the job's requests must not hear of it.
	// Nor does it say who the owner is: it goes, in clear, where a certificate of any server says.
	own, cancel := context.WithTimeout(OnBehalf(a.With(context.Background()), ""), crlTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	own = OnRedirect(own, func(_, to *url.URL) error {
		if to.Scheme != "http" {
			return errRedirectScheme
		}
		return nil
	})
	req, err := a.c.Request(own, http.MethodGet, u, nil, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.c.Do(req, 0)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxCRL+1))
	if err == nil && len(b) > maxCRL {
		err = fmt.Errorf("it has more than %d bytes", maxCRL)
	}
	return b, err
}

// crls keeps lists of revoked certificates for as long as they are valid.
type crls struct {
	mu    sync.Mutex
	lists map[string]*keptCRL // guarded by mu, by URL
}

type keptCRL struct {
	list  *x509.RevocationList
	until time.Time
}

// get returns the list at u, which must be signed by issuer.
func (k *crls) get(u string, issuer *x509.Certificate, fetch func() ([]byte, error)) (*x509.RevocationList, error) {
	now := time.Now()
	k.mu.Lock()
	kept := k.lists[u]
	k.mu.Unlock()
	if kept != nil && now.Before(kept.until) && kept.list.CheckSignatureFrom(issuer) == nil {
		return kept.list, nil
	}
	b, err := fetch()
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(b)
	if err != nil {
		return nil, err
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return nil, err
	}
	until := now.Add(maxCRLAge)
	if list.NextUpdate.Before(until) {
		until = list.NextUpdate
	}
	if !until.After(now) {
		return nil, fmt.Errorf("it is out of date since %s", list.NextUpdate.UTC().Format(time.RFC3339))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for old, l := range k.lists {
		if now.After(l.until) || len(k.lists) >= maxCRLs {
			delete(k.lists, old)
		}
	}
	k.lists[u] = &keptCRL{list, until}
	return list, nil
}
