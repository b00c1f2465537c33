package tus

import (
	"bytes"
	"errors"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
	"github.com/ebbtransfer/ebb/test/servers"
)

// independent starts the tus server of npm.
func independent(t *testing.T) (*servers.Server, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := servers.Tus(dir, servers.Options{})
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, dir
}

func TestUploadToAnIndependentServer(t *testing.T) {
	s, dir := independent(t)
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
}

func TestAnIndependentServerWithBrokenConnections(t *testing.T) {
	s, dir := independent(t)
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
}

func TestAnIndependentServerIsKilled(t *testing.T) {
	s, dir := independent(t)
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
}

func TestCancelOnAnIndependentServer(t *testing.T) {
	s, dir := independent(t)
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
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%d files are left (%v)", len(left), err)
	}
}
