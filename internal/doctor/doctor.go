// Package doctor looks at what commonly is wrong on a machine where Ebb does not do what it should, and says so
// in sentences. It changes nothing, and waits for nobody longer than a few seconds. It sees the machine as the
// user who calls it does: what only root or the service may look at is left out, not guessed.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/store"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Warning Level = "warning" // Ebb works, and not as well as it could
	Problem Level = "problem" // something does not work
)

// Finding is the outcome of a check.
type Finding struct {
	Check   string `json:"check"`
	Level   Level  `json:"level"`
	Message string `json:"message"`        // a sentence
	Hint    string `json:"hint,omitempty"` // what to do
}

// Config says what is looked at.
type Config struct {
	Version string // of the caller
	Socket  string // of the service
	Usual   bool   // the socket is the user's usual one, on which a service need not run
	State   string // directory of the job store, where no service says which; empty if there is none
}

// patience is how long one check waits for others.
const patience = 3 * time.Second

// room is what a job store needs at least, and roomy what it can grow to for a while, in bytes.
const (
	room  = 64 << 20
	roomy = 1 << 30
)

// report collects the findings of one check.
type report struct {
	check string
	found []Finding
}

func (r *report) ok(format string, args ...any) {
	r.found = append(r.found, Finding{r.check, OK, fmt.Sprintf(format, args...), ""})
}

func (r *report) bad(l Level, hint, format string, args ...any) {
	r.found = append(r.found, Finding{r.check, l, fmt.Sprintf(format, args...), hint})
}

// Examine makes all checks, in the order in which one would make them.
func Examine(ctx context.Context, c Config) []Finding {
	var found []Finding
	run := func(name string, check func(context.Context, *report)) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		r := report{check: name}
		check(ctx, &r)
		found = append(found, r.found...)
	}
	var running *bits.Service
	run("socket", func(_ context.Context, r *report) { socket(r, &c) })
	run("service", func(ctx context.Context, r *report) { running = service(ctx, r, &c) })
	if running != nil && running.State != "" {
		c.State = running.State
	}
	run("state", func(_ context.Context, r *report) { state(r, c.State) })
	run("configuration", func(ctx context.Context, r *report) { configuration(ctx, r, &c, running != nil) })
	run("clock", func(_ context.Context, r *report) { clock(r, time.Now()) })
	run("systemd", units)
	run("signals", func(ctx context.Context, r *report) { signals(ctx, r, running) })
	run("kernel", func(_ context.Context, r *report) { kernel(r) })
	run("proxy", proxies)
	run("certificates", certificates)
	return found
}

// socket looks at the place where the service listens.
func socket(r *report, c *Config) {
	if c.Socket == "" {
		r.bad(Problem, "set HOME or XDG_RUNTIME_DIR, or give --socket", "There is no place for a service's socket: this user has no home.")
		return
	}
	st, err := os.Lstat(c.Socket)
	switch {
	case errors.Is(err, fs.ErrNotExist) && c.Usual:
		r.ok("No service runs; ebb starts one when it is needed.")
		return
	case errors.Is(err, fs.ErrNotExist):
		r.bad(Problem, "start the service, or look at EBB_SOCKET and --socket", "There is no socket at %s.", c.Socket)
		return
	case err != nil:
		r.bad(Problem, "look at the rights of the directories above it", "The socket %s cannot be looked at: %v.", c.Socket, err)
		return
	case st.Mode()&fs.ModeSocket == 0:
		r.bad(Problem, "move it away, or name another socket", "%s is not a socket.", c.Socket)
		return
	}
	if dir, err := os.Stat(filepath.Dir(c.Socket)); err == nil && dir.Mode().Perm()&0o022 != 0 && dir.Mode()&fs.ModeSticky == 0 {
		r.bad(Problem, "take the right from the others: chmod go-w "+filepath.Dir(c.Socket), "Others may put a socket of their own in the place of %s.", c.Socket)
	}
	conn, err := net.DialTimeout("unix", c.Socket, patience)
	switch {
	case err == nil:
		_ = conn.Close()
		r.ok("Something listens on %s.", c.Socket)
	case errors.Is(err, fs.ErrPermission):
		r.bad(Problem, "look at the rights of the socket: that of all users is open to everybody (0666)", "This user may not connect to %s.", c.Socket)
	case c.Usual:
		r.bad(Warning, "nothing need be done: the next one takes its place", "Nobody listens on %s, which a service left that was killed.", c.Socket)
	default:
		r.bad(Problem, "start the service: `systemctl start ebb.service`, or `ebb daemon`", "Nobody listens on %s: %v.", c.Socket, err)
	}
}

// service asks the service who it is; nil if it does not answer.
func service(ctx context.Context, r *report, c *Config) *bits.Service {
	if c.Socket == "" {
		return nil
	}
	m := client.New(c.Socket)
	defer m.Close()
	s, err := m.Service(ctx)
	switch {
	case errors.Is(err, client.ErrNoService):
		return nil // said of the socket
	case err != nil:
		r.bad(Problem, "look at its log (`journalctl -u ebb.service`, or daemon.log in the state directory), and start it again", "The service does not answer: %v.", err)
		return nil
	}
	if s.Version != c.Version {
		r.bad(Warning, "start the service again, so that it is this program", "The service has version %s, and this program %s.", s.Version, c.Version)
	} else {
		r.ok("The service answers; process %d, version %s.", s.PID, s.Version)
	}
	for _, n := range s.Notices {
		r.bad(Warning, "", "The service says: %s.", strings.TrimSuffix(n, "."))
	}
	return s
}

// state looks at the directory of the job store.
func state(r *report, dir string) {
	if dir == "" {
		return
	}
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.ok("There is no job store in %s yet.", dir)
		return
	case errors.Is(err, fs.ErrPermission):
		r.ok("Only the service may look into its state directory %s.", dir)
		return
	case err != nil:
		r.bad(Problem, "", "The state directory cannot be looked at: %v.", err)
		return
	case !st.IsDir():
		r.bad(Problem, "move it away", "%s, where the job store should be, is not a directory.", dir)
		return
	case st.Mode().Perm()&0o022 != 0:
		r.bad(Problem, "chmod go-w "+dir, "Others may write to the state directory %s: the service refuses to start there.", dir)
	}
	if n := len(store.Aside(dir)); n > 0 {
		r.bad(Warning, "`ebb daemon restore --help` says how to get one back; delete what is not wanted any more", "%d job stores in %s could not be used and were set aside.", n, dir)
	}
	disk(r, dir)
}

// configuration reads the policy: the file that the service has read, or which one that starts would read.
func configuration(ctx context.Context, r *report, c *Config, answers bool) {
	name, exists := policy.Find()
	if answers {
		m := client.New(c.Socket)
		defer m.Close()
		if p, err := m.Policy(ctx); err == nil && p.Exists {
			// One that has just been removed is one that the service will not read again.
			if _, err := os.Stat(p.File); !errors.Is(err, fs.ErrNotExist) {
				name, exists = p.File, true
			}
		}
	}
	if !exists {
		r.ok("There is no configuration file; all is at its default. It would be %s.", name)
		return
	}
	p, err := policy.Load(name)
	var wrong policy.Problems
	switch {
	case errors.As(err, &wrong):
		r.bad(Problem, "`ebb policy check` tells all of them; a service that runs goes on with what it read before, and one that starts ends", "%s has errors: %v.", name, wrong)
	case errors.Is(err, fs.ErrPermission):
		r.ok("This user may not read %s.", name)
	case err != nil:
		r.bad(Problem, "", "The configuration cannot be read: %v.", err)
	default:
		for _, n := range p.Notices {
			r.bad(Warning, "", "%s: %s.", name, n)
		}
		if len(p.Notices) == 0 {
			r.ok("%s is fine.", name)
		}
	}
}

// oldest is before this program was made.
var oldest = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clock looks at the time, by which certificates and schedules go.
func clock(r *report, now time.Time) {
	if now.Before(oldest) {
		r.bad(Problem, "set the clock, or have it set: `timedatectl set-ntp true`", "The clock says %s, at which certificates of servers are not valid yet.", now.Format(time.DateTime))
		return
	}
	if synchronised() {
		r.ok("The clock is kept right.")
		return
	}
	r.bad(Warning, "`timedatectl set-ntp true` has it kept right; schedules and certificates go by it", "Nothing keeps the clock right.")
}

// proxies looks at what the environment says of proxies.
func proxies(_ context.Context, r *report) {
	n := 0
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		v := os.Getenv(name)
		if v == "" {
			continue
		}
		n++
		text := v
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Hostname() == "":
			r.bad(Problem, "correct or unset it, for the service too", "%s is no address of a proxy.", name) // which may hold a password
		case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" && u.Scheme != "socks5h":
			r.bad(Problem, "give one with http, https or socks5", "%s names a proxy that is spoken to by %s, which ebb does not speak.", name, u.Scheme)
		default:
			r.ok("%s names the proxy %s.", name, u.Host)
		}
	}
	if n == 0 {
		r.ok("The environment names no proxy.")
	}
}

// certificates looks for the authorities that servers are trusted by.
func certificates(_ context.Context, r *report) {
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		b, err := os.ReadFile(file)
		switch {
		case err != nil:
			r.bad(Problem, "correct or unset SSL_CERT_FILE", "The certificates that SSL_CERT_FILE names cannot be read: %v.", err)
			return
		case !x509.NewCertPool().AppendCertsFromPEM(b):
			r.bad(Problem, "correct or unset SSL_CERT_FILE", "%s, which SSL_CERT_FILE names, holds no certificate.", file)
			return
		}
	}
	pool, err := x509.SystemCertPool()
	if err != nil || pool.Equal(x509.NewCertPool()) {
		r.bad(Problem, "install the package ca-certificates", "This machine trusts no authority, so no https server.")
		return
	}
	r.ok("There are authorities by which https servers are trusted.")
}
