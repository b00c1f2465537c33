package main

import (
	"context"
	"strings"
	"time"

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
server is told to forget what it has, for up to a day until it answers. On a terminal ebb asks before it cancels more than
one job. A JOB is an id, a unique beginning of one, or a name.`,
		Example: `  ebb cancel nightly
  ebb cancel --all --yes`,
	}, action{
		done: "cancelled",
		all: []bits.State{bits.Queued, bits.Connecting, bits.Transferring, bits.Suspended, bits.Errored,
			bits.TransientError, bits.Transferred},
		ask:   true,
		do:    func(ctx context.Context, j *client.Job) (*bits.Outcome, error) { return j.Cancel(ctx) },
		after: a.tellUntold,
	})
}

// toldWithin is how long a server that answers needs at most to be told of a cancelled upload.
const toldWithin = time.Second

// tellUntold names the cancelled uploads whose servers do not know yet.
func (a *app) tellUntold(ctx context.Context, srv *service, cancelled []result) {
	patience := time.NewTimer(toldWithin)
	defer patience.Stop()
	over := false
	for _, r := range cancelled {
		for wait := 10 * time.Millisecond; ; wait *= 2 {
			info, err := srv.Job(r.Job.ID).Status(ctx)
			if err != nil || !strings.HasSuffix(info.Note, bits.NoteServerUntold) {
				break
			}
			if over {
				a.note("%s %s: %s", shortID(r.Job.ID), r.Job.Name, bits.NoteServerUntold)
				break
			}
			select {
			case <-time.After(wait):
			case <-patience.C:
				over = true
			}
		}
	}
}
