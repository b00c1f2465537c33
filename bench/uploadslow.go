package main

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
)

// uploadSlow has many slow clients upload at once, half by tus and half by PUT, and watches the
// server's memory.
func uploadSlow(flags *flag.FlagSet) func(context.Context, *lab) error {
	clients := flags.Int("clients", 1000, "`number` of clients")
	rate := size(10_000)
	flags.TextVar(&rate, "rate", rate, "`bytes` a second of each client")
	length := flags.Duration("for", time.Minute, "how long each upload takes")
	return func(ctx context.Context, l *lab) error {
		s, err := l.startEbbServer(ctx, "serve")
		if err != nil {
			return err
		}
		if err := resetPeak(s.PID); err != nil {
			return err
		}
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *clients}}
		defer client.CloseIdleConnections()
		before, err := s.CPU()
		if err != nil {
			return err
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		var failed []error // guarded by mu
		var took figures   // guarded by mu
		for i := range *clients {
			all.Go(func() {
				began := time.Now()
				err := slowUpload(ctx, client, s.url, i, int64(rate), *length)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed = append(failed, err)
				}
				took = append(took, time.Since(began).Seconds())
			})
		}
		all.Wait()
		after, err := s.CPU()
		if err != nil {
			return err
		}
		if err := process.Sleep(ctx, settle); err != nil {
			return err
		}
		now, peak, err := memoryUse(s.PID)
		if err != nil {
			return err
		}
		for _, err := range failed[:min(len(failed), 5)] {
			note("%v", err)
		}
		t := table{head: []string{"uploads", "failed", "took s", "peak resident", "resident afterwards", "server's CPU, share of a core"}}
		t.add(fmt.Sprint(*clients), fmt.Sprint(len(failed)), took.spread("%.1f"), size(peak).String(), size(now).String(), fmt.Sprintf("%.1f %%", 100*(after-before).Seconds()/took.max()))
		t.print("%d clients at once that send %d bytes a second for %v each, half by tus, half by PUT, to ebb serve:", *clients, int64(rate), *length)
		printTargets([]target{
			{what: "failed uploads", limit: 0, got: float64(len(failed)), format: "%.0f"},
			{what: "peak resident memory, MiB", limit: 150, got: float64(peak) / mib, format: "%.0f"},
		})
		return nil
	}
}

// slowUpload uploads a file at a rate.
func slowUpload(ctx context.Context, client *http.Client, url string, i int, rate int64, d time.Duration) error {
	total := int64(float64(rate) * d.Seconds())
	name := fmt.Sprintf("slow-%04d", i)
	method := http.MethodPut
	if i%2 == 0 {
		method = http.MethodPost
	} else {
		url += name
	}
	body := &drip{left: total, rate: rate, began: time.Now()}
	req, err := http.NewRequestWithContext(ctx, method, url, io.NopCloser(body))
	if err != nil {
		return err
	}
	req.ContentLength = total
	if method == http.MethodPost {
		req.Header.Set("Tus-Resumable", "1.0.0")
		req.Header.Set("Upload-Length", strconv.FormatInt(total, 10))
		req.Header.Set("Upload-Metadata", "filename "+base64.StdEncoding.EncodeToString([]byte(name)))
		req.Header.Set("Content-Type", "application/offset+octet-stream")
	}
	return expectCreated(client, req)
}

// drip is a body that comes at a rate, five times a second.
type drip struct {
	left, rate, given int64
	began             time.Time
}

func (b *drip) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), b.left, max(b.rate/5, 1))
	time.Sleep(time.Duration(float64(b.given+n)/float64(b.rate)*float64(time.Second)) - time.Since(b.began))
	clear(p[:n])
	b.given += n
	b.left -= n
	return int(n), nil
}
