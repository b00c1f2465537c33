package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// manyClients add jobs at the same time, each on a connection of its own.
const manyClients = 16

// queue measures a queue of many jobs that wait.
func queue(flags *flag.FlagSet) func(context.Context, *lab) error {
	n := flags.Int("jobs", 100_000, "`number` of waiting jobs")
	idle := flags.Duration("idle", 20*time.Second, "how long the idle service is watched")
	stall := flags.Duration("stall", 3*time.Second, "how long a running transfer is watched, each time")
	seed := flags.Uint64("seed", uint64(time.Now().Unix()), "chooses the moments of kill -9")
	return func(ctx context.Context, l *lab) error {
		if err := need("aria2c"); err != nil {
			return err
		}
		if err := l.free(5 * gib); err != nil {
			return err
		}
		q := &waiting{l: l, n: *n, idle: *idle, stall: *stall, random: rand.New(rand.NewPCG(*seed, 3))}
		return q.run(ctx)
	}
}

// waiting is a queue of n jobs that wait, and what was measured of it.
type waiting struct {
	l           *lab
	n           int
	idle, stall time.Duration
	random      *rand.Rand
	s           *service
	targets     []target
	ebb, aria   map[string]string // the figures that aria2 has, too
}

func (q *waiting) run(ctx context.Context) (err error) {
	q.ebb, q.aria = map[string]string{}, map[string]string{}
	if q.s, err = q.l.startService(ctx, "queue"); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{q.fill, q.crashes, q.lists, q.stalls, q.restarts, q.rest, q.rival} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	t := table{head: []string{"", "ebb", "aria2c daemon"}}
	for _, what := range []string{rowAdd, rowFirst, rowAll, rowMemory} {
		t.add(what, q.ebb[what], q.aria[what])
	}
	t.print("%d waiting jobs, compared:", q.n)
	printTargets(q.targets)
	return nil
}

const (
	rowAdd    = "jobs added a second"
	rowFirst  = "first 100 listed, ms"
	rowAll    = "all listed, s"
	rowMemory = "resident memory, MiB"
)

func (q *waiting) promise(what string, limit float64, format string, got float64) {
	q.targets = append(q.targets, target{what: what, limit: limit, got: got, format: format})
}

// job is the i-th job that waits.
func (q *waiting) job(i int64) bits.NewJob {
	name := fmt.Sprintf("job-%06d", i)
	return bits.NewJob{Settings: bits.Settings{Name: &name}, Files: []bits.FileSpec{{Remote: waitingURL(i), Local: q.l.path(name + ".iso")}}}
}

// waitingURL is never asked for.
func waitingURL(i int64) string { return fmt.Sprintf("http://127.0.0.1:9/images/file-%06d.iso", i) }

// add adds jobs with a number of clients, each with calls for so many, from the number in next up to and
// without the end, and returns the ids of those that were answered, also with an error.
func (q *waiting) add(ctx context.Context, s *service, clients, atOnce int, next *atomic.Int64, end int64) ([]bits.ID, error) {
	var all sync.WaitGroup
	added := make([][]bits.ID, clients)
	failed := make([]error, clients)
	for c := range clients {
		all.Go(func() {
			m := client.New(s.socket)
			defer m.Close()
			for failed[c] == nil {
				last := next.Add(int64(atOnce))
				first := last - int64(atOnce)
				if first >= end {
					return
				}
				var specs []bits.NewJob
				for i := first; i < min(last, end); i++ {
					specs = append(specs, q.job(i))
				}
				var jobs []*client.Job
				if atOnce == 1 {
					jobs = make([]*client.Job, 1)
					jobs[0], failed[c] = m.Create(ctx, specs[0])
				} else {
					jobs, failed[c] = m.CreateAll(ctx, specs)
				}
				for _, job := range jobs {
					if job != nil {
						added[c] = append(added[c], job.ID)
					}
				}
			}
		})
	}
	all.Wait()
	var ids []bits.ID
	for _, a := range added {
		ids = append(ids, a...)
	}
	return ids, errors.Join(failed...)
}

// fill makes the queue, one client and many taking turns, a job a call and many a call, and kills the
// service right after the last answer.
func (q *waiting) fill(ctx context.Context) error {
	turns := []struct {
		clients, atOnce int
		share           int // of all jobs, in percent
		rate            figures
	}{{clients: 1, atOnce: 1, share: 10}, {clients: manyClients, atOnce: 1, share: 30}, {clients: 1, atOnce: 100, share: 30}, {clients: manyClients, atOnce: 100, share: 30}}
	var next atomic.Int64
	added := 0
	for round := range q.l.runs {
		for i := range turns {
			turn := &turns[i]
			end := next.Load() + int64(q.n*turn.share/100/q.l.runs)
			if round == q.l.runs-1 && i == len(turns)-1 {
				end = int64(q.n)
			}
			unix.Sync()
			began := time.Now()
			ids, err := q.add(ctx, q.s, turn.clients, turn.atOnce, &next, end)
			took := time.Since(began)
			if err != nil {
				return fmt.Errorf("add jobs: %w", err)
			}
			next.Store(end) // those who found nothing left have counted on
			added += len(ids)
			turn.rate = append(turn.rate, float64(len(ids))/took.Seconds())
			note("run %d of %d: %d jobs from %d clients, %d a call, %.0f/s", round+1, q.l.runs, len(ids), turn.clients, turn.atOnce, float64(len(ids))/took.Seconds())
		}
	}
	filled, peak, err := memoryUse(q.s.PID)
	if err != nil {
		return err
	}
	q.s.Kill()
	began := time.Now()
	answer, err := q.s.start(ctx)
	if err != nil {
		return err
	}
	listed, err := q.s.list(ctx, client.ListOptions{})
	if err != nil {
		return err
	}
	all := time.Since(began)
	t := table{head: []string{"clients", "jobs a call", "durable adds/s"}}
	for _, turn := range turns {
		t.add(fmt.Sprint(turn.clients), fmt.Sprint(turn.atOnce), turn.rate.spread("%.0f"))
	}
	t.print("%d jobs with a file each, median (least to greatest) of %d runs:", q.n, q.l.runs)
	fmt.Printf("\nAfter kill -9 upon the last answer the service answers in %.2f s, and has listed %d of %d jobs in %.2f s. Resident memory after adding: %s, peak %s.\n",
		answer.Seconds(), listed, added, all.Seconds(), size(filled), size(peak))
	if listed != added {
		return fmt.Errorf("%d jobs were answered and %d are there after kill -9", added, listed)
	}
	q.promise("start to the first answer after the adding, s", 0.5, "%.2f", answer.Seconds())
	q.promise("start to all listed after the adding, s", 1, "%.2f", all.Seconds())
	q.ebb[rowAdd] = fmt.Sprintf("%.0f from 1 client, %.0f with %d a call, durable", turns[0].rate.median(), turns[2].rate.median(), turns[2].atOnce)
	q.targets = append(q.targets,
		target{what: fmt.Sprintf("durable adds a second, 1 client, %d a call", turns[2].atOnce), limit: 2500, got: turns[2].rate.median(), format: "%.0f", least: true},
		target{what: fmt.Sprintf("durable adds a second, %d clients, %d a call", manyClients, turns[3].atOnce), limit: 12000, got: turns[3].rate.median(), format: "%.0f", least: true},
		target{what: "durable adds a second, 1 client, one a call", limit: 2500, got: turns[0].rate.median(), format: "%.0f", least: true},
		target{what: fmt.Sprintf("durable adds a second, %d clients, one a call", manyClients), limit: 12000, got: turns[1].rate.median(), format: "%.0f", least: true})
	return nil
}

// crashes kills another service while many clients add jobs, and looks for those that were
// answered.
func (q *waiting) crashes(ctx context.Context) error {
	s, err := q.l.startService(ctx, "crash")
	if err != nil {
		return err
	}
	lost, answered := 0, 0
	var known []bits.ID
	for range 2 * q.l.runs {
		moment := 20*time.Millisecond + time.Duration(q.random.Int64N(int64(300*time.Millisecond)))
		timer := time.AfterFunc(moment, s.Kill)
		var next atomic.Int64
		ids, err := q.add(ctx, s, manyClients, 1, &next, 1<<40)
		if timer.Stop() {
			return fmt.Errorf("the service did not live until it was killed: %w; it said: %s", err, s.said())
		}
		s.Kill() // wait for its end
		answered += len(ids)
		known = append(known, ids...)
		if _, err := s.start(ctx); err != nil {
			return err
		}
		there := map[bits.ID]bool{}
		for j, err := range s.List(ctx, client.ListOptions{}) {
			if err != nil {
				return err
			}
			there[j.ID] = true
		}
		lost = 0
		for _, id := range known {
			if !there[id] {
				lost++
			}
		}
	}
	s.Kill()
	fmt.Printf("\nkill -9 at %d random moments while %d clients add: %d jobs were answered, %d are lost.\n", 2*q.l.runs, manyClients, answered, lost)
	q.promise("answered jobs lost by kill -9", 0, "%.0f", float64(lost))
	if lost > 0 {
		return fmt.Errorf("%d of %d answered jobs are lost", lost, answered)
	}
	return nil
}

// lists measures listings.
func (q *waiting) lists(ctx context.Context) error {
	time1 := func(o client.ListOptions, want int) (time.Duration, error) {
		began := time.Now()
		n, err := q.s.list(ctx, o)
		if err == nil && n != want {
			err = fmt.Errorf("%d jobs are listed, want %d", n, want)
		}
		return time.Since(began), err
	}
	var first, all, files figures
	for range q.l.runs {
		for range 20 {
			d, err := time1(client.ListOptions{Limit: 100}, min(100, q.n))
			if err != nil {
				return err
			}
			first = append(first, float64(d.Microseconds())/1000)
		}
		d, err := time1(client.ListOptions{}, q.n)
		if err != nil {
			return err
		}
		all = append(all, d.Seconds())
		if d, err = time1(client.ListOptions{Files: true}, q.n); err != nil {
			return err
		}
		files = append(files, d.Seconds())
	}
	resident, _, err := memoryUse(q.s.PID)
	if err != nil {
		return err
	}
	t := table{head: []string{"listing", "time"}}
	t.add("first 100", first.spread("%.2f")+" ms")
	t.add("all", all.spread("%.2f")+" s")
	t.add("all with files", files.spread("%.2f")+" s")
	t.print("Listing %d jobs as JSON:", q.n)
	fmt.Printf("\nResident memory after that: %s.\n", size(resident))
	q.ebb[rowFirst], q.ebb[rowAll] = fmt.Sprintf("%.2f", first.median()), fmt.Sprintf("%.2f", all.median())
	q.promise("first 100 listed, ms", 5, "%.2f", first.median())
	q.promise("all listed, s", 1, "%.2f", all.median())
	q.promise("all listed with files, s", 1, "%.2f", files.median())
	q.promise("resident memory after listing, MiB", 150, "%.0f", float64(resident)/mib)
	return nil
}

// stalls watches a running transfer while the whole list is streamed over and over.
func (q *waiting) stalls(ctx context.Context) error {
	program, err := q.l.build(ctx, "ebb-testserver", "github.com/ebbtransfer/ebb/test/faultserver/cmd/ebb-testserver")
	if err != nil {
		return err
	}
	log := filepath.Join(q.l.temp, "testserver.log")
	web, err := process.Spawn(log, nil, "/", program, "--rate", "20M")
	if err != nil {
		return err
	}
	defer web.Kill()
	url := ""
	for url == "" {
		if err := process.Sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
		b, _ := os.ReadFile(log)
		if n := len(b); n > 0 && b[n-1] == '\n' {
			url = string(b[:n-1])
		}
	}
	spec := foreground("running", bits.FileSpec{Remote: url + "/gen/4G", Local: q.l.path("running")})
	job, err := q.s.Create(ctx, spec)
	if err != nil {
		return err
	}
	if err := process.Sleep(ctx, time.Second); err != nil {
		return err
	}
	var quiet, busy figures
	listings := 0
	for range q.l.runs {
		gap, err := longestGap(ctx, q.s.PID, q.stall)
		if err != nil {
			return err
		}
		quiet = append(quiet, float64(gap.Microseconds())/1000)

		listing, stop := context.WithCancel(ctx)
		ended := make(chan error)
		go func() {
			for {
				if _, err := q.s.list(listing, client.ListOptions{}); err != nil {
					if listing.Err() != nil {
						err = nil
					}
					ended <- err
					return
				}
				listings++
			}
		}()
		gap, err = longestGap(ctx, q.s.PID, q.stall)
		stop()
		if err := errors.Join(err, <-ended); err != nil {
			return err
		}
		busy = append(busy, float64(gap.Microseconds())/1000)
	}
	if info, err := job.Status(ctx); err != nil || info.State != bits.Transferring {
		return fmt.Errorf("the running transfer is not running any more: %v, %w", info.State, err)
	}
	if _, err := job.Cancel(ctx); err != nil {
		return err
	}
	t := table{head: []string{"a transfer of 20 MiB/s, sent every 10 ms", "longest gap, ms"}}
	t.add("alone", quiet.spread("%.0f"))
	t.add(fmt.Sprintf("while all jobs are listed without a break (%d times)", listings), busy.spread("%.0f"))
	t.print("Gaps between the bytes that the service reads, in %d runs of %v:", q.l.runs, q.stall)
	q.promise("longest gap of a running transfer while listing, ms", 50, "%.0f", busy.max())
	return nil
}

// longestGap watches how many bytes a process has read and returns the longest time in which none
// were seen to come. When the watcher itself is late, that is not a gap.
func longestGap(ctx context.Context, pid int, d time.Duration) (longest time.Duration, err error) {
	path := fmt.Sprintf("/proc/%d/io", pid)
	var last int64
	var since time.Time // when last was seen first
	for end := time.Now().Add(d); time.Now().Before(end); {
		f, err := procFields(path)
		if err != nil {
			return 0, err
		}
		now := time.Now()
		if n := f["rchar"]; n != last {
			last, since = n, now
		} else {
			longest = max(longest, now.Sub(since))
		}
		if err := process.Sleep(ctx, time.Millisecond); err != nil {
			return 0, err
		}
	}
	return longest, nil
}

// restarts measures how long the service takes to start after kill -9 and after a clean stop, and
// to stop.
func (q *waiting) restarts(ctx context.Context) error {
	var answer, listed, stopped [2]figures // after kill -9, after a clean stop
	for range q.l.runs {
		for i := range 2 {
			// A stop has work to do only when something was added since the start.
			job, err := q.s.Create(ctx, q.job(int64(q.n)))
			if err != nil {
				return err
			}
			if _, err := job.Cancel(ctx); err != nil {
				return err
			}
			if i == 0 {
				q.s.Kill()
			} else {
				d, err := q.s.Terminate(ctx)
				if err != nil {
					return err
				}
				stopped[i] = append(stopped[i], d.Seconds())
			}
			unix.Sync()
			began := time.Now()
			d, err := q.s.start(ctx)
			if err != nil {
				return err
			}
			answer[i] = append(answer[i], d.Seconds())
			n, err := q.s.list(ctx, client.ListOptions{})
			if err != nil {
				return err
			}
			if n != q.n {
				return fmt.Errorf("%d jobs are there after a restart, want %d", n, q.n)
			}
			listed[i] = append(listed[i], time.Since(began).Seconds())
		}
	}
	t := table{head: []string{"the service ended by", "stop, s", "start to the first answer, s", "start to all listed, s"}}
	t.add("kill -9", "-", answer[0].spread("%.2f"), listed[0].spread("%.2f"))
	t.add("SIGTERM", stopped[1].spread("%.2f"), answer[1].spread("%.2f"), listed[1].spread("%.2f"))
	t.print("Starts with %d jobs, median (least to greatest) of %d runs:", q.n, q.l.runs)
	q.promise("start to the first answer, s", 0.5, "%.2f", max(answer[0].median(), answer[1].median()))
	q.promise("start to all listed, s", 1, "%.2f", max(listed[0].median(), listed[1].median()))
	q.promise("clean stop, s", 0.5, "%.2f", stopped[1].median())
	return nil
}

// rest watches the idle service.
func (q *waiting) rest(ctx context.Context) error {
	note("watching the idle service for %v", q.idle)
	if err := process.Sleep(ctx, 15*time.Second); err != nil { // the backup after the start is over, and what is given back then
		return err
	}
	u, err := watchIdle(ctx, q.s.Process, q.idle)
	if err != nil {
		return err
	}
	_, peak, err := memoryUse(q.s.PID)
	if err != nil {
		return err
	}
	fmt.Printf("\nIdle with %d jobs for %v, after a start, a listing and the backup: CPU %.2f ms/s, %.2f wake-ups/s, resident %.0f MiB (peak since the start %.0f).\n",
		q.n, q.idle, u.cpu, u.wakeups, u.resident, float64(peak)/mib)
	q.ebb[rowMemory] = fmt.Sprintf("%.0f", u.resident)
	q.promise("resident memory when idle, MiB", 150, "%.0f", u.resident)
	q.promise("CPU when idle, ms/s", 1, "%.2f", u.cpu)
	return nil
}

// rival measures the same of aria2c, as far as it has it.
func (q *waiting) rival(ctx context.Context) error {
	a, err := q.l.newAria2("aria2-queue", "--dir="+q.l.dir)
	if err != nil {
		return err
	}
	if err := a.start(ctx, q.l.dir); err != nil {
		return err
	}
	began := time.Now()
	if err := a.addPaused(ctx, q.n, func(i int) string { return waitingURL(int64(i)) }); err != nil {
		return err
	}
	q.aria[rowAdd] = fmt.Sprintf("%.0f in calls of 500, not durable", float64(q.n)/time.Since(began).Seconds())
	var first, all figures
	fields := []string{"gid", "status", "totalLength", "completedLength", "files"}
	for range q.l.runs {
		for _, list := range []struct {
			n int
			f *figures
		}{{100, &first}, {q.n, &all}} {
			var jobs []struct{ GID string }
			began := time.Now()
			if err := a.call(ctx, "aria2.tellWaiting", &jobs, 0, list.n, fields); err != nil {
				return err
			}
			if len(jobs) != min(list.n, q.n) {
				return fmt.Errorf("aria2c lists %d jobs, want %d", len(jobs), list.n)
			}
			*list.f = append(*list.f, time.Since(began).Seconds())
		}
	}
	resident, _, err := memoryUse(a.PID)
	if err != nil {
		return err
	}
	a.Kill()
	q.aria[rowFirst], q.aria[rowAll] = fmt.Sprintf("%.2f", 1000*first.median()), fmt.Sprintf("%.2f", all.median())
	q.aria[rowMemory] = fmt.Sprintf("%.0f", float64(resident)/mib)
	return nil
}
