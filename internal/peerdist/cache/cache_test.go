package cache

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
)

var wide = Limits{Size: 1 << 40, MaxAge: time.Hour}

func random(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func segments(t testing.TB, body []byte, a peerdist.Algorithm) []peerdist.Segment {
	t.Helper()
	h, err := peerdist.Generate(context.Background(), bytes.NewReader(body), a)
	if err != nil {
		t.Fatal(err)
	}
	f, err := h.Info(a.ServerKey([]byte("p")), bits.Range{Length: h.Size})
	if err != nil {
		t.Fatal(err)
	}
	return f.Segments
}

func opened(t testing.TB, dir string, l Limits) *Cache {
	t.Helper()
	c, err := Open(dir, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func block(s *peerdist.Segment, body []byte, i int) []byte {
	at, n := s.Block(i)
	return body[s.Offset:][at : at+n]
}

func put(t testing.TB, c *Cache, s *peerdist.Segment, body []byte, i int) {
	t.Helper()
	if err := c.Put(s, i, block(s, body, i)); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasPutIsThereAlsoForAnotherProcess(t *testing.T) {
	body := random(300000, 1)
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.SHA512, peerdist.TruncatedSHA512} {
		dir := filepath.Join(t.TempDir(), "cache")
		c := opened(t, dir, wide)
		all := segments(t, body, a)
		var want int64
		for i := range all {
			s := &all[i]
			if _, err := c.Held(s.ID()); !errors.Is(err, ErrNotHeld) {
				t.Fatalf("before anything was put: %v", err)
			}
			for _, j := range []int{0, 2, 4, 2} {
				if j < s.Blocks() {
					put(t, c, s, body, j)
				}
			}
		}
		for range 2 {
			want = 0
			for i := range all {
				s := &all[i]
				held, err := c.Held(s.ID())
				if err != nil {
					t.Fatal(err)
				}
				for j := range s.Blocks() {
					got, err := c.Read(s.ID(), j, make([]byte, 10))
					if j%2 == 1 {
						if held.Has(j) || !errors.Is(err, ErrNotHeld) {
							t.Errorf("block %d: %v, %v", j, held.Has(j), err)
						}
						continue
					}
					next := j + 2
					if next >= s.Blocks() {
						next = 0
					}
					if err != nil || !held.Has(j) || !bytes.Equal(got.Data, block(s, body, j)) || !bytes.Equal(got.Secret, s.Secret) || got.Next != next {
						t.Errorf("block %d: %d bytes, next %d, %v", j, len(got.Data), got.Next, err)
					}
					want += int64(len(got.Data))
				}
			}
			if c.Used() != want {
				t.Errorf("%d bytes are used, want %d", c.Used(), want)
			}
			list, err := c.List()
			if err != nil || len(list) != len(all) || list[0].Created.IsZero() || time.Since(list[0].Used) > time.Hour {
				t.Errorf("%+v, %v", list, err)
			}
			c.Close()
			c = opened(t, dir, wide)
		}
		if i, err := os.Stat(dir); err != nil || i.Mode().Perm() != 0o700 {
			t.Errorf("the directory has the mode %v, %v", i.Mode(), err)
		}
		kinds := map[string]int{}
		for _, name := range regular(t, filepath.Join(dir, "seg")) { // with keys, or what they are for
			kinds[filepath.Ext(name)]++
			if i, err := os.Stat(name); err != nil || i.Mode().Perm() != 0o600 {
				t.Errorf("%s has the mode %v, %v", name, i.Mode(), err)
			}
		}
		if kinds[meta] != len(all) || kinds[data] != len(all) || len(kinds) != 2 {
			t.Errorf("the files are %v", kinds)
		}
		if err := c.Delete(all[0].ID()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Held(all[0].ID()); !errors.Is(err, ErrNotHeld) {
			t.Errorf("after it was deleted: %v", err)
		}
		if err := c.Clear(); err != nil || c.Used() != 0 {
			t.Errorf("after all was deleted: %d bytes, %v", c.Used(), err)
		}
		if files := regular(t, filepath.Join(dir, "seg")); len(files) != 0 {
			t.Errorf("after all was deleted there is %v", files)
		}
	}
}

// regular returns the files under a directory.
func regular(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOnlyOneProcessHasIt(t *testing.T) {
	dir := t.TempDir()
	opened(t, dir, wide)
	if _, err := Open(dir, wide); err == nil {
		t.Error("it was opened twice")
	}
}

func TestNothingWrongIsPut(t *testing.T) {
	body := random(200000, 2)
	c := opened(t, t.TempDir(), wide)
	s := segments(t, body, peerdist.SHA256)[0]
	bad := bytes.Clone(block(&s, body, 1))
	bad[7] ^= 1
	for _, v := range []struct {
		i int
		b []byte
	}{{1, bad}, {0, block(&s, body, 1)}, {-1, nil}, {4, block(&s, body, 1)}, {3, block(&s, body, 3)[:100]}} {
		if err := c.Put(&s, v.i, v.b); err == nil {
			t.Errorf("a wrong block %d was taken", v.i)
		}
	}
	// With some of the hashes only, anybody could describe other bytes under the segment's id.
	forged := s
	forged.Hashes = forged.Hashes[:2*32]
	if err := c.Put(&forged, 0, block(&s, body, 0)); !errors.Is(err, ErrUnproven) {
		t.Errorf("hashes of some blocks: %v", err)
	}
	if files := regular(t, filepath.Join(c.root, "seg")); len(files) != 0 {
		t.Errorf("there is %v", files)
	}
	// A length that is wrong keeps nobody out.
	forged = s
	forged.Length--
	put(t, c, &forged, body, 0)
	put(t, c, &s, body, 3)
	if b, err := c.Read(s.ID(), 3, nil); err != nil || !bytes.Equal(b.Data, block(&s, body, 3)) {
		t.Error(err)
	}
	if err := c.Put(&forged, 1, block(&s, body, 1)); err == nil {
		t.Error("another length was taken although the last block is here")
	}
	put(t, c, &s, body, 1)
	if b, err := c.Read(s.ID(), 0, nil); err != nil || b.Next != 1 {
		t.Error(b.Next, err)
	}
}

func TestWhatRotsIsForgotten(t *testing.T) {
	body := random(200000, 3)
	s := segments(t, body, peerdist.SHA256)[0]
	id := s.ID()
	for name, harm := range map[string]func(c *Cache) error{
		"a bit of a block": func(c *Cache) error { return flip(c.path(id, data), 65536+100) },
		"a short file":     func(c *Cache) error { return os.Truncate(c.path(id, data), 65536+100) },
		"no blocks":        func(c *Cache) error { return os.Remove(c.path(id, data)) },
	} {
		c := opened(t, t.TempDir(), wide)
		for i := range 2 {
			put(t, c, &s, body, i)
		}
		if err := harm(c); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(id, 1, nil); !errors.Is(err, ErrNotHeld) {
			t.Errorf("%s: %v", name, err)
		}
		if held, _ := c.Held(id); held.Has(1) || c.Used() != 65536 {
			t.Errorf("%s: it is still said to be here, in %d bytes", name, c.Used())
		}
		if _, err := c.Read(id, 0, nil); (err == nil) != (name != "no blocks") {
			t.Errorf("%s: the other block: %v", name, err)
		}
		put(t, c, &s, body, 1) // it may come again
		if _, err := c.Read(id, 1, nil); err != nil {
			t.Errorf("%s: after it came again: %v", name, err)
		}
	}
	// Of a description that has changed nothing is believed, be it hashes, the secret or the date.
	for _, at := range []int64{0, 9, int64(atSum), int64(atInfo) + 20, int64(atInfo) + 60, int64(atInfo) + 110} {
		c := opened(t, t.TempDir(), wide)
		put(t, c, &s, body, 0)
		if err := flip(c.path(id, meta), at); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(id, 0, nil); !errors.Is(err, ErrNotHeld) {
			t.Errorf("a bit at %d: %v", at, err)
		}
		put(t, c, &s, body, 1)
		if b, err := c.Read(id, 1, nil); err != nil || b.Next != 0 {
			t.Errorf("after it came again: %v", err)
		}
	}
	// A bit of the bitmap costs a read, no more.
	c := opened(t, t.TempDir(), wide)
	put(t, c, &s, body, 0)
	if err := flip(c.path(id, meta), int64(atBitmap)); err != nil {
		t.Fatal(err)
	}
	if held, _ := c.Held(id); !held.Has(0) || !held.Has(1) {
		t.Fatal("the bit was not changed")
	}
	for i := range 3 {
		if _, err := c.Read(id, i, nil); (err == nil) != (i == 0) {
			t.Errorf("block %d: %v", i, err)
		}
	}
}

// flip changes one bit of a file.
func flip(name string, at int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 2
	_, err = f.WriteAt(b, at)
	return err
}

// TestTheLimitHolds also where a block is more than the little that is made room for, and whoever writes at the same
// time.
func TestTheLimitHolds(t *testing.T) {
	const block, limit, writers, each = 65536, 6*65536 + 32768, 4, 30
	body := random(writers*each*block, 5)
	c := opened(t, t.TempDir(), Limits{Size: limit, MaxAge: time.Hour})
	keep := func(i int) {
		part := body[i*block:][:block]
		s := segments(t, part, peerdist.SHA256)[0]
		if err := c.Put(&s, 0, part); err != nil && !errors.Is(err, ErrFull) { // the disk may be nearly full
			t.Error(err)
		}
	}
	check := func() {
		t.Helper()
		entries, err := c.List()
		if err != nil {
			t.Fatal(err)
		}
		var held int64
		for _, e := range entries {
			held += e.Held
		}
		if held > limit {
			t.Errorf("%d bytes are here, the limit is %d", held, limit)
		}
	}
	for i := range each {
		keep(i)
		check()
	}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				keep(w*each + i)
			}
		})
	}
	all.Wait()
	check()
}

func TestLimits(t *testing.T) {
	body := random(40*65536, 4)
	var all []peerdist.Segment
	for i := range 40 {
		all = append(all, segments(t, body[i*65536:(i+1)*65536], peerdist.SHA256)[0])
	}
	dir := t.TempDir()
	c := opened(t, dir, Limits{Size: 1 << 40, MaxAge: time.Hour})
	if c.Limit() <= 0 {
		t.Skip("the disk is nearly full")
	}
	// The limit that comes out when the disk has less than a tenth left is a part of the size.
	size := int64(float64(20*65536) * float64(1<<40) / float64(c.Limit()))
	for i := range 10 {
		put(t, c, &all[i], body[i*65536:], 0)
		// They were used long ago, the later ones longer.
		old := time.Now().Add(-time.Duration(i+2) * time.Hour)
		if err := os.Chtimes(c.path(all[i].ID(), data), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Read(all[9].ID(), 0, nil); err != nil { // so that it is used now
		t.Fatal(err)
	}
	c.SetLimits(Limits{Size: size, MaxAge: time.Hour})
	for i := 10; i < 25; i++ {
		put(t, c, &all[i], body[i*65536:], 0)
	}
	if c.Used() >= 25*65536 { // others may use the disk, so that the limit is not the same all the time
		t.Errorf("%d bytes are used of %d", c.Used(), c.Limit())
	}
	held := func(i int) bool { _, err := c.Held(all[i].ID()); return err == nil }
	if held(8) || held(7) || !held(9) || !held(0) || !held(24) {
		t.Errorf("what was used long ago: %v, %v; what was used: %v, %v, %v", held(8), held(7), held(9), held(0), held(24))
	}
	c.SetLimits(Limits{Size: 65535, MaxAge: time.Hour})
	if err := c.Put(&all[30], 0, body[30*65536:31*65536]); !errors.Is(err, ErrFull) {
		t.Errorf("more than the limit: %v", err)
	}
	c.SetLimits(Limits{Size: 1 << 40, MaxAge: time.Nanosecond})
	if held(24) {
		t.Error("what is too old is said to be here")
	}
	if err := c.Clean(); err != nil || c.Used() != 0 {
		t.Errorf("after cleaning %d bytes are used, %v", c.Used(), err)
	}
	if files := regular(t, filepath.Join(dir, "seg")); len(files) != 0 {
		t.Errorf("there is %v", files)
	}
}

func TestWhatDoesNotBelongHereIsRemoved(t *testing.T) {
	dir := t.TempDir()
	body := random(70000, 5)
	s := segments(t, body, peerdist.SHA256)[0]
	c := opened(t, dir, wide)
	put(t, c, &s, body, 0)
	c.Close()
	for _, name := range []string{"new/123", "seg/x", "seg/ab/abcd.dat", "seg/ab/abcd.seg", "seg/ab/ABCD.seg", "seg/ab/12.dat", "seg/ab/zz.dat"} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("?"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c = opened(t, dir, wide)
	if files := regular(t, dir); len(files) != 3 { // two, and the lock
		t.Errorf("there is %v", files)
	}
	if _, err := c.Read(s.ID(), 0, nil); err != nil {
		t.Error(err)
	}
	for _, id := range [][]byte{nil, {}, make([]byte, 65), {1}} {
		if _, err := c.Held(id); !errors.Is(err, ErrNotHeld) {
			t.Errorf("%x: %v", id, err)
		}
		if err := c.Delete(id); err != nil {
			t.Errorf("%x: %v", id, err)
		}
	}
}

// TestCleanedBeforeItIsFull: who brings the block that would be too much finds room already, mostly.
func TestCleanedBeforeItIsFull(t *testing.T) {
	const limit = 16 * peerdist.BlockSize
	c := opened(t, filepath.Join(t.TempDir(), "cache"), Limits{Size: limit, MaxAge: time.Hour})
	for n := range byte(2) {
		body := random(limit/2, n)
		s := &segments(t, body, peerdist.SHA256)[0]
		for i := range s.Blocks() {
			put(t, c, s, body, i)
		}
	}
	// What came while it was cleaned may count twice, and may have been too late to be there.
	for end := time.Now().Add(time.Minute); c.Used() > limit*3/4; time.Sleep(time.Millisecond) {
		if c.room(0) != nil {
			t.Fatal("it is full")
		}
		if time.Now().After(end) {
			t.Fatalf("%d bytes of %d are used", c.Used(), limit)
		}
	}
}

func TestSegmentsOfAFile(t *testing.T) {
	dir := t.TempDir()
	body := random(400000, 6)
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(body); err != nil {
		t.Fatal(err)
	}
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
		c := opened(t, filepath.Join(dir, fmt.Sprint(uint32(a))), wide)
		all := segments(t, body, a)
		for i := range all {
			s := &all[i]
			if i == 0 && a == peerdist.SHA256 {
				put(t, c, s, body, 1) // so that it is not cloned
			}
			if err := c.PutFile(s, f); err != nil {
				t.Fatal(err)
			}
			for j := range s.Blocks() {
				if b, err := c.Read(s.ID(), j, nil); err != nil || !bytes.Equal(b.Data, block(s, body, j)) {
					t.Errorf("block %d: %v", j, err)
				}
			}
		}
		if c.Used() != int64(len(body)) {
			t.Errorf("%d bytes are used of %d", c.Used(), len(body))
		}
	}
	// The owner may change the file at any time: what is wrong then does not get out.
	c := opened(t, filepath.Join(dir, "changed"), wide)
	s := segments(t, body, peerdist.SHA256)[0]
	if _, err := f.WriteAt([]byte("changed"), 70000); err != nil {
		t.Fatal(err)
	}
	if err := c.PutFile(&s, f); err != nil {
		t.Fatal(err)
	}
	for j := range s.Blocks() {
		if _, err := c.Read(s.ID(), j, nil); (err == nil) != (j != 1) {
			t.Errorf("block %d: %v", j, err)
		}
	}
	s.Hashes = s.Hashes[:32]
	if err := c.PutFile(&s, f); !errors.Is(err, ErrUnproven) {
		t.Errorf("hashes of some blocks: %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	body := random(20*65536, 7)
	s := segments(t, body, peerdist.SHA256)[0]
	c := opened(t, t.TempDir(), wide)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range s.Blocks() {
				if err := c.Put(&s, i, block(&s, body, i)); err != nil {
					t.Error(err)
				}
				if b, err := c.Read(s.ID(), i, nil); err != nil || !bytes.Equal(b.Data, block(&s, body, i)) {
					t.Error(err)
				}
			}
			if err := c.Clean(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if c.Used() != int64(len(body)) {
		t.Errorf("%d bytes are used of %d", c.Used(), len(body))
	}
}

// TestReadersSeeChangesAtOnce is about segments that stay open.
func TestReadersSeeChangesAtOnce(t *testing.T) {
	body := random((maxRecent+10)*65536, 10)
	all := segments(t, body, peerdist.TruncatedSHA512)
	c := opened(t, t.TempDir(), wide)
	for range 2 {
		for i := range all {
			s := &all[i]
			if _, err := c.Read(s.ID(), 0, nil); !errors.Is(err, ErrNotHeld) {
				t.Fatalf("segment %d before it was put: %v", i, err)
			}
			put(t, c, s, body, 0)
			if _, err := c.Read(s.ID(), 0, nil); err != nil {
				t.Fatalf("segment %d: %v", i, err)
			}
		}
		if len(all) <= maxRecent || len(c.recent.open) != maxRecent {
			t.Errorf("%d of %d segments are open", len(c.recent.open), len(all))
		}
		for i := range all {
			if err := c.Delete(all[i].ID()); err != nil {
				t.Fatal(err)
			}
		}
		if len(c.recent.open) > 0 {
			t.Errorf("%d segments that are not here are open", len(c.recent.open))
		}
	}
	s := segments(t, body, peerdist.SHA256)[0]
	for i := range s.Blocks() {
		put(t, c, &s, body, i)
		b, err := c.Read(s.ID(), i, nil)
		if err != nil || b.Next != 0 {
			t.Fatalf("block %d: %v", i, err)
		}
		if i > 0 {
			if b, err = c.Read(s.ID(), i-1, nil); err != nil || b.Next != i {
				t.Fatalf("block %d: next is %d, %v", i-1, b.Next, err)
			}
		}
	}
	c.SetLimits(Limits{Size: wide.Size, MaxAge: time.Nanosecond})
	if _, err := c.Read(s.ID(), 0, nil); !errors.Is(err, ErrNotHeld) {
		t.Errorf("of one that is too old: %v", err)
	}
}

const victimDir = "EBB_TEST_CACHE"

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv(victimDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	c, err := Open(dir, Limits{Size: 30 * 65536, MaxAge: time.Hour}) // so that it removes too
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	t := new(testing.T)
	body := random(64*65536, 8)
	all := segments(t, body, peerdist.TruncatedSHA512)
	all = append(all, segments(t, body, peerdist.SHA256)...)
	for n := 0; ; n++ {
		s := &all[n*7%len(all)]
		i := n % s.Blocks()
		if err := c.Put(s, i, block(s, body, i)); err != nil && !errors.Is(err, ErrFull) {
			fmt.Println(err)
			os.Exit(1)
		}
		if n%10 == 0 {
			fmt.Println("put")
		}
	}
}

func TestKill9LeavesACacheThatWorks(t *testing.T) {
	dir := t.TempDir()
	body := random(64*65536, 8)
	want := map[string]*peerdist.Segment{}
	for _, a := range []peerdist.Algorithm{peerdist.TruncatedSHA512, peerdist.SHA256} {
		all := segments(t, body, a)
		for i := range all {
			want[string(all[i].ID())] = &all[i]
		}
	}
	read := 0
	for round := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), victimDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1 + round {
			if !lines.Scan() || lines.Text() != "put" {
				t.Errorf("it said %q", lines.Text())
				break
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		c, err := Open(dir, wide)
		if err != nil {
			t.Fatal(err)
		}
		var ids [][]byte
		list, err := c.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			ids = append(ids, e.ID)
			s := want[string(e.ID)]
			held, err := c.Held(e.ID)
			if s == nil || err != nil {
				t.Fatalf("a segment that was not put, %v", err)
			}
			for i := range s.Blocks() {
				if !held.Has(i) {
					continue
				}
				if b, err := c.Read(e.ID, i, nil); err != nil || !bytes.Equal(b.Data, block(s, body, i)) {
					t.Errorf("block %d that was said to be here: %v", i, err)
				}
				read++
			}
		}
		if d := cmp.Diff(2*len(ids), len(regular(t, filepath.Join(dir, "seg")))); d != "" || len(regular(t, filepath.Join(dir, "new"))) > 0 {
			t.Errorf("files are left: %s", d)
		}
		c.Close()
	}
	if read == 0 {
		t.Error("nothing was ever there")
	}
}

func FuzzDecode(f *testing.F) {
	body := random(100000, 9)
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
		r := record{segment: segments(f, body, a)[0], created: time.Unix(1, 0)}
		f.Add(r.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(r.append(nil))
		if d := cmp.Diff(r.segment, again.segment); err != nil || d != "" || r.held != again.held || !r.created.Equal(again.created) {
			t.Fatal(err, d)
		}
	})
}
