package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// Loads of the foreground.
const (
	bulk    = "bulk"     // one TCP flow that takes what it gets
	bulkBBR = "bulk-bbr" // the same from a server that uses BBR
	web     = "web"      // 20 KB every 200 ms over a kept connection
	page    = "page"     // pages of many objects, one after the other
	video   = "video"    // segments of 2 s, fetched as they are played
	voice   = "voice"    // 50 datagrams of 160 bytes a second
)

// sample is something a load did.
type sample struct {
	At   int64   `json:"at"`   // when it began, ns since 1970
	Took float64 `json:"took"` // seconds: of a request, a page, a stall, or of a datagram on its way
}

// load is the program of a foreground load: it runs for --for, or with --for 0 until it is told to
// end, and prints a report.
func load(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	duration := flags.Duration("for", 0, "")
	rate := flags.Int64("rate", 0, "bit/s of a video")
	upload := flags.Bool("upload", false, "bulk and voice send")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return errors.New("usage: load [FLAGS] KIND SERVER")
	}
	if *duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *duration)
		defer cancel()
	}
	kind, server := flags.Arg(0), flags.Arg(1)
	transport := &http.Transport{MaxConnsPerHost: 6}
	if *upload && kind == bulkBBR {
		transport.DialContext = dialBBR
	}
	c := &consumer{client: &http.Client{Transport: transport}, base: fmt.Sprintf("http://%s:%d", server, foregroundPort)}
	var err error
	switch {
	case *upload && (kind == bulk || kind == bulkBBR):
		err = c.send(ctx)
	case *upload && kind == voice:
		err = c.speak(ctx, server)
	default:
		err = c.consume(ctx, kind, server, *rate)
	}
	if err != nil && ctx.Err() == nil {
		return err
	}
	c.Bytes = c.count.Load()
	return json.NewEncoder(os.Stdout).Encode(c.loadReport)
}

// consume is a load that fetches.
func (c *consumer) consume(ctx context.Context, kind, server string, rate int64) error {
	switch kind {
	case bulk, bulkBBR:
		return c.fetch(ctx, "/file/bulk")
	case web:
		return c.web(ctx)
	case page:
		return c.pages(ctx)
	case video:
		return c.video(ctx, rate)
	case voice:
		return c.voice(ctx, server)
	}
	return fmt.Errorf("no load %q", kind)
}

// consumer is who waits for the foreground.
type consumer struct {
	client *http.Client
	base   string
	count  atomic.Int64
	loadReport
}

// loadReport is what a load prints.
type loadReport struct {
	Samples []sample `json:"samples"`
	Bytes   int64    `json:"bytes"` // of answers, whole or not
}

func (c *consumer) note(began time.Time, took time.Duration) {
	c.Samples = append(c.Samples, sample{began.UnixNano(), took.Seconds()})
}

// fetch reads a path and throws it away.
func (c *consumer) fetch(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", path, resp.Status)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 256<<10))
	c.count.Add(n)
	return err
}

// send sends without end.
func (c *consumer) send(ctx context.Context) error {
	const endless = 1 << 50
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/sink", io.NewSectionReader(zeros{}, 0, endless))
	if err != nil {
		return err
	}
	req.ContentLength = endless
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	return errors.Join(resp.Body.Close(), errors.New("the server wants no more"))
}

// dialBBR makes a connection that sends with BBR. Before it is there the route would still decide that.
func dialBBR(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = setCongestion(raw, bbr)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// web fetches something small every 200 ms, or as soon as the one before is there.
func (c *consumer) web(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		began := time.Now()
		if err := c.fetch(ctx, "/bytes/20000"); err != nil {
			return err
		}
		c.note(began, time.Since(began))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
