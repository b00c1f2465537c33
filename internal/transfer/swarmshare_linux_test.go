package transfer

import (
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/ebbtransfer/ebb/test/reflink"
)

// TestTheCacheSharesWithTheFile: what was downloaded takes space once, where the file system can.
func TestTheCacheSharesWithTheFile(t *testing.T) {
	t.Setenv("TMPDIR", reflink.Disk(t, "xfs"))
	o := newOrigin(t, 5_000_000)
	m := newMachine(t)
	if out, _ := m.fetch(t.Context(), Job{}, m.file(o)); out.Err != nil || out.Stopped {
		t.Fatalf("%+v", out)
	}
	segments, shared := 0, 0
	err := filepath.WalkDir(m.cache, func(name string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(name) == ".dat" {
			segments++
			if reflink.Shared(t, name) {
				shared++
			}
		}
		return err
	})
	if err != nil || segments < 2 || shared < segments-1 { // the last one may be too short
		t.Errorf("%d of %d segments share blocks, %v", shared, segments, err)
	}
}
