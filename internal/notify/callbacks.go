package notify

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/extent"
	"github.com/ebbtransfer/ebb/internal/queue"
)

const (
	// mostCallers is how many programs of one user may ask for callbacks at once.
	mostCallers = 64
	// mostWaiting is how much news may wait for a program to read it. Of news that need not be
	// acknowledged what is more is dropped.
	mostWaiting = 64
)

var (
	errGone    = errors.New("it went away")
	errRefused = errors.New("it said so")
)

// Registration is a program that has asked for callbacks, for some jobs or for all of a user's. Of
// several the last that asked for a job by its id is called back, else the last that asked for all.
type Registration struct {
	ID     bits.ID
	n      *Notifier
	caller queue.Caller
	jobs   []bits.ID // empty: all of the caller's own
	news   chan bits.Notification
	gone   chan struct{}
	ended  sync.Once

	pending map[uint64]outstanding // guarded by Notifier.mu
}

type outstanding struct {
	job    bits.ID
	answer chan error
}

// Register asks for the callbacks of jobs, or of all jobs of the caller if none are named. What was
// not told yet is told now.
func (n *Notifier) Register(c queue.Caller, jobs []bits.ID) (*Registration, error) {
	r := &Registration{ID: bits.NewID(), n: n, caller: c, jobs: jobs, news: make(chan bits.Notification, mostWaiting), gone: make(chan struct{}), pending: map[uint64]outstanding{}}
	n.mu.Lock()
	own := 0
	for _, other := range n.callers {
		if other.caller.UID == c.UID {
			own++
		}
	}
	if own >= mostCallers || n.ctx == nil || n.ctx.Err() != nil {
		n.mu.Unlock()
		return nil, &bits.Error{Code: bits.AccessDenied, Context: bits.ContextQueueManagerNotification, Message: "too many programs of the user have asked for callbacks"}
	}
	n.callers = append(n.callers, r)
	n.mu.Unlock()
	after := n.catchUp(r)
	n.Queue.Noticed(func(notice queue.Notice) {
		if r.covers(&notice) && (notice.Wants(queue.ToProgram) || notice.Files > 0 && after) {
			n.kick(task{notice.Job.ID, queue.ToProgram}, notice.UID)
		}
	})
	return r, nil
}

// catchUp finds the file events that happened while no program was there to be told.
func (n *Notifier) catchUp(r *Registration) bool {
	told := map[bits.ID]uint64{}
	from := uint64(0)
	n.Queue.Noticed(func(notice queue.Notice) {
		if notice.Files == 0 || !r.covers(&notice) || notice.Job.State.Final() && !notice.Wants(queue.ToProgram) {
			return
		}
		if told[notice.Job.ID] = notice.Files; from == 0 || notice.Files < from {
			from = notice.Files
		}
	})
	if len(told) == 0 {
		return false
	}
	missed := map[bits.ID][]uint64{}
	for until := n.Queue.LastEvent(); from < until; {
		events, err := n.Queue.Events(from)
		if err != nil || len(events) == 0 {
			break
		}
		for _, e := range events {
			from = e.Seq
			if after, ok := told[e.Job]; ok && e.Kind == bits.EventFile && e.Seq > after {
				missed[e.Job] = append(missed[e.Job], e.Seq)
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, list := range missed { // what came meanwhile may be there already
		list = append(list, n.files[id]...)
		slices.Sort(list)
		n.files[id] = slices.Compact(list)
	}
	return true
}

// seeFile takes in that a file was transferred.
func (n *Notifier) seeFile(e bits.Event) {
	notice, ok := n.Queue.Notice(e.Job)
	if !ok || !notice.Job.Properties.NotifyFlags.Wants(bits.NotifyFile) || n.callerFor(&notice) == nil {
		return
	}
	n.mu.Lock()
	if list := n.files[e.Job]; len(list) == 0 || list[len(list)-1] < e.Seq {
		n.files[e.Job] = append(list, e.Seq)
	}
	n.mu.Unlock()
	n.kick(task{e.Job, queue.ToProgram}, notice.UID)
}

// tellFile tells a program of the next file of a job, if there is one to tell of.
func (n *Notifier) tellFile(r *Registration, notice *queue.Notice) (told bool, err error) {
	id := notice.Job.ID
	if !notice.Job.Properties.NotifyFlags.Wants(bits.NotifyFile) {
		return false, nil
	}
	n.mu.Lock()
	list := n.files[id]
	n.mu.Unlock()
	if len(list) == 0 {
		return false, nil
	}
	seq := list[0]
	if events, err := n.Queue.Events(seq - 1); err == nil && len(events) > 0 && events[0].Seq == seq {
		if err := n.callBack(r, events[0].Event); err != nil {
			return false, err
		}
	} // else it is so old that nobody knows it any more
	n.mu.Lock()
	if list := n.files[id]; len(list) > 0 && list[0] == seq {
		if n.files[id] = list[1:]; len(list) == 1 {
			delete(n.files, id)
		}
	}
	n.mu.Unlock()
	n.Queue.FileTold(id, seq)
	return true, nil
}

// dropFiles forgets the files of a job that a program is still to be told of, and returns how many.
func (n *Notifier) dropFiles(id bits.ID) int {
	n.mu.Lock()
	list := n.files[id]
	delete(n.files, id)
	n.mu.Unlock()
	if len(list) > 0 {
		n.Queue.FilesGivenUp(id, list[len(list)-1])
	}
	return len(list)
}

// covers reports whether the program has asked for a job, and may know of it.
func (r *Registration) covers(notice *queue.Notice) bool {
	if len(r.jobs) == 0 {
		return notice.UID == r.caller.UID
	}
	return r.caller.Changes(notice.UID) && slices.Contains(r.jobs, notice.Job.ID)
}

// callerFor returns the program that is called back for a job, nil if none is.
func (n *Notifier) callerFor(notice *queue.Notice) *Registration {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all *Registration
	for _, r := range slices.Backward(n.callers) {
		switch {
		case !r.covers(notice):
		case len(r.jobs) > 0:
			return r
		case all == nil:
			all = r
		}
	}
	return all
}

func (n *Notifier) hasCaller(notice *queue.Notice) bool { return n.callerFor(notice) != nil }

// Registered reports whether a program has asked for the callbacks of a job.
func (n *Notifier) Registered(id bits.ID) bool {
	notice, ok := n.Queue.Notice(id)
	return ok && n.hasCaller(&notice)
}

// callBack tells a program something and waits for its answer.
func (n *Notifier) callBack(r *Registration, e bits.Event) (err error) {
	answer := make(chan error, 1)
	n.mu.Lock()
	n.lastID++
	id := n.lastID
	r.pending[id] = outstanding{e.Job, answer}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(r.pending, id)
		n.mu.Unlock()
		if n.ctx.Err() == nil {
			n.count("callback", err)
		}
	}()
	late := time.NewTimer(time.Duration(n.Queue.NotifyPolicy().Timeout))
	defer late.Stop()
	news := r.news
	for {
		select {
		case news <- bits.Notification{ID: id, Acknowledge: true, Event: e}:
			news = nil
		case err := <-answer:
			return err
		case <-r.gone:
			select { // the answer may have come just before
			case err := <-answer:
				return err
			default:
				return errGone
			}
		case <-late.C:
			return errLate
		case <-n.ctx.Done():
			return n.ctx.Err()
		}
	}
}

// settle answers for the program what it has not answered about a job; Notifier.mu is held.
func (r *Registration) settle(id bits.ID) {
	for _, o := range r.pending {
		if o.job == id {
			select {
			case o.answer <- nil:
			default:
			}
		}
	}
}

// Acknowledge takes a program's answer to a notification.
func (n *Notifier) Acknowledge(c queue.Caller, registration bits.ID, id uint64, handled bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.callers {
		if r.ID != registration || r.caller.UID != c.UID {
			continue
		}
		if o, ok := r.pending[id]; ok {
			var err error
			if !handled {
				err = errRefused
			}
			select {
			case o.answer <- err:
			default:
			}
		}
		return nil // an answer that comes twice, or too late, changes nothing
	}
	return &bits.Error{Code: bits.NotFound, Context: bits.ContextQueueManagerNotification, Message: "there is no such registration; it ends with its stream"}
}

// News is what the program is to be told; it is never closed.
func (r *Registration) News() <-chan bits.Notification { return r.news }

// Gone is closed when the registration has ended.
func (r *Registration) Gone() <-chan struct{} { return r.gone }

func (r *Registration) end() { r.ended.Do(func() { close(r.gone) }) }

// Close ends the registration. What the program has not acknowledged others are told.
func (r *Registration) Close() {
	n := r.n
	n.mu.Lock()
	n.callers = slices.DeleteFunc(n.callers, func(o *Registration) bool { return o == r })
	n.mu.Unlock()
	r.end()
}

// modifications are the news that need not be acknowledged: that a job was modified, or that ranges
// of a file are transferred (client.md 7.1).
type modifications struct {
	r    *Registration
	told map[bits.ID][2]time.Time // when the program was told of the job, by topic.kind
	held map[topic][]bits.Event   // of a modification the newest, of ranges one for each file
}

// topic is what is told of at most once in a job's minimum notification interval.
type topic struct {
	job  bits.ID
	kind int // 0: it was modified; 1: ranges of its files are transferred
}

// Modifications reads events until stop is closed, and tells those that the program wants, each kind
// once per job in the job's minimum notification interval: of modifications the newest, of ranges
// all that came in the meantime.
func (r *Registration) Modifications(events <-chan bits.Event, stop <-chan struct{}) {
	m := modifications{r: r, told: map[bits.ID][2]time.Time{}, held: map[topic][]bits.Event{}}
	timer := time.NewTimer(0)
	timer.Stop()
	for {
		select {
		case e := <-events:
			m.see(e)
		case <-timer.C:
		case <-stop:
			return
		}
		if at := m.flush(time.Now()); !at.IsZero() {
			timer.Reset(time.Until(at))
		}
	}
}

func (m *modifications) see(e bits.Event) {
	flag, about := bits.NotifyModification, topic{job: e.Job}
	switch e.Kind {
	case bits.EventTransferred, bits.EventError, bits.EventFile, bits.EventNotify:
		return // they have events of their own, or are about notifications
	case bits.EventRanges:
		flag, about.kind = bits.NotifyRanges, 1
	}
	if e.State.Final() {
		delete(m.told, e.Job)
	}
	notice, ok := m.r.n.Queue.Notice(e.Job)
	switch {
	case !ok || !notice.Job.Properties.NotifyFlags.Wants(flag) || m.r.n.callerFor(&notice) != m.r:
	case about.kind == 0:
		m.held[about] = []bits.Event{e}
	default:
		m.held[about] = withRanges(m.held[about], e)
	}
}

// withRanges adds an event about ranges to those that wait: those of one file are told of together.
func withRanges(held []bits.Event, e bits.Event) []bits.Event {
	i := slices.IndexFunc(held, func(h bits.Event) bool { return h.File != nil && e.File != nil && h.File.Index == e.File.Index })
	if i < 0 {
		return append(held, e)
	}
	all := extent.Set(held[i].Ranges)
	for _, r := range e.Ranges {
		all = all.Add(r)
	}
	e.Ranges = all
	held[i] = e
	return held
}

// flush tells what may be told now, and returns when more may be.
func (m *modifications) flush(now time.Time) (at time.Time) {
	for about, events := range m.held {
		notice, ok := m.r.n.Queue.Notice(about.job)
		if !ok {
			delete(m.held, about)
			continue
		}
		told := m.told[about.job]
		due := told[about.kind].Add(time.Duration(notice.Job.Properties.MinimumNotificationInterval) * time.Millisecond)
		if now.Before(due) {
			if at.IsZero() || due.Before(at) {
				at = due
			}
			continue
		}
		delete(m.held, about)
		if told[about.kind] = now; !notice.Job.State.Final() {
			m.told[about.job] = told
		}
		for _, e := range events {
			select {
			case m.r.news <- bits.Notification{Event: e}:
			default: // the program reads too slowly: best effort
			}
		}
	}
	return at
}
