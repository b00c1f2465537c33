package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A page is a document and then its parts, over up to six connections that are made for it.
const (
	documentBytes = 40_000
	pageParts     = 24
	pageRest      = 500 * time.Millisecond // between two pages
)

// partBytes is the size of a part of a page: from 4 to 96 KB, about 1 MB together.
func partBytes(i int) int { return 4000 + 4000*(i*7%pageParts) }

// pages loads pages.
func (c *consumer) pages(ctx context.Context) error {
	for {
		began := time.Now()
		if err := c.fetch(ctx, fmt.Sprintf("/bytes/%d", documentBytes)); err != nil {
			return err
		}
		var parts sync.WaitGroup
		failed := make(chan error, pageParts)
		for i := range pageParts {
			parts.Go(func() {
				if err := c.fetch(ctx, fmt.Sprintf("/bytes/%d", partBytes(i))); err != nil {
					failed <- err
				}
			})
		}
		parts.Wait()
		select {
		case err := <-failed:
			return err
		default:
		}
		c.note(began, time.Since(began))
		c.client.CloseIdleConnections()
		select {
		case <-time.After(pageRest):
		case <-ctx.Done():
			return nil
		}
	}
}

// A video is fetched in segments. It plays as soon as it has one and keeps up to three ahead.
const (
	segmentTime  = 2 * time.Second
	segmentAhead = 3
)

// video plays a video of a rate in bit/s and notes for each segment how long the picture stood
// still until it was there.
func (c *consumer) video(ctx context.Context, rate int64) error {
	var until time.Time // when the picture will stand still
	for {
		began := time.Now()
		if err := c.fetch(ctx, fmt.Sprintf("/bytes/%d", rate/8*int64(segmentTime/time.Second))); err != nil {
			return err
		}
		now := time.Now()
		stall := now.Sub(until)
		if until.IsZero() || stall < 0 {
			stall = 0
		}
		c.note(began, stall)
		if now.After(until) {
			until = now
		}
		until = until.Add(segmentTime)
		select {
		case <-time.After(time.Until(until.Add(-segmentAhead * segmentTime))):
		case <-ctx.Done():
			return nil
		}
	}
}
