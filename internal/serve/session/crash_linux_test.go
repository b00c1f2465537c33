package session_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/internal/serve/session/sessiontest"
)

const (
	// workEnv makes the test binary a process that uploads into the root that it names.
	workEnv = "SESSION_TEST_ROOT"
	// bootEnv names a file that it takes for the kernel's boot id.
	bootEnv = "SESSION_TEST_BOOT"
)

func TestMain(m *testing.M) {
	root := os.Getenv(workEnv)
	if root == "" {
		os.Exit(m.Run())
	}
	if boot := os.Getenv(bootEnv); boot != "" {
		if err := unix.Mount(boot, "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND, ""); err != nil {
			panic(err)
		}
	}
	d, err := session.OpenDir(root, session.Options{})
	if err == nil {
		fmt.Println()
		err = sessiontest.Work(context.Background(), d, 4, 300_000, 100_000, os.Stdout)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// work starts a process that uploads into root, lets it for about a moment, calls end, and returns
// what its clients were told: with a boot id before end began, else by the time it is dead.
func work(t *testing.T, root, boot string, moment time.Duration, end func(*os.Process)) []byte {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), workEnv+"="+root, bootEnv+"="+boot)
	if boot != "" {
		c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has opened the store
		_ = c.Wait()
		t.Fatalf("%v: %s", err, &stderr)
	}
	ended := make(chan struct{})
	var cut atomic.Bool
	time.AfterFunc(time.Duration(rand.Int64N(int64(moment))), func() {
		cut.Store(true)
		end(c.Process)
		close(ended)
	})
	var told bytes.Buffer
	for r := bufio.NewReader(out); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			break
		}
		// The kernel lets some fsync succeed that began before the file system was cut off from its
		// disk. What was told then is no promise that can be held, only what was about to be done.
		if boot == "" || !cut.Load() || bytes.Contains(line, []byte(`"Removing":true`)) {
			told.Write(line)
		}
	}
	<-ended
	_ = c.Wait()
	if boot == "" && stderr.Len() > 0 {
		t.Fatalf("the process ended by itself: %s", &stderr)
	}
	return told.Bytes()
}

func check(t *testing.T, root string, l *sessiontest.Ledger, told []byte) {
	t.Helper()
	if err := l.Read(told); err != nil {
		t.Fatal(err)
	}
	d := open(t, root, session.Options{})
	defer d.Close()
	if err := l.Check(t.Context(), d, targets(t, root)); err != nil {
		t.Fatal(err)
	}
}

func TestKilledAtAnyMoment(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	root := t.TempDir()
	var l sessiontest.Ledger
	told := 0
	for range rounds {
		b := work(t, root, "", 50*time.Millisecond, func(p *os.Process) { _ = p.Kill() })
		told += bytes.Count(b, []byte("\n"))
		check(t, root, &l, b)
	}
	t.Logf("%d events, %d files", told, len(targets(t, root)))
}

// disk mounts a file system of its own for a test. The function mounts it again, with what is on its
// disk.
func disk(t *testing.T) (root string, again func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts file systems")
	}
	dir := t.TempDir()
	image, root := filepath.Join(dir, "image"), filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(name string, arg ...string) {
		t.Helper()
		if out, err := exec.Command(name, arg...).CombinedOutput(); err != nil {
			t.Skipf("%s %v: %v: %s", name, arg, err, out)
		}
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 256<<20); err != nil {
		t.Fatal(err)
	}
	run("mkfs.ext4", "-q", image)
	// Shared with mount namespaces that others make meanwhile, so that an unmount is one there too: else it would go on
	// being cut off.
	run("mount", "--bind", dir, dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	run("mount", "--make-shared", dir)
	run("mount", "-o", "loop", image, root)
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	return root, func() {
		t.Helper()
		run("umount", root)
		run("mount", "-o", "loop", image, root)
	}
}

// TestPowerLoss runs on a file system of its own that is cut off from its disk: what was not made
// durable is gone, as it is when the power fails.
func TestPowerLoss(t *testing.T) {
	root, again := disk(t)
	boot := filepath.Join(t.TempDir(), "boot")

	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	var l sessiontest.Ledger
	told := 0
	for i := range rounds {
		if err := os.WriteFile(boot, fmt.Appendf(nil, "boot-%d\n", i), 0o600); err != nil {
			t.Fatal(err)
		}
		b := work(t, root, boot, 150*time.Millisecond, func(p *os.Process) {
			cutPower(t, root)
			_ = p.Kill()
		})
		again()
		told += bytes.Count(b, []byte("\n"))
		check(t, root, &l, b)
	}
	t.Logf("%d events, %d files", told, len(targets(t, root)))
}

// TestPowerLossAfterRestart has a process killed after it renamed the file, and before the new name was
// durable. The next one tells the client that the file is there, so that has to be so for good.
func TestPowerLossAfterRestart(t *testing.T) {
	root, again := disk(t)
	const content = "the bytes"
	d := open(t, root, session.Options{})
	info, err := d.Create(t.Context(), session.Spec{Protocol: "tus", Target: "file", Size: int64(len(content)), Limit: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, s, err := d.Acquire(t.Context(), info.ID, session.Who{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	s.Release()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	if err := os.Rename(filepath.Join(root, session.Hidden, info.ID), filepath.Join(root, "file")); err != nil {
		t.Fatal(err)
	}

	d = open(t, root, session.Options{})
	_, s, err = d.Acquire(t.Context(), info.ID, session.Who{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	cutPower(t, root)
	s.Release()
	_ = d.Close()
	again()
	if b, err := os.ReadFile(filepath.Join(root, "file")); err != nil || string(b) != content {
		t.Fatalf("after the power loss the file is %q, %v", b, err)
	}
}

// cutPower makes a file system forget everything that is not on its disk.
func cutPower(t *testing.T, root string) {
	f, err := os.Open(root)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	const ioctl, noLogFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ioctl, noLogFlush); err != nil {
		t.Errorf("shut the file system down: %v", err)
	}
}
