//go:build !linux

package doctor

import (
	"context"

	"github.com/ebbtransfer/ebb/bits"
)

func disk(r *report, dir string) { r.ok("The job store is in %s.", dir) }

// synchronised believes that other systems keep their clocks right.
func synchronised() bool { return true }

func units(context.Context, *report) {}

func signals(_ context.Context, r *report, running *bits.Service) {
	if running != nil && !running.Conditions.Online {
		r.bad(Warning, "jobs go on when there is one", "The service sees no network.")
	}
}

func kernel(*report) {}
