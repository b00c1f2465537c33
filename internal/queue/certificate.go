package queue

import (
	"crypto/tls"
	"slices"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/clientcert"
	"github.com/ebbtransfer/ebb/internal/store"
)

// secretCertificate is the kind of a job's client certificate with its key, as PEM.
const secretCertificate = "certificate"

// SetCertificate gives a job a client certificate, in the place of the one that it had. A transfer
// that is under way goes on with what it has.
func (q *Queue) SetCertificate(c Caller, id bits.ID, f bits.ClientCertificateFile) (*bits.ClientCertificate, error) {
	text, shown, err := clientcert.Read(f)
	if err != nil {
		return nil, err
	}
	_, err = q.editSecrets(c, id, "client certificate", []any{"subject", shown.Subject, "done", "set"}, func(v *version, d *store.Detail) (bits.Code, error) {
		q.putSecret(v.rec.ID, d, store.Secret{Kind: secretCertificate}, text)
		d.ClientCertificate = shown
		return bits.OK, nil
	})
	return shown, err
}

// RemoveCertificate takes the client certificate from a job. The code is S_FALSE if it had none.
func (q *Queue) RemoveCertificate(c Caller, id bits.ID) (bits.Code, error) {
	return q.editSecrets(c, id, "client certificate", []any{"done", "removed"}, func(_ *version, d *store.Detail) (bits.Code, error) {
		if !dropSecret(d, store.Secret{Kind: secretCertificate}) {
			return bits.False, nil
		}
		d.ClientCertificate = nil
		return bits.OK, nil
	})
}

// Certificate returns what may be shown of a job's client certificate; BadStubData if it has none.
func (q *Queue) Certificate(c Caller, id bits.ID) (*bits.ClientCertificate, error) {
	v, err := q.look(c, id)
	if err != nil {
		return nil, err
	}
	if shown := v.detail().ClientCertificate; shown != nil {
		return shown, nil
	}
	return nil, &bits.Error{Code: bits.BadStubData}
}

// certificate opens a job's client certificate; nil if it has none. Its error is of type *bits.Error.
func (q *Queue) certificate(id bits.ID, d *store.Detail) (*tls.Certificate, error) {
	i := slices.IndexFunc(d.Secrets, func(s store.Secret) bool { return s.Kind == secretCertificate })
	if i < 0 {
		return nil, nil
	}
	text, err := q.openSecret(id, &d.Secrets[i])
	if err != nil {
		return nil, err
	}
	cert, err := clientcert.Open(text)
	if err != nil {
		return nil, bits.Errorf(bits.InvalidCredentials, "the job's client certificate is damaged; set it again")
	}
	return cert, nil
}
