package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
)

func newSetCmd(a *app) *cobra.Command {
	var table strings.Builder
	for _, p := range bits.PropertyTable {
		fmt.Fprintf(&table, "  %-22s %s\n  %22s %s", p.Name, p.Doc, "", p.Range)
		if p.Default != "" {
			fmt.Fprintf(&table, "; default %s", p.Default)
		}
		table.WriteByte('\n')
	}
	var from string
	cmd := &cobra.Command{
		Use:   "set JOB PROPERTY=VALUE...",
		Short: "Change properties of a job",
		Long: "Change properties of a job: all that are named or, with an error, none.\n" +
			"JOB is an id, a unique beginning of one, or a name. Everybody on the machine can read the\n" +
			"arguments: `ebb credentials set` takes what is secret, and --from a file (or, as -, the input) with\n" +
			"a line PROPERTY=VALUE for each property, such as a notify_url. The properties:\n\n" + table.String(),
		Example: `  ebb set nightly priority=low minimum_retry_delay=10m
  ebb set nightly 'header=X-Site: 7' http_method=POST
  ebb set nightly --from ~/.config/hook`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeSetting,
		RunE: func(cmd *cobra.Command, args []string) error {
			var s bits.Settings
			var names []string // the values may be secrets
			settings := args[1:]
			if from != "" {
				lines, err := a.linesFrom(from)
				if err != nil {
					return err
				}
				settings = append(settings, lines...)
			}
			if len(settings) == 0 {
				return hinted(usagef("there are no properties to set"), "see `ebb set --help`")
			}
			for _, arg := range settings {
				name, _, _ := strings.Cut(arg, "=")
				names = append(names, name)
				if err := setProperty(&s, arg); err != nil {
					return err
				}
			}
			if e := s.Check(false); e != nil {
				return usagef("%s", e.Sentence())
			}
			srv := a.connect()
			defer srv.Close()
			job, err := srv.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := job.Set(cmd.Context(), s); err != nil {
				return err
			}
			if a.dryRun {
				return a.wouldChange(cmd.Context(), job, ": "+safe(strings.Join(names, ", ")))
			}
			if a.json {
				return a.printJob(cmd.Context(), job)
			}
			if !a.quiet {
				a.printf("changed %s\n", safe(args[0]))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "`file` with a line PROPERTY=VALUE for each property; - is the input")
	return a.mayDryRun(cmd)
}

// setProperty reads one argument of the form PROPERTY=VALUE.
func setProperty(s *bits.Settings, arg string) error {
	name, value, ok := strings.Cut(arg, "=")
	if !ok {
		return hinted(usagef("%q is not of the form PROPERTY=VALUE", arg), "see `ebb set --help`")
	}
	if err := s.Set(name, value); err != nil {
		return usagef("%w", err)
	}
	return nil
}
