package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/internal/policy"
)

func newPolicySetCmd(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "set KEY=VALUE...",
		Short: "Change values of the configuration",
		Long: `Change values in the configuration file: all that are named or, with an error, none.
Comments and order of the file stay. KEY= without a value goes back to the default.
The service works by the new values at once. ` + "`ebb policy show --defaults`" + ` tells the keys.

The file is the one that the service which runs reads or, where none runs, would read. For
root that is /etc/ebb/policy.toml, which holds for the services of all users of the machine
that have no ~/.config/ebb/policy.toml of their own; it is made if it is not there.`,
		Example: `  ebb policy set bandwidth.background='10 Mbit/s'
  ebb policy set bandwidth.work.low=block bandwidth.work.hours=08:00-18:00
  ebb policy set bandwidth.background=
  sudo ebb policy set jobs.max_per_user=500`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			changes := make([]policy.Change, len(args))
			for i, arg := range args {
				key, value, ok := strings.Cut(arg, "=")
				if !ok {
					return hinted(usagef("%q is not of the form KEY=VALUE", arg), "`ebb policy show --defaults` tells the keys")
				}
				changes[i] = policy.Change{Key: key, Value: value}
			}
			return a.changePolicy(cmd.Context(), file, changes)
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "another `file` than the service's")
	return a.mayDryRun(cmd)
}

// changePolicy changes values in a configuration file, or in the service's for "".
func (a *app) changePolicy(ctx context.Context, file string, changes []policy.Change) error {
	f, err := a.openPolicy(ctx, file)
	if err != nil {
		return err
	}
	text, err := policy.Edit(f.name, f.text, changes)
	var wrong policy.Problems
	switch {
	case errors.As(err, &wrong):
		a.printProblem("nothing was changed: the file would have errors", "")
		return a.problems(err)
	case err != nil:
		return usagef("%w", err)
	}
	return a.replace(ctx, f, text)
}
