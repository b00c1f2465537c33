package governor

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// limiter keeps the connections of one class together below a ceiling.
type limiter struct {
	bucket atomic.Pointer[rate.Limiter] // nil: no ceiling
	waited atomic.Int64                 // when it last held somebody back, in Unix nanoseconds
}

// leastRate is the ceiling that smaller ones become, but for 0, which the queue deals with:
// client.md 8.4, "values below 2 kbit/s behave as about 2".
const leastRate = 2000 / 8

func (l *limiter) set(bytesPerSecond int64) {
	if bytesPerSecond < 0 {
		l.bucket.Store(nil)
		return
	}
	n := max(bytesPerSecond, leastRate)
	burst := int(max(min(n/4, 1<<20), leastBurst))
	if b := l.bucket.Load(); b != nil && b.Limit() == rate.Limit(n) {
		return
	}
	l.bucket.Store(rate.NewLimiter(rate.Limit(n), burst))
}

// bound shortens a buffer to what may be read at once.
func (l *limiter) bound(b []byte) []byte { return b[:l.most(len(b))] }

// most returns how many of n bytes may be moved at once.
func (l *limiter) most(n int) int {
	if t := l.bucket.Load(); t != nil {
		return min(n, t.Burst())
	}
	return n
}

// rate returns the ceiling in bytes per second; 0 if there is none.
func (l *limiter) rate() float64 {
	if t := l.bucket.Load(); t != nil {
		return float64(t.Limit())
	}
	return 0
}

// wait holds a reader or a writer back until its n bytes are within the ceiling, or the ceiling is lifted.
func (l *limiter) wait(n int) {
	t := l.bucket.Load()
	if t == nil {
		return
	}
	r := t.ReserveN(time.Now(), min(n, t.Burst()))
	for d := r.Delay(); d > 0; d = r.Delay() {
		l.waited.Store(time.Now().UnixNano())
		time.Sleep(min(d, maxWait))
		if l.bucket.Load() != t { // the ceiling was changed
			return
		}
	}
}

// leastBurst bytes, at the least ceiling, are worth two seconds.
const leastBurst = 512

// maxWait bounds a single sleep, so that a ceiling that is changed is felt soon.
const maxWait = time.Second / 2

// active reports whether the ceiling held somebody back within the last moments.
func (l *limiter) active() bool {
	return l.bucket.Load() != nil && time.Now().UnixNano()-l.waited.Load() < int64(2*time.Second)
}
