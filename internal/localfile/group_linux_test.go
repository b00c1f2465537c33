package localfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFilesThatFinishTogether has many files finished at once, so that some lead, some wait and some
// are told to see to themselves.
func TestFilesThatFinishTogether(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for w := range 32 {
		all.Go(func() {
			content := bytes.Repeat([]byte{byte(w)}, 5000)
			for i := range 4 {
				path := filepath.Join(dir, fmt.Sprintf("%d-%d", w, i))
				p, err := Open(t.Context(), path, Options{Size: int64(len(content))})
				if err != nil {
					t.Error(err)
					return
				}
				for rest := content; len(rest) > 0; {
					n := copy(p.Space(), rest)
					if err := p.Advance(n); err != nil {
						t.Error(err)
					}
					rest = rest[n:]
				}
				if err := p.Finish(time.Time{}); err != nil {
					t.Error(err)
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, content) {
					t.Errorf("%s: %d bytes, %v", path, len(b), err)
				}
			}
		})
	}
	all.Wait()
	fd, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	g := groupOf(st.Dev, int(fd.Fd()))
	if g.busy || len(g.waiting) != 0 {
		t.Errorf("left behind: %d waiting, busy %t", len(g.waiting), g.busy)
	}
}

// TestWhoLeadsAGroup has others come while one file is written, or none.
func TestWhoLeadsAGroup(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		come  int
		rests bool
		leads bool
	}{
		{0, false, false},
		{1, false, true},
		{12, false, true},
		{12, true, false},
	} {
		g := &group{able: true, busy: true}
		if c.rests {
			g.rests = time.Now().Add(time.Hour)
		}
		var told []chan turn
		for range c.come {
			told = append(told, make(chan turn, 1))
		}
		g.waiting = told
		if err := g.write(int(f.Fd()), nil); err != nil {
			t.Fatal(err)
		}
		want := turn{}
		if c.leads && g.rests.IsZero() { // a disk as slow as that is to rest
			first := <-told[0]
			if !first.lead || len(first.others) != c.come-1 || !g.busy {
				t.Fatalf("%+v: the first was told %+v, busy %t", c, first, g.busy)
			}
			if err := g.lead(int(f.Fd()), first.others); err != nil {
				t.Fatal(err)
			}
			told, want.durable = told[1:], true
		}
		for _, t1 := range told {
			if got := <-t1; got.durable != want.durable || got.lead {
				t.Errorf("%+v: one was told %+v", c, got)
			}
		}
		if g.busy || len(g.waiting) != 0 {
			t.Errorf("%+v: busy %t, %d waiting at the end", c, g.busy, len(g.waiting))
		}
	}
}

// TestFilesThatComeOneByOne has files come in time for a group, and too late.
func TestFilesThatComeOneByOne(t *testing.T) {
	g, now := &group{able: true}, time.Now()
	for i, c := range []struct {
		after time.Duration
		many  bool
	}{
		{0, false}, {0, false}, {0, false}, {0, false}, {0, true}, {0, true},
		{groupTime, false}, {0, false}, {0, false}, {0, false}, {0, true},
		{groupTime / 4, true}, {groupTime / 4, true}, {groupTime / 4, true}, {groupTime / 5, true},
		{groupTime / 2, false},
	} {
		now = now.Add(c.after)
		if many := g.come(now); many != c.many {
			t.Errorf("file %d, %v after the one before: %t", i, c.after, many)
		}
	}
}

// TestAFailedGroupIsNotDurable has syncfs fail.
func TestAFailedGroupIsNotDurable(t *testing.T) {
	g := &group{able: true, busy: true}
	other := make(chan turn, 1)
	if err := g.lead(-1, []chan turn{other}); err == nil {
		t.Error("a file that cannot be made durable is said to be")
	}
	if told := <-other; told.durable || told.lead {
		t.Errorf("the other was told %+v", told)
	}
}
