package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newCancelCmd(a *app) *cobra.Command {
	return a.actionCmd(&cobra.Command{
		Use:   "cancel JOB...",
		Short: "End jobs and delete what they fetched",
		Long: `End jobs for good and delete the parts of files that they fetched. Files that were in
their places before stay as they are, and so do files that were to be uploaded; their
server is told to forget what it has. On a terminal ebb asks before it cancels more than
one job. A JOB is an id, a unique beginning of one, or a name.`,
		Example: `  ebb cancel nightly
  ebb cancel --all --yes`,
	}, action{
		done: "cancelled",
		all: []bits.State{bits.Queued, bits.Connecting, bits.Transferring, bits.Suspended, bits.Errored,
			bits.TransientError, bits.Transferred},
		ask: true,
		do:  func(ctx context.Context, j *client.Job) (*bits.Outcome, error) { return j.Cancel(ctx) },
	})
}
