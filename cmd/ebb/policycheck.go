package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
)

// checkedPolicy is what check found, for programs.
type checkedPolicy struct {
	File     string               `json:"file"`
	OK       bool                 `json:"ok"`
	Errors   []bits.PolicyProblem `json:"errors"`
	Notices  []bits.PolicyProblem `json:"notices"`
	Settings []bits.PolicySetting `json:"settings"` // those that the file sets
}

func newPolicyCheckCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration file",
		Long: `Check a configuration file, or else the one that a service of yours would read: print
all errors with their lines, and what is worth knowing, such as keys without an
effect. No service is needed. Exit code 1 tells that there are errors.`,
		Example: `  ebb policy check
  ebb policy check new.toml && sudo install -m644 new.toml /etc/ebb/policy.toml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name, exists := policy.Find()
			if len(args) > 0 {
				name, exists = args[0], true
			}
			out := checkedPolicy{File: name, OK: true, Errors: []bits.PolicyProblem{}, Notices: []bits.PolicyProblem{}, Settings: []bits.PolicySetting{}}
			if !exists {
				if a.json {
					return a.printJSON(out)
				}
				a.printf("there is no configuration file; all is at its default\n")
				return nil
			}
			p, err := policy.Load(name)
			var wrong policy.Problems
			switch {
			case errors.As(err, &wrong):
				out.OK, out.Errors = false, wrong
			case errors.Is(err, fs.ErrPermission):
				return &exitError{code: exitNotAllowed, err: err}
			case err != nil:
				return err
			default:
				out.Notices = append(out.Notices, p.Notices...)
				for _, s := range p.Settings() {
					if s.Line > 0 {
						out.Settings = append(out.Settings, s)
					}
				}
			}
			switch {
			case a.json && out.OK:
				return a.printJSON(out)
			case a.json:
				return errors.Join(a.printJSON(out), told(exitFailed))
			case !out.OK:
				return a.problems(wrong)
			}
			for _, n := range out.Notices {
				a.note("%s", n)
			}
			if !a.quiet {
				a.printf("%s is fine; it sets %s\n", a.place(name), valuesText(len(out.Settings)))
			}
			return nil
		},
	}
}

// valuesText writes a number of values.
func valuesText(n int) string {
	if n == 1 {
		return "1 value"
	}
	return fmt.Sprintf("%d values", n)
}
