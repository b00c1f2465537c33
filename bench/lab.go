package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/test/faultserver"
	"github.com/ebbtransfer/ebb/test/servers"
)

// installRivals is what a Debian machine needs for all subjects but change.
const installRivals = "apt-get install aria2 curl nginx"

// lab is where a subject is measured.
type lab struct {
	dir  string // on the disk to measure: downloads, and the states of services
	temp string // what must not be there: sockets, programs
	ebb  string // the program
	ca   string // file with the CA of all servers
	runs int

	closers []func()
}

// newLab makes a lab below dir, which must be on a disk. Without a binary it builds one.
func newLab(ctx context.Context, dir, binary string) (_ *lab, err error) {
	l := &lab{ebb: binary}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if fs := fileSystem(dir); fs == "tmpfs" {
		return nil, fmt.Errorf("%s is on tmpfs, where nothing is durable: name a directory on a disk with --dir", dir)
	}
	if l.dir, err = os.MkdirTemp(dir, "ebb-bench-"); err != nil {
		return nil, err
	}
	l.onClose(func() { _ = os.RemoveAll(l.dir) })
	if l.temp, err = os.MkdirTemp("", "ebb-bench-"); err != nil {
		return nil, err
	}
	l.onClose(func() { _ = os.RemoveAll(l.temp) })
	if l.ca, err = faultserver.CAFile(l.temp); err != nil {
		return nil, err
	}
	if binary == "" {
		l.ebb, err = l.build(ctx, "ebb", "github.com/ebbtransfer/ebb/cmd/ebb")
	} else {
		l.ebb, err = filepath.Abs(binary)
	}
	return l, err
}

// onClose has f called when the lab is closed, the last one first.
func (l *lab) onClose(f func()) { l.closers = append(l.closers, f) }

func (l *lab) close() {
	for _, f := range slices.Backward(l.closers) {
		f()
	}
}

// build builds a program of this module.
func (l *lab) build(ctx context.Context, name, pkg string) (string, error) {
	path := filepath.Join(l.temp, name)
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, pkg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// need checks that programs are installed.
func need(programs ...string) error {
	missing := slices.DeleteFunc(programs, func(p string) bool {
		_, err := exec.LookPath(p)
		return err == nil
	})
	if len(missing) > 0 {
		return fmt.Errorf("not installed: %s; %s", strings.Join(missing, ", "), installRivals)
	}
	return nil
}

// path returns a path on the measured disk.
func (l *lab) path(name ...string) string {
	return filepath.Join(append([]string{l.dir}, name...)...)
}

// mkdir makes a directory on the measured disk.
func (l *lab) mkdir(name string) (string, error) {
	dir := l.path(name)
	return dir, os.MkdirAll(dir, 0o755)
}

// free checks that there is room for n bytes on the measured disk.
func (l *lab) free(n int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(l.dir, &st); err != nil {
		return fmt.Errorf("find out how much is free on %s: %w", l.dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < n {
		return fmt.Errorf("there are %s free on %s, and %s are needed: use --dir or a smaller --size", size(free), l.dir, size(n))
	}
	return nil
}

// nginx starts nginx on a directory of the lab.
func (l *lab) nginx(dir string, o servers.Options) (*servers.Server, error) {
	s, err := servers.Nginx(dir, o)
	if err == nil {
		l.onClose(s.Close)
	}
	return s, err
}

// content is a file that a server serves and what must arrive.
type content struct {
	size   int64
	sha256 string
}

// generate writes a file of n bytes, so that it is in the page cache and reading it costs the
// server the same for everybody.
func generate(path string, seed uint64, n int64) (content, error) {
	f, err := os.Create(path)
	if err != nil {
		return content{}, err
	}
	h := sha256.New()
	_, err = io.CopyBuffer(io.MultiWriter(f, h), onlyReader{io.NewSectionReader(faultserver.Content(seed, n), 0, n)}, make([]byte, 1<<20))
	return content{n, hex.EncodeToString(h.Sum(nil))}, errors.Join(err, f.Close())
}

// onlyReader hides WriteTo, which would copy in small pieces.
type onlyReader struct{ io.Reader }

// check compares a file with what it must be, outside of all measured time.
func (c content) check(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, onlyReader{f}, make([]byte, 1<<20)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != c.sha256 {
		return fmt.Errorf("%s has the wrong content: SHA-256 %s, want %s", path, got, c.sha256)
	}
	return nil
}

// contender is a row of a table.
type contender struct {
	name string
	// run does the work once and returns what it cost. It checks the result, outside of that.
	run func(ctx context.Context, round int) (usage, error)
}

// race lets the contenders take turns and returns what each of them used.
func (l *lab) race(ctx context.Context, contenders []contender) ([]usages, error) {
	all := make([]usages, len(contenders))
	for round := range l.runs {
		for i := range contenders {
			// Nobody always comes after the same one.
			i = (i + round) % len(contenders)
			c := contenders[i]
			unix.Sync() // nobody pays for what another left to be written
			u, err := c.run(ctx, round)
			if err != nil {
				return nil, fmt.Errorf("%s, run %d: %w", c.name, round+1, err)
			}
			all[i] = append(all[i], u)
			note("run %d of %d: %-28s %7.3f s, CPU %7.3f s", round+1, l.runs, c.name, u.wall.Seconds(), u.cpu.Seconds())
		}
	}
	return all, nil
}

// note tells on the standard error how far things are.
func note(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// describe prints what the figures were measured on.
func (l *lab) describe() {
	var u unix.Utsname
	_ = unix.Uname(&u)
	mem, _ := procFields("/proc/meminfo")
	versions := ""
	for _, argv := range [][]string{{"curl", "--version"}, {"aria2c", "--version"}, {"/usr/sbin/nginx", "-v"}} {
		out, _ := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if v := versionPattern.FindString(string(out)); v != "" {
			versions += ", " + filepath.Base(argv[0]) + " " + v
		}
	}
	fmt.Printf("%s, Linux %s, %d processors, %s of memory, %s, %s%s. Load average at the start: %s.\n",
		time.Now().UTC().Format(time.DateOnly), unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), size(mem["MemTotal"]), fileSystem(l.dir), runtime.Version(), versions, loadAverage())
}

// versionPattern finds the version in what a program says of itself.
var versionPattern = regexp.MustCompile(`\d+\.\d+[.\d]*`)

func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	words := strings.Fields(string(b))
	return strings.Join(words[:min(3, len(words))], " ")
}

// fileSystem names the file system of a directory.
func fileSystem(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "unknown file system"
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "XFS"
	case unix.BTRFS_SUPER_MAGIC:
		return "Btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	}
	return fmt.Sprintf("file system %#x", st.Type)
}
