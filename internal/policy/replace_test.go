//go:build unix

package policy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "ebb", "policy.toml")
	if err := Replace(name, nil, []byte("a")); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(name); err != nil || st.Mode() != 0o644 {
		t.Fatal(st.Mode(), err)
	}
	// Mode and owner stay, a link stays one.
	link := filepath.Join(dir, "link.toml")
	if err := errors.Join(os.Chmod(name, 0o640), os.Symlink(name, link)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(name, 1000, 1001); err != nil {
			t.Fatal(err)
		}
	}
	if err := Replace(link, []byte("a"), []byte("b")); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(name)
	if err != nil || st.Mode() != 0o640 {
		t.Fatal(st.Mode(), err)
	}
	if sys := st.Sys().(*syscall.Stat_t); os.Geteuid() == 0 && (sys.Uid != 1000 || sys.Gid != 1001) {
		t.Errorf("the file belongs to %d:%d", sys.Uid, sys.Gid)
	}
	if to, err := os.Readlink(link); err != nil || to != name {
		t.Error(to, err)
	}
	// What somebody else did in between is not lost.
	for _, was := range [][]byte{[]byte("a"), nil, {}} {
		if err := Replace(name, was, []byte("c")); !errors.Is(err, ErrChanged) {
			t.Errorf("with %q as it was: %v", was, err)
		}
	}
	if err := Replace(filepath.Join(dir, "gone.toml"), []byte("x"), []byte("c")); !errors.Is(err, ErrChanged) {
		t.Error(err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "b" {
		t.Errorf("%q, %v", b, err)
	}
	if left, _ := fs.Glob(os.DirFS(dir), "*/.policy-*"); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}
