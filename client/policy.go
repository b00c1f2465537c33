package client

import (
	"context"
	"net/url"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// Policy returns the configuration that the service works by.
func (m *Manager) Policy(ctx context.Context) (*bits.Policy, error) {
	var p bits.Policy
	return &p, m.call(ctx, "GET", "/v1/policy", nil, &p)
}

// ReloadPolicy has the service read its configuration file again now; it does so by itself soon
// after the file changes. What is wrong with the file is in the answer's Errors; then what was
// in effect before stays so. It is for administrators.
func (m *Manager) ReloadPolicy(ctx context.Context) (*bits.Policy, error) {
	var p bits.Policy
	return &p, m.call(ctx, "POST", "/v1/policy/reload", nil, &p)
}

// Limits returns the bandwidth limits that the configuration sets at a moment, one for each
// priority in the order of the priorities, and what makes jobs of that priority and with this
// transfer policy wait. The zero time stands for now, bits.TransferDefault for the transfer
// policy of the priority.
func (m *Manager) Limits(ctx context.Context, at time.Time, transfer bits.Cost) ([]bits.PolicyLimit, error) {
	q := url.Values{}
	if !at.IsZero() {
		q.Set("at", at.Format(time.RFC3339Nano))
	}
	if transfer != bits.TransferDefault {
		q.Set("transfer_policy", transfer.String())
	}
	var l []bits.PolicyLimit
	err := m.call(ctx, "GET", "/v1/policy/limits?"+q.Encode(), nil, &l)
	return l, err
}
