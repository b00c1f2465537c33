package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

// open returns a queue on a store in dir.
func open(t *testing.T, dir string) *Queue {
	t.Helper()
	s, err := store.Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	q, err := Open(s, transfer.NewEngine(httpget.New(httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler)))), time.Second, nil), governor.New("", slog.New(slog.DiscardHandler)), policy.Default(), conditions.State{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func shut(t *testing.T, q *Queue) {
	t.Helper()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

var (
	root  = Caller{UID: 0, Self: 500}
	alice = Caller{UID: 1000, Self: 500}
	bob   = Caller{UID: 1001, Self: 500}
)

func create(t *testing.T, q *Queue, c Caller, name string, files ...bits.FileSpec) bits.ID {
	t.Helper()
	j, err := q.Create(c, bits.NewJob{Settings: bits.Settings{Name: &name}, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	return j.ID
}

// codeOf returns the code of an error; OK for none.
func codeOf(err error) bits.Code {
	if err == nil {
		return bits.OK
	}
	return asError(err).Code
}

func TestJobsBelongToTheirOwners(t *testing.T) {
	q := open(t, t.TempDir())
	defer shut(t, q)
	id := create(t, q, alice, "hers", bits.FileSpec{Remote: "http://127.0.0.1:1/a", Local: filepath.Join(t.TempDir(), "a")})
	create(t, q, bob, "his")

	calls := map[string]func(Caller) error{
		"Get":     func(c Caller) error { _, err := q.Get(c, id, true); return err },
		"Resolve": func(c Caller) error { _, err := q.Resolve(c, "hers"); return err },
		"prefix":  func(c Caller) error { _, err := q.Resolve(c, id.String()[:8]); return err },
		"Set":     func(c Caller) error { _, err := q.Set(c, id, bits.Settings{}); return err },
		"Suspend": func(c Caller) error { _, err := q.Suspend(c, id); return err },
		"AddFiles": func(c Caller) error {
			_, err := q.AddFiles(c, id, []bits.FileSpec{{Remote: "http://h/b", Local: fmt.Sprintf("/tmp/b%d", c.UID)}})
			return err
		},
	}
	for name, call := range calls {
		if err := call(bob); codeOf(err) != bits.NotFound {
			t.Errorf("%s by another user: %v, want BG_E_NOT_FOUND", name, err)
		}
		for _, c := range []Caller{alice, root, {UID: 500, Self: 500}} {
			if err := call(c); err != nil {
				t.Errorf("%s by uid %d: %v", name, c.UID, err)
			}
		}
	}
	count := func(c Caller, all bool) (n int, err error) {
		err = q.List(c, ListOptions{AllUsers: all}, func(bits.Job) bool { n++; return true })
		return n, err
	}
	if n, err := count(bob, false); n != 1 || err != nil {
		t.Errorf("bob lists %d jobs, %v; want his one", n, err)
	}
	if _, err := count(bob, true); codeOf(err) != bits.AccessDenied {
		t.Errorf("bob lists all users' jobs: %v", err)
	}
	if n, err := count(root, true); n != 2 || err != nil {
		t.Errorf("root lists %d jobs, %v; want 2", n, err)
	}
	for name, call := range map[string]func(Caller) error{
		"Resume":   func(c Caller) error { _, err := q.Resume(c, id); return err },
		"Complete": func(c Caller) error { _, err := q.Complete(c, id); return err },
		"Cancel":   func(c Caller) error { _, err := q.Cancel(c, id); return err },
	} {
		if err := call(bob); codeOf(err) != bits.NotFound {
			t.Errorf("%s by another user: %v, want BG_E_NOT_FOUND", name, err)
		}
	}
}

// TestRootsJobsAreRootsAlone: whom the system lets administer the service deals with the jobs of all users but
// root's, and has nothing run as their owners (client.md 1.4, 7.3).
func TestRootsJobsAreRootsAlone(t *testing.T) {
	q := open(t, t.TempDir())
	defer shut(t, q)
	dir := t.TempDir()
	spec := bits.FileSpec{Remote: "http://127.0.0.1:1/a", Local: filepath.Join(dir, "a")}
	roots, hers := create(t, q, root, "root's", spec), create(t, q, alice, "hers", spec)
	granted := Caller{UID: 1001, Self: 500, Granted: true}
	set := func(c Caller, id bits.ID, name, value string) error {
		var s bits.Settings
		if err := s.Set(name, value); err != nil {
			t.Fatal(err)
		}
		_, err := q.Set(c, id, s)
		return err
	}
	for name, call := range map[string]func(Caller) error{
		"Set": func(c Caller) error { return set(c, roots, "priority", "LOW") },
		"AddFiles": func(c Caller) error {
			_, err := q.AddFiles(c, roots, []bits.FileSpec{{Remote: "http://h/b", Local: filepath.Join(dir, "b")}})
			return err
		},
		"ChangeFile": func(c Caller) error {
			_, err := q.ChangeFile(c, roots, 0, bits.FileChange{Skipped: new(true)})
			return err
		},
		"RemoveFile": func(c Caller) error { return q.RemoveFile(c, roots, 0) },
		"ReplacePrefix": func(c Caller) error {
			_, err := q.ReplacePrefix(c, roots, bits.PrefixChange{Old: "http:", New: "https:"})
			return err
		},
		"SetPosition":   func(c Caller) error { _, err := q.SetPosition(c, roots, 0, 1); return err },
		"RequestRanges": func(c Caller) error { _, err := q.RequestRanges(c, roots, 0, ranges("0:1")); return err },
		"SetValidated":  func(c Caller) error { _, err := q.SetValidated(c, roots, 0, true); return err },
		"ReplyData":     func(c Caller) error { _, err := q.ReplyData(c, roots); return err },
		"Resume":        func(c Caller) error { _, err := q.Resume(c, roots); return err },
		"Suspend":       func(c Caller) error { _, err := q.Suspend(c, roots); return err },
		"Own":           func(c Caller) error { _, err := q.Own(c, roots); return err },
		"Complete":      func(c Caller) error { _, err := q.Complete(c, roots); return err },
		"Cancel":        func(c Caller) error { _, err := q.Cancel(c, roots); return err },
	} {
		if err := call(granted); codeOf(err) != bits.AccessDenied {
			t.Errorf("%s of root's job by another administrator: %v", name, err)
		}
		if err := call(bob); codeOf(err) != bits.NotFound {
			t.Errorf("%s of root's job by another user: %v", name, err)
		}
	}
	if j, err := q.Get(granted, roots, true); err != nil || len(j.Files) != 1 || j.State != bits.Suspended || j.Priority != bits.Normal {
		t.Errorf("root's job is %+v, %v", j, err)
	}
	for _, c := range []struct {
		who  Caller
		want bits.Code
	}{{granted, bits.AccessDenied}, {root, bits.OK}, {alice, bits.OK}} {
		for name, value := range map[string]string{"notify_command": "/bin/true", "notify_url": "http://127.0.0.1/"} {
			if err := set(c.who, hers, name, value); codeOf(err) != c.want {
				t.Errorf("%s set by uid %d: %v, want %s", name, c.who.UID, err, c.want.Name())
			}
		}
		if err := set(c.who, hers, "priority", "LOW"); err != nil {
			t.Errorf("priority set by uid %d: %v", c.who.UID, err)
		}
		if _, err := q.Suspend(c.who, hers); err != nil {
			t.Errorf("Suspend by uid %d: %v", c.who.UID, err)
		}
	}
}

func TestReferences(t *testing.T) {
	q := open(t, t.TempDir())
	defer shut(t, q)
	a, b := create(t, q, alice, "same"), create(t, q, alice, "same")
	c := create(t, q, alice, a.String()[:8]) // named as another job's prefix: the name wins
	for ref, want := range map[string]bits.ID{a.String(): a, "{" + b.String() + "}": b, a.String()[:8]: c, a.String()[:13]: a} {
		if got, err := q.Resolve(alice, ref); got != want || err != nil {
			t.Errorf("%q is %v, %v; want %v", ref, got, err, want)
		}
	}
	_, err := q.Resolve(alice, "same")
	var ambiguous *AmbiguousError
	if e := asError(err); e.Code != bits.InvalidArg || !asAmbiguous(e, &ambiguous) || len(ambiguous.Candidates) != 2 {
		t.Errorf("an ambiguous name: %v", err)
	}
	if _, err := q.Cancel(alice, a); err != nil {
		t.Fatal(err)
	}
	if got, err := q.Resolve(alice, "same"); got != b || err != nil {
		t.Errorf("the one live job of the name is %v, %v; want %v", got, err, b)
	}
	if j, err := q.Get(alice, a, true); err != nil || j.State != bits.Cancelled {
		t.Errorf("the cancelled job is %v, %v", j.State, err)
	}
}

func asAmbiguous(e *bits.Error, to **AmbiguousError) bool {
	a, ok := e.Cause.(*AmbiguousError)
	*to = a
	return ok
}

// TestJobsComeBackAsTheyWere closes and opens the queue again.
func TestJobsComeBackAsTheyWere(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir)
	low, delay := bits.Low, int64(77)
	id := create(t, q, alice, "a", bits.FileSpec{Remote: "http://127.0.0.1:1/a", Local: "/tmp/a"}, bits.FileSpec{Remote: "http://127.0.0.1:1/b", Local: "/tmp/b"})
	if _, err := q.Set(alice, id, bits.Settings{Priority: &low, MinimumRetryDelay: &delay, Headers: &[]string{"Authorization: secret"}}); err != nil {
		t.Fatal(err)
	}
	gone := create(t, q, alice, "b")
	if _, err := q.Cancel(alice, gone); err != nil {
		t.Fatal(err)
	}
	want, err := q.Get(alice, id, true)
	if err != nil {
		t.Fatal(err)
	}
	last := q.LastEvent()
	shut(t, q)
	q = open(t, dir)
	defer shut(t, q)
	got, err := q.Get(alice, id, true)
	if err != nil || got.Priority != want.Priority || len(got.Files) != 2 || got.Properties.MinimumRetryDelay != 77 || !got.Times.Created.Equal(want.Times.Created) || len(got.Properties.HeaderNames) != 1 {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if j, err := q.Get(alice, gone, false); err != nil || j.State != bits.Cancelled {
		t.Errorf("the cancelled job is %v, %v", j.State, err)
	}
	if q.LastEvent() != last {
		t.Errorf("the last event is %d, want %d", q.LastEvent(), last)
	}
}

func TestBadRequestsChangeNothing(t *testing.T) {
	q := open(t, t.TempDir())
	defer shut(t, q)
	name := "n"
	for what, spec := range map[string]struct {
		job  bits.NewJob
		want bits.Code
	}{
		"no name":                {bits.NewJob{}, bits.InvalidArg},
		"two files in one place": {bits.NewJob{Settings: bits.Settings{Name: &name}, Files: []bits.FileSpec{{Remote: "http://h/a", Local: "/tmp/a"}, {Remote: "http://h/b", Local: "/tmp/x/../a"}}}, bits.InvalidArg},
		"start of nothing":       {bits.NewJob{Settings: bits.Settings{Name: &name}, Resume: true}, bits.Empty},
		"one bad file of two":    {bits.NewJob{Settings: bits.Settings{Name: &name}, Files: []bits.FileSpec{{Remote: "http://h/a", Local: "/tmp/a"}, {Remote: "x", Local: "/tmp/b"}}}, bits.InvalidArg},
		"more files than fit":    {bits.NewJob{Settings: bits.Settings{Name: &name}, Files: make([]bits.FileSpec, 100_001)}, bits.TooManyFilesInJob},
		"priority out of range":  {bits.NewJob{Settings: bits.Settings{Name: &name, Priority: new(bits.Priority(9))}}, bits.NotImplemented},
	} {
		if _, err := q.Create(alice, spec.job); codeOf(err) != spec.want {
			t.Errorf("%s: %v, want %s", what, err, spec.want)
		}
	}
	if n := len(q.Counts(Caller{})); n != 0 {
		t.Errorf("%d states have jobs", n)
	}
}

func TestRetryDelayGrows(t *testing.T) {
	const least = 10 * time.Second
	for n, want := range map[int]time.Duration{0: 10, 1: 10, 2: 20, 3: 40, 4: 80, 5: 160, 6: 160, 1000: 160} {
		want *= time.Second
		if got := retryDelay(least, bits.Low, n, 0); got != want {
			t.Errorf("attempt %d without jitter: %v, want %v", n, got, want)
		}
		if got := retryDelay(least, bits.Low, n, 1); got != want+want/4 {
			t.Errorf("attempt %d with all jitter: %v, want %v", n, got, want+want/4)
		}
	}
}

func TestAPersonWaitsNoLongerThanHalfAMinute(t *testing.T) {
	for least, want := range map[time.Duration]time.Duration{5 * time.Second: 30 * time.Second, time.Minute: time.Minute} {
		if got := retryDelay(least, bits.Foreground, 9, 0); got != want {
			t.Errorf("with at least %v: %v, want %v", least, got, want)
		}
	}
}

func TestCreatingAgainWithTheSameIDMakesOneJob(t *testing.T) {
	q := open(t, t.TempDir())
	defer shut(t, q)
	name, id := "n", bits.NewID()
	spec := bits.NewJob{ID: &id, Settings: bits.Settings{Name: &name}}
	for range 2 {
		if j, err := q.Create(alice, spec); err != nil || j.ID != id {
			t.Fatalf("%+v, %v", j, err)
		}
	}
	if n := q.Counts(Caller{})["SUSPENDED"]; n != 1 {
		t.Errorf("there are %d jobs", n)
	}
	if _, err := q.Create(bob, spec); codeOf(err) != bits.InvalidArg {
		t.Errorf("another user with the same id: %v", err)
	}
}

func TestDeadlinesComeInOrderAndOnlyTheLatestOfAJobCounts(t *testing.T) {
	var d deadlines
	t0 := time.Now()
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	jobs := make([]*job, 4)
	for i := range jobs {
		jobs[i] = &job{num: int64(i)}
	}
	d.set(jobs[0], at(5))
	d.set(jobs[1], at(3))
	d.set(jobs[2], at(4))
	d.set(jobs[3], at(1))
	d.set(jobs[1], at(9))       // later
	d.set(jobs[3], time.Time{}) // never
	d.set(jobs[0], at(2))       // earlier
	if next, ok := d.next(); !ok || !next.Equal(at(2)) {
		t.Errorf("next is %v, %v", next, ok)
	}
	if j := d.pop(at(1)); j != nil {
		t.Errorf("job %d came too early", j.num)
	}
	for _, want := range []int64{0, 2, 1} {
		if j := d.pop(at(100)); j == nil || j.num != want {
			t.Fatalf("got %v, want job %d", j, want)
		}
	}
	if j := d.pop(at(100)); j != nil {
		t.Errorf("job %d came twice", j.num)
	}
}

// TestDeadlinesForgetWhatNoLongerCounts moves one deadline again and again, before one that stays.
func TestDeadlinesForgetWhatNoLongerCounts(t *testing.T) {
	var d deadlines
	t0 := time.Now()
	first, moves := &job{num: 1}, &job{num: 2}
	d.set(first, t0.Add(time.Second))
	for i := range 10_001 {
		d.set(moves, t0.Add(time.Hour+time.Duration(i)))
		if i%3 == 0 {
			d.set(moves, time.Time{})
		}
	}
	if n := len(d.h); n > 100 {
		t.Errorf("%d entries for 2 jobs", n)
	}
	for _, want := range []*job{first, moves} {
		if j := d.pop(t0.Add(2 * time.Hour)); j != want {
			t.Fatalf("got %v, want job %d", j, want.num)
		}
	}
	if _, ok := d.next(); ok || d.live != 0 {
		t.Errorf("%d are left", d.live)
	}
}

func TestEventRing(t *testing.T) {
	var r eventRing
	r.init(10)
	if _, complete, _ := r.after(5); complete {
		t.Error("memory claims to have events from before the start")
	}
	_, _, more := r.after(10)
	for i := uint64(11); i <= 10+3*ringSize; i += 3 {
		r.add([]store.Event{{Event: bits.Event{Seq: i}}, {Event: bits.Event{Seq: i + 1}}, {Event: bits.Event{Seq: i + 2}}})
	}
	select {
	case <-more:
	default:
		t.Error("nobody was woken")
	}
	if _, complete, _ := r.after(11); complete {
		t.Error("memory claims to have events that it dropped")
	}
	for seq := r.oldest() - 1; seq < r.last(); {
		events, complete, _ := r.after(seq)
		if !complete || len(events) == 0 || events[0].Seq != seq+1 {
			t.Fatalf("after %d: %d events, complete %v", seq, len(events), complete)
		}
		seq = events[len(events)-1].Seq
	}
}

// TestEndedJobsAreForgottenAfterAWhile lets the retention time of many jobs pass at once.
func TestEndedJobsAreForgottenAfterAWhile(t *testing.T) {
	s, err := store.Open(t.TempDir(), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	p := policy.Default()
	p.Jobs.KeepFinished = 0
	q, err := Open(s, transfer.NewEngine(httpget.New(httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler)))), time.Second, nil), governor.New("", slog.New(slog.DiscardHandler)), p, conditions.State{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, q)
	var ids []bits.ID
	for range 20 {
		ids = append(ids, create(t, q, alice, "n"))
	}
	for _, id := range ids[:15] {
		if _, err := q.Cancel(alice, id); err != nil {
			t.Fatal(err)
		}
	}
	// A later command finds the timers run.
	last := create(t, q, alice, "last")
	for i, id := range append(ids, last) {
		want := bits.OK
		if i < 15 {
			want = bits.NotFound
		}
		if _, err := q.Get(alice, id, false); codeOf(err) != want {
			t.Errorf("job %d: %v, want %s", i, err, want)
		}
	}
	n := 0
	if err := s.Load(func(*store.Job) error { n++; return nil }, func(store.FileRow) error { return nil }); err != nil || n != 6 {
		t.Errorf("the store has %d jobs, %v; want 6", n, err)
	}
}

// TestHowLongEndedJobsAreKeptCountsAtOnce changes the policy after jobs have ended.
func TestHowLongEndedJobsAreKeptCountsAtOnce(t *testing.T) {
	q := open(t, t.TempDir())
	defer shut(t, q)
	id := create(t, q, alice, "ended")
	if _, err := q.Cancel(alice, id); err != nil {
		t.Fatal(err)
	}
	keep := func(d time.Duration) {
		p := policy.Default()
		p.Jobs.KeepFinished = policy.Duration(d)
		q.SetPolicy(p)
		create(t, q, alice, "later") // a later command finds the timers run
	}
	keep(time.Hour)
	if _, err := q.Get(alice, id, false); err != nil {
		t.Errorf("a job that just ended is gone: %v", err)
	}
	keep(0)
	if _, err := q.Get(alice, id, false); codeOf(err) != bits.NotFound {
		t.Errorf("a job that need not be kept any more: %v, want BG_E_NOT_FOUND", err)
	}
}

// TestAFileAddedAfterTheTransferIsNotDropped lets a job become TRANSFERRED and adds a file.
func TestAFileAddedAfterTheTransferIsNotDropped(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }))
	defer web.Close()
	q, dir := open(t, t.TempDir()), t.TempDir()
	defer shut(t, q)
	id := create(t, q, alice, "n", bits.FileSpec{Remote: web.URL, Local: filepath.Join(dir, "a")})
	await := func(s bits.State) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := q.Watch(ctx, alice, Filter{}, each(func(e bits.Event) error {
			if e.State == s {
				return errSeen
			}
			return nil
		}))
		if !errors.Is(err, errSeen) {
			t.Fatalf("waiting for %s: %v", s, err)
		}
	}
	if _, err := q.Resume(alice, id); err != nil {
		t.Fatal(err)
	}
	await(bits.Transferred)
	if _, err := q.AddFiles(alice, id, []bits.FileSpec{{Remote: web.URL, Local: filepath.Join(dir, "b")}}); err != nil {
		t.Fatal(err)
	}
	auto := true
	if _, err := q.Set(alice, id, bits.Settings{AutoComplete: &auto}); err != nil {
		t.Fatal(err)
	}
	if j, err := q.Get(alice, id, true); err != nil || j.State != bits.Transferred {
		t.Fatalf("the job is %s, %v; a file is still to come", j.State, err)
	}
	if _, err := q.Resume(alice, id); err != nil {
		t.Fatal(err)
	}
	await(bits.Acknowledged)
	for _, name := range []string{"a", "b"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

var errSeen = errors.New("seen")

// TestALostPartFileIsFetchedAgain deletes what was transferred before Complete.
func TestALostPartFileIsFetchedAgain(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }))
	defer web.Close()
	state, dir := t.TempDir(), t.TempDir()
	q := open(t, state)
	defer func() { shut(t, q) }()
	local := filepath.Join(dir, "a")
	id := create(t, q, alice, "n", bits.FileSpec{Remote: web.URL, Local: local})
	transfer1 := func() {
		t.Helper()
		last := q.LastEvent()
		if _, err := q.Resume(alice, id); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := q.Watch(ctx, alice, Filter{After: last}, each(func(e bits.Event) error {
			if e.State == bits.Transferred {
				return errSeen
			}
			return nil
		})); !errors.Is(err, errSeen) {
			t.Fatal(err)
		}
	}
	transfer1()
	if err := os.Remove(transfer.PartName(local, id, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Complete(alice, id); codeOf(err) != bits.FileNotFound {
		t.Fatalf("completing without the part file: %v", err)
	}
	transfer1()
	if code, err := q.Complete(alice, id); err != nil || code != bits.OK {
		t.Errorf("%s, %v", code, err)
	}
	if b, err := os.ReadFile(local); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	for _, when := range []string{"at once", "after a restart"} { // that it is placed follows from the job's state
		if j, err := q.Get(alice, id, true); err != nil || j.State != bits.Acknowledged || !j.Files[0].Completed || j.Files[0].BytesTransferred != 1 {
			t.Errorf("%s: %+v, %v", when, j, err)
		}
		shut(t, q)
		q = open(t, state)
	}
}

// TestAFailedCommitIsUndone closes the store's files under the queue, as a disk that takes
// nothing more would, and checks that answers say so, that nothing spins, and that what was
// committed before is still what readers see.
func TestAFailedCommitIsUndone(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	var log countingHandler
	q, err := Open(s, transfer.NewEngine(httpget.New(httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler)))), time.Second, nil), governor.New("", slog.New(slog.DiscardHandler)), policy.Default(), conditions.State{}, nil, slog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	id := create(t, q, alice, "n", bits.FileSpec{Remote: "http://127.0.0.1:1/a", Local: filepath.Join(t.TempDir(), "a")})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Resume(alice, id); codeOf(err) != bits.Unexpected {
		t.Errorf("resume with a failed disk: %v", err)
	}
	if _, err := q.Cancel(alice, id); codeOf(err) != bits.Unexpected {
		t.Errorf("cancel with a failed disk: %v", err)
	}
	name := "m"
	if _, err := q.Create(alice, bits.NewJob{Settings: bits.Settings{Name: &name}}); codeOf(err) != bits.Unexpected {
		t.Errorf("create with a failed disk: %v", err)
	}
	if j, err := q.Get(alice, id, true); err != nil || j.State != bits.Suspended {
		t.Errorf("the job is %s, %v; want what is on the disk", j.State, err)
	}
	if n := q.Counts(Caller{})["SUSPENDED"]; n != 1 {
		t.Errorf("%d jobs", n)
	}
	if n := log.n.Load(); n > 20 {
		t.Errorf("%d lines of log", n)
	}
	close(q.quit)
	<-q.done
}

// TestARefusedCommandLeavesNothing has a command stage all that commands can, and then be refused, between
// others of its batch that change the same job.
func TestARefusedCommandLeavesNothing(t *testing.T) {
	dir, quiet := t.TempDir(), slog.New(slog.DiscardHandler)
	s, err := store.Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	var log logText
	gov := governor.New("", quiet)
	q, err := Open(s, transfer.NewEngine(httpget.New(httpconn.New("test", gov)), time.Second, nil), gov, policy.Default(), conditions.State{}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	spec := func(name string) bits.FileSpec {
		return bits.FileSpec{Remote: "http://127.0.0.1:1/" + name, Local: filepath.Join(dir, name)}
	}
	id := create(t, q, alice, "changed", spec("a"), spec("b"), spec("c"))
	other, gone := create(t, q, alice, "untouched", spec("d")), create(t, q, alice, "there")
	j, k := q.byID[id], q.byID[other]
	remote := func(t *tx, j *job, i int, to string) {
		f := edited(t.get(j).at(i))
		f.Remote = to
		t.setFile(j, i, f)
	}
	name := func(to string) func(*store.Job, *store.Detail) {
		return func(r *store.Job, d *store.Detail) { r.Name, d.Description = to, to }
	}
	refusal := errors.New("refused at last")
	ran := ""
	var errs []error
	before := k.now
	err = q.do(func(t *tx) error {
		for _, do := range []func(*tx) error{
			func(t *tx) error { remote(t, j, 0, "http://first.invalid/"); return nil },
			func(t *tx) error {
				t.edit(j, name("REFUSED"))
				remote(t, j, 0, "http://REFUSED.invalid/0")
				remote(t, j, 1, "http://REFUSED.invalid/1")
				remote(t, j, 1, "http://REFUSED.invalid/2")
				remote(t, k, 0, "http://REFUSED.invalid/3")
				t.setState(k, bits.Errored)
				t.event(j, bits.EventModified, nil)
				t.audit(alice, audit.Resumed, j, "REFUSED")
				t.begin(j, &operation{cancel: true})
				fresh := &job{num: q.nextNum, id: bits.NewID()}
				t.fresh, t.made = append(t.fresh, fresh), map[uint32]int{alice.UID: 1}
				t.put(fresh, &version{rec: &store.Job{Num: fresh.num, ID: fresh.id, UID: alice.UID, Name: "REFUSED"}})
				t.gone = append(t.gone, q.byID[gone])
				t.then = append(t.then, func() { ran += "then " })
				t.unwind = append(t.unwind, func() { ran += "unwind " })
				return refusal
			},
			func(t *tx) error { remote(t, j, 2, "http://last.invalid/"); return nil },
		} {
			errs = append(errs, t.carryOut(command{do: do}))
		}
		if len(t.touched) != 1 || len(t.files) != 2 || len(t.news)+len(t.gone)+len(t.fresh)+len(t.then)+len(t.unwind)+t.made[alice.UID] != 0 {
			errs = append(errs, fmt.Errorf("staged: %+v", t))
		}
		return nil
	})
	if err != nil || errs[0] != nil || errs[1] != refusal || errs[2] != nil || len(errs) != 3 {
		t.Fatal(err, errs)
	}
	if j.op != nil || k.now != before || ran != "unwind " {
		t.Errorf("operation %v, other job %+v, ran %q", j.op, k.now.rec, ran)
	}
	check := func(when string) {
		t.Helper()
		got, err := q.Get(alice, id, true)
		if err != nil {
			t.Fatal(err)
		}
		if got.Name != "changed" || got.Properties.Description != "" || got.State != bits.Suspended {
			t.Errorf("%s: %+v", when, got)
		}
		for i, want := range []string{"http://first.invalid/", "http://127.0.0.1:1/b", "http://last.invalid/"} {
			if got.Files[i].Remote != want {
				t.Errorf("%s: file %d is from %s, want %s", when, i, got.Files[i].Remote, want)
			}
		}
		if o, err := q.Get(alice, other, true); err != nil || o.State != bits.Suspended || o.Files[0].Remote != spec("d").Remote {
			t.Errorf("%s: %+v, %v", when, o, err)
		}
		if n := q.Counts(alice)["SUSPENDED"]; n != 3 {
			t.Errorf("%s: %d jobs", when, n)
		}
		if events, err := q.Events(0); err != nil || len(events) != 3 { // that the jobs were made
			t.Errorf("%s: %d events, %v", when, len(events), err)
		}
	}
	check("at once")
	if text := strings.Join(log.lines(), "\n"); strings.Contains(text, "REFUSED") {
		t.Error(text)
	}
	shut(t, q)
	q = open(t, dir)
	defer shut(t, q)
	check("after a restart")
}

// countingHandler counts lines of log.
type countingHandler struct {
	slog.Handler
	n atomic.Int64
}

func (h *countingHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (h *countingHandler) Handle(context.Context, slog.Record) error { h.n.Add(1); return nil }

// TestEventsAreTheOwners: whose an event is, is a matter of user ids. Names may be those of others
// once, such as when an account is made anew.
func TestEventsAreTheOwners(t *testing.T) {
	q, dir := open(t, t.TempDir()), t.TempDir()
	defer shut(t, q)
	bob := Caller{UID: alice.UID + 1, Self: alice.Self}
	q.names.known = map[uint32]userName{alice.UID: {text: "same"}, bob.UID: {text: "same"}}
	mine := create(t, q, alice, "mine", bits.FileSpec{Remote: "http://h.invalid/a", Local: filepath.Join(dir, "a")})
	his := create(t, q, bob, "his", bits.FileSpec{Remote: "http://h.invalid/b", Local: filepath.Join(dir, "b")})
	read := func(what string) {
		t.Helper()
		for _, c := range []struct {
			caller Caller
			want   bits.ID
		}{{alice, mine}, {bob, his}} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			err := q.Watch(ctx, c.caller, Filter{}, each(func(e bits.Event) error {
				if e.Job != c.want {
					t.Errorf("%s: user %d is told of %s", what, c.caller.UID, e.Name)
				}
				if e.Job == c.want && e.Kind == bits.EventAdded {
					return errSeen
				}
				return nil
			}))
			cancel()
			if !errors.Is(err, errSeen) {
				t.Errorf("%s: user %d is not told of the own job: %v", what, c.caller.UID, err)
			}
		}
	}
	read("from memory")
	q.events.recent = nil // as after a restart
	read("from the store")
}

// TestMissedEvents: whoever goes on from a number after which events are gone is told so, once, and
// gets what is left. A user's flood takes nothing from others.
func TestMissedEvents(t *testing.T) {
	q, dir := open(t, t.TempDir()), t.TempDir()
	defer shut(t, q)
	root, bob := Caller{UID: 0, Self: 0}, Caller{UID: alice.UID + 1, Self: alice.Self}
	first := create(t, q, bob, "quiet", bits.FileSpec{Remote: "http://h.invalid/b", Local: filepath.Join(dir, "b")})
	flood := create(t, q, alice, "flood", bits.FileSpec{Remote: "http://h.invalid/a", Local: filepath.Join(dir, "a")})
	for i := range 40 {
		if _, err := q.Set(alice, flood, bits.Settings{Description: new(strconv.Itoa(i))}); err != nil {
			t.Fatal(err)
		}
	}
	last := create(t, q, bob, "quiet too", bits.FileSpec{Remote: "http://h.invalid/c", Local: filepath.Join(dir, "c")})
	if _, err := q.store.Events(0, 1); err != nil { // all are in the database then
		t.Fatal(err)
	}
	if err := q.store.PruneEvents(time.Unix(0, 0), 20); err != nil {
		t.Fatal(err)
	}
	q.events.recent = nil // as after a restart
	watch := func(c Caller, f Filter, until func(bits.Event) bool) (seen []bits.Event) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := q.Watch(ctx, c, f, each(func(e bits.Event) error {
			seen = append(seen, e)
			if until(e) {
				return errSeen
			}
			return nil
		}))
		if !errors.Is(err, errSeen) {
			t.Fatalf("user %d saw %d events: %v", c.UID, len(seen), err)
		}
		return seen
	}
	isLast := func(e bits.Event) bool { return e.Job == last }
	missed := func(seen []bits.Event) (at []int) {
		for i, e := range seen {
			if e.Kind == bits.EventMissed {
				at = append(at, i)
			}
		}
		return at
	}
	if seen := watch(bob, Filter{After: 1}, isLast); len(missed(seen)) != 0 {
		t.Errorf("bob is told that he missed something: %+v", seen)
	}
	newest := q.LastEvent()
	seen := watch(alice, Filter{After: 2}, func(e bits.Event) bool { return e.Kind == bits.EventModified })
	if !slices.Equal(missed(seen), []int{0}) || seen[0].Seq <= 2 || seen[0].Seq >= newest || seen[0].Note == "" || seen[1].Seq != seen[0].Seq+1 {
		t.Errorf("alice sees %+v", seen)
	}
	if seen := watch(alice, Filter{After: seen[0].Seq}, func(e bits.Event) bool { return e.Kind == bits.EventModified }); len(missed(seen)) != 0 {
		t.Errorf("alice is told again: %+v", seen)
	}
	all := watch(root, Filter{After: 1, AllUsers: true}, isLast)
	var of []bits.ID
	for _, e := range all {
		if e.Kind != bits.EventMissed {
			of = append(of, e.Job)
		}
	}
	if !slices.Equal(missed(all), []int{0}) || !slices.Contains(of, flood) || !slices.Contains(of, last) {
		t.Errorf("root sees %+v", all)
	}
	if seen := watch(root, Filter{After: 1, Jobs: []bits.ID{first, last}}, isLast); !slices.Equal(missed(seen), []int{0}) {
		t.Errorf("of some jobs root sees %+v", seen)
	}
	if seen := watch(bob, Filter{After: newest + 1000}, func(bits.Event) bool { return true }); seen[0].Kind != bits.EventMissed || seen[0].Seq != newest {
		t.Errorf("bob, whose number is of another store, sees %+v", seen)
	}
}

// each makes what Watch sends to of what takes one event.
func each(see func(bits.Event) error) func([]bits.Event) error {
	return func(events []bits.Event) error {
		for _, e := range events {
			if err := see(e); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestKindsOfEvents wants some kinds of events only, and many at once.
func TestKindsOfEvents(t *testing.T) {
	q := open(t, t.TempDir())
	defer shut(t, q)
	after := q.LastEvent()
	id := create(t, q, alice, "n")
	const many = 2000
	for i := range many {
		if _, err := q.Set(alice, id, bits.Settings{Description: new(strconv.Itoa(i))}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.Cancel(alice, id); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kinds []bits.EventKind
		want  int
	}{
		{[]bits.EventKind{bits.EventRemoved}, 1},
		{[]bits.EventKind{bits.EventAdded, bits.EventRemoved}, 2},
		{[]bits.EventKind{bits.EventModified, bits.EventRemoved}, many + 1},
		{nil, many + 2},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var seen []uint64
		err := q.Watch(ctx, alice, Filter{After: after, Kinds: c.kinds}, func(events []bits.Event) error {
			for _, e := range events {
				seen = append(seen, e.Seq)
				if e.Kind == bits.EventRemoved {
					return errSeen
				}
			}
			return nil
		})
		cancel()
		if !errors.Is(err, errSeen) || len(seen) != c.want || !slices.IsSorted(seen) {
			t.Errorf("%v: %d events, in order %t: %v", c.kinds, len(seen), slices.IsSorted(seen), err)
		}
	}
}
