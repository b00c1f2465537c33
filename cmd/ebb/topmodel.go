package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

const (
	// jobsEvery is the least time between two looks at the jobs.
	jobsEvery = time.Second
	// jobsShare is the part of the time that looking at the jobs may take: with very many jobs
	// it takes the service some milliseconds.
	jobsShare = 20
	// jobsLatest is the longest time between two looks, so that one slow answer of a busy machine
	// does not make the table stand still.
	jobsLatest = 5 * time.Second
	// mostJobs is how many jobs are looked at: so many that run, that wait, and that rest.
	mostJobs = 200
	// answerLimit is after how long a service that is silent counts as away.
	answerLimit = 2 * time.Second
	// saidFor is for how long the last line tells what was done.
	saidFor = 5 * time.Second
)

// errNoCall is the answer of a service that is older than a call.
var errNoCall = &bits.Error{Code: bits.NotImplemented}

// top is the model of `ebb top`: what the service said last, and what the person does.
type top struct {
	look
	ctx      context.Context
	srv      *service
	interval time.Duration

	width, height int
	now           time.Time

	about   *bits.Service
	paths   []bits.Path
	noPaths bool // the service does not know the call
	past    map[string]*history
	jobs    []bits.Job // in the order of the table
	more    int        // jobs that were not looked at
	meters  map[bits.ID]*meter

	away        error // why the service does not answer
	awaySince   time.Time
	asksPaths   bool // an answer is awaited
	asksJobs    bool
	jobsDue     time.Time // when to look at the jobs again
	allUsers    bool
	selected    bits.ID
	selectedRow int // where it was last, for when it is gone

	mode      mode
	asked     bits.Summary // the job that a question is about
	said      string
	saidStyle string
	saidUntil time.Time

	screen string // the frame as it was drawn last
}

// mode is what keys mean.
type mode uint8

const (
	looking mode = iota
	helping
	askCancel
	askPriority
)

// keys are the keys of mode looking.
var keys = []struct{ key, short, does string }{
	{"q", "quit", "leave; the jobs go on (Ctrl+C too)"},
	{"?", "help", "this help"},
	{"s", "suspend", "suspend the job: stop it and keep its progress"},
	{"r", "resume", "resume the job: start it, or retry it now"},
	{"c", "cancel", "cancel the job and delete what it fetched, after a question"},
	{"p", "priority", "change the priority of the job"},
	{"a", "all users", "the jobs of all users or only yours; for administrators"},
	{"up, down", "", "select a job (j, k, PgUp, PgDn, Home, End too)"},
}

// The messages of the model.
type (
	tick    time.Time
	pathsIs struct { // an answer about the paths
		paths []bits.Path
		err   error
	}
	jobsIs struct { // an answer about the service and its jobs
		about    *bits.Service
		jobs     []bits.Job
		more     int
		allUsers bool // what was asked
		took     time.Duration
		err      error
	}
	acted struct { // an action ended
		did string
		err error
	}
)

func newTop(ctx context.Context, srv *service, interval time.Duration, look look) *top {
	return &top{look: look, ctx: ctx, srv: srv, interval: interval, now: time.Now(), about: &bits.Service{}, past: map[string]*history{}, meters: map[bits.ID]*meter{}}
}

// askPaths asks for the paths.
func (t *top) askPaths() tea.Msg {
	ctx, cancel := context.WithTimeout(t.ctx, answerLimit)
	defer cancel()
	paths, err := t.srv.Paths(ctx)
	return pathsIs{paths, err}
}

// jobStates are the states of jobs that are looked at together.
var jobStates = [][]bits.State{
	{bits.Connecting, bits.Transferring},
	{bits.Queued, bits.TransientError},
	{bits.Errored, bits.Transferred, bits.Suspended},
}

// askJobs returns a command that asks for the service and its jobs.
func (t *top) askJobs(allUsers bool) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(t.ctx, answerLimit)
		defer cancel()
		began := time.Now()
		m := jobsIs{allUsers: allUsers}
		if m.about, m.err = t.srv.Service(ctx); m.err != nil {
			return m
		}
		cut := false
		for _, states := range jobStates {
			n := 0
			for j, err := range t.srv.List(ctx, client.ListOptions{AllUsers: allUsers, State: states, Limit: mostJobs}) {
				if err != nil {
					m.err = err
					return m
				}
				m.jobs = append(m.jobs, j)
				n++
			}
			cut = cut || n == mostJobs
		}
		if cut {
			m.more = -len(m.jobs)
			for _, n := range m.about.Jobs {
				m.more += n
			}
		}
		sortJobs(m.jobs)
		m.took = time.Since(began)
		return m
	}
}

func (t *top) Init() tea.Cmd { return t.next() }

// next is the tick that drives everything.
func (t *top) next() tea.Cmd {
	return tea.Tick(t.interval, func(now time.Time) tea.Msg { return tick(now) })
}

func (t *top) View() tea.View {
	v := tea.NewView(t.screen)
	v.AltScreen = true
	return v
}

// Update takes in a message. It draws after the answer to each tick, after keys and after a
// change of size, so that the screen changes at most once an interval by itself.
func (t *top) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd
	switch msg := msg.(type) {
	case tick:
		t.now = time.Time(msg)
		return t, t.ticked()
	case jobsIs:
		t.takeJobs(msg)
		return t, nil
	case pathsIs:
		t.takePaths(msg)
	case acted:
		if msg.err != nil {
			t.say(red, msg.err.Error())
		} else {
			t.say("", msg.did)
		}
		t.jobsDue = time.Time{}
	case tea.WindowSizeMsg:
		t.width, t.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		cmd = t.pressed(msg.String())
	default:
		return t, nil
	}
	t.screen = t.frame()
	return t, cmd
}

// ticked asks for what is due and was answered the last time.
func (t *top) ticked() tea.Cmd {
	cmds := []tea.Cmd{t.next()}
	if !t.asksPaths {
		t.asksPaths = true
		cmds = append(cmds, t.askPaths)
	}
	if !t.asksJobs && !t.now.Before(t.jobsDue) {
		t.asksJobs = true
		cmds = append(cmds, t.askJobs(t.allUsers))
	}
	return tea.Batch(cmds...)
}

// answered notes whether the service answered, be it with an error.
func (t *top) answered(err error) {
	var answer *bits.Error
	switch {
	case err == nil || errors.As(err, &answer):
		t.away = nil
	case t.away == nil:
		t.away, t.awaySince = err, t.now
	}
}

func (t *top) takePaths(m pathsIs) {
	t.asksPaths = false
	t.answered(m.err)
	t.noPaths = errors.Is(m.err, errNoCall)
	if m.err != nil {
		return
	}
	slices.SortFunc(m.paths, func(a, b bits.Path) int { return cmp.Compare(a.Name, b.Name) })
	t.paths = m.paths
	for name, h := range t.past {
		if h.newest < t.now.Unix()-historyLen {
			delete(t.past, name)
		}
	}
	for i := range t.paths {
		p := &t.paths[i]
		if t.past[p.Name] == nil {
			t.past[p.Name] = &history{}
		}
		t.past[p.Name].add(t.now, p)
	}
}

func (t *top) takeJobs(m jobsIs) {
	t.asksJobs = false
	t.answered(m.err)
	t.jobsDue = t.now.Add(min(max(jobsEvery, jobsShare*m.took), jobsLatest))
	if m.allUsers != t.allUsers { // the question changed meanwhile
		t.jobsDue = time.Time{}
		return
	}
	var answer *bits.Error
	if errors.As(m.err, &answer) {
		t.say(red, m.err.Error())
		t.allUsers = false
	}
	if m.err != nil {
		return
	}
	t.about, t.jobs, t.more = m.about, m.jobs, m.more
	meters := map[bits.ID]*meter{}
	for i := range t.jobs {
		if j := &t.jobs[i]; j.State == bits.Transferring {
			meters[j.ID] = cmp.Or(t.meters[j.ID], &meter{})
			meters[j.ID].add(t.now, j.Progress.BytesTransferred)
		}
	}
	t.meters = meters
	t.choose(t.index())
}

// speed is how fast a job moves: as the service says, else, or if a calm figure is wanted, as
// its bytes were counted.
func (t *top) speed(j *bits.Job, calm bool) (n int64) {
	if m := t.meters[j.ID]; m != nil {
		n = m.perSecond()
	}
	if j.Pace != nil && (!calm || n == 0) {
		n = j.Pace.Rate
	}
	return n
}

// index is the row of the selected job or, if it is gone, the one where it was.
func (t *top) index() int {
	for i := range t.jobs {
		if t.jobs[i].ID == t.selected {
			return i
		}
	}
	return t.selectedRow
}

// choose selects the job in a row, or the nearest one.
func (t *top) choose(row int) {
	t.selectedRow, t.selected = max(0, min(row, len(t.jobs)-1)), bits.ID{}
	if len(t.jobs) > 0 {
		t.selected = t.jobs[t.selectedRow].ID
	}
}

// say tells something in the last line for a while.
func (t *top) say(style, s string) {
	t.said, t.saidStyle, t.saidUntil = safe(s), style, t.now.Add(saidFor)
}

// pressed carries out a key.
func (t *top) pressed(key string) tea.Cmd {
	was := t.mode
	t.mode, t.saidUntil = looking, time.Time{}
	switch {
	case key == "ctrl+c":
		return tea.Quit
	case key == "ctrl+z":
		return tea.Suspend
	case was == askCancel && key == "y":
		return t.act("cancelled "+t.asked.Name, t.asked.ID, func(ctx context.Context, j *client.Job) error {
			_, err := j.Cancel(ctx)
			return err
		})
	case was == askPriority:
		for p := range bits.Priority(bits.Priorities) {
			if strings.EqualFold(key, p.String()[:1]) {
				return t.act(t.asked.Name+" has the priority "+p.String(), t.asked.ID, func(ctx context.Context, j *client.Job) error {
					return j.Set(ctx, bits.Settings{Priority: &p})
				})
			}
		}
	case was == looking:
		return t.command(key)
	}
	return nil
}

// command carries out a key that is no answer.
func (t *top) command(key string) tea.Cmd {
	page := max(1, t.height/2)
	switch key {
	case "q":
		return tea.Quit
	case "?":
		t.mode = helping
	case "up", "k":
		t.choose(t.index() - 1)
	case "down", "j":
		t.choose(t.index() + 1)
	case "pgup":
		t.choose(t.index() - page)
	case "pgdown":
		t.choose(t.index() + page)
	case "home":
		t.choose(0)
	case "end":
		t.choose(len(t.jobs))
	case "a":
		t.allUsers = !t.allUsers
		t.jobsDue = time.Time{}
		t.say("", map[bool]string{true: "the jobs of all users", false: "your jobs"}[t.allUsers])
	case "s", "r", "c", "p":
		if len(t.jobs) == 0 {
			t.say("", "there is no job to select")
			return nil
		}
		j := &t.jobs[t.index()]
		return t.ask(key, bits.Summary{ID: j.ID, Name: j.Name, State: j.State})
	}
	return nil
}

// ask carries out a key about the selected job, or asks about it.
func (t *top) ask(key string, job bits.Summary) tea.Cmd {
	t.asked = job
	switch key {
	case "s":
		return t.act("suspended "+job.Name, job.ID, func(ctx context.Context, j *client.Job) error { return j.Suspend(ctx) })
	case "r":
		return t.act("resumed "+job.Name, job.ID, func(ctx context.Context, j *client.Job) error { return j.Resume(ctx) })
	case "c":
		t.mode = askCancel
	case "p":
		t.mode = askPriority
	}
	return nil
}

// act returns a command that does something to a job; did tells that it was done.
func (t *top) act(did string, id bits.ID, do func(context.Context, *client.Job) error) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(t.ctx, patience)
		defer cancel()
		return acted{did, do(ctx, t.srv.Job(id))}
	}
}
