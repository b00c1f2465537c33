package scenario

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/internal/doctor"
	"github.com/ebbtransfer/ebb/test/fakebus"
)

// examined is what ebb doctor prints for programs.
type examined struct {
	OK       bool
	Findings []doctor.Finding
}

// has looks for a finding.
func (e *examined) has(check string, level doctor.Level, text string) bool {
	return slices.ContainsFunc(e.Findings, func(f doctor.Finding) bool {
		return f.Check == check && f.Level == level && strings.Contains(f.Message, text) && (level != doctor.Problem || f.Hint != "")
	})
}

// TestDoctor makes what commonly is wrong, and has it found.
func TestDoctor(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	bus := fakebus.New(t)
	_, err := bus.NetworkManager()
	must(t, err)
	ask := func(t *testing.T, code int, env []string, args ...string) *examined {
		t.Helper()
		c := s.in(t).prepareCall(append([]string{"doctor", "--json"}, args...)...)
		c.cmd.Env = slices.Concat(c.cmd.Env, []string{"DBUS_SYSTEM_BUS_ADDRESS=" + bus.Address, "SSL_CERT_FILE=", "HTTP_PROXY=", "http_proxy=", "HTTPS_PROXY=", "https_proxy="}, env)
		var e examined
		c.begin().end().want(t, code).decode(t, &e)
		if e.OK != (code == 0) {
			t.Errorf("the exit code is %d, and ok is %t", code, e.OK)
		}
		return &e
	}
	wants := func(t *testing.T, e *examined, check string, level doctor.Level, text string) {
		t.Helper()
		if !e.has(check, level, text) {
			t.Errorf("there is no %s of %s that says %q: %+v", level, check, text, e.Findings)
		}
	}
	config := filepath.Join(s.configHome(), "ebb", "policy.toml")

	healthy := ask(t, 0, nil)
	for check, text := range map[string]string{"socket": s.socket, "service": "process", "state": s.state, "configuration": "no configuration file", "signals": "NetworkManager tells", "kernel": "The kernel", "proxy": "no proxy", "certificates": "trusted"} {
		wants(t, healthy, check, doctor.OK, text)
	}
	wants(t, healthy, "signals", doctor.OK, "no UPower")

	// What the environment of the call says.
	junk := s.text("junk", "no certificate")
	for _, c := range []struct{ env, check, text string }{
		{"SSL_CERT_FILE=/nonexistent", "certificates", "cannot be read"},
		{"SSL_CERT_FILE=" + junk, "certificates", "holds no certificate"},
		{"HTTPS_PROXY=ftp://u:geheim@p:1", "proxy", "by ftp"},
		{"HTTP_PROXY=http://u:geheim@[", "proxy", "HTTP_PROXY is no address"},
	} {
		e := ask(t, 1, []string{c.env})
		wants(t, e, c.check, doctor.Problem, c.text)
		for _, f := range e.Findings {
			if strings.Contains(f.Message+f.Hint, "geheim") {
				t.Errorf("it tells a password: %+v", f)
			}
		}
	}
	wants(t, ask(t, 0, []string{"HTTPS_PROXY=http://u:geheim@p:1"}), "proxy", doctor.OK, "the proxy p:1.")
	wants(t, ask(t, 0, []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent/bus"}), "signals", doctor.Warning, "cannot be reached")

	// The service is another one than the program.
	e := examined{Findings: doctor.Examine(context.Background(), doctor.Config{Version: "v0.0.1", Socket: s.socket})}
	wants(t, &e, "service", doctor.Warning, "this program v0.0.1")

	// The configuration has an error, and the store one that was set aside.
	must(t, os.MkdirAll(filepath.Dir(config), 0o700), os.WriteFile(config, []byte("[jobs]\nforeground = \"many\"\n"), 0o600))
	wants(t, ask(t, 1, nil), "configuration", doctor.Problem, "has errors")
	must(t, os.Remove(config))
	aside := filepath.Join(s.state, "ebb.db.unusable-20260101T000000.000")
	must(t, os.WriteFile(aside, nil, 0o600))
	wants(t, ask(t, 0, nil), "state", doctor.Warning, "set aside")
	must(t, os.Remove(aside))

	// The state directory is open to others; nothing is changed by looking.
	must(t, os.Chmod(s.state, 0o777))
	before := names(t, s.state)
	wants(t, ask(t, 1, nil), "state", doctor.Problem, "Others may write")
	if after := names(t, s.state); !slices.Equal(before, after) {
		t.Errorf("the state directory holds %q, and held %q", after, before)
	}
	must(t, os.Chmod(s.state, 0o700))

	// People are told the same, and with --quiet what is wrong only.
	if out := s.cli("doctor", "--quiet").out; strings.Contains(out, " ok: ") {
		t.Errorf("it prints\n%s", out)
	}

	// The service is killed, and its socket is still there; then something else is in its place, then nothing.
	s.kill9()
	wants(t, ask(t, 1, nil, "--state", s.state), "socket", doctor.Problem, "Nobody listens")
	must(t, os.Remove(s.socket), os.WriteFile(s.socket, nil, 0o600))
	wants(t, ask(t, 1, nil), "socket", doctor.Problem, "is not a socket")
	must(t, os.Remove(s.socket))
	wants(t, ask(t, 1, nil), "socket", doctor.Problem, "no socket")
	if _, err := os.Lstat(s.socket); err == nil {
		t.Error("a service was started")
	}
}

// TestDoctorLooksAtTheDisk: one that is small, in memory and read-only.
func TestDoctorLooksAtTheDisk(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	smallDisk(s, 32*mib)
	look := func(code int) (e examined) {
		t.Helper()
		s.kill9()
		s.cli("doctor", "--json", "--state", s.dir).want(t, code).decode(t, &e)
		return e
	}
	e := look(1) // also as no service runs
	if !e.has("state", doctor.Problem, "has 3") || !e.has("state", doctor.Warning, "in memory") {
		t.Errorf("a small disk in memory is %+v", e.Findings)
	}
	remount(s, "ro")
	if e := look(1); !e.has("state", doctor.Problem, "is read-only") {
		t.Errorf("a read-only disk is %+v", e.Findings)
	}
	remount(s, "rw")
}
