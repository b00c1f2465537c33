package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// lab is where runs are made.
type lab struct {
	dir       string // for downloads and states
	self, ebb string // programs
	ca        string // file with the CA of the servers
	logs      string // directory where the logs of services are kept, if they are
	bed       *bed

	closers []func()
}

// newLab makes a lab with a bed whose servers serve files of size bytes; with cable there is no
// emulated link.
func newLab(ctx context.Context, o options, cable bool, size int64) (_ *lab, err error) {
	l := &lab{ebb: o.ebb, logs: o.logs}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for _, old := range leftBehind(cmp.Or(o.dir, os.TempDir())) {
		_ = os.RemoveAll(old)
	}
	if l.dir, err = os.MkdirTemp(o.dir, fmt.Sprintf("%s-%d-", prefix, os.Getpid())); err != nil {
		return nil, err
	}
	l.closers = append(l.closers, func() { _ = os.RemoveAll(l.dir) })
	if l.dir, err = filepath.Abs(l.dir); err != nil {
		return nil, err
	}
	if l.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if l.ebb == "" {
		l.ebb = filepath.Join(l.dir, "ebb")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", l.ebb, "github.com/ebbtransfer/ebb/cmd/ebb").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build ebb: %w: %s", err, out)
		}
	}
	if l.ebb, err = filepath.Abs(l.ebb); err != nil {
		return nil, err
	}
	if l.logs != "" {
		if err := os.MkdirAll(l.logs, 0o755); err != nil {
			return nil, err
		}
	}
	if l.ca, err = faultserver.CAFile(l.dir); err != nil {
		return nil, err
	}
	cert, key, err := faultserver.WriteCertificate(l.dir, faultserver.Valid, net.ParseIP(addresses[cubic]), net.ParseIP(addresses[bbr]))
	if err != nil {
		return nil, err
	}
	if l.bed, err = newBed(ctx, cable, o.sysctls); err != nil {
		return nil, err
	}
	l.closers = append(l.closers, l.bed.close)
	for _, server := range []string{cubic, bbr} {
		log := filepath.Join(l.dir, server+".log")
		p, err := l.spawn(server, log, l.self, "serve", "--congestion", server, "--size", strconv.FormatInt(size, 10), "--cert", cert, "--key", key)
		if err != nil {
			return nil, err
		}
		l.closers = append(l.closers, p.Kill)
		if err := l.answers(ctx, server, p, log); err != nil {
			return nil, err
		}
	}
	if o.proto == protoBITS {
		if err := os.Mkdir(filepath.Join(l.dir, "uploads"), 0o755); err != nil {
			return nil, err
		}
		p, err := l.spawn(o.server, filepath.Join(l.dir, "bits.log"), l.ebb, "--socket", filepath.Join(l.dir, "bits.sock"), "serve",
			"--listen", fmt.Sprintf(":%d", bitsPort), "--root", filepath.Join(l.dir, "uploads"), "--uploads", "--state", filepath.Join(l.dir, "bits-state"))
		if err != nil {
			return nil, err
		}
		l.closers = append(l.closers, p.Kill) // it is up long before the links are checked
	}
	if err := hurry(); err != nil {
		fmt.Fprintln(os.Stderr, "politeness: the link runs without real-time priority and may be late:", err)
	}
	return l, nil
}

// queueUp returns when no other laboratory measures on this machine, and keeps others waiting until
// this process ends.
func queueUp(ctx context.Context) error {
	const name = "/run/lock/" + prefix
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600) // for as long as the process lives
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	for first := true; ; first = false {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return os.NewSyscallError("flock "+name, err)
		}
		if first {
			fmt.Fprintln(os.Stderr, "politeness: waiting for another laboratory on this machine")
		}
		if err := process.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

// answers returns when a server does, asked from beside it.
func (l *lab) answers(ctx context.Context, server string, p *process.Process, log string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
		err = within(server, func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return c, err
	}}}
	for {
		resp, err := client.Get(fmt.Sprintf("http://%s:%d/bytes/1", addresses[server], foregroundPort))
		if err == nil {
			return resp.Body.Close()
		}
		if !p.Running() || process.Sleep(ctx, 20*ms) != nil {
			said, _ := os.ReadFile(log)
			return fmt.Errorf("the %s server does not answer: %w; it said: %s", server, err, said)
		}
	}
}

// close removes all that the lab made.
func (l *lab) close() {
	for _, f := range slices.Backward(l.closers) {
		f()
	}
}

// hurry has all threads of this process run at once when they can. The runtime moves work from one
// to another, so it must be all of them; programs get an ordinary priority back (see ordinary).
func hurry() error {
	runtime.GOMAXPROCS(runtime.NumCPU() + 1) // the link has one for itself
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(filepath.Base(t))
		if err != nil {
			return err
		}
		err = unix.SchedSetAttr(tid, &unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 1}, 0)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return os.NewSyscallError("sched_setattr", err)
		}
	}
	return nil
}

// ordinary runs a program without real-time priority, but before the rest of the machine's.
var ordinary = []string{"chrt", "--other", "0", "nice", "-n", "-20"}

// spawn starts a program in a part of the bed.
func (l *lab) spawn(part, log string, argv ...string) (*process.Process, error) {
	return process.Spawn(log, []string{"SSL_CERT_FILE=" + l.ca}, "/", slices.Concat(ordinary, []string{"ip", "netns", "exec", namespace(part)}, argv)...)
}
