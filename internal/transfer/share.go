package transfer

import (
	"container/list"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/fileget"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

// Identity names who asks, and how: jobs with the same one get the same answers of a server. The zero
// value is like no other.
type Identity [32]byte

// shares lets transfers that want the same content fetch it once: one of them moves it, the others
// wait, and then begin with what it left. What they begin with counts only if it is as it was left,
// and they ask the server for at least the last byte of it, on the condition that the file is of the
// same version: so it is a resumed download as any other.
type shares struct {
	mu     sync.Mutex
	moving map[content]*share    // guarded by mu
	left   map[content]*leavings // guarded by mu: what was left last
	parts  map[string]int        // guarded by mu: how many of these were left under a path
	order  list.List             // guarded by mu: the same, the oldest first
	lent   map[*leavings]int     // guarded by mu: by how many they are copied, of which newer ones may have taken the place
}

// content is what an owner gets when asking for a URL in one way.
type content struct {
	by  Identity
	url string
}

// share is a transfer that others may wait for.
type share struct {
	class governor.Class
	job   bits.ID
	done  chan struct{} // closed when nobody need wait any more
	once  sync.Once
}

// leavings are bytes that a transfer left behind, whole or not.
type leavings struct {
	content
	job       bits.ID
	at        time.Time // when it was left
	bytes     int64     // durable, from the beginning
	digest    string    // of the whole file as the server told, if that was not checked yet
	part      string    // path under which it was left
	turn      *list.Element
	validator httpget.Validator

	mu     sync.Mutex
	path   string            // guarded by mu
	stands localfile.Version // guarded by mu: any write to the file, and any change of its name, gives it another
}

// mostLeavings bounds what is remembered; each is a URL and a path.
const mostLeavings = 256

// enter makes a transfer the one that moves a content, after waiting for the one that does. Who is in
// the foreground waits for nobody in the background. waits is told for which job, and of none when the
// waiting is over.
func (s *shares) enter(ctx context.Context, c content, class governor.Class, job bits.ID, waits func(bits.ID)) (*share, error) {
	mine := &share{class: class, job: job, done: make(chan struct{})}
	waited := false
	for {
		s.mu.Lock()
		cur := s.moving[c]
		if cur == nil || class == governor.Foreground && cur.class != governor.Foreground {
			if s.moving == nil {
				s.moving = map[content]*share{}
			}
			s.moving[c] = mine
			s.mu.Unlock()
			if waited {
				waits(bits.ID{})
			}
			return mine, nil
		}
		s.mu.Unlock()
		waits(cur.job)
		waited = true
		select {
		case <-cur.done:
		case <-ctx.Done():
			waits(bits.ID{})
			return nil, context.Cause(ctx)
		}
	}
}

// free lets all go on that wait for a transfer.
func (s *shares) free(c content, sh *share) {
	sh.once.Do(func() {
		s.mu.Lock()
		if s.moving[c] == sh {
			delete(s.moving, c)
		}
		s.mu.Unlock()
		close(sh.done)
	})
}

// leave remembers what a transfer left, in the place of what was left of this content before.
func (s *shares) leave(l *leavings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == nil {
		s.left, s.parts = map[content]*leavings{}, map[string]int{}
	}
	old := s.left[l.content]
	if old == nil && len(s.left) >= mostLeavings {
		old = s.order.Front().Value.(*leavings)
	}
	if old != nil {
		delete(s.left, old.content)
		s.order.Remove(old.turn)
		if s.parts[old.part]--; s.parts[old.part] == 0 {
			delete(s.parts, old.part)
		}
	}
	s.left[l.content] = l
	s.parts[l.part]++
	l.turn = s.order.PushBack(l)
}

// borrow returns what was left of a content after a job was made; nil if nothing was. It is followed
// until it is given back.
func (s *shares) borrow(c content, made time.Time) *leavings {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.left[c]
	if l == nil || !l.at.After(made) {
		return nil
	}
	if s.lent == nil {
		s.lent = map[*leavings]int{}
	}
	s.lent[l]++
	return l
}

func (s *shares) giveBack(l *leavings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lent[l]--; s.lent[l] == 0 {
		delete(s.lent, l)
	}
}

// at returns what was left at a path, and may still be copied.
func (s *shares) at(part string) []*leavings {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*leavings
	for l := range s.lent {
		if l.part == part {
			all = append(all, l)
		}
	}
	if s.parts[part] == 0 { // a job of many files asks for each
		return all
	}
	for _, l := range s.left {
		if l.part == part && s.lent[l] == 0 {
			all = append(all, l)
		}
	}
	return all
}

// Place puts a part file into its place, see localfile.Owner.Place, and keeps track of it where other
// jobs may want its bytes.
func (e *Engine) Place(o localfile.Owner, part, local string, inode uint64) error {
	left := e.shares.at(part)
	if len(left) == 0 {
		return o.Place(part, local, inode)
	}
	for _, l := range left {
		l.mu.Lock()
		defer l.mu.Unlock()
	}
	before, _ := o.Version(part) // of no file: nothing is equal to it
	if err := o.Place(part, local, inode); err != nil {
		return err
	}
	after, err := o.Version(local)
	for _, l := range left {
		if before == l.stands && err == nil && after.Inode == before.Inode && after.Size == before.Size {
			l.path, l.stands = local, after
		}
	}
	return nil
}

// open opens what was left if it is as it was left.
func (l *leavings) open(o localfile.Owner) *os.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := o.Open(l.path)
	if err != nil {
		return nil
	}
	if !l.same(f) {
		f.Close()
		return nil
	}
	return f
}

// intact reports whether what f was read of is still as it was left.
func (l *leavings) intact(f *os.File) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.same(f)
}

// same is intact; mu is held.
func (l *leavings) same(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && localfile.VersionOf(info) == l.stands
}

// content returns what a download is of, and whether it can be shared: a whole file of a server, that
// can be continued.
func (d *download) content() (content, bool) {
	j := &d.job
	newer := j.OnlyIfNewer || d.f.Extra != nil && d.f.Extra.OnlyIfNewer // asks anyway, and mostly gets nothing
	distrusted := d.f.Extra != nil && d.f.Extra.Distrusted              // another job may have bytes of peers
	if j.Identity == (Identity{}) || j.Type != bits.Download || j.whole() || j.HighPerformance || newer || distrusted || fileget.Is(d.f.Remote) {
		return content{}, false
	}
	return content{j.Identity, d.f.Remote}, true
}

// join waits while another transfer moves the same content. The function that it returns ends the
// sharing, and must be called.
func (d *download) join(ctx context.Context) (end func(), err error) {
	c, ok := d.content()
	if !ok {
		return func() {}, nil
	}
	d.share, err = d.shares.enter(ctx, c, d.job.Class, d.job.ID, func(job bits.ID) {
		if d.alone { // the job's other files need not wait too
			d.alone = false
			d.feed.unclaim(false)
		}
		d.run.live.waits(d.live, job)
	})
	if err != nil {
		return nil, err
	}
	return func() {
		d.leaveBehind(c)
		d.shares.free(c, d.share)
	}, nil
}

// shareable looks at the answer that a download goes on with: if others could not continue it, they
// need not wait for it.
func (d *download) shareable(resp *httpget.Response) {
	d.parts = resp.Ranges && resp.Validator.Usable()
	if !d.parts && d.share != nil {
		c, _ := d.content()
		d.shares.free(c, d.share)
	}
}

// leaveBehind remembers what this download leaves for others.
func (d *download) leaveBehind(c content) {
	v := d.validator
	if !d.parts || d.f.Done == 0 || !v.Usable() || v.Elsewhere || d.src.joined || d.src.origin != d.f.Remote || v.Size < d.f.Done {
		return
	}
	l := &leavings{content: c, job: d.job.ID, at: time.Now(), bytes: d.f.Done, validator: v, part: d.path, path: d.path}
	if d.f.State == store.FilePending && d.f.Part != nil {
		l.digest = d.f.Part.Digest
	}
	var err error
	if l.stands, err = d.job.Owner.Version(d.path); err != nil || l.stands.Changed == 0 || l.stands.Size < l.bytes {
		return // or a system that does not tell when files change
	}
	d.shares.leave(l)
}

// borrow begins with what another transfer left of the same content, if that is more than is here. The
// last byte is left to be asked for.
func (d *download) borrow(ctx context.Context) error {
	c, ok := d.content()
	if !ok || d.share == nil || d.src.url != d.f.Remote || d.src.origin != d.f.Remote {
		return nil
	}
	l := d.shares.borrow(c, d.job.Created)
	if l == nil {
		return nil
	}
	defer d.shares.giveBack(l)
	if l.job == d.job.ID && d.offset() > 0 {
		return nil
	}
	n := min(l.bytes, l.validator.Size-1)
	if n <= d.offset() || d.offset() > 0 && (d.validator.Size != l.validator.Size || !d.validator.Same(l.validator)) {
		return nil
	}
	from := l.open(d.job.Owner)
	if from == nil {
		return nil
	}
	defer from.Close()
	if err := d.feed.sized(&d.alone, l.validator.Size); err != nil {
		return err
	}
	if err := d.take(ctx, l, from, n); err != nil {
		return err
	}
	if l.intact(from) {
		part := *d.f.Part // the record has the other one
		part.Note = fmt.Sprintf("the first %d bytes are those that job %s had fetched", n, short(l.job))
		d.f.Part, d.borrowed = &part, true
		return d.checkpoint()
	}
	// It was changed meanwhile: nothing of it counts.
	d.part.Close()
	d.part = nil
	d.validator = httpget.Validator{Size: -1}
	d.hash = newHash(d.f.Checksum)
	return d.open(ctx)
}

// take copies what another transfer left, up to byte n, behind what is here. Until it is known to be
// good no record may count it, not even after the service is killed.
func (d *download) take(ctx context.Context, l *leavings, from *os.File, n int64) error {
	part := store.Part{Digest: l.digest}
	if d.f.Part != nil {
		part = *d.f.Part
		part.Boot = "" // only what is durable counts
	}
	d.f.Part = &part
	f := d.f
	if err := d.sink.Save(d.index, &f); err != nil {
		return err
	}
	if d.part == nil {
		d.expectDigest(part.Digest)
		p, err := localfile.Open(ctx, d.path, localfile.Options{Owner: d.job.Owner, Size: l.validator.Size, Hash: d.hash})
		if err != nil {
			return localfile.Err(err, d.path)
		}
		d.part = p
	}
	if err := d.budget.set(d.index, l.validator.Size); err != nil {
		return err
	}
	d.validator, d.f.Size = l.validator, l.validator.Size
	d.live.size.Store(d.f.Size)
	if _, err := from.Seek(d.part.Offset(), io.SeekStart); err != nil {
		return nil // intact finds out
	}
	for d.part.Offset() < n {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := d.part.Space()
		m, err := from.Read(b[:min(int64(len(b)), n-d.part.Offset())])
		if m > 0 {
			if err := d.part.Advance(m); err != nil {
				return localfile.Err(err, d.path)
			}
			d.live.done.Store(d.part.Offset())
		}
		if err != nil {
			return nil // shorter than it was, or unreadable: intact finds out, or the server is asked for the rest
		}
	}
	return nil
}

// waits notes for which job a file waits, none if it does not wait.
func (l *Live) waits(lf *liveFile, job bits.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lf.waits = job
}

// Waits returns the job for which all files wait that would move now; ok is false if one moves.
func (l *Live) Waits() (job bits.ID, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting()
}

// waiting is Waits; mu is held.
func (l *Live) waiting() (job bits.ID, ok bool) {
	for _, lf := range l.active {
		if lf.left {
			continue
		}
		if lf.waits == (bits.ID{}) {
			return bits.ID{}, false
		}
		job = lf.waits
	}
	return job, job != bits.ID{}
}

// short is how people name a job.
func short(id bits.ID) string { return id.String()[:8] }
