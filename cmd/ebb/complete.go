package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newCompleteCmd(a *app) *cobra.Command {
	return a.actionCmd(&cobra.Command{
		Use:   "complete JOB...",
		Short: "Put the files of jobs in their places and end the jobs",
		Long: `Put the files of TRANSFERRED jobs in their places, whole and under their own names, and
end the jobs. Of a job that is not TRANSFERRED only the finished files are kept, and
ebb says so; an upload must be TRANSFERRED. It prints where the files are. A JOB is an
id, a unique beginning of one, or a name.`,
		Example: `  ebb wait nightly && ebb complete nightly`,
	}, action{
		done: "completed",
		do:   func(ctx context.Context, j *client.Job) (*bits.Outcome, error) { return j.Complete(ctx) },
		tell: a.tellComplete,
	})
}

// tellComplete prints where the files are, and that some are not.
func (a *app) tellComplete(info *bits.Job) {
	a.printPlaces(info)
	if left := info.Progress.FilesTotal - info.Progress.FilesTransferred; left > 0 {
		a.note("%s of %d had not been fetched and dropped out of the job", filesText(left), info.Progress.FilesTotal)
	}
}
