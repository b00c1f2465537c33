package servers

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/test/faultserver"
)

// TestMain lets the test binary be a caller that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("EBB_TEST_START_AND_DIE"); dir != "" {
		s, err := Nginx(dir, Options{})
		if err != nil {
			_, _ = io.WriteString(os.Stderr, err.Error())
			os.Exit(1)
		}
		_, _ = io.WriteString(os.Stdout, s.URL+" "+s.state+"\n")
		select {}
	}
	os.Exit(m.Run())
}

const size = 300_000

// content is what private serves as file.bin.
func content(t *testing.T) []byte {
	t.Helper()
	buf := make([]byte, size)
	if _, err := faultserver.Content(1, size).ReadAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	return buf
}

// private returns a directory that only the caller can read, with a file that is older than the
// second during which Apache calls its ETag weak.
func private(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "file.bin")
	if err := os.WriteFile(name, content(t), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	return dir
}

func launch(t *testing.T, k kind, dir string, o Options) *Server {
	t.Helper()
	if _, err := k.find(); err != nil {
		t.Skip(err)
	}
	s, err := start(k, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func client(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	pool, err := faultserver.CAPool()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: http2}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// fetch gets a URL, with a Range header if one is given.
func fetch(t *testing.T, c *http.Client, address, ranged string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranged != "" {
		req.Header.Set("Range", ranged)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func TestServeAndLog(t *testing.T) {
	tests := []struct {
		name   string
		kind   kind
		o      Options
		proto  string
		ranges bool
	}{
		{"nginx", nginx, Options{AccessLog: true}, "HTTP/1.1", true},
		{"nginx, TLS", nginx, Options{AccessLog: true, TLS: true}, "HTTP/1.1", true},
		{"nginx, HTTP2", nginx, Options{AccessLog: true, TLS: true, HTTP2: true}, "HTTP/2.0", true},
		{"apache", apache, Options{AccessLog: true}, "HTTP/1.1", true},
		{"apache, TLS", apache, Options{AccessLog: true, TLS: true}, "HTTP/1.1", true},
		{"apache, HTTP2", apache, Options{AccessLog: true, TLS: true, HTTP2: true}, "HTTP/2.0", true},
		{"caddy", caddy, Options{AccessLog: true}, "HTTP/1.1", true},
		{"caddy, TLS", caddy, Options{AccessLog: true, TLS: true}, "HTTP/1.1", true},
		{"caddy, HTTP2", caddy, Options{AccessLog: true, TLS: true, HTTP2: true}, "HTTP/2.0", true},
		{"python", python, Options{AccessLog: true}, "HTTP/1.0", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := launch(t, test.kind, private(t), test.o)
			c := client(t, true)
			want := content(t)
			resp, body := fetch(t, c, s.URL+"/file.bin", "")
			if resp.StatusCode != http.StatusOK || resp.Proto != test.proto || !bytes.Equal(body, want) {
				t.Errorf("%s %s, %d bytes; want %s 200 and %d", resp.Proto, resp.Status, len(body), test.proto, size)
			}
			status, sent, ranged := http.StatusPartialContent, want[1000:2000], "bytes=1000-1999"
			if !test.ranges {
				status, sent = http.StatusOK, want
			}
			resp, body = fetch(t, c, s.URL+"/file.bin", ranged)
			if resp.StatusCode != status || !bytes.Equal(body, sent) {
				t.Errorf("range: %s, %d bytes; want %d and %d", resp.Status, len(body), status, len(sent))
			}
			if test.ranges && !strings.HasPrefix(resp.Header.Get("ETag"), `"`) {
				t.Errorf("ETag %q is not strong", resp.Header.Get("ETag"))
			}
			resp, body = fetch(t, c, s.URL+"/no%20such", "")
			if resp.StatusCode != http.StatusNotFound {
				t.Errorf("unknown file: %s", resp.Status)
			}
			wanted := []Request{
				{"GET", "/file.bin", http.StatusOK, size, ""},
				{"GET", "/file.bin", status, int64(len(sent)), ranged},
				{"GET", "/no such", http.StatusNotFound, int64(len(body)), ""},
			}
			if test.kind.name == python.name {
				for i := range wanted {
					wanted[i].BytesSent, wanted[i].Range = -1, ""
				}
			}
			if got := logged(t, s, len(wanted)); !slices.Equal(got, wanted) {
				t.Errorf("log %+v, want %+v", got, wanted)
			}
		})
	}
}

// logged waits until the log has n requests.
func logged(t *testing.T, s *Server, n int) []Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := s.Requests()
		if err == nil && len(all) >= n {
			return all
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("log has %+v, %v; want %d requests", all, err, n)
		}
	}
}

func TestRestartOnTheSamePortAndNoProcessIsLeft(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.program, func(t *testing.T) {
			t.Parallel()
			s := launch(t, k, private(t), Options{})
			address := s.URL
			for range 2 {
				group := s.cmd.Process.Pid
				s.Stop()
				s.Stop() // of a stopped server does nothing
				if err := syscall.Kill(-group, 0); !errors.Is(err, syscall.ESRCH) {
					t.Errorf("processes are left: %v", err)
				}
				if _, err := client(t, false).Get(s.URL); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("while stopped: %v, want refused", err)
				}
				if err := s.Restart(); err != nil {
					t.Fatal(err)
				}
			}
			if _, body := fetch(t, client(t, false), s.URL+"/file.bin", ""); s.URL != address || len(body) != size {
				t.Errorf("restarted at %s, was %s; %d bytes", s.URL, address, len(body))
			}
			state := s.state
			s.Close()
			if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after Close %s is left: %v", state, err)
			}
		})
	}
}

// An upload is on the disk of the directory that is served also while it comes.
func TestUploadsComeBesideTheDirectory(t *testing.T) {
	t.Parallel()
	dir := private(t)
	s := launch(t, nginx, dir, Options{Uploads: true})
	beside := func() (files int) {
		_ = filepath.WalkDir(filepath.Dir(dir), func(name string, d fs.DirEntry, err error) error {
			if err == nil && name == dir {
				return fs.SkipDir
			}
			if err == nil && d.Type().IsRegular() {
				files++
			}
			return nil
		})
		return files
	}
	was := beside()
	body, send := io.Pipe()
	go func() {
		_, err := send.Write(make([]byte, size)) // more than nginx keeps in memory
		for end := time.Now().Add(10 * time.Second); err == nil && beside() == was; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				err = errors.New("nothing is beside the directory")
			}
		}
		_ = send.CloseWithError(err)
	}()
	put, err := http.NewRequest(http.MethodPut, s.URL+"/upload", body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client(t, false).Do(put)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if i, err := os.Stat(filepath.Join(dir, "upload")); answer.StatusCode != http.StatusCreated || err != nil || i.Size() != size {
		t.Errorf("%s, %v", answer.Status, err)
	}
	s.Close()
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".ebb-*")); len(left) > 0 {
		t.Errorf("after Close there is %q", left)
	}
}

func TestRateLimit(t *testing.T) {
	for _, k := range []kind{nginx, apache} {
		t.Run(k.program, func(t *testing.T) {
			t.Parallel()
			s := launch(t, k, private(t), Options{RateLimit: 300_000})
			begin := time.Now()
			if _, body := fetch(t, client(t, false), s.URL+"/file.bin", ""); len(body) != size {
				t.Errorf("%d bytes", len(body))
			}
			if took := time.Since(begin); took < 500*time.Millisecond {
				t.Errorf("took %v, want about a second", took)
			}
		})
	}
}

func TestWhatAServerLacksIsAnError(t *testing.T) {
	for _, test := range []struct {
		start func(string, Options) (*Server, error)
		o     Options
		want  string
	}{
		{Caddy, Options{RateLimit: 1}, "no rate limit"},
		{Python, Options{RateLimit: 1}, "no rate limit"},
		{Python, Options{TLS: true}, "no TLS"},
		{Nginx, Options{HTTP2: true}, "needs TLS"},
		{Apache, Options{HTTP2: true}, "needs TLS"},
	} {
		s, err := test.start(t.TempDir(), test.o)
		if err == nil {
			s.Close()
		}
		if len(Missing()) == 0 && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v, want %q", test.o, err, test.want)
		}
	}
	if s, err := Nginx("/tmp/${x}", Options{}); err == nil {
		s.Close()
		t.Error("a name with special characters: no error")
	}
}

func TestMissingTellsThePackage(t *testing.T) {
	absent := nginx
	absent.program = "no-such-server"
	defer func(old []kind) { kinds = old }(kinds)
	kinds = []kind{absent}
	if got := Missing(); !slices.Equal(got, []string{"nginx"}) {
		t.Errorf("Missing() = %q", got)
	}
	if _, err := start(absent, t.TempDir(), Options{}); err == nil || !strings.Contains(err.Error(), "apt-get install nginx") {
		t.Errorf("start: %v, want a hint how to install it", err)
	}
}

func TestAServerThatDoesNotStartSaysWhy(t *testing.T) {
	if _, err := nginx.find(); err != nil {
		t.Skip(err)
	}
	broken := nginx
	broken.prepare = func(c config) ([]string, error) {
		name := filepath.Join(c.state, "nginx.conf")
		return []string{"-c", name, "-e", c.errorLog}, os.WriteFile(name, []byte("nonsense on;"), 0o600)
	}
	s, err := start(broken, t.TempDir(), Options{})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), `unknown directive "nonsense"`) {
		t.Errorf("start: %v, want what nginx said", err)
	}
}

func TestServersEndWithACallerThatIsKilled(t *testing.T) {
	if _, err := nginx.find(); err != nil {
		t.Skip(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "EBB_TEST_START_AND_DIE="+private(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4096)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	address, state, _ := strings.Cut(strings.TrimSpace(string(line[:n])), " ")
	t.Cleanup(func() { _ = os.RemoveAll(state) })
	if resp, _ := fetch(t, client(t, false), address+"/file.bin", ""); resp.StatusCode != http.StatusOK {
		t.Fatalf("before: %s", resp.Status)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		c := client(t, false)
		c.Transport.(*http.Transport).DisableKeepAlives = true
		_, err := c.Get(address)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the server lives on: %v", err)
		}
	}
}
