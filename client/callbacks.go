package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"sync"

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
// When the service goes away Callbacks waits for it to come back. When ctx ends it returns once the
// calls of handle that are under way, whose context ends too, have returned: what they dealt with is
// acknowledged, and others are told of the rest.
func (m *Manager) Callbacks(ctx context.Context, jobs []bits.ID, handle func(context.Context, bits.Notification) error) error {
	q := url.Values{}
	for _, id := range jobs {
		q.Add("job", id.String())
	}
	path := "/v1/callbacks?" + q.Encode()
	return lasting(ctx, func() error { return m.callbacks(ctx, path, handle) })
}

// callbacks serves one registration until its stream ends.
func (m *Manager) callbacks(ctx context.Context, path string, handle func(context.Context, bits.Notification) error) error {
	var registration bits.Registration
	lesser := make(chan bits.Notification, 64) // those that need no answer, in order
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
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
	defer work.Wait()
	defer cancel()
	return m.answers(ctx, path, func(kind string, data []byte) (answerer, error) {
		if kind == "registered" {
			return nil, json.Unmarshal(data, &registration)
		}
		var n bits.Notification
		if err := json.Unmarshal(data, &n); err != nil {
			return nil, fmt.Errorf("read a notification: %w", err)
		}
		if !n.Acknowledge {
			select {
			case lesser <- n:
			default: // handle is too slow for them
			}
			return nil, nil
		}
		return func(ctx context.Context) (string, any) {
			err := handle(ctx, n)
			if err != nil && ctx.Err() != nil {
				return "", nil // it was not refused, but the program goes: the service looks for another
			}
			return fmt.Sprintf("/v1/callbacks/%s/%d", registration.ID, n.ID), bits.Acknowledgement{Handled: err == nil}
		}, nil
	})
}

// HasCallback reports whether a program has asked for the callbacks of the job (BITS's
// GetNotifyInterface).
func (j *Job) HasCallback(ctx context.Context) (bool, error) {
	var s bits.CallbackState
	err := j.m.call(ctx, "GET", "/v1/jobs/"+url.PathEscape(j.ID.String())+"/callback", nil, &s)
	return s.Registered, err
}
