package main

import (
	"context"
	"errors"
	"sync"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newWaitCmd(a *app) *cobra.Command {
	var progress string
	cmd := &cobra.Command{
		Use:   "wait JOB...",
		Short: "Wait until jobs are done",
		Long: `Wait until each job is TRANSFERRED, has ended in ERROR, or was completed or cancelled;
for a job that the service completes by itself, until its files are in their places.
The exit code is 0 if all went well and 1 if a job failed or was cancelled. Ctrl+C stops
waiting and leaves the jobs alone. A JOB is an id, a unique beginning of one, or a name.`,
		Example: `  ebb wait nightly && ebb complete nightly
  ebb wait --progress=none --json 6af46e48 0b1f`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeJobs,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.wait(cmd.Context(), args, progress) },
	}
	progressFlag(cmd, &progress)
	return cmd
}

func (a *app) wait(ctx context.Context, refs []string, progress string) error {
	show, err := a.newDisplay(progress)
	if err != nil {
		return err
	}
	srv := a.connect()
	defer srv.Close()
	var jobs []*client.Job
	seen := map[bits.ID]bool{}
	for _, ref := range refs {
		job, err := srv.Find(ctx, ref)
		if err != nil {
			return err
		}
		if !seen[job.ID] {
			seen[job.ID] = true
			jobs = append(jobs, job)
		}
	}
	ctx, stop := catchSignals(ctx)
	defer stop()
	infos := make([]*bits.Job, len(jobs))
	errs := make([]error, len(jobs))
	waiting := srv.wait(ctx)
	var wg sync.WaitGroup
	for i, job := range jobs {
		wg.Go(func() {
			following := a.follow(job, show)
			infos[i], errs[i] = following.wait(waiting)
			if errs[i] == nil && infos[i].State == bits.Transferred {
				infos[i], errs[i] = following.info(waiting)
			}
		})
	}
	wg.Wait()
	show.end()
	if interrupted(ctx) && errors.Join(errs...) != nil {
		a.note("the jobs go on without you")
		return told(exitInterrupted)
	}

	worst := exitDone
	ended := []jobJSON{}
	for i, info := range infos {
		if errs[i] != nil {
			a.printError(errs[i])
			worst = max(worst, exitCode(errs[i]))
			continue
		}
		worst = max(worst, a.tellEnd(info))
		ended = append(ended, asJSON(info))
	}
	if a.json {
		if err := a.printJSON(ended); err != nil {
			return err
		}
	}
	return told(worst)
}

// tellEnd prints how a job ended and returns the exit code for it.
func (a *app) tellEnd(info *bits.Job) int {
	if !a.json && !a.quiet {
		a.printf("%s %s %s\n", shortID(info.ID), a.outTerm.paint(stateColour(info.State), info.State.String()), safe(info.Name))
	}
	switch info.State {
	case bits.Errored:
		sentence, hint := jobError(info.Error)
		a.printProblem(sentence, hint)
		return exitFailed
	case bits.Cancelled:
		return exitFailed
	}
	return exitDone
}
