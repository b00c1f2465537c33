package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newResumeCmd(a *app) *cobra.Command {
	return a.actionCmd(&cobra.Command{
		Use:   "resume JOB...",
		Short: "Start jobs, or let them try again now",
		Long: `Start suspended jobs, and let jobs in ERROR or TRANSIENT_ERROR try again now. They go on
where they stopped. A JOB is an id, a unique beginning of one, or a name.`,
		Example: `  ebb resume nightly
  ebb resume 6af46e48 0b1f`,
	}, action{
		done: "resumed",
		all:  []bits.State{bits.Suspended, bits.Errored, bits.TransientError},
		do:   func(ctx context.Context, j *client.Job) (*bits.Outcome, error) { return done(j.Resume(ctx)) },
	})
}
