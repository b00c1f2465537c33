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
	want := func(n int) {
		t.Helper()
		if i, ok := f.take(); !ok || i != n {
			t.Fatalf("took %d, %v; want %d", i, ok, n)
		}
	}
	want(0)
	want(1)
	want(2)
	f.giveBack(1)
	f.giveBack(0)
	want(0)
	want(1)
	want(3)
	for range 4 {
		f.finish()
	}
	if i, ok := f.take(); ok {
		t.Errorf("took %d though all are done", i)
	}
}

// TestFeedWaitsForALargeFile checks that no file begins while a large one moves.
func TestFeedWaitsForALargeFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(3)
		f.take()
		f.take()
		if !f.claim() || f.claim() {
			t.Fatal("there is not exactly one claim")
		}
		f.giveBack(1) // the second file is large too
		began := -1
		go func() { began, _ = f.take() }()
		synctest.Wait()
		if began >= 0 {
			t.Fatalf("file %d began beside the large one", began)
		}
		f.unclaim()
		synctest.Wait()
		if began != 1 {
			t.Errorf("file %d began, want the one that was given back", began)
		}
	})
}

// TestFeedWithManyWorkers checks that nothing is lost or done twice, whoever takes what.
func TestFeedWithManyWorkers(t *testing.T) {
	const files, workers = 2000, 16
	f := newFeed(files)
	var (
		mu    sync.Mutex
		large int
		done  = map[int]int{}
		wg    sync.WaitGroup
	)
	for range workers {
		wg.Go(func() {
			for {
				i, ok := f.take()
				if !ok {
					return
				}
				alone := i%7 == 0
				if alone && !f.claim() {
					f.giveBack(i)
					continue
				}
				mu.Lock()
				if alone {
					if large++; large > 1 {
						t.Errorf("%d large files move at once", large)
					}
				}
				done[i]++
				mu.Unlock()
				if alone {
					mu.Lock()
					large--
					mu.Unlock()
					f.unclaim()
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
}

func TestFeedStops(t *testing.T) {
	f := newFeed(3)
	if i, ok := f.take(); !ok || i != 0 {
		t.Fatalf("took %d, %v", i, ok)
	}
	f.stop()
	if i, ok := f.take(); ok {
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
