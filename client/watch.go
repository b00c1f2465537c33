package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// Filter narrows a stream of events.
type Filter struct {
	Job      []bits.ID // only these jobs; empty means all of the caller's
	AllUsers bool      // jobs of all users; for administrators
	Progress bool      // progress events too, at most two a second and job
	After    uint64    // start after the event with this number; 0 means from now on
	// Kind are the kinds of events that are wanted, those of Progress and bits.EventMissed besides; empty
	// means all. A job of many files has very many of the kind bits.EventFile.
	Kind []bits.EventKind

	connected func() // called each time the stream is open
}

// Watch yields events until ctx ends, the loop breaks or the filter is refused. When the
// service goes away it waits for it to come back and goes on after the last event it saw, so
// nothing is missed that the service still has. If it has forgotten something by then, an event of the
// kind bits.EventMissed says so, which is about no job: ask for the jobs' states.
func (m *Manager) Watch(ctx context.Context, f Filter) iter.Seq2[bits.Event, error] {
	return func(yield func(bits.Event, error) bool) {
		pause := 100 * time.Millisecond
		for {
			more, err := m.stream(ctx, &f, yield)
			if !more {
				return
			}
			if ctx.Err() != nil {
				yield(bits.Event{}, ctx.Err())
				return
			}
			var refused *bits.Error
			if errors.As(err, &refused) {
				yield(bits.Event{}, err)
				return
			}
			select { // the service is away: ask again, less and less often
			case <-ctx.Done():
				yield(bits.Event{}, ctx.Err())
				return
			case <-time.After(pause):
				pause = min(2*pause, 2*time.Second)
			}
		}
	}
}

// stream reads one connection's events. It reports whether the loop wants more.
func (m *Manager) stream(ctx context.Context, f *Filter, yield func(bits.Event, error) bool) (more bool, err error) {
	q := url.Values{}
	for _, id := range f.Job {
		q.Add("job", id.String())
	}
	if f.AllUsers {
		q.Set("all_users", "true")
	}
	for _, k := range f.Kind {
		q.Add("kind", string(k))
	}
	if f.Progress {
		q.Set("progress", "true")
	}
	if f.After > 0 {
		q.Set("after", strconv.FormatUint(f.After, 10))
	}
	resp, err := m.do(ctx, "GET", "/v1/events?"+q.Encode(), nil)
	if err != nil {
		return true, err
	}
	defer func() { _ = resp.Body.Close() }()
	if seq, err := strconv.ParseUint(resp.Header.Get("Ebb-Last-Event"), 10, 64); err == nil && f.After == 0 {
		f.After = seq // where "from now on" began, should the connection break before an event
	}
	if f.connected != nil {
		f.connected()
	}
	return readEvents(resp.Body, func(e bits.Event) bool {
		if e.Seq > 0 {
			f.After = e.Seq
		}
		return yield(e, nil)
	})
}

// maxEvent bounds one line of the stream.
const maxEvent = 1 << 20

// readEvents reads a stream of server-sent events whose data are JSON events.
func readEvents(r io.Reader, yield func(bits.Event) bool) (more bool, err error) {
	return readStream(r, func(_ string, data []byte) (bool, error) {
		var e bits.Event
		if err := json.Unmarshal(data, &e); err != nil {
			return true, fmt.Errorf("read an event: %w", err)
		}
		return yield(e), nil
	})
}

// readStream reads a stream of server-sent events of one line each.
func readStream(r io.Reader, yield func(kind string, data []byte) (more bool, err error)) (more bool, err error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 4096), maxEvent)
	kind := ""
	for sc.Scan() {
		if k, ok := bytes.CutPrefix(sc.Bytes(), []byte("event:")); ok {
			kind = string(bytes.TrimSpace(k))
		}
		data, ok := bytes.CutPrefix(sc.Bytes(), []byte("data:"))
		if !ok {
			continue // id and blank lines: the data hold the same
		}
		if more, err := yield(kind, data); err != nil || !more {
			return more, err
		}
	}
	return true, sc.Err()
}

// Wait returns when the job needs its owner or has ended: when it is TRANSFERRED and the
// service does not complete it by itself, in ERROR, or in a final state. It returns a snapshot
// of the job. The error is nil also for a job in ERROR: look at the snapshot.
func (j *Job) Wait(ctx context.Context) (*bits.Job, error) {
	for {
		if _, err := j.WaitFunc(ctx, Filter{Kind: ends}, func(bits.Event) {}); err != nil {
			return nil, err
		}
		info, err := j.Info(ctx)
		if err == nil {
			return info, nil
		}
		if isAnswer(err) || ctx.Err() != nil {
			return nil, err
		}
	}
}

// ends are the kinds of events that tell of a job's end.
var ends = []bits.EventKind{bits.EventState, bits.EventTransferred, bits.EventError, bits.EventRemoved}

// WaitFunc is Wait, with a function that sees those of the job's events on the way that the filter lets
// through, and those that tell of its end. The filter's jobs do not matter. The function also sees, as events without a number, how things stood at the
// start and each time the service was asked anew. The snapshot has no files, as that of Status: they may
// be many, and whoever completes the job next would ask for them again.
func (j *Job) WaitFunc(ctx context.Context, f Filter, see func(bits.Event)) (*bits.Job, error) {
	watch, stop := context.WithCancel(ctx)
	defer stop()
	events := make(chan bits.Event)
	failed := make(chan error, 1)
	connected := make(chan struct{}, 1)
	f.Job = []bits.ID{j.ID}
	f.connected = func() {
		select {
		case connected <- struct{}{}:
		default:
		}
	}
	if len(f.Kind) > 0 {
		f.Kind = append(slices.Clone(f.Kind), ends...)
	}
	go func() {
		for e, err := range j.m.Watch(watch, f) {
			if err != nil {
				failed <- err
				return
			}
			select {
			case events <- e:
			case <-watch.Done():
				return
			}
		}
	}()
	// The first look comes once the stream is open, so that no change falls between the two;
	// later ones are a safety net for a stream that died without a word.
	const every = 2 * time.Second
	look := time.NewTimer(every)
	defer look.Stop()
	for {
		select {
		case e := <-events:
			if e.Kind == bits.EventMissed { // the look below tells how things stand
				break
			}
			see(e)
			if e.Kind == bits.EventProgress || !settled(e.State) {
				continue
			}
		case <-connected:
		case <-look.C:
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		look.Reset(every)
		info, err := j.Status(ctx)
		if err == nil {
			see(bits.Event{Time: info.Times.Modified, Kind: bits.EventState, Job: info.ID, Name: info.Name, State: info.State,
				Progress: &info.Progress, Pace: info.Pace, Error: info.Error, RetryAt: info.Times.RetryAt})
			if !settled(info.State) || info.State == bits.Transferred && info.Properties.AutoComplete {
				continue
			}
			return info, nil
		}
		if isAnswer(err) {
			return nil, err
		}
	}
}

func isAnswer(err error) bool {
	var e *bits.Error
	return errors.As(err, &e)
}

// settled reports whether the service is done with a job in this state.
func settled(s bits.State) bool { return s == bits.Transferred || s == bits.Errored || s.Final() }

// Transfer creates a job, waits for it and completes it. A job that ends in ERROR is
// cancelled, and its error returned. When ctx ends the job is cancelled too, also one that was
// being created at that moment. A job whose files are fetched but cannot be put in their places
// stays, with its data: the snapshot has its id, and Complete may be tried again.
func (m *Manager) Transfer(ctx context.Context, spec bits.NewJob) (*bits.Job, error) {
	spec.Resume = true
	if spec.ID == nil {
		spec.ID = new(bits.NewID())
	}
	job, err := m.Create(ctx, spec)
	if isAnswer(err) || errors.Is(err, ErrNoService) {
		return nil, err
	}
	if err != nil { // nobody knows whether the job exists, and runs
		return nil, errors.Join(err, m.Job(*spec.ID).abandon(ctx))
	}
	info, err := job.Wait(ctx)
	if err == nil && info.State == bits.Errored {
		err = info.Error.Err()
	}
	if err == nil && info.State == bits.Cancelled {
		return info, bits.Errorf(bits.InvalidState, "the job was cancelled")
	}
	if err != nil {
		return info, errors.Join(err, job.abandon(ctx))
	}
	if info.State == bits.Transferred {
		if _, err := job.Complete(ctx); ignoreState(err) != nil {
			return info, err
		}
	}
	return job.Info(ctx)
}

// abandon cancels a job that may not exist, or not any more, also when ctx has ended.
func (j *Job) abandon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, err := j.Cancel(ctx)
	if errors.Is(err, &bits.Error{Code: bits.NotFound}) {
		return nil
	}
	return ignoreState(err)
}

// ignoreState drops the answer that the job ended otherwise in the meantime.
func ignoreState(err error) error {
	if errors.Is(err, &bits.Error{Code: bits.InvalidState}) {
		return nil
	}
	return err
}
