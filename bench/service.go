package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

const (
	// settle is how long the service may work on after a client has its answer; that work is part
	// of the price.
	settle = 200 * time.Millisecond
	// startLimit is how long a service may take until it answers, with much else to do.
	startLimit = 60 * time.Second
)

// service is an Ebb service of this lab, with a store on the measured disk.
type service struct {
	*client.Manager
	*process.Process // nil before the first start
	l                *lab
	socket           string
	state            string
	log              string
	args             []string // more arguments
}

// newService makes a service that has not been started.
func (l *lab) newService(name string) (*service, error) {
	state, err := l.mkdir(name + "-state")
	if err != nil {
		return nil, err
	}
	s := &service{l: l, state: state, socket: filepath.Join(l.temp, name+".sock"), log: filepath.Join(l.temp, name+".log")}
	s.Manager = client.New(s.socket)
	l.onClose(func() {
		if s.Process != nil {
			s.Kill()
		}
		s.Close()
	})
	return s, nil
}

// startService makes a service and starts it.
func (l *lab) startService(ctx context.Context, name string) (*service, error) {
	s, err := l.newService(name)
	if err != nil {
		return nil, err
	}
	_, err = s.start(ctx)
	return s, err
}

// launch starts the process and does not wait for anything.
func (s *service) launch() (err error) {
	s.Process, err = process.Spawn(s.log, []string{"SSL_CERT_FILE=" + s.l.ca, "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent/bus"}, "/",
		append([]string{s.l.ebb, "--socket", s.socket, "daemon", "--state", s.state}, s.args...)...)
	return err
}

// start starts the service and returns how long it took until it answered for the first time, with
// a page of its list.
func (s *service) start(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if err := s.launch(); err != nil {
		return 0, err
	}
	err := s.ready(ctx)
	return time.Since(began), err
}

// ready returns when the service answers.
func (s *service) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		_, err := s.list(ctx, client.ListOptions{Limit: 100})
		if err == nil {
			return nil
		}
		if !s.Running() {
			return fmt.Errorf("the service ended; it said: %s", s.said())
		}
		if !errors.Is(err, client.ErrNoService) {
			return err
		}
		if err := process.Sleep(ctx, 500*time.Microsecond); err != nil {
			return fmt.Errorf("the service does not answer: %w", err)
		}
	}
}

// said returns the end of the service's log.
func (s *service) said() string {
	b, _ := os.ReadFile(s.log)
	return string(b[max(0, len(b)-2000):])
}

// list reads a listing as it comes and returns the number of jobs: each is a line.
func (s *service) list(ctx context.Context, o client.ListOptions) (int, error) {
	body, err := s.ListJSON(ctx, o)
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }()
	lines, buf := 0, make([]byte, 256<<10)
	for {
		n, err := body.Read(buf)
		for _, c := range buf[:n] {
			if c == '\n' {
				lines++
			}
		}
		if err == io.EOF {
			return lines - 1, nil // the bracket at the end has a line, too
		}
		if err != nil {
			return 0, err
		}
	}
}

// get runs `ebb get` and returns what it and the service used.
func (s *service) get(ctx context.Context, args ...string) (usage, error) {
	before, err := s.CPU()
	if err != nil {
		return usage{}, err
	}
	u, err := command(ctx, append([]string{s.l.ebb, "--socket", s.socket, "--quiet", "get"}, args...)...)
	if err != nil {
		return u, err
	}
	if err := process.Sleep(ctx, settle); err != nil {
		return u, err
	}
	after, err := s.CPU()
	u.cpu += after - before
	return u, err
}

// foreground is a job that runs at once and puts its files in their places by itself.
func foreground(name string, files ...bits.FileSpec) bits.NewJob {
	priority, yes := bits.Foreground, true
	return bits.NewJob{Settings: bits.Settings{Name: &name, Priority: &priority, AutoComplete: &yes}, Files: files, Resume: true}
}

// finish returns when the job has ended well, and with an error when it cannot.
func (s *service) finish(ctx context.Context, id bits.ID) error {
	info, err := s.Job(id).Wait(ctx)
	if err != nil {
		return err
	}
	if info.State != bits.Acknowledged {
		why := ""
		if info.Error != nil {
			why = ": " + info.Error.Message
		}
		return fmt.Errorf("the job ended in %s%s", info.State, why)
	}
	return nil
}

// answers reports whether somebody listens on the socket.
func answers(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}
