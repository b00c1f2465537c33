package scenario

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// slow serves a file that takes long.
func slow(srv *faultserver.Server, path string, rate int64) *faultserver.Entry {
	e := srv.File(path, faultserver.File{Seed: 1, Size: 4 * rate})
	e.Set(func(p *faultserver.Program) { p.Rate = rate })
	return e
}

func (s *service) at(p bits.Priority, e *faultserver.Entry, name string) *client.Job {
	s.t.Helper()
	return s.create(fetched{name: name, priority: p, files: []bits.FileSpec{s.file(e.URL(), name)}})
}

// stuck serves a file of 4 MiB whose first answer stops after some bytes, until it is released or its
// connection ends. The service must be patient, see patientStall.
func stuck(srv *faultserver.Server, path string, after int64) *faultserver.Entry {
	e := srv.File(path, faultserver.File{Seed: 1, Size: 4 * mib})
	e.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: after}})
	return e
}

// release has the only answer to a path that is stuck go on.
func release(t *testing.T, srv *faultserver.Server, path string, e *faultserver.Entry) {
	t.Helper()
	await(t, srv, path+" is stuck", func() bool { q := srv.RequestsFor(path); return len(q) == 1 && q[0].Waiting })
	e.Release()
}

// history returns all events so far, by name of the job.
func (s *service) history() map[string][]bits.Event {
	s.t.Helper()
	// An event of its own marks the end.
	mark := s.create(fetched{name: "mark", waits: true})
	if _, err := mark.Cancel(s.ctx()); err != nil {
		s.t.Fatal(err)
	}
	all := map[string][]bits.Event{}
	for e, err := range s.Watch(s.ctx(), client.Filter{After: 1}) {
		if err != nil {
			s.t.Fatal(err)
		}
		if e.Job == mark.ID && e.Kind == bits.EventRemoved {
			break
		}
		all[e.Name] = append(all[e.Name], e)
	}
	return all
}

// when returns the time of the n-th event (from 0) with which a job came into a state.
func when(t *testing.T, events []bits.Event, state bits.State, n int) time.Time {
	t.Helper()
	for _, e := range events {
		if e.State == state && (e.Kind == bits.EventState || e.Kind == bits.EventTransferred) {
			if n == 0 {
				return e.Time
			}
			n--
		}
	}
	t.Fatalf("there is no such event of %s in %+v", state, events)
	return time.Time{}
}

func TestHigherPriorityGoesFirst(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{config: patientStall})
	normal := stuck(srv, "/normal", 3*mib)
	low := s.at(bits.Low, stuck(srv, "/low", mib), "low")
	s.untilState(low, bits.Transferring)
	job := s.at(bits.Normal, normal, "normal")
	s.moved(job, 3*mib)
	// A foreground job runs beside it.
	foreground := stuck(srv, "/beside", mib)
	beside := s.at(bits.Foreground, foreground, "beside")
	s.untilState(beside, bits.Transferring)
	if got := s.info(job).State; !got.Running() {
		t.Errorf("beside a foreground job the other is %s", got)
	}
	// A higher one takes its place.
	higher := stuck(srv, "/high", mib)
	high := s.at(bits.High, higher, "high")
	s.untilState(high, bits.Transferring)
	s.untilState(job, bits.Queued)
	kept := s.info(job).Progress.BytesTransferred
	if kept < 2*mib {
		t.Errorf("of 3 MiB only %d bytes were kept", kept)
	}
	release(t, srv, "/high", higher)
	s.settled(high, bits.Transferred)
	s.arrives(job, normal)
	if again := srv.Refetched("/normal"); again > mib {
		t.Errorf("%d bytes were fetched twice", again)
	}
	release(t, srv, "/beside", foreground)
	for _, j := range []*client.Job{beside, low} {
		s.settled(j, bits.Transferred)
	}

	h := s.history()
	if last := when(t, h["low"], bits.Transferred, 0); last.Before(when(t, h["normal"], bits.Transferred, 0)) {
		t.Error("the lowest job was done before the others")
	}
}

func TestJobsOfALevelTakeTurns(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{config: "[jobs]\ntime_slice = \"1s\"\n"})
	entries := []*faultserver.Entry{slow(srv, "/a", mib), slow(srv, "/b", mib)}
	a, b := s.at(bits.Normal, entries[0], "a"), s.at(bits.Normal, entries[1], "b")
	s.arrives(a, entries[0])
	s.arrives(b, entries[1])
	h := s.history()
	for _, name := range []string{"a", "b"} {
		turns := 0
		for _, e := range h[name] {
			if e.Kind == bits.EventState && e.State == bits.Connecting {
				turns++
			}
		}
		if turns < 3 {
			t.Errorf("%s had %d turns in 4 seconds of work, want some 4 of a second each", name, turns)
		}
		if again := srv.Refetched("/" + name); again > mib {
			t.Errorf("%d bytes of %s were fetched twice", again, name)
		}
	}
	if first, second := when(t, h["a"], bits.Queued, 0), when(t, h["b"], bits.Connecting, 0); second.Before(first) {
		t.Error("b began before a had stopped")
	}
}

func TestAloneAJobHasNoTurns(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{config: "[jobs]\ntime_slice = \"1s\"\n"})
	e := slow(srv, "/file", mib)
	s.arrives(s.at(bits.Normal, e, "file"), e)
	if q := srv.RequestsFor("/file"); len(q) > 2 { // one and the question whether it is the same
		t.Errorf("there were %d requests", len(q))
	}
}

func TestPriorityTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{config: patientStall})
	firsts, seconds := srv.File("/first", faultserver.File{Seed: 1, Size: 64 * mib}), srv.File("/second", faultserver.File{Seed: 2, Size: 64 * mib})
	stalls := func(p *faultserver.Program) { p.Cut = faultserver.Cut{How: faultserver.Stall, After: mib} }
	firsts.Set(stalls)
	seconds.Set(stalls)
	first := s.at(bits.Normal, firsts, "first")
	s.untilState(first, bits.Transferring)
	second := s.at(bits.Normal, seconds, "second")
	if got := s.info(second).State; got != bits.Queued {
		t.Errorf("the second job is %s", got)
	}
	s.cli("set", "second", "priority=high").want(t, 0)
	s.untilState(second, bits.Transferring)
	s.untilState(first, bits.Queued)
	s.cli("set", "first", "priority=foreground").want(t, 0)
	s.untilState(first, bits.Transferring)
	if got := s.info(second).State; !got.Running() {
		t.Errorf("beside a foreground job the other is %s", got)
	}
	for _, j := range []*client.Job{first, second} {
		if _, err := j.Cancel(s.ctx()); err != nil {
			t.Fatal(err)
		}
	}
	s.holds()
}

func TestSeveralBackgroundJobsAtOnce(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{config: patientStall + "[jobs]\nbackground = 2\n"})
	var list []*client.Job
	var entries []*faultserver.Entry
	for i := range 3 {
		entries = append(entries, stuck(srv, fmt.Sprintf("/%d", i), mib))
		list = append(list, s.at(bits.Normal, entries[i], fmt.Sprint(i)))
	}
	s.untilState(list[0], bits.Transferring)
	s.untilState(list[1], bits.Transferring)
	if got := s.info(list[2]).State; got != bits.Queued {
		t.Errorf("the third job is %s", got)
	}
	for i, e := range entries {
		release(t, srv, fmt.Sprintf("/%d", i), e)
	}
	s.settled(list[2], bits.Transferred)
}

// TestEventsMissNothing: a stream goes on after a number, over kill -9 and over a stop.
func TestEventsMissNothing(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: 1000})
	ctx, cancel := context.WithCancel(s.ctx())
	defer cancel()
	type end struct {
		seen []bits.Event
		err  error
	}
	watched := make(chan end, 1)
	const rounds = 6
	ready := s.create(fetched{name: "ready", waits: true})
	go func() {
		var r end
		removed := 0
		for e, err := range s.Watch(ctx, client.Filter{After: 1}) {
			if r.err = err; err != nil {
				break
			}
			r.seen = append(r.seen, e)
			if e.Kind == bits.EventRemoved {
				if removed++; removed == rounds+1 {
					break
				}
			}
		}
		watched <- r
	}()
	for i := range rounds {
		job := s.fetch(e.URL(), fmt.Sprint(i))
		s.settled(job, bits.Transferred)
		if i%2 == 0 {
			s.restart()
		} else {
			s.stop()
			s.up()
		}
		s.complete(job)
	}
	if _, err := ready.Cancel(s.ctx()); err != nil {
		t.Fatal(err)
	}
	r := <-watched
	if r.err != nil {
		t.Fatal(r.err)
	}
	perJob := map[bits.ID]string{}
	for i, e := range r.seen {
		if want := uint64(i + 2); e.Seq != want {
			t.Fatalf("event %d has the number %d, want %d", i, e.Seq, want)
		}
		perJob[e.Job] += string(e.Kind) + " "
	}
	delete(perJob, ready.ID)
	for id, kinds := range perJob {
		if want := "added state state file transferred removed "; kinds != want {
			t.Errorf("the events of %s are %q, want %q", id, kinds, want)
		}
	}
	if len(perJob) != rounds {
		t.Errorf("there are events of %d jobs, want %d", len(perJob), rounds)
	}
	// From a number on, the same once more.
	var again []bits.Event
	for e, err := range s.Watch(s.ctx(), client.Filter{After: r.seen[9].Seq}) {
		if err != nil {
			t.Fatal(err)
		}
		if again = append(again, e); len(again) == len(r.seen)-10 {
			break
		}
	}
	for i, e := range again {
		if want := r.seen[10+i]; e.Seq != want.Seq || e.Kind != want.Kind || e.Job != want.Job || e.State != want.State || !e.Time.Equal(want.Time) {
			t.Errorf("event %d is now %+v, was %+v", e.Seq, e, want)
		}
	}
}

// TestWatchAndWaitForPrograms: what the verbs print as JSON.
func TestWatchAndWaitForPrograms(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: 1000})
	bad := srv.File("/bad", faultserver.File{})
	bad.Set(func(p *faultserver.Program) { p.Status = 403 })
	s := start(t, options{})
	good := s.create(fetched{name: "good", waits: true, files: []bits.FileSpec{s.file(e.URL(), "good")}})
	s.create(fetched{name: "bad", files: []bits.FileSpec{s.file(bad.URL(), "bad")}})
	watch, wait := s.begin("watch", "--json", "--after", "1", "good"), s.begin("wait", "--json", "good")
	resume(s, good)
	var list []bits.Job
	wait.end().want(t, 0).decode(t, &list)
	if len(list) != 1 || list[0].ID != good.ID || list[0].State != bits.Transferred {
		t.Errorf("wait printed %+v", list)
	}
	s.complete(good)
	out := watch.end().want(t, 0).out
	kinds := ""
	for _, e := range decodeLines[bits.Event](t, out) {
		kinds += string(e.Kind) + " "
	}
	if want := "state state state file transferred removed "; kinds != want {
		t.Errorf("watch printed events %q, want %q", kinds, want)
	}
	// A number that only another store had: what came meanwhile is not known, but that the job has ended is.
	missed := decodeLines[bits.Event](t, s.cli("watch", "--json", "--after", "1000000", "good").want(t, 0).out)
	if len(missed) != 1 || missed[0].Kind != bits.EventMissed || missed[0].Seq == 0 || missed[0].Seq >= 1000000 {
		t.Errorf("watch printed %+v", missed)
	}
	if out := s.cli("watch", "--after", "1000000", "good").want(t, 0).out; !strings.Contains(out, "missed") || !strings.Contains(out, "began anew") {
		t.Errorf("watch printed %q", out)
	}
	wait = s.begin("wait", "--json", "bad")
	wait.end().want(t, 1).decode(t, &list)
	if len(list) != 1 || list[0].State != bits.Errored || list[0].Error == nil || list[0].Error.HResult != "0x80190193" {
		t.Errorf("wait printed %+v", list)
	}
}
