package queue

import (
	"maps"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/store"
)

// EventCounts returns how many events of each kind there were since the queue was opened.
func (q *Queue) EventCounts() map[bits.EventKind]uint64 {
	q.events.mu.Lock()
	defer q.events.mu.Unlock()
	return maps.Clone(q.events.counts)
}

// Moved returns how many bytes of files were received and sent since the queue was opened.
func (q *Queue) Moved() (received, sent int64) { return q.received.Load(), q.sent.Load() }

// moved counts what a new record of a file says has moved; old is nil for the first one of a reply.
func (q *Queue) moved(v *version, index int, old, f *store.File) {
	n := f.Done
	if old != nil {
		n -= old.Done
	}
	switch {
	case n <= 0:
	case v.rec.Type == bits.Download || v.isReply(index):
		q.received.Add(n)
	default:
		q.sent.Add(n)
	}
}
