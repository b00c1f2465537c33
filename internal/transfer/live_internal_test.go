package transfer

import (
	"testing"

	"github.com/ebbtransfer/ebb/internal/store"
)

// A file that moves no more is shown until its last record is: else what came would be missing from
// a snapshot in between.
func TestLiveUntilStored(t *testing.T) {
	l := NewLive()
	seen := func() (n int) {
		l.Files(func(int, Moving) { n++ })
		return n
	}
	for i := range 3 {
		l.begin(i, &store.File{Done: 10, Size: 10}, nil)
	}
	l.end(2) // nothing is told of it
	if n := seen(); n != 2 {
		t.Fatalf("%d files are seen, want 2", n)
	}
	l.Told()
	l.end(0)
	if n := seen(); n != 2 || l.Moves(0) || !l.Moves(1) {
		t.Errorf("%d files are seen before the record of one is, want 2", n)
	}
	l.Told()
	l.end(1)
	l.begin(1, &store.File{}, nil) // it begins anew
	l.Stored()
	if n := seen(); n != 1 || !l.Moves(1) {
		t.Errorf("%d files are seen after the record of one is, want 1", n)
	}
	l.Stored()
	if n := seen(); n != 1 || !l.Moves(1) {
		t.Errorf("%d files are seen, want the one that moves again", n)
	}
}
