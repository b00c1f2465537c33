package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// An action is a verb that does one thing to each of several jobs.
type action struct {
	done string       // what was done, for people
	all  []bits.State // the jobs that --all means
	ask  bool         // several jobs are asked for on a terminal
	do   func(context.Context, *client.Job) (*bits.Outcome, error)
	// tell prints more for people; it may be nil.
	tell func(*bits.Job)
	// after follows once all jobs had their turn, with those where it went well; it may be nil.
	after func(context.Context, *service, []result)
}

// result is what became of one job, for programs.
type result struct {
	bits.Outcome
	Files []string `json:"files,omitempty"` // where the finished files are, after complete
}

// actionCmd gives a command the arguments and the behaviour of an action.
func (a *app) actionCmd(cmd *cobra.Command, act action) *cobra.Command {
	var all, yes bool
	cmd.ValidArgsFunction = a.completeJobs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 0) {
			what := "a job"
			if act.all != nil {
				what = "jobs or --all"
			}
			return hinted(usagef("%s needs %s", cmd.Name(), what), "`ebb list` shows the jobs; see `ebb %s --help`", cmd.Name())
		}
		return a.act(cmd.Context(), cmd.Name(), act, args, all, yes)
	}
	if act.all != nil {
		cmd.Flags().BoolVar(&all, "all", false, "all your jobs for which it makes sense")
	}
	a.mayDryRun(cmd)
	if act.ask {
		cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	}
	return cmd
}

// act does the action to each job, goes on after an error, and ends with the worst one.
func (a *app) act(ctx context.Context, verb string, act action, refs []string, all, yes bool) error {
	srv := a.connect()
	defer srv.Close()
	if all {
		for j, err := range srv.List(ctx, client.ListOptions{State: act.all}) {
			if err != nil {
				return err
			}
			refs = append(refs, j.ID.String())
		}
		if len(refs) == 0 {
			a.note("there is no such job")
		}
	}
	if act.ask && !yes && !a.dryRun && len(refs) > 1 {
		ok, err := a.confirm(fmt.Sprintf("%s %d jobs?", verb, len(refs)))
		if err != nil {
			return err
		}
		if !ok {
			return &exitError{code: exitInterrupted, err: errors.New("nothing was done")}
		}
	}
	results := []result{}
	worst := exitDone
	for _, ref := range refs {
		r, err := a.actOn(ctx, srv, act, ref)
		if err != nil {
			if len(refs) > 1 && !strings.Contains(err.Error(), ref) {
				err = fmt.Errorf("%s: %w", ref, err)
			}
			a.printError(err)
			worst = max(worst, exitCode(err))
			continue
		}
		results = append(results, r)
	}
	if act.after != nil && !a.dryRun {
		act.after(ctx, srv, results)
	}
	if a.json {
		if err := a.printJSON(results); err != nil {
			return err
		}
	}
	return told(worst)
}

func (a *app) actOn(ctx context.Context, srv *service, act action, ref string) (r result, err error) {
	job, err := srv.Find(ctx, ref)
	if err != nil {
		return r, err
	}
	outcome, err := act.do(ctx, job)
	if err != nil {
		return r, err
	}
	r.Outcome = *outcome
	var info *bits.Job
	if act.tell == nil {
		info, err = job.Status(ctx)
	} else {
		info, err = job.Info(ctx)
	}
	if err != nil {
		return r, err
	}
	r.Job = bits.Summary{ID: info.ID, Name: info.Name, State: info.State}
	if a.dryRun {
		if !a.json {
			a.wouldBe(act, &r, info)
		}
		return r, nil
	}
	for _, f := range info.Files {
		if f.Completed && act.tell != nil {
			r.Files = append(r.Files, f.Local)
		}
	}
	if a.json {
		return r, nil
	}
	if !a.quiet {
		a.printf("%s %s %s\n", act.done, shortID(info.ID), safe(info.Name))
	}
	if act.tell != nil {
		act.tell(info)
	}
	if r.Code != bits.OK.Name() && r.Code != "" {
		a.note("%s (%s %s)", r.Message, r.Code, r.HResult)
	}
	return r, nil
}

// done is the outcome of a call that tells none.
func done(err error) (*bits.Outcome, error) {
	if err != nil {
		return nil, err
	}
	return &bits.Outcome{Code: bits.OK.Name(), HResult: bits.OK.Hex(), Message: bits.OK.Message()}, nil
}

// confirm asks on a terminal; where there is none, the answer is yes.
func (a *app) confirm(question string) (bool, error) {
	in, ok := a.in.(interface{ Fd() uintptr })
	if !ok || !a.errTerm.is || !term.IsTerminal(int(in.Fd())) {
		return true, nil
	}
	_, _ = fmt.Fprintf(a.err, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && err != io.EOF {
		return false, err
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}
