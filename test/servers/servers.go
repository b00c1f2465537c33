// Package servers starts real servers of the system's packages for a test or a benchmark: nginx,
// Apache, Caddy and Python's http.server, Squid as a proxy, and a Kerberos KDC, each with a configuration of its own, on a port of
// its own on 127.0.0.1, serving one directory. They run as the caller, or with its rights to read
// if they refuse to run as root, so any directory that the caller can read can be served.
//
// The caller must Close a Server. Should it be killed before that, the kernel ends the server.
package servers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ebbtransfer/ebb/test/faultserver"
	"github.com/ebbtransfer/ebb/test/internal/loopback"
)

// Options are what a server is asked for. A server that lacks one returns an error.
type Options struct {
	// TLS serves https with a certificate of faultserver.CAFile's CA.
	TLS bool
	// HTTP2 speaks HTTP/2 besides HTTP/1.1; it needs TLS.
	HTTP2 bool
	// ClientCA is the name of a PEM file of the authority whose certificates clients must show. Only
	// nginx has it; it needs TLS.
	ClientCA string
	// RateLimit is in bytes a second and answer, 0 for none. Apache rounds it up to a KiB.
	RateLimit int64
	// AccessLog writes the log that Server.Requests reads.
	AccessLog bool
	// Uploads takes PUT and DELETE, as WebDAV; of BodyLimit bytes at most, 0 for no limit. Only nginx
	// and Apache have it.
	Uploads   bool
	BodyLimit int64
	// Proxy is the URL of a server, without a path, that everything is passed on to, as it is by default:
	// by nginx by HTTP/1.0, and with bodies of no more than 1 MiB. Only nginx and Apache have it.
	Proxy string
	// ProxyStreams lets nginx pass requests on by HTTP/1.1, of any size and while they come.
	ProxyStreams bool
	// Forward makes Apache a proxy to everywhere, as Squid is.
	Forward bool
	// Asks makes it ask who its clients are; nil for no questions. nginx, Apache and Squid do.
	Asks *Asks
	// Name is what only Squid knows this machine by; empty for nothing.
	Name string
}

// startTimeout is how long a server may take until it accepts connections, and stopTimeout until
// it ends after SIGTERM. Both take milliseconds; the rest is for machines with much else to do.
const (
	startTimeout = 20 * time.Second
	stopTimeout  = 5 * time.Second
)

// Server is a web server that serves a directory.
type Server struct {
	// URL is its address, without a slash at the end.
	URL string
	// AccessLog is the name of its log, or empty.
	AccessLog string

	kind  kind
	port  *loopback.Port
	state string // the directory of its configuration and logs
	// bodies is where nginx keeps uploads until they are whole. It is beside the directory that is served, so
	// that they are on the same disk and need only be renamed.
	bodies string
	argv   []string
	env    []string  // besides that of the caller
	cmd    *exec.Cmd // nil while stopped
	ended  chan struct{}
}

// kind is what differs between the servers.
type kind struct {
	name    string // of the server, for errors
	program string
	pkg     string                 // the Debian package
	locate  func() (string, error) // finds the program if it is of no package
	// prepare writes the configuration into c.state and returns the arguments.
	prepare func(c config) ([]string, error)
	// parse reads one line of the access log.
	parse func(line string) (Request, error)
	// log is the name of the access log in c.state.
	log string
	// refusesRoot says that the program does not serve as root.
	refusesRoot bool
	lacks       func(Options) string
}

// config is what a configuration is made of.
type config struct {
	Options
	dir, state    string // absolute
	bodies        string // with Uploads
	port          int
	cert, key     string // with TLS
	root          bool   // the caller is root
	log, errorLog string
}

var kinds = []kind{nginx, apache, caddy, python}

// Missing returns the Debian packages of those servers that are not installed.
func Missing() []string {
	var missing []string
	for _, k := range kinds {
		if _, err := k.find(); err != nil {
			missing = append(missing, k.pkg)
		}
	}
	return missing
}

// Nginx starts nginx on dir.
func Nginx(dir string, o Options) (*Server, error) { return start(nginx, dir, o) }

// Apache starts Apache on dir.
func Apache(dir string, o Options) (*Server, error) { return start(apache, dir, o) }

// Caddy starts Caddy on dir. It has no rate limit.
func Caddy(dir string, o Options) (*Server, error) { return start(caddy, dir, o) }

// Python starts Python's http.server on dir. It has neither TLS nor a rate limit, speaks HTTP/1.0
// and does not honour ranges.
func Python(dir string, o Options) (*Server, error) { return start(python, dir, o) }

// find returns the program's path. Servers live in sbin, which is not in everybody's PATH.
func (k kind) find() (string, error) {
	if k.locate != nil {
		return k.locate()
	}
	for _, name := range []string{k.program, "/usr/sbin/" + k.program, "/usr/bin/" + k.program} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", notInstalled(k.name, "apt-get install "+k.pkg)
}

// ErrNotInstalled says that a server is not here; the error with it says how to get it.
var ErrNotInstalled = errors.New("is not installed")

func notInstalled(name, how string) error { return fmt.Errorf("%s %w: %s", name, ErrNotInstalled, how) }

func start(k kind, dir string, o Options) (*Server, error) {
	s, err := build(k, dir, o)
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", k.name, dir, err)
	}
	if err := s.Restart(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// build makes a server that has not been started.
func build(k kind, dir string, o Options) (_ *Server, err error) {
	program, err := k.find()
	if err != nil {
		return nil, err
	}
	if what := k.lacks(o); what != "" {
		return nil, fmt.Errorf("%s has no %s", k.name, what)
	}
	if o.HTTP2 && !o.TLS {
		return nil, errors.New("HTTP/2 needs TLS")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	// Each configuration has its own rules of quoting; none needs any for other characters.
	if strings.ContainsAny(dir, "\"'\\${}\n\r\t") {
		return nil, errors.New("the directory's name has characters that stand for others in configurations")
	}
	s := &Server{kind: k}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.port, err = loopback.Reserve(0); err != nil {
		return nil, err
	}
	if s.state, err = os.MkdirTemp("", "ebb-"+k.program+"-"); err != nil {
		return nil, err
	}
	c := config{
		Options: o, dir: dir, state: s.state, port: s.port.Number, root: os.Geteuid() == 0,
		log: filepath.Join(s.state, k.log), errorLog: filepath.Join(s.state, "error.log"),
	}
	if o.Uploads {
		s.bodies = filepath.Join(filepath.Dir(dir), "."+filepath.Base(s.state)+"-bodies")
		c.bodies = s.bodies
	}
	scheme := "http"
	if o.TLS {
		scheme = "https"
		if c.cert, c.key, err = faultserver.WriteCertificate(s.state, faultserver.Valid); err != nil {
			return nil, err
		}
	}
	s.URL = scheme + "://" + s.address()
	if o.AccessLog {
		s.AccessLog = c.log
	}
	if err := c.writeAuth(); err != nil {
		return nil, err
	}
	s.env = c.env()
	args, err := k.prepare(c)
	if err != nil {
		return nil, err
	}
	s.argv = append([]string{program}, args...)
	return s, nil
}

func (s *Server) address() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port.Number))
}

// Restart stops the server if it runs and starts it on the same port; it returns when connections
// are accepted.
func (s *Server) Restart() error {
	s.Stop()
	if err := s.run(); err != nil {
		return fmt.Errorf("start %s: %w", s.kind.name, err)
	}
	err := s.ready()
	if err != nil {
		s.Stop()
		said, _ := os.ReadFile(filepath.Join(s.state, "error.log"))
		return fmt.Errorf("start %s: %w; it said: %s", s.kind.name, err, strings.TrimSpace(string(said)))
	}
	return nil
}

// run starts the process.
func (s *Server) run() error {
	output, err := os.OpenFile(filepath.Join(s.state, "error.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = output.Close() }()
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Dir = "/" // which also nobody may enter; configurations name all else in full
	cmd.Env = append(os.Environ(), "HOME="+s.state, "XDG_DATA_HOME="+s.state, "XDG_CONFIG_HOME="+s.state)
	cmd.Env = append(cmd.Env, s.env...)
	cmd.Stdout, cmd.Stderr = output, output
	// A group of its own, so that Stop finds its workers, too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if s.kind.refusesRoot && os.Geteuid() == 0 {
		// As nobody, but with root's right to read any file: test directories are private.
		const nobody, capDACOverride = 65534, 1
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		cmd.SysProcAttr.AmbientCaps = []uintptr{capDACOverride}
	}
	started := make(chan error)
	ended := make(chan struct{})
	go func() {
		// The parent of Pdeathsig is a thread; the runtime must not end it while the server runs.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended does not matter: ready and Stop look at the port and the group
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	s.cmd, s.ended = cmd, ended
	return nil
}

// ready waits until the server accepts connections.
func (s *Server) ready() error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(startTimeout)
	for {
		c, err := net.Dial("tcp", s.address())
		if err == nil {
			return c.Close()
		}
		select {
		case <-tick.C:
		case <-s.ended:
			return errors.New("it ended at once")
		case <-deadline:
			return fmt.Errorf("no connection after %v: %w", startTimeout, err)
		}
	}
}

// Stop ends the server and all its processes, with the connections they have. Its logs stay until
// Close, and its port is kept: clients are refused until Restart.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	group := -s.cmd.Process.Pid
	// The group outlives its leader as long as a worker is in it, and only then does its number
	// still mean it.
	if !s.wait(group, syscall.SIGTERM) {
		s.wait(group, syscall.SIGKILL)
	}
	<-s.ended
	s.cmd = nil
}

// wait sends a signal to the group and reports whether it is gone in time.
func (s *Server) wait(group int, signal syscall.Signal) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(stopTimeout)
	for err := syscall.Kill(group, signal); err == nil; err = syscall.Kill(group, 0) {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// Close stops the server, removes its configuration and logs and gives its port back.
func (s *Server) Close() {
	s.Stop()
	if s.state != "" {
		_ = os.RemoveAll(s.state)
	}
	if s.bodies != "" {
		_ = os.RemoveAll(s.bodies)
	}
	if s.port != nil {
		s.port.Close()
	}
}

// Processes returns the ids of the server's processes, whose processor time a benchmark adds up.
func (s *Server) Processes() ([]int, error) {
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range all {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid pgrp ...; the name may have anything in it.
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 2 && fields[2] == strconv.Itoa(s.cmd.Process.Pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
