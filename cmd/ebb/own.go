package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newOwnCmd(a *app) *cobra.Command {
	cmd := a.actionCmd(&cobra.Command{
		Use:   "own JOB...",
		Short: "Take over jobs of other users",
		Long: `Make yourself the owner of jobs: they go on with your rights to files, and what they
fetched so far becomes yours. For administrators; polkit may ask for a password. A
job loses what only its old owner may use, and ebb says what that was: credentials, a
client certificate, headers, the notify command, the web hook.`,
		Example: `  sudo ebb own 6af46e48`,
	}, action{
		done: "taken over",
		do:   func(ctx context.Context, j *client.Job) (*bits.Outcome, error) { return j.TakeOwnership(ctx) },
		after: func(_ context.Context, _ *service, taken []result) {
			for _, r := range taken {
				if len(r.Dropped) > 0 {
					a.note("%s %s lost its %s", shortID(r.Job.ID), r.Job.Name, strings.Join(r.Dropped, ", "))
				}
			}
		},
	})
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.admin = true
		return run(cmd, args)
	}
	return cmd
}
