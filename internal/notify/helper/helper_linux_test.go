package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test's own program be the helper, as ebb is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		os.Exit(Main(os.Args[2:], os.Stdin))
	}
	os.Exit(m.Run())
}

// nobody is a user that owns nothing.
var nobody = User{Switch: true, UID: 65534, GID: 65534}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("becoming another user needs root")
	}
	t.Skip("becoming another user needs root")
}

func shell(script string, env ...string) *Command {
	return &Command{Args: []string{"/bin/sh", "-c", script}, Env: append([]string{"PATH=/usr/bin:/bin"}, env...), Dir: "/"}
}

func TestCommand(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	t.Setenv("OF_THE_SERVICE", "secret")
	err := Run(t.Context(), &Task{Command: shell(`exec >"$OUT"; echo "$EBB_JOB_ID|$OF_THE_SERVICE|$(cat)"; ls /proc/self/fd`, "EBB_JOB_ID=7", "OUT="+out)})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(out)
	if want := "7||\n0\n1\n2\n3\n"; string(got) != want { // 3 is ls's own
		t.Errorf("the program saw %q, want %q", got, want)
	}
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name    string
		command *Command
		start   string // of a StartError
		how     string // of an ExitError
		output  string
	}{
		{"no such program", &Command{Args: []string{"/nonexistent/program"}}, "start /nonexistent/program: no such file or directory", "", ""},
		{"a directory", &Command{Args: []string{"/tmp"}}, "start /tmp: permission denied", "", ""},
		{"no program", &Command{}, "there is no program", "", ""},
		{"exit code", shell("echo no room >&2; exit 3"), "", "exit code 3", "no room"},
		{"signal", shell("kill -SEGV $$"), "", "ended by the signal segmentation fault", ""},
		{"much output", shell("yes 0123456789 | head -c 100000; echo; echo the end; exit 1"), "", "exit code 1", "the end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Run(t.Context(), &Task{Command: c.command})
			var start *StartError
			var exit *ExitError
			switch {
			case c.start != "":
				if !errors.As(err, &start) || start.Reason != c.start {
					t.Errorf("got %v, want %q", err, c.start)
				}
			case !errors.As(err, &exit) || exit.How != c.how || !strings.HasSuffix(exit.Output, c.output) || len(exit.Output) > mostOutput:
				t.Errorf("got %v, %+v; want %q, %q", err, exit, c.how, c.output)
			}
		})
	}
}

// What the program has started in the background lives on, but holds up nothing.
func TestLeftBehind(t *testing.T) {
	began := time.Now()
	if err := Run(t.Context(), &Task{Command: shell("sleep 60 & echo $!")}); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestTimeout(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	if err := os.WriteFile(pids, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	over := errors.New("its time is over")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, over)
	defer cancel()
	err := Run(ctx, &Task{Command: shell(`trap "" TERM; sleep 61 & echo $$ $! >"$OUT"; wait; wait; sleep 61`, "OUT="+pids)})
	if !errors.Is(err, over) {
		t.Errorf("got %v", err)
	}
	text, _ := os.ReadFile(pids)
	var main, child int
	if _, err := fmt.Sscan(string(text), &main, &child); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	gone := time.Now().Add(5 * time.Second)
	for _, pid := range []int{main, child} {
		for syscall.Kill(pid, 0) == nil && !zombie(pid) {
			if time.Now().After(gone) {
				t.Fatalf("process %d lives on", pid)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// zombie reports whether a process has ended, and nobody has asked how.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// serviceUID is the user of a service that is not root, and asService tells that it runs the test.
const (
	serviceUID = 65533
	asService  = "EBB_HELPER_TEST"
)

// A service need not be root: the rights to act as others are enough, whatever it leaves to programs.
func TestBecomeFromAService(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("", "ebb-helper")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// The service's user can run it there.
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(dir, "test")
	if out, err := exec.Command("install", "-m755", own, self).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, ambient := range []string{"kept", "cleared"} {
		t.Run(ambient, func(t *testing.T) {
			cmd := exec.Command(self, "-test.run=^TestBecome$", "-test.v")
			cmd.Env = []string{"PATH=/usr/bin:/bin", "CI=" + os.Getenv("CI"), asService + "=" + ambient}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: serviceUID, Gid: serviceUID}, AmbientCaps: []uintptr{unix.CAP_SETUID, unix.CAP_SETGID}}
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestBecome(t *testing.T) {
	switch os.Getenv(asService) {
	case "":
		needRoot(t)
	case "cleared":
		runtime.LockOSThread() // from which the helper is started
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	out := filepath.Join(dir, "out")
	if err := os.WriteFile(out, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(out, 0o666)
	u := nobody
	u.Groups = []uint32{65534}
	if err := Run(t.Context(), &Task{User: u, Command: shell(`id -u >"$OUT"; id -g >>"$OUT"; id -G >>"$OUT"; grep -E "^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs|Uid):" /proc/self/status | tr -d "\t" >>"$OUT"; cat /etc/shadow >>"$OUT" 2>/dev/null`, "OUT="+out)}); err == nil {
		t.Error("nobody could read /etc/shadow")
	}
	got, _ := os.ReadFile(out)
	want := "65534\n65534\n65534\nUid:65534655346553465534\nCapInh:0000000000000000\nCapPrm:0000000000000000\nCapEff:0000000000000000\nCapAmb:0000000000000000\nNoNewPrivs:1\n"
	if string(got) != want {
		t.Errorf("the program was\n%s\nwant\n%s", got, want)
	}
}

func TestHook(t *testing.T) {
	var got []string
	var answer int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.URL.Path+" "+r.Header.Get("Webhook-Id")+" "+string(body))
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(answer)
	}))
	defer s.Close()
	hook := func() error {
		return Run(t.Context(), &Task{Hook: &Hook{URL: s.URL + "/hook?token=geheim", Header: map[string]string{"Webhook-Id": "7"}, Body: "{}", Timeout: 10 * time.Second}})
	}
	for _, c := range []struct {
		status int
		want   string
	}{{204, ""}, {500, "the web hook's server answered 500"}, {302, "the web hook's server answered 302"}} {
		got, answer = nil, c.status
		err := hook()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("with %d the error is %v", c.status, err)
		}
		if len(got) != 1 || got[0] != "POST /hook 7 {}" {
			t.Errorf("the server got %q", got)
		}
	}
	s.Close()
	if err := hook(); err == nil || strings.Contains(err.Error(), "geheim") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("without a server the error is %v", err)
	}
}

// A user's hook comes from a process of that user.
func TestHookIsTheUsers(t *testing.T) {
	needRoot(t)
	var uid string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, port, _ := strings.Cut(r.RemoteAddr, ":")
		uid = socketUser(t, port)
	}))
	defer s.Close()
	if err := Run(t.Context(), &Task{User: nobody, Hook: &Hook{URL: s.URL, Timeout: 10 * time.Second}}); err != nil {
		t.Skipf("the test's program is not one that others may start: %v", err)
	}
	if uid != "65534" {
		t.Errorf("the hook came from the user %q", uid)
	}
}

// socketUser returns the user whose socket has a local port, as the kernel tells.
func socketUser(t *testing.T, port string) string {
	var n int
	_, _ = fmt.Sscan(port, &n)
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 7 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) {
			return f[7]
		}
	}
	return ""
}
