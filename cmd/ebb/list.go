package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newListCmd(a *app) *cobra.Command {
	var o client.ListOptions
	var states []string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the jobs in the queue",
		Long: `List your jobs, oldest first. Jobs that were completed or cancelled are not listed;
` + "`ebb show`" + ` still knows them for a while. With --json the jobs come as an array, each
as ` + "`ebb show --json`" + ` prints it.`,
		Example: `  ebb list
  ebb list --state error,transient_error
  ebb list --json | jq -r '.[] | select(.state == "TRANSFERRED") | .id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range states {
				var state bits.State
				if err := state.UnmarshalText([]byte(s)); err != nil {
					return usagef("--state: %w", err)
				}
				o.State = append(o.State, state)
			}
			if o.Limit < 0 {
				return usagef("--limit=%d: want a number of jobs", o.Limit)
			}
			a.admin = a.admin || o.AllUsers
			srv := a.connect()
			defer srv.Close()
			if a.json {
				return a.listJSON(cmd.Context(), srv, o)
			}
			return a.list(cmd.Context(), srv, o)
		},
	}
	cmd.Flags().BoolVar(&o.AllUsers, "all-users", false, "the jobs of all users; for administrators")
	cmd.Flags().StringSliceVar(&states, "state", nil, "only jobs in this `state`; several with commas or repeated")
	cmd.Flags().IntVar(&o.Limit, "limit", 0, "at most so many jobs (`number`; 0 means all)")
	var names []string
	for s := range bits.State(bits.States) {
		if !s.Final() {
			names = append(names, s.String())
		}
	}
	complete(cmd, "state", names...)
	return cmd
}

// listJSON passes on what the service sends.
func (a *app) listJSON(ctx context.Context, srv *service, o client.ListOptions) error {
	o.Files = true
	srv.notices(ctx)
	body, err := srv.ListJSON(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	_, err = io.Copy(a.outTerm.forJSON(a.out), body)
	return err
}

// A column of the table of jobs.
type column struct {
	head  string
	right bool
	spare bool // left out if no job has it, and on a terminal if it does not fit
	cell  func(*bits.Job) string
}

// row is what the table shows of a job.
type row struct {
	id    bits.ID
	state bits.State
	cells []string
}

func columns(o client.ListOptions) []column {
	cols := []column{
		{head: "ID"},
		{head: "NAME", cell: func(j *bits.Job) string { return safe(j.Name) }},
		{head: "PRIORITY", cell: func(j *bits.Job) string { return j.Priority.String() }},
		{head: "STATE", cell: func(j *bits.Job) string { return j.State.String() }},
		{head: "PROGRESS", right: true, cell: func(j *bits.Job) string { return listedProgress(j.Progress) }},
		{head: "RATE", right: true, spare: true, cell: func(j *bits.Job) string {
			if j.Pace == nil {
				return ""
			}
			return rate(j.Pace.Rate)
		}},
		{head: "FILES", right: true, cell: func(j *bits.Job) string {
			return fmt.Sprintf("%d/%d", j.Progress.FilesTransferred, j.Progress.FilesTotal)
		}},
		{head: "TYPE", spare: true, cell: func(j *bits.Job) string {
			if j.Type == bits.Download {
				return ""
			}
			return j.Type.String()
		}},
	}
	if o.AllUsers {
		cols = append(cols, column{head: "OWNER", cell: func(j *bits.Job) string { return safe(j.Owner) }})
	}
	return append(cols, column{head: "ERROR", spare: true, cell: func(j *bits.Job) string {
		if j.Error == nil {
			return ""
		}
		return safe(j.Error.Message)
	}})
}

const (
	idColumn    = 0
	nameColumn  = 1
	stateColumn = 3
	rateColumn  = 5
)

func (a *app) list(ctx context.Context, srv *service, o client.ListOptions) error {
	cols := columns(o)
	var rows []row
	short := map[string]int{} // how many jobs have these first characters of the id
	for j, err := range srv.List(ctx, o) {
		if err != nil {
			return err
		}
		r := row{j.ID, j.State, make([]string, len(cols))}
		for i, c := range cols {
			if c.cell != nil {
				r.cells[i] = c.cell(&j)
			}
		}
		short[shortID(j.ID)]++
		rows = append(rows, r)
	}
	srv.notices(ctx)
	if len(rows) == 0 {
		if !a.quiet {
			_, _ = fmt.Fprintln(a.err, "no jobs")
		}
		return nil
	}
	for i := range rows {
		id := shortID(rows[i].id)
		if short[id] > 1 {
			id = rows[i].id.String()
		}
		rows[i].cells[idColumn] = id
	}
	return a.printTable(cols, rows)
}

// fit makes columns narrower by as much as the table is too wide.
func fit(widths []int, over, errorColumn int) {
	for _, give := range []struct{ col, least int }{{nameColumn, 24}, {errorColumn, 30}, {nameColumn, 12}, {rateColumn, 0}, {nameColumn, 8}, {errorColumn, 10}} {
		w := widths[give.col]
		switch {
		case over <= 0 || w <= give.least:
		case give.col == rateColumn: // half a number is none
			widths[give.col] = 0
			over -= w + 2
		default:
			widths[give.col] = max(give.least, w-over)
			over -= w - widths[give.col]
		}
	}
}

// printTable prints rows in aligned columns. On a terminal the error and the name give way
// when the line would be too long; a program gets all of it.
func (a *app) printTable(cols []column, rows []row) error {
	errorColumn := len(cols) - 1
	widths := make([]int, len(cols))
	total := 0
	for i, c := range cols {
		for _, r := range rows {
			widths[i] = max(widths[i], runewidth.StringWidth(r.cells[i]))
		}
		if widths[i] > 0 || !c.spare {
			widths[i] = max(widths[i], len(c.head))
			total += widths[i] + 2
		}
	}
	if a.outTerm.is {
		fit(widths, total-2-a.outTerm.width(), errorColumn)
	}
	w := bufio.NewWriter(a.out)
	line := func(cells []string, paint func(col int, s string) string) {
		var b strings.Builder
		for i, s := range cells {
			if widths[i] == 0 {
				continue
			}
			s = runewidth.Truncate(s, widths[i], "…")
			pad := strings.Repeat(" ", widths[i]-runewidth.StringWidth(s))
			if i > 0 {
				b.WriteString("  ")
			}
			if cols[i].right {
				b.WriteString(pad + paint(i, s))
			} else {
				b.WriteString(paint(i, s) + pad)
			}
		}
		_, _ = fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	heads := make([]string, len(cols))
	for i, c := range cols {
		heads[i] = c.head
	}
	line(heads, func(_ int, s string) string { return a.outTerm.paint(bold, s) })
	for _, r := range rows {
		line(r.cells, func(col int, s string) string {
			if col == stateColumn {
				return a.outTerm.paint(stateColour(r.state), s)
			}
			return s
		})
	}
	return w.Flush()
}
