// Package helper does as the owner of a job what the job's notifications ask for: it runs a
// program, posts a web hook, or shows a message on the owner's desktop.
//
// All three happen in a process of their own, which is ebb itself started again: it becomes the
// owner, for good and with nothing of the service's rights left, before it looks at anything that
// the owner has chosen. So a program has the owner's rights and no others, a web hook reaches what
// the owner's own programs reach and nothing more, whatever the machine's firewall says about users,
// and the owner's message bus sees its own user.
package helper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Verb is the argument with which ebb calls itself.
const Verb = "notify-helper"

// Task is what the helper does: one of Command, Hook and Desktop.
type Task struct {
	User    User     `json:"user"`
	Command *Command `json:"command,omitempty"`
	Hook    *Hook    `json:"hook,omitempty"`
	Desktop *Desktop `json:"desktop,omitempty"`

	signal *signal // to what an earlier task started
}

// signal is sent as the owner, too: a service that may become other users need not be one that may
// send signals to their programs.
type signal struct {
	Group  int `json:"group"`
	Number int `json:"number"`
}

// User is who the helper becomes. The zero value stays who it is.
type User struct {
	Switch bool     `json:"switch,omitempty"`
	UID    uint32   `json:"uid,omitempty"`
	GID    uint32   `json:"gid,omitempty"`
	Groups []uint32 `json:"groups,omitempty"` // supplementary ones
}

// Command is a program to run. It has nothing to read, and of what it writes the end is kept.
type Command struct {
	Args []string `json:"args"` // the first is the program's absolute path
	Env  []string `json:"env"`  // all of it
	Dir  string   `json:"dir"`  // "/" is used if it cannot be entered
}

// Hook is a web hook to post.
type Hook struct {
	URL     string            `json:"url"`
	Header  map[string]string `json:"header"`
	Body    string            `json:"body"`
	Timeout time.Duration     `json:"timeout"`
	Env     []string          `json:"env"` // of the service, as far as it tells how to reach servers
}

// Desktop is a message for the screen of the user.
type Desktop struct {
	Bus     string `json:"bus"` // address of the user's message bus
	Summary string `json:"summary"`
	Body    string `json:"body"`
	Icon    string `json:"icon"`
	Urgent  bool   `json:"urgent"`
}

// StartError says that the program did not even start.
type StartError struct{ Reason string }

func (e *StartError) Error() string { return e.Reason }

// ExitError says that the program ended otherwise than with exit code 0.
type ExitError struct {
	Code   int    // exit code, or 128 and the number of the signal
	How    string // "exit code 3", "signal: killed", "still running after 10m0s"
	Output string // the end of what it wrote; the user's affair, and nobody else's
}

func (e *ExitError) Error() string { return e.How }

const (
	// mostOutput is how much of a program's output is kept, in bytes.
	mostOutput = 1 << 10
	// grace is how long a program that has to end has for it.
	grace = time.Second
	// mostReport bounds what the helper says about itself.
	mostReport = 4 << 10
)

// Run carries out a task and returns when it has ended: nil when the program ended with exit code 0,
// the server took the hook, the desktop the message. Otherwise the error is a *StartError or an
// *ExitError, or that of ctx; all that the program had started in its process group is ended when
// ctx does.
func Run(ctx context.Context, t *Task) error {
	doc, err := json.Marshal(wire{t, t.signal})
	if err != nil {
		return &StartError{err.Error()}
	}
	self, err := executable()
	if err != nil {
		return &StartError{err.Error()}
	}
	// What the helper has to say comes through a pipe that closes when the owner's program takes
	// its place: silence means that the program was started.
	reports, report, err := os.Pipe()
	if err != nil {
		return &StartError{err.Error()}
	}
	defer reports.Close()
	var out tail
	cmd := exec.CommandContext(ctx, self, Verb)
	cmd.Args[0] = "ebb"
	cmd.Env = []string{} // nothing of the service's
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader(string(doc))
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.ExtraFiles = []*os.File{report}
	prepare(cmd, t.User)
	var kill *time.Timer
	cmd.Cancel = func() error {
		kill = time.AfterFunc(grace, func() { endGroup(t.User, cmd.Process.Pid, true) })
		endGroup(t.User, cmd.Process.Pid, false)
		return nil
	}
	cmd.WaitDelay = 2 * grace // also bounds the wait for output of what the program left behind
	err = cmd.Start()
	report.Close()
	if err != nil {
		return &StartError{err.Error()}
	}
	said := make(chan []byte, 1)
	go func() {
		text, _ := io.ReadAll(io.LimitReader(reports, mostReport))
		said <- text
	}()
	err = cmd.Wait()
	if ctx.Err() != nil {
		if kill != nil && kill.Stop() {
			endGroup(t.User, cmd.Process.Pid, true) // what it started and did not end
		}
		return context.Cause(ctx)
	}
	_ = reports.SetReadDeadline(time.Now().Add(grace))
	if text := <-said; len(text) > 0 {
		return &StartError{string(text)}
	}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // the latter: done, but what it left behind holds its output
		return nil
	case errors.As(err, &exit):
		e := &ExitError{Code: exit.ExitCode(), How: fmt.Sprintf("exit code %d", exit.ExitCode()), Output: out.String()}
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Code, e.How = 128+int(ws.Signal()), "ended by the signal "+ws.Signal().String()
		}
		return e
	default:
		return &StartError{err.Error()}
	}
}

// wire is a Task as it goes to the helper.
type wire struct {
	*Task
	Signal *signal `json:"signal,omitempty"`
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p[max(0, len(p)-mostOutput):]...)
	if over := len(t.buf) - mostOutput; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(strings.ToValidUTF8(string(t.buf), "?"))
}

// carryOut does a task that needs no program of the user's.
func carryOut(t *Task) error {
	switch {
	case t.Hook != nil:
		return post(t.Hook)
	case t.Desktop != nil:
		return show(t.Desktop)
	}
	return errors.New("there is nothing to do")
}
