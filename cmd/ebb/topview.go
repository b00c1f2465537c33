package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/ebbtransfer/ebb/bits"
)

// What is left out as the screen becomes narrower.
const (
	wideScreen   = 100 // why a job is held back
	middleScreen = 80  // its priority
	narrowScreen = 68  // how long it takes
	tinyScreen   = 56  // its state by name, the axis of charts
)

// endless is the width and the height of a frame that is no screen.
const endless = math.MaxInt16

// frame draws the screen: lines, each no wider and all no more than it.
func (t *top) frame() string {
	rows := t.header()
	if t.mode == helping {
		rows = append(rows, t.help()...)
	} else {
		rows = append(rows, t.body(t.height-len(rows)-1)...)
	}
	rows = rows[:max(0, min(len(rows), t.height-1))]
	for len(rows) < t.height-1 {
		rows = append(rows, "")
	}
	return strings.Join(append(rows, t.footer()), "\n")
}

// page is the frame for a file or a pipe: everything there is, once.
func (t *top) page() string {
	t.selected = bits.ID{}
	rows := append(t.header(), "")
	for i := range t.paths {
		rows = append(rows, t.pathHead(&t.paths[i]), t.pathFigures(&t.paths[i]), t.legend(&t.paths[i], nil), "")
	}
	return strings.Join(append(rows, t.table(endless)...), "\n") + "\n"
}

// header is the state of the service, in one line and in one more for each thing that is amiss.
func (t *top) header() []string {
	l := t.line(t.width)
	l.add(bold, "ebb")
	var own int64
	for i := range t.jobs {
		own += t.speed(&t.jobs[i], false)
	}
	l.add("", "  "+rate(own))
	counts := t.about.Jobs
	n := func(states ...bits.State) (sum int) {
		for _, s := range states {
			sum += counts[s.String()]
		}
		return sum
	}
	for _, c := range []struct {
		n     int
		what  string
		style string
	}{
		{n(bits.Connecting, bits.Transferring), "running", ""},
		{n(bits.Queued, bits.TransientError), "waiting", ""},
		{n(bits.Suspended), "suspended", ""},
		{n(bits.Transferred), "to complete", ""},
		{n(bits.Errored), "failed", red},
	} {
		if s := fmt.Sprintf("  %d %s", c.n, c.what); (c.n > 0 || c.what == "running") && l.fits(s) {
			l.add(c.style, s)
		}
	}
	about := safe(t.about.Version)
	if !t.about.Started.IsZero() {
		about += ", up " + span(t.now.Sub(t.about.Started))
	}
	if l.fits("   " + about) {
		if t.width == endless {
			l.add("", "  "+about)
		} else {
			l.right(dim, about, t.width)
		}
	}
	rows := []string{l.String()}
	warn := func(style, s string) {
		l := t.line(t.width)
		l.add(style, s)
		rows = append(rows, l.String())
	}
	if t.away != nil {
		warn(red, fmt.Sprintf("the service does not answer for %s; waiting for it: %s", span(t.now.Sub(t.awaySince)), safe(t.away.Error())))
	}
	for _, n := range t.about.Notices {
		warn(yellow, "note: "+safe(n))
	}
	return rows
}

// body divides the rows among paths and jobs: the jobs have half of them if they need so many.
// Where there are rows to spare the last one has in full what the table cuts of the selected job.
func (t *top) body(rows int) []string {
	gap := 0 // blank lines around the paths, and before the last row
	if rows >= 16 {
		gap = 1
	}
	jobs := min(1+max(1, len(t.jobs)), max(2, rows/2-2*gap))
	out := make([]string, gap, max(gap, rows))
	out = append(out, t.blocks(rows-jobs-4*gap)...)
	out = append(out, make([]string, gap)...)
	if gap == 0 || len(t.jobs) == 0 {
		return append(out, t.table(rows-len(out))...)
	}
	out = append(out, t.table(rows-len(out)-2)...)
	for len(out) < rows-1 {
		out = append(out, "")
	}
	j := &t.jobs[t.index()]
	l := t.line(t.width)
	l.add(bold, safe(j.Name))
	l.add("", "  "+t.why(j))
	return append(out, l.String())
}

// The rows that a path takes: its name and why, its figures, what moves, and a chart between
// the last two.
const mostChart = 8

// blocks draws the paths into so many rows. They share them evenly.
func (t *top) blocks(rows int) []string {
	note := func(s string) []string {
		l := t.line(t.width)
		l.add(dim, s)
		return []string{l.String()}
	}
	switch {
	case rows <= 0:
		return nil
	case t.noPaths:
		return note("this service is older than ebb top and does not tell of network paths")
	case len(t.paths) == 0:
		return note("no network path is in use")
	}
	show := t.paths
	var more []string
	if len(show) > rows {
		show = show[:rows-1]
		more = note(fmt.Sprintf("and %d more; `ebb top --once` shows all", len(t.paths)-len(show)))
		rows--
	}
	var out []string
	for i := range show {
		share := min(rows/(len(show)-i), 3+mostChart)
		rows -= share
		out = append(out, t.block(&show[i], share)...)
	}
	return append(out, more...)
}

func (t *top) block(p *bits.Path, rows int) []string {
	out := []string{t.pathHead(p)}
	if rows >= 2 {
		out = append(out, t.pathFigures(p))
	}
	if rows < 3 {
		return out
	}
	axis := 0 // columns of the labels
	if t.width >= tinyScreen {
		axis = 11
	}
	var cols []traffic
	if n := min(t.width-axis, historyLen-int(chartSpan/time.Second)); n > 0 {
		cols = t.past[p.Name].columns(t.now, n)
		limit := chartTop(cols)
		for r := rows - 4; r >= 0; r-- {
			l := t.line(t.width)
			switch {
			case axis == 0:
			case r == rows-4:
				l.right(dim, rate(int64(limit)), axis-1)
			case r == 0:
				l.right(dim, "0", axis-1)
			}
			l.tab(axis)
			for i := range cols {
				l.add(t.cell(&cols[i], r, rows-3, limit))
			}
			out = append(out, l.String())
		}
	}
	return append(out, t.legend(p, cols))
}

// paceStyle is the colour in which people find a pace at a glance.
func paceStyle(s bits.PaceState) string {
	switch s {
	case bits.PaceIdle:
		return green
	case bits.PaceYielding, bits.PaceCapped, bits.PaceSilent:
		return yellow
	case bits.PaceUnrestricted, bits.PaceProbing, bits.PaceShared:
	}
	return ""
}

// pathHead is the name of a path, and what decides how fast background jobs move.
func (t *top) pathHead(p *bits.Path) string {
	l := t.line(t.width)
	l.add(bold, runewidth.Truncate(safe(p.Name), max(8, t.width/2), t.ellipsis()))
	l.add("", "  ")
	l.add(paceStyle(p.State), strings.ReplaceAll(safe(string(p.State)), "_", " "))
	l.add("", "  "+safe(p.Why))
	return l.String()
}

// pathFigures is what was measured, the most telling first.
func (t *top) pathFigures(p *bits.Path) string {
	ms := func(v float64) string { return fmt.Sprintf("%.1f ms", v) }
	var figures []string
	if p.Capacity > 0 {
		figures = append(figures, "link carries "+rate(p.Capacity))
	}
	if p.Limit != nil {
		figures = append(figures, "limit "+rate(*p.Limit))
	}
	if p.BaseRTT > 0 {
		figures = append(figures, "queue "+ms(p.Queue), fmt.Sprintf("RTT %s, %.1f when idle", ms(p.RTT), p.BaseRTT))
	} else if p.RTT > 0 {
		figures = append(figures, "RTT "+ms(p.RTT))
	}
	switch {
	case p.Window <= 0 || p.Connections == 0: // nothing is held back
	case p.Connections == 1:
		figures = append(figures, "window "+size(p.Window))
	default:
		figures = append(figures, fmt.Sprintf("window %s in %d connections", size(p.Window), p.Connections))
	}
	if len(p.Signals) > 0 {
		figures = append(figures, "seen by "+safe(strings.Join(p.Signals, ", ")))
	}
	if len(figures) == 0 {
		figures = append(figures, "nothing measured yet")
	}
	l := t.line(t.width)
	for i, f := range figures {
		if f = "  " + f; i > 0 && !l.fits(f) {
			break
		}
		l.add("", f)
	}
	return l.String()
}

// legend is what moves now, with the glyphs of the chart if there is one.
func (t *top) legend(p *bits.Path, cols []traffic) string {
	now := seriesOf(p)
	var shown []int
	for i, v := range now {
		past := func(c traffic) bool { return c.series[i] > 0 }
		if i == ownBackground || i == others && p.Others != nil || v > 0 || slices.ContainsFunc(cols, past) {
			shown = append(shown, i)
		}
	}
	l := t.line(t.width)
	for try, words := range [][seriesCount]string{{"background", "foreground", "others"}, {"bg", "fg", "others"}, {"bg", "fg", "others"}} {
		l = t.line(t.width)
		all := true
		for _, i := range shown {
			if try == 2 && i == ownForeground && now[i] == 0 { // it is over
				continue
			}
			text := " " + words[i] + " " + rate(int64(now[i]))
			all = all && l.fits("   "+text)
			l.add("", " ")
			if cols != nil {
				style, glyph := t.key(i)
				l.add("", " ")
				l.add(style, glyph)
			}
			l.add("", text)
		}
		if all {
			break
		}
	}
	if cols == nil {
		return l.String()
	}
	if s := "  " + t.rule() + " what the link carries"; p.Capacity > 0 && l.fits(s) {
		l.add("", s)
	}
	if s := "last " + duration(time.Duration(columnSeconds(len(cols))*int64(len(cols)))*time.Second); l.fits("   " + s) {
		l.right(dim, s, t.width)
	}
	return l.String()
}

// The states in the order of the table: what runs, what will, what needs its owner, what rests.
var stateOrder = [bits.States]int{bits.Transferring: 0, bits.Connecting: 0, bits.Queued: 1, bits.TransientError: 2, bits.Errored: 3, bits.Transferred: 4, bits.Suspended: 5}

// sortJobs puts jobs in the order of the table; those alike stay as they are, oldest first.
func sortJobs(jobs []bits.Job) {
	slices.SortStableFunc(jobs, func(a, b bits.Job) int {
		return cmp.Or(cmp.Compare(stateOrder[a.State], stateOrder[b.State]), cmp.Compare(a.Priority, b.Priority))
	})
}

// table draws the jobs into so many rows, around the selected one.
func (t *top) table(rows int) []string {
	if rows <= 0 {
		return nil
	}
	if len(t.jobs) == 0 {
		l := t.line(t.width)
		l.add("", "no jobs; `ebb get --background URL` adds one")
		return []string{l.String()}
	}
	name := 8
	for i := range t.jobs {
		name = max(name, runewidth.StringWidth(safe(t.jobs[i].Name)))
	}
	cols, tail := t.columns(name)
	out := []string{t.heads(cols)}
	show := t.jobs
	if n := rows - 1; len(show) > n { // so many that the selected one is about in the middle
		first := min(len(show)-n, max(0, t.index()-n/2))
		show = show[first : first+n]
	}
	for i := range show {
		out = append(out, t.row(cols, tail, &show[i]))
	}
	if t.more > 0 && len(out) < rows {
		l := t.line(t.width)
		l.add(dim, fmt.Sprintf("  and %d more; `ebb list` shows all", t.more))
		out = append(out, l.String())
	}
	return out
}

// A topColumn is a column of the table of jobs.
type topColumn struct {
	head  string
	width int
	right bool
	cell  func(*bits.Job) string
}

// columns returns the columns that fit; longest is the longest name of a job. From the rate on a
// job that does not move has why instead.
func (t *top) columns(longest int) (cols []topColumn, tail int) {
	add := func(least int, c topColumn) {
		if t.width >= least {
			cols = append(cols, c)
		}
	}
	add(0, topColumn{head: "NAME", cell: func(j *bits.Job) string { return safe(j.Name) }})
	if t.allUsers {
		add(wideScreen, topColumn{head: "OWNER", width: 12, cell: func(j *bits.Job) string { return safe(j.Owner) }})
	}
	add(middleScreen, topColumn{head: "PRIORITY", width: 10, cell: func(j *bits.Job) string { return j.Priority.String() }})
	add(tinyScreen, topColumn{head: "STATE", width: 15, cell: func(j *bits.Job) string { return j.State.String() }})
	add(0, topColumn{head: "DONE", width: 4, right: true, cell: func(j *bits.Job) string {
		if j.Progress.BytesTotal < 0 || j.Progress.FilesTotal == 0 {
			return "-"
		}
		return fmt.Sprintf("%d%%", percent(j.Progress.BytesTransferred, j.Progress.BytesTotal))
	}})
	tail = len(cols)
	add(0, topColumn{head: "RATE", width: 12, right: true, cell: func(j *bits.Job) string {
		return rate(t.speed(j, false))
	}})
	add(narrowScreen, topColumn{head: "LEFT", width: 11, right: true, cell: func(j *bits.Job) string {
		if d, ok := timeLeft(j.Progress, t.speed(j, true)); ok {
			return duration(d)
		}
		return ""
	}})
	add(wideScreen, topColumn{width: 16, cell: func(j *bits.Job) string { return heldBack(j.Pace) }})
	rest := t.width - 2*len(cols) // of which two are for the mark of the selected one
	for _, c := range cols {
		rest -= c.width
	}
	cols[0].width = max(4, min(longest, rest))
	return cols, tail
}

func (t *top) heads(cols []topColumn) string {
	l := t.line(t.width)
	at := 0
	for _, c := range cols {
		at += 2
		if c.right {
			l.right(dim, c.head, at+c.width)
		} else {
			l.tab(at)
			l.add(dim, c.head)
		}
		at += c.width
	}
	return l.String()
}

func (t *top) row(cols []topColumn, tail int, j *bits.Job) string {
	l := t.line(t.width)
	if j.ID == t.selected {
		l.all = reverse
		l.add("", ">")
	}
	at := 0
	for i, c := range cols {
		at += 2
		if i == tail && j.State != bits.Transferring {
			l.tab(at)
			l.add("", t.why(j))
			break
		}
		text, style := runewidth.Truncate(c.cell(j), c.width, t.ellipsis()), ""
		if c.head == "STATE" {
			style = stateColour(j.State)
		}
		if c.right {
			l.right(style, text, at+c.width)
		} else {
			l.tab(at)
			l.add(style, text)
		}
		at += c.width
	}
	if l.all != "" {
		l.tab(t.width)
	}
	return l.String()
}

// why says why a job does not move, or how it does.
func (t *top) why(j *bits.Job) string {
	s := stands(j.State, j.Times.RetryAt, t.now)
	switch {
	case j.Pace != nil:
		return paceText(*j.Pace)
	case j.State == bits.TransientError && j.Error != nil && j.Times.RetryAt == nil: // no timer: the error is what it waits for
		return safe(j.Error.Message)
	case j.State == bits.Transferred && j.Properties.AutoComplete:
		s = "being put in its place"
	case j.State == bits.Transferred:
		s = "`ebb complete` puts it in its place"
	case j.State == bits.Errored:
		s = "failed"
	}
	if j.Error != nil {
		s += ": " + safe(j.Error.Message)
	}
	return s
}

// help explains the keys and the words, the most needed first.
func (t *top) help() []string {
	var rows []string
	add := func(key, text string) {
		l := t.line(t.width)
		l.add(bold, key)
		l.tab(15)
		l.add("", text)
		rows = append(rows, l.String())
	}
	for _, k := range keys {
		add(k.key, k.does)
	}
	add("", "")
	for _, s := range []struct {
		state bits.PaceState
		means string
	}{
		{bits.PaceUnrestricted, "only foreground jobs: nothing is held back"},
		{bits.PaceProbing, "listening, or growing to find out what is free"},
		{bits.PaceIdle, "what nobody else uses was found and is used"},
		{bits.PaceYielding, "somebody else uses the link; background jobs stepped back"},
		{bits.PaceCapped, "policy allows no more"},
		{bits.PaceShared, "another job fetches the same file; its bytes are taken"},
		{bits.PaceSilent, "nothing comes of the server"},
	} {
		add(strings.ReplaceAll(string(s.state), "_", " "), s.means)
	}
	return rows
}

// footer is the last line: a question, what was done last, or the keys.
func (t *top) footer() string {
	l := t.line(t.width)
	switch {
	case t.mode == askCancel:
		name := runewidth.Truncate(safe(t.asked.Name), max(8, t.width-len("cancel ? [y/N] ")), t.ellipsis())
		l.add(bold, "cancel "+name+"? [y/N]")
		l.add("", "  what it fetched is deleted")
	case t.mode == askPriority:
		l.add(bold, "f foreground  h high  n normal  l low")
		l.add("", "  for "+safe(t.asked.Name))
	case t.mode == helping:
		l.add(dim, "any key goes back")
	case t.now.Before(t.saidUntil):
		l.add(t.saidStyle, t.said)
	default:
		for _, k := range keys {
			if s := k.key + " " + k.short + "  "; l.fits(s) && k.short != "" {
				l.add(bold, k.key)
				l.add(dim, " "+k.short+"  ")
			}
		}
	}
	return l.String()
}
