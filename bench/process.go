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
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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

// environment is that of all contenders: no proxy, no configuration of the user's.
func environment(more ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			env = append(env, v)
		}
	}
	return append(env, more...)
}

// command runs a program to its end and returns what it used, its start included.
func command(ctx context.Context, argv ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = environment()
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

// process is a program in the background. It does not outlive this one.
type process struct {
	cmd   *exec.Cmd
	pid   int
	ended chan struct{}
}

// spawn starts a program in the background; what it says goes to the end of the file log.
func spawn(log string, env []string, dir string, argv ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = environment(env...), dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The parent of Pdeathsig is a thread; the runtime must not end it before the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is for those to say who wait for it
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// kill ends the process as kill -9 does, and returns when it is gone. It may be called again.
func (p *process) kill() {
	_ = cmdKill(p.cmd, syscall.SIGKILL)
	<-p.ended
}

// terminate asks the process to end and returns how long that took.
func (p *process) terminate(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if err := cmdKill(p.cmd, syscall.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-p.ended:
		return time.Since(began), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func cmdKill(cmd *exec.Cmd, sig os.Signal) error { return cmd.Process.Signal(sig) }

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// cpu returns the processor time of the process so far.
func (p *process) cpu() (time.Duration, error) { return cpuTime(p.pid) }

// cpuTime returns the processor time of a process with all its threads, those that ended included,
// to the nanosecond. /proc/PID/stat has the same in ticks of 10 ms, and schedstat lacks the threads
// that ended.
func cpuTime(pid int) (time.Duration, error) {
	// clock_getcpuclockid(3): the complement of the pid, and 2 for the scheduler's clock.
	clock := int32(^pid<<3 | 2)
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
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

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
