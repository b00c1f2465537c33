package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
)

// topInterval is the default and the least time between two frames of `ebb top`.
const topInterval = 250 * time.Millisecond

// topFrames is how often in a second the screen takes in what keys changed.
const topFrames = 10

func newTopCmd(a *app) *cobra.Command {
	var once bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch jobs, their rates and the network live",
		Long: `Show, until q is pressed, the network paths that jobs use and the jobs themselves: what
a path can carry, who uses it, why background jobs move as fast as they do, a chart of the
last minutes, and for each job its rate and the time it takes, or what it waits for. The
selected job can be suspended, resumed, cancelled or given another priority; ? tells how.

When the service goes away ebb top waits for it. Where the standard output is no terminal,
and with --once, it prints how things stand and ends; with --json as an object with the
service, its paths and its jobs. NO_COLOR is honoured.`,
		Example: `  ebb top
  ebb top --once
  ebb top --json | jq '.paths[] | {name, state, capacity}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < topInterval {
				return usagef("--interval=%v: want at least %v", interval, topInterval)
			}
			return a.top(cmd.Context(), once || !a.outTerm.is || os.Getenv("TERM") == "dumb", interval)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print one frame as text and end")
	cmd.Flags().DurationVar(&interval, "interval", topInterval, "`time` between two frames, such as 1s")
	return cmd
}

func (a *app) top(ctx context.Context, once bool, interval time.Duration) error {
	srv := a.connect()
	defer srv.Close()
	if _, err := srv.Service(ctx); err != nil { // starts one where that is for ebb to do
		return err
	}
	srv.mine = false // whoever only watches does not keep the service alive
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	t := newTop(ctx, srv, interval, look{colour: a.outTerm.colour, utf8: utf8Terminal()})
	if err := t.begin(); err != nil {
		return err
	}
	if !once && !a.json {
		return t.run()
	}
	time.Sleep(topInterval) // the service measures rates from one question to the next
	t.now = time.Now()
	if err := t.begin(); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(topJSON{t.about, append([]bits.Path{}, t.paths...), append([]bits.Job{}, t.jobs...)})
	}
	t.width = endless
	if a.outTerm.is {
		t.width = a.outTerm.width()
	}
	a.printf("%s", t.page())
	return nil
}

// utf8Terminal reports whether the terminal shows UTF-8, and block characters one column wide.
func utf8Terminal() bool {
	locale := runtime.GOOS == "windows"
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToLower(v)
			locale = strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
			break
		}
	}
	return locale && runewidth.StringWidth(eighths[8]) == 1
}

// topJSON is what programs get of top.
type topJSON struct {
	Service *bits.Service `json:"service"`
	Paths   []bits.Path   `json:"paths"`
	Jobs    []bits.Job    `json:"jobs"`
}

// begin asks for all that a first frame shows.
func (t *top) begin() error {
	jobs := t.askJobs(false)().(jobsIs)
	if jobs.err != nil {
		return jobs.err
	}
	paths := t.askPaths().(pathsIs)
	if paths.err != nil && !errors.Is(paths.err, errNoCall) {
		return paths.err
	}
	t.takeJobs(jobs)
	t.takePaths(paths)
	return nil
}

// run draws on the terminal until the person has seen enough.
func (t *top) run() error {
	// With 16 colours there is nothing to find out about the terminal's.
	_, err := tea.NewProgram(t, tea.WithContext(t.ctx), tea.WithFPS(topFrames), tea.WithColorProfile(colorprofile.ANSI)).Run()
	if errors.Is(err, tea.ErrInterrupted) {
		return told(exitInterrupted)
	}
	if err != nil {
		return fmt.Errorf("draw on the terminal: %w", err)
	}
	return nil
}
