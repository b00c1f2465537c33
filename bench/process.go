package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
)

// usage is what some work cost.
type usage struct {
	wall time.Duration
	cpu  time.Duration // user and system, of the contender's processes
}

func (u usage) plus(v usage) usage { return usage{u.wall + v.wall, u.cpu + v.cpu} }

// usages are those of the runs of one contender.
type usages []usage

func (u usages) wall() figures { return u.seconds(func(u usage) time.Duration { return u.wall }) }
func (u usages) cpu() figures  { return u.seconds(func(u usage) time.Duration { return u.cpu }) }

func (u usages) seconds(of func(usage) time.Duration) figures {
	var f figures
	for _, one := range u {
		f = append(f, of(one).Seconds())
	}
	return f
}

// command runs a program to its end and returns what it used, its start included.
func command(ctx context.Context, argv ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = process.Environment()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	err := cmd.Run()
	u := usage{wall: time.Since(began)}
	if s := cmd.ProcessState; s != nil {
		u.cpu = s.UserTime() + s.SystemTime()
	}
	if ctx.Err() != nil {
		return u, ctx.Err()
	}
	if err != nil {
		return u, fmt.Errorf("%s: %w; it said: %.500s", strings.Join(argv, " "), err, said.String())
	}
	return u, nil
}

// procFields reads a file of /proc whose lines are "name: number", or "name: number kB", which it
// turns into bytes. Other lines are left out.
func procFields(path string) (map[string]int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return parseFields(f)
}

func parseFields(r io.Reader) (map[string]int64, error) {
	fields := map[string]int64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		words := strings.Fields(value)
		if len(words) == 0 || len(words) > 2 {
			continue
		}
		n, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			continue
		}
		if len(words) == 2 {
			if words[1] != "kB" {
				continue
			}
			n *= 1024
		}
		fields[name] = n
	}
	return fields, lines.Err()
}

// memoryUse returns the resident memory of a process now, and its peak since resetPeak.
func memoryUse(pid int) (now, peak int64, err error) {
	f, err := procFields(fmt.Sprintf("/proc/%d/status", pid))
	return f["VmRSS"], f["VmHWM"], err
}

// resetPeak sets the peak of a process's resident memory to what it has now.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// wakeups returns how often the threads of a process went to sleep of their own accord, which is
// how often they woke up.
func wakeups(pid int) (int64, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, t := range threads {
		f, err := procFields(t)
		if err != nil {
			return 0, err
		}
		sum += f["voluntary_ctxt_switches"]
	}
	return sum, nil
}
