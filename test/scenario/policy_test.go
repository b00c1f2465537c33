package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// inEffect waits until a key of the configuration has a value.
func (s *service) inEffect(key string, want any) {
	s.t.Helper()
	ctx := s.ctx()
	for {
		p, err := s.Policy(ctx)
		if err != nil {
			s.t.Fatalf("%s did not become %v: %v", key, want, err)
		}
		for _, v := range p.Settings {
			if v.Key == key && v.Value == want {
				return
			}
		}
		time.Sleep(5 * time.Millisecond) // nothing tells when it is
	}
}

// notices returns what the service wants people to know.
func (s *service) notices() string {
	s.t.Helper()
	info, err := s.Service(s.ctx())
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Join(info.Notices, "\n")
}

func writeConfig(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The configuration is followed while the service runs: a file that appears, changes and goes,
// by hand and by `ebb policy set`. With errors it changes nothing and is a notice.
func TestConfigurationIsFollowed(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/etc/ebb/policy.toml"); err == nil {
		t.Skip("this machine has a configuration")
	}
	s := start(t, options{})
	name := filepath.Join(s.configHome(), "ebb", "policy.toml")
	s.inEffect("jobs.background", 1.0)

	writeConfig(t, name, "jobs.background = 2 # by hand\n")
	s.inEffect("jobs.background", 2.0)
	if out := s.cli("policy", "set", "--dry-run", "jobs.background=7").want(t, 0).out; !strings.HasPrefix(out, "would change ") {
		t.Errorf("policy set --dry-run prints %q", out)
	}
	s.cli("policy", "set", "--dry-run", "jobs.background=-7").want(t, 2)
	s.inEffect("jobs.background", 2.0)
	s.cli("policy", "set", "jobs.background=3", "bandwidth.background=1 MB/s").want(t, 0)
	if b, err := os.ReadFile(name); err != nil || string(b) != "jobs.background = 3 # by hand\n\n[bandwidth]\nbackground = \"1 MB/s\"\n" {
		t.Errorf("the file is %q, %v", b, err)
	}
	p, err := s.Policy(s.ctx()) // without a wait: set returns when it is in effect
	if err != nil || p.File != name || !p.Exists {
		t.Fatalf("%+v %v", p, err)
	}
	limits, err := s.Limits(s.ctx(), time.Time{}, bits.TransferDefault)
	if err != nil || len(limits) != bits.Priorities || limits[bits.Low].Now.Rate == nil || *limits[bits.Low].Now.Rate != 1_000_000 || limits[bits.Low].Now.Line != 4 {
		t.Errorf("%+v %v", limits, err)
	}

	writeConfig(t, name, "[jobs]\nbackground = 4\nbackgrount = 5\n")
	for ctx := s.ctx(); !strings.Contains(s.notices(), name+":3: jobs.backgrount"); {
		if ctx.Err() != nil {
			t.Fatalf("the notices are %q", s.notices())
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.inEffect("jobs.background", 3.0)
	if r := s.cli("version").want(t, 0); !strings.Contains(r.err, name+":3: ") {
		t.Errorf("ebb version tells %q", r.err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	s.inEffect("jobs.background", 1.0)
	if n := s.notices(); n != "" {
		t.Errorf("the notices are %q", n)
	}
}

// SIGHUP reads the file again, as for any other service.
func TestConfigurationIsReadOnSIGHUP(t *testing.T) {
	t.Parallel()
	s := start(t, options{config: "jobs.background = 2\n"})
	before, err := s.Policy(s.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for ctx := s.ctx(); ; time.Sleep(5 * time.Millisecond) {
		p, err := s.Policy(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if p.Read.After(before.Read) {
			break
		}
	}
}

// A service whose file has an error does not start: it would not keep to the limits that
// somebody wanted.
func TestServiceDoesNotStartWithErrors(t *testing.T) {
	t.Parallel()
	s := prepare(t, options{config: "[bandwidth]\nbackground = 10\n"})
	s.launch()
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatal("it runs")
	}
	s.cmd = nil
	log, err := os.ReadFile(s.log)
	if err != nil || !strings.Contains(string(log), "config.toml:2: bandwidth.background: \"10\" has no unit") {
		t.Errorf("the log is %q, %v", log, err)
	}
}

// A limit that is set while a job runs holds it at once, `ebb policy explain` tells where it
// stands, and without it the job goes on.
func TestPolicySetHoldsRunningJobs(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{config: "[bandwidth]\nbackground = \"unlimited\"\n"})
	big := slow(srv, "/big", mib)
	job := s.at(bits.Low, big, "big")
	s.moved(job, mib)
	s.cli("policy", "set", "bandwidth.background=block").want(t, 0)
	s.held(job, bits.BlockedByPolicy, "bandwidth.background")
	if r := s.cli("policy", "explain", "big").want(t, 0); !strings.Contains(r.out, "LOW         blocked\n            bandwidth.background, from ") || !strings.Contains(r.out, "config.toml:2\n") {
		t.Errorf("ebb policy explain tells\n%s", r.out)
	}
	s.cli("policy", "set", "bandwidth.background=").want(t, 0)
	s.arrives(job, big)
}
