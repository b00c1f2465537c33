package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// Callbacks asks the service for callbacks (BITS's SetNotifyInterface) of the jobs, or of all jobs
// of the caller if none are named, and calls handle with each until ctx ends; it then returns
// ctx's error, or that of the service if it refuses.
//
// What the notify flags of a job ask for comes: that it is TRANSFERRED or in ERROR, that a file of
// it is transferred, each at least once; that it was modified, now and then. What happened while no
// program was there comes first. An error of handle says that the program could not deal with it:
// then the job's notify command runs or, without one, handle is called again later. To complete or
// cancel the job within handle is usual, and ends the matter.
//
// handle may be called from up to four goroutines at once; for one job there is only one of its
// calls that the service waits for. Of several programs that ask for the same the last is called.
// When the service goes away Callbacks waits for it to come back.
func (m *Manager) Callbacks(ctx context.Context, jobs []bits.ID, handle func(context.Context, bits.Notification) error) error {
	q := url.Values{}
	for _, id := range jobs {
		q.Add("job", id.String())
	}
	path := "/v1/callbacks?" + q.Encode()
	return lasting(ctx, func() error { return m.callbacks(ctx, path, handle) })
}

// lasting calls once, which serves a registration until its stream ends, again and again until ctx ends
// or the service refuses.
func lasting(ctx context.Context, once func() error) error {
	pause := 100 * time.Millisecond
	for {
		err := once()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var refused *bits.Error
		if errors.As(err, &refused) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause = min(2*pause, 2*time.Second)
		}
	}
}

// callbacks serves one registration until its stream ends.
func (m *Manager) callbacks(ctx context.Context, path string, handle func(context.Context, bits.Notification) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel() // what handle still does is for a registration that has ended
	resp, err := m.do(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var registration bits.Registration
	lesser := make(chan bits.Notification, 64) // those that need no answer, in order
	work.Go(func() {
		for {
			select {
			case n := <-lesser:
				_ = handle(ctx, n)
			case <-ctx.Done():
				return
			}
		}
	})
	_, err = readStream(resp.Body, func(kind string, data []byte) (bool, error) {
		if kind == "registered" {
			return true, json.Unmarshal(data, &registration)
		}
		var n bits.Notification
		if err := json.Unmarshal(data, &n); err != nil {
			return true, fmt.Errorf("read a notification: %w", err)
		}
		if !n.Acknowledge {
			select {
			case lesser <- n:
			default: // handle is too slow for them
			}
			return true, nil
		}
		work.Go(func() {
			handled := handle(ctx, n) == nil
			resp, err := m.do(ctx, "POST", fmt.Sprintf("/v1/callbacks/%s/%d", registration.ID, n.ID), bits.Acknowledgement{Handled: handled})
			if err == nil {
				_ = resp.Body.Close()
			} // else the service tells again
		})
		return true, nil
	})
	return err
}

// HasCallback reports whether a program has asked for the callbacks of the job (BITS's
// GetNotifyInterface).
func (j *Job) HasCallback(ctx context.Context) (bool, error) {
	var s bits.CallbackState
	err := j.m.call(ctx, "GET", "/v1/jobs/"+url.PathEscape(j.ID.String())+"/callback", nil, &s)
	return s.Registered, err
}
