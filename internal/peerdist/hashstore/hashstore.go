// Package hashstore keeps the hashes of files that content information is made of, for a server: to make
// them costs a read of the file. It makes them too, one reading for all who want them, in the background of
// whatever else the machine has to do.
//
// There is no secret in it: those of segments are derived for each answer, so that a stolen store opens
// nothing and a new secret costs no reading (peercache.md 5). What was written is held against a checksum
// when it is read, and need not be made durable.
package hashstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// Key says which version of which file it is. It must change whenever a byte of the file does.
type Key struct {
	Device, Inode     uint64
	Size              int64
	Modified, Changed int64 // Unix nanoseconds: of the content, and of the inode
}

// Open opens a file to read it to its end, and says which version of it that is.
type Open func() (*os.File, Key, error)

// Limits are those of a store.
type Limits struct {
	Size   int64         // bytes on disk
	MaxAge time.Duration // for how long what nobody uses is kept, at least 1 h
}

// ErrNotReady says that hashes are being made, or will be if the caller asks later.
var ErrNotReady = errors.New("the file's hashes are not ready")

const (
	maxWaiting = 1024 // files that wait for their turn; others have to be asked for again
	touchAfter = time.Hour
	cleanAfter = time.Hour
	slack      = 20 // a twentieth of the limit is made free when it is reached
)

// Store is a directory of hashes. One process has it.
type Store struct {
	root   string
	limits Limits
	log    *slog.Logger
	life   context.Context
	end    context.CancelFunc
	unlock func()
	work   sync.WaitGroup
	used   atomic.Int64
	hashed atomic.Int64

	mu      sync.Mutex // guards what follows
	jobs    map[string]*job
	queue   []*job
	running int
	cleaned time.Time
}

// job is the hashing of a file.
type job struct {
	name      string
	key       Key
	algorithm peerdist.Algorithm
	open      Open
	done      chan struct{} // closed when the next two are set
	hashes    *peerdist.Hashes
	err       error
}

// New opens or makes a store. It returns an error if another process has it open.
func New(root string, l Limits, log *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(root, "new"), 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(root, 0o700); err != nil {
		return nil, err
	}
	unlock, err := localfile.Lock(filepath.Join(root, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock the hashes %s: %w", root, err)
	}
	// What a killed process was about to write.
	half, err := filepath.Glob(filepath.Join(root, "new", "*"))
	for _, name := range half {
		err = errors.Join(err, os.Remove(name))
	}
	s := &Store{root: root, limits: l, log: log, unlock: unlock, jobs: map[string]*job{}, cleaned: time.Now()}
	s.life, s.end = context.WithCancel(context.Background())
	if err = errors.Join(err, s.clean()); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close ends what is going on, and lets another process have the store.
func (s *Store) Close() {
	s.end()
	s.work.Wait()
	s.unlock()
}

// Stats are what the store has and does.
type Stats struct {
	Used    int64 // bytes on disk, as far as is known between two cleanings
	Waiting int   // files that are hashed or wait for it
	Hashed  int64 // bytes of files that were hashed since the start
}

// Stats returns what the store has and does.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Used: s.used.Load(), Waiting: len(s.jobs), Hashed: s.hashed.Load()}
}

// Hashes returns the hashes of a version of a file. If they are not here they are made, once for all who
// ask, and the caller waits for that as long as he likes: then it is ErrNotReady. Other errors are those of
// reading the file.
func (s *Store) Hashes(ctx context.Context, k Key, a peerdist.Algorithm, open Open, wait time.Duration) (*peerdist.Hashes, error) {
	name := k.name(a)
	if h, err := s.load(name, k, a); err == nil {
		return h, nil
	}
	j := s.enqueue(&job{name: name, key: k, algorithm: a, open: open, done: make(chan struct{})})
	if j == nil || wait <= 0 {
		return nil, ErrNotReady
	}
	enough := time.NewTimer(wait)
	defer enough.Stop()
	select {
	case <-j.done:
		return j.hashes, j.err
	case <-enough.C:
	case <-ctx.Done():
	}
	return nil, ErrNotReady
}

// enqueue returns the job of a file: the one that there is, or the given one. It returns nil if too many
// wait already, or the store is closed.
func (s *Store) enqueue(j *job) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.jobs[j.name]; old != nil {
		return old
	}
	if len(s.queue) >= maxWaiting || s.life.Err() != nil {
		return nil
	}
	s.jobs[j.name] = j
	s.queue = append(s.queue, j)
	// Half of the cores at most, so that hashing never keeps a server from serving.
	if s.running < max(1, runtime.GOMAXPROCS(0)/2) {
		s.running++
		s.work.Go(s.run)
	}
	return j
}

// run makes hashes until none are wanted.
func (s *Store) run() {
	yieldDisk()
	for {
		s.mu.Lock()
		if len(s.queue) == 0 || s.life.Err() != nil {
			s.running--
			s.mu.Unlock()
			return
		}
		j := s.queue[0]
		s.queue = slices.Delete(s.queue, 0, 1)
		s.mu.Unlock()
		j.hashes, j.err = s.make(j)
		if j.err != nil && s.life.Err() == nil {
			s.log.Info("a file's hashes could not be made", "err", j.err)
		}
		s.mu.Lock()
		delete(s.jobs, j.name)
		s.mu.Unlock()
		close(j.done)
	}
}

// errChanged says that the file that was read is another version than the one that hashes were wanted of.
var errChanged = errors.New("the file changes while it is hashed")

// make hashes a file and keeps the result.
func (s *Store) make(j *job) (*peerdist.Hashes, error) {
	if h, err := s.load(j.name, j.key, j.algorithm); err == nil {
		return h, nil // made between somebody's look and his place in the queue
	}
	f, k, err := j.open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if k != j.key {
		return nil, errChanged
	}
	h, err := peerdist.Generate(s.life, f, j.algorithm)
	if err != nil {
		return nil, err
	}
	s.hashed.Add(h.Size)
	// Whoever wrote to the file in the meantime changed its dates, and whoever put another in its place gave
	// that the name.
	again, k, err := j.open()
	if err != nil {
		return nil, err
	}
	_ = again.Close()
	if k != j.key || h.Size != k.Size {
		return nil, errChanged
	}
	if err := s.save(j.name, encode(j.key, h)); err != nil {
		s.log.Warn("a file's hashes could not be kept", "err", err)
	}
	return h, nil
}

// name is what a file's hashes are called on disk. What was cut in another way has another name.
func (k Key) name(a peerdist.Algorithm) string {
	sum := sha256.Sum256(k.append(nil, a))
	name := hex.EncodeToString(sum[:])
	return filepath.Join(name[:2], name)
}

// The form of a file: the magic, what the name is made of, how many segments there are; each segment with its
// length, its hash of data and those of its blocks; the SHA-256 of all before.
const (
	magic  = "EBBHASH1"
	header = len(magic) + 5*8 + 4 + 4
)

var be = binary.BigEndian

func (k Key) append(b []byte, a peerdist.Algorithm) []byte {
	b = append(b, magic...)
	for _, n := range []uint64{k.Device, k.Inode, uint64(k.Size), uint64(k.Modified), uint64(k.Changed)} {
		b = be.AppendUint64(b, n)
	}
	return be.AppendUint32(be.AppendUint32(b, uint32(a)), peerdist.CutVersion)
}

func encode(k Key, h *peerdist.Hashes) []byte {
	b := k.append(nil, h.Algorithm)
	b = be.AppendUint32(b, uint32(len(h.Segments)))
	for i := range h.Segments {
		g := &h.Segments[i]
		b = be.AppendUint32(b, uint32(g.Length))
		b = append(append(b, g.HashOfData...), g.Blocks...)
	}
	return seal(b)
}

// seal appends the checksum.
func seal(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

var errDamaged = errors.New("hashes of a file that are damaged, or of another")

// decode reads what encode wrote of a version of a file. The result keeps parts of b.
func decode(b []byte, k Key, a peerdist.Algorithm) (*peerdist.Hashes, error) {
	if len(b) < header+4+sha256.Size || string(b[:header]) != string(k.append(nil, a)) {
		return nil, errDamaged
	}
	b, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if sha256.Sum256(b) != [sha256.Size]byte(sum) {
		return nil, errDamaged
	}
	size := a.Size()
	n := int64(be.Uint32(b[header:]))
	b = b[header+4:]
	if n < 1 || n > int64(len(b)/(4+size)) {
		return nil, errDamaged
	}
	h := &peerdist.Hashes{Algorithm: a, Segments: make([]peerdist.SegmentHashes, n)}
	for i := range h.Segments {
		if len(b) < 4+size {
			return nil, errDamaged
		}
		length, last := int64(be.Uint32(b)), i == len(h.Segments)-1
		blocks := 0
		switch {
		case length < 1, a.Version() == 2 && length > peerdist.MaxSegment2, length > peerdist.SegmentSize:
			return nil, errDamaged
		case a.Version() == 1:
			if !last && length != peerdist.SegmentSize {
				return nil, errDamaged
			}
			blocks = int((length + peerdist.BlockSize - 1) / peerdist.BlockSize * int64(size))
		}
		b = b[4:]
		if len(b) < size+blocks {
			return nil, errDamaged
		}
		h.Segments[i] = peerdist.SegmentHashes{Length: int(length), HashOfData: b[:size:size], Blocks: b[size : size+blocks : size+blocks]}
		b = b[size+blocks:]
		h.Size += length
	}
	if len(b) != 0 || h.Size != k.Size {
		return nil, errDamaged
	}
	return h, nil
}

// load reads what is kept.
func (s *Store) load(name string, k Key, a peerdist.Algorithm) (*peerdist.Hashes, error) {
	name = filepath.Join(s.root, name)
	i, err := os.Lstat(name)
	if err != nil || !i.Mode().IsRegular() || s.old(i) {
		return nil, ErrNotReady
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	h, err := decode(b, k, a)
	if err != nil {
		return nil, err
	}
	if now := time.Now(); now.Sub(i.ModTime()) > touchAfter {
		_ = os.Chtimes(name, now, now)
	}
	return h, nil
}

// old reports whether nobody used a file for too long, or when is not known, as the clock was wrong or is.
func (s *Store) old(i fs.FileInfo) bool {
	age := time.Since(i.ModTime())
	return age > s.limits.MaxAge || age < -24*time.Hour
}

// save keeps hashes under a name, all or nothing.
func (s *Store) save(name string, b []byte) error {
	if int64(len(b)) > s.limits.Size {
		return fmt.Errorf("%d bytes of hashes; %d are allowed in all", len(b), s.limits.Size)
	}
	name = filepath.Join(s.root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Join(s.root, "new"), "*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return err
	}
	used := s.used.Add(int64(len(b)))
	s.mu.Lock()
	due := used > s.limits.Size || time.Since(s.cleaned) > cleanAfter
	if due {
		s.cleaned = time.Now()
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.clean()
}

// clean removes what nobody used for too long, and then what was not used for the longest time until the limit
// holds and a little is free.
func (s *Store) clean() error {
	type entry struct {
		name string
		size int64
		used time.Time
	}
	var all []entry
	var used int64
	err := filepath.WalkDir(s.root, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() || filepath.Dir(name) == s.root || filepath.Dir(name) == filepath.Join(s.root, "new") {
			return err
		}
		i, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if s.old(i) {
			return os.Remove(name)
		}
		all = append(all, entry{name, i.Size(), i.ModTime()})
		used += i.Size()
		return nil
	})
	if err != nil {
		return err
	}
	if limit := s.limits.Size; used > limit-limit/slack {
		slices.SortFunc(all, func(a, b entry) int { return a.used.Compare(b.used) })
		for _, e := range all {
			if used <= limit-limit/slack {
				break
			}
			if err := os.Remove(e.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			used -= e.size
		}
	}
	s.used.Store(used)
	return nil
}
