package localfile

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Files that are finished at the same time on one file system are made durable together: one
// syncfs(2) writes the directories and inode tables that they share once, not once for each file.

const (
	// groupFrom is the number of files within groupTime from which that pays. Below it whoever else
	// writes to the file system is left alone.
	groupFrom = 4
	groupTime = 50 * time.Millisecond
	// gatherTime is for how long one waits for more.
	gatherTime = 2 * time.Millisecond
	// slow is how long a syncfs may take: it writes also what others wrote. After one that took longer
	// there is none for slowRest times as long.
	slow     = 300 * time.Millisecond
	slowRest = 10
)

// whole are the types of file systems whose syncfs leaves nothing of a file in memory, and nothing in
// the disk's cache. Some others, as FUSE, take the call and do less.
var whole = map[uint32]bool{unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true, unix.F2FS_SUPER_MAGIC: true}

// group is a file system with files to be made durable.
type group struct {
	able bool

	mu      sync.Mutex           // guards all below
	came    [groupFrom]time.Time // when the last files came, in turn
	next    int                  // of came: the oldest
	busy    bool                 // a syncfs runs
	rests   time.Time            // until when there is no syncfs
	waiting []chan turn
}

// turn is what a file that waited is told.
type turn struct {
	durable bool
	lead    bool        // do it for all of these
	others  []chan turn // if lead
}

var groups struct {
	sync.Mutex
	of map[uint64]*group // by device
}

// groupOf returns the group of the file system with the number dev on which fd is open.
func groupOf(dev uint64, fd int) *group {
	groups.Lock()
	defer groups.Unlock()
	g := groups.of[dev]
	if g == nil {
		var st unix.Statfs_t
		err := again(func() error { return unix.Fstatfs(fd, &st) })
		g = &group{able: err == nil && whole[uint32(st.Type)]}
		if groups.of == nil || len(groups.of) == 64 { // more than are mounted at once: some are gone
			groups.of = map[uint64]*group{}
		}
		groups.of[dev] = g
	}
	return g
}

// sync makes the file durable, with its inode.
func (g *group) sync(fd int) error {
	if !g.able {
		return fsync(fd)
	}
	now := time.Now()
	g.mu.Lock()
	many := g.come(now)
	switch {
	case g.busy:
		told := make(chan turn, 1)
		g.waiting = append(g.waiting, told)
		g.mu.Unlock()
		switch t := <-told; {
		case t.lead:
			return g.lead(fd, t.others)
		case t.durable:
			return settled(fd)
		}
		return fsync(fd)
	case many && now.After(g.rests):
		g.busy = true
		g.mu.Unlock()
		return g.lead(fd, nil)
	}
	g.mu.Unlock()
	return fsync(fd)
}

// come notes that a file came, and reports whether many did lately; mu is held.
func (g *group) come(now time.Time) bool {
	many := now.Sub(g.came[g.next]) < groupTime
	g.came[g.next] = now
	g.next = (g.next + 1) % groupFrom
	return many
}

// lead makes the file durable with the others and those who come in a moment.
func (g *group) lead(fd int, others []chan turn) error {
	time.Sleep(gatherTime)
	g.mu.Lock()
	others = append(others, g.waiting...)
	g.waiting = nil
	g.mu.Unlock()
	return g.write(fd, others)
}

// write makes the file and the others durable, and leaves those who come meanwhile to one of them.
func (g *group) write(fd int, others []chan turn) error {
	began := time.Now()
	err := again(func() error { return unix.Syncfs(fd) })
	tell(others, turn{durable: err == nil})
	now := time.Now()
	g.mu.Lock()
	if took := now.Sub(began); took > slow {
		g.rests = now.Add(slowRest * took)
	}
	next := g.waiting
	g.waiting = nil
	if len(next) == 0 || !now.After(g.rests) {
		g.busy = false
		g.mu.Unlock()
		tell(next, turn{})
	} else {
		g.mu.Unlock()
		next[0] <- turn{lead: true, others: next[1:]}
	}
	if err != nil { // perhaps another file's: each asks for its own
		return fsync(fd)
	}
	return settled(fd)
}

func tell(all []chan turn, t turn) {
	for _, c := range all {
		c <- t
	}
}

func fsync(fd int) error { return again(func() error { return unix.Fsync(fd) }) }

// settled returns the error, if there was one, with which the file's data were written.
func settled(fd int) error {
	err := again(func() error {
		return unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	})
	if err == unix.ENOSYS { // where seccomp forbids it
		return fsync(fd)
	}
	return err
}
