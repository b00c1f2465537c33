package main

import (
	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
)

// dryRunFlag adds --dry-run to a verb that makes jobs or gives them files.
func dryRunFlag(cmd *cobra.Command, v *bool) {
	cmd.Flags().BoolVar(v, "dry-run", false, "say which files would be transferred, and do nothing")
}

// printPlan says which files would be transferred.
func (a *app) printPlan(files []bits.FileSpec) error {
	if a.json {
		shown := make([]bits.FileSpec, len(files))
		for i, f := range files {
			f.Remote = bits.RedactPassword(f.Remote)
			shown[i] = f
		}
		return a.printJSON(shown)
	}
	for _, f := range files {
		a.printf("%s\t%s\n", a.place(bits.RedactPassword(f.Remote)), a.place(f.Local))
		for _, m := range f.Mirrors {
			a.printf("  or %s\n", a.place(bits.RedactPassword(m)))
		}
		if len(f.Ranges) > 0 {
			a.printf("  parts %s\n", rangesText(f.Ranges, shownRanges))
		}
	}
	return nil
}
