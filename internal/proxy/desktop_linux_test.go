package proxy

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A user cannot keep the service waiting by stopping the process that reads their settings, also
// where the service may send no signals to others' processes.
func TestStoppedProcessOfAnotherUserEnds(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root acts as another user")
	}
	const uid = 61001
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return killAs(uid, cmd.Process.Pid) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Wait(); err == nil || time.Since(began) > 30*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}
