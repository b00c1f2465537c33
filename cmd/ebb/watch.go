package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newWatchCmd(a *app) *cobra.Command {
	var f client.Filter
	cmd := &cobra.Command{
		Use:   "watch [JOB...]",
		Short: "Print news of jobs as it happens",
		Long: `Print a line for each piece of news about your jobs, or only about the jobs named, until
Ctrl+C or until all jobs named have been completed or cancelled. When the service goes
away ebb waits for it and goes on where it stopped. Each event has a number; --after goes
on after one. What the service has forgotten by then an event "missed" tells. While a job runs a line also tells when the reason
for its rate changes.`,
		Example: `  ebb watch
  ebb watch --json --after 4711 | jq -r 'select(.kind == "error") | .name'`,
		ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			a.admin = a.admin || f.AllUsers
			srv := a.connect()
			defer srv.Close()
			for _, ref := range args {
				job, err := srv.Find(ctx, ref)
				if err != nil {
					return err
				}
				f.Job = append(f.Job, job.ID)
			}
			if len(args) == 0 { // so that a service that is not there is told of, not waited for
				if _, err := srv.Service(ctx); err != nil {
					return err
				}
			}
			srv.mine = false // whoever only watches does not keep the service alive
			return a.watch(srv.wait(ctx), srv, f)
		},
	}
	cmd.Flags().Uint64Var(&f.After, "after", 0, "start after the event with this `number`; 0 means from now on")
	cmd.Flags().BoolVar(&f.Progress, "bytes", false, "news of bytes moved too, at most two a second and job")
	cmd.Flags().BoolVar(&f.AllUsers, "all-users", false, "the jobs of all users; for administrators")
	return cmd
}

func (a *app) watch(ctx context.Context, srv *service, f client.Filter) error {
	alive := map[bits.ID]bool{}
	for _, id := range f.Job {
		info, err := srv.Job(id).Status(ctx)
		if err != nil {
			return err
		}
		if !info.State.Final() || f.After > 0 {
			alive[id] = true
		}
	}
	if len(f.Job) > 0 && len(alive) == 0 {
		return nil
	}
	bytes := f.Progress
	f.Progress = true // it has the pace
	paces := paces{}
	for e, err := range srv.Watch(ctx, f) {
		if err != nil {
			return err
		}
		if changed := paces.change(e); e.Kind == bits.EventProgress && !bytes && !changed {
			continue
		}
		if a.json {
			if err := writeJSON(a.outTerm.forJSON(a.out), e, ""); err != nil {
				return err
			}
		} else {
			a.printf("%s\n", a.eventLine(e))
		}
		switch e.Kind {
		case bits.EventRemoved:
			delete(alive, e.Job)
		case bits.EventMissed: // perhaps also that a job ended
			for id := range alive {
				if info, err := srv.Job(id).Status(ctx); err != nil && !errors.Is(err, &bits.Error{Code: bits.NotFound}) {
					return err
				} else if err != nil || info.State.Final() {
					delete(alive, id)
				}
			}
		default:
			continue
		}
		if len(f.Job) > 0 && len(alive) == 0 {
			return nil
		}
	}
	return nil
}

// paces are the pace states of the jobs that run, as they were told last.
type paces map[bits.ID]bits.PaceState

// change takes in an event and reports whether the pace of its job is another one now. That
// nothing holds back a job is news only if something did.
func (p paces) change(e bits.Event) bool {
	switch {
	case e.Pace != nil:
		was, told := p[e.Job]
		p[e.Job] = e.Pace.State
		return e.Pace.State != was && (told || e.Pace.State != bits.PaceUnrestricted)
	case !e.State.Running():
		delete(p, e.Job)
	}
	return false
}

// eventLine is an event for people.
func (a *app) eventLine(e bits.Event) string {
	if e.Kind == bits.EventMissed {
		return fmt.Sprintf("%s %-8s %s", e.Time.Local().Format("15:04:05"), e.Kind, safe(e.Note))
	}
	parts := []string{e.Time.Local().Format("15:04:05"), shortID(e.Job), fmt.Sprintf("%-11s", e.Kind),
		a.outTerm.paint(stateColour(e.State), fmt.Sprintf("%-15s", e.State)), safe(e.Name)}
	if e.Progress != nil {
		parts = append(parts, progressText(*e.Progress))
	}
	if e.Pace != nil {
		parts = append(parts, paceText(*e.Pace))
	}
	switch {
	case e.File != nil && e.Kind == bits.EventNote:
		parts = append(parts, safeURL(e.File.Remote)+": "+safe(e.File.Note))
	case e.Kind == bits.EventNotify:
		parts = append(parts, safe(e.Note))
	case e.Error != nil:
		sentence, _ := jobError(e.Error)
		parts = append(parts, safe(sentence))
	case e.File != nil && e.Kind == bits.EventFile:
		parts = append(parts, safe(e.File.Local))
	case e.File != nil && e.Kind == bits.EventRanges:
		parts = append(parts, safe(e.File.Local)+": "+rangesText(e.Ranges, 8))
	}
	if e.RetryAt != nil {
		parts = append(parts, "next attempt "+e.RetryAt.Local().Format("15:04:05"))
	}
	return strings.Join(parts, "  ")
}
