package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// dryRunFlag adds --dry-run to a verb that makes jobs or gives them files.
func dryRunFlag(cmd *cobra.Command, v *bool) {
	cmd.Flags().BoolVar(v, "dry-run", false, "say which files would be transferred, and do nothing")
}

// mayDryRun adds --dry-run to a verb that changes jobs. The service answers as if it had done what it is
// asked for: so what it would refuse is refused.
func (a *app) mayDryRun(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

// wouldChange says which job would be changed, after the service has said that it may be.
func (a *app) wouldChange(ctx context.Context, job *client.Job, what string) error {
	info, err := job.Status(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(asJSON(info))
	}
	a.printf("would change %s %s (%s)%s\n", shortID(info.ID), safe(info.Name), info.State, what)
	return nil
}

// wouldChangeFile says which file of a job would be changed.
func (a *app) wouldChangeFile(ctx context.Context, job *client.Job, f *bits.File) error {
	return a.wouldChange(ctx, job, fmt.Sprintf(": file %d, %s", f.Index, safe(f.Local)))
}

// wouldCreate says which job would be created, and which properties it would be given.
func (a *app) wouldCreate(spec *bits.NewJob) error {
	given := []string{} // without the values, which may be secrets
	for _, p := range spec.Given() {
		if p.Name != "name" {
			given = append(given, p.Name)
		}
	}
	if a.json {
		return a.printJSON(struct {
			Name       string    `json:"name"`
			Type       bits.Type `json:"type"`
			Properties []string  `json:"properties"`
		}{*spec.Name, spec.Type, given})
	}
	with := ""
	if len(given) > 0 {
		with = ": " + strings.Join(given, ", ")
	}
	a.printf("would create %s (%s)%s\n", safe(*spec.Name), spec.Type, with)
	return nil
}

// wouldBe says what an action would do to a job, after the service has told it.
func (a *app) wouldBe(act action, r *result, info *bits.Job) {
	a.printf("would be %s: %s %s (%s, %d of %s)\n", act.done, shortID(info.ID), safe(info.Name), info.State, info.Progress.FilesTransferred, filesText(info.Progress.FilesTotal))
	if r.Code != bits.OK.Name() {
		a.note("%s (%s %s)", r.Message, r.Code, r.HResult)
	}
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
