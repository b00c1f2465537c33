package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// Users without any rights, and without names.
const (
	attacker = 61001
	other    = 61003
)

// attacks are what a user does to the service of all users, again and again, as in the attack suite of
// test/scenario. Each runs in a process of its own until it is killed.
var attacks = []struct {
	name string
	do   func(person)
}{
	{"events that nobody reads", person.holdStreams},
	{"huge and malformed bodies", person.sendBodies},
	{"10,000 connections", person.connect},
}

// attack measures how long another user waits for answers of the service of all users while one user attacks it.
func attack(flags *flag.FlagSet) func(context.Context, *lab) error {
	last := flags.Duration("for", 20*time.Second, "how long each attack lasts")
	return func(ctx context.Context, l *lab) error {
		if os.Geteuid() != 0 {
			return errors.New("the service of all users is root's to start")
		}
		return l.attacked(ctx, *last)
	}
}

func (l *lab) attacked(ctx context.Context, last time.Duration) error {
	s, err := l.newService("attack")
	if err != nil {
		return err
	}
	s.args = []string{"--system"}
	if err := os.Chmod(l.temp, 0o755); err != nil { //nolint:gosec // its socket is for all users
		return err
	}
	if _, err := s.start(ctx); err != nil {
		return err
	}
	if err := copyProgram(filepath.Join(l.temp, "actor")); err != nil {
		return err
	}
	result := table{head: []string{"while a user sends", "answers to another", "median, ms", "99 of 100, ms", "slowest, ms", "processor time that the host took, %"}}
	slowest := 0.0
	run := func(name string, does ...string) error {
		note("%s, for %v", name, last)
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		for _, d := range does {
			cmd := l.acts(ctx, attacker, d, s.socket, last)
			if err := cmd.Start(); err != nil {
				return err
			}
			defer func() { _ = cmd.Wait() }() // killed
		}
		defer stop()
		all, stolen := processorTime()
		out, err := l.acts(ctx, other, "ask", s.socket, last).Output()
		if err != nil {
			return fmt.Errorf("another user is not served: %w", err)
		}
		var times figures
		if err := json.Unmarshal(out, &times); err != nil || len(times) == 0 {
			return fmt.Errorf("another user got no answer: %v", err)
		}
		allAfter, stolenAfter := processorTime()
		slices.Sort(times)
		if len(does) > 0 {
			slowest = max(slowest, times.max())
		}
		result.add(name, fmt.Sprint(len(times)), fmt.Sprintf("%.2f", times.median()), fmt.Sprintf("%.1f", times[len(times)*99/100]), fmt.Sprintf("%.1f", times.max()),
			fmt.Sprintf("%.0f", 100*(stolenAfter-stolen)/max(allAfter-all, 1)))
		return nil
	}
	if err := run("nothing"); err != nil {
		return err
	}
	var all []string
	for _, a := range attacks {
		if err := run(a.name, a.name); err != nil {
			return err
		}
		all = append(all, a.name)
	}
	if err := run("all of it", all...); err != nil {
		return err
	}
	result.print("A user attacks the service of all users, and another one asks for a job every 5 ms, %v each:", last)
	printTargets([]target{{what: "slowest answer to another user under attack, ms", limit: 100, got: slowest, format: "%.0f"}})
	return nil
}

// processorTime returns, in clock ticks since the start of the machine, the time of all processors, and how much
// of it the host of a virtual machine gave to others meanwhile (proc_stat(5)). 0 where it is not told.
func processorTime() (all, stolen float64) {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		n, _ := strconv.ParseFloat(f, 64)
		switch {
		case i == 8:
			stolen = n
			fallthrough
		case i < 8:
			all += n
		}
	}
	return all, stolen
}

// acts returns a process of this program that is a user for a while.
func (l *lab) acts(ctx context.Context, uid uint32, does, socket string, last time.Duration) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(l.temp, "actor"), actsAs, does, socket, last.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if uid == other { // what attackers complain of is as it should be
		cmd.Stderr = os.Stderr
	}
	return cmd
}

// copyProgram puts this program where every user may run it.
func copyProgram(to string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755) //nolint:gosec // see above
}

// actsAs, as the first argument, makes this program a user instead of a measurement.
const actsAs = "acts-as"

// act is what such a process does: one of the attacks, without end, or asking.
func act(args []string) error {
	if len(args) != 3 {
		return errors.New("want what to do, a socket and how long")
	}
	last, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	p := person{socket: args[1], http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", args[1])
	}}}}
	for _, a := range attacks {
		if a.name == args[0] {
			a.do(p)
		}
	}
	return p.ask(last)
}

// person speaks to the service's socket.
type person struct {
	socket string
	http   *http.Client
}

// send makes a request; what is answered to attacks is of no interest.
func (p person) send(method, path string, body io.Reader) (int, []byte, error) {
	req, err := http.NewRequest(method, "http://ebb"+path, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// make makes a job and returns the path of it.
func (p person) make() (string, error) {
	status, answer, err := p.send("POST", "/v1/jobs", strings.NewReader(`{"name":"bench"}`))
	var made bits.Summary
	if err == nil && status != http.StatusCreated {
		err = fmt.Errorf("%d %.200s", status, answer)
	}
	if err == nil {
		err = json.Unmarshal(answer, &made)
	}
	return "/v1/jobs/" + made.ID.String(), err
}

// ask looks at a job of its own every 5 ms and prints, as JSON, how many milliseconds each answer took. Each
// time it connects anew, as a command does.
func (p person) ask(last time.Duration) error {
	ctx := context.Background()
	m, name := client.New(p.socket), "bench"
	job, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: &name}})
	if err != nil {
		return err
	}
	times := figures{}
	for end := time.Now().Add(last); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		m.Close()
		began := time.Now()
		if _, err := job.Info(ctx); err != nil {
			return err
		}
		times = append(times, float64(time.Since(began))/float64(time.Millisecond))
	}
	return json.NewEncoder(os.Stdout).Encode(times)
}

// holdStreams opens streams of events that it does not read, and makes events.
func (p person) holdStreams() {
	for range 32 {
		if c, err := net.Dial("unix", p.socket); err == nil {
			defer func() { _ = c.Close() }()
			_, _ = c.Write([]byte("GET /v1/events?after=1&progress=true HTTP/1.1\r\nHost: ebb\r\n\r\n"))
		}
	}
	path, _ := p.make()
	for n := 0; ; n++ {
		_, _, _ = p.send("PATCH", path, strings.NewReader(fmt.Sprintf(`{"name":"%d%s"}`, n, strings.Repeat("n", 200))))
	}
}

// sendBodies sends what is large, deep or no JSON.
func (p person) sendBodies() {
	many := []byte(`{"name":"n","files":[` + strings.Repeat(`{"remote":"http://h/","local":"/l"},`, 1<<20) + `{}]}`)
	for {
		for _, body := range [][]byte{many, bytes.Repeat([]byte(" "), 64<<20), []byte(strings.Repeat(`{"a":`, 1<<20)), []byte(`{"name":` + strings.Repeat("[", 1<<20)), []byte("\x00\xff"), {}} {
			_, _, _ = p.send("POST", "/v1/jobs", bytes.NewReader(body))
		}
		for _, text := range []string{"\x00\x01\r\n\r\n", "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\n\r\n", "POST /v1/jobs HTTP/1.1\r\nHost: ebb\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"} {
			if c, err := net.Dial("unix", p.socket); err == nil {
				_, _ = c.Write([]byte(text))
				_ = c.Close()
			}
		}
	}
}

// connect makes 10,000 connections, of which it holds 2,000 as long as the service does, and begins anew.
func (p person) connect() {
	for {
		var open []net.Conn
		for range 10_000 {
			if c, err := net.Dial("unix", p.socket); err == nil && len(open) < 2000 {
				open = append(open, c)
			} else if err == nil {
				_ = c.Close()
			}
		}
		for _, c := range open {
			_ = c.Close()
		}
	}
}
