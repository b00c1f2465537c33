package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
)

// explanation is what explain prints for programs.
type explanation struct {
	At       time.Time          `json:"at"`
	TimeZone string             `json:"time_zone"`
	File     string             `json:"file"`
	Limits   []bits.PolicyLimit `json:"limits"`
}

func newPolicyExplainCmd(a *app) *cobra.Command {
	var at, priority string
	cmd := &cobra.Command{
		Use:   "explain [JOB]",
		Short: "Explain which bandwidth limit holds, why, and until when",
		Long: `Explain which limit the configuration sets for each priority, or for that of a job:
until when it holds, which rule it comes from and where that stands, and what follows;
and whether jobs wait because of what the network costs or how the machine is powered.
--at asks about another moment, by the clock that the configuration means; network and
power are taken as they are now.`,
		Example: `  ebb policy explain
  ebb policy explain nightly
  ebb policy explain --at 'Sun 03:00' --priority low
  ebb policy explain --at 2026-03-29T01:59:59+01:00`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && priority != "" {
				return usagef("a job has its own priority; leave out --priority or the job")
			}
			var only *bits.Priority
			transfer := bits.TransferDefault
			if priority != "" {
				only = new(bits.Priority)
				if err := only.UnmarshalText([]byte(priority)); err != nil {
					return usagef("%w", err)
				}
			}
			srv := a.connect()
			defer srv.Close()
			if len(args) > 0 {
				job, err := srv.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				info, err := job.Info(cmd.Context())
				if err != nil {
					return err
				}
				only, transfer = &info.Priority, info.Properties.TransferPolicy
			}
			e, err := srv.explain(cmd.Context(), at, transfer)
			if err != nil {
				return err
			}
			if only != nil {
				e.Limits = e.Limits[*only : *only+1]
			}
			if a.json {
				return a.printJSON(e)
			}
			a.explain(e)
			return nil
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "at this `time`: \"15:04\", \"Sun 15:04\", \"2006-01-02 15:04\", or RFC 3339")
	cmd.Flags().StringVar(&priority, "priority", "", "only for this `priority`: foreground, high, normal or low")
	_ = cmd.RegisterFlagCompletionFunc("priority", cobra.FixedCompletions([]string{"foreground", "high", "normal", "low"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// explain asks the service about the limits at a time that people wrote; "" is now.
func (s *service) explain(ctx context.Context, at string, transfer bits.Cost) (explanation, error) {
	p, err := s.Policy(ctx)
	if err != nil {
		return explanation{}, err
	}
	e := explanation{At: time.Now(), File: p.File}
	zone := policy.Default().Bandwidth.Zone
	for _, v := range p.Settings {
		if name, ok := v.Value.(string); ok && v.Key == "bandwidth.timezone" {
			e.TimeZone = name
			if err := zone.UnmarshalText([]byte(name)); err != nil {
				return e, err
			}
		}
	}
	e.At = e.At.In(zone.Location)
	if at != "" {
		if e.At, err = parseMoment(at, e.At); err != nil {
			return e, usagef("%w", err)
		}
	}
	e.Limits, err = s.Limits(ctx, e.At, transfer)
	if err == nil && len(e.Limits) != bits.Priorities {
		err = fmt.Errorf("the service tells limits of %d priorities", len(e.Limits))
	}
	return e, err
}

// parseMoment reads a time as people write it, in the zone of now.
func parseMoment(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.In(now.Location()), nil
	}
	for _, form := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return t, nil
		}
	}
	first, clock, both := strings.Cut(text, " ")
	if !both {
		clock = first
	}
	t, err := time.Parse("15:04", clock)
	days := 0
	if err == nil && both {
		for days < 7 && !isDay(first, now.AddDate(0, 0, days).Weekday()) {
			days++
		}
	}
	if err != nil || days == 7 {
		return now, fmt.Errorf(`%q is not a time (want "15:04", "Sun 15:04", "2006-01-02 15:04", or RFC 3339)`, text)
	}
	return time.Date(now.Year(), now.Month(), now.Day()+days, t.Hour(), t.Minute(), 0, 0, now.Location()), nil
}

// isDay tells whether a name is that of a day of the week, in full or in three letters.
func isDay(name string, d time.Weekday) bool {
	return strings.EqualFold(name, d.String()) || strings.EqualFold(name, d.String()[:3])
}

// explain prints an explanation for people.
func (a *app) explain(e explanation) {
	zone := e.TimeZone
	if name, _ := e.At.Zone(); zone == "Local" {
		zone = name
	}
	a.printf("%s %s\n", e.At.Format("Mon 2006-01-02 15:04:05"), zone)
	for _, l := range e.Limits {
		a.printf("\n%s  %s%s\n", a.outTerm.paint(bold, fmt.Sprintf("%-10s", l.Priority)), a.rateText(l.Now.Rate), untilText(l.Now, e.At))
		a.printf("%12s%s\n", "", whyText(l.Now, e.File))
		if h := l.Hold; h != nil && h.Code != bits.BlockedByPolicy.Name() { // a limit of 0 is told already
			a.printf("%12s%s: %s (%s)\n", "", a.outTerm.paint(red, "waits"), safe(h.Message), safe(h.Code))
		}
		if l.Next != nil {
			a.printf("%12sthen %s%s\n%14s%s\n", "", a.rateText(l.Next.Rate), untilText(*l.Next, e.At), "", whyText(*l.Next, e.File))
		}
	}
}

// rateText writes a limit as the configuration does, and in the units of sizes.
func (a *app) rateText(rate *int64) string {
	switch {
	case rate == nil:
		return "unlimited"
	case *rate == 0:
		return a.outTerm.paint(red, "blocked")
	}
	return fmt.Sprintf("%s (%s/s)", policy.Rate(*rate), size(*rate))
}

// untilText tells the end of a rule by the clock that the rules mean.
func untilText(r bits.PolicyRule, now time.Time) string {
	if r.Until == nil {
		return ""
	}
	t := r.Until.In(now.Location())
	form := "Mon 2006-01-02 15:04"
	switch days := t.Sub(now) / (24 * time.Hour); {
	case t.Format(time.DateOnly) == now.Format(time.DateOnly):
		form = "15:04"
	case days < 6:
		form = "Mon 15:04"
	}
	if _, offset := t.Zone(); offset != offsetOf(now) {
		form += " MST" // the clock is put forward or back before
	}
	return " until " + t.Format(form)
}

func offsetOf(t time.Time) int {
	_, offset := t.Zone()
	return offset
}

// whyText tells where a limit comes from.
func whyText(r bits.PolicyRule, file string) string {
	if r.Key == "" {
		return "no rule says anything else"
	}
	s := r.Key
	if r.Hours != "" {
		s += ", " + r.Hours
	}
	if r.Line > 0 {
		s += fmt.Sprintf(", from %s:%d", safe(file), r.Line)
	}
	if r.BITS != "" {
		s += " " + r.BITS
	}
	return s
}
