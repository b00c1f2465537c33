package doctor

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bits"
)

// far are file systems that are on another machine, and brief those that end with this one's run.
var (
	far   = map[int64]string{unix.NFS_SUPER_MAGIC: "NFS", unix.SMB_SUPER_MAGIC: "SMB", unix.SMB2_SUPER_MAGIC: "SMB", 0xff534d42: "SMB", 0x65735546: "FUSE"}
	brief = map[int64]bool{unix.TMPFS_MAGIC: true, unix.RAMFS_MAGIC: true}
)

// disk looks at the file system that holds the job store.
func disk(r *report, dir string) {
	var vfs unix.Statfs_t
	if err := unix.Statfs(dir, &vfs); err != nil {
		r.bad(Problem, "", "The file system of %s cannot be looked at: %v.", dir, err)
		return
	}
	if vfs.Flags&unix.ST_RDONLY != 0 {
		r.bad(Problem, "mount it writable", "The file system that holds %s is read-only.", dir)
	} else if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); errors.Is(err, unix.EROFS) {
		r.bad(Problem, "mount it writable", "The file system that holds %s is read-only.", dir)
	}
	kind, block := int64(vfs.Type), int64(vfs.Bsize) //nolint:unconvert // smaller on other processors
	if name := far[kind]; name != "" {
		r.bad(Warning, "let XDG_STATE_HOME, or --state, name a directory of a local disk", "The job store in %s is on a file system of another machine (%s), whose locks and syncs are slow, or mean little.", dir, name)
	}
	if brief[kind] {
		r.bad(Warning, "let XDG_STATE_HOME, or --state, name a directory of a disk", "The job store in %s is in memory: its jobs are gone when the machine ends.", dir)
	}
	switch free := int64(vfs.Bavail) * block; {
	case free < room:
		r.bad(Problem, "make room: without it no job can be added or changed", "The disk that holds the job store in %s has %d MiB left.", dir, free>>20)
	case free < roomy:
		r.bad(Warning, "make room", "The disk that holds the job store in %s has %d MiB left.", dir, free>>20)
	default:
		r.ok("The job store is in %s, with %d GiB of room.", dir, free>>30)
	}
}

// synchronised reports whether something keeps the kernel's clock right, or that is not known.
func synchronised() bool {
	var t unix.Timex // without modes nothing is set
	state, err := unix.Adjtimex(&t)
	return err != nil || state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

// unitDirs are where systemd looks for the units of the machine.
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// units looks at the units of the service of all users, and at what belongs to them.
func units(ctx context.Context, r *report) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		r.ok("This machine does not run systemd: who wants the service at each start starts it otherwise.")
		return
	}
	unit := ""
	for _, dir := range unitDirs {
		if b, err := os.ReadFile(filepath.Join(dir, "ebb.service")); err == nil {
			unit = string(b)
			break
		}
	}
	if unit == "" {
		r.ok("There is no service of all users (docs/service.md tells how to have one).")
		return
	}
	for line := range strings.Lines(unit) {
		if words := strings.Fields(strings.TrimPrefix(line, "ExecStart=")); strings.HasPrefix(line, "ExecStart=") && len(words) > 0 {
			if _, err := os.Stat(words[0]); err != nil {
				r.bad(Problem, "install it there, or write its place into ExecStart", "The unit ebb.service starts %s, which is not there.", words[0])
			}
		}
	}
	if _, err := os.Stat("/usr/share/polkit-1/actions/org.ebb.policy"); err != nil {
		r.bad(Warning, "install packaging/polkit/org.ebb.policy in /usr/share/polkit-1/actions", "Polkit does not know org.ebb.manage-all: only root administers the jobs of all users.")
	}
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return // said of the signals
	}
	defer func() { _ = conn.Close() }()
	for _, name := range []string{"ebb.socket", "ebb.service"} {
		var path dbus.ObjectPath
		manager := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
		if manager.CallWithContext(ctx, "org.freedesktop.systemd1.Manager.GetUnit", 0, name).Store(&path) != nil {
			r.bad(Warning, "`sudo systemctl enable --now "+name+"`", "The unit %s is installed and not loaded.", name)
			continue
		}
		v, err := conn.Object("org.freedesktop.systemd1", path).GetProperty("org.freedesktop.systemd1.Unit.ActiveState")
		if is, ok := v.Value().(string); err == nil && ok {
			switch is {
			case "failed":
				r.bad(Problem, "`journalctl -u "+name+"` says why; then `sudo systemctl restart "+name+"`", "The unit %s has failed.", name)
			case "inactive":
				r.bad(Warning, "`sudo systemctl enable --now "+name+"`", "The unit %s does not run.", name)
			default:
				r.ok("The unit %s is %s.", name, is)
			}
		}
	}
}

// signals looks for those who tell what the network costs, how the machine is powered and who is logged on.
func signals(ctx context.Context, r *report, running *bits.Service) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		r.bad(Warning, "on a machine that has one: `systemctl start dbus`; policy can say what the network costs (cost.network)", "The system's message bus cannot be reached: it is not known what the network costs, how the machine is powered, or who is logged on.")
	} else {
		defer func() { _ = conn.Close() }()
		for _, s := range []struct{ name, bus, tells string }{
			{"NetworkManager", "org.freedesktop.NetworkManager", "what the network costs"},
			{"UPower", "org.freedesktop.UPower", "whether the machine runs on battery"},
			{"logind", "org.freedesktop.login1", "who is logged on"},
		} {
			var has bool
			err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, s.bus).Store(&has)
			switch {
			case err != nil:
				r.bad(Warning, "", "The system's message bus does not answer: %v.", err)
				return
			case has:
				r.ok("%s tells %s.", s.name, s.tells)
			default: // a server need not have it
				r.ok("There is no %s: %s is not known.", s.name, s.tells)
			}
		}
	}
	if running != nil && !running.Conditions.Online {
		r.bad(Warning, "jobs go on when there is one", "The service sees no network.")
	}
}

// kernel looks at what the kernel can, of what makes transfers cheap.
func kernel(r *report) {
	var name unix.Utsname
	release := "?"
	if unix.Uname(&name) == nil {
		release = unix.ByteSliceToString(name.Release[:])
	}
	const dontCache = 0x80 // RWF_DONTCACHE
	if self, err := os.Open("/proc/self/exe"); err == nil {
		b := make([]byte, 512)
		_, err := unix.Preadv2(int(self.Fd()), [][]byte{b}, 0, dontCache)
		_ = self.Close()
		if err == nil {
			r.ok("The kernel, %s, keeps what is written out of its cache when it is told to.", release)
		} else {
			r.ok("The kernel, %s, or the file system of this program has no RWF_DONTCACHE: where O_DIRECT is not to be had, transfers go through its cache.", release)
		}
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_timestamps"); err == nil && string(bytes.TrimSpace(b)) == "0" {
		r.bad(Warning, "`sysctl net.ipv4.tcp_timestamps=1`", "TCP timestamps are off: background transfers measure the network's delays less often, and give way later.")
	}
}
