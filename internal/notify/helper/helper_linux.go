package helper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// executable names the running program, also after an update has replaced its file.
func executable() (string, error) { return "/proc/self/exe", nil }

// prepare puts the helper in a process group of its own, and hands it what it needs to become the user: a
// service that is not root has these two rights but, as a rule, leaves them to no program.
func prepare(cmd *exec.Cmd, u User) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if u.Switch && os.Geteuid() != 0 {
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SETUID, unix.CAP_SETGID}
	}
}

// endGroup asks a program and what it started to end, or ends them.
func endGroup(u User, group int, kill bool) {
	number := syscall.SIGTERM
	if kill {
		number = syscall.SIGKILL
	}
	if err := syscall.Kill(-group, number); errors.Is(err, syscall.EPERM) && u.Switch {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		_ = Run(ctx, &Task{User: u, signal: &signal{Group: group, Number: int(number)}})
	}
}

const (
	reportFD = 3
	// secondStage is the further argument with which the helper starts itself again as the owner,
	// so that no thread is left that has ever had other rights.
	secondStage = "owner"
	// mostTask bounds what the helper reads; a command has 4,000 characters of parameters.
	mostTask = 1 << 20
)

// Main is the helper's process: it reads a task from in and does not return while it can be
// carried out. args are those behind Verb.
func Main(args []string, in io.Reader) int {
	report := os.NewFile(reportFD, "report")
	if report == nil {
		return 2
	}
	err := begin(args, in)
	if err == nil {
		return 0
	}
	_, _ = io.WriteString(report, err.Error())
	return 1
}

func begin(args []string, in io.Reader) error {
	// Whatever the service itself was given and does not know of ends here.
	if err := unix.CloseRange(reportFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		unix.CloseOnExec(reportFD) // before Linux 5.11
	}
	doc, err := io.ReadAll(io.LimitReader(in, mostTask))
	if err != nil {
		return err
	}
	var t Task
	w := wire{Task: &t}
	if err := json.Unmarshal(doc, &w); err != nil {
		return fmt.Errorf("this is called by the service only: %w", err)
	}
	if slices.Equal(args, []string{secondStage}) {
		return carryOut(&t)
	}
	// The service must outlive what it starts when memory runs out.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
	// What follows changes this one thread, which then becomes the program.
	runtime.LockOSThread()
	if t.User.Switch {
		if err := Become(t.User); err != nil {
			return fmt.Errorf("become the user %d: %w", t.User.UID, err)
		}
	}
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	syscall.Umask(0o022)
	switch {
	case w.Signal != nil && w.Signal.Group > 1:
		return syscall.Kill(-w.Signal.Group, syscall.Signal(w.Signal.Number))
	case t.Command == nil:
		return again(doc)
	}
	return execute(t.Command)
}

// Become makes the calling thread, to which its goroutine must be locked, a user without any right to become
// another one again. The thread then executes a program, which ends the other threads.
func Become(u User) error {
	if u.UID == ^uint32(0) || u.GID == ^uint32(0) { // means "leave it as it is" to the kernel
		return errors.New("there is no such user")
	}
	groups := make([]int, len(u.Groups))
	for i, g := range u.Groups {
		groups[i] = int(g)
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(int(u.GID), int(u.GID), int(u.GID)); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(int(u.UID), int(u.UID), int(u.UID)); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	// A service that is not root keeps its capabilities through the above, and hands the ambient
	// ones on to programs.
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("drop the ambient capabilities: %w", err)
	}
	if u.UID != 0 {
		header, none := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
		if err := unix.Capset(&header, &none[0]); err != nil {
			return fmt.Errorf("drop the capabilities: %w", err)
		}
		// Of this thread alone: the others, which end with the exec, may still have the rights, and
		// setresuid ends the process when it succeeds for some threads only.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); errno == 0 {
			return errors.New("it is possible to be root again")
		}
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) // set-id programs get nothing either
}

// nothing makes /dev/null the standard input.
func nothing() error {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Dup3(fd, 0, 0)
}

// execute turns this process into the program.
func execute(c *Command) error {
	if len(c.Args) == 0 {
		return errors.New("there is no program")
	}
	if err := nothing(); err != nil {
		return err
	}
	if c.Dir == "" || unix.Chdir(c.Dir) != nil {
		_ = unix.Chdir("/")
	}
	err := syscall.Exec(c.Args[0], c.Args, c.Env)
	return fmt.Errorf("start %s: %w", c.Args[0], err)
}

// again turns this process into a second helper, which has been the owner from its start.
func again(doc []byte) error {
	fd, err := unix.MemfdCreate("task", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "task")
	if _, err := f.Write(doc); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := unix.Dup3(fd, 0, 0); err != nil {
		return err
	}
	// The second helper reports too.
	if _, err := unix.FcntlInt(reportFD, unix.F_SETFD, 0); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", []string{"ebb", Verb, secondStage}, []string{})
}

// SessionBus returns the address of a user's message bus, empty if the user has none.
func SessionBus(uid uint32) string {
	dir := RuntimeDir(uid)
	if dir == "" {
		return ""
	}
	st, err := os.Lstat(dir + "/bus")
	if err != nil || st.Mode()&os.ModeSocket == 0 {
		return ""
	}
	return "unix:path=" + dir + "/bus"
}

// RuntimeDir returns the user's XDG_RUNTIME_DIR, empty if the user has no session.
func RuntimeDir(uid uint32) string {
	dir := "/run/user/" + strconv.FormatUint(uint64(uid), 10)
	st, err := os.Lstat(dir)
	if err != nil || !st.IsDir() {
		return ""
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || sys.Uid != uid {
		return ""
	}
	return dir
}
