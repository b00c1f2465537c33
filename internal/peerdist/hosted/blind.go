package hosted

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
)

// Blind is a directory of blocks as others sealed them. It has no key of any, and cannot tell what is in
// them or whether they are right.
//
// The file system is its index: a segment is a directory, named by its public id, and a block a file in it,
// named by its index. A block is held against a checksum when it is read, and need not be made durable.
type Blind struct {
	root   string
	limits cache.Limits
	used   atomic.Int64 // bytes of files, as far as is known between two cleanings
	clean  sync.Mutex   // held by who cleans
	unlock func()
}

// The form of a block's file: the magic, the cipher and its vector, a checksum of all else, the data.
const (
	blindMagic  = "EBBSEAL1"
	atVector    = len(blindMagic) + 4
	atSum       = atVector + 16
	blindHeader = atSum + 4
	maxSealed   = peerdist.MaxSegment2 + 16 // bytes of data; those of version 1 are shorter
	touchAfter  = time.Hour
	slack       = 20 // a twentieth of the limit is made free when it is reached
)

// OpenBlind opens or makes a directory of blocks. It returns an error if another process has it open.
func OpenBlind(root string, l cache.Limits) (*Blind, error) {
	for _, dir := range []string{root, filepath.Join(root, "seg"), filepath.Join(root, "new")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
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
	b := &Blind{root: root, limits: l, unlock: unlock}
	if err = errors.Join(err, b.Clean()); err != nil {
		unlock()
		return nil, err
	}
	return b, nil
}

// Close lets another process have the directory.
func (b *Blind) Close() { b.unlock() }

// Used returns the bytes that are here.
func (b *Blind) Used() int64 { return b.used.Load() }

// dir returns where a segment is; empty for what is no id of a segment that may be here.
func (b *Blind) dir(id []byte) string {
	if len(id) != idSize {
		return ""
	}
	name := hex.EncodeToString(id)
	return filepath.Join(b.root, "seg", name[:2], name)
}

// idSize is that of the ids of all segments that are offered to a blind cache.
const idSize = 32

// index reads the name of a block's file.
func index(name string) (int, bool) {
	i, err := strconv.Atoi(name)
	return i, err == nil && i >= 0 && i < pccrr.MaxBlocks && strconv.Itoa(i) == name
}

// Held implements pccrr.Store.
func (b *Blind) Held(id []byte) (held cache.Bitmap, err error) {
	dir := b.dir(id)
	if dir == "" {
		return held, cache.ErrNotHeld
	}
	list, _ := os.ReadDir(dir) // there is none, mostly
	some := false
	for _, e := range list {
		i, ok := index(e.Name())
		if !ok {
			continue
		}
		if info, err := e.Info(); err == nil && !b.old(info) {
			held[i/8] |= 1 << (i % 8)
			some = true
		}
	}
	if !some {
		return held, cache.ErrNotHeld
	}
	return held, nil
}

// old reports whether a block is here for too long, or for how long is not known.
func (b *Blind) old(i fs.FileInfo) bool {
	age := time.Since(i.ModTime())
	return age > b.limits.MaxAge || age < -24*time.Hour
}

// Read implements pccrr.Store. What is damaged is removed.
func (b *Blind) Read(id []byte, i int, space []byte) (cache.Block, error) {
	dir := b.dir(id)
	if dir == "" || i < 0 || i >= pccrr.MaxBlocks {
		return cache.Block{}, cache.ErrNotHeld
	}
	name := filepath.Join(dir, strconv.Itoa(i))
	f, err := os.Open(name)
	if err != nil {
		return cache.Block{}, cache.ErrNotHeld
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || b.old(info) {
		return cache.Block{}, cache.ErrNotHeld
	}
	sealed, data, err := readBlind(f, info.Size(), id, i, space)
	if err != nil {
		b.remove(name, info.Size())
		return cache.Block{}, cache.ErrNotHeld
	}
	b.touch(dir)
	return cache.Block{Data: data, Sealed: sealed, Next: b.next(id, i)}, nil
}

// next returns the next block that is here. Most often it is the one that follows.
func (b *Blind) next(id []byte, i int) int {
	if i+1 < pccrr.MaxBlocks {
		if _, err := os.Lstat(filepath.Join(b.dir(id), strconv.Itoa(i+1))); err == nil {
			return i + 1
		}
	}
	if i == 0 { // most segments have one block
		if list, err := os.ReadDir(b.dir(id)); err == nil && len(list) == 1 {
			return 0
		}
	}
	held, _ := b.Held(id)
	return held.Next(i)
}

// touch remembers that a segment was used, to the hour.
func (b *Blind) touch(dir string) {
	if i, err := os.Lstat(dir); err == nil && time.Since(i.ModTime()).Abs() > touchAfter {
		now := time.Now()
		_ = os.Chtimes(dir, now, now)
	}
}

func (b *Blind) remove(name string, size int64) {
	if os.Remove(name) == nil {
		b.used.Add(-size)
	}
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	be         = binary.BigEndian
	errBlind   = errors.New("a sealed block that is damaged, or another")
)

// blindSum is the checksum of a block in the place that it is to be in.
func blindSum(head, data, id []byte, i int) uint32 {
	sum := crc32.Checksum(head, castagnoli)
	sum = crc32.Update(sum, castagnoli, be.AppendUint32(slices.Clone(id), uint32(i)))
	return crc32.Update(sum, castagnoli, data)
}

func encodeBlind(id []byte, i int, s *cache.Sealed, data []byte) []byte {
	b := make([]byte, 0, blindHeader+len(data))
	b = be.AppendUint32(append(b, blindMagic...), s.Cipher)
	b = append(b, s.IV[:]...)
	b = be.AppendUint32(b, blindSum(b, data, id, i))
	return append(b, data...)
}

// readBlind reads the n bytes that encodeBlind wrote, the data into space if that is long enough.
func readBlind(r io.ReaderAt, n int64, id []byte, i int, space []byte) (*cache.Sealed, []byte, error) {
	if n <= int64(blindHeader) || n > int64(blindHeader+maxSealed) {
		return nil, nil, errBlind
	}
	var head [blindHeader]byte
	data := slices.Grow(space[:0], int(n)-blindHeader)[:int(n)-blindHeader]
	_, err := r.ReadAt(head[:], 0)
	if err == nil {
		_, err = r.ReadAt(data, int64(blindHeader))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	if string(head[:len(blindMagic)]) != blindMagic || be.Uint32(head[atSum:]) != blindSum(head[:atSum], data, id, i) {
		return nil, nil, errBlind
	}
	return &cache.Sealed{Cipher: be.Uint32(head[len(blindMagic):]), IV: [16]byte(head[atVector:])}, data, nil
}

// Put keeps a block that somebody else sealed. What is here already, and not too old, stays. It returns cache.ErrFull if there
// is no room, and errors of the disk.
func (b *Blind) Put(id []byte, i int, s *cache.Sealed, data []byte) error {
	dir := b.dir(id)
	if dir == "" || i < 0 || i >= pccrr.MaxBlocks || len(data) == 0 || len(data) > maxSealed {
		return fmt.Errorf("a block of %d bytes of a segment with an id of %d", len(data), len(id))
	}
	text := encodeBlind(id, i, s, data)
	if err := b.room(int64(len(text))); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Join(b.root, "new"), "*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	name := filepath.Join(dir, strconv.Itoa(i))
	was := int64(0)
	if i, err := os.Lstat(name); err == nil {
		if !b.old(i) {
			return nil
		}
		was = i.Size()
	}
	if err = os.Rename(tmp.Name(), name); err == nil {
		b.used.Add(int64(len(text)) - was)
	}
	return err
}

// limit returns how many bytes may be here now.
func (b *Blind) limit() int64 { return cache.Room(b.root, b.limits.Size) }

// room makes sure that n bytes more may be put here.
func (b *Blind) room(n int64) error {
	limit := b.limit()
	if n > limit {
		return cache.ErrFull
	}
	if b.used.Load()+n <= limit {
		return nil
	}
	if err := b.sweep(n); err != nil {
		return err
	}
	if b.used.Load()+n > limit { // what is here cannot be removed
		return cache.ErrFull
	}
	return nil
}

// Clean removes blocks that are too old, and then the segments that were not used for the longest time
// until the limit holds and a little is free. It reads the whole directory.
func (b *Blind) Clean() error { return b.sweep(0) }

// sweep is Clean that makes room for n bytes at least.
func (b *Blind) sweep(n int64) error {
	b.clean.Lock()
	defer b.clean.Unlock()
	before := b.used.Load()
	type segment struct {
		dir  string
		used time.Time
		size int64
	}
	var all []segment
	var used int64
	dirs, err := filepath.Glob(filepath.Join(b.root, "seg", "??", "*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		i, err := os.Lstat(dir)
		list, errDir := os.ReadDir(dir)
		if err != nil || errDir != nil {
			continue
		}
		s := segment{dir: dir, used: i.ModTime()}
		for _, e := range list {
			i, err := e.Info()
			if err != nil {
				continue
			}
			if _, ok := index(e.Name()); !ok || b.old(i) {
				_ = os.RemoveAll(filepath.Join(dir, e.Name()))
				continue
			}
			s.size += i.Size()
		}
		if s.size == 0 {
			_ = os.Remove(dir) // fails if a block has just come
			continue
		}
		_ = os.Chtimes(dir, s.used, s.used) // to remove blocks is no use of it
		all = append(all, s)
		used += s.size
	}
	limit := b.limit()
	if limit -= max(limit/slack, n); used > limit {
		slices.SortFunc(all, func(a, b segment) int { return a.used.Compare(b.used) })
		for _, s := range all {
			if used <= limit {
				break
			}
			if err := os.RemoveAll(s.dir); err != nil {
				return err
			}
			used -= s.size
		}
	}
	b.used.Add(used - before) // what came meanwhile may count twice, but is not missed
	return nil
}
