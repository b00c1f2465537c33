package cache

import (
	"os"
	"sync"
	"time"
)

// maxRecent is how many segments stay open: as many as are served at the same time, or so. A description
// takes 16 KiB.
const maxRecent = 32

// recent are segments that were read lately, so that not each block costs the reading of a description.
type recent struct {
	mu   sync.Mutex // guards what follows, and use and gone of its members
	open map[string]*reading
	turn int
}

// reading is a segment that is read. It does not change: what changes the segment drops it.
type reading struct {
	record
	id      string
	file    *os.File
	begin   int64     // where the segment begins in the file
	touched time.Time // as far as the file's date tells; guarded by recent.mu
	used    int       // the turn of the last use
	readers int
	gone    bool // closed by its last reader
}

// acquire opens a segment for reading.
func (c *Cache) acquire(id []byte) (*reading, error) {
	if o := c.recent.take(id); o != nil && !c.old(o.created) {
		return o, nil
	} else if o != nil {
		c.recent.release(o)
		return nil, ErrNotHeld
	}
	_, err := c.load(id)
	if err != nil && !c.writing.has(id) {
		return nil, err // without a lock: most questions of peers are about what we do not have
	}
	m := c.mutex(id)
	m.Lock()
	defer m.Unlock()
	if err != nil {
		c.writing.drop(id) // its description has rotted
	}
	r, err := c.load(id)
	if err != nil {
		return nil, err
	}
	f, err := open(c.path(id, data), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	o := &reading{record: *r, id: string(id), file: f, readers: 1}
	if i, err := f.Stat(); err == nil {
		o.touched = i.ModTime()
		if o.segment.Blocks() == 1 {
			o.begin = max(i.Size()-int64(o.segment.Length), 0) // what was cloned is where the disk's blocks want it
		}
	}
	c.recent.add(o)
	return o, nil
}

func (c *recent) take(id []byte) *reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.open[string(id)]
	if o != nil {
		o.readers++
		c.turn++
		o.used = c.turn
	}
	return o
}

// add takes in a segment, whose mutex is held. Another one that nobody reads may have to go.
func (c *recent) add(o *reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.open[o.id]; old != nil {
		c.remove(old)
	}
	for len(c.open) >= maxRecent {
		var oldest *reading
		for _, o := range c.open {
			if oldest == nil || o.used < oldest.used {
				oldest = o
			}
		}
		c.remove(oldest)
	}
	c.turn++
	o.used = c.turn
	c.open[o.id] = o
}

// drop forgets a segment that changes. Its mutex is held.
func (c *recent) drop(id []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.open[string(id)]; o != nil {
		c.remove(o)
	}
}

func (c *recent) remove(o *reading) {
	delete(c.open, o.id)
	o.gone = true
	if o.readers == 0 {
		o.file.Close()
	}
}

func (c *recent) release(o *reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.readers--; o.readers == 0 && o.gone {
		o.file.Close()
	}
}

// touch remembers that a segment was used, to the hour.
func (c *recent) touch(o *reading) {
	now := time.Now()
	c.mu.Lock()
	stale := now.Sub(o.touched).Abs() > time.Hour
	if stale {
		o.touched = now
	}
	c.mu.Unlock()
	if stale {
		_ = os.Chtimes(o.file.Name(), now, now)
	}
}

// close drops all.
func (c *recent) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.open {
		c.remove(o)
	}
}
