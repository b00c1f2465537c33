package session_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

func TestTargetsThatCannotBeMade(t *testing.T) {
	outside, root := t.TempDir(), t.TempDir()
	d := open(t, root, session.Options{})
	make := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	make(os.Mkdir(filepath.Join(root, "dir"), 0o755))
	make(os.WriteFile(filepath.Join(root, "file"), nil, 0o600))
	make(os.Symlink(outside, filepath.Join(root, "out")))
	make(os.Symlink("dir", filepath.Join(root, "in")))
	make(os.Symlink(".", filepath.Join(root, "dir", "loop")))
	make(os.Symlink(session.Hidden, filepath.Join(root, "uploads")))
	make(unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	for _, target := range []string{"missing/f", "file/f", "out/f", "in/f", "dir/loop/f", "uploads/f", "fifo/f", "dir", "../f", "/f", ".ebb-uploads/f"} {
		s := spec(target, 1)
		s.Overwrite = true
		_, err := d.Create(t.Context(), s)
		wantErr(t, err, session.ErrTarget)
	}
	if left := hidden(t, root); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestLinksThatAppearLater puts a symbolic link in the way after the session was made.
func TestLinksThatAppearLater(t *testing.T) {
	outside, root := t.TempDir(), t.TempDir()
	d := open(t, root, session.Options{})
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	over := spec("dir/f", 1)
	over.Overwrite = true
	a, b := create(t, d, spec("dir/f", 1)), create(t, d, over)
	appendAll(t, d, a, []byte("a"))
	appendAll(t, d, b, []byte("b"))

	// As the target: it exists, and is replaced, never followed.
	if err := os.Symlink(victim, filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	with(t, d, a, func(ctx context.Context, s session.Session) { wantErr(t, s.Publish(ctx), session.ErrExists) })
	publish(t, d, b)
	wantFile(t, filepath.Join(dir, "f"), []byte("b"))
	wantFile(t, victim, []byte("precious"))

	// As its directory.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, dir); err != nil {
		t.Fatal(err)
	}
	with(t, d, a, func(ctx context.Context, s session.Session) { wantErr(t, s.Publish(ctx), session.ErrTarget) })
	if list, err := os.ReadDir(outside); err != nil || len(list) != 1 {
		t.Errorf("outside are %v, %v", list, err)
	}
	// The upload is not lost by that.
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	publish(t, d, a)
	wantFile(t, filepath.Join(dir, "f"), []byte("a"))
}

func TestDirectoryOfSessionsThatIsNotOurs(t *testing.T) {
	for name, prepare := range map[string]func(path string) error{
		"symlink":   func(path string) error { return os.Symlink(t.TempDir(), path) },
		"in root":   func(path string) error { return os.Symlink(".", path) },
		"file":      func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"writable":  func(path string) error { return os.Mkdir(path, 0o777) },
		"of others": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, session.Hidden)
			if err := prepare(path); err != nil {
				t.Fatal(err)
			}
			switch name {
			case "writable":
				if err := os.Chmod(path, 0o777); err != nil {
					t.Fatal(err)
				}
			case "of others":
				if os.Geteuid() != 0 {
					t.Skip("only root gives a directory away")
				}
				if err := os.Chown(path, 4321, 4321); err != nil {
					t.Fatal(err)
				}
			}
			if d, err := session.OpenDir(root, session.Options{}); err == nil {
				d.Close()
				t.Error("it was used")
			}
		})
	}
}

func TestTargetOnAnotherDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts file systems")
	}
	root := t.TempDir()
	other := filepath.Join(root, "other")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", other, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(other, unix.MNT_DETACH) })
	d := open(t, root, session.Options{})
	_, err := d.Create(t.Context(), spec("other/f", 1))
	wantErr(t, err, session.ErrTarget)
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts file systems")
	}
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	d := open(t, root, session.Options{MinFree: 64 << 10})
	t.Cleanup(func() { d.Close() })
	_, err := d.Create(t.Context(), spec("f", 1000<<10))
	wantErr(t, err, session.ErrNoSpace)
	want := source(1500 << 10)
	id := create(t, d, spec("f", -1))
	with(t, d, id, func(ctx context.Context, s session.Session) {
		_, err := s.Append(ctx, bytes.NewReader(want))
		wantErr(t, err, session.ErrNoSpace)
	})
	had := int64(0)
	with(t, d, id, func(ctx context.Context, s session.Session) {
		had = s.Info().Offset
		wantErr(t, s.SetSize(ctx, int64(len(want))), session.ErrNoSpace)
		if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_REMOUNT, "size=8m"); err != nil {
			t.Skipf("remount: %v", err)
		}
		if _, err := s.Append(ctx, bytes.NewReader(want[had:])); err != nil {
			t.Fatal(err)
		}
		if err := s.SetSize(ctx, int64(len(want))); err != nil {
			t.Fatal(err)
		}
	})
	publish(t, d, id)
	wantFile(t, filepath.Join(root, "f"), want)
}

// An upload whose size nobody knows ends while there is still so much free as is to stay free.
func TestFreeSpaceIsLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts file systems")
	}
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	const stay = 48 << 20
	d := open(t, root, session.Options{MinFree: stay})
	t.Cleanup(func() { d.Close() })
	id := create(t, d, spec("f", -1))
	with(t, d, id, func(ctx context.Context, s session.Session) {
		n, err := s.Append(ctx, bytes.NewReader(make([]byte, 96<<20)))
		wantErr(t, err, session.ErrNoSpace)
		if n < stay-1<<20 || n > stay+32<<20 {
			t.Errorf("it took %d bytes of %d", n, stay)
		}
	})
}
