package scenario

import (
	"errors"
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

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// held waits until a job waits for a hold, and checks what it tells.
func (s *service) held(job *client.Job, code bits.Code, say string) *bits.Job {
	s.t.Helper()
	info := s.until(job, "held by "+code.Name(), func(j *bits.Job) bool { return j.Error != nil && j.Error.Code == code.Name() })
	isError(s.t, info, code, bits.ContextGeneralQueueManager)
	if info.State != bits.TransientError || info.ErrorCount != 0 || info.Times.RetryAt != nil {
		s.t.Errorf("a job that waits is %s with %d errors, next attempt at %v", info.State, info.ErrorCount, info.Times.RetryAt)
	}
	if !strings.Contains(info.Error.Message, say) {
		s.t.Errorf("the job waits because %q, want %q", info.Error.Message, say)
	}
	return info
}

// reconfigure replaces the configuration of a service and has it read again.
func (s *service) reconfigure(config string) {
	s.t.Helper()
	must(s.t, os.WriteFile(filepath.Join(filepath.Dir(s.socket), "config.toml"), []byte(config), 0o600), s.cmd.Process.Signal(syscall.SIGHUP))
}

// TestAMeteredNetworkHoldsBackgroundJobs is the default policy: they wait, others do not.
func TestAMeteredNetworkHoldsBackgroundJobs(t *testing.T) {
	t.Parallel()
	b := fakebus.New(t)
	nm, err := b.NetworkManager()
	must(t, err)
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{config: patientStall, env: []string{"DBUS_SYSTEM_BUS_ADDRESS=" + b.Address}})
	big := srv.File("/big", faultserver.File{Seed: 1, Size: 4 * mib})
	big.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: mib}}) // it is in the middle for as long as the test wants
	job := s.at(bits.Normal, big, "big")
	s.moved(job, mib)

	must(t, nm.Metered(fakebus.Yes, fakebus.Yes))
	info := s.held(job, bits.BlockedByCost, "the network eth0 is metered; the job waits for one that its transfer policy allows (cost.normal: unmetered)")
	if kept := info.Progress.BytesTransferred; kept < mib/2 {
		t.Errorf("of 1 MiB only %d bytes were kept", kept)
	}
	await(t, srv, "the connection ends", func() bool { return srv.Idle() })
	waiting := s.at(bits.Low, srv.File("/waiting", faultserver.File{Seed: 3, Size: mib}), "waiting")
	s.held(waiting, bits.BlockedByCost, "(cost.low: unmetered)")
	quick := srv.File("/quick", faultserver.File{Seed: 2, Size: 100 * kib})
	s.arrives(s.fetch(quick.URL(), "quick"), quick)
	if n := len(srv.RequestsFor("/waiting")); n > 0 {
		t.Errorf("%d requests for a job that waits", n)
	}
	service, err := s.Service(s.ctx())
	must(t, err)
	if c := service.Conditions; c.Cost != bits.CostCappedUsageUnknown || c.CostSource != "NetworkManager" || c.Interface != "eth0" {
		t.Errorf("the service tells %+v", c)
	}
	if out := s.cli("list").want(t, 0).out; strings.Count(out, "the network eth0 is metered") != 2 {
		t.Errorf("list prints\n%s", out)
	}
	if out := s.cli("show", "big").want(t, 0).out; !strings.Contains(out, "waits         the network eth0 is metered; ") || !strings.Contains(out, "BG_E_BLOCKED_BY_COST_TRANSFER_POLICY 0x80200059") {
		t.Errorf("show prints\n%s", out)
	}

	must(t, nm.Metered(fakebus.No, fakebus.No))
	s.arrives(job, big)
	s.settled(waiting, bits.Transferred)
	if again := srv.Refetched("/big"); again > mib {
		t.Errorf("%d bytes were fetched twice", again)
	}
}

// TestNothingBeginsOnAMeteredNetwork: a service that starts asks before its jobs do.
func TestNothingBeginsOnAMeteredNetwork(t *testing.T) {
	t.Parallel()
	b := fakebus.New(t)
	nm, err := b.NetworkManager()
	must(t, err, nm.Metered(fakebus.GuessYes, fakebus.Unknown))
	srv := serve(t, faultserver.Options{})
	s := start(t, options{env: []string{"DBUS_SYSTEM_BUS_ADDRESS=" + b.Address}})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: mib})
	job := s.at(bits.High, e, "file")
	s.held(job, bits.BlockedByCost, "metered")
	s.restart()
	s.held(job, bits.BlockedByCost, "metered")
	if n := len(srv.Requests()); n > 0 {
		t.Errorf("%d requests on a metered network", n)
	}
	must(t, nm.Go()) // nobody knows any more: nothing is held back
	s.arrives(job, e)
}

func TestAJobsTransferPolicyWinsAtOnce(t *testing.T) {
	t.Parallel()
	b := fakebus.New(t)
	nm, err := b.NetworkManager()
	must(t, err, nm.Metered(fakebus.Yes, fakebus.Yes))
	mm, err := b.ModemManager()
	must(t, err)
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{env: []string{"DBUS_SYSTEM_BUS_ADDRESS=" + b.Address}})
	e := slow(srv, "/file", mib)
	job := s.at(bits.Normal, e, "file")
	s.held(job, bits.BlockedByCost, "cost.normal: unmetered")
	s.cli("set", "file", "transfer_policy=not-roaming").want(t, 0)
	s.moved(job, mib/2)
	if p := s.info(job).Properties.TransferPolicy; p != bits.TransferNotRoaming {
		t.Errorf("its transfer policy is %s", p)
	}
	must(t, nm.UseModem(), mm.Roaming(true))
	s.held(job, bits.BlockedByCost, "the network wwan0 is roaming; the job waits for one that its transfer policy allows (its own: not-roaming)")
	s.cli("set", "file", "transfer_policy=always").want(t, 0)
	s.untilState(job, bits.Transferring)
	s.cli("set", "file", "transfer_policy=").want(t, 0)
	s.held(job, bits.BlockedByCost, "is metered and roaming")
	s.cli("set", "file", "priority=foreground").want(t, 0)
	s.arrives(job, e)

	id := strings.TrimSpace(s.cli("create", "--transfer-policy=no-surcharge", "made").want(t, 0).out)
	if out := s.cli("show", id).want(t, 0).out; !strings.Contains(out, "transfer      no-surcharge") {
		t.Errorf("show prints\n%s", out)
	}
	s.cli("create", "--transfer-policy=cheap", "made").want(t, 2)
	if r := s.cli("get", "--background", "--transfer-policy=always", e.URL(), "got").want(t, 0); !strings.HasSuffix(r.out, "/got\n") {
		t.Errorf("get prints %q", r.out)
	}
	s.isWhole(filepath.Join(s.dir, "got"), e)
}

func TestGetTellsWhatAJobWaitsFor(t *testing.T) {
	t.Parallel()
	b := fakebus.New(t)
	nm, err := b.NetworkManager()
	must(t, err, nm.Metered(fakebus.Yes, fakebus.Yes))
	srv := serve(t, faultserver.Options{})
	s := start(t, options{env: []string{"DBUS_SYSTEM_BUS_ADDRESS=" + b.Address}})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: mib})
	c := s.begin("get", "--background", "--progress=plain", e.URL(), "file")
	job := s.onlyJob()
	s.held(job, bits.BlockedByCost, "metered")
	must(t, nm.Metered(fakebus.No, fakebus.No))
	r := c.end().want(t, 0)
	if want := "the network eth0 is metered; the job waits for one that its transfer policy allows (cost.normal: unmetered) (BG_E_BLOCKED_BY_COST_TRANSFER_POLICY 0x80200059); `ebb set JOB transfer_policy=always`"; !strings.Contains(r.err, want) {
		t.Errorf("get told\n%s\nwant\n%s", r.err, want)
	}
}

// onlyJob waits for the first job of a service, whose number in the events is not known.
func (s *service) onlyJob() *client.Job {
	s.t.Helper()
	for ctx := s.ctx(); ; {
		for j, err := range s.List(ctx, client.ListOptions{}) {
			must(s.t, err)
			job, err := s.Find(ctx, j.ID.String())
			must(s.t, err)
			return job
		}
		select {
		case <-ctx.Done():
			s.t.Fatal("there is no job")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestPowerHoldsBackgroundJobs(t *testing.T) {
	t.Parallel()
	b := fakebus.New(t)
	u, err := b.UPower()
	must(t, err)
	profiles, err := b.PowerProfiles()
	must(t, err)
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{config: "[power]\non_battery = \"background-waits\"\n", env: []string{"DBUS_SYSTEM_BUS_ADDRESS=" + b.Address}})
	e := slow(srv, "/file", mib)
	job := s.at(bits.High, e, "file")
	s.moved(job, mib/2)
	must(t, u.OnBattery(true))
	s.held(job, bits.BlockedByBattery, "the machine runs on battery; background jobs wait for mains power (power.on_battery)")
	must(t, profiles.Profile("power-saver"))
	s.held(job, bits.BlockedByBatterySaver, "the machine is in power-saver mode; background jobs wait for its end (power.power_saver)")
	must(t, u.OnBattery(false))
	service, err := s.Service(s.ctx())
	must(t, err)
	if c := service.Conditions; !c.PowerSaver || c.SaverSource != "power-profiles-daemon" || c.PowerSource != "UPower" {
		t.Errorf("the service tells %+v", c)
	}
	must(t, profiles.Profile("balanced"))
	s.arrives(job, e)
}

func TestAPolicyThatBlocks(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{config: "# nothing\n"})
	background, foreground := slow(srv, "/background", mib), slow(srv, "/foreground", mib)
	low := s.at(bits.Low, background, "low")
	s.moved(low, mib/2)
	fg := s.at(bits.Foreground, foreground, "fg")
	s.moved(fg, mib/2)
	// Hours of a day from here to here are the whole day.
	s.reconfigure("[bandwidth.work]\ndays = \"daily\"\nhours = \"00:00-00:00\"\nlow = \"block\"\n")
	s.held(low, bits.BlockedByPolicy, "the bandwidth policy (bandwidth.work.low) lets LOW jobs move nothing")
	s.reconfigure("[bandwidth]\nforeground = \"block\"\nbackground = \"block\"\n")
	s.held(fg, bits.BlockedByPolicy, "(bandwidth.foreground) lets FOREGROUND jobs move nothing")
	s.until(low, "told of the other rule", func(j *bits.Job) bool { return strings.Contains(j.Error.Message, "(bandwidth.background)") })
	s.reconfigure("[bandwidth]\nforeground = \"block\"\n")
	s.arrives(low, background)
	s.reconfigure("")
	s.arrives(fg, foreground)
	for _, path := range []string{"/background", "/foreground"} {
		if again := srv.Refetched(path); again > mib {
			t.Errorf("%d bytes of %s were fetched twice", again, path)
		}
	}
}

func TestMaximumDownloadTime(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{config: "[jobs]\nmax_download_time = \"2s\"\n"})
	e := slow(srv, "/file", mib)
	job := s.at(bits.Normal, e, "file")
	if got := s.info(job).Properties.MaximumDownloadTime; got != 2 {
		t.Errorf("the time that policy gives is %d s", got)
	}
	s.moved(job, 1)
	began := time.Now()
	// Time in other states does not count.
	must(t, job.Suspend(s.ctx()))
	s.untilState(job, bits.Suspended)
	info := s.info(job)
	must(t, job.Resume(s.ctx()))
	failed := s.settled(job, bits.Errored)
	isError(t, failed, bits.MaxDownloadTimeout, bits.ContextGeneralQueueManager)
	if d := time.Since(began); d < 1500*time.Millisecond {
		t.Errorf("it failed after %v, although the resume gave it 2 s", d)
	}
	if failed.Progress.BytesTransferred <= info.Progress.BytesTransferred {
		t.Error("it lost its progress")
	}
	// Its own limit wins, and resuming it gives it all of that again.
	s.cli("set", "file", "maximum_download_time=1h").want(t, 0)
	must(t, job.Resume(s.ctx()))
	s.arrives(job, e)
	if again := srv.Refetched("/file"); again > mib {
		t.Errorf("%d bytes were fetched twice", again)
	}
}

// TestThePriorityOfARunningJobMovesItsBandwidthClass: it goes on over another connection.
func TestThePriorityOfARunningJobMovesItsBandwidthClass(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{})
	e := slow(srv, "/file", mib)
	job := s.at(bits.Low, e, "file")
	s.moved(job, mib/2)
	requests := func() int { return len(srv.RequestsFor("/file")) }
	s.cli("set", "file", "priority=normal").want(t, 0) // the same class
	s.moved(job, mib)
	if n := requests(); n != 1 {
		t.Errorf("%d requests after a change from LOW to NORMAL", n)
	}
	s.cli("set", "file", "priority=foreground").want(t, 0)
	await(t, srv, "another request", func() bool { return len(srv.RequestsFor("/file")) == 2 })
	s.arrives(job, e)
	// The last request is that which confirms the end of a large file.
	if again := srv.Refetched("/file"); again > mib || requests() > 3 {
		t.Errorf("%d requests, %d bytes were fetched twice", requests(), again)
	}
}

// TestQuotas runs a service as a user who is not root, for whom they are.
func TestQuotas(t *testing.T) {
	t.Parallel()
	isRoot(t)
	const nobody = 65534
	s := prepare(t, options{config: "[jobs]\nmax_per_user = 2\nmax_files = 1\n"})
	s.before = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
	home := filepath.Dir(s.socket)
	must(t, filepath.WalkDir(home, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, nobody, nobody))
	}))
	must(t, os.Chmod(filepath.Dir(ebb), 0o755))
	s.launch()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(s.socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the service does not listen")
		}
	}
	cli := func(args ...string) result { // root's calls would not trust the service
		t.Helper()
		c := s.prepareCall(args...)
		c.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		return c.begin().end()
	}
	cli("create", "a").want(t, 0)
	cli("create", "b").want(t, 0)
	r := cli("create", "c").want(t, 1)
	if !strings.Contains(r.err, "the user has 2 jobs that are not completed or cancelled, and may have no more (jobs.max_per_user) (BG_E_TOO_MANY_JOBS_PER_USER 0x80200049)") || !strings.Contains(r.err, "hint: complete or cancel some") {
		t.Errorf("the refusal is %q", r.err)
	}
	cli("add", "a", "http://127.0.0.1:1/a", filepath.Join(s.dir, "a")).want(t, 0)
	if r := cli("add", "a", "http://127.0.0.1:1/b", filepath.Join(s.dir, "b")).want(t, 2); !strings.Contains(r.err, "would have 2 files; 1 are allowed (jobs.max_files)") {
		t.Errorf("the refusal is %q", r.err)
	}
	cli("cancel", "b").want(t, 0)
	cli("create", "c").want(t, 0)
}

// TestThePolicysLimitsReachTransfers: also those of the foreground, and at once.
func TestThePolicysLimitsReachTransfers(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{config: "[bandwidth]\nforeground = \"1 MB/s\"\nbackground = \"500 KB/s\"\n"})
	for _, c := range []struct {
		prio bits.Priority
		rate int64
	}{{bits.Foreground, 1e6}, {bits.High, 5e5}} {
		name := strings.ToLower(c.prio.String())
		e := srv.File("/"+name, faultserver.File{Seed: 1, Size: 40e6})
		job := s.at(c.prio, e, name)
		s.moved(job, 1)
		from, began := s.info(job).Progress.BytesTransferred, time.Now()
		time.Sleep(3 * time.Second)
		got := float64(s.info(job).Progress.BytesTransferred-from) / time.Since(began).Seconds()
		if got > 1.3*float64(c.rate) || got < 0.3*float64(c.rate) {
			t.Errorf("%s moves %.0f bytes a second, want at most %d and not much less", name, got, c.rate)
		}
		s.reconfigure("")
		s.arrives(job, e) // 40 s or 80 s with the limit
		s.reconfigure("[bandwidth]\nforeground = \"1 MB/s\"\nbackground = \"500 KB/s\"\n")
	}
}
