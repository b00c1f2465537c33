package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"sync"
	"time"
)

// HelperVerb is the command by which this program is started as the helper that runs scripts.
const HelperVerb = "proxy-script-helper"

const (
	answerTime  = 10 * time.Second // for one question, the start of the helper included
	helperIdle  = 30 * time.Second // after which an unused helper ends
	maxFound    = 16 << 10         // bytes of an answer
	mostHelpers = 16               // processes at a time, each of which may have 512 MiB
	// asideTime is how long a script is not asked that answered late, or ended its process.
	asideTime = time.Minute
	// An owner's scripts may take maxSpent in all, which comes back at the rate of one second in spentRate.
	maxSpent  = time.Minute
	spentRate = 2
)

// question asks the helper. The first brings the script.
type question struct {
	Script string `json:"script,omitempty"`
	URL    string `json:"url,omitempty"`
	Host   string `json:"host,omitempty"`
}

// found is the helper's answer; the first one is to no question and tells how it is confined.
type found struct {
	Proxies string `json:"proxies,omitempty"`
	Error   string `json:"error,omitempty"`
	Late    bool   `json:"late,omitempty"`    // the script ran for too long
	Open    string `json:"open,omitempty"`    // why only its limits hold it; in the first
	Refuses bool   `json:"refuses,omitempty"` // and why it therefore runs no script; in the first
}

// helpers are the processes that run scripts: this program, started with HelperVerb, without rights of its
// own. Each owner of jobs whose scripts were asked of late has one, so that nobody waits for a stranger's
// script. The zero value is ready.
type helpers struct {
	told sync.Once // that they are not confined

	mu      sync.Mutex
	of      map[uint32]*helper // guarded by mu: by owner
	waiting int                // guarded by mu: questions for which there is no room
	room    chan struct{}      // guarded by mu until it is made: a token for each process
}

// helper is what runs the scripts of one owner, one at a time.
type helper struct {
	turn  chan struct{} // has a token while somebody asks, to whom the fields up to the next blank line belong
	p     *process      // nil if none runs
	spent time.Time     // when, at spentRate, all time that the owner's scripts took will be made up for
	aside string        // a script that is not asked until
	until time.Time
	why   error

	users int         // guarded by helpers.mu: those who ask and wait
	used  time.Time   // guarded by helpers.mu: last
	idle  *time.Timer // guarded by helpers.mu
}

// process is a helper's process.
type process struct {
	script string // that it is for
	told   bool   // it has been sent to it
	cmd    *exec.Cmd
	in     io.WriteCloser
	pipe   io.Closer
	out    *bufio.Reader
	kill   func() // ends it
}

var (
	errTooLong = errors.New("it takes too long, or too much memory")
	errSpent   = errors.New("your scripts took too much time of late; they are asked again in a while")
	errRefused = errors.New("scripts are not run here, since their process could not be kept from what the service may do")
)

// find asks a script for the proxies of a URL, on behalf of the owner of a job. Questions of one owner are
// asked one after the other.
func (hs *helpers) find(ctx context.Context, owner uint32, script, u, host string) (string, error) {
	h := hs.enter(owner)
	defer hs.leave(owner, h)
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	now := time.Now()
	if h.aside == script && now.Before(h.until) {
		return "", h.why
	}
	if h.spent.Sub(now) > spentRate*maxSpent {
		return "", errSpent
	}
	fresh := h.p == nil || h.p.script != script
	answer, err := hs.ask(ctx, h, script, question{URL: u, Host: host})
	if errors.Is(err, errEnded) && !fresh { // it may have been idle for too long
		answer, err = hs.ask(ctx, h, script, question{URL: u, Host: host})
	}
	if errors.Is(err, errTooLong) || errors.Is(err, errEnded) {
		h.aside, h.until, h.why = script, time.Now().Add(asideTime), err
	}
	return answer, err
}

// enter returns the helper of an owner, which stays until leave is called.
func (hs *helpers) enter(owner uint32) *helper {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.of == nil {
		hs.of, hs.room = map[uint32]*helper{}, make(chan struct{}, mostHelpers)
	}
	h := hs.of[owner]
	if h == nil {
		h = &helper{turn: make(chan struct{}, 1)}
		h.idle = time.AfterFunc(helperIdle, func() { hs.rest(owner, h) })
		hs.of[owner] = h
	}
	h.users++
	h.idle.Stop()
	return h
}

func (hs *helpers) leave(owner uint32, h *helper) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h.used = time.Now()
	if h.users--; h.users > 0 {
		return
	}
	if hs.waiting > 0 { // for its room
		hs.stop(h)
	}
	h.idle.Reset(helperIdle)
}

// rest ends the process of a helper that was not used for a while, and forgets the helper once nothing is
// held against its owner.
func (hs *helpers) rest(owner uint32, h *helper) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h.users > 0 || hs.of[owner] != h {
		return
	}
	hs.stop(h)
	held := h.until
	if h.spent.After(held) {
		held = h.spent
	}
	if left := time.Until(held); left > 0 {
		h.idle.Reset(left)
		return
	}
	delete(hs.of, owner)
}

// close ends all processes that nobody is asking.
func (hs *helpers) close() {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for owner, h := range hs.of {
		if h.users == 0 {
			h.idle.Stop()
			hs.stop(h)
			delete(hs.of, owner)
		}
	}
}

// admit waits until there is room for one process more. One that nobody asks makes room.
func (hs *helpers) admit(ctx context.Context) error {
	select {
	case hs.room <- struct{}{}:
		return nil
	default:
	}
	hs.mu.Lock()
	hs.waiting++
	var oldest *helper
	for _, h := range hs.of {
		if h.users == 0 && h.p != nil && (oldest == nil || h.used.Before(oldest.used)) {
			oldest = h
		}
	}
	if oldest != nil {
		hs.stop(oldest)
	}
	hs.mu.Unlock()
	defer func() {
		hs.mu.Lock()
		defer hs.mu.Unlock()
		hs.waiting--
	}()
	select {
	case hs.room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errEnded tells that the process ended over a question.
var errEnded = errors.New("its process ended")

func (hs *helpers) ask(ctx context.Context, h *helper, script string, q question) (string, error) {
	if h.p != nil && h.p.script != script {
		hs.stop(h)
	}
	if h.p == nil {
		if err := hs.admit(ctx); err != nil {
			return "", err
		}
		p, err := start(script)
		if err != nil {
			<-hs.room
			return "", fmt.Errorf("the process that runs it cannot be started: %w", err)
		}
		h.p = p
	}
	began := time.Now()
	late := time.AfterFunc(answerTime, h.p.kill)
	gone := context.AfterFunc(ctx, h.p.kill)
	answer, err := hs.exchange(h.p, q)
	if h.spent.Before(began) {
		h.spent = began
	}
	h.spent = h.spent.Add(spentRate * time.Since(began))
	inTime, wanted := late.Stop(), gone()
	if !inTime || !wanted || err != nil {
		hs.stop(h)
	}
	switch {
	case !wanted:
		return "", context.Cause(ctx)
	case !inTime || answer.Late:
		return "", errTooLong
	case errors.Is(err, errRefused):
		return "", err
	case err != nil:
		return "", fmt.Errorf("%w: %w", errEnded, err)
	case answer.Error != "":
		return "", errors.New(answer.Error)
	}
	return answer.Proxies, nil
}

func start(script string) (*process, error) {
	cmd, end, err := confined()
	if err != nil {
		return nil, err
	}
	cmd.Env = []string{} // nothing of ours, and nothing that a script may learn
	cmd.Dir = "/"
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{script: script, cmd: cmd, in: in, pipe: out, out: bufio.NewReaderSize(out, maxFound)}
	p.kill = func() {
		end(cmd.Process)
		_, _ = in.Close(), out.Close() // whoever waits for it gets on, whatever becomes of it
	}
	return p, nil
}

// stop ends a helper's process, and has its room given back when it is gone. Only who has the turn may
// call it, or who holds hs.mu while nobody has.
func (hs *helpers) stop(h *helper) {
	if h.p == nil {
		return
	}
	p := h.p
	h.p = nil
	p.kill()
	go func() {
		_ = p.cmd.Wait() // it was killed
		<-hs.room
	}()
}

func (hs *helpers) exchange(p *process, q question) (found, error) {
	read := func() (f found, err error) {
		line, err := p.out.ReadSlice('\n')
		if err != nil {
			return found{}, err
		}
		return f, json.Unmarshal(line, &f)
	}
	if !p.told {
		first, err := read()
		if err != nil {
			return found{}, err
		}
		if first.Open != "" {
			hs.told.Do(func() {
				slog.Warn("scripts that find proxies cannot be confined on this system", "why", first.Open, "run", !first.Refuses)
			})
		}
		if first.Refuses {
			return found{}, fmt.Errorf("%w: %s", errRefused, first.Open)
		}
		q.Script, p.told = p.script, true
	}
	b, err := json.Marshal(q)
	if err != nil {
		return found{}, err
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		return found{}, err
	}
	return read()
}
