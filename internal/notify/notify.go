// Package notify tells the owners of jobs what happened to them (client.md 7.1 to 7.3): the program
// that has asked for callbacks, or else the job's notify command; its web hook; and the owner's
// desktop.
//
// It promises that the program and the hook are told at least once of a job that became TRANSFERRED
// or ERROR, also after a crash of the service: what is still to be told is in the job's record. It
// decides who is told, when, and how often; the queue keeps what was told, package helper does what
// has to be done as the owner.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/notify/helper"
	"github.com/ebbtransfer/ebb/internal/queue"
)

const (
	// mostPerUser is how many programs, hooks or messages of one user are under way at once, of
	// each (client.md 0.4).
	mostPerUser = 4
	// mostProcesses is how many processes there are at once for notifications of all users.
	mostProcesses = 16
	// mostFinished is how often a notification of a job that has ended by itself is tried: such a
	// job needs nobody any more.
	mostFinished = 10
	// mostFile is how often in a row a program fails to be told of a file before the job's end is told
	// nevertheless, and the files that are left are not told of.
	mostFile = 3
	// hookPatience is how long a web hook's server has for its answer.
	hookPatience = 30 * time.Second
	// leastAgain and mostAgain bound the pause before what failed is tried again, where it is not
	// the job's own (client.md 7.2: "an arbitrary interval").
	leastAgain = 5 * time.Second
	mostAgain  = 10 * time.Minute
)

// errLate is why a program that takes too long is ended.
var errLate = errors.New("it took too long (notify.timeout)")

// Config says how notifications are made.
type Config struct {
	Queue  *queue.Queue
	System bool   // programs run as the jobs' owners, who need not be the service's user
	Socket string // for EBB_SOCKET of programs
	Log    *slog.Logger
}

// Notifier tells the owners of jobs.
type Notifier struct {
	Config
	ctx       context.Context
	work      sync.WaitGroup
	processes chan struct{} // holds one for each process

	mu      sync.Mutex // guards all below
	tasks   map[task]status
	lines   map[line]*waiting
	timers  map[task]*time.Timer
	callers []*Registration
	files   map[bits.ID][]uint64 // file events that a program is still to be told of
	lastID  uint64               // of notifications
	counts  map[Count]uint64
}

// Count is what notifications are counted by.
type Count struct {
	Channel string // callback, command, hook or desktop
	Result  string // ok or failed
}

// task is to tell one channel of one job.
type task struct {
	job     bits.ID
	channel queue.Channel
}

type status int

const (
	queued status = iota + 1
	running
	again // running, and something has changed since
)

// line is where the tasks of a user wait for each other.
type line struct {
	uid     uint32
	channel queue.Channel
}

type waiting struct {
	running int
	tasks   []task
}

// New returns a Notifier, which does nothing before Run.
func New(c Config) *Notifier {
	return &Notifier{Config: c, processes: make(chan struct{}, mostProcesses), tasks: map[task]status{}, lines: map[line]*waiting{},
		timers: map[task]*time.Timer{}, files: map[bits.ID][]uint64{}, counts: map[Count]uint64{}}
}

// Run tells whoever is to be told until ctx ends.
func (n *Notifier) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.mu.Lock()
	n.ctx = ctx
	n.mu.Unlock()
	after := n.Queue.LastEvent()
	n.Queue.Noticed(n.consider) // what was not told before the service ended
	own := uint32(os.Geteuid())
	// An event beside the list above only means that a job is looked at once more.
	_ = n.Queue.Watch(ctx, queue.Caller{UID: own, Self: own}, queue.Filter{AllUsers: true, After: after}, func(events []bits.Event) error {
		for _, e := range events {
			n.see(e)
		}
		return nil
	})
	n.mu.Lock()
	for _, t := range n.timers {
		t.Stop()
	}
	for _, r := range n.callers {
		r.end()
	}
	n.mu.Unlock()
	cancel()
	n.work.Wait()
}

// see takes in an event.
func (n *Notifier) see(e bits.Event) {
	switch e.Kind {
	case bits.EventFile:
		n.seeFile(e)
	case bits.EventMissed:
		n.Queue.Noticed(n.consider)
	case bits.EventRemoved, bits.EventTransferred, bits.EventError, bits.EventModified:
		notice, ok := n.Queue.Notice(e.Job)
		if e.Kind == bits.EventRemoved && notice.Kind == "" { // it has not completed itself
			n.mu.Lock()
			delete(n.files, e.Job)
			for _, r := range n.callers {
				r.settle(e.Job) // whatever the program answers: the job is done with (client.md 7.2)
			}
			n.mu.Unlock()
		}
		if ok {
			n.consider(notice)
		}
	}
}

// consider lets the channels be told that there are for a notice.
func (n *Notifier) consider(notice queue.Notice) {
	for _, c := range queue.Channels {
		if notice.Wants(c) && (c != queue.ToProgram || len(notice.Job.Properties.NotifyCommand) > 0 || n.hasCaller(&notice)) {
			n.kick(task{notice.Job.ID, c}, notice.UID)
		}
	}
}

// kick puts a task in line, if it is not there.
func (n *Notifier) kick(t task, uid uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.enqueue(t, uid)
}

// enqueue is kick with n.mu held.
func (n *Notifier) enqueue(t task, uid uint32) {
	if n.ctx == nil || n.ctx.Err() != nil {
		return
	}
	if timer := n.timers[t]; timer != nil {
		timer.Stop()
		delete(n.timers, t)
	}
	switch n.tasks[t] {
	case queued, again:
		return
	case running:
		n.tasks[t] = again
		return
	}
	at := line{uid, t.channel}
	l := n.lines[at]
	if l == nil {
		l = &waiting{}
		n.lines[at] = l
	}
	n.tasks[t] = queued
	l.tasks = append(l.tasks, t)
	n.pump(at, l)
}

// pump begins as many tasks of a line as may be under way; n.mu is held.
func (n *Notifier) pump(at line, l *waiting) {
	for l.running < mostPerUser && len(l.tasks) > 0 {
		t := l.tasks[0]
		l.tasks = l.tasks[1:]
		l.running++
		n.tasks[t] = running
		n.work.Go(func() { n.perform(at, l, t) })
	}
	if l.running == 0 && len(l.tasks) == 0 {
		delete(n.lines, at)
	}
}

// next says what follows a task: at once again, at a time, or nothing until something changes.
type next struct {
	more bool
	at   time.Time
}

func (n *Notifier) perform(at line, l *waiting, t task) {
	var then next
	if notice, ok := n.Queue.Notice(t.job); ok {
		then = n.tell(t, &notice)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l.running--
	more := then.more || n.tasks[t] == again
	delete(n.tasks, t)
	if n.ctx.Err() != nil {
		return
	}
	switch {
	case more:
		n.enqueue(t, at.uid)
	case !then.at.IsZero():
		n.timers[t] = time.AfterFunc(time.Until(then.at), func() { n.kick(t, at.uid) })
	}
	n.pump(at, l)
}

// tell tells one channel once.
func (n *Notifier) tell(t task, notice *queue.Notice) next {
	switch t.channel {
	case queue.ToHook:
		return n.tellHook(t, notice)
	case queue.ToDesktop:
		return n.tellDesktop(t, notice)
	}
	return n.tellProgram(t, notice)
}

// tellProgram tells the program that has asked for callbacks. The notify command runs if there is
// none, or if it failed (client.md 7.2, 7.3).
func (n *Notifier) tellProgram(t task, notice *queue.Notice) next {
	caller := n.callerFor(notice)
	if caller != nil {
		told, err := n.tellFile(caller, notice)
		switch {
		case errors.Is(err, errGone):
			return next{more: true} // there may be another, and else the command
		case err != nil:
			return n.fileFailed(notice, err)
		case told:
			return next{more: true}
		}
	}
	if !notice.Wants(queue.ToProgram) {
		return next{}
	}
	if caller == nil && time.Until(notice.Retry) > 0 {
		return next{at: notice.Retry}
	}
	var err error
	if caller != nil {
		if err = n.callBack(caller, event(notice)); err == nil {
			return n.told(t, notice)
		}
	}
	command := notice.Job.Properties.NotifyCommand
	switch {
	case n.ctx.Err() != nil:
		return next{}
	case len(command) == 0 && caller == nil:
		return next{} // until there is somebody
	case len(command) == 0 && errors.Is(err, errGone):
		return next{more: true} // there may be another one
	case len(command) == 0:
		return n.failed(t, notice, fmt.Sprintf("the program that asked for callbacks could not deal with it: %v", err), min(notice.Least, time.Minute))
	}
	if err = n.run(notice, command); n.ctx.Err() != nil {
		return next{}
	}
	n.count("command", err)
	if err == nil {
		n.Log.Info("notify command done", append(facts(notice), "program", command[0])...)
		return n.told(t, notice)
	}
	id, why := audit.CommandNotRun, fmt.Sprintf("the notify command could not be run: %v", err)
	var exit *helper.ExitError
	if errors.As(err, &exit) {
		id, why = audit.CommandFailed, fmt.Sprintf("the notify command %s failed: %s", command[0], exit.How)
	} else if errors.Is(err, errLate) {
		id, why = audit.CommandFailed, fmt.Sprintf("the notify command %s was ended: %v", command[0], err)
	}
	n.Log.Warn("notify command failed", append(facts(notice), audit.Event(id), "program", command[0], "err", err)...)
	if exit != nil && exit.Output != "" {
		why += ": " + exit.Output
	}
	return n.failed(t, notice, why, notice.Least)
}

// fileFailed notes that a program could not be told of a file. That is tried again while the job
// lasts, but does not keep its end from being told (client.md 7.2: the end is told at least once).
func (n *Notifier) fileFailed(notice *queue.Notice, err error) next {
	if n.ctx.Err() != nil {
		return next{}
	}
	tries := notice.Missed + 1
	n.Queue.FileNotTold(notice.Job.ID, fmt.Sprintf("the program that asked for callbacks could not deal with a file: %v", err))
	if tries >= mostFile && notice.Wants(queue.ToProgram) {
		left := n.dropFiles(notice.Job.ID)
		n.Log.Error("telling of files given up", append(facts(notice), "attempts", tries, "files", left, "err", err)...)
		return next{more: true}
	}
	pause := min(time.Second<<min(notice.Missed, 10), mostAgain)
	n.Log.Warn("telling of a file will be tried again", append(facts(notice), audit.Event(audit.NotificationRetry), "err", err, "wait", pause)...)
	return next{at: time.Now().Add(pause)}
}

// told notes that the program, or the command, was told of a job's end. No file of a job that has ended is
// told of after that.
func (n *Notifier) told(t task, notice *queue.Notice) next {
	n.Queue.Told(t.job, notice.Due, t.channel)
	if notice.Job.State.Final() {
		n.mu.Lock()
		delete(n.files, t.job)
		n.mu.Unlock()
	}
	return next{}
}

// failed notes that a program could not be told, and when that is tried again.
func (n *Notifier) failed(t task, notice *queue.Notice, why string, pause time.Duration) next {
	if notice.Job.State.Final() && notice.Failed+1 >= mostFinished {
		n.Log.Error("notification given up", append(facts(notice), "attempts", notice.Failed+1)...)
		return n.told(t, notice)
	}
	at := time.Now().Add(pause)
	n.Log.Warn("notification will be tried again", append(facts(notice), audit.Event(audit.NotificationRetry), "wait", pause)...)
	n.Queue.NotTold(t.job, notice.Due, t.channel, why, at)
	return next{at: at}
}

// tellHook posts the web hook, again and again until its server takes it.
func (n *Notifier) tellHook(t task, notice *queue.Notice) next {
	if !notice.Wants(queue.ToHook) {
		return next{}
	}
	if time.Until(notice.Repost) > 0 {
		return next{at: notice.Repost}
	}
	err := n.post(notice)
	if n.ctx.Err() != nil {
		return next{}
	}
	n.count("hook", err)
	if err == nil {
		n.Log.Info("web hook taken", facts(notice)...)
		n.Queue.Told(t.job, notice.Due, t.channel)
		return next{}
	}
	if notice.Job.State.Final() && notice.Hook+1 >= mostFinished {
		n.Log.Error("web hook given up", append(facts(notice), "attempts", notice.Hook+1, "err", err)...)
		n.Queue.Told(t.job, notice.Due, t.channel)
		return next{}
	}
	pause := min(leastAgain<<min(notice.Hook, 10), mostAgain)
	at := time.Now().Add(pause)
	n.Log.Warn("web hook failed and will be tried again", append(facts(notice), audit.Event(audit.NotificationRetry), "err", err, "wait", pause)...)
	n.Queue.NotTold(t.job, notice.Due, t.channel, bits.RedactText(fmt.Sprintf("the web hook was not taken: %v", err)), at)
	return next{at: at}
}

// tellDesktop shows a message, once: whoever has no desktop now needs none later.
func (n *Notifier) tellDesktop(t task, notice *queue.Notice) next {
	if !notice.Wants(queue.ToDesktop) {
		return next{}
	}
	err := n.show(notice)
	if n.ctx.Err() != nil {
		return next{}
	}
	n.count("desktop", err)
	if err != nil {
		n.Log.Info("no message on the desktop", append(facts(notice), "err", err)...)
	}
	n.Queue.Told(t.job, notice.Due, t.channel)
	return next{}
}

// facts are what the log tells of a job.
func facts(notice *queue.Notice) []any {
	return []any{"job", notice.Job.ID, "name", notice.Job.Name, "owner", notice.Job.Owner, "state", notice.Job.State}
}

func (n *Notifier) count(channel string, err error) {
	c := Count{channel, "ok"}
	if err != nil {
		c.Result = "failed"
	}
	n.mu.Lock()
	n.counts[c]++
	n.mu.Unlock()
}

// IsBusy reports whether somebody is being told of something, or will be.
func (n *Notifier) IsBusy() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.tasks) > 0 || len(n.timers) > 0
}

// Counts returns how many notifications there were.
func (n *Notifier) Counts() map[Count]uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[Count]uint64, len(n.counts))
	for c, v := range n.counts {
		out[c] = v
	}
	return out
}

// event is the news that a notice is about.
func event(notice *queue.Notice) bits.Event {
	j := &notice.Job
	return bits.Event{Time: time.Unix(0, notice.Due).UTC(), Kind: notice.Kind, Job: j.ID, Name: j.Name, Owner: j.Owner, State: j.State, Error: j.Error, Progress: &j.Progress, Note: j.Note}
}
