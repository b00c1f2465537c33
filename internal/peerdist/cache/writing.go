package cache

import (
	"errors"
	"os"
	"sync"

	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// maxWriting is how many segments stay open for more blocks: as many as come at the same time, or so.
const maxWriting = 16

// writing are segments that blocks were put to lately, so that not each block costs the reading and opening of
// two files.
type writing struct {
	mu   sync.Mutex // guards what follows, but not what its members have
	open map[string]*written
	turn int
}

// written is a segment that is written. Who uses it holds the segment's mutex.
type written struct {
	*record
	data, meta *os.File
	used       int // the turn of the last use; guarded by writing.mu
}

func (w *written) close() error { return errors.Join(w.data.Close(), w.meta.Close()) }

// writer opens a segment for a block. Its mutex is held.
func (c *Cache) writer(id []byte, s *peerdist.Segment) (*written, error) {
	c.writing.mu.Lock()
	w := c.writing.open[string(id)]
	if w != nil && w.segment.Length == s.Length && !c.old(w.created) {
		c.writing.turn++
		w.used = c.writing.turn
		c.writing.mu.Unlock()
		return w, nil
	}
	c.writing.mu.Unlock()
	c.writing.drop(id)
	r, err := c.describe(id, s)
	if err != nil {
		return nil, err
	}
	w = &written{record: r}
	flags := os.O_WRONLY | os.O_CREATE
	if s.Blocks() == 1 && !r.held.Has(0) {
		flags |= os.O_TRUNC // its size says where it begins
	}
	if w.data, err = open(c.path(id, data), flags); err != nil {
		return nil, err
	}
	if w.meta, err = open(c.path(id, meta), os.O_WRONLY); err != nil {
		return nil, errors.Join(err, w.data.Close())
	}
	return w, nil
}

// stay keeps a segment open for more blocks. Another one, which nobody uses, may have to go. Its mutex is held.
func (c *Cache) stay(id []byte, w *written) {
	c.writing.mu.Lock()
	defer c.writing.mu.Unlock()
	if c.writing.open[string(id)] == w {
		return
	}
	for len(c.writing.open) >= maxWriting {
		oldest := ""
		for o, v := range c.writing.open {
			if oldest == "" || v.used < c.writing.open[oldest].used {
				oldest = o
			}
		}
		m, own := c.mutex([]byte(oldest)), c.mutex(id)
		if m != own && !m.TryLock() {
			_ = w.close() // somebody is at work; another time
			return
		}
		_ = c.writing.open[oldest].close() // what it wrote is checked when it is read
		delete(c.writing.open, oldest)
		if m != own {
			m.Unlock()
		}
	}
	c.writing.turn++
	w.used = c.writing.turn
	c.writing.open[string(id)] = w
}

// has reports whether a segment is open.
func (w *writing) has(id []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open[string(id)] != nil
}

// drop closes a segment that changes in another way, and reports whether it was open. Its mutex is held.
func (w *writing) drop(id []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.open[string(id)]
	if o != nil {
		delete(w.open, string(id))
		_ = o.close()
	}
	return o != nil
}

// close drops all; nobody may put anything any more.
func (w *writing) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, o := range w.open {
		delete(w.open, id)
		_ = o.close()
	}
}
