// Package reflink makes file systems, for tests, on which files can share blocks.
package reflink

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Disk returns a directory on a new file system of a kind: btrfs or xfs. It needs root and packages of Debian, and a kernel that
// mounts it: else the test is skipped. In CI only the kernel is an excuse.
func Disk(t testing.TB, kind string) string {
	t.Helper()
	absent := func(why string) {
		t.Helper()
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if os.Getuid() != 0 {
		absent("mounting needs root")
	}
	for _, tool := range []string{"mkfs." + kind, "filefrag", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			absent(tool + " is missing: apt-get install btrfs-progs xfsprogs e2fsprogs mount")
		}
	}
	base, err := os.MkdirTemp("", "reflink")
	if err != nil {
		t.Fatal(err)
	}
	image, dir := filepath.Join(base, "image"), filepath.Join(base, "disk")
	run := func(name string, args ...string) error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Logf("%s: %v: %s", name, err, out)
		}
		return err
	}
	mounted := false
	t.Cleanup(func() {
		if mounted && run("umount", dir) != nil {
			t.Error("the disk is still in use")
			return
		}
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	// Of the size that xfs wants at least, of which nothing is written.
	err = errors.Join(os.Mkdir(dir, 0o755), run("truncate", "-s", "512M", image), run("mkfs."+kind, "-q", image))
	if err != nil {
		t.Fatal(err)
	}
	if run("mount", "-o", "loop", image, dir) != nil {
		t.Skip("this kernel mounts no " + kind)
	}
	mounted = true
	return dir
}

// Shared reports whether blocks of a file, which is durable or becomes it, are those of others too.
func Shared(t testing.TB, name string) bool {
	t.Helper()
	out, err := exec.Command("filefrag", "-s", "-v", name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Contains(string(out), "shared")
}
