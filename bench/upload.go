package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ebbtransfer/ebb/test/servers"
)

// upload measures one large file that is uploaded: what it costs the server, and how long it takes.
func upload(flags *flag.FlagSet) func(context.Context, *lab) error {
	n := size(gib)
	flags.TextVar(&n, "size", n, "`bytes` of the file, with K, M or G")
	return func(ctx context.Context, l *lab) error {
		if err := need("curl", "nginx", "sync"); err != nil {
			return err
		}
		if err := l.free(3 * int64(n)); err != nil {
			return err
		}
		return measureUpload(ctx, l, int64(n))
	}
}

func measureUpload(ctx context.Context, l *lab, n int64) error {
	source := l.path("source")
	want, err := generate(source, 1, n)
	if err != nil {
		return err
	}
	nginx, err := l.receives("nginx", func(dir string) (*servers.Server, error) { return servers.Nginx(dir, servers.Options{Uploads: true}) })
	if err != nil {
		return err
	}
	ebb, err := l.startEbbServer(ctx, "serve")
	if err != nil {
		return err
	}
	client, err := l.startService(ctx, "upload")
	if err != nil {
		return err
	}

	// send makes a contender of a command that uploads the source to a server, and checks what
	// arrived.
	send := func(name string, r receiver, run func(ctx context.Context, url string) error) contender {
		return contender{name, func(ctx context.Context, round int) (usage, error) {
			out := filepath.Join(r.dir, "file")
			u, err := r.serverUsage(ctx, func(ctx context.Context) error { return run(ctx, r.url+"file") })
			if err == nil {
				err = want.check(out)
			}
			if err == nil {
				err = os.Remove(out)
			}
			return u, err
		}}
	}
	curl := func(ctx context.Context, url string) error {
		_, err := command(ctx, "curl", "-q", "-sf", "-T", source, url)
		return err
	}
	put := func(protocol string) func(context.Context, string) error {
		return func(ctx context.Context, url string) error {
			_, err := command(ctx, l.ebb, "--socket", client.socket, "--quiet", "put", "--protocol", protocol, source, url)
			return err
		}
	}
	contenders := []contender{
		send("curl -T to nginx", nginx, curl),
		send("curl -T to nginx && sync FILE", nginx, func(ctx context.Context, url string) error {
			if err := curl(ctx, url); err != nil {
				return err
			}
			_, err := command(ctx, "sync", filepath.Join(nginx.dir, "file"))
			return err
		}),
		send("curl -T to ebb serve", ebb.receiver, curl),
		send("ebb put, BITS, to ebb serve", ebb.receiver, put("bits")),
		send("ebb put, tus, to ebb serve", ebb.receiver, put("tus")),
		send("ebb put, IETF, to ebb serve", ebb.receiver, put("ietf")),
	}
	used, err := l.race(ctx, contenders)
	if err != nil {
		return err
	}
	const iNginx, iCurl, iBITS, iTus, iIETF = 0, 2, 3, 4, 5
	wall := func(i int) float64 { return used[i].wall().median() }
	cpu := func(i int) float64 { return used[i].cpu().median() }
	gibs := float64(n) / gib
	t := table{head: []string{"upload", "wall s", "server's CPU s/GiB", "wall / nginx", "CPU / nginx", "durable"}}
	durable := []string{"no", "yes", "yes", "yes", "yes", "yes"}
	for i, c := range contenders {
		perGiB := used[i].cpu()
		for j := range perGiB {
			perGiB[j] /= gibs
		}
		t.add(c.name, used[i].wall().spread("%.2f"), perGiB.spread("%.2f"),
			fmt.Sprintf("%.2f", wall(i)/wall(iNginx)), fmt.Sprintf("%.2f", cpu(i)/cpu(iNginx)), durable[i])
	}
	t.print("%s, median (least to greatest) of %d runs; CPU is user and system of the server; \"nginx\" in the ratios is curl -T to nginx, which is not durable:", size(n), l.runs)
	printTargets([]target{
		{what: "server's CPU, curl -T to ebb serve / to nginx", limit: 1.0, got: cpu(iCurl) / cpu(iNginx), format: "%.2f"},
		{what: "wall, curl -T to ebb serve / to nginx", limit: 1.1, got: wall(iCurl) / wall(iNginx), format: "%.2f"},
		{what: "server's CPU, BITS to ebb serve / PUT to nginx", limit: 1.0, got: cpu(iBITS) / cpu(iNginx), format: "%.2f"},
		{what: "wall, BITS to ebb serve / PUT to nginx", limit: 1.1, got: wall(iBITS) / wall(iNginx), format: "%.2f"},
		{what: "server's CPU, IETF to ebb serve / PUT to nginx", limit: 1.0, got: cpu(iIETF) / cpu(iNginx), format: "%.2f"},
		{what: "wall, IETF to ebb serve / PUT to nginx", limit: 1.1, got: wall(iIETF) / wall(iNginx), format: "%.2f"},
		{what: "server's CPU, tus to ebb serve / PUT to nginx", limit: 1.0, got: cpu(iTus) / cpu(iNginx), format: "%.2f"},
		{what: "wall, tus to ebb serve / PUT to nginx", limit: 1.1, got: wall(iTus) / wall(iNginx), format: "%.2f"},
	})
	fmt.Print("\nAll of ebb's are durable when the command ends. By tus each piece has a checksum (crc32c), which the server verifies before it counts the piece; nginx verifies nothing.\n")
	return nil
}
