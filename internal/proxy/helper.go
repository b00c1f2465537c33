package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

// HelperVerb is the command by which this program is started as the helper that runs scripts.
const HelperVerb = "proxy-script-helper"

const (
	answerTime = 10 * time.Second // for one question, the start of the helper included
	helperIdle = 30 * time.Second // after which an unused helper ends
	maxFound   = 16 << 10         // bytes of an answer
)

// question asks the helper. The first brings the script.
type question struct {
	Script string `json:"script,omitempty"`
	URL    string `json:"url,omitempty"`
	Host   string `json:"host,omitempty"`
}

// found is the helper's answer.
type found struct {
	Proxies string `json:"proxies,omitempty"`
	Error   string `json:"error,omitempty"`
}

// helper is the process that runs the script of the network's: this program, started with
// HelperVerb, without rights of its own. There is one at a time.
type helper struct {
	mu     sync.Mutex
	script string // that the process is for
	told   bool   // it has been sent to it
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	idle   *time.Timer
	uses   int
}

// find asks a script for the proxies of a URL.
func (h *helper) find(ctx context.Context, script, u, host string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uses++
	fresh := h.cmd == nil || h.script != script
	answer, err := h.ask(ctx, script, question{URL: u, Host: host})
	if err != nil && !fresh && ctx.Err() == nil && !errors.Is(err, errTooLong) { // it may have died since
		answer, err = h.ask(ctx, script, question{URL: u, Host: host})
	}
	return answer, err
}

var errTooLong = errors.New("it takes too long, or too much memory")

func (h *helper) ask(ctx context.Context, script string, q question) (string, error) {
	if h.cmd != nil && h.script != script {
		h.stop()
	}
	if h.cmd == nil {
		if err := h.start(script); err != nil {
			return "", err
		}
	}
	cmd := h.cmd
	late := time.AfterFunc(answerTime, func() { _ = cmd.Process.Kill() })
	gone := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	answer, err := h.exchange(q)
	inTime, wanted := late.Stop(), gone()
	if !inTime || !wanted || err != nil {
		h.stop()
	}
	switch {
	case !wanted:
		return "", context.Cause(ctx)
	case !inTime:
		return "", errTooLong
	case err != nil:
		return "", fmt.Errorf("its process ended: %w", err)
	case answer.Error != "":
		return "", errors.New(answer.Error)
	}
	h.rest()
	return answer.Proxies, nil
}

// rest ends the process once it was not used for a while.
func (h *helper) rest() {
	if h.idle != nil {
		h.idle.Stop()
	}
	uses := h.uses
	h.idle = time.AfterFunc(helperIdle, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.uses == uses {
			h.stop()
		}
	})
}

func (h *helper) start(script string) error {
	exe, err := self()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, HelperVerb)
	cmd.Env = []string{} // nothing of ours, and nothing that a script may learn
	cmd.Dir = "/"
	confine(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("the process that runs it cannot be started: %w", err)
	}
	h.cmd, h.script, h.told, h.in, h.out = cmd, script, false, in, bufio.NewReaderSize(out, maxFound)
	return nil
}

func (h *helper) stop() {
	if h.cmd == nil {
		return
	}
	_ = h.in.Close()
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait() // it was killed
	h.cmd = nil
}

func (h *helper) exchange(q question) (found, error) {
	if !h.told {
		q.Script, h.told = h.script, true
	}
	b, err := json.Marshal(q)
	if err != nil {
		return found{}, err
	}
	if _, err := h.in.Write(append(b, '\n')); err != nil {
		return found{}, err
	}
	line, err := h.out.ReadSlice('\n')
	if err != nil {
		return found{}, err
	}
	var f found
	return f, json.Unmarshal(line, &f)
}
