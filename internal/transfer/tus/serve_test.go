package tus

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/serve/session"
	serve "github.com/ebbtransfer/ebb/internal/serve/tus"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

// ebb starts Ebb's own server and returns the URL of a prefix and the directory that it fills.
func ebb(t *testing.T) (string, string) {
	t.Helper()
	root := t.TempDir()
	store, err := session.OpenDir(root, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &session.Prefix{Path: "/up/", Root: root, Store: store, MaxSize: -1, SessionTimeout: time.Hour, Overwrite: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	s := httptest.NewServer(serve.New(p))
	t.Cleanup(func() {
		s.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.URL, root
}

func TestUploadToEbb(t *testing.T) {
	u, root := ebb(t)
	c := New(uploadtest.Client())
	for _, class := range []governor.Class{governor.Foreground, governor.Background} {
		for _, n := range []int{0, 1, 5<<20 + 7, 40 << 20} {
			for _, at := range []string{"/up/", "/up/ä.bin"} {
				data := uploadtest.Bytes(n, byte(n)+byte(class))
				task := uploadtest.New(t, u+at, uploadtest.NewSource("ä.bin", data))
				task.Class = class
				if err := c.Upload(t.Context(), task.Task); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(filepath.Join(root, "ä.bin"))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("the server has %d bytes (%v) that are not the file's %d", len(got), err, n)
				}
				if err := c.Close(t.Context(), task.Task); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestEbbWithBrokenConnections(t *testing.T) {
	u, root := ebb(t)
	for seed := range uint64(20) {
		data := uploadtest.Bytes(3<<20, byte(seed))
		proxy := uploadtest.NewProxy(t, u, 8, 2<<20, seed)
		task := uploadtest.New(t, proxy.URL+"/up/f", uploadtest.NewSource("f", data))
		if seed%2 == 1 {
			task.Class = governor.Background
		}
		if err := task.Patiently(t.Context(), New(uploadtest.Client()), 30); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := os.ReadFile(filepath.Join(root, "f"))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("seed %d: the server has %d bytes (%v) that are not the file's %d", seed, len(got), err, len(data))
		}
	}
}

func TestPartsToEbb(t *testing.T) {
	u, root := ebb(t)
	data := uploadtest.Bytes(largeFile+1, 3)
	task := uploadtest.New(t, u+"/up/f", uploadtest.NewSource("f", data))
	c := New(uploadtest.Client())
	r := &run{c: c, t: task.Task}
	if err := r.ask(t.Context()); err != nil || !r.server.concatenation || r.server.checksum != "crc32c" {
		t.Fatalf("%+v, %v", r.server, err)
	}
	if err := r.split(); err != nil { // as if the server were far away
		t.Fatal(err)
	}
	if err := c.Upload(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "f"))
	if err != nil || !bytes.Equal(got, data) || len(task.State.Parts) != parts {
		t.Errorf("the server has %d bytes (%v) from %d parts", len(got), err, len(task.State.Parts))
	}
	if err := c.Close(t.Context(), task.Task); err != nil {
		t.Error(err)
	}
}
