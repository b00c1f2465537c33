package scenario

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// screen is a terminal in which a command runs.
type screen struct {
	t      *testing.T
	socket string // of the terminal emulator
}

// newScreen runs a shell command in a terminal of 80 columns and 24 rows.
func newScreen(t *testing.T, command string) *screen {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("tmux is not installed: apt-get install tmux")
		}
		t.Skip("tmux is not installed: apt-get install tmux")
	}
	dir, err := os.MkdirTemp("", "ebb") // shorter than t.TempDir, for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &screen{t, filepath.Join(dir, "tmux")}
	s.tmux("-u", "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command)
	t.Cleanup(func() { s.tmux("kill-server") })
	return s
}

func (s *screen) tmux(args ...string) string {
	s.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", s.socket}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("tmux %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// shows waits until all texts are on the screen.
func (s *screen) shows(texts ...string) {
	s.t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // nothing tells when a screen changes
		now := s.tmux("capture-pane", "-p")
		missing := ""
		for _, text := range texts {
			if !strings.Contains(now, text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(limit) {
			s.t.Fatalf("%q does not appear; the screen is\n%s", missing, now)
		}
	}
}

// TestTop watches a job in a terminal, stops and cancels it with keys, and outlives the service.
func TestTop(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: 64 * mib})
	e.Set(func(p *faultserver.Program) { p.Rate = 128 * kib }) // for longer than the test takes on a busy machine
	s := start(t, options{})
	job := s.create(fetched{name: "the job", files: []bits.FileSpec{s.file(e.URL(), "file")}})

	at := newScreen(t, fmt.Sprintf("LC_ALL=C.UTF-8 EBB_SOCKET=%s %s top; echo left with $?; read wait", s.socket, ebb))
	at.shows("ebb  ", "1 running", "> the job", "TRANSFERRING", "iB/s", "q quit  ? help")
	// What the last line says goes away after some seconds, in which a busy machine may not have looked.
	at.tmux("send-keys", "s")
	at.shows("SUSPENDED")
	if got := s.info(job).State; got != bits.Suspended {
		t.Errorf("the job is %s", got)
	}
	at.tmux("resize-window", "-x", "40", "-y", "10")
	at.shows("NAME      DONE", "> the job") // the narrow table
	s.kill9()
	at.shows("the service does not answer")
	s.up()
	at.tmux("send-keys", "r")
	at.shows("1 running")
	at.tmux("send-keys", "c")
	at.shows("cancel the job? [y/N]")
	at.tmux("send-keys", "y")
	at.shows("no jobs")
	if got := s.info(job).State; got != bits.Cancelled {
		t.Errorf("the job is %s", got)
	}
	at.tmux("send-keys", "q")
	at.shows("left with 0")
	if now := at.tmux("capture-pane", "-p"); strings.Contains(now, "no jobs") {
		t.Errorf("the terminal is not as it was:\n%s", now)
	}
}
