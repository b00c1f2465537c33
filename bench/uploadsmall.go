package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/test/faultserver"
	"github.com/ebbtransfer/ebb/test/servers"
)

// uploadSmall measures many small uploads by one client, which makes each with one request: tus's
// creation-with-upload, or PUT.
func uploadSmall(flags *flag.FlagSet) func(context.Context, *lab) error {
	files := flags.Int("files", 10_000, "`number` of files")
	workers := flags.Int("workers", 16, "`number` of uploads at once")
	return func(ctx context.Context, l *lab) error {
		if err := need("nginx", "node", "npm"); err != nil {
			return err
		}
		if err := l.free(int64(*files) * 4 * smallSize); err != nil {
			return err
		}
		return measureUploadSmall(ctx, l, *files, *workers)
	}
}

func measureUploadSmall(ctx context.Context, l *lab, files, workers int) error {
	rival, err := l.receives("tus-server", func(dir string) (*servers.Server, error) { return servers.Tus(dir, servers.Options{}) })
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
	send := func(name string, r receiver, one uploadOne) contender {
		return contender{name, func(ctx context.Context, _ int) (usage, error) {
			u, err := r.serverUsage(ctx, func(ctx context.Context) error { return uploadAll(ctx, files, workers, r.url, one) })
			if err == nil {
				err = countSmall(r.dir, files)
			}
			return u, errors.Join(err, empty(r.dir))
		}}
	}
	contenders := []contender{
		send("@tus/server of npm, tus", rival, tusOne("files")),
		send("ebb serve, tus", ebb.receiver, tusOne("")),
		send("nginx, PUT", nginx, putOne),
		send("ebb serve, PUT", ebb.receiver, putOne),
	}
	durable := []string{"no", "yes", "no", "yes"}
	used, err := l.race(ctx, contenders)
	if err != nil {
		return err
	}
	rate := func(i int) float64 { return float64(files) / used[i].wall().median() }
	t := table{head: []string{"server", "files/s", "server's CPU ms per file", "rate / @tus/server", "durable"}}
	for i, c := range contenders {
		t.add(c.name, fmt.Sprintf("%.0f", rate(i)), fmt.Sprintf("%.3f", 1000*used[i].cpu().median()/float64(files)), fmt.Sprintf("%.2f", rate(i)/rate(0)), durable[i])
	}
	t.print("%d uploads of 16 KiB, %d at once, median of %d runs:", files, workers, l.runs)
	printTargets([]target{{what: "rate, ebb serve / @tus/server, tus", limit: 1.5, got: rate(1) / rate(0), format: "%.2f", least: true}})
	return nil
}

// uploadOne makes the request that uploads a file.
type uploadOne func(ctx context.Context, url, name string, body []byte) (*http.Request, error)

func tusOne(collection string) uploadOne {
	return func(ctx context.Context, url, name string, body []byte) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+collection, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Tus-Resumable", "1.0.0")
		req.Header.Set("Upload-Length", strconv.Itoa(len(body)))
		req.Header.Set("Upload-Metadata", "filename "+base64.StdEncoding.EncodeToString([]byte(name)))
		req.Header.Set("Content-Type", "application/offset+octet-stream")
		return req, nil
	}
}

func putOne(ctx context.Context, url, name string, body []byte) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodPut, url+name, bytes.NewReader(body))
}

func smallName(i int) string { return fmt.Sprintf("small-%05d", i) }

// uploadAll uploads the files, some at once.
func uploadAll(ctx context.Context, files, workers int, url string, one uploadOne) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			body := make([]byte, smallSize)
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= files {
					return
				}
				if _, err := faultserver.Content(uint64(i), smallSize).ReadAt(body, 0); err != nil && err != io.EOF {
					cancel(err)
					return
				}
				req, err := one(ctx, url, smallName(i), body)
				if err == nil {
					err = expectCreated(client, req)
				}
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

func expectCreated(client *http.Client, req *http.Request) error {
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", req.Method, req.URL, resp.Status, said)
	}
	return nil
}

// countSmall checks that a server has as many whole files as were sent. Each names its files in its
// own way, so that only their number and sizes can be compared.
func countSmall(dir string, files int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	whole := 0
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.Size() == smallSize {
			whole++
		}
	}
	if whole != files {
		return fmt.Errorf("%s has %d whole files, want %d", dir, whole, files)
	}
	return nil
}

// empty removes what was uploaded; directories are the server's own.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
