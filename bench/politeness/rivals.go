package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
)

// Rivals, the subjects included.
const (
	nobody   = ""
	ebbRival = "ebb"
	// ebbForeground is ebb without --background.
	ebbForeground = "ebb-foreground"
	curl          = "curl"
	aria2         = "aria2c" // with five connections
	wget          = "wget"
	counters      = "counters" // follows the counters of this machine's interface, as BITS documents of itself
)

var rivals = []string{ebbRival, ebbForeground, curl, aria2, wget, counters}

// protoBITS has ebb upload by BITS to ebb serve.
const protoBITS = "bits"

// rival is a transfer in the background that runs.
type rival struct {
	*process.Process // whose processor time counts
	stop             func()
}

// remote returns the URL of a background file.
func (s spec) remote(i int) string {
	scheme, port := "http", httpPort
	switch s.proto {
	case "https":
		scheme, port = "https", httpsPort
	case "h2":
		scheme, port = "https", h2Port
	case protoBITS:
		if s.rival != curl { // which sends to the sink by PUT
			return fmt.Sprintf("http://%s:%d/%d", addresses[s.server], bitsPort, i)
		}
	}
	path := "file"
	if s.upload {
		path = "sink"
	}
	return fmt.Sprintf("%s://%s:%d/%s/%d", scheme, addresses[s.server], port, path, i)
}

// prepare makes ready what takes time and no bandwidth, and returns a function that starts the
// transfer. Its files are in dir.
func (l *lab) prepare(ctx context.Context, s spec, dir string) (start func() (*rival, error), err error) {
	url := s.remote(1)
	var source string
	if s.upload {
		if source, err = l.source(s, dir); err != nil {
			return nil, err
		}
	}
	run := func(argv ...string) func() (*rival, error) {
		return func() (*rival, error) {
			p, err := l.spawn(machine, filepath.Join(dir, "log"), argv...)
			if err != nil {
				return nil, err
			}
			return &rival{p, p.Kill}, nil
		}
	}
	switch s.rival {
	case ebbRival, ebbForeground:
		return l.prepareEbb(ctx, s, dir, source)
	case curl:
		version := "--http1.1"
		if s.proto == "h2" {
			version = "--http2"
		}
		argv := []string{"curl", "-q", "-sS", "--cacert", l.ca, version, "--parallel", "--parallel-immediate"}
		for i := range s.connections {
			argv = append(argv, "-o", "/dev/null", s.remote(i+1))
			if s.upload {
				argv = append(argv, "-T", source)
			}
		}
		return run(argv...), nil
	case aria2:
		return run("aria2c", "--no-conf", "-q", "-x5", "-s5", "-k1M", "--file-allocation=none", "--ca-certificate="+l.ca, "-d", dir, "-o", "file", url), nil
	case wget:
		return run("wget", "--no-config", "-q", "--ca-certificate="+l.ca, "-O", "/dev/null", url), nil
	case counters:
		return run(l.self, "follow", url), nil
	}
	return nil, fmt.Errorf("no rival %q; there are %s", s.rival, strings.Join(rivals, ", "))
}

// prepareEbb starts a service that knows nothing yet.
func (l *lab) prepareEbb(ctx context.Context, s spec, dir, source string) (func() (*rival, error), error) {
	socket := filepath.Join(dir, "sock")
	log := filepath.Join(dir, "log")
	if l.logs != "" {
		log = filepath.Join(l.logs, s.String()+".log")
	}
	args := []string{l.ebb, "daemon", "--state", filepath.Join(dir, "state"), "--socket", socket}
	if l.logs != "" {
		args = append(args, "--verbose") // what the law does, ten times a second
	}
	daemon, err := l.spawn(machine, log, args...)
	if err != nil {
		return nil, err
	}
	ebb := func(args ...string) error {
		argv := slices.Concat(ordinary, []string{l.ebb, "--socket", socket}, args)
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ebb %s: %w: %s", args[0], err, out)
		}
		return nil
	}
	ready, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for ebb("list") != nil {
		if !daemon.Running() || process.Sleep(ready, 20*ms) != nil {
			daemon.Kill()
			said, _ := os.ReadFile(log)
			return nil, fmt.Errorf("the service does not answer; it said: %s", said)
		}
	}
	commands := [][]string{}
	if s.upload {
		for i := range s.connections {
			protocol := "put"
			if s.proto == protoBITS {
				protocol = "bits"
			}
			commands = append(commands, []string{"put", "--detach", "--protocol", protocol, source, s.remote(i + 1)})
		}
	} else {
		list := filepath.Join(dir, "list")
		var urls []string
		for i := range s.connections {
			urls = append(urls, s.remote(i+1))
		}
		if err := os.WriteFile(list, []byte(strings.Join(urls, "\n")), 0o600); err != nil {
			daemon.Kill()
			return nil, err
		}
		commands = append(commands, []string{"get", "--detach", "--connections", strconv.Itoa(s.connections), "-i", list, dir})
	}
	return func() (*rival, error) {
		for _, args := range commands {
			if s.rival == ebbRival {
				args = append(args, "--background")
			}
			if err := ebb(args...); err != nil {
				daemon.Kill()
				return nil, err
			}
		}
		return &rival{daemon, daemon.Kill}, nil
	}, nil
}

// source makes a file to upload, of holes, that no run finishes, and has it in memory, unless it is for a path without a rate:
// making pages for holes would count as the rivals' processor time.
func (l *lab) source(s spec, dir string) (string, error) {
	name := filepath.Join(dir, "source")
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	size := int64(cableFile)
	if s.link.rate > 0 {
		size = max(64<<20, s.link.rate/8*int64((lead+s.total())/time.Second+1)*5/4)
	}
	err = f.Truncate(size)
	if err == nil && s.link.rate > 0 {
		_, err = io.Copy(struct{ io.Writer }{io.Discard}, f)
	}
	return name, errors.Join(err, f.Close())
}
