package queue

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer"
	"github.com/ebbtransfer/ebb/internal/transfer/auth"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

// access returns how the requests of a job reach servers.
func (q *Queue) access(v *version, known secrets) httpconn.Settings {
	s := httpconn.Settings{Job: v.rec.ID, Owner: v.rec.UID, Identity: known.agent, Certifies: known.cert}
	o := v.detail().Options
	if o == nil {
		return s
	}
	p := o.Properties()
	if p.VerifyCertificates {
		id := v.rec.ID
		s.Verify = func(ctx context.Context, srv httpconn.Server) error { return q.verify(ctx, id, srv) }
	}
	s.Proxy, s.Security, s.MinVersion, s.Pins = p.Proxy, p.SecurityFlags, p.TLSMinVersion, p.TLSPins
	if v.rec.Type == bits.Download {
		s.Method = p.HTTPMethod
	} else { // redirects of uploads are the protocols' to judge (client.md 2.8)
		s.Security &^= bits.SecurityRedirectMask | bits.SecurityRedirectInsecure
	}
	return s
}

// identity returns what decides, besides the URL, about what a server answers to a job: jobs of one
// owner that send the same, the same way, may share what they get. It is zero, so that a job shares
// nothing, where a program of its owner judges each server.
func identity(v *version, known secrets) transfer.Identity {
	p := v.detail().Options.Properties()
	if p.VerifyCertificates {
		return transfer.Identity{}
	}
	who := struct {
		Owner    uint32
		Header   http.Header
		Logins   []auth.Credential
		Cert     [][]byte
		Proxy    bits.ProxySettings
		Security bits.SecurityFlags
		TLS      string
		Pins     []string
		Method   string
	}{v.rec.UID, known.header, known.logins, nil, p.Proxy, p.SecurityFlags, p.TLSMinVersion, p.TLSPins, p.HTTPMethod}
	if known.cert != nil {
		who.Cert = known.cert.Certificate
	}
	return sha256.Sum256(fmt.Appendf(nil, "%#v", who))
}
