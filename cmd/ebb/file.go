package main

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newFileCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "file",
		Short: "Look at and change single files of a job, and fetch parts of them",
		Long: `Look at single files of a job and change them, in any state and also while they move. FILE is the file's
number, which ` + "`ebb show --json`" + ` tells as index and which never changes, its path, or its name
if no other file of the job has it.`,
		Example: `  ebb file show nightly image.iso
  ebb file skip nightly 3
  ebb file url nightly image.iso https://mirror.example.net/image.iso
  ebb file ranges game 0 0:4096,1073741824:65536`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFileShowCmd(a), newFileRangesCmd(a), newFilePositionCmd(a), newFileValidateCmd(a),
		a.fileCmd(&cobra.Command{
			Use:   "url JOB FILE URL [MIRROR...]",
			Short: "Fetch a file from another URL",
			Long: `Give a file another URL, and mirrors: URLs of the same content for when the first one fails.
What is here of it stays if the new source has the same size and date, else it starts
again. A file that is transferred is not fetched again. A job in ERROR goes on with
` + "`ebb resume`" + `.`,
			Example: "  ebb file url nightly image.iso https://mirror.example.net/image.iso",
			Args:    cobra.MinimumNArgs(3),
		}, func(ctx context.Context, job *client.Job, f *bits.File, rest []string) (*bits.Outcome, error) {
			mirrors := rest[1:]
			return job.ChangeFile(ctx, f.Index, bits.FileChange{Remote: &rest[0], Mirrors: &mirrors})
		}),
		a.fileCmd(&cobra.Command{
			Use:     "skip JOB FILE",
			Short:   "Leave a file out, so that the job is done without it",
			Example: "  ebb file skip nightly 3",
			Args:    cobra.ExactArgs(2),
		}, func(ctx context.Context, job *client.Job, f *bits.File, _ []string) (*bits.Outcome, error) {
			return job.SkipFile(ctx, f.Index, true)
		}),
		a.fileCmd(&cobra.Command{
			Use:     "unskip JOB FILE",
			Short:   "Take a skipped file in again",
			Example: "  ebb file unskip nightly 3 && ebb resume nightly",
			Args:    cobra.ExactArgs(2),
		}, func(ctx context.Context, job *client.Job, f *bits.File, _ []string) (*bits.Outcome, error) {
			return job.SkipFile(ctx, f.Index, false)
		}),
		a.fileCmd(&cobra.Command{
			Use:     "remove JOB FILE",
			Short:   "Take a file out of a job and delete what was fetched of it",
			Example: "  ebb file remove nightly /srv/images/old.iso",
			Args:    cobra.ExactArgs(2),
		}, func(ctx context.Context, job *client.Job, f *bits.File, _ []string) (*bits.Outcome, error) {
			return done(job.RemoveFile(ctx, f.Index))
		}),
	)
	return cmd
}

// fileCmd gives a command what all that change a file have in common.
func (a *app) fileCmd(cmd *cobra.Command, do func(context.Context, *client.Job, *bits.File, []string) (*bits.Outcome, error)) *cobra.Command {
	return a.oneFileCmd(a.mayDryRun(cmd), func(ctx context.Context, job *client.Job, f *bits.File, args []string) error {
		out, err := do(ctx, job, f, args[2:])
		if err != nil {
			return err
		}
		if a.dryRun && out.Code != bits.False.Name() {
			return a.wouldChangeFile(ctx, job, f)
		}
		return a.printChange(ctx, job, args[0], out)
	})
}

// oneFileCmd gives a command what all that are about a file have in common: do gets the file that the
// first two of the arguments name.
func (a *app) oneFileCmd(cmd *cobra.Command, do func(ctx context.Context, job *client.Job, f *bits.File, args []string) error) *cobra.Command {
	cmd.ValidArgsFunction = a.completeJobFile
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		srv := a.connect()
		defer srv.Close()
		job, err := srv.Find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		info, err := job.Info(cmd.Context())
		if err != nil {
			return err
		}
		f, err := findFile(info, args[1])
		if err != nil {
			return err
		}
		return do(cmd.Context(), job, f, args)
	}
	return cmd
}

// printChange tells that a job was changed, or that there was nothing to change.
func (a *app) printChange(ctx context.Context, job *client.Job, name string, out *bits.Outcome) error {
	switch {
	case a.json:
		return a.printJob(ctx, job)
	case out.Code == bits.False.Name():
		a.note("there was nothing to change")
	case !a.quiet:
		a.printf("changed %s\n", safe(name))
	}
	return nil
}

// findFile returns the file of a job that ref means.
func findFile(info *bits.Job, ref string) (*bits.File, error) {
	if n, err := strconv.Atoi(ref); err == nil {
		for i := range info.Files {
			if info.Files[i].Index == n {
				return &info.Files[i], nil
			}
		}
	}
	var found *bits.File
	abs, _ := filepath.Abs(ref) // empty fits nothing
	for i := range info.Files {
		f := &info.Files[i]
		if f.Local == ref || f.Local == abs {
			return f, nil
		}
		if filepath.Base(f.Local) == ref {
			if found != nil {
				return nil, hinted(usagef("several files of the job have the name %q", ref), "give the file's path or number")
			}
			found = f
		}
	}
	if found == nil {
		return nil, hinted(bits.Errorf(bits.FileNotFound, "the job has no file %q", ref), "`ebb show --files` lists the job's files")
	}
	return found, nil
}

func newReplacePrefixCmd(a *app) *cobra.Command {
	return a.mayDryRun(&cobra.Command{
		Use:   "replace-prefix JOB OLD NEW",
		Short: "Fetch the files of a job from another server or directory",
		Long: `Replace the beginning OLD of the URLs of all files of a job by NEW, in any state and also
while they move. Case matters. What is here of a file stays if its new source has the
same size and date; files that are transferred are not fetched again. A job in ERROR
goes on with ` + "`ebb resume`" + `.`,
		Example:           "  ebb replace-prefix nightly https://a.example.org/pub/ https://b.example.net/mirror/",
		Args:              cobra.ExactArgs(3),
		ValidArgsFunction: a.completeJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			srv := a.connect()
			defer srv.Close()
			job, err := srv.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			out, err := job.ReplaceRemotePrefix(cmd.Context(), args[1], args[2])
			if err != nil {
				return err
			}
			if a.dryRun && out.Code != bits.False.Name() {
				return a.planPrefix(cmd.Context(), job, args[1], args[2])
			}
			return a.printChange(cmd.Context(), job, args[0], out)
		},
	})
}

// pointers returns where the elements of a list are.
func pointers(list []string) []*string {
	out := make([]*string, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// planPrefix says which files would get which URLs.
func (a *app) planPrefix(ctx context.Context, job *client.Job, from, to string) error {
	info, err := job.Info(ctx)
	if err != nil {
		return err
	}
	files := []bits.FileSpec{}
	for _, f := range info.Files {
		spec := bits.FileSpec{Remote: f.Remote, Local: f.Local, Mirrors: f.Mirrors}
		changed := false
		for _, u := range append([]*string{&spec.Remote}, pointers(spec.Mirrors)...) {
			if rest, ok := strings.CutPrefix(*u, from); ok {
				*u, changed = to+rest, true
			}
		}
		if changed {
			files = append(files, spec)
		}
	}
	return a.printPlan(files)
}
