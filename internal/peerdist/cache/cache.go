// Package cache keeps segments on disk, for this machine's own downloads and for those of its peers.
//
// The file system is its index: a segment is two files, named by its public id. One describes it and says
// which blocks are here, the other has them at their places. Nothing is read into memory but what is asked
// for, and a copy of the service that was killed has left nothing that another cannot use. No block is
// trusted because it is here: each is held against its hash when it is read, so that it need not be made
// durable, and one that does not have its hash is forgotten.
//
// The directory is for the service's eyes only: it has contents of all users and the secrets of segments.
package cache

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	mathbits "math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// ErrNotHeld says that a block is not here. It says it too of one that was, and had rotted.
var ErrNotHeld = errors.New("the block is not in the cache")

// ErrFull says that the cache may not become larger: its limit, or the space that the disk has left, is
// less than what is to be put there.
var ErrFull = errors.New("the cache is full")

// Limits are those of a cache.
type Limits struct {
	// Size is in bytes of blocks, or Percent of the disk where that is not 0. The limit is less when the
	// disk has less than a tenth of it left.
	Size    int64
	Percent int
	MaxAge  time.Duration // for how long a segment is kept, at least 1 s
}

// Cache is a directory of segments. One process has it.
type Cache struct {
	root    string
	limits  atomic.Pointer[Limits]
	used    atomic.Int64 // bytes of blocks, as far as is known between two cleanings
	coming  atomic.Int64 // bytes of those that are being written
	clean   sync.Mutex   // held by who cleans
	early   sync.Mutex   // held by who cleans before it is necessary, and for good when the cache is closed
	closed  sync.Once
	locks   [64]sync.Mutex
	recent  recent
	writing writing
	unlock  func()
}

// Open opens or makes a cache. It returns an error if another process has it open.
func Open(root string, limits Limits) (*Cache, error) {
	for _, dir := range []string{root, filepath.Join(root, "seg"), filepath.Join(root, "new")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(root, 0o700); err != nil {
		return nil, err
	}
	unlock, err := localfile.Lock(filepath.Join(root, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock the cache %s: %w", root, err)
	}
	// What a killed process was about to write.
	half, err := filepath.Glob(filepath.Join(root, "new", "*"))
	for _, name := range half {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		unlock()
		return nil, err
	}
	c := &Cache{root: root, unlock: unlock, recent: recent{open: map[string]*reading{}}, writing: writing{open: map[string]*written{}}}
	c.limits.Store(&limits)
	if err := c.Clean(); err != nil {
		unlock()
		return nil, err
	}
	return c, nil
}

// Close lets another process have the cache.
func (c *Cache) Close() {
	c.closed.Do(c.early.Lock)
	c.recent.close()
	c.writing.close()
	c.unlock()
}

// SetLimits changes the limits. They hold when something is put there next, or with Clean.
func (c *Cache) SetLimits(l Limits) { c.limits.Store(&l) }

// Used returns the bytes of blocks that are here.
func (c *Cache) Used() int64 { return c.used.Load() }

// Limit returns how many bytes the cache may have now.
func (c *Cache) Limit() int64 {
	l := c.limits.Load()
	if l.Percent > 0 {
		return Room(c.root, Part(c.root, int64(l.Percent), 0))
	}
	return Room(c.root, l.Size)
}

// Room returns how many bytes something of a size may have in a directory now: less than its size the less
// space the disk has, down to none at 2 % (peercache.md 12).
func Room(dir string, size int64) int64 {
	free, total, err := space(dir)
	if err != nil || total <= 0 {
		return size
	}
	k := (float64(free)/float64(total)*100 - 2) / 8
	return int64(float64(size) * min(max(k, 0), 1))
}

// Part returns how many bytes a percentage of a directory's disk is, and the same of otherwise where the size
// of the disk is not known.
func Part(dir string, percent, otherwise int64) int64 {
	_, total, err := space(dir)
	if err != nil || total <= 0 {
		total = otherwise
	}
	return total / 100 * percent
}

func (c *Cache) path(id []byte, suffix string) string {
	name := hex.EncodeToString(id)
	return filepath.Join(c.root, "seg", name[:2], name+suffix)
}

// Files of a segment.
const (
	data = ".dat" // the blocks at their places in the segment
	meta = ".seg" // description
)

// mutex is held by who changes a segment. Readers need none: what they read is checked.
func (c *Cache) mutex(id []byte) *sync.Mutex { return &c.locks[id[0]%byte(len(c.locks))] }

// A description is: the magic, when the segment came, which blocks are here, a checksum of the first two and
// of what follows, and content information of the segment alone. Only the third ever changes.
const (
	magic     = "EBBSEG1\n"
	atCreated = len(magic)
	atBitmap  = atCreated + 8
	atSum     = atBitmap + len(Bitmap{})
	atInfo    = atSum + 4
	maxMeta   = 64 << 10
)

// Bitmap says which blocks of a segment are here.
type Bitmap [64]byte

// Has reports whether block i is here.
func (b *Bitmap) Has(i int) bool {
	return i >= 0 && i < 8*len(b) && b[i/8]&(1<<(i%8)) != 0
}

// Next returns the first block after i that is here, or 0 for none.
func (b *Bitmap) Next(i int) int {
	for i++; i < 8*len(b); i++ {
		if b.Has(i) {
			return i
		}
	}
	return 0
}

// record is a description that was read.
type record struct {
	segment peerdist.Segment
	created time.Time
	held    Bitmap
}

// bytes returns how many bytes of blocks are here.
func (r *record) bytes() int64 {
	var n int64
	for i := range r.segment.Blocks() {
		if r.held.Has(i) {
			_, length := r.segment.Block(i)
			n += int64(length)
		}
	}
	return n
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (r *record) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, magic...), uint64(r.created.UnixNano()))
	sum := crc32.Checksum(b, castagnoli)
	b = append(b, r.held[:]...)
	text := alone(&r.segment)
	return append(binary.BigEndian.AppendUint32(b, crc32.Update(sum, castagnoli, text)), text...)
}

func decode(b []byte) (*record, error) {
	if len(b) < atInfo || string(b[:len(magic)]) != magic {
		return nil, errors.New("no description of a segment")
	}
	sum := crc32.Update(crc32.Checksum(b[:atBitmap], castagnoli), castagnoli, b[atInfo:])
	if sum != binary.BigEndian.Uint32(b[atSum:]) {
		return nil, errors.New("a description of a segment that has changed")
	}
	info, err := peerdist.Decode(b[atInfo:])
	if err != nil {
		return nil, err
	}
	if len(info.Segments) != 1 {
		return nil, errors.New("a description of several segments")
	}
	return &record{segment: info.Segments[0], created: time.Unix(0, int64(binary.BigEndian.Uint64(b[atCreated:]))), held: Bitmap(b[atBitmap:])}, nil
}

// load reads a segment's description. A segment that is too old is not here.
func (c *Cache) load(id []byte) (*record, error) {
	if len(id) == 0 || len(id) > peerdist.MaxID {
		return nil, ErrNotHeld
	}
	f, err := open(c.path(id, meta), os.O_RDONLY)
	if err != nil {
		return nil, ErrNotHeld
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil || i.Size() > maxMeta {
		return nil, ErrNotHeld
	}
	b := make([]byte, i.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, ErrNotHeld
	}
	r, err := decode(b)
	if err != nil || c.old(r.created) {
		return nil, ErrNotHeld
	}
	return r, nil
}

// old reports whether a segment that came at t is too old, or came in the future: the clock was wrong then
// or is now, and its age is not known.
func (c *Cache) old(t time.Time) bool {
	age := time.Since(t)
	return age > c.limits.Load().MaxAge || age < -24*time.Hour
}

// Held returns which blocks of a segment are here; ErrNotHeld if there is none.
func (c *Cache) Held(id []byte) (Bitmap, error) {
	r, err := c.load(id)
	if err != nil {
		return Bitmap{}, err
	}
	if r.held == (Bitmap{}) {
		return Bitmap{}, ErrNotHeld
	}
	return r.held, nil
}

// Look tells of a segment without reading its blocks; ErrNotHeld if there is none of them.
func (c *Cache) Look(id []byte) (Entry, error) {
	r, err := c.load(id)
	if err != nil || r.held == (Bitmap{}) {
		return Entry{}, ErrNotHeld
	}
	return r.entry(id), nil
}

// Block is a block that was read.
type Block struct {
	Data   []byte
	Secret peerdist.Secret // of its segment
	Next   int             // the next block that is here, or 0 for none
	Sealed *Sealed         // Data is encrypted already, and there is no Secret; nil: it is not
}

// Sealed is how a block was encrypted by somebody else: it is passed on as it is.
type Sealed struct {
	Cipher uint32 // as pccrr numbers them
	IV     [16]byte
}

// Read reads block i of a segment, into space if that is long enough, and checks it. It returns ErrNotHeld
// if it is not here, or not any more.
func (c *Cache) Read(id []byte, i int, space []byte) (Block, error) {
	o, err := c.acquire(id)
	if errors.Is(err, fs.ErrNotExist) {
		c.forget(id, i) // it is described, but has no blocks
	}
	if err != nil {
		return Block{}, ErrNotHeld
	}
	defer c.recent.release(o)
	if !o.held.Has(i) || i >= o.segment.Blocks() {
		return Block{}, ErrNotHeld
	}
	at, n := o.segment.Block(i)
	space = slices.Grow(space[:0], n)[:n]
	if _, err := o.file.ReadAt(space, o.begin+int64(at)); err != nil || !o.segment.Verify(i, space) {
		c.forget(id, i)
		return Block{}, ErrNotHeld
	}
	c.recent.touch(o)
	return Block{Data: space, Secret: o.segment.Secret, Next: o.held.Next(i)}, nil
}

// forget says that block i is not here.
func (c *Cache) forget(id []byte, i int) {
	if i < 0 {
		return
	}
	m := c.mutex(id)
	m.Lock()
	defer m.Unlock()
	r, err := c.load(id)
	if err != nil || !r.held.Has(i) {
		return
	}
	_, n := r.segment.Block(i)
	r.held[i/8] &^= 1 << (i % 8)
	if c.mark(id, r) == nil {
		c.used.Add(-int64(n))
	}
}

// mark writes which blocks are here. The segment's mutex is held.
func (c *Cache) mark(id []byte, r *record) error {
	c.recent.drop(id)
	c.writing.drop(id)
	f, err := open(c.path(id, meta), os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(r.held[:], int64(atBitmap))
	return errors.Join(err, f.Close())
}

// ErrUnproven says that the hashes of a segment are not all known, so that nothing shows that they are the
// segment's: whoever described it could give its id to other bytes.
var ErrUnproven = errors.New("a segment with hashes of some blocks only")

// errWrong says that a block is not what it should be.
var errWrong = errors.New("the block has another hash")

// Put keeps block i of a segment. It checks it, so that nothing wrong comes here, whoever sent it. It
// returns ErrUnproven, ErrFull if there is no room, and errors of the disk.
func (c *Cache) Put(s *peerdist.Segment, i int, block []byte) error {
	if s.Known() < s.Blocks() {
		return ErrUnproven
	}
	if !s.Verify(i, block) {
		return fmt.Errorf("block %d: %w", i, errWrong)
	}
	return c.Keep(s, i, block)
}

// Keep is Put for a block that the caller has verified, which costs half the time. It is checked when it is read.
func (c *Cache) Keep(s *peerdist.Segment, i int, block []byte) error {
	if s.Known() < s.Blocks() {
		return ErrUnproven
	}
	if err := c.room(int64(len(block))); err != nil {
		return err
	}
	defer c.coming.Add(-int64(len(block)))
	id := s.ID()
	m := c.mutex(id)
	m.Lock()
	defer m.Unlock()
	w, err := c.writer(id, s)
	if err != nil {
		return err
	}
	if !w.held.Has(i) {
		at, _ := s.Block(i)
		if _, err = w.data.WriteAt(block, int64(at)); err == nil {
			w.held[i/8] |= 1 << (i % 8)
			c.recent.drop(id)
			_, err = w.meta.WriteAt(w.held[:], int64(atBitmap))
		}
		if err == nil {
			c.used.Add(int64(len(block)))
		}
	}
	if err != nil || s.Blocks() == 1 {
		if !c.writing.drop(id) {
			err = errors.Join(err, w.close())
		}
		return err
	}
	c.stay(id, w)
	return nil
}

// PutFile keeps a segment whose blocks are all in a file, at the segment's offset. Where the file system
// can, they are shared with the file until that changes, and cost no space; they are checked when they are
// read, then. Where it cannot they are copied, those that are right.
func (c *Cache) PutFile(s *peerdist.Segment, f *os.File) error {
	if s.Known() < s.Blocks() {
		return ErrUnproven
	}
	if err := c.room(int64(s.Length)); err != nil {
		return err
	}
	done, err := c.share(s, f)
	c.coming.Add(-int64(s.Length))
	if done || err != nil {
		return err
	}
	var space []byte
	for i := range s.Blocks() {
		at, n := s.Block(i)
		space = slices.Grow(space[:0], n)[:n]
		if _, err := f.ReadAt(space, s.Offset+int64(at)); err != nil {
			return err
		}
		if s.Verify(i, space) {
			if err := c.Put(s, i, space); err != nil {
				return err
			}
		}
	}
	return nil
}

// share clones the segment from a file, if no block of it is here. It reports whether it did.
func (c *Cache) share(s *peerdist.Segment, f *os.File) (bool, error) {
	id := s.ID()
	m := c.mutex(id)
	m.Lock()
	defer m.Unlock()
	r, err := c.describe(id, s)
	if err != nil || r.held != (Bitmap{}) || c.clone(id, s, f) != nil {
		return false, err
	}
	for i := range s.Blocks() {
		r.held[i/8] |= 1 << (i % 8)
	}
	if err := c.mark(id, r); err != nil {
		return false, err
	}
	c.used.Add(int64(s.Length))
	return true, nil
}

// Share makes a segment share the space on the disk with a finished file that has it at the segment's offset, until that
// changes. Segments that are not here whole, or are hardly longer than a block of the disk, stay as they are. It returns an
// error where the file system cannot.
func (c *Cache) Share(s *peerdist.Segment, f *os.File) error {
	if s.Length < 2*diskBlock {
		return nil
	}
	id := s.ID()
	m := c.mutex(id)
	m.Lock()
	defer m.Unlock()
	r, err := c.load(id)
	if err != nil || r.bytes() < int64(s.Length) || r.segment.Length != s.Length {
		return nil
	}
	defer c.recent.drop(id)
	c.writing.drop(id)
	return c.clone(id, s, f)
}

// clone makes the file of a segment's blocks anew, of the space of a file. What is cloned begins and ends with the blocks of
// the disk; the rest is copied. The segment's mutex is held.
func (c *Cache) clone(id []byte, s *peerdist.Segment, f *os.File) error {
	tmp, err := os.CreateTemp(filepath.Join(c.root, "new"), "*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	begin, end := s.Offset, s.Offset+int64(s.Length)
	pad := begin % diskBlock
	if pad > 0 && s.Blocks() > 1 {
		return errors.ErrUnsupported
	}
	first, last := begin-pad, end
	if pad > 0 {
		first += diskBlock
	}
	i, err := f.Stat()
	if err != nil {
		return err
	}
	if end < i.Size() {
		last -= end % diskBlock
	}
	if first >= last {
		return errors.ErrUnsupported
	}
	if err := clone(tmp, f, first, last-first, first-begin+pad); err != nil {
		return err
	}
	for _, part := range [][2]int64{{begin, first}, {last, end}} {
		space := make([]byte, part[1]-part[0])
		if _, err := f.ReadAt(space, part[0]); err != nil {
			return err
		}
		if _, err := tmp.WriteAt(space, part[0]-begin+pad); err != nil {
			return err
		}
	}
	return os.Rename(tmp.Name(), c.path(id, data))
}

// diskBlock is what clones begin and end with, in bytes; disks with larger blocks refuse them.
const diskBlock = 4096

// describe returns the description of a segment, and writes it if there is none. The segment's mutex is
// held.
func (c *Cache) describe(id []byte, s *peerdist.Segment) (*record, error) {
	r, err := c.load(id)
	switch last := s.Blocks() - 1; {
	case err != nil: // none, or one that is of no use
		if err := c.remove(id); err != nil {
			return nil, err
		}
		return c.describeAnew(id, s)
	case r.segment.Length == s.Length:
		return r, nil
	case r.held.Has(last):
		return nil, errors.New("a segment of another length than the one in the cache")
	}
	// Equal ids have equal hashes, but only the last block proves the length. Until it is here the last word
	// counts, or a wrong length would keep the right one out.
	c.recent.drop(id)
	c.writing.drop(id)
	r.segment = *s
	name := c.path(id, meta)
	tmp, err := os.CreateTemp(filepath.Join(c.root, "new"), "*") // with mode 0600
	if err != nil {
		return nil, err
	}
	_, err = tmp.Write(r.append(nil))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return nil, err
	}
	return r, nil
}

// describeAnew writes the description of a segment of which nothing is here. Half of one has a wrong checksum,
// and is none.
func (c *Cache) describeAnew(id []byte, s *peerdist.Segment) (*record, error) {
	r := &record{created: time.Now(), segment: *s}
	name := c.path(id, meta)
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := open(name, flags)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return nil, err
		}
		f, err = open(name, flags)
	}
	if err != nil {
		return nil, err
	}
	_, err = f.Write(r.append(nil))
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(name)
		return nil, err
	}
	return r, nil
}

// remove removes a segment's files, the description first: blocks without one are nothing. The segment's
// mutex is held.
func (c *Cache) remove(id []byte) error {
	c.recent.drop(id)
	c.writing.drop(id)
	for _, suffix := range []string{meta, data} {
		if err := os.Remove(c.path(id, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Delete removes a segment, if it is here.
func (c *Cache) Delete(id []byte) error {
	if len(id) == 0 || len(id) > peerdist.MaxID {
		return nil
	}
	m := c.mutex(id)
	m.Lock()
	defer m.Unlock()
	if r, err := c.load(id); err == nil {
		c.used.Add(-r.bytes())
	}
	return c.remove(id)
}

// Clear removes all segments.
func (c *Cache) Clear() error {
	all, err := c.List()
	for _, e := range all {
		err = errors.Join(err, c.Delete(e.ID))
	}
	return errors.Join(err, c.Clean())
}

// Entry is a segment in a list.
type Entry struct {
	ID      []byte
	Length  int       // bytes of the segment
	Held    int64     // bytes that are here
	Blocks  int       // that are here
	Created time.Time // when the first of them came
	Used    time.Time // the last time, to the hour
}

// entry describes the segment, but for its last use.
func (r *record) entry(id []byte) Entry {
	e := Entry{ID: id, Length: r.segment.Length, Held: r.bytes(), Created: r.created, Used: r.created}
	for _, b := range r.held {
		e.Blocks += mathbits.OnesCount8(b)
	}
	return e
}

// List returns the segments of which blocks are here, as far as they are not too old.
func (c *Cache) List() ([]Entry, error) {
	var out []Entry
	err := c.Walk(func(e Entry) error {
		out = append(out, e)
		return nil
	})
	return out, err
}

// Walk calls f with each of them, in the order of their ids. An error of f ends it.
func (c *Cache) Walk(f func(Entry) error) error {
	return c.each(func(id []byte, suffix string) error {
		if suffix != meta {
			return nil
		}
		r, err := c.load(id)
		if err != nil || r.held == (Bitmap{}) {
			return nil
		}
		e := r.entry(id)
		if i, err := os.Lstat(c.path(id, data)); err == nil {
			e.Used = i.ModTime()
		}
		return f(e)
	})
}

// each calls f with each file of a segment.
func (c *Cache) each(f func(id []byte, suffix string) error) error {
	return filepath.WalkDir(filepath.Join(c.root, "seg"), func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed in the meantime
		}
		if err != nil || d.IsDir() {
			return err
		}
		suffix := filepath.Ext(name)
		id, err := hex.DecodeString(strings.TrimSuffix(d.Name(), suffix))
		if err != nil || len(id) == 0 || len(id) > peerdist.MaxID || c.path(id, suffix) != name || suffix != meta && suffix != data {
			return os.Remove(name) // it is not ours, and this directory is
		}
		return f(id, suffix)
	})
}

// room makes sure that n bytes more may be put here. They are coming until the caller takes them from that.
func (c *Cache) room(n int64) error {
	limit := c.Limit()
	if n > limit {
		return ErrFull
	}
	if full := c.used.Load() + c.coming.Add(n); full <= limit {
		if full > limit-limit/slack/2 && c.early.TryLock() {
			// So that nobody who comes has to wait for it, mostly.
			go func() {
				defer c.early.Unlock()
				_ = c.Clean() // what goes wrong is told when the room is needed
			}()
		}
		return nil
	}
	err := c.Clean()
	if err == nil && c.used.Load()+c.coming.Load() > limit { // more is coming than the limit
		err = ErrFull
	}
	if err != nil {
		c.coming.Add(-n)
	}
	return err
}

// slack is what is made room for when the limit is reached, so that this is not done for each block.
const slack = 20 // a twentieth of the limit

// Clean removes what is too old, what is left of segments, and what was not used for the longest time until
// the limit holds and there is room for what is coming, and a little. It reads the whole directory.
func (c *Cache) Clean() error {
	c.clean.Lock()
	defer c.clean.Unlock()
	before := c.used.Load()
	var all []kept
	var used int64
	err := c.each(func(id []byte, suffix string) error {
		k, err := c.sweep(id, suffix)
		if k.id != nil {
			all = append(all, k)
			used += k.bytes
		}
		return err
	})
	if err != nil {
		return err
	}
	c.used.Add(used - before) // what came meanwhile may count twice, but is not missed
	limit := c.Limit()
	limit -= max(limit/slack, c.coming.Load())
	if c.used.Load() <= limit {
		return nil
	}
	slices.SortFunc(all, func(a, b kept) int { return a.used.Compare(b.used) })
	for _, k := range all {
		if c.used.Load() <= limit {
			break
		}
		if err := c.Delete(k.id); err != nil {
			return err
		}
	}
	return nil
}

// kept is what cleaning needs to know of a segment.
type kept struct {
	id    []byte
	used  time.Time
	bytes int64
}

// sweep removes a file that belongs to no segment, or to one that is too old or has no blocks. Of the description of any other
// segment it returns what it says.
func (c *Cache) sweep(id []byte, suffix string) (kept, error) {
	m := c.mutex(id)
	m.Lock()
	defer m.Unlock()
	if suffix == data {
		if _, err := os.Lstat(c.path(id, meta)); err == nil {
			return kept{}, nil // it was or will be looked at with that
		}
		return kept{}, c.remove(id)
	}
	if r, err := c.load(id); err == nil && r.held != (Bitmap{}) {
		if i, err := os.Lstat(c.path(id, data)); err == nil && i.Mode().IsRegular() {
			return kept{id, i.ModTime(), r.bytes()}, nil
		}
	}
	return kept{}, c.remove(id)
}
