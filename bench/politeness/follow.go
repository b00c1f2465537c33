package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// followEvery is how often the counters are read.
	followEvery = 100 * time.Millisecond
	// followLeast is what is always allowed, in bytes/s.
	followLeast = 10_000
)

// follow is the program of a rival that knows what BITS documents of itself: the counters of this
// machine's interface. It takes what the others on this machine leave of the fastest that the
// interface has been so far, by reading no faster than that.
func follow(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: follow URL")
	}
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(os.Getenv("SSL_CERT_FILE"))
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		return errors.Join(errors.New("no CA in SSL_CERT_FILE"), err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var (
		own, last, seen int64 // bytes: read, read at the last look, on the interface then
		most            float64
		allowed         = 1e12 // bytes/s, until the first look
		looked          = time.Now()
		b               = make([]byte, 16<<10)
	)
	if seen, err = receivedBytes(); err != nil {
		return err
	}
	for {
		began := time.Now()
		n, err := io.ReadFull(resp.Body, b)
		own += int64(n)
		if err != nil {
			return err
		}
		if since := time.Since(looked); since >= followEvery {
			now, err := receivedBytes()
			if err != nil {
				return err
			}
			all := float64(now-seen) / since.Seconds()
			mine := float64(own-last) / since.Seconds() * 1500 / segmentPayload
			most = max(most, all)
			allowed = max(followLeast, 1.1*most-max(0, all-mine))
			seen, last, looked = now, own, time.Now()
		}
		time.Sleep(time.Duration(float64(n)/allowed*float64(time.Second)) - time.Since(began))
	}
}

// segmentPayload is what a full TCP segment with a time stamp carries, in bytes.
const segmentPayload = 1448

// receivedFile counts the bytes that this machine has received, in its namespace.
const receivedFile = "/sys/class/net/to-" + router + "/statistics/rx_bytes"

// receivedBytes returns what it counts.
func receivedBytes() (int64, error) {
	b, err := os.ReadFile(receivedFile)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}
