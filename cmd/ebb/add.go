package main

import (
	"github.com/spf13/cobra"
)

func newAddCmd(a *app) *cobra.Command {
	var list string
	var dryRun bool
	var src sourceOptions
	cmd := &cobra.Command{
		Use:   "add JOB URL DEST | add JOB -i FILE [DEST]",
		Short: "Add files to a job",
		Long: `Add a file, or all files of a list, to a job. DEST is the file's path, or a directory
(one that exists, or a name that ends in '/'); its directory must exist. With -i, DEST
is the directory for the list's destinations; without it they are below the current
directory or absolute. The list's form is that of ` + "`ebb get -i`" + `. Either all files of a call are added or none.

With --range only parts of the file on the server are fetched. They stand back to back in
the file here, in the order given, and may not overlap; the checksum is that of the parts.

A URL of a file of this machine or of a mounted share may be a directory or have wildcards, as
with ` + "`ebb get`" + `.

For an upload DEST is the file that is uploaded to URL.`,
		Example: `  ebb add nightly https://example.org/image.iso /srv/images/image.iso
  ebb add nightly -i list.txt /srv/mirror
  ebb add nightly https://example.org/image.iso head.bin --range 0:4096 --range 1048576:eof
  ebb add orders https://example.org/orders/7.xml order.xml`,
		Args:              cobra.RangeArgs(1, 3),
		ValidArgsFunction: a.completeJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := a.withList(cmd.Context(), list, jobOptions{})
			if err != nil {
				return err
			}
			p, err := a.planAdd(args[1:], list, src)
			if err != nil {
				return err
			}
			files := p.files
			a.tellOthers(p.finder.others)
			a.dryRun = dryRun
			srv := a.connect()
			defer srv.Close()
			job, err := srv.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			switch {
			case !dryRun:
				err = p.makeDirs()
			case len(p.fresh) > 0: // the service cannot judge files for which there is no directory yet
				return a.printPlan(files)
			}
			if err != nil {
				return err
			}
			if err := job.AddFiles(cmd.Context(), files...); err != nil {
				return err
			}
			if dryRun {
				return a.printPlan(files)
			}
			if a.json {
				return a.printJob(cmd.Context(), job)
			}
			if !a.quiet {
				a.printf("added %s to %s\n", filesText(len(files)), safe(args[0]))
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&list, "input", "i", "", "read URLs from the list `FILE` ('-' is the standard input), or from the Metalink document at a URL")
	dryRunFlag(cmd, &dryRun)
	src.flags(cmd)
	return cmd
}

// planAdd reads what follows JOB.
func (a *app) planAdd(args []string, list string, src sourceOptions) (*planner, error) {
	if list == "" {
		if len(args) != 2 {
			return nil, hinted(usagef("add needs a job, a URL and a destination"), "see `ebb add --help`")
		}
		p, err := newPlanner("")
		if err == nil {
			err = p.addOne(args[0], args[1], src)
		}
		return p, err
	}
	switch {
	case src.single() != "":
		return nil, hinted(usagef("%s is for one URL", src.single()), "in a list each line may have a checksum and mirrors of its own, but no parts")
	case len(args) > 1:
		return nil, hinted(usagef("with -i, add takes a job and at most one directory"), "see `ebb add --help`")
	}
	dir := ""
	if len(args) == 1 {
		dir = args[0]
	}
	p, err := newPlanner(dir)
	if err == nil {
		p.onlyIfNewer = src.onlyIfNewer
		err = p.addList(list, a.in)
	}
	return p, err
}
