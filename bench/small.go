package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ebbtransfer/ebb/test/servers"
)

const smallSize = 16 << 10

// small measures a job of many small files. Nothing is deleted between runs: that slows, for
// seconds, whoever creates files next.
func small(flags *flag.FlagSet) func(context.Context, *lab) error {
	n := flags.Int("files", 10_000, "`number` of files of 16 KiB")
	connections := flags.String("connections", "", "compare these `numbers` of connections of Ebb, such as 1,2,4,8,16,32,64, instead of its default")
	return func(ctx context.Context, l *lab) error {
		if err := need("curl", "aria2c"); err != nil {
			return err
		}
		if err := l.free(int64(*n) * smallSize * int64(1+l.runs*(3+strings.Count(*connections, ",")))); err != nil {
			return err
		}
		return measureSmall(ctx, l, *n, *connections)
	}
}

// smallFiles are the files that a server serves for this.
type smallFiles []content

func (f smallFiles) name(i int) string { return fmt.Sprintf("file-%05d", i) }

// check compares what arrived in a directory.
func (f smallFiles) check(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) != len(f) {
		return fmt.Errorf("%s holds %d files, want %d", dir, len(entries), len(f))
	}
	for i, c := range f {
		if err := c.check(filepath.Join(dir, f.name(i))); err != nil {
			return err
		}
	}
	return nil
}

// writeList writes a list of all files, with a line made of the URL and the name of each.
func (f smallFiles) writeList(path, base, format string) error {
	var b strings.Builder
	for i := range f {
		fmt.Fprintf(&b, format, base+"/"+f.name(i), f.name(i))
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}

func measureSmall(ctx context.Context, l *lab, n int, connections string) error {
	www, err := l.mkdir("www")
	if err != nil {
		return err
	}
	files := make(smallFiles, n)
	for i := range files {
		if files[i], err = generate(filepath.Join(www, files.name(i)), uint64(i), smallSize); err != nil {
			return err
		}
	}
	web, err := l.nginx(www, servers.Options{})
	if err != nil {
		return err
	}
	ebb, err := l.startService(ctx, "small")
	if err != nil {
		return err
	}
	ebbList, ariaList, curlList := filepath.Join(l.temp, "list"), filepath.Join(l.temp, "list.aria2"), filepath.Join(l.temp, "list.curl")
	for path, format := range map[string]string{ebbList: "%[1]s\n", ariaList: "%[1]s\n out=%[2]s\n", curlList: "url = %[1]q\noutput = %[2]q\n"} {
		if err := files.writeList(path, web.URL, format); err != nil {
			return err
		}
	}

	count := 0
	// fetch makes a contender that fills a fresh directory.
	fetch := func(name string, run func(ctx context.Context, dir string) (usage, error)) contender {
		return contender{name, func(ctx context.Context, _ int) (usage, error) {
			count++
			dir, err := l.mkdir(fmt.Sprintf("out-%d", count))
			if err != nil {
				return usage{}, err
			}
			u, err := run(ctx, dir)
			if err != nil {
				return u, err
			}
			return u, files.check(dir)
		}}
	}
	contenders := []contender{
		fetch("curl --parallel-max 16", func(ctx context.Context, dir string) (usage, error) {
			return command(ctx, "curl", "-q", "-sf", "--parallel", "--parallel-max", "16", "--output-dir", dir, "-K", curlList)
		}),
		fetch("aria2c -j16", func(ctx context.Context, dir string) (usage, error) {
			return command(ctx, "aria2c", "--no-conf", "-q", "-j16", "-d", dir, "-i", ariaList)
		}),
	}
	if connections == "" {
		contenders = append(contenders, fetch("ebb get -i", func(ctx context.Context, dir string) (usage, error) {
			return ebb.get(ctx, "-i", ebbList, dir)
		}))
	} else {
		for number := range strings.SplitSeq(connections, ",") {
			if _, err := strconv.Atoi(number); err != nil {
				return fmt.Errorf("--connections: %w", err)
			}
			contenders = append(contenders, fetch("ebb get -i --connections "+number, func(ctx context.Context, dir string) (usage, error) {
				return ebb.get(ctx, "--connections", number, "-i", ebbList, dir)
			}))
		}
	}
	used, err := l.race(ctx, contenders)
	if err != nil {
		return err
	}

	rate := func(u usages) figures {
		f := u.wall()
		for i := range f {
			f[i] = float64(n) / f[i]
		}
		return f
	}
	t := table{head: []string{"client", "files/s", "/ curl", "/ aria2c", "CPU s", "durable"}}
	curl, aria := rate(used[0]).median(), rate(used[1]).median()
	best := 0.0
	for i, c := range contenders {
		r := rate(used[i])
		durable := "each file"
		if i == 0 {
			durable = "no"
		}
		if i > 1 {
			best = max(best, r.median())
		}
		t.add(c.name, r.spread("%.0f"), fmt.Sprintf("%.2f", r.median()/curl), fmt.Sprintf("%.2f", r.median()/aria), used[i].cpu().spread("%.2f"), durable)
	}
	t.print("%d files of 16 KiB from nginx, median (least to greatest) of %d runs:", n, l.runs)
	ebbs := "ebb get -i"
	if len(contenders) > 3 {
		ebbs = "the fastest ebb get -i"
	}
	printTargets([]target{
		{what: "files/s, " + ebbs + " / aria2c -j16", limit: 3, got: best / aria, format: "%.2f", least: true},
		{what: "files/s, " + ebbs + " / curl --parallel-max 16", limit: 0.5, got: best / curl, format: "%.2f", least: true},
	})
	return nil
}
