package daemon

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	// quietAfter is how long after the last request and the last transfer the service keeps what these needed.
	quietAfter = 10 * time.Second
	// restEvery bounds how often it is given back: looking for it takes time, and some programs ask now and then.
	restEvery = 2 * time.Minute
)

// rest gives back what only work needs, when there is none.
func (s *service) rest(ctx context.Context) {
	for last := s.started.Add(-restEvery); ; {
		select {
		case <-ctx.Done():
			return
		case <-s.quiet.C:
		}
		switch wait := time.Until(last.Add(restEvery)); {
		case s.queue.Moving():
			s.quiet.Reset(quietAfter)
		case wait > 0:
			s.quiet.Reset(wait)
		default:
			last = time.Now()
			debug.FreeOSMemory()
			unmapProgram()
		}
	}
}
