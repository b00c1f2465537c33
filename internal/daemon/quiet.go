package daemon

import (
	"context"
	"runtime/debug"
	"time"
)

// quietAfter is how long after the last request and the last transfer the service keeps what these needed.
const quietAfter = 10 * time.Second

// rest gives back what only work needs, each time that there is none.
func (s *service) rest(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.quiet.C:
		}
		if s.queue.Moving() {
			s.quiet.Reset(quietAfter)
			continue
		}
		debug.FreeOSMemory()
		unmapProgram()
	}
}
