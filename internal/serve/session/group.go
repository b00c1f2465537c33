package session

import "sync"

// group lets those who want the same thing made durable at the same time share the work: whoever
// comes while a sync of it runs waits for the next one, and only the first of those carries it out.
type group struct {
	mu     sync.Mutex // guards the rest
	queues map[string]*queue
}

type queue struct {
	running, next *batch // nil if there is none
}

type batch struct {
	done chan struct{}
	err  error // valid once done is closed
}

// do returns when a sync of what key names that began after the call has ended, with its error.
func (g *group) do(key string, sync func() error) error {
	g.mu.Lock()
	q := g.queues[key]
	if q == nil {
		q = &queue{}
		if g.queues == nil {
			g.queues = map[string]*queue{}
		}
		g.queues[key] = q
	}
	if b := q.next; b != nil {
		g.mu.Unlock()
		<-b.done
		return b.err
	}
	b := &batch{done: make(chan struct{})}
	q.next = b
	before := q.running
	g.mu.Unlock()
	if before != nil {
		<-before.done
	}

	g.mu.Lock()
	q.running, q.next = b, nil
	g.mu.Unlock()
	b.err = sync()
	g.mu.Lock()
	q.running = nil
	if q.next == nil {
		delete(g.queues, key)
	}
	g.mu.Unlock()
	close(b.done)
	return b.err
}
