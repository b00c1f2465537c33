package api

import (
	"log/slog"
	"net/http"
	"os"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
)

const officeHours = `[bandwidth]
timezone = "Europe/Berlin"
[bandwidth.work]
low = "block"
`

func TestPolicy(t *testing.T) {
	file := configuration(t, officeHours)
	h := New(nil, governor.New("", slog.New(slog.DiscardHandler)), file, nil, nil, nil)
	p := decode[bits.Policy](t, call(as(alice, h), "GET", "/v1/policy", ""), http.StatusOK)
	name := file.Describe().File
	if p.File != name || !p.Exists || len(p.Errors) > 0 || len(p.Notices) > 0 {
		t.Errorf("%+v", p)
	}
	found := false
	for _, s := range p.Settings {
		found = found || s == bits.PolicySetting{Key: "bandwidth.work.low", Value: "block", Line: 4}
	}
	if !found {
		t.Errorf("bandwidth.work.low is not in %+v", p.Settings)
	}

	// A reload with errors tells them and changes nothing; it is for administrators.
	if err := os.WriteFile(name, []byte("jobs.foreground = 1\njobs.background = 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	decode[bits.Problem](t, call(as(alice, h), "POST", "/v1/policy/reload", ""), http.StatusForbidden)
	p = decode[bits.Policy](t, call(as(admin, h), "POST", "/v1/policy/reload", ""), http.StatusOK)
	if len(p.Errors) != 1 || p.Errors[0].Line != 2 || p.Errors[0].Key != "jobs.background" || p.Errors[0].File != name || file.Policy().Jobs.Foreground != 64 {
		t.Errorf("%+v", p)
	}
	if err := os.WriteFile(name, []byte("jobs.foreground = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p = decode[bits.Policy](t, call(as(admin, h), "POST", "/v1/policy/reload", ""), http.StatusOK)
	if len(p.Errors) > 0 || file.Policy().Jobs.Foreground != 1 {
		t.Errorf("%+v", p)
	}
}

func TestLimits(t *testing.T) {
	h := as(alice, newAPIWith(t, configuration(t, officeHours)))
	limits := decode[[]bits.PolicyLimit](t, call(h, "GET", "/v1/policy/limits?at=2026-11-20T12:00:00Z", ""), http.StatusOK)
	if len(limits) != bits.Priorities || limits[bits.Foreground].Now.Rate != nil || limits[bits.Foreground].Next != nil {
		t.Fatalf("%+v", limits)
	}
	low := limits[bits.Low]
	if low.Priority != bits.Low || low.Now.Rate == nil || *low.Now.Rate != 0 || low.Now.Rule != "work" || low.Now.Key != "bandwidth.work.low" || low.Now.Line != 4 ||
		low.Now.Hours != "Mon-Fri 08:00-17:00" || low.Now.Until == nil || low.Now.Until.Format("2006-01-02T15:04:05Z07:00") != "2026-11-20T17:00:00+01:00" ||
		low.Next == nil || low.Next.Rate != nil || low.Next.Until == nil {
		t.Errorf("%+v", low)
	}
	// The queue of this test is under the default policy, on a network of which nothing is known.
	if low.Hold != nil {
		t.Errorf("held: %+v", low.Hold)
	}
	decode[bits.Problem](t, call(h, "GET", "/v1/policy/limits?transfer_policy=sometimes", ""), http.StatusUnprocessableEntity)
	roaming := decode[[]bits.PolicyLimit](t, call(h, "GET", "/v1/policy/limits?transfer_policy=roaming", ""), http.StatusOK)
	if e := roaming[bits.Foreground].Hold; e == nil || e.Code != bits.BlockedByCost.Name() {
		t.Errorf("jobs that run while roaming only are held by %+v", e)
	}
	if now := decode[[]bits.PolicyLimit](t, call(h, "GET", "/v1/policy/limits", ""), http.StatusOK); len(now) != bits.Priorities {
		t.Errorf("%+v", now)
	}
	decode[bits.Problem](t, call(h, "GET", "/v1/policy/limits?at=noon", ""), http.StatusUnprocessableEntity)
}
