package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ebbtransfer/ebb/test/servers"
)

// large measures one large file. What a client leaves to the kernel, which writes curl's pages to
// the disk later and in its own name, is not counted for anybody.
func large(flags *flag.FlagSet) func(context.Context, *lab) error {
	n := size(gib)
	flags.TextVar(&n, "size", n, "`bytes` of the file, with K, M or G")
	return func(ctx context.Context, l *lab) error {
		if err := need("curl", "aria2c", "sync"); err != nil {
			return err
		}
		if err := l.free(3 * int64(n)); err != nil {
			return err
		}
		return measureLarge(ctx, l, int64(n))
	}
}

func measureLarge(ctx context.Context, l *lab, n int64) error {
	www, err := l.mkdir("www")
	if err != nil {
		return err
	}
	want, err := generate(filepath.Join(www, "file"), 1, n)
	if err != nil {
		return err
	}
	http, err := l.nginx(www, servers.Options{})
	if err != nil {
		return err
	}
	https, err := l.nginx(www, servers.Options{TLS: true})
	if err != nil {
		return err
	}
	ebb, err := l.startService(ctx, "large")
	if err != nil {
		return err
	}

	out := l.path("out")
	plain, secure := http.URL+"/file", https.URL+"/file"
	// fetch makes a contender of commands that leave the file at out.
	fetch := func(name string, run func(context.Context) (usage, error)) contender {
		return contender{name, func(ctx context.Context, _ int) (usage, error) {
			u, err := run(ctx)
			if err == nil {
				err = want.check(out)
			}
			if err == nil {
				err = os.Remove(out)
			}
			return u, err
		}}
	}
	get := func(args ...string) func(context.Context) (usage, error) {
		return func(ctx context.Context) (usage, error) { return ebb.get(ctx, append(args, out)...) }
	}
	curl := func(args ...string) func(context.Context) (usage, error) {
		return func(ctx context.Context) (usage, error) {
			return command(ctx, append([]string{"curl", "-q", "-sf", "-o", out}, args...)...)
		}
	}
	contenders := []contender{
		fetch("curl", curl(plain)),
		fetch("curl && sync FILE", func(ctx context.Context) (usage, error) {
			u, err := curl(plain)(ctx)
			if err != nil {
				return u, err
			}
			v, err := command(ctx, "sync", out)
			return u.plus(v), err
		}),
		fetch("aria2c -x1", func(ctx context.Context) (usage, error) {
			return command(ctx, "aria2c", "--no-conf", "-q", "-x1", "-d", l.dir, "-o", filepath.Base(out), plain)
		}),
		fetch("ebb get", get(plain)),
		fetch("ebb get --checksum sha256", get("--checksum", "sha256:"+want.sha256, plain)),
		fetch("curl, HTTPS", curl("--cacert", l.ca, secure)),
		fetch("ebb get, HTTPS", get(secure)),
	}
	const iCurl, iSynced, iEbb, iSum, iCurlTLS, iEbbTLS = 0, 1, 3, 4, 5, 6
	used, err := l.race(ctx, contenders)
	if err != nil {
		return err
	}

	wall := func(i int) float64 { return used[i].wall().median() }
	cpu := func(i int) float64 { return used[i].cpu().median() }
	gibs := float64(n) / gib
	t := table{head: []string{"client", "wall s", "CPU s/GiB", "wall / curl", "CPU / curl", "durable"}}
	durable := []string{"no", "yes", "yes", "yes", "yes", "no", "yes"}
	for i, c := range contenders {
		rival := iCurl
		if i >= iCurlTLS {
			rival = iCurlTLS
		}
		perGiB := used[i].cpu()
		for j := range perGiB {
			perGiB[j] /= gibs
		}
		t.add(c.name, used[i].wall().spread("%.2f"), perGiB.spread("%.2f"),
			fmt.Sprintf("%.2f", wall(i)/wall(rival)), fmt.Sprintf("%.2f", cpu(i)/cpu(rival)), durable[i])
	}
	t.print("%s from nginx, median (least to greatest) of %d runs; CPU is user and system of the client, for Ebb of command and service:", size(n), l.runs)
	printTargets([]target{
		{what: "CPU, ebb get / curl", limit: 0.60, got: cpu(iEbb) / cpu(iCurl), format: "%.2f"},
		{what: "wall, ebb get / (curl && sync FILE)", limit: 0.80, got: wall(iEbb) / wall(iSynced), format: "%.2f"},
		{what: "CPU, ebb get --checksum sha256 / curl", limit: 1.25, got: cpu(iSum) / cpu(iCurl), format: "%.2f"},
		{what: "CPU, ebb get / curl, HTTPS", limit: 0.85, got: cpu(iEbbTLS) / cpu(iCurlTLS), format: "%.2f"},
	})
	return nil
}
