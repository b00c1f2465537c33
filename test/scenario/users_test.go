package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// The programs that use BITS call it in sequences of their own. Each test here is one program's
// sequence, through the Go client or the command line, as that program makes it.

// chromium is the download by which Chromium's component updater keeps its parts up to date.
type chromium struct {
	*service
	url string
}

// sweep cancels own jobs that were created before a moment, and tells how many are left.
func (c *chromium) sweep(before time.Time) (left int) {
	for j, err := range c.List(c.ctx(), client.ListOptions{}) {
		must(c.t, err)
		if j.Name != chromiumName {
			continue
		}
		if !j.Times.Created.Before(before) {
			left++
			continue
		}
		_, err := c.Job(j.ID).Cancel(c.ctx())
		must(c.t, err)
	}
	return left
}

const chromiumName = "Chrome Component Updater"

// find returns the job that fetches the URL already.
func (c *chromium) find() *client.Job {
	for j, err := range c.List(c.ctx(), client.ListOptions{Files: true}) {
		must(c.t, err)
		if j.Name == chromiumName && len(j.Files) == 1 && j.Files[0].Remote == c.url {
			return c.Job(j.ID)
		}
	}
	return nil
}

// begin finds the URL's job or makes one, and starts it.
func (c *chromium) begin() *client.Job {
	if left := c.sweep(time.Now().Add(-3 * 24 * time.Hour)); left > 10 {
		c.t.Fatalf("there are %d jobs", left)
	}
	job := c.find()
	if job == nil {
		name := chromiumName
		var err error
		job, err = c.Create(c.ctx(), bits.NewJob{Settings: bits.Settings{Name: &name}})
		must(c.t, err)
		dir, err := os.MkdirTemp(c.dir, "chrome_BITS_*")
		must(c.t, err, job.AddFiles(c.ctx(), bits.FileSpec{Remote: c.url, Local: filepath.Join(dir, "component")}),
			job.SetDescription(c.ctx(), "component"), job.SetPriority(c.ctx(), bits.Normal),
			job.SetMinimumRetryDelay(c.ctx(), time.Minute), job.SetNoProgressTimeout(c.ctx(), 24*time.Hour))
	}
	must(c.t, job.Resume(c.ctx()))
	return job
}

// poll asks for the state again and again until it means something.
func (c *chromium) poll(job *client.Job) bits.State {
	ctx := c.ctx()
	for {
		state, err := job.State(ctx)
		must(c.t, err)
		if state != bits.Queued && state != bits.Connecting && state != bits.Transferring {
			return state
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			c.t.Fatalf("the job stays %s", state)
		}
	}
}

// code returns the value of a job's error.
func (s *service) code(job *client.Job) bits.Code {
	s.t.Helper()
	e, err := job.Error(s.ctx())
	must(s.t, err)
	return e.Err().Code
}

func TestChromiumUpdater(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	e := srv.File("/component.crx3", faultserver.File{Seed: 1, Size: 3 * mib})

	t.Run("a component", func(t *testing.T) {
		s := s.in(t)
		e.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: mib}})
		c := &chromium{s, e.URL()}
		job := c.begin()
		s.moved(job, mib)
		// The browser ends, and so does the machine; the next browser finds the job.
		s.restart()
		again := c.begin()
		if again.ID != job.ID {
			t.Fatal("the browser did not find its job again")
		}
		if state := c.poll(again); state != bits.Transferred {
			t.Fatalf("the job is %s", state)
		}
		outcome, err := again.Complete(s.ctx())
		must(t, err)
		if outcome.Code != bits.OK.Name() && outcome.Code != bits.UnableToDeleteFiles.Name() {
			t.Errorf("Complete answers %s", outcome.Code)
		}
		// After Complete the handle still tells where the file is, and that it is whole.
		files, err := again.Files(s.ctx())
		must(t, err)
		f := files[0]
		if !f.Completed || int64(f.BytesTotal) != f.BytesTransferred || f.BytesTransferred != 3*mib {
			t.Errorf("the file is %+v", f)
		}
		s.isWhole(f.Local, e)
		if c.find() != nil {
			t.Error("the completed job is still listed")
		}
	})
	t.Run("a component that is gone", func(t *testing.T) {
		s := s.in(t)
		c := &chromium{s, srv.URL() + "/missing"}
		job := c.begin()
		if state := c.poll(job); state != bits.Errored {
			t.Fatalf("the job is %s", state)
		}
		if code := s.code(job); code != 0x80190194 || code.HTTPStatus() != 404 {
			t.Errorf("the error is %s", code)
		}
		_, err := job.Cancel(s.ctx())
		must(t, err)
	})
	t.Run("a server that is overloaded", func(t *testing.T) {
		s := s.in(t)
		busy := srv.File("/busy", faultserver.File{Seed: 1, Size: 10})
		busy.Set(func(p *faultserver.Program) { p.Status = 503 })
		c := &chromium{s, busy.URL()}
		job := c.begin()
		if state := c.poll(job); state != bits.TransientError {
			t.Fatalf("the job is %s", state)
		}
		if status := s.code(job).HTTPStatus(); status != 503 { // to the updater any 5xx is final
			t.Errorf("the status is %d", status)
		}
		_, err := job.Cancel(s.ctx())
		must(t, err)
		info := s.info(job)
		if info.State != bits.Cancelled {
			t.Errorf("the cancelled job is %s", info.State)
		}
	})
	t.Run("old jobs", func(t *testing.T) {
		s := s.in(t)
		c := &chromium{s, e.URL() + "?old"}
		c.begin()
		s.create(fetched{name: "of somebody else", waits: true})
		if left := c.sweep(time.Now().Add(-time.Hour)); left != 1 {
			t.Errorf("%d young jobs", left)
		}
		if left := c.sweep(time.Now().Add(time.Hour)); left != 0 {
			t.Errorf("%d jobs are left", left)
		}
		if list := jobsOf(s); len(list) != 1 || list[0].Name != "of somebody else" {
			t.Errorf("the list has %+v", list)
		}
	})
}

// TestMozillaUpdater is bits_client, by which Firefox fetches its updates.
func TestMozillaUpdater(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	e := srv.File("/update.mar", faultserver.File{Seed: 5, Size: 2 * mib})
	const name = "MozillaUpdate 308046B0AF4A39CB"
	prefix := s.dir

	// startJob is what the updater calls each time.
	startJob := func(s *service, path string) (*client.Job, error) {
		local := filepath.Join(prefix, path)
		if rel, err := filepath.Rel(prefix, local); err != nil || !filepath.IsLocal(rel) {
			return nil, fmt.Errorf("%s lies outside of %s", local, prefix)
		}
		n := name
		job, err := s.Create(s.ctx(), bits.NewJob{Settings: bits.Settings{Name: &n}})
		if err != nil {
			return nil, err
		}
		must(s.t, job.SetProxySettings(s.ctx(), bits.ProxySettings{Usage: bits.ProxyPreconfig}), job.SetMinimumRetryDelay(s.ctx(), time.Minute),
			job.SetNoProgressTimeout(s.ctx(), 10*time.Minute), job.SetSecurityFlags(s.ctx(), bits.SecurityRedirectReport),
			job.SetCustomHeaders(s.ctx(), "User-Agent: Mozilla/5.0", "X-Update: 1"), job.SetPriority(s.ctx(), bits.Foreground),
			job.AddFiles(s.ctx(), bits.FileSpec{Remote: e.URL(), Local: local}), job.Resume(s.ctx()))
		return job, nil
	}
	// found is the job by its id and its name, as a later process has them.
	found := func(s *service, id bits.ID) *client.Job {
		job := s.Job(id)
		if got, err := job.Name(s.ctx()); err != nil || got != name {
			s.t.Fatalf("the job %s has the name %q, %v", id, got, err)
		}
		return job
	}

	t.Run("an update", func(t *testing.T) {
		s := s.in(t)
		e.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: mib}})
		e.Set(func(p *faultserver.Program) { p.Cut = faultserver.Cut{How: faultserver.Stall, After: kib} }) // on other terms it goes on over another connection
		job, err := startJob(s, "update.mar")
		must(t, err)
		s.moved(job, mib)
		job = found(s, job.ID)
		must(t, job.SetPriority(s.ctx(), bits.Normal), job.SetPriority(s.ctx(), bits.Foreground), job.SetNoProgressTimeout(s.ctx(), time.Hour))
		// The monitor calls back, without modifications, at an interval that may be changed.
		must(t, job.SetNotifyFlags(s.ctx(), bits.NotifyTransferred|bits.NotifyError))
		monitor := s.listen(well, job.ID)
		s.registered(job, true)
		for _, every := range []time.Duration{time.Second, 2 * time.Second} {
			must(t, job.SetMinimumNotificationInterval(s.ctx(), every))
			if got, err := job.MinimumNotificationInterval(s.ctx()); err != nil || got != every {
				t.Errorf("the monitor's interval is %v, %v", got, err)
			}
		}
		// Complete too early keeps nothing, which is an error to the updater; so it suspends first and looks.
		must(t, job.Suspend(s.ctx()))
		if info := s.info(job); info.State != bits.Suspended || info.Progress.BytesTransferred < mib || info.ErrorCount != 0 || info.Error != nil || info.Files[0].Remote != e.URL() || info.Times.Created.IsZero() {
			t.Errorf("the snapshot is %+v", info)
		}
		e.Set(func(p *faultserver.Program) { p.Cut = faultserver.Cut{} })
		must(t, job.Resume(s.ctx()))
		s.settled(job, bits.Transferred)
		if n := <-monitor.news; n.Event.Kind != bits.EventTransferred {
			t.Errorf("the monitor is told %+v, though it wants no modifications", n.Event)
		}
		s.complete(job)
		s.isWhole(filepath.Join(s.dir, "update.mar"), e)
		requests := srv.RequestsFor("/update.mar")
		for _, r := range requests[1:] {
			if from := r.Header.Get("Range"); !strings.HasPrefix(from, "bytes=10") && from != "bytes=0-0" { // which asks for the version only
				t.Errorf("a later request asks for %q, as if nothing had come", from)
			}
		}
		if h := requests[0].Header; h.Get("User-Agent") != "Mozilla/5.0" || h.Get("X-Update") != "1" {
			t.Errorf("the request has the headers %v", h)
		}
	})
	t.Run("a partial completion", func(t *testing.T) {
		s := s.in(t)
		e.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: mib}})
		job, err := startJob(s, "partial.mar")
		must(t, err)
		s.moved(job, 1)
		outcome, err := job.Complete(s.ctx())
		must(t, err)
		if outcome.Code != "BG_S_PARTIAL_COMPLETE" || outcome.HResult != "0x00200017" {
			t.Errorf("Complete answers %+v", outcome)
		}
		if _, err := os.Stat(filepath.Join(s.dir, "partial.mar")); err == nil {
			t.Error("the partial file is in its place")
		}
	})
	// nsIBits tells its callers what failed; so the failures must differ.
	t.Run("distinct failures", func(t *testing.T) {
		s := s.in(t)
		job, err := startJob(s, "x.mar")
		must(t, err)
		empty := ""
		_, create := s.Create(s.ctx(), bits.NewJob{Settings: bits.Settings{Name: &empty}})
		plain := s.create(fetched{waits: true})
		for what, c := range map[string]struct {
			err  error
			code bits.Code
		}{
			"create":         {create, bits.InvalidArg},
			"add":            {job.AddFiles(s.ctx(), bits.FileSpec{Remote: "ftp://x/y", Local: "/tmp/x"}), bits.InvalidArg},
			"apply settings": {job.SetDescription(s.ctx(), strings.Repeat("x", 1025)), bits.StringTooLong},
			"resume":         {plain.Resume(s.ctx()), bits.Empty},
			"get job":        {s.Job(bits.NewID()).Suspend(s.ctx()), bits.NotFound},
		} {
			if !errors.Is(c.err, &bits.Error{Code: c.code}) {
				t.Errorf("%s: %v, want %s", what, c.err, c.code)
			}
		}
		if _, err := startJob(s, "../outside"); err == nil {
			t.Error("a path outside is taken")
		}
		for _, j := range []*client.Job{job, plain} {
			_, err := j.Cancel(s.ctx())
			must(t, err)
		}
		if _, err := job.Cancel(s.ctx()); !errors.Is(err, &bits.Error{Code: bits.InvalidState}) {
			t.Errorf("again: %v", err)
		}
	})
}

// TestWiXBurn: the installer engine waits for news, and asks its user when something went wrong.
func TestWiXBurn(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	e := srv.File("/package.msi", faultserver.File{Seed: 8, Size: mib})
	e.Script(faultserver.Program{Status: 404}, faultserver.Program{Status: 404})
	source := "bits" + strings.TrimPrefix(e.URL(), "http") // as its bundles have it
	url := "http" + strings.TrimPrefix(source, "bits")
	local := filepath.Join(s.dir, "package.msi")

	name := "WixBurn"
	job, err := s.Create(s.ctx(), bits.NewJob{Settings: bits.Settings{Name: &name}})
	must(t, err, job.AddFiles(s.ctx(), bits.FileSpec{Remote: url, Local: local}),
		job.SetNotifyFlags(s.ctx(), bits.NotifyTransferred|bits.NotifyError|bits.NotifyModification),
		job.SetNoProgressTimeout(s.ctx(), 2*time.Minute), job.SetPriority(s.ctx(), bits.Foreground))
	for _, scheme := range []bits.AuthScheme{bits.AuthNTLM, bits.AuthNegotiate} { // without a user: its owner's own identity
		must(t, job.SetCredential(s.ctx(), bits.Credential{CredentialName: bits.CredentialName{Target: bits.TargetProxy, Scheme: scheme}}))
	}
	if names, err := job.Credentials(s.ctx()); err != nil || fmt.Sprint(names) != "[PROXY/NTLM PROXY/NEGOTIATE]" {
		t.Errorf("the job has the credentials %v, %v", names, err)
	}

	// The engine's callback; it asks its user when something went wrong, and the same job goes on.
	asked := 0
	ctx, finished := context.WithCancel(s.ctx())
	defer finished()
	go func() { // once the callback is registered, the job starts
		for ctx.Err() == nil {
			if registered, err := job.HasCallback(ctx); err == nil && registered {
				if err := job.Resume(ctx); err != nil {
					t.Error(err)
				}
				return
			}
		}
	}()
	err = s.Callbacks(ctx, []bits.ID{job.ID}, func(ctx context.Context, n bits.Notification) error {
		switch n.Event.Kind {
		case bits.EventError:
			if e := n.Event.Error; e == nil || e.Err().Code != bits.HTTPStatus(404) {
				t.Errorf("the error is %+v", e)
			}
			if asked++; asked > 2 {
				t.Error("the user is asked for ever")
				finished()
			}
			return job.Resume(ctx)
		case bits.EventTransferred:
			defer finished()
			_, err := job.Complete(ctx)
			return err
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if asked != 2 {
		t.Errorf("the user was asked %d times, want 2", asked)
	}
	s.isWhole(local, e)

	// When the user gives up, the job is cancelled and nothing stays.
	gone := s.fetch(srv.URL()+"/missing", "gone.msi")
	s.settled(gone, bits.Errored)
	_, err = gone.Cancel(s.ctx())
	must(t, err)
	s.holds("package.msi")
}

// TestPowerShellScripts are loops as scripts write them, in a shell that has no objects but jq-like
// access to the words of PowerShell.
func TestPowerShellScripts(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	e := srv.File("/image.wim", faultserver.File{Seed: 4, Size: 2 * mib})
	f := srv.File("/other.wim", faultserver.File{Seed: 6, Size: mib})
	s := start(t, options{})

	t.Run("synchronous", func(t *testing.T) {
		s := s.in(t)
		s.cli("Start-BitsTransfer", "-Source", e.URL()+", "+f.URL(), "-Destination", filepath.Join(s.dir, "1")+", "+filepath.Join(s.dir, "2"), "-Priority", "High", "-RetryInterval", "60", "-RetryTimeout", "60").want(t, 0)
		s.isWhole(filepath.Join(s.dir, "1"), e)
		s.isWhole(filepath.Join(s.dir, "2"), f)
		got := s.cli("Start-BitsTransfer", "-Source", srv.URL()+"/missing", "-Destination", filepath.Join(s.dir, "3"))
		if got.want(t, 1); !strings.Contains(got.err, "404") {
			t.Errorf("it throws %q", got.err)
		}
	})
	t.Run("asynchronous", func(t *testing.T) {
		s := s.in(t)
		e.Script(faultserver.Program{Rate: 4 * mib})
		job := s.psOne("Start-BitsTransfer", "-Source", e.URL(), "-Destination", filepath.Join(s.dir, "async"), "-Asynchronous", "-DisplayName", "Image")
		// Many scripts loop only while these two hold: a foreground job must not be QUEUED for long.
		ctx := s.ctx()
		for job.JobState == "Queued" || job.JobState == "Transferring" || job.JobState == "Connecting" {
			if job.BytesTotal != "18446744073709551615" && job.BytesTotal != "2097152" {
				t.Fatalf("BytesTotal is %s", job.BytesTotal)
			}
			if ctx.Err() != nil {
				t.Fatal("it does not end")
			}
			job = s.psOne("Get-BitsTransfer", "-JobId", job.JobID.String())
		}
		if job.JobState != "Transferred" || job.BytesTransferred != 2*mib {
			t.Fatalf("the job is %+v", job)
		}
		s.cli("Complete-BitsTransfer", "-BitsJob", job.JobID.String()).want(t, 0)
		s.isWhole(filepath.Join(s.dir, "async"), e)
	})
	t.Run("an error in a loop", func(t *testing.T) {
		s := s.in(t)
		job := s.psOne("Start-BitsTransfer", "-Source", srv.URL()+"/missing", "-Destination", filepath.Join(s.dir, "bad"), "-Asynchronous")
		s.settled(s.Job(job.JobID), bits.Errored)
		job = s.psOne("Get-BitsTransfer", "-JobId", job.JobID.String())
		if job.JobState != "Error" || job.InternalErrorCode != -2145844844 || job.ErrorDescription == "" {
			t.Errorf("the job is %+v", job)
		}
		s.with(s.cli("Get-BitsTransfer", "-Name", "*").out, "Remove-BitsTransfer").want(t, 0)
	})
	t.Run("an upload", func(t *testing.T) {
		s := s.in(t)
		up := startServing(t, "", "--uploads")
		s.cli("Start-BitsTransfer", "-Source", s.text("log.txt", "a log"), "-Destination", up.url+"/log.txt", "-TransferType", "Upload", "-Priority", "Normal", "-ProxyUsage", "NoProxy").want(t, 0)
		up.isFile("log.txt", "a log")
	})
}

// batch is a script for bitsadmin after a change of its name, as administrators have them.
const batch = `
set -eu
bitsadmin() { "$EBB" bitsadmin "$@"; }
bitsadmin /create /download nightly >/dev/null
bitsadmin /addfile nightly "$URL" "$DEST" >/dev/null
bitsadmin /setminretrydelay nightly 60
bitsadmin /setpriority nightly HIGH
bitsadmin /setnotifyflags nightly 1
bitsadmin /setnotifycmdline nightly /bin/sh "sh -c 'echo told >$DEST.told'"
bitsadmin /resume nightly
while :; do
	state=$(bitsadmin /rawreturn /getstate nightly)
	case $state in
	TRANSFERRED) break ;;
	ERROR) bitsadmin /geterror nightly; bitsadmin /cancel nightly; exit 9 ;;
	esac
	sleep 0.05
done
bitsadmin /info nightly /verbose | grep -q "STATE: TRANSFERRED"
echo "total $(bitsadmin /rawreturn /getbytestotal nightly)"
echo "moved $(bitsadmin /rawreturn /getbytestransferred nightly)"
echo "made $(bitsadmin /rawreturn /getcreationtime nightly)"
bitsadmin /complete nightly
bitsadmin /list | grep "^Listed 0 job(s)"
`

// script runs a shell script that knows where ebb is.
func (s *service) script(text string, env ...string) result {
	s.t.Helper()
	c := &call{t: s.t, cmd: exec.CommandContext(s.ctx(), "/bin/sh", "-c", text)}
	c.cmd.Dir = s.dir
	c.cmd.Env = append(append(os.Environ(), "EBB="+ebb, "EBB_SOCKET="+s.socket, "XDG_CONFIG_HOME="+s.configHome()), env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c.begin().end()
}

func TestBitsadminBatch(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	e := srv.File("/tool.exe", faultserver.File{Seed: 2, Size: 100_000})
	s := start(t, options{})
	dest := filepath.Join(s.dir, "tool.exe")
	got := s.script(batch, "URL="+e.URL(), "DEST="+dest).want(t, 0)
	for _, line := range []string{"total 100000\n", "moved 100000\n", "Job completed.\n", "Listed 0 job(s).\n"} {
		if !strings.Contains(got.out, line) {
			t.Errorf("the script does not print %q:\n%s", line, got.out)
		}
	}
	s.isWhole(dest, e)
	if told := appears(t, dest+".told"); told != "told\n" {
		t.Errorf("the notify command wrote %q", told)
	}
	got = s.script(batch, "URL="+srv.URL()+"/missing", "DEST="+dest).want(t, 9)
	if !strings.Contains(got.out, "ERROR CODE:    0x80190194") || !strings.Contains(got.out, "Job canceled.") {
		t.Errorf("of a failure the script prints\n%s", got.out)
	}
	// /transfer and /reset in one line each.
	s.script(`"$EBB" bitsadmin /transfer one /download /priority normal "$URL" "$DEST" && "$EBB" bitsadmin /create left && "$EBB" bitsadmin /reset`, "URL="+e.URL(), "DEST="+dest+"2").want(t, 0)
	s.isWhole(dest+"2", e)
	up := startServing(t, "", "--uploads")
	s.script(`"$EBB" bitsadmin /transfer up /upload "$URL" "$SOURCE"`, "URL="+up.url+"/up.log", "SOURCE="+s.text("up.log", "a log")).want(t, 0)
	up.isFile("up.log", "a log")
}

// TestOmaha: Google's updater has the local path as the job's name, and learns from the file's URL
// where it was redirected to. After 407 it goes on with one credential after the other.
func TestOmaha(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	e := srv.File("/final.exe", faultserver.File{Seed: 3, Size: 100_000})
	alias := srv.File("/alias", faultserver.File{})
	alias.Set(func(p *faultserver.Program) { p.Redirect = "/final.exe" })
	local := filepath.Join(s.dir, "final.exe")
	job, err := s.Create(s.ctx(), bits.NewJob{Settings: bits.Settings{Name: &local}})
	must(t, err, job.SetPriority(s.ctx(), bits.Foreground), job.SetNoProgressTimeout(s.ctx(), 0), job.SetCustomHeaders(s.ctx(), "X-Old-UID: age=1"))
	flags, err := job.SecurityFlags(s.ctx())
	must(t, err, job.SetSecurityFlags(s.ctx(), flags|bits.SecurityRedirectReport), job.SetProxySettings(s.ctx(), bits.ProxySettings{Usage: bits.ProxyNone}),
		job.SetNotifyFlags(s.ctx(), bits.NotifyTransferred|bits.NotifyError|bits.NotifyModification),
		job.AddFiles(s.ctx(), bits.FileSpec{Remote: alias.URL(), Local: local}), job.Suspend(s.ctx()), job.Resume(s.ctx()))
	s.settled(job, bits.Transferred)
	found, err := s.Find(s.ctx(), local) // the path is the key
	must(t, err)
	files, err := found.Files(s.ctx())
	must(t, err)
	if files[0].Remote != e.URL() {
		t.Errorf("the file's URL is %s, want that of the redirect, %s", files[0].Remote, e.URL())
	}
	s.complete(found)
	s.isWhole(local, e)

	t.Run("news, and a job that is closed", func(t *testing.T) {
		s := s.in(t)
		proxy := newGate(t, true)
		slow := srv.File("/closed.exe", faultserver.File{Seed: 3, Size: mib})
		slow.Set(func(p *faultserver.Program) { p.Cut = faultserver.Cut{How: faultserver.Stall, After: kib} })
		local := filepath.Join(s.dir, "closed.exe")
		job, err := s.Create(s.ctx(), bits.NewJob{Settings: bits.Settings{Name: &local}})
		must(t, err, job.SetPriority(s.ctx(), bits.Foreground), job.SetProxySettings(s.ctx(), bits.ProxySettings{Usage: bits.ProxyAutodetect}),
			job.SetNotifyFlags(s.ctx(), bits.NotifyTransferred|bits.NotifyError|bits.NotifyModification))
		if got, err := job.ProxySettings(s.ctx()); err != nil || got.Usage != bits.ProxyAutodetect {
			t.Errorf("the proxy is %+v, %v", got, err)
		}
		// With the server on the bypass list the proxy, which would refuse, is not asked.
		must(t, job.SetProxySettings(s.ctx(), bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{proxy.URL}, Bypass: []string{"127.0.0.1"}}),
			job.AddFiles(s.ctx(), bits.FileSpec{Remote: srv.URL() + "/nowhere", Local: local}))
		l := s.listen(well, job.ID)
		s.registered(job, true)
		must(t, job.Resume(s.ctx()))
		if n := l.next(t, bits.EventError); n.Event.Error == nil || n.Event.Error.Err().Code != bits.HTTPStatus(404) {
			t.Errorf("the error is %+v", n.Event.Error)
		}
		_, err = job.SetRemoteName(s.ctx(), 0, slow.URL())
		must(t, err, job.Resume(s.ctx()))
		s.moved(job, kib)
		l.stop() // Close: the interface is cleared first
		s.registered(job, false)
		_, err = job.Cancel(s.ctx())
		must(t, err)
		if info := s.info(job); info.State != bits.Cancelled {
			t.Errorf("the closed job is %s", info.State)
		}
		if got := names(t, s.dir); slices.ContainsFunc(got, func(name string) bool { return strings.Contains(name, "closed") }) {
			t.Errorf("of the closed job is left: %q", got)
		}
	})
	t.Run("a proxy that asks", func(t *testing.T) {
		s := s.in(t)
		proxy := newGate(t, true, "Negotiate", "NTLM", digestGate)
		local := filepath.Join(s.dir, "asked")
		job, err := s.Create(s.ctx(), bits.NewJob{Settings: bits.Settings{Name: &local}})
		must(t, err, job.SetPriority(s.ctx(), bits.Foreground), job.SetNoProgressTimeout(s.ctx(), 0),
			job.SetProxySettings(s.ctx(), bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{proxy.URL}}),
			job.AddFiles(s.ctx(), bits.FileSpec{Remote: "http://there.example/asked", Local: local}))
		user, password := "alice", secret
		for i, step := range []struct {
			schemes []bits.AuthScheme
			own     bool // the owner's own identity, which this proxy does not know
			want    bits.State
		}{
			{[]bits.AuthScheme{bits.AuthNegotiate}, true, bits.Errored},
			{[]bits.AuthScheme{bits.AuthNTLM}, true, bits.Errored},
			{[]bits.AuthScheme{bits.AuthDigest, bits.AuthNTLM, bits.AuthNegotiate}, false, bits.Transferred},
		} {
			for _, scheme := range step.schemes {
				c := bits.Credential{CredentialName: bits.CredentialName{Target: bits.TargetProxy, Scheme: scheme}}
				if !step.own {
					c.User, c.Password = &user, &password
				}
				must(t, job.SetCredential(s.ctx(), c))
			}
			must(t, job.Resume(s.ctx()))
			if s.settled(job, step.want); step.want == bits.Errored && s.code(job) != bits.HTTPStatus(407) {
				t.Errorf("step %d: the error is %s", i, s.code(job))
			}
		}
		s.complete(job)
		holdsText(t, local, "inside")
	})
}

// TestDFIROrc uploads a file to a server that asks who it is; the job is completed, and the file
// deleted, by a command that runs when the program is gone.
func TestDFIROrc(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	c := newServing(t, "").prepareServe("password") // only for its verb
	c.cmd.Stdin = strings.NewReader(secret + "\n")
	hash := c.begin().end().want(t, 0).out
	up := startServing(t, fmt.Sprintf("[users.orc]\n%s\n[[group]]\npath = \"/\"\ndir = \"%%DIR%%\"\nread = [\"orc\"]\nwrite = [\"orc\"]\n[group.uploads]\n", hash))
	archive := s.text("evidence.7z", "evidence")
	id := s.raw("/create", "/upload", "orc")
	s.raw("/addfile", "orc", up.url+"/evidence.7z", archive)
	s.raw("/setcredentials", "orc", "SERVER", "BASIC", "orc", secret)
	s.raw("/setcredentials", "orc", "SERVER", "NTLM", "orc", secret)
	s.raw("/setcredentials", "orc", "SERVER", "NEGOTIATE", "orc", secret)
	s.raw("/setnotifycmdline", "orc", "/bin/sh", "sh -c '"+ebb+" --socket "+s.socket+" bitsadmin /complete "+strings.Trim(id, "{}")+" && rm "+archive+"'")
	s.raw("/resume", "orc")
	jid, err := bits.ParseID(id)
	must(t, err)
	s.untilState(s.Job(jid), bits.Acknowledged)
	up.isFile("evidence.7z", "evidence")
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(archive); err != nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("the file is still there")
		}
	}
}
