//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// playEbb makes this test program behave as ebb, and its daemon verb as the fake service.
const playEbb = "EBB_TEST_PLAYS_EBB"

func TestMain(m *testing.M) {
	if os.Getenv(playEbb) == "" {
		os.Exit(m.Run())
	}
	if len(os.Args) > 1 && os.Args[1] == "daemon" {
		err := fakeDaemon(os.Args[2:])
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitCode(err))
	}
	main()
}

// outcome is what a call of ebb left.
type outcome struct {
	code     int
	out, err string
}

// ebb calls ebb in this process, against the fake on the socket.
func ebb(t *testing.T, socket string, args ...string) outcome {
	t.Helper()
	t.Setenv("EBB_SOCKET", socket)
	var out, err bytes.Buffer
	code := run(args, strings.NewReader(""), &out, &err)
	return outcome{code, out.String(), err.String()}
}

func (o outcome) want(t *testing.T, code int, out, err string) outcome {
	t.Helper()
	if o.code != code || !strings.Contains(o.out, out) || !strings.Contains(o.err, err) {
		t.Fatalf("got %d\nstdout: %s\nstderr: %s\nwant %d, %q, %q", o.code, o.out, o.err, code, out, err)
	}
	return o
}

func TestGet(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	f := newFake()
	f.began = transfer
	o := ebb(t, startFake(t, f), "get", "https://h/image.iso").want(t, 0, dir+"/image.iso\n", "1.0 MiB in ")
	if o.out != dir+"/image.iso\n" {
		t.Errorf("stdout is %q, want the path alone", o.out)
	}
	j := f.job(t)
	if j.State != bits.Acknowledged || j.Priority != bits.Foreground || j.Name != "image.iso" ||
		j.Properties.MinimumRetryDelay != 5 || j.Properties.NoProgressTimeout != 3600 || j.Properties.AutoComplete {
		t.Errorf("the job is %+v", j)
	}
}

func TestGetManyFiles(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	f := newFake()
	f.began = transfer
	var list strings.Builder
	for i := range 30 {
		fmt.Fprintf(&list, "https://h/%d\n", i)
	}
	if err := os.WriteFile("list", []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ebb(t, startFake(t, f), "get", "-i", "list", "--background=low", "--header", "A: b", "--connections", "3").want(t, 0, "30 files in "+dir+"\n", "")
	j := f.job(t)
	if j.Name != "30 files from h" || j.Priority != bits.Low || j.Properties.Connections != 3 || j.Properties.MinimumRetryDelay != 600 || len(j.Properties.HeaderNames) != 1 {
		t.Errorf("the job is %+v", j)
	}
}

func TestGetJSON(t *testing.T) {
	t.Chdir(t.TempDir())
	f := newFake()
	f.began = transfer
	o := ebb(t, startFake(t, f), "get", "--json", "https://h/a?b=1&c=2").want(t, 0, "https://h/a?b=1&c=2", "")
	var j map[string]any
	if err := json.Unmarshal([]byte(o.out), &j); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"id", "name", "type", "priority", "state", "owner", "progress", "files", "error", "error_count", "times"} {
		if _, ok := j[key]; !ok {
			t.Errorf("%s is missing", key)
		}
	}
	if j["state"] != "ACKNOWLEDGED" || j["error"] != nil {
		t.Errorf("state %v, error %v", j["state"], j["error"])
	}
}

func TestGetFails(t *testing.T) {
	t.Chdir(t.TempDir())
	e := &bits.Error{Code: bits.HTTPStatus(404), Context: bits.ContextRemoteFile, File: "https://h/a"}
	f := newFake()
	f.began = fail(e)
	socket := startFake(t, f)
	o := ebb(t, socket, "get", "https://h/a").want(t, 1, "", "ebb: https://h/a: the server answered 404 Not Found (BG_E_HTTP_ERROR_404 0x80190194)\nhint: check the URL\n")
	if o.out != "" || f.job(t).State != bits.Cancelled {
		t.Errorf("stdout %q, the job is %s", o.out, f.job(t).State)
	}
	f.jobs = nil
	o = ebb(t, socket, "get", "--keep", "--json", "https://h/a").want(t, 1, `"code": "BG_E_HTTP_ERROR_404"`, "the job is kept")
	if f.job(t).State != bits.Errored || !json.Valid([]byte(o.out)) {
		t.Errorf("the job is %s, stdout %s", f.job(t).State, o.out)
	}
}

// TestNoPasswordIsShown also plays an old service, which sends URLs as they are.
func TestNoPasswordIsShown(t *testing.T) {
	t.Chdir(t.TempDir())
	const url = "http://bob:s3cret@h/a"
	e := &bits.ErrorInfo{Code: "BG_E_HTTP_ERROR_404", HResult: "0x80190194", Context: bits.ContextRemoteFile, File: url, Message: "nothing at " + url}
	f := newFake()
	f.began = func(f *fake, id bits.ID) {
		<-f.watched
		f.change(id, bits.EventState, func(j *bits.Job) { j.State, j.Error = bits.TransientError, e })
		<-f.looked
		f.change(id, bits.EventNote, func(j *bits.Job) { j.Files[0].Note = "moved to " + url })
		f.change(id, bits.EventError, func(j *bits.Job) { j.State, j.Error = bits.Errored, e })
	}
	socket := startFake(t, f)
	all := []outcome{
		ebb(t, socket, "get", "--keep", url).want(t, 1, "", "ebb: nothing at http://bob:xxxxx@h/a (BG_E_HTTP_ERROR_404"),
		ebb(t, socket, "list").want(t, 0, "http://bob:xxxxx@h/a", ""),
		ebb(t, socket, "show", "a").want(t, 0, "from  http://bob:xxxxx@h/a", ""),
		ebb(t, socket, "wait", "a").want(t, 1, "", "http://bob:xxxxx@h/a"),
		ebb(t, socket, "cancel", "a").want(t, 0, "", ""),
		ebb(t, socket, "watch", "--after", "1", "a").want(t, 0, "http://bob:xxxxx@h/a: moved to http://bob:xxxxx@h/a", ""),
		ebb(t, socket, "show", url).want(t, 4, "", "there is no job"),
		ebb(t, socket, "get", "ftp://bob:s3cret@h/a").want(t, 2, "", "is not an http, https, file or smb URL"),
		ebb(t, socket, "get", url, url).want(t, 2, "", "would both become"),
		ebb(t, socket, "get", url, url, "ftp://bob:s3cret@h").want(t, 2, "", "is not an http, https, file or smb URL"),
		ebb(t, socket, url).want(t, 2, "", "there is no verb"),
	}
	for _, o := range all {
		if strings.Contains(o.out+o.err, "s3cret") {
			t.Errorf("the password is shown:\n%s%s", o.out, o.err)
		}
	}
}

func TestGetTellsTransientErrorOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	f := newFake()
	f.began = func(f *fake, id bits.ID) {
		<-f.watched
		e := &bits.Error{Code: bits.HTTPStatus(503), Message: "the server \x1b[2J answered 503"}
		for i := range 3 {
			f.change(id, bits.EventState, func(j *bits.Job) {
				at := time.Now().Add(5 * time.Second)
				j.State, j.Error, j.Times.RetryAt = bits.TransientError, e.Info(), &at
			})
			if i == 0 {
				<-f.looked
			}
			f.change(id, bits.EventState, func(j *bits.Job) { j.State = bits.Connecting })
		}
		transfer(f, id)
	}
	o := ebb(t, startFake(t, f), "get", "https://h/a").want(t, 0, "", `ebb: the server \x1b[2J answered 503 (BG_E_HTTP_ERROR_503 0x801901F7); it is tried again in `)
	if n := strings.Count(o.err, "ebb: the server"); n != 1 {
		t.Errorf("it is told %d times:\n%s", n, o.err)
	}
}

func TestGetDetach(t *testing.T) {
	t.Chdir(t.TempDir())
	f := newFake()
	o := ebb(t, startFake(t, f), "get", "--detach", "--name", "x", "https://h/a")
	if j := f.job(t); o.code != 0 || o.out != j.ID.String()+"\n" || !j.Properties.AutoComplete || j.Name != "x" {
		t.Errorf("got %+v for %+v", o, j)
	}
}

func TestVerbs(t *testing.T) {
	t.Chdir(t.TempDir())
	f := newFake()
	f.began = transfer
	socket := startFake(t, f)
	do := func(args ...string) outcome { t.Helper(); return ebb(t, socket, args...) }
	do("list").want(t, 0, "", "no jobs")
	do("list", "--json").want(t, 0, "[]", "")
	do("create", "--priority", "low", "nightly")
	id := f.job(t).ID.String()
	do("resume", "nightly").want(t, 6, "", "the job is SUSPENDED (BG_E_EMPTY 0x80200003)\nhint: ")
	do("add", "nightly", "https://h/a", "a").want(t, 0, "added 1 file to nightly", "")
	do("set", id[:6], "priority=high", "minimum_retry_delay=10m").want(t, 0, "changed", "")
	do("list").want(t, 0, id[:8]+"  nightly  HIGH      SUSPENDED   0 B / ?    0/1\n", "")
	do("show", "nightly").want(t, 0, "retry delay   10 min", "")
	do("show", "--json", "nightly").want(t, 0, `"bytes_total": null`, "")
	do("__complete", "show", "night").want(t, 0, "nightly\t"+id[:8], "")
	do("__complete", "set", "nightly", "prio").want(t, 0, "priority=", "")
	if o := do("__complete", "headers", "set", "nightly", ""); strings.Contains(o.out, "server") || strings.Contains(o.out, "nightly") {
		t.Errorf("as a header it completes\n%s", o.out)
	}
	do("resume", "nightly", "nothing").want(t, 4, "resumed "+id[:8]+" nightly\n", `there is no job "nothing" (BG_E_NOT_FOUND`)
	do("wait", "nightly").want(t, 0, id[:8]+" TRANSFERRED nightly", "")
	do("complete", "nightly").want(t, 0, "/a\n", "")
	do("complete", "nightly").want(t, 6, "", "BG_E_INVALID_STATE")
	do("wait", "nightly").want(t, 0, "ACKNOWLEDGED", "")
	do("watch", "--after", "1", "nightly").want(t, 0, "removed", "")
	do("watch", "--after", "1", "--json", "nightly").want(t, 0, `"kind":"removed"`, "")
	do("version", "--json").want(t, 0, "v0.0.0-fake", "")
}

// TestPace has a job whose pace changes, and looks at how each verb tells why.
func TestPace(t *testing.T) {
	t.Chdir(t.TempDir())
	f := newFake()
	socket := startFake(t, f)
	ebb(t, socket, "create", "bulk").want(t, 0, "", "")
	ebb(t, socket, "add", "bulk", "https://h/a", "a").want(t, 0, "", "")
	id := f.job(t).ID
	moves := func(done int64, state bits.PaceState, rate int64, why string) {
		f.change(id, bits.EventProgress, func(j *bits.Job) {
			j.State, j.Progress.BytesTotal, j.Progress.BytesTransferred = bits.Transferring, 8<<20, done
			j.Pace = &bits.Pace{State: state, Why: why, Rate: rate}
		})
	}
	ebb(t, socket, "list").want(t, 0, "PROGRESS  FILES\n", "")
	moves(1<<20, bits.PaceUnrestricted, 3<<20, "takes what it can get")
	moves(2<<20, bits.PaceIdle, 2<<20, "uses the idle capacity")
	moves(3<<20, bits.PaceIdle, 2<<20, "uses the idle capacity")
	moves(4<<20, bits.PaceYielding, 2<<10, "someone \x1belse uses the link")
	ebb(t, socket, "show", "bulk").want(t, 0, "\nrate          2.0 KiB/s, someone \\x1belse uses the link\n", "")
	ebb(t, socket, "list").want(t, 0, "TRANSFERRING  50% of 8.0 MiB  2.0 KiB/s    0/1\n", "")
	ebb(t, socket, "cancel", "bulk").want(t, 0, "", "")

	o := ebb(t, socket, "watch", "--after", "2", "bulk").want(t, 0, "removed", "")
	for _, want := range []string{"2.0 MiB/s, uses the idle", "2.0 KiB/s, someone \\x1belse"} {
		if strings.Count(o.out, want) != 1 {
			t.Errorf("want %q in one line of\n%s", want, o.out)
		}
	}
	if strings.Contains(o.out, "takes what it can get") {
		t.Errorf("what holds nothing back is told:\n%s", o.out)
	}
	o = ebb(t, socket, "watch", "--json", "--after", "2", "bulk").want(t, 0, `"pace":{"state":"yielding"`, "")
	if n := strings.Count(o.out, `"kind":"progress"`); n != 2 {
		t.Errorf("%d news of the pace, want 2:\n%s", n, o.out)
	}
	o = ebb(t, socket, "watch", "--bytes", "--after", "2", "bulk").want(t, 0, "removed", "")
	if n := strings.Count(o.out, "progress "); n != 4 {
		t.Errorf("with --bytes %d news of bytes, want 4:\n%s", n, o.out)
	}
}

func TestCancelSeveral(t *testing.T) {
	f := newFake()
	socket := startFake(t, f)
	for _, name := range []string{"one", "two", "two"} {
		ebb(t, socket, "create", name).want(t, 0, "", "")
	}
	o := ebb(t, socket, "cancel", "one", "two").want(t, 2, "cancelled", "2 jobs fit")
	if n := strings.Count(o.err, "SUSPENDED"); n != 2 {
		t.Errorf("%d candidates are told, want 2:\n%s", n, o.err)
	}
	o = ebb(t, socket, "cancel", "--all", "--json").want(t, 0, "CANCELLED", "")
	var r []result
	if err := json.Unmarshal([]byte(o.out), &r); err != nil || len(r) != 2 {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestCancelTellsOfAServerThatIsUntold(t *testing.T) {
	f := newFake()
	socket := startFake(t, f)
	ebb(t, socket, "create", "--type", "upload", "a").want(t, 0, "", "")
	ebb(t, socket, "create", "b").want(t, 0, "", "")
	f.change(f.jobs[0].ID, bits.EventModified, func(j *bits.Job) { j.Note = bits.NoteServerUntold })
	o := ebb(t, socket, "cancel", "--yes", "a", "b").want(t, 0, "cancelled", "the service keeps trying")
	if strings.Count(o.err, "note:") != 1 {
		t.Errorf("it said %q", o.err)
	}
}

func TestShowTellsWhatThePolicyDecides(t *testing.T) {
	f := newFake()
	socket := startFake(t, f)
	ebb(t, socket, "create", "--type", "upload", "--protocol", "auto", "a").want(t, 0, "", "")
	f.change(f.jobs[0].ID, bits.EventModified, func(j *bits.Job) { j.Properties.MaximumDownloadTime = 90 * 24 * 3600 })
	o := ebb(t, socket, "show", "a").want(t, 0, "default (policy: no-surcharge)", "")
	if !strings.Contains(o.out, "(policy: jobs.max_download_time)") {
		t.Errorf("it printed\n%s", o.out)
	}
	ebb(t, socket, "create", "--protocol", "gopher", "a").want(t, 2, "", "--protocol")
}

func TestNotices(t *testing.T) {
	f := newFake()
	f.about.Notices = []string{"a damaged store was set aside"}
	socket := startFake(t, f)
	ebb(t, socket, "list").want(t, 0, "", "note: a damaged store was set aside\n")
	if o := ebb(t, socket, "list", "-q"); o.err != "" {
		t.Errorf("with -q: %s", o.err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"get --nonsense https://h/a", "get", "lits", "show", "show a b", "list extra", "top extra", "top --interval soon", "set a b", "set a nonsense=1", "set a connections=99",
		"get --background=foreground https://h/a", "get --background high https://h/a", "get --checksum md5:00 https://h/a", "get --progress=loud https://h/a",
		"get --header broken https://h/a", "create --type sideways a", "list --state nowhere", "completion tcsh", "complete", "cancel", "add a https://h/b", "get --connections=many https://h/a"} {
		o := ebb(t, "/nowhere", strings.Fields(args)...)
		if lines := strings.Count(o.err, "\n"); o.code != 2 || o.out != "" || !strings.HasPrefix(o.err, "ebb: ") || lines > 2 {
			t.Errorf("%s: got %d\n%s", args, o.code, o.err)
		}
	}
}

func TestNoService(t *testing.T) {
	for _, args := range []string{"list", "list --json", "show a", "get https://h/a", "create a", "wait a", "top", "top --json", "watch", "watch a", "cancel --all", "cancel a"} {
		ebb(t, "/nowhere/ebb.sock", strings.Fields(args)...).want(t, 3, "", "no ebb service is running on /nowhere/ebb.sock: connect: no such file or directory\nhint: start it")
	}
	ebb(t, "/nowhere", "version").want(t, 0, "no service runs", "")
	ebb(t, "/nowhere", "completion", "bash").want(t, 0, "ebb", "")
}

func TestHelpHasExamples(t *testing.T) {
	a := &app{}
	for _, c := range newRootCmd(a).Commands() {
		if c.Name() != "help" && c.Name() != "daemon" && (c.Short == "" || c.Long == "" || c.Example == "") {
			t.Errorf("%s lacks Short, Long or Example", c.Name())
		}
	}
	ebb(t, "/nowhere").want(t, 0, "Fetch files and wait for them", "")
}

// house is a home directory of its own, with a service that ebb starts by itself.
type house struct {
	t     *testing.T
	state string
	env   []string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	dir, err := os.MkdirTemp("", "ebb")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, state: filepath.Join(dir, "state", "ebb")}
	h.env = append(os.Environ(), playEbb+"=1", "EBB_SOCKET=", "XDG_STATE_HOME="+filepath.Dir(h.state), "XDG_RUNTIME_DIR="+filepath.Join(dir, "run"), "HOME="+dir)
	t.Cleanup(func() {
		for _, pid := range h.starts() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = os.RemoveAll(dir)
	})
	return h
}

// starts returns the process ids of the services that were started.
func (h *house) starts() (pids []int) {
	b, _ := os.ReadFile(filepath.Join(h.state, "starts"))
	for _, s := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(s); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (h *house) touch(name string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.state, name), nil, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// process is a running ebb.
type process struct {
	*exec.Cmd
	t        *testing.T
	out, err buffer
}

// buffer can be read while it is written.
type buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (h *house) start(args ...string) *process {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(self, args...), t: h.t}
	p.Env, p.Dir = h.env, h.t.TempDir()
	p.Stdout, p.Stderr = &p.out, &p.err
	if err := p.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	return p
}

func (p *process) end() outcome {
	_ = p.Wait()
	return outcome{p.ProcessState.ExitCode(), p.out.String(), p.err.String()}
}

func (h *house) ebb(args ...string) outcome { h.t.Helper(); return h.start(args...).end() }

// until waits for a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.After(15 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); !cond(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// jobState is the state of the only job.
func (h *house) jobState() string {
	var jobs []bits.Job
	b, _ := os.ReadFile(filepath.Join(h.state, "jobs.json"))
	if json.Unmarshal(b, &jobs) != nil || len(jobs) != 1 {
		return ""
	}
	return jobs[0].State.String()
}

func TestServiceIsStartedOnce(t *testing.T) {
	h := newHouse(t)
	var all []*process
	for range 8 {
		all = append(all, h.start("create", "x"))
	}
	for _, p := range all {
		p.end().want(t, 0, "-", "")
	}
	if n := len(h.starts()); n != 1 {
		t.Errorf("%d services were started, want 1", n)
	}
	for name, mode := range map[string]os.FileMode{h.state: 0o700 | os.ModeDir, filepath.Join(h.state, "daemon.log"): 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v, want %v", filepath.Base(name), info.Mode(), err, mode)
		}
	}
}

func TestServiceDoesNotStart(t *testing.T) {
	h := newHouse(t)
	if err := os.MkdirAll(h.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.state, "broken"), []byte("the store is from a newer ebb"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.ebb("list").want(t, 3, "", "ebb: no ebb service is running, and starting one failed: ")
	if o := h.ebb("version"); o.code != 0 || len(h.starts()) != 0 {
		t.Errorf("version: %+v", o)
	}
}

func TestGetGoesOnWhenTheServiceIsKilled(t *testing.T) {
	h := newHouse(t)
	p := h.start("get", "https://h/a")
	until(t, "the job runs", func() bool { return h.jobState() == "TRANSFERRING" })
	if err := syscall.Kill(h.starts()[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the service is started again", func() bool { return len(h.starts()) == 2 })
	h.touch("go")
	p.end().want(t, 0, "/a\n", "")
	if s := h.jobState(); s != "ACKNOWLEDGED" {
		t.Errorf("the job is %s", s)
	}
}

func TestInterruptCancels(t *testing.T) {
	h := newHouse(t)
	p := h.start("get", "https://h/a")
	until(t, "the job runs", func() bool { return h.jobState() == "TRANSFERRING" })
	_ = p.Process.Signal(os.Interrupt)
	p.end().want(t, 130, "", "interrupted; the job is cancelled")
	if s := h.jobState(); s != "CANCELLED" {
		t.Errorf("the job is %s", s)
	}
}

// stop stops a process and returns once it stands still.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "the process stands still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		// pid (name) state ...
		return err != nil || strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " T")
	})
}

func TestSecondInterruptLeavesAtOnce(t *testing.T) {
	h := newHouse(t)
	p := h.start("get", "https://h/a")
	until(t, "the job runs", func() bool { return h.jobState() == "TRANSFERRING" })
	stop(t, h.starts()[0]) // cancelling takes for ever
	_ = p.Process.Signal(os.Interrupt)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	done := make(chan outcome)
	go func() { done <- p.end() }()
	for {
		select {
		case o := <-done:
			o.want(t, 130, "", "")
			if s := h.jobState(); s != "TRANSFERRING" {
				t.Errorf("the job is %s", s)
			}
			return
		case <-tick.C:
			_ = p.Process.Signal(os.Interrupt)
		}
	}
}

func TestInterruptKeepsTheJob(t *testing.T) {
	for name, c := range map[string]struct {
		args    []string
		signals []os.Signal
	}{
		"interrupt with --keep": {[]string{"get", "--keep", "https://h/a"}, []os.Signal{os.Interrupt}},
		"hang-up":               {[]string{"get", "https://h/a"}, []os.Signal{syscall.SIGHUP}},
		"termination":           {[]string{"get", "https://h/a"}, []os.Signal{syscall.SIGTERM}},
		"end of a session":      {[]string{"get", "https://h/a"}, []os.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGTERM}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			p := h.start(c.args...)
			until(t, "the job runs", func() bool { return h.jobState() == "TRANSFERRING" })
			for _, s := range c.signals {
				_ = p.Process.Signal(s)
			}
			p.end().want(t, 130, "", "the job goes on without you: `ebb wait ")
			o := h.ebb("list", "--json").want(t, 0, `"auto_complete":true`, "")
			if !json.Valid([]byte(o.out)) {
				t.Error(o.out)
			}
		})
	}
}

// TestServiceThatStopsIsReplaced has a service that holds the lock but does not answer.
func TestServiceThatStopsIsReplaced(t *testing.T) {
	h := newHouse(t)
	if err := os.MkdirAll(h.state, 0o700); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockFile(filepath.Join(h.state, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.Repeat([]byte("x"), mostLog+1)
	log := filepath.Join(h.state, "daemon.log")
	if err := os.WriteFile(log, old, 0o600); err != nil {
		t.Fatal(err)
	}
	p := h.start("create", "x")
	until(t, "a service was refused the lock", func() bool {
		b, _ := os.ReadFile(log)
		return bytes.HasPrefix(b, []byte("another service holds the lock"))
	})
	unlock()
	p.end().want(t, 0, "-", "")
	if b, err := os.ReadFile(log + ".1"); err != nil || !bytes.Equal(b, old) {
		t.Errorf("the old log was not set aside: %v", err)
	}
}

func TestNamedServiceIsWaitedFor(t *testing.T) {
	h := newHouse(t)
	// The service of a named socket is somebody else's: it is started by hand here.
	if err := os.MkdirAll(h.state, 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(h.state, "sock")
	daemon := []string{"daemon", "--state", h.state, "--socket", socket}
	first := h.start(daemon...)
	until(t, "the service answers", func() bool { return answers(socket) })
	p := h.start("get", "--socket", socket, "https://h/a")
	until(t, "the job runs", func() bool { return h.jobState() == "TRANSFERRING" })
	_ = first.Process.Kill()
	until(t, "it is told", func() bool { return strings.Contains(p.err.String(), "note: the service is away; waiting for it\n") })
	h.touch("go")
	h.start(daemon...)
	o := p.end().want(t, 0, "/a\n", "")
	if n := strings.Count(o.err, "is away"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
}
