package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/test/servers"
)

// receiver is a server that takes uploads into a directory.
type receiver struct {
	url string // of the directory, with a slash at the end
	dir string
	// cpu is the processor time of all its processes so far.
	cpu func() (time.Duration, error)
}

// ebbServer is an `ebb serve --uploads` of this lab.
type ebbServer struct {
	*process.Process // nil before the first start
	receiver
	l       *lab
	address string
	log     string
	state   string
}

// newEbbServer makes a server that has not been started, on a directory on the measured disk.
func (l *lab) newEbbServer(name string) (*ebbServer, error) {
	dir, err := l.mkdir(name)
	if err != nil {
		return nil, err
	}
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := port.Addr().String()
	if err := port.Close(); err != nil {
		return nil, err
	}
	s := &ebbServer{l: l, address: address, log: filepath.Join(l.temp, name+".log"), state: l.path(name + "-state")}
	s.receiver = receiver{"http://" + address + "/", dir, func() (time.Duration, error) { return s.CPU() }}
	l.onClose(func() {
		if s.Process != nil {
			s.Kill()
		}
	})
	return s, nil
}

// launch starts the process and does not wait for anything.
func (s *ebbServer) launch() (err error) {
	s.Process, err = process.Spawn(s.log, nil, "/", s.l.ebb, "--socket", filepath.Join(s.l.temp, filepath.Base(s.dir)+"-serve.sock"),
		"serve", "--listen", s.address, "--root", s.dir, "--uploads", "--state", s.state)
	return err
}

// start starts the server and returns when it takes connections.
func (s *ebbServer) start(ctx context.Context) error {
	if err := s.launch(); err != nil {
		return err
	}
	return s.ready(ctx)
}

func (s *ebbServer) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		c, err := net.Dial("tcp", s.address)
		if err == nil {
			return c.Close()
		}
		if !s.Running() {
			return fmt.Errorf("ebb serve ended; it said: %s", s.said())
		}
		if err := process.Sleep(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("ebb serve does not answer: %w", err)
		}
	}
}

// said returns the end of the server's log.
func (s *ebbServer) said() string {
	b, _ := os.ReadFile(s.log)
	return string(b[max(0, len(b)-2000):])
}

// startEbbServer makes a server and starts it.
func (l *lab) startEbbServer(ctx context.Context, name string) (*ebbServer, error) {
	s, err := l.newEbbServer(name)
	if err != nil {
		return nil, err
	}
	return s, s.start(ctx)
}

// receives makes a receiver of a server on a directory of the lab.
func (l *lab) receives(name string, start func(dir string) (*servers.Server, error)) (receiver, error) {
	dir, err := l.mkdir(name)
	if err != nil {
		return receiver{}, err
	}
	s, err := start(dir)
	if err != nil {
		return receiver{}, err
	}
	l.onClose(s.Close)
	return receiver{s.URL + "/", dir, func() (time.Duration, error) {
		pids, err := s.Processes()
		var sum time.Duration
		for _, pid := range pids {
			t, cerr := process.CPUTime(pid)
			if cerr != nil {
				return 0, cerr
			}
			sum += t
		}
		return sum, err
	}}, nil
}

// serverUsage measures what some work costs the server, besides the time that it takes.
func (r receiver) serverUsage(ctx context.Context, work func(context.Context) error) (usage, error) {
	before, err := r.cpu()
	if err != nil {
		return usage{}, err
	}
	began := time.Now()
	if err := work(ctx); err != nil {
		return usage{}, err
	}
	u := usage{wall: time.Since(began)}
	if err := process.Sleep(ctx, settle); err != nil {
		return u, err
	}
	after, err := r.cpu()
	u.cpu = after - before
	return u, err
}
