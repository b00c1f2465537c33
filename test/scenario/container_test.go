package scenario

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/client"
)

// containerPackages are what the container has beside Debian's essential packages.
const containerPackages = "systemd,systemd-sysv,dbus,libpam-systemd,polkitd,login,passwd"

// container is a Debian system that systemd has booted, with a network of its own. The embedded service is
// the one of all its users, once it is installed.
type container struct {
	*service
	root    string // its directory
	name    string
	stop    func()
	console bytes.Buffer // what systemd-nspawn says; read it after its end only
	cmd     *exec.Cmd
	leader  int // process 1 of the container, as it is called here
}

// startContainer makes a container and boots it. It needs root and packages of Debian, and a kernel that
// allows it: else the test is skipped. In CI only the kernel is an excuse.
func startContainer(t *testing.T) *container {
	t.Helper()
	absent := func(why string) {
		t.Helper()
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if os.Getuid() != 0 {
		absent("booting a container needs root")
	}
	for _, tool := range []string{"mmdebstrap", "systemd-nspawn", "nsenter", "apt-get"} {
		if _, err := exec.LookPath(tool); err != nil {
			absent(tool + " is missing: apt-get install mmdebstrap systemd-container")
		}
	}
	// Not t.TempDir: its name is long, and a socket's path below it would be too.
	dir, err := os.MkdirTemp("", "ebb-boot")
	must(t, err)
	c := &container{root: filepath.Join(dir, "root"), name: filepath.Base(dir)}
	c.service = &service{t: t}
	t.Cleanup(func() {
		if t.Failed() && c.leader != 0 {
			t.Logf("the end of the journal:\n%s", c.root1("journalctl", "--boot", "--lines=80", "--no-pager").out)
		}
		c.end()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c.install()
	probe := c.nspawn("--pipe", "/bin/true")
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("this machine does not let systemd-nspawn run a container: %v\n%s", err, out)
	}
	c.boot()
	return c
}

// install makes the root directory, from where this machine has its packages, or from the image that it
// made once and keeps in the user's cache directory. mmdebstrap makes what debootstrap does, in a tenth of
// the time.
func (c *container) install() {
	c.t.Helper()
	entries, err := exec.Command("apt-get", "indextargets", "--format", "$(CODENAME)\tdeb $(REPO_URI) $(RELEASE) main",
		"Created-By: Packages", "Component: main", "Origin: Debian").Output()
	must(c.t, err)
	var suite string
	var list strings.Builder
	for line := range strings.Lines(string(entries)) {
		codename, entry, _ := strings.Cut(line, "\t")
		name, rest, _ := strings.Cut(codename, "-")
		if suite == "" {
			suite = name
		}
		if name == suite && (rest == "" || rest == "updates" || rest == "security") {
			list.WriteString(entry)
		}
	}
	cache, err := os.UserCacheDir()
	must(c.t, err)
	of := sha256.Sum256([]byte(containerPackages + "\n" + list.String()))
	image := filepath.Join(cache, "ebb-test", fmt.Sprintf("%s-%x.tar", suite, of[:6]))
	if _, err := os.Stat(image); err != nil {
		must(c.t, os.MkdirAll(filepath.Dir(image), 0o700))
		began := time.Now()
		// The image appears when it is whole; one that is made at the same time is as good.
		made := filepath.Join(filepath.Dir(c.root), "image.tar")
		sources := filepath.Join(filepath.Dir(c.root), "sources.list")
		must(c.t, os.WriteFile(sources, []byte(list.String()), 0o600))
		run(c.t, "mmdebstrap", "--variant=essential", "--mode=root", "--include="+containerPackages, "--dpkgopt=force-unsafe-io",
			"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/doc/*", suite, made, sources)
		run(c.t, "cp", made, image+"."+c.name)
		must(c.t, os.Rename(image+"."+c.name, image), os.Remove(made))
		c.t.Logf("mmdebstrap took %v", time.Since(began).Round(time.Second))
	}
	must(c.t, os.Mkdir(c.root, 0o755))
	run(c.t, "tar", "--extract", "--numeric-owner", "--file="+image, "--directory="+c.root)
}

// nspawn returns a command that runs a container.
func (c *container) nspawn(args ...string) *exec.Cmd {
	cmd := exec.Command("systemd-nspawn", append([]string{"--quiet", "--directory=" + c.root, "--machine=" + c.name, "--register=no", "--keep-unit",
		"--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// boot boots the container and returns when it has.
func (c *container) boot() {
	c.t.Helper()
	c.cmd = c.nspawn("--console=pipe", "--boot")
	// At the end of its input the console would hang up.
	in, err := c.cmd.StdinPipe()
	must(c.t, err)
	c.cmd.Stdout, c.cmd.Stderr = &c.console, &c.console
	must(c.t, c.cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.cmd.Wait() // how it ends is no matter: it is killed
	}()
	c.stop = func() {
		_ = in.Close()
		if pid := c.first(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // which ends all in it
		}
		select {
		case <-ended:
		case <-time.After(patience):
			_ = c.cmd.Process.Kill()
			<-ended
		}
	}
	c.booted()
}

// first returns process 1 of the container, or 0.
func (c *container) first() int {
	pid := strconv.Itoa(c.cmd.Process.Pid)
	text, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	n, _ := strconv.Atoi(first)
	return n
}

// booted waits until the container has booted.
func (c *container) booted() {
	c.t.Helper()
	deadline := time.Now().Add(2 * patience)
	for {
		if pid := c.first(); pid != 0 {
			c.leader = pid
			switch r := c.root1("systemctl", "is-system-running", "--wait"); strings.TrimSpace(r.out) {
			case "degraded":
				c.t.Logf("units of the container failed:\n%s", c.root1("systemctl", "--failed", "--no-pager").out)
				fallthrough
			case "running":
				if c.Manager != nil {
					c.Close()
				}
				c.Manager = client.New(fmt.Sprintf("/proc/%d/root%s", pid, client.SystemSocket))
				return
			}
		}
		if time.Now().After(deadline) {
			c.leader = 0
			c.end()
			if strings.Contains(c.console.String(), "Freezing execution") {
				c.t.Skipf("this machine does not let systemd boot in a container:\n%s", c.console.String())
			}
			c.t.Fatalf("the container did not boot:\n%s", c.console.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// end ends the container.
func (c *container) end() {
	if c.Manager != nil {
		c.Close()
	}
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
}

// root1 runs a program in the container as root.
func (c *container) root1(args ...string) result { return c.enter("", nil, args...) }

// as runs a program in the container as a user without a session.
func (c *container) as(user string, args ...string) result {
	return c.enter("", nil, append(identityOf(user), args...)...)
}

// identityOf is the beginning of a command that a user of the container runs.
func identityOf(user string) []string {
	return []string{"setpriv", "--reuid=" + user, "--regid=" + user, "--init-groups", "--reset-env", "--"}
}

// script runs commands for a shell as root, with sudo and go as the documents have them.
func (c *container) script(text string) result {
	const before = "set -eu\nsudo() { \"$@\"; }\ngo() { echo /root/go; }\nexport HOME=/root\n"
	return c.enter("/root/ebb", strings.NewReader(before+text), "bash")
}

func (c *container) enter(dir string, in io.Reader, args ...string) result {
	c.t.Helper()
	if dir == "" {
		dir = "/"
	}
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(c.leader), "--all", "--wdns=" + dir, "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.Stdin = in
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// shows returns properties of a unit.
func (c *container) shows(unit, property string) string {
	c.t.Helper()
	return strings.TrimSpace(c.root1("systemctl", "show", "--property="+property, "--value", unit).want(c.t, 0).out)
}

// awaits waits for what nothing tells of.
func (c *container) awaits(what string, cond func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("never: %s", what)
		}
	}
}

// put writes a file of the container.
func (c *container) put(path, text string) {
	c.t.Helper()
	path = filepath.Join(c.root, path)
	must(c.t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
}

// documented returns the block of code that follows a text in a document.
func documented(t *testing.T, document, text string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs", document))
	must(t, err)
	_, after, ok := strings.Cut(string(b), text)
	if !ok {
		t.Fatalf("%s does not say %q", document, text)
	}
	var block strings.Builder
	for line := range strings.Lines(after) {
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case indented:
			block.WriteString(code)
		case block.Len() > 0 && strings.TrimSpace(line) != "":
			return block.String()
		}
	}
	return block.String()
}
