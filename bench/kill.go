package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// sendBuffer is small, so that what the server counts as sent has about been received.
const sendBuffer = 64 << 10

// kill kills the service, again and again, while it moves one large file, and while it moves many
// small ones.
func kill(flags *flag.FlagSet) func(context.Context, *lab) error {
	n, rate := size(gib), size(200*mib)
	flags.TextVar(&n, "size", n, "`bytes` of the large file")
	flags.TextVar(&rate, "rate", rate, "`bytes` a second at which the server sends the large file")
	files := flags.Int("files", 10_000, "`number` of small files")
	kills := flags.Int("kills", 200, "`number` of kills of each")
	seed := flags.Uint64("seed", uint64(time.Now().Unix()), "chooses the moments")
	life := flags.Duration("life", 600*time.Millisecond, "the longest life of the service, from its start to kill -9")
	return func(ctx context.Context, l *lab) error {
		if err := l.free(2*int64(n) + int64(*files)*2*smallSize); err != nil {
			return err
		}
		largeFile := []faultserver.File{{Seed: 1, Size: int64(n)}}
		smallFiles := make([]faultserver.File, *files)
		for i := range smallFiles {
			smallFiles[i] = faultserver.File{Seed: uint64(i), Size: smallSize}
		}
		t := table{head: []string{"job", "downloads", "kills", "of them while the service started", "wrong files", "stray files", "fetched twice per kill, median", "most", "all bytes sent / needed"}}
		var targets []target
		for _, c := range []struct {
			name  string
			rate  int64
			files []faultserver.File
		}{
			{fmt.Sprintf("one file of %s at %s/s", n, rate), int64(rate), largeFile},
			{fmt.Sprintf("%d files of 16 KiB", *files), 0, smallFiles},
		} {
			k := killer{l: l, files: c.files, rate: c.rate, life: *life, random: rand.New(rand.NewPCG(*seed, 1))}
			if err := k.run(ctx, *kills); err != nil {
				return fmt.Errorf("%s, --seed %d: %w", c.name, *seed, err)
			}
			t.add(c.name, fmt.Sprint(k.downloads), fmt.Sprint(len(k.again)), fmt.Sprint(k.early), fmt.Sprint(k.wrong), fmt.Sprint(k.stray),
				size(k.again.median()).String(), size(k.again.max()).String(), fmt.Sprintf("%.3f", float64(k.sent)/float64(k.needed)))
			targets = append(targets,
				target{what: c.name + ": wrong or stray files", limit: 0, got: float64(k.wrong + k.stray), format: "%.0f"},
				target{what: c.name + ": most fetched twice after a kill, MiB", limit: 8, got: k.again.max() / mib, format: "%.2f"})
		}
		t.print("kill -9 of the service at random moments of its life of up to %v (--seed %d), until that many kills; bytes as the server sent them:", *life, *seed)
		printTargets(targets)
		return nil
	}
}

// killer downloads the same files again and again, killing the service on the way.
type killer struct {
	l      *lab
	files  []faultserver.File
	rate   int64
	life   time.Duration
	random *rand.Rand

	downloads    int
	early        int // kills before the service answered
	wrong, stray int
	again        figures // bytes fetched twice because of each kill
	sent, needed int64
}

func (k *killer) run(ctx context.Context, kills int) error {
	web, err := faultserver.Start(faultserver.Options{SendBuffer: sendBuffer})
	if err != nil {
		return err
	}
	defer web.Close()
	for i, f := range k.files {
		web.File(path(i), f).Set(func(p *faultserver.Program) { p.Rate = k.rate })
	}
	s, err := k.l.newService(fmt.Sprintf("kill-%d", len(k.files)))
	if err != nil {
		return err
	}
	for len(k.again) < kills {
		if err := k.download(ctx, web, s, kills); err != nil {
			return fmt.Errorf("download %d, after %d kills: %w; the service said: %s", k.downloads+1, len(k.again), err, s.said())
		}
		k.downloads++
		note("download %d: %d kills so far, at most %s fetched twice", k.downloads, len(k.again), size(k.again.max()))
	}
	s.Kill()
	return nil
}

func path(i int) string { return fmt.Sprintf("/file-%05d", i) }

// download moves the files once, killing the service until all are in their places.
func (k *killer) download(ctx context.Context, web *faultserver.Server, s *service, kills int) error {
	web.ForgetRequests()
	dir, err := k.l.mkdir(fmt.Sprintf("kill-%d-%d", len(k.files), k.downloads))
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var specs []bits.FileSpec
	for i := range k.files {
		specs = append(specs, bits.FileSpec{Remote: web.URL() + path(i), Local: filepath.Join(dir, path(i))})
	}
	if s.Process == nil || !s.Running() {
		if _, err := s.start(ctx); err != nil {
			return err
		}
	}
	job, err := s.Create(ctx, foreground("kill", specs...))
	if err != nil {
		return err
	}
	var moments []time.Time
	for left := kills - len(k.again); left > len(moments) && !k.inPlace(dir); {
		if err := process.Sleep(ctx, time.Duration(k.random.Int64N(int64(k.life)))); err != nil {
			return err
		}
		if !s.Running() {
			return fmt.Errorf("the service ended by itself")
		}
		if !answers(s.socket) {
			k.early++
		}
		moments = append(moments, time.Now())
		s.Kill()
		if err := s.launch(); err != nil {
			return err
		}
	}
	const patience = 5 * time.Minute
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.ready(waiting); err != nil {
		return err
	}
	if err := s.finish(waiting, job.ID); err != nil {
		return err
	}
	if err := web.Await(waiting, web.Idle); err != nil {
		return err
	}
	again, sent := chargeKills(web.Requests(), moments)
	for _, n := range again {
		k.again = append(k.again, float64(n))
	}
	k.sent += sent
	for _, f := range k.files {
		k.needed += f.Size
	}
	return k.inspect(dir)
}

// inPlace reports whether all files have their final names.
func (k *killer) inPlace(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	n := 0
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			n++
		}
	}
	return n >= len(k.files)
}

// inspect counts what is wrong in the directory of a job that has ended.
func (k *killer) inspect(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	k.stray += len(entries) - len(k.files)
	for i, f := range k.files {
		c := content{f.Size, faultserver.SHA256(f.Seed, f.Size)}
		if err := c.check(filepath.Join(dir, path(i))); err != nil {
			note("%v", err)
			k.wrong++
		}
	}
	return nil
}

// chargeKills returns, for each kill, how many bytes were sent after it that had been sent before,
// and all bytes that were sent. The log goes by the offsets of the answers.
func chargeKills(log []faultserver.Request, kills []time.Time) (again []int64, sent int64) {
	type span struct{ from, to int64 }
	again = make([]int64, len(kills))
	before := map[string][]span{} // of each path, ordered and without overlap
	for _, r := range log {
		if r.Offset < 0 || r.Sent == 0 {
			continue
		}
		sent += r.Sent
		now := span{r.Offset, r.Offset + r.Sent}
		var overlap int64
		for _, s := range before[r.Path] {
			overlap += max(0, min(s.to, now.to)-max(s.from, now.from))
		}
		// The last kill before the request is to blame.
		i, _ := slices.BinarySearchFunc(kills, r.Time, time.Time.Compare)
		if i > 0 {
			again[i-1] += overlap
		}
		spans := append(slices.Clone(before[r.Path]), now)
		slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
		merged := spans[:1]
		for _, s := range spans[1:] {
			if last := &merged[len(merged)-1]; s.from <= last.to {
				last.to = max(last.to, s.to)
			} else {
				merged = append(merged, s)
			}
		}
		before[r.Path] = merged
	}
	return again, sent
}
