package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/fakebus"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// The owner of the jobs below, an ordinary user who needs no account, and another one.
const (
	worker = 12345
	other  = 12346
)

// everyUser runs the service of all users. Without root the test is skipped; in CI it fails.
func everyUser(t *testing.T, o options) *service {
	t.Helper()
	if os.Getuid() != 0 {
		const missing = "acting as other users needs root"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	o.args = append(o.args, "--system")
	s := prepare(t, o)
	// Others have to reach the program, the socket and the directory of the files.
	must(t, os.Chmod(filepath.Dir(ebb), 0o755), os.Chmod(filepath.Dir(s.socket), 0o755), os.Chmod(s.dir, 0o777))
	s.up()
	return s
}

// as runs a verb as another user.
func (s *service) as(uid uint32, args ...string) result {
	s.t.Helper()
	c := s.prepareCall(args...)
	c.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	return c.begin().end()
}

// starts makes the worker start a job of one file, with properties.
func (s *service) starts(name, url string, set ...string) *client.Job {
	s.t.Helper()
	args := []string{"create"}
	for _, p := range set {
		args = append(args, "--set", p)
	}
	id := strings.TrimSpace(s.as(worker, append(args, name)...).want(s.t, 0).out)
	s.as(worker, "add", id, url, filepath.Join(s.dir, name)).want(s.t, 0)
	s.as(worker, "resume", id).want(s.t, 0)
	parsed, err := bits.ParseID(id)
	must(s.t, err)
	return s.Job(parsed)
}

// waitsForOwner waits until a job is QUEUED and waits for its owner.
func (s *service) waitsForOwner(job *client.Job) {
	s.t.Helper()
	info := s.until(job, "waiting for its owner", func(j *bits.Job) bool { return strings.Contains(j.Note, "waits for its owner to log on") })
	if info.State != bits.Queued || info.Error != nil || info.ErrorCount != 0 || info.Properties.RunWhen != bits.RunLoggedOn {
		s.t.Errorf("a job that waits for its owner is %s with %d errors, %+v, to run %s", info.State, info.ErrorCount, info.Error, info.Properties.RunWhen)
	}
}

// TestJobsWaitForTheirOwners: a job that says so moves only while its owner has a session or lingers.
func TestJobsWaitForTheirOwners(t *testing.T) {
	t.Parallel()
	b := fakebus.New(t)
	l, err := b.Logind()
	must(t, err, l.Is(other, "user", "active", false))
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := everyUser(t, options{env: []string{"DBUS_SYSTEM_BUS_ADDRESS=" + b.Address}})
	big, quick := slow(srv, "/big", mib), srv.File("/quick", faultserver.File{Seed: 2, Size: 100 * kib})

	job := s.starts("big", big.URL(), "run_when=logged-on")
	s.waitsForOwner(job)
	if n := len(srv.Requests()); n > 0 {
		t.Errorf("%d requests for a user who is not logged on", n)
	}
	if out := s.as(worker, "show", "big").want(t, 0).out; !strings.Contains(out, "waits for its owner to log on") {
		t.Errorf("show prints\n%s", out)
	}
	if out := s.as(worker, "explain", "big").want(t, 0).out; !strings.Contains(out, "is not logged on") || !strings.Contains(out, "enable-linger") {
		t.Errorf("explain prints\n%s", out)
	}
	// Others are not kept, nor the same user's jobs that do not ask for it.
	s.as(worker, "get", quick.URL(), filepath.Join(s.dir, "quick")).want(t, 0)
	s.isWhole(filepath.Join(s.dir, "quick"), quick)

	must(t, l.Is(worker, "user", "online", false))
	s.moved(job, mib)
	must(t, l.Is(worker, "user", "closing", false)) // logs off
	s.waitsForOwner(job)
	await(t, srv, "the connection ends", func() bool { return srv.Idle() })
	// Without a new start all is shown that is on disk, once the transfer has ended.
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // no event tells of it
		info := s.info(job)
		part, err := os.Stat(info.Files[0].Temporary)
		must(t, err)
		n, kept := info.Progress.BytesTransferred, part.Size()
		if n == kept && kept >= mib/2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("of 1 MiB and more %d bytes were kept and %d are shown", kept, n)
		}
	}
	s.restart() // a start asks before its jobs begin
	s.waitsForOwner(job)
	// The owner may change their mind.
	more := s.starts("more", quick.URL(), "run_when=logged-on")
	s.waitsForOwner(more)
	s.as(worker, "set", "more", "run_when=always").want(t, 0)
	s.settled(more, bits.Transferred)

	must(t, l.Is(worker, "", "", true)) // lingers
	s.settled(job, bits.Transferred)
	if again := srv.Refetched("/big"); again > mib {
		t.Errorf("%d bytes were fetched twice", again)
	}
}

// TestLogonPolicy: the administrator says it for all jobs.
func TestLogonPolicy(t *testing.T) {
	t.Parallel()
	b := fakebus.New(t)
	l, err := b.Logind()
	must(t, err)
	srv := serve(t, faultserver.Options{})
	e := srv.File("/file", faultserver.File{Seed: 2, Size: 100 * kib})
	s := everyUser(t, options{config: "jobs.logon = \"logged-on\"\n", env: []string{"DBUS_SYSTEM_BUS_ADDRESS=" + b.Address}})
	usual := s.starts("usual", e.URL())
	s.settled(s.starts("always", e.URL(), "run_when=always"), bits.Transferred)
	s.waitsForOwner(usual)
	// Root's own are never kept.
	s.settled(s.fetch(e.URL(), "root"), bits.Transferred)

	s.reconfigure("jobs.logon = \"strict\"\n")
	s.inEffect("jobs.logon", "strict")
	for _, args := range [][]string{{"get", "--detach", e.URL(), filepath.Join(s.dir, "x")}, {"create", "y"}, {"add", "usual", e.URL(), filepath.Join(s.dir, "z")}} {
		if got := s.as(worker, args...); got.code == 0 || !strings.Contains(got.err, "is not logged on") || !strings.Contains(got.err, "0x800704DD") {
			t.Errorf("%s: exit code %d, %s", args[0], got.code, got.err)
		}
	}
	must(t, l.Is(worker, "user", "online", false))
	s.settled(usual, bits.Transferred)
	strict := s.starts("strict", e.URL(), "run_when=always")
	s.settled(strict, bits.Transferred)
	if info := s.info(strict); info.Properties.RunWhen != bits.RunLoggedOn {
		t.Errorf("under the strict rule a job runs %s", info.Properties.RunWhen)
	}
	must(t, l.Gone(worker))
	s.reconfigure("")
	s.inEffect("jobs.logon", "always")
	s.settled(s.starts("late", e.URL()), bits.Transferred)
}
