package client

import (
	"context"

	"github.com/ebbtransfer/ebb/bits"
)

// SetCredential gives the job a credential for a target and a scheme, in the place of the one that
// it had (SetCredentials). It is the owner's call only, and what was given cannot be read back. A
// job that met 401 or 407 goes on with it after Resume.
func (j *Job) SetCredential(ctx context.Context, c bits.Credential) error {
	var out bits.Outcome
	return j.m.call(ctx, "PUT", j.path("/credentials"), c, &out)
}

// RemoveCredential takes a credential from the job (RemoveCredentials). It reports whether there was
// one; it is the owner's call only.
func (j *Job) RemoveCredential(ctx context.Context, t bits.AuthTarget, s bits.AuthScheme) (bool, error) {
	var out bits.Outcome
	err := j.m.call(ctx, "DELETE", j.path("/credentials/"+t.String()+"/"+s.String()), nil, &out)
	return err == nil && out.Code == bits.OK.Name(), err
}

// Credentials lists for which targets and schemes the job has credentials.
func (j *Job) Credentials(ctx context.Context) ([]bits.CredentialName, error) {
	var names []bits.CredentialName
	err := j.m.call(ctx, "GET", j.path("/credentials"), nil, &names)
	return names, err
}

// Headers returns the job's custom headers, each as 'Name: value' (GetCustomHeaders): to its owner
// only, and not once they are write-only.
func (j *Job) Headers(ctx context.Context) ([]string, error) {
	var lines []string
	err := j.m.call(ctx, "GET", j.path("/headers"), nil, &lines)
	return lines, err
}
