package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const maxSettings = 1 << 20 // bytes

// gsettings asks GNOME's settings, as their user.
func gsettings(ctx context.Context, owner uint32) (string, error) {
	path, err := exec.LookPath("gsettings")
	if err != nil {
		return "", err
	}
	cmd, err := as(ctx, owner, path, "list-recursively", "org.gnome.system.proxy")
	if err != nil {
		return "", err
	}
	return output(cmd)
}

// kioslaverc reads KDE's settings, as their user: what his directories lead to is his affair.
func kioslaverc(owner uint32) (string, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(owner), 10))
	if err != nil {
		return "", fs.ErrNotExist
	}
	config := filepath.Join(u.HomeDir, ".config")
	own := int64(owner) == int64(os.Getuid())
	if dir := os.Getenv("XDG_CONFIG_HOME"); own && filepath.IsAbs(dir) {
		config = dir
	}
	name := filepath.Join(config, "kioslaverc")
	if own {
		f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxSettings))
		return string(b), err
	}
	ctx, cancel := context.WithTimeout(context.Background(), desktopTime)
	defer cancel()
	cmd, err := as(ctx, owner, "/bin/cat", "--", name)
	if err != nil {
		return "", err
	}
	out, err := output(cmd)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fs.ErrNotExist
	}
	return out, err
}

// as makes a command that runs with a user's rights and in his environment, and nothing of ours.
func as(ctx context.Context, owner uint32, path string, args ...string) (*exec.Cmd, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(owner), 10))
	if err != nil {
		return nil, err
	}
	run := "/run/user/" + u.Uid
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"HOME=" + u.HomeDir, "USER=" + u.Username, "LC_ALL=C", "PATH=/usr/bin:/bin", "XDG_RUNTIME_DIR=" + run, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + run + "/bus"}
	if int64(owner) == int64(os.Getuid()) {
		if dir := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
			cmd.Env = append(cmd.Env, "XDG_CONFIG_HOME="+dir)
		}
		return cmd, nil
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner, Gid: uint32(gid)}}
	cmd.Cancel = func() error { return killAs(owner, cmd.Process.Pid) }
	return cmd, nil
}

// killAs ends a process of a user. The service has the right to act as users, but none to send signals to
// their processes; without this a user who stops a process of theirs would keep it, and who waits for it,
// for ever. It does so on a thread whose effective user alone is the owner: that lets it send the signal,
// and the owner send none to it.
func killAs(owner uint32, pid int) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends here
		same := ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(owner), same); errno != 0 {
			done <- errno
			return
		}
		done <- unix.Kill(pid, unix.SIGKILL)
	}()
	return <-done
}

// output returns what a command prints, which must not be much.
func output(cmd *exec.Cmd) (string, error) {
	var out limited
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w", cmd.Path, err)
	}
	return out.String(), nil
}

// limited is a buffer that takes no more than maxSettings.
type limited struct{ bytes.Buffer }

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxSettings {
		return 0, io.ErrShortWrite
	}
	return l.Buffer.Write(p)
}
