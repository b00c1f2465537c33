package session

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ebbtransfer/ebb/internal/localfile"
)

// takeover is how long a request waits for another one to leave a session.
const takeover = 20 * time.Second

// evictAfter is how long an anonymous session that has bytes is safe from others that need room: longer
// than clients wait between two tries. One that comes back later begins again.
const evictAfter = time.Hour

// errNotDir means that an element of a target's directory is no directory.
var errNotDir = errors.New("not a directory")

// found is what has the name of a target.
type found struct {
	dir  bool
	id   fileID
	size int64
}

// Options are a store's limits. The zero value has none.
type Options struct {
	Log *slog.Logger // nil is slog.Default
	// MinFree is how many bytes an upload has to leave free on the disk. A bucket does not know.
	MinFree int64
	// Sessions is how many unfinished sessions a principal may have; 0 is no limit. All who are
	// anonymous are one principal.
	Sessions int
	// AllSessions is how many there may be of all principals together; 0 is no limit. Where they are
	// reached, an anonymous one makes room for the next if it is empty, or nobody went on with it
	// for evictAfter. A bucket does not count them.
	AllSessions int
}

// Dir is a store in a local directory: a target's directory must exist, and is never made. Sessions
// live below the root in Hidden, each with a file for its bytes and one for its record, on the same
// disk as the targets, so that to publish is to rename. Directories that are other disks, mounted
// below the root, cannot hold targets. No symbolic link below the root is followed.
//
// A process opens a root once; prefixes with the same root share the store.
type Dir struct {
	root   string
	opts   Options
	log    *slog.Logger
	top    *os.Root
	hidden *os.Root
	hfile  *os.File // of hidden, to make its names durable
	unlock func()
	syncs  group

	mu       sync.Mutex // guards the rest and every entry's fields
	sessions map[string]*entry
	count    map[string]int // unfinished sessions by principal
	all      int            // unfinished sessions
}

// entry is a session in memory. Beyond mu, only the holder changes it.
type entry struct {
	rec    record
	end    int64 // length of the lines of the record file; 0 if it must be written anew
	size   int64 // of the record file
	dirty  bool  // the record file has lines that are not durable
	holder *held // nil while no request has it
}

var _ Store = (*Dir)(nil)

// OpenDir opens the store below the directory root. It fails if another process has it open.
func OpenDir(root string, o Options) (*Dir, error) {
	d := &Dir{root: root, opts: o, log: cmp.Or(o.Log, slog.Default()), sessions: map[string]*entry{}, count: map[string]int{}}
	if err := d.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the uploads of %s: %w", root, err), d.Close())
	}
	if err := d.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("load the uploads of %s: %w", root, err), d.Close())
	}
	return d, nil
}

func (d *Dir) open() (err error) {
	if d.top, err = os.OpenRoot(d.root); err != nil {
		return err
	}
	err = d.top.Mkdir(Hidden, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := d.top.Lstat(Hidden)
	if err != nil {
		return err
	}
	if d.hidden, err = d.top.OpenRoot(Hidden); err != nil {
		return err
	}
	opened, err := d.hidden.Stat(".")
	if err != nil {
		return err
	}
	// Whoever may write to the root could have put a link, or a directory of theirs, in its place.
	if !st.IsDir() || !os.SameFile(st, opened) || !private(st) {
		return fmt.Errorf("%s must be a directory that only this user can write to", filepath.Join(d.root, Hidden))
	}
	if d.hfile, err = d.hidden.Open("."); err != nil {
		return err
	}
	d.unlock, err = localfile.Lock(filepath.Join(d.root, Hidden, "lock"))
	if errors.Is(err, localfile.ErrLocked) {
		return errors.New("another process, or another part of this one, uses it")
	}
	return err
}

// load reads all records, finishes what a crash interrupted, and removes what belongs to no session.
func (d *Dir) load() error {
	names, err := d.hfile.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, ok := strings.CutSuffix(name, recordExt)
		if !ok || !ValidID(id) {
			continue
		}
		err := d.loadOne(id)
		if errors.Is(err, errLost) {
			// The client is told that there is no such session, and begins again. It is no harm if
			// Create was interrupted, when nobody knew of it.
			d.log.Warn("upload session is lost", "session", id, "reason", err)
		} else if err != nil {
			return err
		}
	}
	for _, name := range names {
		id := strings.TrimSuffix(name, recordExt)
		if d.sessions[id] == nil && name != "lock" {
			if err := d.hidden.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// recordExt ends the names of records; what holds the bytes has the session's id for a name.
const recordExt = ".record"

func (d *Dir) loadOne(id string) error {
	f, err := d.hidden.Open(id + recordExt)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRecord))
	f.Close()
	if err != nil {
		return err
	}
	r, n, err := parseRecord(b)
	if err != nil {
		return err
	}
	if r.ID != id {
		return fmt.Errorf("%w: its record is that of %s", errLost, r.ID)
	}
	e := &entry{rec: r, end: int64(n), size: int64(len(b))}
	if len(bytes.Trim(b[n:], "\n")) > 0 {
		e.end = 0 // a line that was cut short, which no line may come after
	}
	if !r.Published {
		if err := d.recoverData(e); err != nil {
			return err
		}
	}
	d.add(e)
	return nil
}

// recoverData makes record and data file agree.
func (d *Dir) recoverData(e *entry) error {
	r := &e.rec
	st, err := d.hidden.Lstat(r.ID)
	gone := errors.Is(err, fs.ErrNotExist)
	if err != nil && !gone {
		return err
	}
	if r.Target != "" {
		at, err := d.at(r.Target)
		published := err == nil && !at.dir && r.File != fileID{} && at.id == r.File && (r.Size < 0 || r.Size == at.size)
		if published || gone && r.Publishing {
			// The process may have been killed before the new name was durable. From now on clients
			// are told that the file is there.
			if err := d.syncTarget(r.Target); published && err != nil {
				return fmt.Errorf("make %s durable: %w", r.Target, err)
			}
			r.Published = true
			if published {
				r.Offset = at.size
			} else if r.Size >= 0 {
				r.Offset = r.Size
			}
			r.Size = r.Offset
			e.end = 0
			return nil
		}
	}
	switch {
	case gone:
		return fmt.Errorf("%w: its file is gone", errLost)
	case !st.Mode().IsRegular():
		return fmt.Errorf("%w: its file is not a file", errLost)
	case st.Size() < r.Offset:
		return fmt.Errorf("%w: of its %d bytes %d are left", errLost, r.Offset, st.Size())
	case r.Boot != "" && r.Boot == localfile.BootID():
		// The machine did not go down since, so everything that was written is still there, also
		// what was not made durable. That is done now, before anybody hears of it.
		e.dirty = true
		size := st.Size()
		if r.Size >= 0 {
			size = min(size, r.Size)
		}
		if size == r.Offset {
			return nil
		}
		f, err := d.hidden.OpenFile(r.ID, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(datasync(f), f.Close()); err != nil {
			return err
		}
		r.Offset = size
		return d.note(e, change{Offset: &size}, true)
	case st.Size() > r.Offset:
		// Nobody knows what these bytes are. They go now, so that they never count later.
		f, err := d.hidden.OpenFile(r.ID, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Truncate(r.Offset), f.Close())
	}
	return nil
}

// syncTarget makes the names in the directory of target durable.
func (d *Dir) syncTarget(target string) error {
	to, err := openDest(d.top, target)
	if err != nil {
		return err
	}
	defer to.close()
	return to.sync()
}

// at returns what has the name of target.
func (d *Dir) at(target string) (found, error) {
	to, err := openDest(d.top, target)
	if err != nil {
		return found{}, err
	}
	defer to.close()
	return to.lookup()
}

// add and drop keep the sessions and their number. The caller has mu, or nobody else has the store.
func (d *Dir) add(e *entry) {
	d.sessions[e.rec.ID] = e
	if !e.rec.Published {
		d.begun(e)
	}
}

func (d *Dir) drop(e *entry) {
	delete(d.sessions, e.rec.ID)
	if !e.rec.Published {
		d.finished(e)
	}
}

// begun says that a session counts for the limits.
func (d *Dir) begun(e *entry) {
	d.count[e.rec.Principal]++
	d.all++
}

// finished says that a session does not count for the limits any more.
func (d *Dir) finished(e *entry) {
	d.all--
	if d.count[e.rec.Principal]--; d.count[e.rec.Principal] <= 0 {
		delete(d.count, e.rec.Principal)
	}
}

// Create makes a session, as Store says. After Create has answered, the session survives a power
// loss, unless it is Spec.Whole.
func (d *Dir) Create(_ context.Context, spec Spec) (Info, error) {
	e, err := d.create(spec, nil)
	if err != nil {
		return Info{}, fmt.Errorf("create an upload: %w", storageError(err))
	}
	return e.rec.Info, nil
}

// create makes a session whose bytes are what fill writes, if it is not nil.
func (d *Dir) create(spec Spec, fill func(*os.File) error) (*entry, error) {
	if err := d.check(spec); err != nil {
		return nil, err
	}
	now := time.Now().Round(0)
	e := &entry{rec: record{Info: Info{ID: NewID(), Spec: spec, Created: now, Touched: now}}}
	d.mu.Lock()
	if d.opts.Sessions > 0 && d.count[spec.Principal] >= d.opts.Sessions {
		d.mu.Unlock()
		return nil, ErrTooMany
	}
	var evicted *entry
	if d.opts.AllSessions > 0 && d.all >= d.opts.AllSessions {
		if evicted = d.evictable(now); evicted == nil {
			d.mu.Unlock()
			return nil, ErrTooMany
		}
		d.drop(evicted) // nobody has it, and now nobody can
	}
	if spec.Whole {
		d.add(e)
	} else {
		d.begun(e) // until it is added, so that many at once do not pass the limit
	}
	d.mu.Unlock()
	if evicted != nil {
		d.log.Warn("too many uploads; an anonymous one made room", "session", evicted.rec.ID, "bytes", evicted.rec.Offset)
		if err := d.removeFiles(evicted); err != nil {
			d.log.Warn("upload is left over", "session", evicted.rec.ID, "reason", err)
		}
	}
	if spec.Whole {
		return e, nil
	}

	err := d.writeNew(e, fill)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.finished(e)
	if err != nil {
		return nil, err
	}
	d.add(e)
	return e, nil
}

// evictable returns the session that makes room for a new one, so that strangers who begin uploads and
// leave them keep nobody else from uploading: of the anonymous ones that no request has, the empty one
// that was touched longest ago, or else one with bytes that was left long enough. nil if there is none.
// The caller has mu.
func (d *Dir) evictable(now time.Time) *entry {
	var empty, left *entry
	older := func(e, than *entry) bool { return than == nil || e.rec.Touched.Before(than.rec.Touched) }
	for _, e := range d.sessions {
		r := &e.rec
		switch {
		case e.holder != nil || r.Published || r.Whole || !r.Anonymous():
		case r.Offset == 0:
			if older(e, empty) {
				empty = e
			}
		case now.Sub(r.Touched) >= evictAfter && older(e, left):
			left = e
		}
	}
	return cmp.Or(empty, left)
}

// check says whether an upload with spec can be made now.
func (d *Dir) check(spec Spec) error {
	if spec.Limit >= 0 && spec.Size > spec.Limit {
		return ErrTooLarge
	}
	if spec.Target != "" {
		if err := CheckTarget(spec.Target); err != nil {
			return err
		}
		to, err := openDest(d.top, spec.Target)
		if err != nil {
			return targetError(spec.Target, err)
		}
		defer to.close()
		at, err := to.lookup()
		switch {
		case err == nil && at.dir:
			return fmt.Errorf("%w: %s: %w", ErrTarget, spec.Target, syscall.EISDIR)
		case err == nil && !spec.Overwrite:
			return ErrExists
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return targetError(spec.Target, err)
		case !to.sameDisk(d.hidden):
			return fmt.Errorf("%w: %s is on another disk than %s: %w", ErrTarget, path.Dir(spec.Target), d.root, syscall.EXDEV)
		}
	}
	return d.room(max(spec.Size, 0))
}

// room says whether size more bytes leave enough of the disk free.
func (d *Dir) room(size int64) error {
	if room, err := free(d.hfile); err == nil && room-size < d.opts.MinFree {
		return ErrNoSpace
	}
	return nil
}

// writeNew makes the files of a new session, durably.
func (d *Dir) writeNew(e *entry, fill func(*os.File) error) (err error) {
	id := e.rec.ID
	defer func() {
		if err != nil {
			_ = d.hidden.Remove(id) // err is what counts, and the next start finds what is left
			_ = d.hidden.Remove(id + recordExt)
		}
	}()
	if err := d.newData(e, fill); err != nil {
		return err
	}
	if err := d.writeRecord(e, id+recordExt); err != nil {
		return err
	}
	return d.syncHidden()
}

// newData makes the data file. It has the mode of any new file from the beginning, since only this
// user gets into its directory.
func (d *Dir) newData(e *entry, fill func(*os.File) error) error {
	f, err := d.hidden.OpenFile(e.rec.ID, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	if fill != nil {
		if err := errors.Join(fill(f), f.Sync()); err != nil {
			return err
		}
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	e.rec.Offset, e.rec.Boot = st.Size(), localfile.BootID()
	e.rec.File, err = identify(f)
	return err
}

// writeRecord writes the whole record to a new file and makes its bytes durable, not its name.
func (d *Dir) writeRecord(e *entry, name string) error {
	line := appendLine(nil, &e.rec)
	b := pad(line)
	f, err := d.hidden.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	e.end, e.size, e.dirty = int64(len(line)), int64(len(b)), false
	return nil
}

// syncHidden makes the names of the files of sessions durable.
func (d *Dir) syncHidden() error { return d.syncs.do(Hidden, d.hfile.Sync) }

// note writes what changed in e's record, which already has it, to its file; durably if sync says so.
// Without a file, as of a Whole session, there is nothing to do.
func (d *Dir) note(e *entry, c change, sync bool) error {
	if e.rec.Whole {
		return nil
	}
	line := appendLine(nil, c)
	name := e.rec.ID + recordExt
	if e.end == 0 || e.end+int64(len(line)) > e.size {
		err := d.writeRecord(e, name+".new")
		if err == nil {
			err = d.hidden.Rename(name+".new", name)
		}
		if err == nil {
			err = d.syncHidden()
		}
		if err != nil {
			e.end, e.dirty = 0, true
		}
		return err
	}
	f, err := d.hidden.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = f.WriteAt(line, e.end); err == nil && sync {
		err = datasync(f)
	}
	if err != nil {
		e.end, e.dirty = 0, true // what the file has now is not known
		return err
	}
	e.end += int64(len(line))
	e.dirty = !sync
	return nil
}

// Acquire hands out a session, as Store says.
func (d *Dir) Acquire(ctx context.Context, id string, who Who) (context.Context, Session, error) {
	ctx, h, err := d.acquire(ctx, id, func(e *entry) bool { return e.rec.Allows(who) })
	if err != nil {
		return nil, nil, err
	}
	return ctx, h, nil
}

// Allows says whether a request of who may have the session.
func (i *Info) Allows(who Who) bool {
	ok := subtle.ConstantTimeCompare([]byte(i.Principal), []byte(who.Principal))
	if who.URL != "" {
		ok &= subtle.ConstantTimeCompare([]byte(i.URL), []byte(who.URL))
	}
	return ok == 1
}

// Anonymous says whether the session belongs to nobody by name. What a front end keeps beside an upload
// has the uploader's name, a NUL and a word for what it is.
func (i *Info) Anonymous() bool { return i.Principal == "" || i.Principal[0] == 0 }

// acquire waits until nobody else has the session.
func (d *Dir) acquire(ctx context.Context, id string, mine func(*entry) bool) (context.Context, *held, error) {
	timer := time.NewTimer(takeover)
	defer timer.Stop()
	for {
		d.mu.Lock()
		e := d.sessions[id]
		if e == nil || !mine(e) {
			d.mu.Unlock()
			return nil, nil, ErrNotFound
		}
		other := e.holder
		if other == nil {
			h := &held{d: d, e: e, done: make(chan struct{})}
			h.ctx, h.cancel = context.WithCancelCause(ctx)
			e.holder = h
			d.mu.Unlock()
			return h.ctx, h, nil
		}
		d.mu.Unlock()
		other.cancel(ErrTaken)
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		case <-timer.C:
			return nil, nil, ErrBusy
		}
	}
}

// Concat makes a session of the bytes of parts, as Store says. It copies them, where the file system
// can without moving bytes.
func (d *Dir) Concat(ctx context.Context, spec Spec, parts []string) (Info, error) {
	e, err := d.concat(ctx, spec, parts)
	if err != nil {
		return Info{}, fmt.Errorf("concatenate uploads: %w", storageError(err))
	}
	return e.rec.Info, nil
}

func (d *Dir) concat(ctx context.Context, spec Spec, parts []string) (*entry, error) {
	opened := map[string]*os.File{} // one may come twice
	var files []*os.File
	var total int64
	for _, id := range parts {
		f := opened[id]
		if f == nil {
			pctx, h, err := d.acquire(ctx, id, func(e *entry) bool { return e.rec.Allows(Who{Principal: spec.Principal}) })
			if err != nil {
				return nil, err
			}
			defer h.Release()
			ctx = pctx // ends when any of the parts is wanted by somebody else
			if info := h.Info(); info.Size < 0 || info.Offset != info.Size {
				return nil, ErrIncomplete
			}
			if err := h.cut(); err != nil {
				return nil, err
			}
			if f, err = h.openData(); err != nil {
				return nil, err
			}
			defer f.Close()
			opened[id] = f
		}
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		total += st.Size()
	}
	if spec.Size >= 0 && spec.Size != total {
		return nil, ErrSizeChanged
	}
	spec.Size, spec.Whole = total, false
	return d.create(spec, func(to *os.File) error {
		for _, from := range files {
			if err := copyAll(ctx, to, from); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyAll adds all of from to to. Go leaves it to the kernel, which is asked in pieces so that it ends
// when ctx does.
func copyAll(ctx context.Context, to, from *os.File) error {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for {
		_, err := io.CopyN(to, from, 64<<20)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// List returns all sessions, the oldest first.
func (d *Dir) List(context.Context) ([]Info, error) {
	d.mu.Lock()
	list := make([]Info, 0, len(d.sessions))
	for _, e := range d.sessions {
		list = append(list, e.rec.Info)
	}
	d.mu.Unlock()
	slices.SortFunc(list, oldestFirst)
	return list, nil
}

func oldestFirst(a, b Info) int {
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
}

// Clean removes sessions, as Store says. One that a request works on makes progress; for the limit
// only sessions that are not published count, and one that a request works on is taken from it.
func (d *Dir) Clean(ctx context.Context, now time.Time, timeout time.Duration, limit int) (int, error) {
	list, err := d.List(ctx)
	if err != nil {
		return 0, err
	}
	removed := 0
	unfinished := map[string]int{}
	expired := Expired(list, now, timeout)
	for _, i := range list {
		_, h, err := d.acquire(ctx, i.ID, func(e *entry) bool {
			return expired[i.ID] && e.holder == nil && e.rec.Touched.Equal(i.Touched)
		})
		if errors.Is(err, ErrNotFound) && limit > 0 && !i.Published {
			if unfinished[i.Principal]++; unfinished[i.Principal] > limit {
				_, h, err = d.acquire(ctx, i.ID, func(e *entry) bool { return !e.rec.Published })
			}
		}
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrBusy) {
			continue
		}
		if err != nil {
			return removed, err
		}
		err = h.Remove(ctx)
		h.Release()
		if err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

// Close closes the store. No request may work on a session any more.
func (d *Dir) Close() error {
	var errs []error
	if d.hfile != nil {
		errs = append(errs, d.hfile.Close())
	}
	if d.hidden != nil {
		errs = append(errs, d.hidden.Close())
	}
	if d.top != nil {
		errs = append(errs, d.top.Close())
	}
	if d.unlock != nil {
		d.unlock()
	}
	return errors.Join(errs...)
}

// NewID returns the id of a new session.
func NewID() string {
	var b [idLen]byte
	_, _ = rand.Read(b[:]) // never fails, says crypto/rand
	return hex.EncodeToString(b[:])
}

// storageError makes ErrNoSpace of what systems say when there is none.
func storageError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// targetError makes ErrTarget of what systems say of a directory that does not do.
func targetError(target string, err error) error {
	for _, no := range []error{fs.ErrNotExist, fs.ErrPermission, errNotDir, syscall.ENOTDIR, syscall.ELOOP,
		syscall.EISDIR, syscall.EXDEV, syscall.EROFS, syscall.ENAMETOOLONG} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w: %s: %w", ErrTarget, target, err)
		}
	}
	return err
}
