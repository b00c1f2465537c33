package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/servers"
)

// memory measures what a download does to the memory of others, and what the service needs itself.
func memory(flags *flag.FlagSet) func(context.Context, *lab) error {
	one, four := size(gib), size(4*gib)
	flags.TextVar(&one, "size", one, "`bytes` of the file for the page cache")
	flags.TextVar(&four, "large-size", four, "`bytes` of each of the four files for resident memory")
	idle := flags.Duration("idle", 2*time.Minute, "how long the idle service is watched")
	return func(ctx context.Context, l *lab) error {
		if err := need("curl", "fincore"); err != nil {
			return err
		}
		if err := l.free(max(4*int64(four), 3*int64(one)) + gib); err != nil {
			return err
		}
		return measureMemory(ctx, l, int64(one), int64(four), *idle)
	}
}

// traces are what downloads left in memory, in MiB.
type traces struct {
	resident figures // pages of the result in the page cache at its end
	cached   figures // growth of the whole page cache
	dirty    figures // greatest growth of what waits to be written, at any time
}

func measureMemory(ctx context.Context, l *lab, one, four int64, idle time.Duration) error {
	www, err := l.mkdir("www")
	if err != nil {
		return err
	}
	want, err := generate(filepath.Join(www, "file"), 1, one)
	if err != nil {
		return err
	}
	// Zeros that take no room on the disk: what they are does not matter here.
	sparse, err := os.Create(filepath.Join(www, "sparse"))
	if err != nil {
		return err
	}
	if err := sparse.Truncate(four); err != nil {
		return err
	}
	_ = sparse.Close()
	web, err := l.nginx(www, servers.Options{})
	if err != nil {
		return err
	}
	ebb, err := l.startService(ctx, "memory")
	if err != nil {
		return err
	}

	note("watching the idle service for %v", idle)
	if err := process.Sleep(ctx, 10*time.Second); err != nil { // the backup after the start is over
		return err
	}
	fresh, err := watchIdle(ctx, ebb.Process, idle)
	if err != nil {
		return err
	}

	out := l.path("out")
	left := make([]traces, 2)
	names := []string{"curl", "ebb get"}
	var contenders []contender
	for i, run := range []func(context.Context) (usage, error){
		func(ctx context.Context) (usage, error) {
			return command(ctx, "curl", "-q", "-sf", "-o", out, web.URL+"/file")
		},
		func(ctx context.Context) (usage, error) { return ebb.get(ctx, web.URL+"/file", out) },
	} {
		contenders = append(contenders, contender{names[i], func(ctx context.Context, _ int) (usage, error) {
			u, err := left[i].watch(ctx, out, run)
			if err == nil {
				err = want.check(out)
			}
			if err == nil {
				err = os.Remove(out)
			}
			return u, err
		}})
	}
	if _, err := l.race(ctx, contenders); err != nil {
		return err
	}
	t := table{head: []string{"client", "page cache of the result, MiB", "growth of the page cache, MiB", "most dirty and in writeback, MiB"}}
	for i, name := range names {
		t.add(name, left[i].resident.spread("%.0f"), left[i].cached.spread("%.0f"), left[i].dirty.spread("%.0f"))
	}
	t.print("%s from nginx, median (least to greatest) of %d runs; the last two are of the whole machine:", size(one), l.runs)

	note("moving 4 files of %v at once", size(four))
	if err := resetPeak(ebb.PID); err != nil {
		return err
	}
	before, err := ebb.CPU()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := fourAtOnce(ctx, l, ebb, web.URL+"/sparse", four); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := ebb.CPU()
	if err != nil {
		return err
	}
	_, peak, err := memoryUse(ebb.PID)
	if err != nil {
		return err
	}
	note("watching the idle service for %v", idle)
	// The service keeps its connections for 20 s, in case that there is more to fetch.
	if err := process.Sleep(ctx, 30*time.Second); err != nil {
		return err
	}
	used, err := watchIdle(ctx, ebb.Process, idle)
	if err != nil {
		return err
	}
	t = table{head: []string{"the service", "resident, MiB", "wake-ups/s", "CPU ms/s"}}
	row := func(what string, i idleUse) {
		t.add(what, fmt.Sprintf("%.1f", i.resident), fmt.Sprintf("%.2f", i.wakeups), fmt.Sprintf("%.2f", i.cpu))
	}
	row("idle after its start", fresh)
	t.add(fmt.Sprintf("peak, 4 jobs of %v at once (%.1f s, CPU %.2f s/GiB)", size(four), took.Seconds(), (after-before).Seconds()/(4*float64(four)/gib)), fmt.Sprintf("%.1f", float64(peak)/mib), "-", "-")
	row("idle, 30 s after that", used)
	t.print("Memory of the service, idle for %v each:", idle)
	printTargets([]target{
		{what: "page cache left by ebb get, MiB", limit: 16, got: left[1].resident.median(), format: "%.0f"},
		{what: "most dirty by ebb get, MiB", limit: 16, got: left[1].dirty.median(), format: "%.0f"},
		{what: "resident while moving 4 files, MiB", limit: 48, got: float64(peak) / mib, format: "%.1f"},
		{what: "resident when idle, MiB", limit: 30, got: max(fresh.resident, used.resident), format: "%.1f"},
		{what: "wake-ups a second when idle", limit: 1, got: max(fresh.wakeups, used.wakeups), format: "%.2f"},
	})
	return nil
}

// watch runs a download and notes what it leaves.
func (t *traces) watch(ctx context.Context, out string, run func(context.Context) (usage, error)) (usage, error) {
	before, err := procFields("/proc/meminfo")
	if err != nil {
		return usage{}, err
	}
	waiting := func(m map[string]int64) int64 { return m["Dirty"] + m["Writeback"] }
	stop, most := make(chan struct{}), make(chan int64)
	go func() {
		var high int64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if m, err := procFields("/proc/meminfo"); err == nil {
					high = max(high, waiting(m))
				}
			case <-stop:
				most <- high
				return
			}
		}
	}()
	u, err := run(ctx)
	close(stop)
	high := <-most
	if err != nil {
		return u, err
	}
	after, err := procFields("/proc/meminfo")
	if err != nil {
		return u, err
	}
	resident, err := inPageCache(ctx, out)
	if err != nil {
		return u, err
	}
	t.resident = append(t.resident, float64(resident)/mib)
	t.cached = append(t.cached, float64(after["Cached"]-before["Cached"])/mib)
	t.dirty = append(t.dirty, max(0, float64(high-waiting(before))/mib))
	return u, nil
}

// inPageCache returns how many bytes of a file are in the page cache.
func inPageCache(ctx context.Context, path string) (int64, error) {
	out, err := exec.CommandContext(ctx, "fincore", "--bytes", "--noheadings", "--output", "RES", path).Output()
	if err != nil {
		return 0, fmt.Errorf("fincore: %w", err)
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}

// fourAtOnce moves four files in four foreground jobs.
func fourAtOnce(ctx context.Context, l *lab, s *service, url string, n int64) (err error) {
	unix.Sync()
	ended := make(chan error)
	for i := range 4 {
		local := l.path(fmt.Sprintf("large-%d", i))
		defer func() { _ = os.Remove(local) }()
		go func() {
			own := fmt.Sprintf("%s?%d", url, i) // jobs that want the same file would fetch it once
			_, err := s.Transfer(ctx, foreground("large", bits.FileSpec{Remote: own, Local: local}))
			if err == nil {
				err = checkSize(local, n)
			}
			ended <- err
		}()
	}
	for range 4 {
		err = errors.Join(err, <-ended)
	}
	return err
}

func checkSize(path string, n int64) error {
	st, err := os.Stat(path)
	if err == nil && st.Size() != n {
		err = fmt.Errorf("%s has %d bytes, want %d", path, st.Size(), n)
	}
	return err
}

// idleUse is what an idle process uses.
type idleUse struct {
	resident float64 // MiB, at the end
	wakeups  float64 // a second
	cpu      float64 // ms a second
}

func watchIdle(ctx context.Context, p *process.Process, d time.Duration) (u idleUse, err error) {
	cpu0, err := p.CPU()
	if err != nil {
		return u, err
	}
	woke0, err := wakeups(p.PID)
	if err != nil {
		return u, err
	}
	if err := process.Sleep(ctx, d); err != nil {
		return u, err
	}
	cpu1, err := p.CPU()
	if err != nil {
		return u, err
	}
	woke1, err := wakeups(p.PID)
	if err != nil {
		return u, err
	}
	resident, _, err := memoryUse(p.PID)
	return idleUse{float64(resident) / mib, float64(woke1-woke0) / d.Seconds(), float64((cpu1 - cpu0).Microseconds()) / 1000 / d.Seconds()}, err
}
