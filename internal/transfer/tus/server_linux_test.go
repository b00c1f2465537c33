package tus

import (
	"bytes"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
	"github.com/ebbtransfer/ebb/test/servers"
)

// independent runs a test with the server of tus's authors and with that of npm.
func independent(t *testing.T, test func(t *testing.T, s *servers.Server, dir string)) {
	t.Helper()
	for name, start := range map[string]func(string, servers.Options) (*servers.Server, error){"tusd": servers.Tusd, "npm": servers.Tus} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := start(dir, servers.Options{})
			if errors.Is(err, servers.ErrNotInstalled) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			test(t, s, dir)
		})
	}
}

func TestUploadToAnIndependentServer(t *testing.T) {
	independent(t, func(t *testing.T, s *servers.Server, dir string) {
		c := New(uploadtest.Client())
		for _, class := range []governor.Class{governor.Foreground, governor.Background} {
			for _, n := range []int{0, 1, 5<<20 + 7} {
				data := uploadtest.Bytes(n, byte(n))
				task := uploadtest.New(t, s.URL+"/files", uploadtest.NewSource("ä.bin", data))
				task.Class = class
				if err := c.Upload(t.Context(), task.Task); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(filepath.Join(dir, path.Base(task.State.URL)))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("the server has %d bytes (%v) that are not the file's %d", len(got), err, n)
				}
			}
		}
	})
}

func TestAnIndependentServerWithBrokenConnections(t *testing.T) {
	independent(t, func(t *testing.T, s *servers.Server, dir string) {
		for seed := range uint64(10) {
			data := uploadtest.Bytes(3<<20, byte(seed))
			proxy := uploadtest.NewProxy(t, s.URL, 8, 2<<20, seed)
			task := uploadtest.New(t, proxy.URL+"/files", uploadtest.NewSource("f", data))
			if err := task.Patiently(t.Context(), New(uploadtest.Client()), 30); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			got, err := os.ReadFile(filepath.Join(dir, path.Base(task.State.URL)))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("seed %d: the server has %d bytes (%v) that are not the file's %d", seed, len(got), err, len(data))
			}
		}
	})
}

func TestAnIndependentServerIsKilled(t *testing.T) {
	independent(t, func(t *testing.T, s *servers.Server, dir string) {
		data := uploadtest.Bytes(24<<20, 9)
		src := uploadtest.NewSource("f", data)
		killed := false
		src.Fail = func(off int64) error {
			if off > 12<<20 && !killed {
				killed = true
				s.Stop()
			}
			return nil
		}
		task := uploadtest.New(t, s.URL+"/files", src)
		c := New(uploadtest.Client())
		if err := c.Upload(t.Context(), task.Task); err == nil {
			t.Fatal("no error")
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		task.Restart()
		if err := c.Upload(t.Context(), task.Task); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, path.Base(task.State.URL)))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("the server has %d bytes (%v) that are not the file's %d", len(got), err, len(data))
		}
	})
}

func TestCancelOnAnIndependentServer(t *testing.T) {
	independent(t, func(t *testing.T, s *servers.Server, dir string) {
		src := uploadtest.NewSource("f", uploadtest.Bytes(1<<20, 9))
		src.Fail = func(off int64) error {
			if off > 0 {
				return bits.Errorf(bits.LocalFileChanged, "it changed")
			}
			return nil
		}
		task := uploadtest.New(t, s.URL+"/files", src)
		c := New(uploadtest.Client())
		if err := c.Upload(t.Context(), task.Task); !errors.Is(err, &bits.Error{Code: bits.LocalFileChanged}) {
			t.Fatal(err)
		}
		if err := c.Cancel(t.Context(), task.Task); err != nil {
			t.Fatal(err)
		}
		left, err := os.ReadDir(dir)
		left = slices.DeleteFunc(left, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), ".lock") }) // tusd answers before it unlocks
		if err != nil || len(left) != 0 {
			t.Errorf("%v are left (%v)", left, err)
		}
	})
}

// TestPartsToTusd uploads parts at once, which the server joins.
func TestPartsToTusd(t *testing.T) {
	dir := t.TempDir()
	s, err := servers.Tusd(dir, servers.Options{})
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	data := uploadtest.Bytes(largeFile+1, 3)
	task := uploadtest.New(t, s.URL+"/files", uploadtest.NewSource("f", data))
	c := New(uploadtest.Client())
	r := &run{c: c, t: task.Task}
	if err := r.ask(t.Context()); err != nil || !r.server.concatenation {
		t.Fatalf("%+v, %v", r.server, err)
	}
	if err := r.split(); err != nil { // as if the server were far away
		t.Fatal(err)
	}
	if err := c.Upload(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, path.Base(task.State.URL)))
	if err != nil || !bytes.Equal(got, data) || len(task.State.Parts) != parts {
		t.Errorf("the server has %d bytes (%v) from %d parts", len(got), err, len(task.State.Parts))
	}
	if err := c.Close(t.Context(), task.Task); err != nil {
		t.Error(err)
	}
}
