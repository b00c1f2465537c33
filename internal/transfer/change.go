package transfer

import (
	"errors"

	"github.com/ebbtransfer/ebb/internal/store"
)

// errChanged ends the present attempt at a file because the job's owner changed it.
var errChanged = errors.New("the file was changed by the job's owner")

// Adopt returns the record of a file as its transfer reports it, but with what the job's owner has
// changed since the transfer took it: the owner's word is in old, the record that the queue has.
func Adopt(old, news *store.File) *store.File {
	if old == nil || edition(old) == edition(news) {
		return news
	}
	f := *news
	f.Remote, f.Local, f.Checksum, f.Extra = old.Remote, old.Local, old.Checksum, old.Extra
	if old.State != store.FilePending {
		f.State = old.State
	}
	if f.Part != nil && f.Part.Source == "" && news.Remote != old.Remote && f.State != store.FilePlaced {
		part := *f.Part
		part.Source = news.Remote // the bytes are from there
		f.Part = &part
	}
	return &f
}

func edition(f *store.File) int {
	if f.Extra == nil {
		return 0
	}
	return f.Extra.Edition
}

// Change tells a running transfer that the job's owner changed a file. If the file moves, its
// present attempt ends and the next one goes by the new record; else that is so when its turn comes.
func (l *Live) Change(index int, f *store.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = map[int]*store.File{}
	}
	l.changed[index] = f
	if lf := l.active[index]; lf != nil && !lf.left && lf.stop != nil {
		lf.stop(errChanged)
	}
}

// newest returns a file's record with what its owner changed since the transfer began.
func (l *Live) newest(index int, f *store.File) *store.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.changed[index]; c != nil {
		return Adopt(c, f)
	}
	return f
}

// Moves reports whether a file moves now.
func (l *Live) Moves(index int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	lf := l.active[index]
	return lf != nil && !lf.left
}
