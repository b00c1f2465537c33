package scenario

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultpeer"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

const (
	kib = 1 << 10
	mib = 1 << 20

	// patience is how long a test waits for what must happen soon, on a busy machine.
	patience = 60 * time.Second
	// fastStall is the configuration of services whose connections stall in a test.
	fastStall = "[transfer]\nstall_timeout = \"1s\"\n"
	// patientStall is that of services whose connections may be silent until the test wants them to go on.
	patientStall = "[transfer]\nstall_timeout = \"1h\"\n"
)

// ebb is the program under test.
var ebb string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == faultpeer.Acts {
		if err := faultpeer.Main(context.Background(), os.Args[2:], func() { fmt.Println("ready") }); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "6") // most tests wait for something
	}
	dir, err := os.MkdirTemp("", "ebb-scenario")
	if err != nil {
		panic(err)
	}
	ebb = filepath.Join(dir, "ebb")
	if out, err := exec.Command("go", "build", "-o", ebb, "github.com/ebbtransfer/ebb/cmd/ebb").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build ebb: %v\n%s", err, out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// options are how a service is run.
type options struct {
	config string   // the configuration file's text
	env    []string // besides that of the test
	args   []string // of ebb daemon
	before []string // a command that runs ebb, such as ip netns exec
}

// service is an ebb daemon with a state directory and a socket of its own.
type service struct {
	t *testing.T
	options
	*client.Manager
	dir    string // for files; empty at first
	state  string
	socket string
	log    string
	*process
}

// process is the one that runs now, if one does.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed at its end
	err   error         // how it ended
}

// start runs a service that the test ends.
func start(t *testing.T, o options) *service {
	t.Helper()
	s := prepare(t, o)
	s.up()
	return s
}

// prepare makes what a service needs without running it.
func prepare(t *testing.T, o options) *service {
	t.Helper()
	home, err := os.MkdirTemp("", "ebb") // shorter than t.TempDir: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, options: o, dir: filepath.Join(home, "files"), state: filepath.Join(home, "state"),
		socket: filepath.Join(home, "sock"), log: filepath.Join(home, "log"), process: &process{}}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if o.config != "" {
		s.args = append([]string{"--config", filepath.Join(home, "config.toml")}, s.args...)
		if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte(o.config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.Manager = client.New(s.socket)
	t.Cleanup(func() {
		s.Close()
		s.kill9()
		if t.Failed() {
			b, _ := os.ReadFile(s.log)
			t.Logf("the end of the service's log:\n%s", b[max(0, len(b)-8*kib):])
		}
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	return s
}

// configHome is where the service looks for its configuration: not where that of whoever runs
// the test is.
func (s *service) configHome() string { return filepath.Join(filepath.Dir(s.dir), "config") }

// launch starts the process without waiting for its answer.
func (s *service) launch() {
	s.t.Helper()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	args := slices.Concat(s.before, []string{ebb, "daemon", "--state", s.state, "--socket", s.socket}, s.args)
	s.cmd = exec.Command(args[0], args[1:]...)
	// What the network of this machine costs must not decide a test.
	s.cmd.Env = slices.Concat(os.Environ(), []string{"XDG_CONFIG_HOME=" + s.configHome(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent/bus"}, s.env)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	s.ended = ended
	go func(p *process, cmd *exec.Cmd) {
		defer close(ended)
		p.err = cmd.Wait()
	}(s.process, s.cmd)
}

// up starts the process and returns when the service answers.
func (s *service) up() {
	s.t.Helper()
	s.launch()
	ctx := s.ctx()
	for {
		_, err := s.Service(ctx)
		if err == nil {
			return
		}
		select {
		case <-s.ended:
			s.t.Fatalf("the service ended at once: %v", s.err)
		case <-ctx.Done():
			s.t.Fatalf("the service does not answer: %v", err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// kill9 ends the process as a crash would, and returns when it is gone.
func (s *service) kill9() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}

// restart is kill -9 and a new start.
func (s *service) restart() {
	s.t.Helper()
	s.kill9()
	s.up()
}

// stop asks the service to end and returns how long that took.
func (s *service) stop() time.Duration {
	s.t.Helper()
	began := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	s.gone()
	return time.Since(began)
}

// gone returns when the process has ended by itself, in good order.
func (s *service) gone() {
	s.t.Helper()
	select {
	case <-s.ended:
		s.cmd = nil
		if s.err != nil {
			s.t.Fatalf("the service ended with %v", s.err)
		}
	case <-time.After(patience):
		s.t.Fatal("the service does not end")
	}
}

// in returns the service for a part of the test.
func (s *service) in(t *testing.T) *service {
	c := *s
	c.t = t
	return &c
}

// ctx returns a context that ends with patience or with the test.
func (s *service) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s.t.Cleanup(cancel)
	return ctx
}

// result is what a call of the program gave.
type result struct {
	out, err string
	code     int
}

// cli runs a verb against the service.
func (s *service) cli(args ...string) result {
	s.t.Helper()
	return s.begin(args...).end()
}

// cliWith runs a verb with a standard input.
func (s *service) cliWith(input string, args ...string) result {
	s.t.Helper()
	c := s.prepareCall(args...)
	c.cmd.Stdin = strings.NewReader(input)
	return c.begin().end()
}

// call is a verb that runs.
type call struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err bytes.Buffer
}

// begin starts a verb.
func (s *service) begin(args ...string) *call {
	s.t.Helper()
	return s.prepareCall(args...).begin()
}

// prepareCall makes the call of a verb.
func (s *service) prepareCall(args ...string) *call {
	c := &call{t: s.t, cmd: exec.CommandContext(s.ctx(), ebb, args...)}
	c.cmd.Dir = s.dir
	c.cmd.Env = append(os.Environ(), "EBB_SOCKET="+s.socket, "XDG_CONFIG_HOME="+s.configHome())
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// begin starts the verb.
func (c *call) begin() *call {
	c.t.Helper()
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// end waits for a verb.
func (c *call) end() result {
	c.t.Helper()
	err := c.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return result{c.out.String(), c.err.String(), c.cmd.ProcessState.ExitCode()}
}

// want checks the exit code.
func (r result) want(t *testing.T, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.out, r.err)
	}
	return r
}

// decode reads JSON from the standard output.
func (r result) decode(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.out), into); err != nil {
		t.Fatalf("%v in %q", err, r.out)
	}
}

// fetched is a job of the test: what it fetches and how.
type fetched struct {
	name     string
	priority bits.Priority
	settings bits.Settings
	files    []bits.FileSpec
	waits    bool // it is not resumed
}

// create makes a job. Unless told otherwise it is a foreground job and starts at once.
func (s *service) create(f fetched) *client.Job {
	s.t.Helper()
	if f.name == "" {
		f.name = s.t.Name()
	}
	set := f.settings
	set.Name, set.Priority = &f.name, &f.priority
	job, err := s.Create(s.ctx(), bits.NewJob{Settings: set, Files: f.files, Resume: !f.waits})
	if err != nil {
		s.t.Fatal(err)
	}
	return job
}

// fetch makes a foreground job of one file in the service's directory.
func (s *service) fetch(url, name string) *client.Job {
	s.t.Helper()
	return s.create(fetched{files: []bits.FileSpec{s.file(url, name)}})
}

// file is a file that is fetched into the service's directory.
func (s *service) file(url, name string) bits.FileSpec {
	return bits.FileSpec{Remote: url, Local: filepath.Join(s.dir, name)}
}

// info returns a snapshot of a job.
func (s *service) info(job *client.Job) *bits.Job {
	s.t.Helper()
	info, err := job.Info(s.ctx())
	if err != nil {
		s.t.Fatal(err)
	}
	return info
}

// settled waits until a job needs its owner, and checks the state in which it does.
func (s *service) settled(job *client.Job, want bits.State) *bits.Job {
	s.t.Helper()
	info, err := job.Wait(s.ctx())
	if err != nil {
		s.t.Fatalf("wait for %s: %v\nnow it is %+v", want, err, s.info(job))
	}
	if info.State != want {
		s.t.Fatalf("the job is %s, want %s; error %+v", info.State, want, info.Error)
	}
	return info
}

// until waits until the job is as cond wants it.
func (s *service) until(job *client.Job, what string, cond func(*bits.Job) bool) *bits.Job {
	s.t.Helper()
	ctx := s.ctx()
	// From the first event on, so that none falls between a look and the stream's opening.
	for _, err := range s.Watch(ctx, client.Filter{Job: []bits.ID{job.ID}, After: 1, Progress: true}) {
		var info *bits.Job
		if err == nil {
			info, err = job.Info(ctx)
		}
		if err == nil && cond(info) {
			return info
		}
		if err != nil && ctx.Err() != nil {
			s.t.Fatalf("the job never was %s; now it is %+v, error %+v", what, s.info(job), s.info(job).Error)
		}
	}
	s.t.Fatalf("the stream of events ended")
	return nil
}

// untilState waits until the job is in a state.
func (s *service) untilState(job *client.Job, want bits.State) *bits.Job {
	s.t.Helper()
	return s.until(job, want.String(), func(j *bits.Job) bool { return j.State == want })
}

// moved waits until a running job has fetched n bytes.
func (s *service) moved(job *client.Job, n int64) {
	s.t.Helper()
	s.until(job, fmt.Sprintf("at %d bytes", n), func(j *bits.Job) bool { return j.Progress.BytesTransferred >= n })
}

// complete completes a job that is TRANSFERRED.
func (s *service) complete(job *client.Job) {
	s.t.Helper()
	o, err := job.Complete(s.ctx())
	if err != nil {
		s.t.Fatal(err)
	}
	if o.Code != bits.OK.Name() || o.Job.State != bits.Acknowledged {
		s.t.Fatalf("complete answered %+v", o)
	}
}

// arrives waits for a job of one file, completes it, and checks that the file is what the
// server serves now.
func (s *service) arrives(job *client.Job, e *faultserver.Entry) {
	s.t.Helper()
	info := s.settled(job, bits.Transferred)
	s.complete(job)
	s.isWhole(info.Files[0].Local, e)
}

// isWhole checks content and time of a file.
func (s *service) isWhole(path string, e *faultserver.Entry) {
	s.t.Helper()
	f := e.Current()
	if got, size := digest(s.t, path); got != sum(f) {
		s.t.Fatalf("%s has %d bytes with digest %s, want %d with %s", path, size, got, f.Size, sum(f))
	}
	st, err := os.Stat(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if !st.ModTime().Equal(f.LastModified) {
		s.t.Errorf("%s is of %v, want that of Last-Modified, %v", path, st.ModTime(), f.LastModified)
	}
}

// holds checks the names in the service's directory, hidden ones included.
func (s *service) holds(want ...string) {
	s.t.Helper()
	got := names(s.t, s.dir)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Errorf("the directory holds %q, want %q", got, want)
	}
}

// nothingStray checks that the directory holds only part files of the job, and names that were
// there before.
func (s *service) nothingStray(job *client.Job, before ...string) {
	s.t.Helper()
	own := "." + hex.EncodeToString(job.ID[:6]) + "-"
	for _, name := range names(s.t, s.dir) {
		if !slices.Contains(before, name) && (name[0] != '.' || !strings.Contains(name, own)) {
			s.t.Errorf("%s is a stray file", name)
		}
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// sums remembers digests, which take long to make under the race detector.
var sums sync.Map

// sum returns the digest of a version.
func sum(f faultserver.File) string {
	type key struct {
		seed uint64
		size int64
	}
	k := key{f.Seed, f.Size}
	if v, ok := sums.Load(k); ok {
		return v.(string)
	}
	v := faultserver.SHA256(f.Seed, f.Size)
	sums.Store(k, v)
	return v
}

// checksum returns a digest as jobs name it.
func checksum(algorithm string, b []byte) string {
	switch algorithm {
	case "sha256":
		return fmt.Sprintf("%s:%x", algorithm, sha256.Sum256(b))
	case "sha512":
		return fmt.Sprintf("%s:%x", algorithm, sha512.Sum512(b))
	}
	return fmt.Sprintf("%s:%x", algorithm, blake3.Sum256(b))
}

func digest(t *testing.T, path string) (sum string, size int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	size, err = io.Copy(h, f)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil)), size
}

// isError checks a job's error: its code, and that it has what a person needs.
func isError(t *testing.T, info *bits.Job, code bits.Code, context bits.Context) {
	t.Helper()
	e := info.Error
	switch {
	case e == nil:
		t.Errorf("a job in %s without an error", info.State)
		return
	case e.Code != code.Name() || e.HResult != code.Hex():
		t.Errorf("the error is %s %s (%s), want %s", e.Code, e.HResult, e.Message, code)
	case e.Context != context:
		t.Errorf("the context of %s is %s, want %s", e.Code, e.Context, context)
	}
	if e.Message == "" || strings.HasSuffix(e.Message, ".") {
		t.Errorf("the message of %s is %q", e.Code, e.Message)
	}
	if e.Hint != code.Hint() {
		t.Errorf("the hint of %s is %q, want %q", e.Code, e.Hint, code.Hint())
	}
}

// serve starts a fault server that the test ends.
func serve(t *testing.T, o faultserver.Options) *faultserver.Server {
	t.Helper()
	srv, err := faultserver.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

// await waits for the server's log.
func await(t *testing.T, srv *faultserver.Server, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := srv.Await(ctx, cond); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// sent waits until n bytes of a path have left the server.
func sent(t *testing.T, srv *faultserver.Server, path string, n int64) {
	t.Helper()
	await(t, srv, fmt.Sprintf("%d bytes of %s sent", n, path), func() bool { return srv.Sent(path) >= n })
}

// trusting is the environment of a service that trusts the fault server's certificates.
func trusting(t *testing.T) []string {
	t.Helper()
	ca, err := faultserver.CAFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return []string{"SSL_CERT_FILE=" + ca}
}

// kills is how often a test of kill -9 kills the service.
func kills(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmpEnv("EBB_KILLS", "12"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// dice returns a source of chance whose seed is in the test's log.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed, err := strconv.ParseUint(cmpEnv("EBB_SEED", strconv.FormatInt(time.Now().UnixNano(), 10)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("EBB_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

func cmpEnv(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// isRoot skips a test that needs root.
func isRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("this needs root")
	}
}

// run runs a command of the system.
func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func ptr[T any](v T) *T { return &v }

// blocksOf returns what a file takes on the disk.
func blocksOf(st os.FileInfo) int64 { return st.Sys().(*syscall.Stat_t).Blocks * 512 }

// decodeLines reads one JSON value after the other.
func decodeLines[T any](t *testing.T, out string) (list []T) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(out))
	for dec.More() {
		var v T
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		list = append(list, v)
	}
	return list
}

func newSeeker(r io.ReaderAt, size int64) io.ReadSeeker { return io.NewSectionReader(r, 0, size) }
