package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// serviceUID is the user of a service that is not root, and asService tells which one runs the test.
const (
	serviceUID = 65533
	asService  = "EBB_PROXY_TEST"
)

// attempt is the script by which a helper of the test's is told to try what it must not do.
const attempt = "//attempt"

// intruder is the input of a helper of the test's: where it brings the script attempt, the helper does not
// run it but tries, in its own process and with what rights it has then, what its URL lists.
func intruder(in io.Reader, out io.Writer) io.Reader {
	return &intruding{in: bufio.NewReader(in), out: out}
}

type intruding struct {
	in  *bufio.Reader
	out io.Writer
	was bool
}

func (i *intruding) Read(p []byte) (int, error) {
	if i.was {
		return i.in.Read(p)
	}
	i.was = true
	line, err := i.in.ReadBytes('\n')
	if err != nil {
		return 0, err
	}
	var q question
	if json.Unmarshal(line, &q) != nil || q.Script != attempt {
		i.in = bufio.NewReader(io.MultiReader(bytes.NewReader(line), i.in))
		return i.in.Read(p)
	}
	var did []string
	try := func(what string, err error) {
		if err == nil {
			did = append(did, what)
		}
	}
	for _, at := range strings.Fields(q.URL) {
		kind, at, _ := strings.Cut(at, "=")
		switch kind {
		case "read":
			_, err := os.ReadFile(at)
			try("read "+at, err)
			try("truncate "+at, os.Truncate(at, 0))
			try("remove "+at, os.Remove(at))
		case "list":
			_, err := os.ReadDir(at)
			try("list "+at, err)
			try("write in "+at, os.WriteFile(filepath.Join(at, "new"), []byte("x"), 0o600))
		case "tcp", "unix":
			c, err := net.DialTimeout(kind, at, 5*time.Second)
			if err == nil {
				c.Close()
			}
			try("connect to "+at, err)
		case "pid":
			var pid int
			_, _ = fmt.Sscan(at, &pid)
			try("signal the service", unix.Kill(pid, 0))
			_, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			try("look into the service", err)
		}
	}
	try("start a process", exec.Command("/bin/true").Run())
	try("start itself", exec.Command("/proc/self/exe", HelperVerb).Start())
	_, err = net.Listen("tcp", "127.0.0.1:0")
	try("listen", err)
	if os.Getuid() != 0 {
		_, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
		try("become root", errnoOrNil(e))
	}
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil || d[0].Permitted|d[0].Inheritable|d[1].Permitted != 0 {
		did = append(did, "have capabilities")
	}
	if n, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); n != 1 {
		did = append(did, "get new privileges")
	}
	_ = json.NewEncoder(i.out).Encode(found{Proxies: fmt.Sprintf("uid %d: %s", os.Getuid(), strings.Join(did, ", "))})
	return 0, io.EOF
}

func errnoOrNil(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// TestConfinement has the process of a script try to get at the service's files, sockets and processes:
// where the service is root, has the two capabilities of the packaged unit, or is a user's own; with
// Landlock and without; and where nothing can be done, which only a user's own service puts up with.
func TestConfinement(t *testing.T) {
	if mode := os.Getenv(asService); mode != "" {
		confinement(t, mode)
		return
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("becoming another user needs root")
		}
		confinement(t, "own")
		return
	}
	dir, err := os.MkdirTemp("", "ebb-proxy")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(dir, "test") // where other users can execute it
	if out, err := exec.Command("install", "-m755", own, self).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"root", "unit", "own", "root without landlock", "unit without landlock", "own without landlock", "unit without landlock nor setresuid", "root without landlock nor setresuid", "unit without setresuid", "root without setresuid"} {
		t.Run(mode, func(t *testing.T) {
			cmd := exec.Command(self, "-test.run=^TestConfinement$", "-test.v")
			cmd.Env = []string{"PATH=/usr/bin:/bin", "CI=" + os.Getenv("CI"), asService + "=" + mode}
			if !strings.HasPrefix(mode, "root") {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: serviceUID, Gid: serviceUID}}
			}
			if strings.HasPrefix(mode, "unit") {
				cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SETUID, unix.CAP_SETGID}
			}
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// confinement is the test within a service.
func confinement(t *testing.T, mode string) {
	// The socket and the secret are in a directory that all may enter: it is not its rights that protect them.
	dir, err := os.MkdirTemp("", "ebb-proxy")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	secret := filepath.Join(dir, "store.key")
	if err := os.WriteFile(secret, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := os.Chmod(socket.Addr().String(), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, without, ok := strings.Cut(mode, " without "); ok {
		calls := map[string]uint32{"landlock": unix.SYS_LANDLOCK_CREATE_RULESET, "setresuid": unix.SYS_SETRESUID}
		for name := range strings.SplitSeq(without, " nor ") {
			forbid(t, calls[name])
		}
	}
	ends(t)
	var log strings.Builder
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	var hs helpers
	defer hs.close()
	list := fmt.Sprintf("read=%s list=%s tcp=%s unix=%s pid=%d read=/etc/shadow list=/root list=/proc", secret, dir, web.Addr(), socket.Addr(), os.Getpid())
	got, err := hs.find(t.Context(), 1000, attempt, list, "")
	uid, did, _ := strings.Cut(got, ": ")
	wantUID := "uid 65534"
	if strings.HasPrefix(mode, "own") || mode == "unit without setresuid" {
		wantUID = fmt.Sprint("uid ", os.Getuid())
	}
	t.Log(got, err, log.String())
	version := landlockVersion()
	switch mode {
	case "unit without landlock nor setresuid", "root without landlock nor setresuid", "root without setresuid":
		if err == nil || !strings.Contains(err.Error(), errRefused.Error()) {
			t.Errorf("a script ran: %s, %v", got, err)
		}
		_, _ = hs.find(t.Context(), 1001, attempt, list, "")
	case "own without landlock":
		if err != nil || uid != wantUID || !strings.Contains(did, "read "+secret) || strings.Contains(did, "process") || strings.Contains(did, "connect") {
			t.Errorf("%s, %v", got, err)
		}
		_, _ = hs.find(t.Context(), 1001, attempt, list, "")
	case "root without landlock", "unit without landlock":
		// What all users of the machine may read is not secret.
		if err != nil || uid != wantUID || did != "list "+dir+", list /proc" {
			t.Errorf("%s, %v", got, err)
		}
	default:
		if version < 1 {
			t.Skip("the kernel has no Landlock")
		}
		if err != nil || uid != wantUID {
			t.Errorf("%s, %v", got, err)
		}
		if did != "" {
			t.Errorf("it could %s", did)
		}
	}
	want := 0
	if strings.Contains(mode, "nor") || mode == "root without setresuid" || mode == "own without landlock" {
		want = 1
	}
	if n := strings.Count(log.String(), "cannot be confined"); n != want {
		t.Errorf("the log tells it %d times, want %d", n, want)
	}
}

// ends checks that the service can end a helper that does not end of itself. It need not have the right to
// send signals to others' processes.
func ends(t *testing.T) {
	t.Helper()
	cmd, end, err := confined()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // open until Wait
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	end(cmd.Process) // one that refuses has ended by itself
	if err := cmd.Wait(); !refusing(os.Getenv(asService)) && (err == nil || err.Error() != "signal: killed") {
		t.Errorf("the helper ended with: %v", err)
	}
}

func landlockVersion() int {
	v, _, e := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return 0
	}
	return int(v)
}

// forbid takes a system call from this process and those that it starts, as a sandbox of the service would.
func forbid(t *testing.T, call uint32) {
	t.Helper()
	p := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	program := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	if _, _, e := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); e != 0 {
		t.Fatal(e)
	}
}

// refusing reports whether a service of this mode runs no scripts.
func refusing(mode string) bool {
	return strings.Contains(mode, " nor ") || mode == "root without setresuid"
}
