package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// answerPatience is how long the service has to take an answer.
const answerPatience = 10 * time.Second

// answerer makes the answer to something that the service asks, and says where it is to be posted. An
// empty path stands for none. Its context ends with the program's interest.
type answerer func(context.Context) (path string, answer any)

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

// answers serves one registration, until its stream or ctx ends. What take returns for an event, if
// anything, makes an answer beside the events that follow.
//
// The end of the stream says that nobody is there to answer what is still open. So when ctx ends, the
// stream ends only when the answers that are being made then have arrived.
func (m *Manager) answers(ctx context.Context, path string, take func(kind string, data []byte) (answerer, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	stream, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel() // what is still being made is for a registration that has ended

	var mu sync.Mutex
	open, leaving := 0, false // guarded by mu: answers that are being made; whether ctx has ended
	defer context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if leaving = true; open == 0 {
			hangUp()
		}
	})()
	resp, err := m.do(stream, "GET", path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = readStream(resp.Body, func(kind string, data []byte) (bool, error) {
		answer, err := take(kind, data)
		if answer == nil || err != nil {
			return true, err
		}
		mu.Lock()
		defer mu.Unlock()
		if leaving {
			return true, nil
		}
		open++
		work.Go(func() {
			m.post(ctx, answer)
			mu.Lock()
			defer mu.Unlock()
			if open--; leaving && open == 0 {
				hangUp()
			}
		})
		return true, nil
	})
	return err
}

// post makes an answer and posts it, also when ctx has ended meanwhile. If the service does not take it,
// it asks again.
func (m *Manager) post(ctx context.Context, made answerer) {
	path, answer := made(ctx)
	if path == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerPatience)
	defer cancel()
	if resp, err := m.do(ctx, "POST", path, answer); err == nil {
		_ = resp.Body.Close()
	}
}
