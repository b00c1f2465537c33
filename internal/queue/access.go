package queue

import (
	"context"

	"github.com/ebbtransfer/ebb/bits"
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
