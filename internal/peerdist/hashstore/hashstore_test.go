package hashstore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

var roomy = Limits{Size: 1 << 30, MaxAge: 24 * time.Hour}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// content is a file and how often it was opened.
type content struct {
	t      *testing.T
	name   string
	opened atomic.Int32
	before func() // called before each opening
}

func newContent(t *testing.T, b []byte) *content {
	t.Helper()
	c := &content{t: t, name: filepath.Join(t.TempDir(), "file"), before: func() {}}
	c.write(b)
	return c
}

func (c *content) write(b []byte) {
	c.t.Helper()
	if err := os.WriteFile(c.name, b, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *content) open() (*os.File, Key, error) {
	c.opened.Add(1)
	c.before()
	f, err := os.Open(c.name)
	if err != nil {
		return nil, Key{}, err
	}
	i, err := f.Stat()
	if err != nil {
		return nil, Key{}, err
	}
	v := localfile.VersionOf(i)
	return f, Key{Inode: v.Inode, Size: v.Size, Modified: v.Modified, Changed: v.Changed}, nil
}

func (c *content) key() Key {
	c.t.Helper()
	f, k, err := c.open()
	if err != nil {
		c.t.Fatal(err)
	}
	_ = f.Close()
	c.opened.Add(-1)
	return k
}

func open(t *testing.T, root string, l Limits) *Store {
	t.Helper()
	s, err := New(root, l, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	t.Cleanup(func() { once.Do(s.Close) })
	return s
}

// hashes waits for the hashes of a file.
func hashes(t *testing.T, s *Store, c *content, a peerdist.Algorithm) *peerdist.Hashes {
	t.Helper()
	h, err := s.Hashes(context.Background(), c.key(), a, c.open, patience)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func same(t *testing.T, got *peerdist.Hashes, b []byte) {
	t.Helper()
	want, err := peerdist.Generate(context.Background(), bytes.NewReader(b), got.Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(Key{}, want), encode(Key{}, got)) {
		t.Error("other hashes than the file has")
	}
}

func TestHashesAreMadeOnceAndKept(t *testing.T) {
	root := filepath.Join(t.TempDir(), "hashes")
	for a, sizes := range map[peerdist.Algorithm][]int{
		peerdist.SHA256:          {1, peerdist.BlockSize, 1<<20 + 1, peerdist.SegmentSize + 70001},
		peerdist.SHA512:          {1<<20 + 1},
		peerdist.TruncatedSHA512: {1, 1<<20 + 1},
	} {
		for _, n := range sizes {
			b := random(n)
			c := newContent(t, b)
			s, err := New(root, roomy, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Hashes(t.Context(), c.key(), a, c.open, 0); !errors.Is(err, ErrNotReady) {
				t.Fatalf("without waiting: %v", err)
			}
			same(t, hashes(t, s, c, a), b)
			s.Close()
			// Another start reads what this one wrote.
			s, err = New(root, roomy, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			before := c.opened.Load()
			h, err := s.Hashes(t.Context(), c.key(), a, c.open, 0)
			if err != nil || c.opened.Load() != before {
				t.Fatalf("after a restart: %v, and the file was opened %d times", err, c.opened.Load()-before)
			}
			same(t, h, b)
			s.Close()
		}
	}
	i, err := os.Stat(root)
	if err != nil || i.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v %v", i.Mode(), err)
	}
}

func TestOneReadingForAllWhoAsk(t *testing.T) {
	c := newContent(t, random(1<<20))
	k := c.key()
	gate := make(chan struct{})
	c.before = func() { <-gate }
	s := open(t, t.TempDir(), roomy)
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, err := s.Hashes(context.Background(), k, peerdist.SHA256, c.open, patience); err != nil {
				t.Error(err)
			}
		})
	}
	// Whoever does not wait gets no answer, and makes no second job.
	for range 20 {
		if _, err := s.Hashes(t.Context(), k, peerdist.SHA256, c.open, 0); !errors.Is(err, ErrNotReady) {
			t.Errorf("%v before it is read", err)
		}
	}
	if n := s.Stats().Waiting; n != 1 {
		t.Errorf("%d files wait, want 1", n)
	}
	close(gate)
	wait.Wait()
	if n := c.opened.Load(); n != 2 { // once to read, once to see whether it changed
		t.Errorf("the file was opened %d times", n)
	}
	if st := s.Stats(); st.Hashed != 1<<20 || st.Used == 0 {
		t.Errorf("%+v", st)
	}
}

func TestAFileThatChangesHasNoHashes(t *testing.T) {
	c := newContent(t, random(1<<20))
	k := c.key()
	s := open(t, t.TempDir(), roomy)
	// Before it is opened, and between its reading and the second look.
	for n := int32(1); n <= 2; n++ {
		c.opened.Store(0)
		c.before = func() {
			if c.opened.Load() == n {
				c.write(random(1<<20 + int(n)))
			}
		}
		if _, err := s.Hashes(t.Context(), k, peerdist.SHA256, c.open, patience); !errors.Is(err, errChanged) {
			t.Errorf("changed at opening %d: %v", n, err)
		}
		c.before = func() {}
		if _, err := s.Hashes(t.Context(), k, peerdist.SHA256, c.open, patience); !errors.Is(err, errChanged) {
			t.Errorf("the old version has hashes: %v", err)
		}
		k = c.key()
	}
	same(t, hashes(t, s, c, peerdist.SHA256), random(1<<20+2))
	if err := os.Remove(c.name); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hashes(t.Context(), Key{Size: 5}, peerdist.SHA256, c.open, patience); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is gone: %v", err)
	}
}

// files returns what is kept.
func files(t *testing.T, root string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(root, "??", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWhatIsDamagedIsMadeAgain(t *testing.T) {
	b := random(200000)
	c := newContent(t, b)
	s := open(t, t.TempDir(), roomy)
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
		hashes(t, s, c, a)
	}
	kept := files(t, s.root)
	if len(kept) != 2 {
		t.Fatalf("%q", kept)
	}
	for _, name := range kept {
		was, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range [][]byte{nil, was[:len(was)-1], was[:40], append(bytes.Clone(was), 0), flipped(was, 7), flipped(was, 50), flipped(was, len(was)/2), flipped(was, len(was)-1)} {
			if err := os.WriteFile(name, to, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
				same(t, hashes(t, s, c, a), b)
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, was) {
				t.Errorf("%d bytes after it was made again, %v", len(got), err)
			}
		}
	}
	// One file's hashes in the place of another's.
	if err := os.Rename(kept[0], kept[1]); err != nil {
		t.Fatal(err)
	}
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
		same(t, hashes(t, s, c, a), b)
	}
}

func flipped(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

func TestLimits(t *testing.T) {
	root := t.TempDir()
	b := random(1 << 20) // 16 hashes, and some more: about 600 bytes
	s := open(t, root, Limits{Size: 2500, MaxAge: 24 * time.Hour})
	var first *content
	for i := range 10 {
		c := newContent(t, append(b, byte(i)))
		hashes(t, s, c, peerdist.SHA256)
		if i == 0 {
			first = c
		}
		for _, name := range files(t, root) { // those of before are older
			if i, err := os.Stat(name); err == nil {
				_ = os.Chtimes(name, time.Time{}, i.ModTime().Add(-time.Minute))
			}
		}
	}
	var used int64
	for _, name := range files(t, root) {
		i, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		used += i.Size()
	}
	if used > 2500 || used < 1000 || s.Stats().Used != used {
		t.Errorf("%d bytes are kept, and %d said to be", used, s.Stats().Used)
	}
	if _, err := s.Hashes(t.Context(), first.key(), peerdist.SHA256, first.open, 0); !errors.Is(err, ErrNotReady) {
		t.Errorf("the oldest: %v", err)
	}
	hashes(t, s, first, peerdist.SHA256)
	// What is too large for the whole store is made, and not kept.
	big := newContent(t, random(8<<20))
	hashes(t, s, big, peerdist.SHA256)
	if _, err := s.Hashes(t.Context(), big.key(), peerdist.SHA256, big.open, 0); !errors.Is(err, ErrNotReady) {
		t.Errorf("too large: %v", err)
	}
}

func TestWhatNobodyUsesGoes(t *testing.T) {
	root := t.TempDir()
	c := newContent(t, random(1<<20))
	s := open(t, root, roomy)
	hashes(t, s, c, peerdist.SHA256)
	kept := files(t, root)
	date := func(ago time.Duration) {
		t.Helper()
		if err := os.Chtimes(kept[0], time.Now(), time.Now().Add(-ago)); err != nil {
			t.Fatal(err)
		}
	}
	// To use it makes it young.
	date(23 * time.Hour)
	if _, err := s.Hashes(t.Context(), c.key(), peerdist.SHA256, c.open, 0); err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(kept[0]); err != nil || time.Since(i.ModTime()) > time.Hour {
		t.Errorf("used now, and dated %v", i.ModTime())
	}
	for _, ago := range []time.Duration{25 * time.Hour, -48 * time.Hour} { // too old, or by a wrong clock
		date(ago)
		if _, err := s.load(c.key().name(peerdist.SHA256), c.key(), peerdist.SHA256); err == nil {
			t.Errorf("hashes of %v ago are used", ago)
		}
		if err := s.clean(); err != nil {
			t.Fatal(err)
		}
		if left := files(t, root); len(left) > 0 {
			t.Errorf("%v ago: %q is left", ago, left)
		}
		hashes(t, s, c, peerdist.SHA256)
	}
}

func TestOneProcessAndLeavingsOfAKilledOne(t *testing.T) {
	root := t.TempDir()
	s, err := New(root, roomy, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(root, roomy, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a second one has the store too")
	}
	half := filepath.Join(root, "new", "123")
	if err := os.WriteFile(half, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Closing ends what is under way, and nobody waits for ever.
	c := newContent(t, random(1<<20))
	k := c.key()
	started, gate := make(chan struct{}), make(chan struct{})
	c.before = func() { close(started); <-gate }
	done := make(chan error, 1)
	go func() {
		_, err := s.Hashes(context.Background(), k, peerdist.SHA256, c.open, patience)
		done <- err
	}()
	<-started
	s.end()
	close(gate)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("closed while hashing: %v", err)
	}
	s.Close()
	s = open(t, root, roomy)
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was half written is left: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
		h, err := peerdist.Generate(context.Background(), bytes.NewReader(random(300000)), a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encode(Key{Inode: 1, Size: h.Size}, h)[header:], uint32(a), h.Size)
	}
	f.Fuzz(func(t *testing.T, rest []byte, alg uint32, size int64) {
		a := peerdist.Algorithm(alg)
		if a.Version() == 0 {
			return
		}
		// The beginning and the checksum are right, so that the rest is looked at.
		k := Key{Inode: 1, Size: size}
		b := append(k.append(nil, a), rest...)
		if len(b) >= header+4+32 {
			b = b[:len(b)-32]
		}
		b = seal(b)
		h, err := decode(b, k, a)
		if err != nil {
			return
		}
		if again := encode(k, h); !bytes.Equal(again, b) {
			t.Errorf("%x becomes %x", b, again)
		}
	})
}
