package policy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	// As editors do it: a new file in the place of the old.
	if err := os.WriteFile(name+"~", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+"~", name); err != nil {
		t.Fatal(err)
	}
}

// watched is a File that is watched for the length of a test.
type watched struct {
	*File
	applied chan Policy
	read    chan error
}

func watch(t *testing.T, given string) *watched {
	t.Helper()
	w := &watched{applied: make(chan Policy, 10), read: make(chan error, 10)}
	var err error
	if w.File, err = Open(given, func(p Policy) { w.applied <- p }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Watch(ctx, func(err error) { w.read <- err }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
	})
	return w
}

// next returns the policy after the next reading, which must be without an error.
func (w *watched) next(t *testing.T) Policy {
	t.Helper()
	if err := w.reading(t); err != nil {
		t.Fatal(err)
	}
	return <-w.applied
}

func (w *watched) reading(t *testing.T) error {
	t.Helper()
	select {
	case err := <-w.read:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the change was not seen")
		return nil
	}
}

func TestWatchGivenFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "policy.toml")
	write(t, name, "jobs.background = 2\n")
	w := watch(t, name)
	if d := w.Describe(); w.Policy().Jobs.Background != 2 || d.File != name || !d.Exists || len(d.Errors) > 0 || d.Read.IsZero() {
		t.Fatalf("%+v", d)
	}
	write(t, name, "jobs.background = 3\n")
	if p := w.next(t); p.Jobs.Background != 3 || w.Policy().Jobs.Background != 3 {
		t.Fatalf("%+v", p.Jobs)
	}

	// An error changes nothing and is told, until it is gone.
	write(t, name, "jobs.background = 4\njobs.foreground = 0\n")
	if err := w.reading(t); err == nil || !strings.HasPrefix(err.Error(), name+":2: ") {
		t.Fatal(err)
	}
	if d := w.Describe(); w.Policy().Jobs.Background != 3 || len(d.Errors) != 1 || len(w.Problems()) != 1 || len(w.applied) > 0 {
		t.Fatalf("%+v", d)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := w.reading(t); err == nil || !strings.Contains(err.Error(), "does not exist") || w.Policy().Jobs.Background != 3 {
		t.Fatal(err)
	}
	write(t, name, "jobs.background = 5\n")
	if p := w.next(t); p.Jobs.Background != 5 || len(w.Problems()) > 0 {
		t.Fatalf("%+v", p.Jobs)
	}
}

// A file that is written in place is never applied in part, whenever it happens to be read.
func TestWatchFileWrittenInPlace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "policy.toml")
	write(t, name, "jobs.background = 2\n")
	w := watch(t, name)
	for began := time.Now(); time.Since(began) < 4*settle; { // for a reading to fall between two steps
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"jobs.", "background = 6", "\n"} {
			if _, err := f.WriteString(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if p := w.next(t); p.Jobs.Background != 6 {
		t.Fatalf("%+v", p.Jobs)
	}
}

// The user's file counts, else the machine's; one that appears, also with its directory, is
// found, and one that goes leaves the defaults.
func TestWatchFindsTheFile(t *testing.T) {
	if _, err := os.Stat(SystemFile); err == nil {
		t.Skip("there is a " + SystemFile)
	}
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	name := filepath.Join(home, "config", "ebb", "policy.toml")
	w := watch(t, "")
	if d := w.Describe(); d.Exists || len(d.Settings) == 0 {
		t.Fatalf("%+v", d)
	}
	write(t, name, "jobs.background = 2\n")
	if p := w.next(t); p.Jobs.Background != 2 || w.Describe().File != name {
		t.Fatalf("%+v", w.Describe())
	}
	if err := os.RemoveAll(filepath.Dir(name)); err != nil {
		t.Fatal(err)
	}
	if p := w.next(t); p.Jobs.Background != 1 || w.Describe().Exists {
		t.Fatalf("%+v", p.Jobs)
	}
	write(t, name, "jobs.background = 3\n")
	if p := w.next(t); p.Jobs.Background != 3 {
		t.Fatalf("%+v", p.Jobs)
	}
}

// A file that is a link is followed to where it is.
func TestWatchLink(t *testing.T) {
	dir := t.TempDir()
	target, name := filepath.Join(dir, "shared", "policy.toml"), filepath.Join(dir, "here", "policy.toml")
	write(t, target, "jobs.background = 2\n")
	if err := os.Mkdir(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		t.Skip(err)
	}
	w := watch(t, name)
	write(t, target, "jobs.background = 3\n")
	if p := w.next(t); p.Jobs.Background != 3 {
		t.Fatalf("%+v", p.Jobs)
	}
}

func TestReload(t *testing.T) {
	name := filepath.Join(t.TempDir(), "policy.toml")
	if _, err := Open(name, nil); err == nil || !strings.Contains(err.Error(), name+": the configuration file does not exist") {
		t.Fatal(err)
	}
	write(t, name, "jobs.background = 0\n")
	if _, err := Open(name, nil); err == nil {
		t.Fatal("a service would start with a file that has an error")
	}
	write(t, name, "jobs.background = 2\n")
	var applied int
	f, err := Open(name, func(p Policy) { applied = p.Jobs.Background })
	if err != nil || applied != 0 {
		t.Fatal(err, applied)
	}
	write(t, name, "jobs.background = 3\n")
	if err := f.Reload(); err != nil || applied != 3 {
		t.Fatal(err, applied)
	}
	write(t, name, "jobs.background = 0\n")
	var problems Problems
	if err := f.Reload(); !errors.As(err, &problems) || problems[0].Line != 1 || applied != 3 || f.Policy().Jobs.Background != 3 {
		t.Fatal(err, applied)
	}
}

func TestFind(t *testing.T) {
	if _, err := os.Stat(SystemFile); err == nil {
		t.Skip("there is a " + SystemFile)
	}
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	own := filepath.Join(home, "ebb", "policy.toml")
	want := own
	if os.Geteuid() == 0 {
		want = SystemFile
	}
	if name, exists := Find(); name != want || exists {
		t.Errorf("%s %v, want %s", name, exists, want)
	}
	write(t, own, "")
	if name, exists := Find(); name != own || !exists {
		t.Errorf("%s %v", name, exists)
	}
}
