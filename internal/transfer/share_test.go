package transfer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/localfile"
)

// TestWhoWaitsForWhom has transfers that want the same content come one after the other.
func TestWhoWaitsForWhom(t *testing.T) {
	const fg, bg = governor.Foreground, governor.Background
	for _, c := range []struct {
		first, second governor.Class
		waits         bool
	}{{fg, fg, true}, {bg, bg, true}, {fg, bg, true}, {bg, fg, false}} {
		t.Run(fmt.Sprintf("%v after %v", c.second, c.first), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s shares
				of := content{Identity{1}, "http://a/b"}
				one, two := bits.NewID(), bits.NewID()
				first, err := s.enter(t.Context(), of, c.first, one, nil)
				if err != nil {
					t.Fatal(err)
				}
				var told []bits.ID
				var second *share
				go func() {
					second, _ = s.enter(t.Context(), of, c.second, two, func(id bits.ID) { told = append(told, id) })
				}()
				synctest.Wait()
				if waits := second == nil; waits != c.waits {
					t.Fatalf("it waits: %v, want %v", waits, c.waits)
				}
				if c.waits && (len(told) != 1 || told[0] != one) {
					t.Errorf("it waits for %v, want %v", told, one)
				}
				s.free(of, first)
				s.free(of, first)
				synctest.Wait()
				if second == nil || c.waits && (len(told) != 2 || told[1] != bits.ID{}) {
					t.Fatalf("it goes on: %v, told %v", second != nil, told)
				}
				// The first one's end does not take the place of the second.
				if s.moving[of] != second {
					t.Error("nobody would wait for the second one")
				}
				s.free(of, second)
				if len(s.moving) != 0 {
					t.Error("the content is still moving")
				}
			})
		})
	}
}

func TestOthersDoNotWait(t *testing.T) {
	var s shares
	for i, of := range []content{{Identity{1}, "http://a/b"}, {Identity{2}, "http://a/b"}, {Identity{1}, "http://a/c"}} {
		if _, err := s.enter(t.Context(), of, governor.Foreground, bits.NewID(), nil); err != nil {
			t.Fatal(i, err)
		}
	}
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errChanged)
	var told []bits.ID
	_, err := s.enter(ctx, content{Identity{1}, "http://a/b"}, governor.Foreground, bits.NewID(), func(id bits.ID) { told = append(told, id) })
	if err != errChanged || len(told) != 2 || told[1] != (bits.ID{}) {
		t.Errorf("the waiting ended with %v, told %v", err, told)
	}
}

// TestLeavingsAreFew checks that what is remembered has a bound, and that the oldest is forgotten.
func TestLeavingsAreFew(t *testing.T) {
	var s shares
	began := time.Now()
	name := func(i int) content { return content{Identity{1}, fmt.Sprint("http://a/", i)} }
	for i := range 2 * mostLeavings {
		s.leave(&leavings{content: name(i), at: began.Add(time.Duration(i+1) * time.Second), part: fmt.Sprint(i)})
		s.leave(&leavings{content: name(i), at: began.Add(time.Duration(i+1) * time.Second), part: fmt.Sprint("again ", i)})
	}
	if len(s.left) != mostLeavings || s.order.Len() != mostLeavings {
		t.Errorf("%d are remembered by content and %d by age, want %d", len(s.left), s.order.Len(), mostLeavings)
	}
	last := 2*mostLeavings - 1
	if s.borrow(name(0), began) != nil || s.borrow(name(last), began) == nil || len(s.at(fmt.Sprint("again ", last))) != 1 {
		t.Error("not the oldest are forgotten")
	}
	if s.borrow(name(last), began.Add(time.Hour)) != nil {
		t.Error("a job that was made later takes what was left before")
	}
}

// TestWhatIsCopiedIsFollowed has a job completed while others copy what it left: also those go on that
// began before newer leavings took the place.
func TestWhatIsCopiedIsFollowed(t *testing.T) {
	var e Engine
	var o localfile.Owner
	of := content{Identity{1}, "http://a/b"}
	dir, began := t.TempDir(), time.Now()
	leave := func(part string) {
		t.Helper()
		stands, err := o.Version(part)
		if err != nil {
			t.Fatal(err)
		}
		e.shares.leave(&leavings{content: of, at: began.Add(time.Second), part: part, path: part, stands: stands})
	}
	borrow := func() (*leavings, *os.File) {
		t.Helper()
		l := e.shares.borrow(of, began)
		f := l.open(o)
		if f == nil {
			t.Fatal("what was left cannot be opened")
		}
		t.Cleanup(func() { f.Close() })
		return l, f
	}
	part, other := filepath.Join(dir, "part"), filepath.Join(dir, "other")
	for _, name := range []string{part, other} {
		if err := os.WriteFile(name, []byte("bytes"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leave(part)
	first, f1 := borrow()
	leave(part) // the same file once more, by its job that went on
	second, f2 := borrow()
	leave(other) // and another job's
	info, err := f1.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Place(o, part, filepath.Join(dir, "file"), localfile.VersionOf(info).Inode); err != nil {
		t.Fatal(err)
	}
	if !first.intact(f1) || !second.intact(f2) {
		t.Error("what is copied counts as changed when it is put into its place")
	}
	e.shares.giveBack(first)
	e.shares.giveBack(second)
	if len(e.shares.lent) != 0 || len(e.shares.at(part)) != 0 {
		t.Error("what nobody copies any more is followed")
	}
}
