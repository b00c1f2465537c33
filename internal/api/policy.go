package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ebbtransfer/ebb/bits"
)

func (s *server) registerPolicy(a huma.API) {
	huma.Register(a, huma.Operation{OperationID: "getPolicy", Method: "GET", Path: "/v1/policy", Summary: "Show the configuration that is in effect, and where each value comes from"},
		func(context.Context, *struct{}) (*Body[bits.Policy], error) {
			return &Body[bits.Policy]{s.policy.Describe()}, nil
		})
	huma.Register(a, huma.Operation{OperationID: "getLimits", Method: "GET", Path: "/v1/policy/limits", Summary: "Show which bandwidth limit the configuration sets for each priority, why, until when, what follows, and what makes jobs wait", Errors: []int{422}},
		func(_ context.Context, in *struct {
			At       time.Time `query:"at" doc:"At this moment; now otherwise"`
			Transfer string    `query:"transfer_policy" doc:"For jobs with this transfer policy; that of their priority otherwise"`
		}) (*Body[[]bits.PolicyLimit], error) {
			if in.At.IsZero() {
				in.At = time.Now()
			}
			transfer := bits.TransferDefault
			if in.Transfer != "" {
				var err error
				if transfer, err = bits.ParseCost(in.Transfer); err != nil {
					return nil, answer(bits.Errorf(bits.InvalidArg, "%v", err))
				}
			}
			p := s.policy.Policy()
			limits := p.Limits(in.At)
			for i := range limits {
				limits[i].Hold = s.q.Held(limits[i].Priority, transfer, in.At)
			}
			return &Body[[]bits.PolicyLimit]{limits}, nil
		})
	huma.Register(a, huma.Operation{OperationID: "reloadPolicy", Method: "POST", Path: "/v1/policy/reload", Summary: "Read the configuration file again, as the service does by itself when it changes. With errors, which the answer tells, everything stays as it was", Errors: []int{403}},
		func(ctx context.Context, _ *struct{}) (*Body[bits.Policy], error) {
			if !callerOf(ctx).Admin() {
				return nil, answer(&bits.Error{Code: bits.AccessDenied, Message: "only an administrator may have the configuration read again"})
			}
			_ = s.policy.Reload() // Describe tells the errors
			return &Body[bits.Policy]{s.policy.Describe()}, nil
		})
}
