package main

import (
	"github.com/spf13/cobra"
)

func newExplainCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "explain JOB",
		Short: "Say why a job does not move and what would make it",
		Long: `Say in sentences what a job does or waits for, and after an arrow what would make it move.
A JOB is an id, a unique beginning of one, or a name.`,
		Example:           "  ebb explain nightly",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			srv := a.connect()
			defer srv.Close()
			job, err := srv.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			e, err := job.Explain(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(e)
			}
			a.printf("%s %s is %s.\n", shortID(e.Job.ID), safe(e.Job.Name), a.outTerm.paint(stateColour(e.Job.State), e.Job.State.String()))
			for _, r := range e.Reasons {
				a.printf("  %s\n", safe(r.Why))
				if r.Help != "" {
					a.printf("    -> %s\n", safe(r.Help))
				}
			}
			return nil
		},
	}
}
