package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/queue"
)

// registerSecrets adds the calls for what only a job's owner gives it. No answer has a credential.
func (s *server) registerSecrets(a huma.API) {
	const path = "/v1/jobs/{job}/credentials"
	huma.Register(a, huma.Operation{OperationID: "listCredentials", Method: "GET", Path: path, Summary: "List for which targets and schemes a job has credentials; what they are is never shown", Errors: []int{404, 409}},
		func(ctx context.Context, in *JobPath) (*Body[[]bits.CredentialName], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			names, err := s.q.Credentials(c, id)
			if names == nil {
				names = []bits.CredentialName{}
			}
			return reply(names, err)
		})
	huma.Register(a, huma.Operation{OperationID: "setCredential", Method: "PUT", Path: path, Summary: "Give a job a credential for a target and a scheme, in the place of the one that it had. The owner's only",
		MaxBodyBytes: 1 << 20, SkipValidateBody: true, Errors: []int{403, 404, 409, 422}},
		func(ctx context.Context, in *struct {
			JobPath
			Body decoded[bits.Credential]
		}) (*Body[bits.Outcome], error) {
			return s.outcome(ctx, in.Job, func(c queue.Caller, id bits.ID) (bits.Code, error) {
				return bits.OK, s.q.SetCredential(c, id, in.Body.value)
			})
		})
	huma.Register(a, huma.Operation{OperationID: "removeCredential", Method: "DELETE", Path: path + "/{target}/{scheme}", Summary: "Take a credential from a job; S_FALSE if it had none. The owner's only", Errors: []int{403, 404, 409, 422}},
		func(ctx context.Context, in *struct {
			JobPath
			Target string `path:"target" doc:"SERVER, PROXY or HOOK"`
			Scheme string `path:"scheme" doc:"BASIC, DIGEST, NTLM, NEGOTIATE, BEARER or HMAC"`
		}) (*Body[bits.Outcome], error) {
			var n bits.CredentialName
			var err error
			if n.Target, err = bits.ParseAuthTarget(in.Target); err == nil {
				n.Scheme, err = bits.ParseAuthScheme(in.Scheme)
			}
			if err != nil {
				return nil, answer(err)
			}
			return s.outcome(ctx, in.Job, func(c queue.Caller, id bits.ID) (bits.Code, error) { return s.q.RemoveCredential(c, id, n) })
		})
	huma.Register(a, huma.Operation{OperationID: "getHeaders", Method: "GET", Path: "/v1/jobs/{job}/headers", Summary: "Read a job's custom headers, each as 'Name: value'. The owner's only, and not once they are write-only", Errors: []int{403, 404, 409}},
		func(ctx context.Context, in *JobPath) (*Body[[]string], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			lines, err := s.q.Headers(c, id)
			if lines == nil {
				lines = []string{}
			}
			return reply(lines, err)
		})
}
