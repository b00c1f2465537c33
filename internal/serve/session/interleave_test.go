package session_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/internal/serve/session/sessiontest"
)

// dirWorld is a Dir that is left by giving up its lock, and found again in the same directory.
type dirWorld struct {
	root string
	d    *session.Dir
}

func (w *dirWorld) Store(t *testing.T, _ bool) session.Store {
	if w.d != nil {
		w.d.Close()
	}
	w.d = open(t, w.root, session.Options{})
	return w.d
}

func (w *dirWorld) Targets(t *testing.T) map[string][]byte { return targets(t, w.root) }

// targets reads the files in root.
func targets(t *testing.T, root string) map[string][]byte {
	t.Helper()
	list, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]byte{}
	for _, e := range list {
		if e.IsDir() {
			continue
		}
		if m[e.Name()], err = os.ReadFile(filepath.Join(root, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestInterleavedRequests(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		sessiontest.Interleave(t, &dirWorld{root: t.TempDir()}, seed, 300)
	}
}
