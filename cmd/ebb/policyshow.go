package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/internal/policy"
)

func newPolicyShowCmd(a *app) *cobra.Command {
	var defaults bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the configuration that is in effect",
		Long: `Show the configuration that the running service works by, as TOML, and where each
value comes from: the default, a line of the file, or one of BITS's names there.
With --defaults, print a file with all keys, their meaning and their defaults in
comments, to begin one's own with; no service is needed for that.`,
		Example: `  ebb policy show
  ebb policy show --json | jq '.settings[] | select(.line)'
  ebb policy show --defaults > policy.toml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if defaults && a.json {
				p := policy.Default()
				return a.printJSON(p.Settings())
			}
			if defaults {
				a.printf("%s", policy.Template())
				return nil
			}
			srv := a.connect()
			defer srv.Close()
			p, err := srv.Policy(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(p)
			}
			if len(p.Errors) > 0 {
				a.printProblem("the file has errors and is not in effect; this was read "+relative(p.Read, time.Now()), "")
				_ = a.problems(policy.Problems(p.Errors))
			}
			for _, n := range p.Notices {
				a.note("%s", n)
			}
			if p.Exists {
				a.printf("# %s, read %s\n\n", safe(p.File), moment(p.Read, time.Now()))
			} else {
				a.printf("# There is no configuration file; all is at its default. Ebb would read %s.\n\n", safe(p.File))
			}
			a.printf("%s", policy.Write(p.Settings))
			return nil
		},
	}
	cmd.Flags().BoolVar(&defaults, "defaults", false, "print all keys with their defaults and their meaning")
	return cmd
}
