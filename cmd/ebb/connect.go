package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

const (
	// idleExit is after how long without work a service ends that ebb started by itself.
	idleExit = "10m"
	// startLimit is how long such a service may take until it answers.
	startLimit = 10 * time.Second
	// mostLog is the size from which on a service's log is set aside at the next start.
	mostLog = 1 << 20
	// startTries is how often in a row it may fail to start while a verb waits.
	startTries = 3
)

// service is the service that this call talks to, and what to do when it does not answer.
type service struct {
	*client.Manager
	a *app
	// mine tells that it is the user's own and on its usual socket, so that ebb starts it.
	mine bool

	mu       sync.Mutex // guards what follows, and lets one goroutine at a time start the service
	waiting  bool       // a verb waits for news: the service may go away and come back
	told     bool       // that it is away
	failures int
	giveUp   context.CancelCauseFunc
}

// connect returns the service. Nothing is sent yet. A socket that was named must have a
// service; otherwise ebb starts the user's own where neither it nor the system's answers.
func (a *app) connect() *service {
	s := &service{a: a, Manager: client.New(a.socket)}
	s.mine = a.socket == "" && os.Getenv("EBB_SOCKET") == "" && s.Socket() != "" && s.Socket() == client.UserSocket()
	if a.dryRun {
		s.Manager = s.DryRun()
	}
	s.OnAway(s.away)
	if a.admin {
		s.Administer()
	}
	return s
}

// wait says that from now on a service that goes away is started again or, where that is not
// for ebb to do, waited for. The context ends when the service does not start any more.
func (s *service) wait(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	s.mu.Lock()
	s.waiting, s.giveUp = true, cancel
	s.mu.Unlock()
	return ctx
}

// away is called when the service does not answer.
func (s *service) away(ctx context.Context, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mine {
		if s.waiting && !s.told {
			s.told = true
			s.a.note("the service is away; waiting for it")
		}
		return err
	}
	if answers(s.Socket()) { // another goroutine or another ebb was faster
		return nil
	}
	if err = start(ctx, s.Socket()); err == nil {
		s.failures = 0
		return nil
	}
	if s.failures++; s.waiting && s.failures >= startTries {
		s.giveUp(err)
	}
	return err
}

func answers(socket string) bool {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// start starts the user's own service in the background and returns when it answers. When
// several ebb start one at the same time, the store's lock lets one of them live; the others
// end with exitState, and everyone connects to the one. A service that stops holds the lock
// but answers no more: for its sake the start is tried again.
func start(ctx context.Context, socket string) error {
	if client.UserState() == "" {
		return &exitError{code: exitNoService, err: fmt.Errorf("%w, and there is no place for one: %w", client.ErrNoService, client.ErrNoHome), hint: noHomeHint}
	}
	state := client.UserState()
	logPath := filepath.Join(state, "daemon.log")
	failed := func(format string, args ...any) error {
		err := fmt.Errorf("%w, and starting one failed: %w", client.ErrNoService, fmt.Errorf(format, args...))
		return &exitError{code: exitNoService, err: err, hint: "`ebb daemon --state DIR --socket PATH` shows why; its log is " + logPath}
	}
	self, err := os.Executable()
	if err != nil {
		return failed("find this program: %w", err)
	}
	for _, dir := range []string{state, filepath.Dir(socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return failed("%w", err)
		}
	}
	if info, err := os.Stat(logPath); err == nil && info.Size() > mostLog {
		if err := os.Rename(logPath, logPath+".1"); err != nil {
			return failed("%w", err)
		}
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return failed("%w", err)
	}
	defer func() { _ = log.Close() }()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return failed("%w", err)
	}

	ended := make(chan error, 1)
	launch := func() error {
		daemon := exec.Command(self, "daemon", "--state", state, "--socket", socket, "--idle-exit", idleExit)
		daemon.Dir = "/" // so that it keeps no file system busy
		daemon.Env = daemonEnv(os.Environ())
		daemon.Stdout, daemon.Stderr = log, log
		detach(daemon)
		if err := daemon.Start(); err != nil {
			return failed("%w", err)
		}
		go func() { ended <- daemon.Wait() }() // until the service ends, or this program does
		return nil
	}
	if err := launch(); err != nil {
		return err
	}
	pause := 50 * time.Millisecond
	var again <-chan time.Time

	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
			if answers(socket) {
				return nil
			}
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() == exitState {
				again = time.After(pause) // another one holds the lock; it will answer soon, or go
				pause = min(2*pause, time.Second)
				continue
			}
			if answers(socket) {
				return nil
			}
			return failed("%s", lastLine(log, from, "it ended at once"))
		case <-again:
			if err := launch(); err != nil {
				return err
			}
		case <-limit.C:
			return failed("%s", lastLine(log, from, fmt.Sprintf("it did not answer within %v", startLimit)))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// daemonEnv leaves out what belongs to this call and to whoever started it.
func daemonEnv(env []string) []string {
	var keep []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "EBB_SOCKET", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES":
		default:
			keep = append(keep, e)
		}
	}
	return keep
}

// lastLine returns the last line that the log got since from, or else.
func lastLine(log *os.File, from int64, otherwise string) string {
	b, err := io.ReadAll(io.NewSectionReader(log, from, 1<<20))
	if err != nil {
		return otherwise
	}
	b = bytes.TrimSpace(b)
	if line := b[bytes.LastIndexByte(b, '\n')+1:]; len(line) > 0 {
		return string(line)
	}
	return otherwise
}

const noHomeHint = "set HOME or XDG_STATE_HOME, or name a service's socket with --socket"

// noServiceHint is what to do when no service answers.
func noServiceHint(err error) string {
	if errors.Is(err, client.ErrNoHome) {
		return noHomeHint
	}
	if errors.Is(err, os.ErrPermission) {
		return "this user may not use the socket; leave out --socket and EBB_SOCKET to use a service of your own"
	}
	return "start it with `ebb daemon --state DIR --socket PATH`, or leave out --socket and EBB_SOCKET to have one started"
}

// persist makes a call that is safe to repeat until the service answers.
func persist(ctx context.Context, call func() error) error {
	const pause = 200 * time.Millisecond
	for {
		err := call()
		var answer *bits.Error
		if err == nil || errors.As(err, &answer) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// notices prints what the service wants people to know, such as that a damaged store was set
// aside. That it cannot be asked is not this call's trouble.
func (s *service) notices(ctx context.Context) {
	if s.a.quiet {
		return
	}
	if info, err := s.Service(ctx); err == nil {
		for _, n := range info.Notices {
			s.a.note("%s", n)
		}
	}
}
