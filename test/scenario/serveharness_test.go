package scenario

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/test/internal/loopback"
)

// serving is an ebb serve on a port of its own.
type serving struct {
	t      *testing.T
	home   string // of everything that follows
	dir    string // that is served; empty at first
	socket string
	log    string
	addr   string // host:port
	args   []string
	before []string // a command that runs ebb, such as ip netns exec
	url    string   // without a slash at the end; known once it runs
	print  string   // the SHA-256 of its certificate, if that is self-signed
	cert   string   // the file of that
	*process
}

// newServing makes what a server needs without running it. A configuration may use %DIR% and %HOME%.
func newServing(t *testing.T, config string, args ...string) *serving {
	t.Helper()
	home, err := os.MkdirTemp("", "ebb")
	if err != nil {
		t.Fatal(err)
	}
	port, err := loopback.Reserve(0)
	if err != nil {
		t.Fatal(err)
	}
	s := &serving{t: t, home: home, dir: filepath.Join(home, "dir"), socket: filepath.Join(home, "sock"), log: filepath.Join(home, "log"),
		addr: "127.0.0.1:" + strconv.Itoa(port.Number), process: &process{}}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.args = append([]string{"serve", "--json", "--state", filepath.Join(home, "state"), "--socket", s.socket}, args...)
	if config == "" {
		s.args = append(s.args, "--root", s.dir)
	} else {
		name := filepath.Join(home, "serve.toml")
		text := strings.NewReplacer("%DIR%", s.dir, "%HOME%", home).Replace(config)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.args = append(s.args, "--config", name)
	}
	if !strings.Contains(strings.Join(args, " "), "--listen") {
		s.args = append(s.args, "--listen", s.addr)
	}
	t.Cleanup(func() {
		s.kill9()
		port.Close()
		if t.Failed() {
			b, _ := os.ReadFile(s.log)
			t.Logf("the end of the server's log:\n%s", b[max(0, len(b)-8*kib):])
		}
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	return s
}

// startServing runs a server that the test ends.
func startServing(t *testing.T, config string, args ...string) *serving {
	t.Helper()
	s := newServing(t, config, args...)
	s.up()
	return s
}

// up starts the process and returns when it answers.
func (s *serving) up() {
	s.t.Helper()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	args := slices.Concat(s.before, []string{ebb}, s.args)
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stderr = log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var started struct {
		URLs        []string
		Fingerprint string
		Certificate string
	}
	lines := bufio.NewReader(out)
	err = json.NewDecoder(lines).Decode(&started)
	ended := make(chan struct{})
	s.ended = ended
	go func(p *process, cmd *exec.Cmd) {
		defer close(ended)
		p.err = cmd.Wait()
	}(s.process, s.cmd)
	if err != nil {
		<-ended
		b, _ := os.ReadFile(s.log)
		s.t.Fatalf("the server did not start: %v\n%s", s.err, b)
	}
	s.url, s.print, s.cert = started.URLs[0], started.Fingerprint, started.Certificate
}

// kill9 ends the process as a crash would.
func (s *serving) kill9() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}

// stop asks the server to end, and returns how long that took.
func (s *serving) stop() time.Duration {
	s.t.Helper()
	began := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.ended:
		s.cmd = nil
		if s.err != nil {
			s.t.Fatalf("the server ended with %v", s.err)
		}
	case <-time.After(patience):
		s.t.Fatal("the server does not end")
	}
	return time.Since(began)
}

// cli runs a verb of ebb serve.
func (s *serving) cli(args ...string) result {
	s.t.Helper()
	return s.prepareServe(args...).begin().end()
}

// answer is an answer of the server.
type answer struct {
	*http.Response
	body string
}

// do makes a request; headers are pairs.
func (s *serving) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	a, err := request(http.DefaultClient, method, s.url+path, strings.NewReader(body), headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func request(c *http.Client, method, url string, body io.Reader, headers ...string) (answer, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return answer{resp, string(b)}, err
}

// want checks the status.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s %s: %d %q, want %d", a.Request.Method, a.Request.URL, a.StatusCode, a.body, status)
	}
	return a
}

// write makes a file in the directory that is served.
func (s *serving) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// isFile checks what is in the directory.
func (s *serving) isFile(name, text string) {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil || string(b) != text {
		s.t.Errorf("%s: %d bytes, %v; want %d bytes", name, len(b), err, len(text))
	}
}

// logged checks that the access log tells something.
func (s *serving) logged(what string) {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(s.log)
		if err != nil {
			s.t.Fatal(err)
		}
		if strings.Contains(string(b), what) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("the log does not tell %q:\n%s", what, b)
		}
	}
}

// trusts returns a client that trusts a certificate's signer, and has one of its own unless that
// is nil.
func trusts(pool *x509.CertPool, own *tls.Certificate, http2 bool) *http.Client {
	c := &tls.Config{RootCAs: pool}
	if own != nil {
		c.Certificates = []tls.Certificate{*own}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: http2, DisableKeepAlives: true}}
}

// prepareServe makes the call of a verb of ebb serve.
func (s *serving) prepareServe(args ...string) *call {
	c := &call{t: s.t, cmd: exec.Command(ebb, append([]string{"serve", "--socket", s.socket}, args...)...)}
	c.cmd.Dir = s.home
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
	return c
}
