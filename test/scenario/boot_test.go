package scenario

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// filesUnit is the server of the container.
const filesUnit = `[Unit]
Before=ebb.service
[Service]
ExecStart=/usr/local/bin/ebb-testserver --listen 127.0.0.1:8000
DynamicUser=yes
[Install]
WantedBy=multi-user.target
`

// generated is the URL of a file on it.
func generated(size, seed int) string {
	return fmt.Sprintf("http://127.0.0.1:8000/gen/%d?seed=%d", size, seed)
}

// TestBootedSystem installs the service of all users as docs/service.md says, in a container that systemd
// boots, and uses it there, with the real logind, polkit and journal.
func TestBootedSystem(t *testing.T) {
	t.Parallel()
	c := startContainer(t)
	c.prepare()
	for _, part := range []struct {
		name string
		run  func(*container)
	}{
		{"installed as documented", (*container).isInstalled},
		{"each user has jobs and files of their own", (*container).keepsUsersApart},
		{"polkit says who administers", (*container).asksPolkit},
		{"jobs wait for their owners' sessions", (*container).followsSessions},
		{"the journal tells who did what", (*container).tellsTheJournal},
		{"secrets are sealed with a key of the machine", (*container).takesTheKey},
		{"a user has a service of their own", (*container).runsForOneUser},
		{"jobs outlive the service and the machine", (*container).outlives},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			c.t = t
			part.run(c)
		})
		if c.t = t; !ok {
			break // what follows builds on it
		}
	}
}

// prepare puts into the container what the documents assume, the server, and three users.
func (c *container) prepare() {
	c.t.Helper()
	for _, dir := range []string{"/root/go/bin", "/root/ebb", "/usr/local/bin"} {
		must(c.t, os.MkdirAll(filepath.Join(c.root, dir), 0o755))
	}
	run(c.t, "cp", ebb, filepath.Join(c.root, "root/go/bin/ebb"))
	run(c.t, "cp", "-r", "../../packaging", filepath.Join(c.root, "root/ebb/packaging"))
	build := exec.Command("go", "build", "-o", filepath.Join(c.root, "usr/local/bin/ebb-testserver"), "github.com/ebbtransfer/ebb/test/faultserver/cmd/ebb-testserver")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	c.put("/etc/systemd/system/files.service", filesUnit)
	c.script("systemctl daemon-reload; systemctl enable --now files.service\nfor u in alice bob carol; do useradd --create-home $u; done").want(c.t, 0)
}

func (c *container) isInstalled() {
	c.script(documented(c.t, "service.md", "**For all users of a machine**")).want(c.t, 0)
	for _, unit := range []string{"ebb.socket", "ebb.service"} {
		if state := c.shows(unit, "ActiveState"); state != "active" {
			c.t.Errorf("%s is %s", unit, state)
		}
	}
	c.script("id ebb; systemd-analyze verify ebb.service ebb.socket packaging/systemd/system/ebb-serve.service").want(c.t, 0)
	if most := c.shows("ebb.service", "LimitCORE"); most != "0" { // it would have keys
		c.t.Errorf("a core of ebb.service has %s bytes at most", most)
	}
	// The limit is that of docs/decisions/026, in tenths.
	c.root1("systemd-analyze", "security", "--threshold=25", "--no-pager", "ebb.service").want(c.t, 0)
	stat := func(path string) string { return c.root1("stat", "--format=%U %a %F", path).want(c.t, 0).out }
	for path, want := range map[string]string{
		"/run/ebb":            "root 755 directory\n",
		client.SystemSocket:   "root 666 socket\n",
		"/var/lib/ebb":        "ebb 700 directory\n",
		"/var/lib/ebb/ebb.db": "ebb 600 regular file\n",
	} {
		if got := stat(path); got != want {
			c.t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	status := c.root1("cat", "/proc/"+c.shows("ebb.service", "MainPID")+"/status").want(c.t, 0).out
	for _, line := range []string{"CapBnd:\t00000000008000c0\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
		if !strings.Contains(status, line) {
			c.t.Errorf("of the service's process %q is not true:\n%s", line, status)
		}
	}
	if strings.Contains(status, "Uid:\t0") {
		c.t.Error("the service runs as root")
	}

	// What ebb doctor says of it, and of a unit whose program is not there. The container has no certificates.
	for _, user := range []string{"root", "alice"} {
		out := c.as(user, "ebb", "doctor").want(c.t, 1).out
		if strings.Count(out, " problem: ") != 1 {
			c.t.Errorf("ebb doctor of %s finds more than one problem:\n%s", user, out)
		}
		for _, want := range []string{"trusts no authority", "The unit ebb.socket is active.", "The unit ebb.service is active.", "logind tells who is logged on."} {
			if !strings.Contains(out, want) {
				c.t.Errorf("ebb doctor of %s does not say %q:\n%s", user, want, out)
			}
		}
		if strings.Contains(out, "Polkit does not know") {
			c.t.Errorf("ebb doctor of %s prints\n%s", user, out)
		}
	}
	const away = "sed -i s,local/bin/ebb,local/bin/none, /etc/systemd/system/ebb.service; systemctl daemon-reload; systemctl stop ebb.service ebb.socket; ebb doctor"
	if r := c.script(away); r.code != 1 || !strings.Contains(r.out, "starts /usr/local/bin/none, which is not there.") || !strings.Contains(r.out, "The unit ebb.socket does not run.") {
		c.t.Errorf("ebb doctor without a service: exit code %d\n%s%s", r.code, r.out, r.err)
	}
	c.script("sed -i s,local/bin/none,local/bin/ebb, /etc/systemd/system/ebb.service; systemctl daemon-reload; systemctl start ebb.socket ebb.service").want(c.t, 0)
}

// owned checks a file of the container: whose it is, and what it holds.
func (c *container) owned(path, user string, size, seed int) {
	c.t.Helper()
	if got := c.root1("stat", "--format=%U:%G", path).want(c.t, 0).out; got != user+":"+user+"\n" {
		c.t.Errorf("%s belongs to %s, want %s", path, got, user)
	}
	if got, _ := digest(c.t, fmt.Sprintf("/proc/%d/root%s", c.leader, path)); got != faultserver.SHA256(uint64(seed), int64(size)) {
		c.t.Errorf("%s is not what the server has", path)
	}
}

func (c *container) keepsUsersApart() {
	for seed, user := range []string{"alice", "bob"} {
		file := "/home/" + user + "/file"
		c.as(user, "ebb", "get", generated(mib, seed+1), file).want(c.t, 0)
		c.owned(file, user, mib, seed+1)
	}
	c.as("alice", "ebb", "get", generated(mib, 1), "/tmp/of-alice").want(c.t, 0)
	c.owned("/tmp/of-alice", "alice", mib, 1) // in the /tmp that all see
	// A program that is told of a job runs as its owner.
	c.begins("alice", "second", mib, 1, "--set", "notify_command=/bin/touch /home/alice/told")
	c.awaits("the notify command runs", func() bool { return c.root1("test", "-e", "/home/alice/told").code == 0 })
	if got := c.root1("stat", "--format=%U", "/home/alice/told").out; got != "alice\n" {
		c.t.Errorf("the notify command ran as %s", got)
	}

	job := c.create1("alice", "a-job-of-alice")
	for _, args := range [][]string{{"show", job}, {"cancel", job}, {"resume", job}, {"set", job, "priority=HIGH"}, {"add", job, generated(mib, 1), "/home/bob/x"}, {"own", job}, {"explain", job}} {
		if r := c.as("bob", append([]string{"ebb"}, args...)...); r.code == 0 || strings.Contains(r.out+r.err, "a-job-of-alice") {
			c.t.Errorf("bob's %s of alice's job: exit code %d\n%s%s", args[0], r.code, r.out, r.err)
		}
	}
	if r := c.as("bob", "ebb", "list").want(c.t, 0); strings.Contains(r.out, "a-job-of-alice") {
		c.t.Errorf("bob sees\n%s", r.out)
	}
	if r := c.as("alice", "ebb", "list").want(c.t, 0); !strings.Contains(r.out, "a-job-of-alice") {
		c.t.Errorf("alice sees\n%s", r.out)
	}
	// Bob's jobs write where bob may; root's where the unit lets the service.
	for _, no := range []struct{ user, path string }{{"bob", "/home/alice/from-bob"}, {"bob", "/root/from-bob"}, {"root", "/etc/from-ebb"}, {"root", "/usr/from-ebb"}} {
		if r := c.as(no.user, "ebb", "get", generated(mib, 1), no.path); r.code == 0 {
			c.t.Errorf("%s's job wrote %s", no.user, no.path)
		}
	}
	c.root1("ebb", "get", generated(mib, 1), "/root/file").want(c.t, 0)
	c.owned("/root/file", "root", mib, 1)
}

// create1 makes a job of a user and returns its id.
func (c *container) create1(user, name string, args ...string) string {
	c.t.Helper()
	return strings.TrimSpace(c.as(user, append(append([]string{"ebb", "create"}, args...), name)...).want(c.t, 0).out)
}

// begins makes a user start a job of one file, and returns it.
func (c *container) begins(user, name string, size, seed int, args ...string) *client.Job {
	c.t.Helper()
	id := c.create1(user, name, args...)
	c.as(user, "ebb", "add", id, generated(size, seed), "/home/"+user+"/"+name).want(c.t, 0)
	c.as(user, "ebb", "resume", id).want(c.t, 0)
	return c.job(id)
}

func (c *container) job(id string) *client.Job {
	c.t.Helper()
	parsed, err := bits.ParseID(id)
	must(c.t, err)
	return c.Job(parsed)
}

func (c *container) asksPolkit() {
	job := c.create1("alice", "a-job-of-alice")
	refused := func(user string) {
		c.t.Helper()
		for _, args := range [][]string{{"list", "--all-users"}, {"--admin", "cancel", job}, {"own", job}} {
			if r := c.as(user, append([]string{"ebb"}, args...)...); r.code == 0 || strings.Contains(r.out, "a-job-of-alice") {
				c.t.Errorf("%s may %s\n%s%s", user, args, r.out, r.err)
			}
		}
	}
	refused("carol")
	if state := c.shows("polkit.service", "ActiveState"); state != "active" {
		c.t.Errorf("polkit is %s: it was not asked", state)
	}
	c.script(documented(c.t, "service.md", "A rule lets a group do it without:")).want(c.t, 0)
	c.root1("usermod", "--append", "--groups", "ebb-admins", "carol").want(c.t, 0)
	// Polkit reads its rules soon after they change.
	c.awaits("carol may see all", func() bool {
		return strings.Contains(c.as("carol", "ebb", "list", "--all-users").out, "a-job-of-alice")
	})
	c.as("carol", "ebb", "show", job).want(c.t, 4) // without asking for it carol is nobody special
	c.as("carol", "ebb", "--admin", "set", job, "priority=HIGH").want(c.t, 0)
	refused("bob")
	c.as("carol", "ebb", "own", job).want(c.t, 0)
	c.as("alice", "ebb", "show", job).want(c.t, 4)
	c.as("carol", "ebb", "cancel", job).want(c.t, 0)
}

// login opens a session of a user on a terminal, which logout closes.
func (c *container) login(user string) (logout func()) {
	c.t.Helper()
	unit := "login-" + user
	c.root1("systemd-run", "--quiet", "--collect", "--unit="+unit, "sh", "-c", "sleep infinity | script --quiet --command 'login -f "+user+"' /dev/null").want(c.t, 0)
	return func() { c.root1("systemctl", "stop", unit).want(c.t, 0) }
}

// rule changes the configuration of the service.
func (c *container) rule(set string) {
	c.t.Helper()
	if r := c.root1("ebb", "policy", "set", set).want(c.t, 0); !strings.Contains(r.out, "in effect") {
		c.t.Fatalf("policy set %s: %s%s", set, r.out, r.err)
	}
}

func (c *container) followsSessions() {
	const size = 32 * mib
	// Slow enough to be still running when a session ends.
	c.rule("bandwidth.background=500 KB/s")
	job := c.begins("alice", "waiting", size, 3, "--set", "run_when=logged-on")
	c.waitsForOwner(job)
	if out := c.as("alice", "ebb", "explain", "waiting").want(c.t, 0).out; !strings.Contains(out, "is not logged on") {
		c.t.Errorf("explain prints\n%s", out)
	}
	// Somebody else's session is none of alice's.
	c.login("bob")()
	logout := c.login("alice")
	c.moved(job, 1)
	logout()
	c.waitsForOwner(job)
	// Nor is one that nobody sits at, such as cron's.
	c.root1("systemd-run", "--quiet", "--collect", "--unit=cron-alice", "--uid=alice", "--property=PAMName=login", "sleep", "infinity").want(c.t, 0)
	c.awaits("alice has a session of the class background", func() bool {
		return strings.Contains(c.root1("loginctl", "list-sessions", "--no-legend").out, "alice")
	})
	c.waitsForOwner(job)
	c.root1("systemctl", "stop", "cron-alice").want(c.t, 0)
	// When logind is started anew, nobody is taken for present meanwhile.
	untouched := c.begins("alice", "untouched", mib, 4, "--set", "run_when=logged-on", "--set", "priority=HIGH")
	c.root1("systemctl", "restart", "systemd-logind").want(c.t, 0)
	c.root1("systemctl", "restart", "ebb.service").want(c.t, 0)
	c.waitsForOwner(untouched)
	if n := c.info(untouched).Progress.BytesTransferred; n != 0 {
		c.t.Errorf("the job moved %d bytes without its owner", n)
	}

	c.root1("loginctl", "enable-linger", "alice").want(c.t, 0)
	c.settled(untouched, bits.Transferred)
	c.root1("loginctl", "disable-linger", "alice").want(c.t, 0)
	c.waitsForOwner(job)

	// The strict rule: who is not there makes no job.
	c.rule("jobs.logon=strict")
	if r := c.as("alice", "ebb", "create", "none"); r.code == 0 || !strings.Contains(r.err, "0x800704DD") {
		c.t.Errorf("alice, who is not logged on: exit code %d, %s", r.code, r.err)
	}
	logout = c.login("alice")
	c.moved(job, c.info(job).Progress.BytesTransferred+1)
	c.rule("bandwidth.background=")
	c.settled(job, bits.Transferred)
	c.as("alice", "ebb", "complete", "waiting").want(c.t, 0)
	c.owned("/home/alice/waiting", "alice", size, 3)
	logout()
	c.rule("jobs.logon=")
}

// journal returns the entries of a job.
func (c *container) journal(job string) (entries []map[string]any) {
	c.t.Helper()
	c.root1("journalctl", "--sync").want(c.t, 0)
	return decodeLines[map[string]any](c.t, c.root1("journalctl", "--output=json", "--no-pager", "EBB_JOB_ID="+job).want(c.t, 0).out)
}

func (c *container) tellsTheJournal() {
	job := c.create1("alice", "audited")
	c.as("alice", "ebb", "add", job, "http://127.0.0.1:8000/gen/1000?seed=1&X-Amz-Signature=geheim", "/tmp/audited").want(c.t, 0)
	c.as("carol", "ebb", "own", job).want(c.t, 0)
	c.as("carol", "ebb", "cancel", job).want(c.t, 0)
	uid := strings.TrimSpace(c.root1("id", "-u", "ebb").out)
	entries := c.journal(job)
	for _, want := range []map[string]string{
		{"EBB_EVENT_ID": "3", "EBB_USER": "alice", "EBB_JOB_OWNER": "alice", "EBB_JOB_NAME": "audited", "EBB_PROCESS": "ebb"},
		{"EBB_EVENT_ID": "16403", "EBB_USER": "alice", "EBB_LOCAL": "/tmp/audited"},
		{"EBB_EVENT_ID": "16388", "EBB_USER": "carol", "EBB_JOB_OWNER": "carol", "EBB_FROM": "alice", "EBB_PROCESS": "ebb"},
		{"EBB_EVENT_ID": "5", "EBB_USER": "carol"},
	} {
		found := false
		for _, e := range entries {
			all := e["_SYSTEMD_UNIT"] == "ebb.service" && e["_UID"] == uid && e["SYSLOG_IDENTIFIER"] == "ebb" && e["PRIORITY"] == "6"
			for field, value := range want {
				all = all && e[field] == value
			}
			found = found || all
		}
		if !found {
			text, _ := json.MarshalIndent(entries, "", " ")
			c.t.Errorf("the journal does not tell %v:\n%s", want, text)
		}
	}
	if all := c.root1("journalctl", "--output=json", "--unit=ebb.service").out; strings.Contains(all, "geheim") {
		c.t.Error("the journal has a secret")
	}
}

func (c *container) takesTheKey() {
	job := c.create1("alice", "secret")
	c.enter("/", strings.NewReader("geheim\n"), append(identityOf("alice"), "ebb", "credentials", "set", job, "server", "basic", "alice")...).want(c.t, 0)
	c.script(documented(c.t, "service.md", "so that a copy of the disk does not open the secrets:")).want(c.t, 0)
	if r := c.root1("test", "-e", "/var/lib/ebb/store.key"); r.code == 0 {
		c.t.Error("the key is still beside the store")
	}
	// What was sealed before opens with it.
	c.as("alice", "ebb", "add", job, generated(mib, 1), "/home/alice/secret").want(c.t, 0)
	c.as("alice", "ebb", "resume", job).want(c.t, 0)
	c.settled(c.job(job), bits.Transferred)
	if r := c.root1("test", "-e", "/var/lib/ebb/store.key"); r.code == 0 {
		c.t.Error("the service made another key beside the store")
	}
}

func (c *container) runsForOneUser() {
	c.root1("loginctl", "enable-linger", "bob").want(c.t, 0)
	uid := strings.TrimSpace(c.root1("id", "-u", "bob").want(c.t, 0).out)
	c.awaits("bob has a manager", func() bool { return c.shows("user@"+uid+".service", "ActiveState") == "active" })
	commands := documented(c.t, "service.md", "without anyone calling `ebb`:")
	c.root1("cp", "-r", "/root/ebb", "/home/bob/copy").want(c.t, 0)
	c.root1("chown", "-R", "bob:bob", "/home/bob/copy").want(c.t, 0)
	environment := append(identityOf("bob"), "env", "XDG_RUNTIME_DIR=/run/user/"+uid)
	// Left out is what is done: ebb is installed, and only a session of bob could let bob linger.
	c.enter("/home/bob/copy", strings.NewReader("set -eu\nsudo() { :; }\nloginctl() { :; }\ngo() { echo /nowhere; }\n"+commands), append(environment, "bash")...).want(c.t, 0)
	var v struct {
		Service *struct{ PID int }
	}
	c.enter("", nil, append(environment, "ebb", "version", "--json")...).want(c.t, 0).decode(c.t, &v)
	if v.Service == nil {
		c.t.Fatal("bob's ebb has no service")
	}
	cgroup := c.root1("cat", fmt.Sprintf("/proc/%d/cgroup", v.Service.PID)).want(c.t, 0).out
	if !strings.Contains(cgroup, "user@"+uid+".service") || !strings.Contains(cgroup, "ebb.service") {
		c.t.Errorf("bob's service is in\n%s", cgroup)
	}
	c.enter("", nil, append(environment, "ebb", "get", generated(mib, 7), "/home/bob/own")...).want(c.t, 0)
	c.owned("/home/bob/own", "bob", mib, 7)
	if r := c.root1("ebb", "list", "--all-users").want(c.t, 0); strings.Contains(r.out, "/home/bob/own") {
		c.t.Errorf("the service of all users had bob's job:\n%s", r.out)
	}
}

func (c *container) outlives() {
	const size = 64 * mib
	c.rule("bandwidth.background=1 MB/s")
	alices, bobs := c.begins("alice", "long", size, 5), c.begins("bob", "long", size, 6)
	c.moved(alices, mib)
	kept := c.info(alices).Progress.BytesTransferred
	goesOn := func(how string) {
		c.t.Helper()
		c.moved(alices, kept+1)
		info := c.info(alices)
		if info.Progress.BytesTransferred < kept {
			c.t.Errorf("after %s the job is at %d bytes, before at %d", how, info.Progress.BytesTransferred, kept)
		}
		kept = info.Progress.BytesTransferred
	}
	main := c.shows("ebb.service", "MainPID")
	c.root1("systemctl", "restart", "ebb.service").want(c.t, 0)
	goesOn("a restart")
	for _, signal := range []string{"KILL", "STOP"} { // a crash, and a service that hangs
		if signal == "STOP" {
			c.put("/etc/systemd/system/ebb.service.d/soon.conf", "[Service]\nWatchdogSec=5s\n")
			c.script("systemctl daemon-reload; systemctl restart ebb.service").want(c.t, 0)
			pinged := func() int { n, _ := strconv.Atoi(c.shows("ebb.service", "WatchdogTimestampMonotonic")); return n }
			first := pinged()
			c.awaits("the service tells the watchdog that it lives", func() bool { return pinged() > first })
			goesOn("a change of the unit")
		}
		main = c.shows("ebb.service", "MainPID")
		c.root1("systemctl", "kill", "--kill-whom=main", "--signal="+signal, "ebb.service").want(c.t, 0)
		c.awaits("systemd starts the service again", func() bool {
			now := c.shows("ebb.service", "MainPID")
			return now != main && now != "0" && c.shows("ebb.service", "ActiveState") == "active"
		})
		goesOn(signal)
	}
	must(c.t, os.RemoveAll(filepath.Join(c.root, "etc/systemd/system/ebb.service.d")))

	before := c.leader
	c.root1("systemctl", "reboot")
	c.awaits("the container goes down", func() bool { return syscall.Kill(before, 0) != nil })
	c.stop() // whoever kept the unit would start systemd-nspawn again now
	c.boot()
	alices, bobs = c.job(alices.ID.String()), c.job(bobs.ID.String())
	goesOn("a reboot") // without anybody calling it
	c.rule("bandwidth.background=")
	c.settled(alices, bits.Transferred)
	c.settled(bobs, bits.Transferred)
	for seed, user := range map[int]string{5: "alice", 6: "bob"} {
		c.as(user, "ebb", "complete", "long").want(c.t, 0)
		c.owned("/home/"+user+"/long", user, size, seed)
	}
}
