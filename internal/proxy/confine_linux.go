package proxy

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	rights "github.com/ebbtransfer/ebb/internal/notify/helper"
)

// nobody is the user whom nothing belongs to.
const nobody = 65534

// What the helper is told behind HelperVerb: at first whose rights it has, and then, when it starts itself
// again so that no thread of it ever had more rights, what came of giving them up.
const (
	ofMany   = "of-many"  // it is that of a service which may act as others: it must be kept from all that is theirs
	ofOne    = "of-one"   // it is that of a user's own service
	confines = "confined" // it is kept from all but its work
	open     = "open:"    // only its limits hold it; why follows
	refuses  = "refused:" // it is not enough to run a script; why follows
)

// confined returns the command that starts a helper, and what ends its process.
func confined() (*exec.Cmd, func(*os.Process), error) {
	// This program, also when its file was replaced since.
	cmd := exec.Command("/proc/self/exe", HelperVerb, ofOne)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !actsAsOthers() {
		return cmd, func(p *os.Process) { _ = p.Kill() }, nil
	}
	cmd.Args[2] = ofMany
	if os.Geteuid() != 0 { // it keeps what it may from the programs that it starts
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SETUID, unix.CAP_SETGID}
	}
	return cmd, func(p *os.Process) {
		if errors.Is(p.Kill(), unix.EPERM) {
			_ = killAs(nobody, p.Pid)
		}
	}, nil
}

// actsAsOthers reports whether this process is root, or may become other users.
func actsAsOthers() bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	const want = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return os.Geteuid() == 0 || unix.Capget(&h, &d[0]) == nil && d[0].Effective&want == want
}

// confineSelf gives up what the helper does not need, before it sees a script. It still may look up names.
func confineSelf(args []string) found {
	if slices.Equal(args, []string{ofMany}) || slices.Equal(args, []string{ofOne}) {
		// It returns only if this process cannot be executed again.
		return found{Refuses: true, Open: confineThread(args[0] == ofMany).Error()}
	}
	if len(args) != 1 {
		return found{Refuses: true, Open: "this is called by the service only"}
	}
	if why, ok := strings.CutPrefix(args[0], refuses); ok {
		return found{Refuses: true, Open: why}
	}
	if err := limitSelf(); err != nil {
		return found{Refuses: true, Open: err.Error()}
	}
	why, _ := strings.CutPrefix(args[0], open)
	if args[0] == confines {
		why = ""
	}
	return found{Open: why}
}

// confineThread gives up the rights of this thread, which then executes this program again.
func confineThread(many bool) error {
	runtime.LockOSThread()
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) // what the service was given and does not know of
	var nobodys error
	if many {
		nobodys = rights.Become(rights.User{UID: nobody, GID: nobody})
	}
	// Also where that failed half-way, and in a container whose only user is root.
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // before Linux 4.3 there are none
	header, none := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop the capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	closed := landlock()
	state := confines
	switch {
	case nobodys != nil && os.Geteuid() == 0: // of what names are looked up with, root may read too much
		state = fmt.Sprintf("%sit is root's and cannot become nobody (%v)", refuses, nobodys)
	case closed == nil:
	case many && nobodys == nil: // nothing is nobody's
	case many:
		state = fmt.Sprintf("%sit cannot become nobody (%v), nor can the file system be closed to it (Landlock: %v)", refuses, nobodys, closed)
	default:
		state = fmt.Sprintf("%sthe file system cannot be closed to it (Landlock: %v)", open, closed)
	}
	err := syscall.Exec("/proc/self/exe", []string{"ebb", HelperVerb, state}, []string{})
	return fmt.Errorf("execute the program again: %w", err)
}

// limitSelf sets the limits of this process, all its threads.
func limitSelf() error {
	for _, l := range []struct {
		what int
		max  uint64
	}{{unix.RLIMIT_DATA, 512 << 20}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, 64}, {unix.RLIMIT_CPU, 60}} {
		if err := unix.Setrlimit(l.what, &unix.Rlimit{Cur: l.max, Max: l.max}); err != nil {
			return err
		}
	}
	debug.SetMemoryLimit(128 << 20)
	debug.SetMaxStack(64 << 20)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil { // others who are nobody look into it
		return err
	}
	filter()
	return nil
}

// readable are the places that looking up a name, and the time, reads.
var readable = []string{"/etc", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/usr/share/zoneinfo"}

// landlock closes the file system to this thread but for those, and all that newer kernels can close:
// making TCP connections from the fourth version on, signals and abstract sockets from the sixth.
func landlock() error {
	version, _, e := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return e // an old kernel, or one without it, or a filter that forbids it
	}
	const read = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	attr := unix.LandlockRulesetAttr{Handled_access_fs: 1<<13 - 1}
	size := unsafe.Sizeof(attr.Handled_access_fs)
	if version >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		size = unsafe.Offsetof(attr.Scoped)
	}
	if version >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		size = unsafe.Offsetof(attr.Scoped) + unsafe.Sizeof(attr.Scoped)
	}
	rules, _, e := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if e != 0 {
		return e
	}
	defer unix.Close(int(rules))
	allow := func(path string, access uint64) error {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil // what is not there needs no rule
		}
		defer unix.Close(fd)
		beneath := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
		if _, _, e := syscall.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, rules, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&beneath)), 0, 0, 0); e != 0 {
			return e
		}
		return nil
	}
	for _, dir := range readable {
		if err := allow(dir, read); err != nil {
			return err
		}
	}
	// It is executed once more. That of a program with C code needs its libraries.
	if err := allow("/proc/self/exe", unix.LANDLOCK_ACCESS_FS_EXECUTE|unix.LANDLOCK_ACCESS_FS_READ_FILE); err != nil {
		return err
	}
	for _, dir := range libraries {
		if err := allow(dir, read|unix.LANDLOCK_ACCESS_FS_EXECUTE); err != nil {
			return err
		}
	}
	if _, _, e := syscall.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0); e != 0 {
		return e
	}
	return nil
}

// forbidden are the system calls that the helper has no use for and that are worth something to who takes
// it over.
var forbidden = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_KILL, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_IO_URING_SETUP, unix.SYS_BPF, unix.SYS_USERFAULTFD,
	unix.SYS_PERF_EVENT_OPEN, unix.SYS_KEYCTL, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_SOCKETPAIR,
}

// filter forbids them, and all sockets but those of UDP and those that tell of the machine's addresses. It is
// one wall more where the kernel has it; what must be so does not depend on it.
func filter() {
	arch, ok := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if !ok {
		return
	}
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		notLow = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		and    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		end    = unix.BPF_RET | unix.BPF_K
		// Of struct seccomp_data.
		number, machine, arg0, arg1 = 0, 4, 16, 24
		deny                        = unix.SECCOMP_RET_ERRNO | uint32(unix.EACCES)
	)
	refuse := unix.SockFilter{Code: end, K: deny}
	p := []unix.SockFilter{
		{Code: load, K: machine}, {Code: equal, K: arch, Jt: 1}, refuse,
		{Code: load, K: number}, {Code: notLow, K: 0x40000000, Jf: 1}, refuse, // x32
	}
	for _, nr := range forbidden {
		p = append(p, unix.SockFilter{Code: equal, K: nr, Jf: 1}, refuse)
	}
	p = append(p,
		unix.SockFilter{Code: equal, K: unix.SYS_SOCKET, Jt: 1}, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: load, K: arg0},
		unix.SockFilter{Code: equal, K: unix.AF_NETLINK, Jt: 6},
		unix.SockFilter{Code: equal, K: unix.AF_INET, Jt: 1},
		unix.SockFilter{Code: equal, K: unix.AF_INET6, Jf: 3},
		unix.SockFilter{Code: load, K: arg1},
		unix.SockFilter{Code: and, K: 0xf}, // without SOCK_CLOEXEC and SOCK_NONBLOCK
		unix.SockFilter{Code: equal, K: unix.SOCK_DGRAM, Jt: 1},
		refuse,
		unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW},
	)
	program := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	_, _, _ = syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
}
