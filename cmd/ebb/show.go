package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
)

// shownFiles is how many files show lists unless all are asked for.
const shownFiles = 20

func newShowCmd(a *app) *cobra.Command {
	var all, properties bool
	cmd := &cobra.Command{
		Use:   "show JOB",
		Short: "Show everything about a job",
		Long: `Show a job's state, progress, error, properties, times and files and, while it runs, how
fast it moves and why: idle capacity was found, somebody else uses the link, policy
allows no more, or ebb is probing for what is free. Jobs that were completed or cancelled
can be shown for a while. JOB is an id, a unique beginning of one, or a name.`,
		Example: `  ebb show nightly
  ebb show --properties nightly
  ebb show --json 6af46e48 | jq .error`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			srv := a.connect()
			defer srv.Close()
			job, err := srv.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJob(cmd.Context(), job)
			}
			info, err := job.Info(cmd.Context())
			if err != nil {
				return err
			}
			if properties {
				return a.showProperties(info)
			}
			rules, err := srv.Policy(cmd.Context())
			if err != nil {
				rules = &bits.Policy{} // an older service
			}
			most := shownFiles
			if all {
				most = len(info.Files)
			}
			why := ""
			switch info.State {
			case bits.Suspended, bits.Queued, bits.Connecting: // the other states have an error or a rate that tells
				if e, err := job.Explain(cmd.Context()); err == nil && e.Job.State == info.State && len(e.Reasons) > 0 {
					why = e.Reasons[0].Why
				}
			}
			w := bufio.NewWriter(a.out)
			a.showJob(w, info, why, rules, most, time.Now())
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&properties, "properties", false, "only the properties that a job of its type has, all of them, in the form that `ebb set` takes")
	cmd.Flags().BoolVar(&all, "files", false, fmt.Sprintf("all files, not only the first %d", shownFiles))
	return cmd
}

// showProperties prints all properties, one to a line.
func (a *app) showProperties(j *bits.Job) error {
	w := bufio.NewWriter(a.out)
	for i := range bits.PropertyTable {
		p := &bits.PropertyTable[i]
		if p.For != nil && !slices.Contains(p.For, j.Type) {
			continue
		}
		_, _ = fmt.Fprintf(w, "%s=%s\n", p.Name, safe(p.Text(j)))
	}
	return w.Flush()
}

// showJob prints a job for people. why says what a job that has no error waits for; rules are the service's policy, for what the job leaves to it.
func (a *app) showJob(w io.Writer, j *bits.Job, why string, rules *bits.Policy, mostFiles int, now time.Time) {
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%s %s\n", a.outTerm.paint(bold, fmt.Sprintf("%-13s", name)), fmt.Sprintf(format, args...))
	}
	line("id", "%s", j.ID)
	line("name", "%s", safe(j.Name))
	if d := j.Properties.Description; d != "" {
		line("description", "%s", safe(d))
	}
	line("owner", "%s", safe(j.Owner))
	line("type", "%s", j.Type)
	line("priority", "%s", j.Priority)
	line("state", "%s", a.outTerm.paint(stateColour(j.State), j.State.String()))
	line("progress", "%s, %d of %s", progressText(j.Progress), j.Progress.FilesTransferred, filesText(j.Progress.FilesTotal))
	if why != "" {
		line("waits", "%s", safe(why))
	} else if j.Pace != nil {
		line("rate", "%s", paceText(*j.Pace))
	}
	if e := j.Error; e != nil {
		if waiting(j.State, e) {
			line("waits", "%s", a.outTerm.paint(yellow, safe(e.Message)))
		} else {
			line("error", "%s", a.outTerm.paint(red, safe(e.Message)))
		}
		line("  code", "%s %s", safe(e.Code), safe(e.HResult))
		where := e.Context.String()
		if e.ContextMessage != "" {
			where += ": " + safe(e.ContextMessage)
		}
		line("  context", "%s", where)
		if e.File != "" {
			line("  file", "%s", safeURL(e.File))
		}
		if e.Hint != "" {
			line("  hint", "%s", safe(e.Hint))
		}
	}
	if j.Note != "" {
		line("note", "%s", safe(j.Note))
	}
	for _, f := range []*bits.NotificationFailure{j.Failure, j.Hook} {
		if f == nil {
			continue
		}
		line("not told", "%s", a.outTerm.paint(yellow, safe(f.Message)))
		line("  attempts", "%d", f.Attempts)
		if f.RetryAt != nil {
			line("  next", "%s", moment(*f.RetryAt, now))
		}
	}
	line("errors", "%d", j.ErrorCount)
	line("created", "%s", moment(j.Times.Created, now))
	line("modified", "%s", moment(j.Times.Modified, now))
	if t := j.Times.Transferred; t != nil {
		line("transferred", "%s", moment(*t, now))
	}
	if t := j.Times.RetryAt; t != nil {
		line("next attempt", "%s", moment(*t, now))
	}
	p := j.Properties
	line("retry delay", "%s", span(time.Duration(p.MinimumRetryDelay)*time.Second))
	line("no progress", "ERROR after %s", span(time.Duration(p.NoProgressTimeout)*time.Second))
	line("connections", "%d", p.Connections)
	line("transfer", "%s", transferText(p.TransferPolicy, j.Priority, rules))
	if d := p.MaximumDownloadTime; d > 0 {
		text := "ERROR after " + span(time.Duration(d)*time.Second)
		var v policy.Duration
		if err := v.UnmarshalText([]byte(valueOf(rules, maxTimeKey))); err == nil && time.Duration(v) == time.Duration(d)*time.Second {
			text += " (policy: " + maxTimeKey + ")"
		}
		line("download time", "%s", text)
	}
	if p.Protocol != "" {
		line("protocol", "%s", safe(string(p.Protocol)))
	}
	line("auto complete", "%s", map[bool]string{true: "yes", false: "no"}[p.AutoComplete])
	if len(p.HeaderNames) > 0 {
		line("headers", "%s", safe(strings.Join(p.HeaderNames, ", ")))
	}
	for i := range bits.PropertyTable {
		if row := &bits.PropertyTable[i]; row.Option() {
			if v := row.Text(j); v != row.Default {
				line(strings.ReplaceAll(row.Name, "_", " "), "%s", safe(v))
			}
		}
	}
	if c := p.ClientCertificate; c != nil {
		line("certificate", "%s, SHA-256 %s", safe(c.Subject), safe(c.Fingerprint))
	}
	if len(j.Files) == 0 {
		return
	}
	_, _ = fmt.Fprintln(w, a.outTerm.paint(bold, "files"))
	for i, f := range j.Files {
		if i == mostFiles {
			_, _ = fmt.Fprintf(w, "  and %d more; --files shows all\n", len(j.Files)-i)
			return
		}
		showFile(w, f, j.Type != bits.Download)
	}
	if r := j.Reply; r != nil {
		_, _ = fmt.Fprintln(w, a.outTerm.paint(bold, "reply"))
		showFile(w, bits.File{Local: r.File, Remote: r.Remote, BytesTotal: r.BytesTotal, BytesTransferred: r.BytesTransferred, Completed: r.Completed}, false)
	}
}

// maxTimeKey is the key of the time that jobs without one of their own have.
const maxTimeKey = "jobs.max_download_time"

// transferText is a job's transfer policy and, if it leaves it to the service, what that has.
func transferText(own bits.Cost, p bits.Priority, rules *bits.Policy) string {
	v := valueOf(rules, "cost."+strings.ToLower(p.String()))
	if own != bits.TransferDefault || v == "" {
		return own.String()
	}
	return fmt.Sprintf("%s (policy: %s)", own, safe(v))
}

// valueOf returns the value of a key of the configuration, empty if there is none.
func valueOf(rules *bits.Policy, key string) string {
	for _, s := range rules.Settings {
		if s.Key == key {
			return fmt.Sprint(s.Value)
		}
	}
	return ""
}

// fromText says how much of a file came from where, if not all came from its server.
func fromText(f bits.File) string {
	if f.BytesFromPeers == 0 && f.BytesFromCache == 0 {
		return ""
	}
	text := size(f.BytesFromPeers) + " from peers"
	if f.BytesFromCache > 0 {
		text += ", " + size(f.BytesFromCache) + " from this machine's cache"
	}
	return text + ", " + size(max(0, f.BytesTransferred-f.BytesFromPeers-f.BytesFromCache)) + " from the server"
}

func showFile(w io.Writer, f bits.File, upload bool) {
	way, end := "from", "in its place"
	if upload {
		way, end = "to  ", "with the server"
	}
	_, _ = fmt.Fprintf(w, "  %s\n", safe(f.Local))
	if f.Remote != "" {
		_, _ = fmt.Fprintf(w, "    %s  %s\n", way, safe(bits.RedactPassword(f.Remote)))
	}
	for _, m := range f.Mirrors {
		_, _ = fmt.Fprintf(w, "    or    %s\n", safe(bits.RedactPassword(m)))
	}
	if f.Source != "" {
		_, _ = fmt.Fprintf(w, "    now   %s\n", safe(bits.RedactPassword(f.Source)))
	}
	_, _ = fmt.Fprintf(w, "    size  %s", amount(f.BytesTransferred, f.BytesTotal))
	if f.Completed {
		_, _ = fmt.Fprint(w, ", "+end)
	}
	if f.Skipped {
		_, _ = fmt.Fprint(w, ", skipped")
	}
	_, _ = fmt.Fprintln(w)
	if text := fromText(f); text != "" {
		_, _ = fmt.Fprintf(w, "    came  %s\n", text)
	}
	if len(f.Ranges) > 0 {
		_, _ = fmt.Fprintf(w, "    parts %s\n", rangesText(f.Ranges, 8))
	}
	if f.Protocol != "" {
		_, _ = fmt.Fprintf(w, "    by    %s\n", safe(string(f.Protocol)))
	}
	if f.Checksum != "" {
		_, _ = fmt.Fprintf(w, "    want  %s\n", safe(f.Checksum))
	}
	if f.Note != "" {
		_, _ = fmt.Fprintf(w, "    note  %s\n", safe(f.Note))
	}
}
