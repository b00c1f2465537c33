package scenario

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
	"github.com/ebbtransfer/ebb/test/servers"
)

// TestRealServers fetches the same files from each server as the service finds them in the
// world.
func TestRealServers(t *testing.T) {
	t.Parallel()
	type starter func(string, servers.Options) (*servers.Server, error)
	date := time.Unix(1_500_000_000, 0)
	sizes := map[string]int64{"empty": 0, "byte": 1, "small": 3000, "page": 4096, "large": 5*mib + 7, "with space & more.bin": 100_000}
	content := t.TempDir()
	for name, size := range sizes {
		path := filepath.Join(content, name)
		f, err := os.Create(path)
		if err == nil {
			_, err = io.Copy(f, io.NewSectionReader(faultserver.Content(uint64(size), size), 0, size))
		}
		if err == nil {
			err = f.Close()
		}
		if err == nil {
			err = os.Chtimes(path, date, date)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(content, 0o755); err != nil {
		t.Fatal(err)
	}
	// The servers end after the service: Apache waits for its clients.
	var running []*servers.Server
	t.Cleanup(func() {
		for _, srv := range running {
			srv.Close()
		}
	})
	s := start(t, options{env: trusting(t)})
	for _, test := range []struct {
		name, pkg string
		start     starter
		options   servers.Options
	}{
		{"nginx", "nginx", servers.Nginx, servers.Options{}},
		{"nginx with TLS", "nginx", servers.Nginx, servers.Options{TLS: true}},
		{"nginx with HTTP2", "nginx", servers.Nginx, servers.Options{TLS: true, HTTP2: true}},
		{"Apache", "apache2", servers.Apache, servers.Options{}},
		{"Apache with TLS", "apache2", servers.Apache, servers.Options{TLS: true}},
		{"Caddy", "caddy", servers.Caddy, servers.Options{}},
		{"Caddy with HTTP2", "caddy", servers.Caddy, servers.Options{TLS: true, HTTP2: true}},
		{"Python", "python3", servers.Python, servers.Options{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if missing := servers.Missing(); slices.Contains(missing, test.pkg) {
				if os.Getenv("CI") != "" {
					t.Fatalf("not installed: %v", missing)
				}
				t.Skipf("not installed: %v", missing)
			}
			srv, err := test.start(content, test.options)
			if err != nil {
				t.Fatal(err)
			}
			running = append(running, srv)
			s := s.in(t)
			s.dir = t.TempDir()
			args := []string{"get"}
			var want []string
			for name := range sizes {
				args, want = append(args, srv.URL+"/"+escape(name)), append(want, name)
			}
			s.cli(args...).want(t, 0)
			s.holds(want...)
			for name, size := range sizes {
				path := filepath.Join(s.dir, name)
				if got, n := digest(t, path); got != faultserver.SHA256(uint64(size), size) {
					t.Errorf("%s has %d bytes that are not the file's %d", name, n, size)
				}
				st, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if !st.ModTime().Equal(date) {
					t.Errorf("%s is of %v, want %v", name, st.ModTime(), date)
				}
				if mode := st.Mode(); mode != 0o666&^umask {
					t.Errorf("%s has the mode %v, want %v", name, mode, 0o666&^umask)
				}
			}
		})
	}
}

// umask is that of the test and so of the services it starts.
var umask = func() os.FileMode {
	m := syscall.Umask(0)
	syscall.Umask(m)
	return os.FileMode(m)
}()

func escape(name string) string {
	var out []byte
	for _, c := range []byte(name) {
		if c == ' ' || c == '&' {
			out = fmt.Appendf(out, "%%%02X", c)
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}

func TestServerThatSpeaksOnlyHTTP2(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{TLS: faultserver.Valid, HTTP: faultserver.HTTP2Only})
	s := start(t, options{env: trusting(t)})
	whole := srv.File("/whole", faultserver.File{Seed: 1, Size: 5*mib + 1})
	broken := srv.File("/broken", faultserver.File{Seed: 2, Size: 5*mib + 1})
	broken.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Reset, After: 3 * mib}})
	s.arrives(s.fetch(whole.URL(), "whole"), whole)
	s.arrives(s.fetch(broken.URL(), "broken"), broken)
	s.holds("broken", "whole")
	for _, q := range srv.Requests() {
		if q.Proto != "HTTP/2.0" {
			t.Errorf("a request came over %s", q.Proto)
		}
	}
	if again := srv.Refetched("/broken"); again > mib {
		t.Errorf("%d bytes were fetched twice", again)
	}
}

// Only a file that is whole takes its place, and whatever was there before stays until then.
func TestFileAppearsOnlyWhenWhole(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: mib})
	e.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: mib / 2}})
	path := filepath.Join(s.dir, "file")
	if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	old := func(when string) {
		t.Helper()
		if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
			t.Errorf("%s the old file is %q, %v", when, b, err)
		}
	}
	job := s.fetch(e.URL(), "file")
	sent(t, srv, "/file", mib/2)
	s.untilState(job, bits.Transferring)
	old("in the middle")
	e.Release()
	s.settled(job, bits.Transferred)
	old("before complete")
	s.nothingStray(job, "file")
	s.complete(job)
	s.isWhole(path, e)
	s.holds("file")
}
