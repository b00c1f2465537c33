package transfer

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/ebbtransfer/ebb/bits"
)

// TestFeedHandsOutInOrder takes and gives back as one worker would.
func TestFeedHandsOutInOrder(t *testing.T) {
	f := newFeed(4)
	want := func(n int, wantAlone bool) {
		t.Helper()
		if i, alone, ok := f.take(); !ok || i != n || alone != wantAlone {
			t.Fatalf("took %d, alone %v, %v; want %d, alone %v", i, alone, ok, n, wantAlone)
		}
	}
	want(0, true) // nothing is known yet
	f.unclaim(false)
	want(1, false)
	want(2, false)
	f.giveBack(2)
	f.giveBack(1)
	want(1, true) // it was given back because it is large
	f.unclaim(true)
	want(2, true)
	f.unclaim(true)
	want(3, true) // after a large one the next may be large too
	f.unclaim(false)
	for range 4 {
		f.finish()
	}
	if i, _, ok := f.take(); ok {
		t.Errorf("took %d though all are done", i)
	}
}

// TestFeedWaitsForALargeFile checks that no file begins while a large one moves.
func TestFeedWaitsForALargeFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(3)
		f.take()
		f.unclaim(false)
		f.take()
		if !f.claim() || f.claim() {
			t.Fatal("there is not exactly one claim")
		}
		f.giveBack(1) // the second file is large too
		began := -1
		go func() { began, _, _ = f.take() }()
		synctest.Wait()
		if began >= 0 {
			t.Fatalf("file %d began beside the large one", began)
		}
		f.unclaim(true)
		synctest.Wait()
		if began != 1 {
			t.Errorf("file %d began, want the one that was given back", began)
		}
	})
}

// TestFeedWithManyWorkers checks that nothing is lost or done twice, whoever takes what, that
// one large file at most moves, and that large files are asked for about once.
func TestFeedWithManyWorkers(t *testing.T) {
	const files, workers = 2000, 16
	for _, every := range []int{1, 2, 7, 5000} { // every n-th file is large
		f := newFeed(files)
		var (
			mu    sync.Mutex
			large int
			asked int
			done  = map[int]int{}
			wg    sync.WaitGroup
		)
		for range workers {
			wg.Go(func() {
				for {
					i, alone, ok := f.take()
					if !ok {
						return
					}
					mu.Lock()
					asked++
					mu.Unlock()
					isLarge := i%every == 0
					if alone && !isLarge {
						f.unclaim(false)
					}
					if isLarge && !alone && !f.claim() {
						f.giveBack(i)
						continue
					}
					mu.Lock()
					if isLarge {
						if large++; large > 1 {
							t.Errorf("%d large files move at once", large)
						}
					}
					done[i]++
					mu.Unlock()
					if isLarge {
						mu.Lock()
						large--
						mu.Unlock()
						f.unclaim(true)
					}
					f.finish()
				}
			})
		}
		wg.Wait()
		for i := range files {
			if done[i] != 1 {
				t.Errorf("file %d moved %d times", i, done[i])
			}
		}
		if every == 1 && asked != files {
			t.Errorf("%d large files were asked for %d times", files, asked)
		}
	}
}

func TestFeedStops(t *testing.T) {
	f := newFeed(3)
	if i, _, ok := f.take(); !ok || i != 0 {
		t.Fatalf("took %d, %v", i, ok)
	}
	f.stop()
	if i, _, ok := f.take(); ok {
		t.Errorf("took %d after stop", i)
	}
}

func TestPartNames(t *testing.T) {
	id := bits.NewID()
	seen := map[string]bool{}
	for i, local := range []string{"/d/a", "/d/a", "/d/" + strings.Repeat("x", 255), "/d/" + strings.Repeat("x", 254) + "y", "/d/.hidden"} {
		name := PartName(local, id, i)
		base := filepath.Base(name)
		if filepath.Dir(name) != "/d" || base[0] != '.' || len(base) > 255 || seen[name] {
			t.Errorf("the part file of %s is %s", local, name)
		}
		seen[name] = true
	}
}
