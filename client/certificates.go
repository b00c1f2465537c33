package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/clientcert"
)

// ReadCertificate makes what SetCertificate takes of the bytes of a file that has a certificate and
// its key: PEM, or PKCS#12 with a password, which may be empty. Its errors, of type *bits.Error, are
// InvalidPassword, CertNotFound and InvalidArg.
func ReadCertificate(data []byte, password string) (bits.ClientCertificateFile, error) {
	text, err := clientcert.FromFile(data, password)
	return bits.ClientCertificateFile{PEM: text}, err
}

// SetCertificate gives the job a certificate for servers that ask for one, in the place of the one
// that it had (SetClientCertificateByID and ByName), and returns what is shown of it. It is the
// owner's call only. A job that failed with ClientCertNeeded goes on with it after Resume.
func (j *Job) SetCertificate(ctx context.Context, f bits.ClientCertificateFile) (*bits.ClientCertificate, error) {
	var shown bits.ClientCertificate
	if err := j.m.call(ctx, "PUT", j.path("/certificate"), f, &shown); err != nil {
		return nil, err
	}
	return &shown, nil
}

// RemoveCertificate takes the certificate from the job (RemoveClientCertificate). It reports whether
// there was one; it is the owner's call only.
func (j *Job) RemoveCertificate(ctx context.Context) (bool, error) {
	var out bits.Outcome
	err := j.m.call(ctx, "DELETE", j.path("/certificate"), nil, &out)
	return err == nil && out.Code == bits.OK.Name(), err
}

// Certificate returns what is shown of the job's certificate (GetClientCertificate); BadStubData if
// it has none.
func (j *Job) Certificate(ctx context.Context) (*bits.ClientCertificate, error) {
	var shown bits.ClientCertificate
	if err := j.m.call(ctx, "GET", j.path("/certificate"), nil, &shown); err != nil {
		return nil, err
	}
	return &shown, nil
}

// VerifyCertificates answers, until ctx ends, whether servers are to be trusted, for the jobs or, if
// none are named, for all jobs of the caller (SetServerCertificateValidationInterface). Only jobs
// with the property verify_certificates ask; without an answer they wait in TRANSIENT_ERROR with
// ServerCertAnswerRequired. trust returns nil for a server that is trusted, which is not asked about
// again. The code of its error, if that is a *bits.Error, or else AccessDenied is the job's error.
//
// trust may be called from several goroutines at once and has less than a minute. When the service
// goes away VerifyCertificates waits for it to come back. It returns ctx's error, or that of the
// service if it refuses.
func (m *Manager) VerifyCertificates(ctx context.Context, jobs []bits.ID, trust func(context.Context, bits.CertificateQuestion) error) error {
	q := url.Values{}
	for _, id := range jobs {
		q.Add("job", id.String())
	}
	path := "/v1/certificates?" + q.Encode()
	return lasting(ctx, func() error { return m.judge(ctx, path, trust) })
}

// judge answers the questions of one stream.
func (m *Manager) judge(ctx context.Context, path string, trust func(context.Context, bits.CertificateQuestion) error) error {
	return m.answers(ctx, path, func(kind string, data []byte) (answerer, error) {
		if kind != "question" {
			return nil, nil
		}
		var question bits.CertificateQuestion
		if err := json.Unmarshal(data, &question); err != nil {
			return nil, fmt.Errorf("read a question: %w", err)
		}
		return func(ctx context.Context) (string, any) {
			a := bits.CertificateAnswer{}
			err := trust(ctx, question)
			var e *bits.Error
			switch {
			case err == nil:
				a.Trusted = true
			case ctx.Err() != nil:
				return "", nil // that is no judgement
			default:
				if errors.As(err, &e) {
					a.Code = e.Code
				}
				a.Reason = err.Error()
			}
			return fmt.Sprintf("/v1/certificates/%d", question.ID), a
		}, nil
	})
}
