package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newSuspendCmd(a *app) *cobra.Command {
	return a.actionCmd(&cobra.Command{
		Use:   "suspend JOB...",
		Short: "Stop jobs and keep what they fetched",
		Long: "Stop jobs for now. What they fetched is kept, and `ebb resume` goes on from there.\n" +
			"A JOB is an id, a unique beginning of one, or a name.",
		Example: `  ebb suspend nightly
  ebb suspend --all`,
	}, action{
		done: "suspended",
		all:  []bits.State{bits.Queued, bits.Connecting, bits.Transferring, bits.TransientError},
		do:   func(ctx context.Context, j *client.Job) (*bits.Outcome, error) { return done(j.Suspend(ctx)) },
	})
}
