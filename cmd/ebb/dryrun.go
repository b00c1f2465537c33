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

// mayDryRun adds --dry-run to a verb that changes jobs. The service is only asked for what there is.
func (a *app) mayDryRun(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

// wouldChange says which job would be changed.
func (a *app) wouldChange(ctx context.Context, job *client.Job, what string) error {
	info, err := job.Status(ctx)
	if err != nil {
		return err
	}
	if e := wouldRefuse(info, bits.MethodSetProperty, "changed"); e != nil {
		return e
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
	if e := spec.Refuse(bits.Suspended, bits.Facts{Type: spec.Type}, nil); e != nil {
		return e
	}
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

// wouldRefuse returns the error of a call that the job's state does not allow; nil if it does.
func wouldRefuse(info *bits.Job, m bits.Method, done string) error {
	v := foresee(info, m)
	if !v.Code.Failed() {
		return nil
	}
	return bits.Errorf(v.Code, "the job is %s and would not be %s: %s", info.State, done, v.Code.Message())
}

// foresee tells what a call would do to a job as it is now.
func foresee(info *bits.Job, m bits.Method) bits.Verdict {
	p := info.Progress
	return bits.Decide(info.State, m, bits.Facts{Type: info.Type, Files: p.FilesTotal, Unfinished: p.FilesTotal - p.FilesTransferred, ErrorKept: info.Error != nil})
}

// foresee tells what an action would do to a job.
func (a *app) foresee(ctx context.Context, act action, job *client.Job) (r result, err error) {
	info, err := job.Info(ctx)
	if err != nil {
		return r, err
	}
	if err := wouldRefuse(info, act.method, act.done); err != nil {
		return r, err
	}
	v := foresee(info, act.method)
	r.Outcome = bits.Outcome{Code: v.Code.Name(), HResult: v.Code.Hex(), Message: v.Code.Message(), Job: bits.Summary{ID: info.ID, Name: info.Name, State: info.State}}
	if a.json {
		return r, nil
	}
	a.printf("would be %s: %s %s (%s, %d of %s)\n", act.done, shortID(info.ID), safe(info.Name), info.State, info.Progress.FilesTransferred, filesText(info.Progress.FilesTotal))
	if v.Code != bits.OK {
		a.note("%s (%s %s)", r.Message, r.Code, r.HResult)
	}
	return r, nil
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
