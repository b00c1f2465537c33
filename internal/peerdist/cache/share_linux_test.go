package cache

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/test/reflink"
)

func TestBlocksAreSharedWithTheFile(t *testing.T) {
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := reflink.Disk(t, kind)
			body := random(700_001, 9)
			f, err := os.Create(filepath.Join(dir, "file"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.Write(body); err != nil {
				t.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
				c := opened(t, filepath.Join(dir, fmt.Sprint(uint32(a))), wide)
				all := segments(t, body, a)
				for i := range all {
					s := &all[i]
					if err := c.Share(s, f); err != nil || c.Used() != 0 {
						t.Fatalf("what is not here: %v, %d bytes", err, c.Used())
					}
				}
				for i := range all {
					s := &all[i]
					for j := range s.Blocks() {
						put(t, c, s, body, j)
					}
					if _, err := c.Read(s.ID(), 0, nil); err != nil { // it stays open
						t.Fatal(err)
					}
					if err := c.Share(s, f); err != nil {
						t.Fatal(err)
					}
					name := c.path(s.ID(), data)
					if s.Length >= 2*diskBlock && !reflink.Shared(t, name) {
						t.Errorf("segment %d of version %d has its own blocks", i, a.Version())
					}
					for j := range s.Blocks() {
						if b, err := c.Read(s.ID(), j, nil); err != nil || !bytes.Equal(b.Data, block(s, body, j)) {
							t.Errorf("block %d of segment %d: %v", j, i, err)
						}
					}
					// One that has rotted comes again, to where it was or elsewhere.
					was, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					was[len(was)-1]++
					if err := os.WriteFile(name, was, 0o600); err != nil {
						t.Fatal(err)
					}
					last := s.Blocks() - 1
					if _, err := c.Read(s.ID(), last, nil); !errors.Is(err, ErrNotHeld) {
						t.Errorf("what has rotted: %v", err)
					}
					put(t, c, s, body, last)
					if b, err := c.Read(s.ID(), last, nil); err != nil || !bytes.Equal(b.Data, block(s, body, last)) {
						t.Errorf("the last block again: %v", err)
					}
				}
				if c.Used() != int64(len(body)) {
					t.Errorf("%d bytes are used of %d", c.Used(), len(body))
				}
			}
			// The owner may change the file before its blocks are shared.
			c := opened(t, filepath.Join(dir, "changed"), wide)
			changed := &segments(t, body, peerdist.SHA256)[0]
			for j := range changed.Blocks() {
				put(t, c, changed, body, j)
			}
			if err := f.Truncate(100_000); err != nil {
				t.Fatal(err)
			}
			if err := c.Share(changed, f); err == nil {
				t.Error("a file that is too short was shared")
			}
			if b, err := c.Read(changed.ID(), 5, nil); err != nil || !bytes.Equal(b.Data, block(changed, body, 5)) {
				t.Errorf("what was here before: %v", err)
			}
			if _, err := f.WriteAt(random(len(body)-100_000, 10), 100_000); err != nil {
				t.Fatal(err)
			}
			if err := c.Share(changed, f); err != nil {
				t.Fatal(err)
			}
			for j := range changed.Blocks() {
				if _, err := c.Read(changed.ID(), j, nil); (err == nil) != (j == 0) {
					t.Errorf("block %d of a file that has changed from 100000 on: %v", j, err)
				}
			}
		})
	}
}
