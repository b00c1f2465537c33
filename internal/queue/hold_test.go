package queue

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

var (
	metered   = conditions.State{Cost: bits.CostCappedUsageUnknown, Interface: "wlan0", CostSource: "NetworkManager"}
	unmetered = conditions.State{Cost: bits.CostUnrestricted, Interface: "eth0", CostSource: "NetworkManager"}
)

// parse reads a policy.
func parse(t *testing.T, text string) policy.Policy {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ebb.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// openWith opens a queue under a policy.
func openWith(t *testing.T, dir string, p policy.Policy, c conditions.State) *Queue {
	t.Helper()
	s, err := store.Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	q, err := Open(s, transfer.NewEngine(httpget.New(httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler)))), time.Second, nil), governor.New("", slog.New(slog.DiscardHandler)), p, c, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// started makes a job of one file from a server that is not there, and starts it.
func started(t *testing.T, q *Queue, prio bits.Priority, s bits.Settings) bits.ID {
	t.Helper()
	name := "n"
	s.Name, s.Priority = &name, &prio
	j, err := q.Create(alice, bits.NewJob{Settings: s, Resume: true, Files: []bits.FileSpec{{Remote: "http://127.0.0.1:1/a", Local: filepath.Join(t.TempDir(), "a")}}})
	if err != nil {
		t.Fatal(err)
	}
	return j.ID
}

// waitsFor checks that a job waits for a hold, and what it tells.
func waitsFor(t *testing.T, q *Queue, id bits.ID, code bits.Code, say string) {
	t.Helper()
	j, err := q.Get(alice, id, false)
	if err != nil {
		t.Fatal(err)
	}
	if j.State != bits.TransientError || j.Error == nil || j.Error.Code != code.Name() || !strings.Contains(j.Error.Message, say) || j.Times.RetryAt != nil {
		t.Errorf("%s with %+v, next attempt %v; want %s: %s", j.State, j.Error, j.Times.RetryAt, code, say)
	}
}

// goesOn checks that nothing holds a job back: that it fails for want of a server.
func goesOn(t *testing.T, q *Queue, id bits.ID) {
	t.Helper()
	j, err := q.Get(alice, id, false)
	if err != nil {
		t.Fatal(err)
	}
	if j.State != bits.TransientError || j.Error == nil || j.Error.Code != bits.CannotConnect.Name() {
		t.Errorf("%s with %+v; want an attempt to connect", j.State, j.Error)
	}
}

// settle lets the queue come to rest.
func settle(t *testing.T) {
	t.Helper()
	time.Sleep(10 * time.Second)
	synctest.Wait()
}

// states returns the states of which events told, with their times as the clock showed them.
func states(t *testing.T, q *Queue, id bits.ID) (all []string) {
	t.Helper()
	synctest.Wait()
	for _, e := range q.events.recent {
		if e.Job == id && e.Kind == bits.EventState {
			all = append(all, e.Time.Format("15:04:05 ")+e.State.String())
		}
	}
	return all
}

// TestAScheduleBlocksAndReleasesInTime: the clock of the bubble begins at midnight, on a Saturday.
func TestAScheduleBlocksAndReleasesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openWith(t, t.TempDir(), parse(t, `
			bandwidth.timezone = "UTC"
			bandwidth.nonwork.normal = "block"
			bandwidth.work = { days = "daily", hours = "06:00-22:00" }`), conditions.State{})
		defer shut(t, q)
		week := int64(7 * 24 * 3600)
		id := started(t, q, bits.Normal, bits.Settings{MinimumRetryDelay: &week})
		other := started(t, q, bits.Low, bits.Settings{})
		settle(t)
		waitsFor(t, q, id, bits.BlockedByPolicy, "(bandwidth.nonwork.normal) lets NORMAL jobs move nothing until Sat 06:00")
		goesOn(t, q, other)
		time.Sleep(6*time.Hour - 11*time.Second)
		synctest.Wait()
		waitsFor(t, q, id, bits.BlockedByPolicy, "06:00")
		settle(t)
		goesOn(t, q, id)
		time.Sleep(16 * time.Hour)
		if _, err := q.Resume(alice, id); err != nil { // so that it is not only another error that it waits for
			t.Fatal(err)
		}
		settle(t)
		waitsFor(t, q, id, bits.BlockedByPolicy, "until Sun 06:00")
		time.Sleep(24 * time.Hour)
		want := []string{"00:00:00 TRANSIENT_ERROR", "06:00:00 QUEUED", "06:00:00 CONNECTING"}
		if got := states(t, q, id); len(got) < len(want) || strings.Join(got[:len(want)], ", ") != strings.Join(want, ", ") {
			t.Errorf("its states were %q, want %q", got, want)
		}
	})
}

func TestConditionsHoldAndReleaseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openWith(t, t.TempDir(), parse(t, `power.on_battery = "background-waits"`), metered)
		defer shut(t, q)
		always, roams := bits.TransferAlways, bits.TransferNotRoaming
		normal := started(t, q, bits.Normal, bits.Settings{})
		foreground := started(t, q, bits.Foreground, bits.Settings{})
		high := started(t, q, bits.High, bits.Settings{TransferPolicy: &always})
		settle(t)
		waitsFor(t, q, normal, bits.BlockedByCost, "the network wlan0 is metered; the job waits")
		if j, err := q.Get(alice, normal, false); err != nil || j.ErrorCount != 0 {
			t.Errorf("waiting counts as %d errors, %v", j.ErrorCount, err)
		}
		goesOn(t, q, foreground)
		goesOn(t, q, high)

		q.SetConditions(unmetered)
		settle(t)
		goesOn(t, q, normal)

		// Whatever a job waits for, resuming it shows what holds it now.
		resume := func(id bits.ID) {
			t.Helper()
			if _, err := q.Resume(alice, id); err != nil {
				t.Fatal(err)
			}
			settle(t)
		}
		q.SetConditions(conditions.State{OnBattery: true})
		resume(high)
		waitsFor(t, q, high, bits.BlockedByBattery, "mains power")
		q.SetConditions(conditions.State{OnBattery: true, PowerSaver: true}) // another reason for those that wait
		settle(t)
		waitsFor(t, q, high, bits.BlockedByBatterySaver, "power-saver")
		q.SetPolicy(parse(t, `power.power_saver = "run"`))
		settle(t)
		goesOn(t, q, high)

		q.SetConditions(conditions.State{Cost: bits.CostCappedUsageUnknown | bits.CostRoaming})
		resume(normal)
		waitsFor(t, q, normal, bits.BlockedByCost, "is metered and roaming")
		set := func(s bits.Settings) {
			t.Helper()
			if _, err := q.Set(alice, normal, s); err != nil {
				t.Fatal(err)
			}
			settle(t)
		}
		set(bits.Settings{TransferPolicy: &roams})
		waitsFor(t, q, normal, bits.BlockedByCost, "the network is roaming; the job waits for one that its transfer policy allows (its own: not-roaming)")
		set(bits.Settings{TransferPolicy: &always})
		goesOn(t, q, normal)
		set(bits.Settings{TransferPolicy: new(bits.Cost)})
		resume(normal)
		waitsFor(t, q, normal, bits.BlockedByCost, "cost.normal: unmetered")
		set(bits.Settings{Priority: new(bits.Foreground)})
		goesOn(t, q, normal)
	})
}

func TestTheTimeZoneCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rules = `
			bandwidth.work = { days = "daily", hours = "00:00-06:00", normal = "block" }
			bandwidth.timezone = `
		q := openWith(t, t.TempDir(), parse(t, rules+`"Asia/Tokyo"`), conditions.State{})
		defer shut(t, q)
		time.Sleep(time.Hour) // 10:00 in Tokyo
		id := started(t, q, bits.Normal, bits.Settings{})
		settle(t)
		goesOn(t, q, id)
		q.SetPolicy(parse(t, rules+`"Europe/Berlin"`)) // 02:00
		if _, err := q.Resume(alice, id); err != nil {
			t.Fatal(err)
		}
		settle(t)
		waitsFor(t, q, id, bits.BlockedByPolicy, "until Sat 06:00")
		q.SetPolicy(parse(t, rules+`"Asia/Tokyo"`))
		settle(t)
		goesOn(t, q, id)
	})
}

// TestWaitingCountsAsNoProgress: client.md 3.4 has no exception for jobs that are held.
func TestWaitingCountsAsNoProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openWith(t, t.TempDir(), policy.Default(), metered)
		defer shut(t, q)
		none, hour := int64(0), int64(3600)
		atOnce := started(t, q, bits.Low, bits.Settings{NoProgressTimeout: &none})
		later := started(t, q, bits.Low, bits.Settings{NoProgressTimeout: &hour})
		settle(t)
		is := func(id bits.ID, want bits.State) {
			t.Helper()
			if j, err := q.Get(alice, id, false); err != nil || j.State != want || j.Error == nil || j.Error.Code != bits.BlockedByCost.Name() {
				t.Errorf("%s with %+v, %v; want %s", j.State, j.Error, err, want)
			}
		}
		is(atOnce, bits.Errored)
		is(later, bits.TransientError)
		time.Sleep(time.Hour)
		is(later, bits.Errored)
		q.SetConditions(unmetered) // which helps those that wait, and no others
		settle(t)
		is(later, bits.Errored)
	})
}

func TestHeldJobsAreStillHeldAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		q := openWith(t, dir, policy.Default(), metered)
		id := started(t, q, bits.Low, bits.Settings{})
		settle(t)
		before := len(states(t, q, id))
		shut(t, q)
		q = openWith(t, dir, policy.Default(), metered)
		settle(t)
		waitsFor(t, q, id, bits.BlockedByCost, "wlan0 is metered")
		if n := len(states(t, q, id)); before != 1 || n != 0 {
			t.Errorf("%d events before the restart and %d after it, want 1 and none", before, n)
		}
		shut(t, q)
		q = openWith(t, dir, policy.Default(), unmetered)
		defer shut(t, q)
		settle(t)
		goesOn(t, q, id)
	})
}

// TestManyJobsAreHeldInBatches: commands are answered in between, and nothing that is to be held
// starts meanwhile.
func TestManyJobsAreHeldInBatches(t *testing.T) {
	var requests atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		<-r.Context().Done()
	}))
	defer web.Close()
	q := openWith(t, t.TempDir(), policy.Default(), metered)
	defer shut(t, q)
	name, file := "n", []bits.FileSpec{{Remote: web.URL, Local: filepath.Join(t.TempDir(), "a")}}
	const n = 4*maxSwept + 7
	for range n {
		if _, err := q.Create(alice, bits.NewJob{Settings: bits.Settings{Name: &name}, Files: file, Resume: true}); err != nil {
			t.Fatal(err)
		}
	}
	if c := q.Counts(Caller{}); c["TRANSIENT_ERROR"] != n {
		t.Fatalf("the jobs are %v", c)
	}
	count := func(waiting int) {
		t.Helper()
		steps := 0
		for deadline := time.Now().Add(time.Minute); q.Counts(Caller{})["TRANSIENT_ERROR"] != waiting; steps++ {
			if time.Now().After(deadline) {
				t.Fatalf("%v wait, want %d", q.Counts(Caller{}), waiting)
			}
			if err := q.do(func(*tx) error { return nil }); err != nil { // one step of the loop
				t.Fatal(err)
			}
		}
		if steps < 2 {
			t.Errorf("%d commands were answered meanwhile", steps)
		}
	}
	q.SetConditions(unmetered)
	count(0)
	q.SetConditions(metered)
	count(n)
	if n := requests.Load(); n > 1 {
		t.Errorf("%d requests for the one job that ran", n)
	}
}

func TestQuotas(t *testing.T) {
	q := openWith(t, t.TempDir(), parse(t, "jobs.max_per_user = 3\njobs.max_per_machine = 5\njobs.max_files = 2"), conditions.State{})
	defer shut(t, q)
	name := "n"
	make1 := func(c Caller, files int) (bits.ID, error) {
		spec := bits.NewJob{Settings: bits.Settings{Name: &name}}
		for i := range files {
			spec.Files = append(spec.Files, bits.FileSpec{Remote: "http://h/a", Local: fmt.Sprintf("/tmp/%d", i)})
		}
		j, err := q.Create(c, spec)
		return j.ID, err
	}
	carol := Caller{UID: 1003, Self: 1003} // the user of the service
	var hers bits.ID
	for i, c := range []struct {
		by    Caller
		files int
		want  bits.Code
		say   string
	}{
		{alice, 3, bits.TooManyFilesInJob, "would have 3 files; 2 are allowed (jobs.max_files)"},
		{alice, 2, bits.OK, ""},
		{alice, 0, bits.OK, ""},
		{alice, 0, bits.OK, ""},
		{alice, 0, bits.TooManyJobsPerUser, "3 jobs that are not completed or cancelled, and may have no more (jobs.max_per_user)"},
		{bob, 0, bits.OK, ""},
		{carol, 0, bits.OK, ""},
		{carol, 0, bits.TooManyJobsPerMachine, "there are 5 jobs that are not completed or cancelled, and there may be no more (jobs.max_per_machine)"},
		{root, 3, bits.OK, ""},
	} {
		id, err := make1(c.by, c.files)
		if codeOf(err) != c.want || err != nil && !strings.Contains(err.Error(), c.say) {
			t.Errorf("call %d: %v, want %s: %s", i, err, c.want, c.say)
		}
		if c.by == alice && c.files == 2 {
			hers = id
		}
	}
	more := []bits.FileSpec{{Remote: "http://h/c", Local: "/tmp/c"}}
	if _, err := q.AddFiles(alice, hers, more); codeOf(err) != bits.TooManyFilesInJob {
		t.Errorf("a third file: %v", err)
	}
	if _, err := q.AddFiles(root, hers, more); err != nil {
		t.Errorf("a third file from an administrator: %v", err)
	}
	// A job that ended makes room.
	if _, err := q.Cancel(alice, hers); err != nil {
		t.Fatal(err)
	}
	if _, err := make1(alice, 0); codeOf(err) != bits.TooManyJobsPerMachine {
		t.Errorf("with root's job there are five left: %v", err)
	}
	q.SetPolicy(parse(t, "jobs.max_per_user = 3"))
	if _, err := make1(alice, 0); err != nil {
		t.Errorf("after a job ended and the policy changed: %v", err)
	}
	if _, err := make1(alice, 0); codeOf(err) != bits.TooManyJobsPerUser {
		t.Errorf("a fourth job: %v", err)
	}
}

func TestIdleJobsAreCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openWith(t, t.TempDir(), parse(t, `jobs.inactivity = "10d"`), metered)
		defer shut(t, q)
		const day = 24 * time.Hour
		idle := create(t, q, alice, "idle")
		changed := create(t, q, alice, "changed")
		year := int64(365 * 24 * 3600)
		held := started(t, q, bits.Low, bits.Settings{NoProgressTimeout: &year})
		heldChanged := started(t, q, bits.Low, bits.Settings{NoProgressTimeout: &year})
		is := func(id bits.ID, want bits.State) {
			t.Helper()
			j, err := q.Get(alice, id, false)
			if err != nil || j.State != want {
				t.Errorf("%q is %s, %v; want %s", j.Name, j.State, err, want)
			}
			if note := "for 10d there was no progress and no change (jobs.inactivity)"; want == bits.Cancelled && !strings.Contains(j.Note, note) {
				t.Errorf("its note is %q", j.Note)
			}
		}
		prune := func() {
			t.Helper()
			if err := q.Prune(time.Now()); err != nil {
				t.Fatal(err)
			}
			settle(t)
		}
		time.Sleep(5 * day)
		set := func(id bits.ID) {
			t.Helper()
			if _, err := q.Set(alice, id, bits.Settings{Description: new("d")}); err != nil {
				t.Fatal(err)
			}
		}
		set(changed)
		set(heldChanged)
		q.SetConditions(unmetered) // attempts that fail are no progress
		settle(t)
		q.SetConditions(metered)
		time.Sleep(5*day - time.Minute)
		prune()
		is(idle, bits.Suspended)
		is(held, bits.TransientError)
		time.Sleep(2 * time.Minute)
		prune()
		is(idle, bits.Cancelled)
		is(held, bits.Cancelled)
		is(changed, bits.Suspended)
		is(heldChanged, bits.TransientError)
		var told string
		for _, e := range q.events.recent {
			if e.Job == idle && e.Kind == bits.EventRemoved {
				told = e.Note
			}
		}
		if !strings.Contains(told, "jobs.inactivity") {
			t.Errorf("the event tells %q", told)
		}
	})
}

// TestJobsAreNotCancelledForAClockThatWasWrong is about a service that has just started.
func TestJobsAreNotCancelledForAClockThatWasWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		q := openWith(t, dir, policy.Default(), conditions.State{})
		id := create(t, q, alice, "n")
		shut(t, q)
		time.Sleep(1000 * 24 * time.Hour) // while the service does not run
		q = openWith(t, dir, policy.Default(), conditions.State{})
		defer shut(t, q)
		for _, c := range []struct {
			after time.Duration
			want  bits.State
		}{{5 * time.Second, bits.Suspended}, {time.Hour, bits.Cancelled}} {
			time.Sleep(c.after)
			if err := q.Prune(time.Now()); err != nil {
				t.Fatal(err)
			}
			settle(t)
			if j, err := q.Get(alice, id, false); err != nil || j.State != c.want {
				t.Errorf("after %v it is %s, %v; want %s", c.after, j.State, err, c.want)
			}
		}
	})
}

// A clock that is set moves the times that timers go by, so that it neither ends a job nor keeps it
// waiting.
func TestTheClockDoesNotEndWaitingJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openWith(t, t.TempDir(), policy.Default(), metered)
		defer shut(t, q)
		id := started(t, q, bits.Low, bits.Settings{})
		settle(t)
		since := func() (at time.Duration) {
			t.Helper()
			err := q.do(func(tx *tx) error {
				at = time.Duration(tx.get(q.byID[id]).rec.Detail.StuckSince)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
		before := since()
		for _, step := range []time.Duration{24 * time.Hour, -48 * time.Hour, 500 * time.Millisecond} {
			want := before + step
			if step.Abs() < time.Second {
				want = before
			}
			// The clock went on by so much more than the time did: to the queue it is as if the machine
			// had slept for so much less.
			if err := q.do(func(*tx) error { q.asleep += step; return nil }); err != nil {
				t.Fatal(err)
			}
			q.ClockSet()
			settle(t)
			if got := since(); (got - want).Abs() > time.Millisecond {
				t.Errorf("after a step of %v the job is stuck since %v, want %v", step, got, want)
			}
			before = since()
		}
	})
}
