package scenario

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// TestDamagedStoreIsSetAside: a store that cannot be used loses no job silently.
func TestDamagedStoreIsSetAside(t *testing.T) {
	t.Parallel()
	garbage := make([]byte, 300*kib)
	_, _ = rand.Read(garbage)
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, state string) (inFile []byte)
	}{
		{"random bytes", func(t *testing.T, state string) []byte {
			write(t, filepath.Join(state, "ebb.db"), garbage)
			return garbage
		}},
		{"a store cut short", func(t *testing.T, state string) []byte {
			name := filepath.Join(state, "ebb.db")
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b = b[:len(b)/2+100]
			write(t, name, b)
			return b
		}},
		{"pages overwritten", func(t *testing.T, state string) []byte {
			name := filepath.Join(state, "ebb.db")
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			copy(b[4096:], garbage[:len(b)-4096])
			write(t, name, b)
			return b
		}},
		{"a newer version's", func(t *testing.T, state string) []byte {
			db, err := sql.Open("sqlite", filepath.Join(state, "ebb.db"))
			if err == nil {
				_, err = db.Exec("PRAGMA user_version = 9999")
			}
			if err == nil {
				err = db.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			return nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, options{})
			for i := range 20 {
				s.create(fetched{name: fmt.Sprint("job ", i), waits: true, files: []bits.FileSpec{s.file("http://127.0.0.1:1/x", fmt.Sprint(i))}})
			}
			backup := filepath.Join(s.state, "backup.db")
			exists(t, backup)
			s.stop()
			kept, err := os.ReadFile(backup)
			if err != nil {
				t.Fatal(err)
			}
			damaged := test.damage(t, s.state)
			s.up()

			aside, err := filepath.Glob(filepath.Join(s.state, "ebb.db?*"))
			if err != nil {
				t.Fatal(err)
			}
			var db string
			for _, name := range aside {
				if !strings.Contains(name, "-wal") && !strings.Contains(name, "-shm") {
					db = name
				}
			}
			r := s.cli("list").want(t, 0)
			if !strings.Contains(r.err, "set aside as "+db) || !strings.Contains(r.err, "ebb daemon restore") {
				t.Errorf("of %s the list says only %q", db, r.err)
			}
			if b, err := os.ReadFile(db); damaged != nil && (err != nil || !bytes.Equal(b, damaged)) {
				t.Errorf("%s is not the damaged store, %v", db, err)
			}
			// The service works, and makes no backup of its empty queue in the place of the good one.
			s.create(fetched{name: "new", waits: true})
			time.Sleep(6 * time.Second) // longer than the service waits with its backup
			s.stop()
			if b, err := os.ReadFile(backup); err != nil || !bytes.Equal(b, kept) {
				t.Errorf("the backup is another one, %v", err)
			}
			out, err := exec.Command(ebb, "daemon", "restore", "--state", s.state).CombinedOutput()
			if err != nil {
				t.Fatalf("restore: %v\n%s", err, out)
			}
			s.up()
			if n := len(jobsOf(s)); n != 20 {
				t.Errorf("after restore there are %d jobs, want 20", n)
			}
		})
	}
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// exists waits for a file of which the service sends no news.
func exists(t *testing.T, name string) {
	t.Helper()
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return
		}
	}
	t.Fatalf("%s does not appear", name)
}

func jobsOf(s *service) (list []bits.Job) {
	s.t.Helper()
	for j, err := range s.List(s.ctx(), client.ListOptions{Files: true}) {
		if err != nil {
			s.t.Fatal(err)
		}
		list = append(list, j)
	}
	return list
}

// TestGarbageInTheJournal: what had reached the store is there, and the service starts.
func TestGarbageInTheJournal(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	for i := range 20 {
		s.create(fetched{name: fmt.Sprint("job ", i), waits: true})
	}
	s.stop()
	garbage := make([]byte, mib)
	_, _ = rand.Read(garbage)
	for _, name := range []string{"journal-0", "journal-1"} {
		write(t, filepath.Join(s.state, name), garbage)
	}
	s.up()
	if n := len(jobsOf(s)); n != 20 {
		t.Errorf("there are %d jobs, want 20", n)
	}
	s.create(fetched{name: "new", waits: true})
	s.restart()
	if n := len(jobsOf(s)); n != 21 {
		t.Errorf("there are %d jobs, want 21", n)
	}
}

// TestGracefulStop: a stop is quick and costs next to nothing.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: 20 * mib})
	e.Set(func(p *faultserver.Program) { p.Rate = 20 * mib })
	job := s.fetch(e.URL(), "file")
	watching := s.begin("watch", "--json") // a client that listens does not hold it up
	s.moved(job, 7*mib)
	if took := s.stop(); took > 5*time.Second {
		t.Errorf("the stop took %v", took)
	}
	s.up()
	s.arrives(job, e)
	if again := srv.Refetched("/file"); again > mib {
		t.Errorf("%d bytes were fetched twice", again)
	}
	_ = watching.cmd.Process.Signal(syscall.SIGINT)
	watching.end()
}

func TestSecondServiceOnOneState(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	for _, test := range []struct{ name, state, socket, tell string }{
		{"the same directory", s.state, s.socket + "2", "another ebb service uses the directory"},
		{"the same socket", s.state + "2", s.socket, "another service listens on"},
		{"a file in the place of the directory", s.log, s.socket + "3", "not a directory"},
	} {
		cmd := exec.Command(ebb, "daemon", "--state", test.state, "--socket", test.socket)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), test.tell) {
			t.Errorf("%s: %v, %q", test.name, err, out)
		}
		if !strings.Contains(string(out), "event=16392 ") { // BITS's number for a service that cannot start
			t.Errorf("%s: the log does not tell of it as BITS does: %q", test.name, out)
		}
	}
	s.create(fetched{waits: true}) // the first one does not mind
}

// notifySocket is what systemd listens on for news of a service.
func notifySocket(t *testing.T) (path string, news func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ebb")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = os.RemoveAll(dir)
	})
	return path, func() string {
		t.Helper()
		b := make([]byte, 4096)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	path, news := notifySocket(t)
	s := prepare(t, options{env: []string{"NOTIFY_SOCKET=" + path}})
	s.launch()
	if got := news(); got != "READY=1" {
		t.Errorf("the first news is %q, want READY=1", got)
	}
	if _, err := s.Service(s.ctx()); err != nil {
		t.Errorf("the service that is ready says %v", err)
	}
	s.stop()
	if got := news(); got != "STOPPING=1" {
		t.Errorf("the last news is %q, want STOPPING=1", got)
	}
}

// TestSocketActivation: systemd's socket is there before the service, which the first client
// starts.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	activate, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip("systemd-socket-activate is not installed")
	}
	s := prepare(t, options{})
	s.before = []string{activate, "--listen=" + s.socket}
	s.launch()
	exists(t, s.socket)
	info, err := s.Service(s.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if info.PID != s.cmd.Process.Pid {
		t.Errorf("process %d answers, want %d", info.PID, s.cmd.Process.Pid)
	}
	s.stop()
	if _, err := os.Stat(s.socket); err != nil {
		t.Errorf("the service took systemd's socket away: %v", err)
	}
}

func TestIdleServiceEnds(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: 5000})
	e.Script(faultserver.Program{Silent: true})
	s := start(t, options{args: []string{"--idle-exit", "1s"}})
	job := s.create(fetched{settings: bits.Settings{AutoComplete: ptr(true)}, files: []bits.FileSpec{s.file(e.URL(), "file")}})
	await(t, srv, "the request", func() bool { q := srv.Requests(); return len(q) == 1 && q[0].Waiting })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	select {
	case <-s.ended:
		t.Fatalf("a service with work ended: %v", s.err)
	case <-ctx.Done():
	}
	e.Release()
	s.gone()
	s.isWhole(filepath.Join(s.dir, "file"), e)
	s.up()
	if got := s.info(job).State; got != bits.Acknowledged {
		t.Errorf("the job is %s", got)
	}
}
