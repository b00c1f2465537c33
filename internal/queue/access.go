package queue

import (
	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

// access returns how the requests of a job reach servers.
func (q *Queue) access(v *version, known secrets) httpconn.Settings {
	s := httpconn.Settings{Job: v.rec.ID, Owner: v.rec.UID, Identity: known.agent}
	o := v.detail().Options
	if o == nil {
		return s
	}
	p := o.Properties()
	s.Proxy, s.Security, s.MinVersion, s.Pins = p.Proxy, p.SecurityFlags, p.TLSMinVersion, p.TLSPins
	if v.rec.Type == bits.Download {
		s.Method = p.HTTPMethod
	} else { // redirects of uploads are the protocols' to judge (client.md 2.8)
		s.Security &^= bits.SecurityRedirectMask | bits.SecurityRedirectInsecure
	}
	return s
}
