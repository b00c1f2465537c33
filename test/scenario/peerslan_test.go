package scenario

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/test/faultpeer"
	"github.com/ebbtransfer/ebb/test/netlab"
)

// lan is an office: an origin behind a line, and machines that share what they got from it.
type lan struct {
	t         *testing.T
	net       *netlab.Net
	four, six bool
	origin    *netlab.Machine
	server    *serving
	content   []byte
}

// newLAN makes one whose origin serves a file of so many bytes, through a line of so many bits per second; 0: as
// fast as the network.
func newLAN(t *testing.T, four, six bool, size int, line int64) *lan {
	t.Helper()
	return newLANOf(t, four, six, size, line, "--branchcache", "--branchcache-http")
}

// newLANOf is newLAN with other arguments of the origin.
func newLANOf(t *testing.T, four, six bool, size int, line int64, args ...string) *lan {
	t.Helper()
	isRoot(t)
	if why := netlab.Missing(); why != "" {
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	n, err := netlab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &lan{t: t, net: n, four: four, six: six, content: make([]byte, size)}
	_, _ = rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(l.content)
	if l.origin, err = n.Machine(four, six); err != nil {
		t.Fatal(err)
	}
	at := l.origin.Four
	if !four {
		at = l.origin.Six
	}
	l.server = newServing(t, "", append(args, "--listen", netip.AddrPortFrom(at, 8080).String())...)
	l.server.before = l.origin.Inside()
	if err := os.WriteFile(filepath.Join(l.server.dir, "file"), l.content, 0o644); err != nil {
		t.Fatal(err)
	}
	l.server.up()
	if line > 0 {
		if err := l.origin.Shape(line); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// machine adds one, of a mode: "distributed" shares with its network, "local" with nobody.
func (l *lan) machine(mode string) *service {
	l.t.Helper()
	s := l.prepare(l.cable(), mode)
	s.up()
	return s
}

// cable adds a machine on which nothing runs.
func (l *lan) cable() *netlab.Machine {
	l.t.Helper()
	m, err := l.net.Machine(l.four, l.six)
	if err != nil {
		l.t.Fatal(err)
	}
	return m
}

// prepare makes what a service on a machine needs.
func (l *lan) prepare(m *netlab.Machine, mode string) *service {
	l.t.Helper()
	return prepare(l.t, options{before: m.Inside(), args: []string{"--verbose"}, config: `[peers]
mode = "` + mode + `"
interfaces = "` + netlab.Interface + `"
plain_http = true
cache_size = "1 GiB"
`})
}

// sent returns the bytes that the origin has sent, of all kinds.
func (l *lan) sent() int64 {
	l.t.Helper()
	return l.count(l.origin, "tx_bytes")
}

// count returns what the kernel counts of a machine's interface.
func (l *lan) count(m *netlab.Machine, what string) int64 {
	l.t.Helper()
	words := append(m.Inside(), "cat", "/sys/class/net/"+netlab.Interface+"/statistics/"+what)
	out, err := exec.Command(words[0], words[1:]...).Output()
	if err != nil {
		l.t.Fatal(err)
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(out)), 10, 64)
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

// arrives waits for a job that fetches the file.
func (l *lan) arrives(s *service, job *client.Job) *bits.Job {
	l.t.Helper()
	info := s.settled(job, bits.Transferred)
	s.complete(job)
	got, err := os.ReadFile(info.Files[0].Local)
	if err != nil {
		l.t.Fatal(err)
	}
	if !bytes.Equal(got, l.content) {
		l.t.Fatalf("the file of %d bytes is not the one that the origin has", len(got))
	}
	return info
}

// get fetches the file.
func (l *lan) get(s *service, name string) *bits.Job {
	l.t.Helper()
	return l.arrives(s, s.fetch(l.server.url+"/file", name))
}

// warm leaves the file with a machine, which takes until the origin had time to describe it.
func (l *lan) warm(s *service) {
	l.t.Helper()
	for i, end := 0, time.Now().Add(patience); ; i++ {
		l.get(s, fmt.Sprintf("warm%d", i))
		c, err := s.Cache(s.ctx())
		if err != nil {
			l.t.Fatal(err)
		}
		if c.Bytes >= int64(len(l.content)) {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("%d of %d bytes are in the cache", c.Bytes, len(l.content))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestPeersOfANetwork: what one machine has the next one gets from it, and hardly anything from the origin.
func TestPeersOfANetwork(t *testing.T) {
	for _, by := range []struct {
		name      string
		four, six bool
	}{{"IPv4", true, false}, {"IPv6", false, true}, {"both", true, true}} {
		t.Run(by.name, func(t *testing.T) {
			t.Parallel()
			l := newLAN(t, by.four, by.six, 16*mib, 0)
			l.warm(l.machine("distributed"))
			m := l.cable()
			second := l.prepare(m, "off")
			second.up()
			second.cli("peers", "enable").want(t, 0)
			status := second.cli("peers", "status").want(t, 0).tellsAll(t, "distributed: ", "network        "+netlab.Interface+" ")
			for address, has := range map[netip.Addr]bool{m.Four: by.four, m.Six: by.six} {
				if has {
					status.tellsAll(t, address.String()+"/", netip.AddrPortFrom(address, 2178).String())
				}
			}
			before := l.sent()
			info := l.get(second, "file")
			sent := l.sent() - before
			f := info.Files[0]
			t.Logf("%d bytes came from peers; the origin sent %d in all", f.BytesFromPeers, sent)
			// 1 % of 16 MiB, and what small things cost: the description, headers, other packets.
			if most := int64(len(l.content)/100 + 64*kib); sent > most {
				t.Errorf("the origin sent %d bytes, more than %d", sent, most)
			}
			if f.BytesFromPeers != int64(len(l.content)) {
				t.Errorf("%d of %d bytes are said to have come from peers", f.BytesFromPeers, len(l.content))
			}
		})
	}
}

// TestPeersOfAnOriginThatChanged: what a machine has of a file that the origin has replaced, or of a secret that it
// no longer has, is of no use to others, and they get the file from the origin. Then they share it again.
func TestPeersOfAnOriginThatChanged(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte(strings.Repeat("first", 8)), 0o600))
	l := newLANOf(t, true, false, 4*mib, 0, "--branchcache", "--branchcache-http", "--branchcache-secret", secret)
	l.warm(l.machine("distributed"))
	for _, c := range []struct {
		what   string
		change func()
	}{
		{"the file", func() {
			file := filepath.Join(l.server.dir, "file")
			_, _ = rand.NewChaCha8([32]byte{1}).Read(l.content)
			must(t, os.WriteFile(file+".new", l.content, 0o644), os.Rename(file+".new", file))
		}},
		{"the secret", func() {
			l.server.stop()
			must(t, os.WriteFile(secret, []byte(strings.Repeat("other", 8)), 0o600))
			l.server.up()
		}},
	} {
		c.change()
		s := l.machine("distributed")
		if n := l.get(s, "file").Files[0].BytesFromPeers; n != 0 {
			t.Errorf("%s: %d bytes came from a machine that has what was before", c.what, n)
		}
		l.warm(s)
		if n := l.get(l.machine("distributed"), "file").Files[0].BytesFromPeers; n != int64(len(l.content)) {
			t.Errorf("%s: %d of %d bytes came from the machine that has what is there now", c.what, n, len(l.content))
		}
	}
}

// TestDigestMode: of a server that describes nothing the second machine gets a file from the first, if both know its
// checksum.
func TestDigestMode(t *testing.T) {
	t.Parallel()
	l := newLANOf(t, true, true, 8*mib, 16e6)
	var job *client.Job
	var s *service
	for range 2 {
		s = l.machine("distributed")
		s.cli("peers", "enable", "--digests").want(t, 0)
		s.cli("peers", "status").want(t, 0).tellsAll(t, "everybody who knows it")
		f := s.file(l.server.url+"/file", "file")
		f.Checksum = checksum("sha256", l.content)
		job = s.create(fetched{files: []bits.FileSpec{f}})
		l.arrives(s, job)
		s.holds("file")
	}
	f := s.info(job).Files[0]
	t.Logf("%d bytes came from the other", f.BytesFromPeers)
	if f.BytesFromPeers == 0 { // the server sends for 4 s
		t.Error("nothing came from the other")
	}
	s.cli("show", job.ID.String()).want(t, 0).tellsAll(t, " from peers")
}

// TestPeersThatBeginTogether share one download among them.
func TestPeersThatBeginTogether(t *testing.T) {
	const machines = 4
	l := newLAN(t, true, false, 24*mib, 20e6)
	var all []*service
	for range machines {
		all = append(all, l.machine("distributed"))
	}
	// The origin must have described the file before they begin: hashing it takes a moment.
	l.warm(l.machine("local"))
	before := l.sent()
	var jobs []*client.Job
	for _, s := range all {
		jobs = append(jobs, s.fetch(l.server.url+"/file", "file"))
	}
	for i, s := range all {
		l.arrives(s, jobs[i])
	}
	sent := l.sent() - before
	t.Logf("the origin sent %.2f times the file", float64(sent)/float64(len(l.content)))
	// A busy machine may be late to find the others; without them it is as many as there are machines. bench/ has
	// the target.
	if sent > 3*int64(len(l.content)) {
		t.Errorf("the origin sent %.2f times the file to %d machines", float64(sent)/float64(len(l.content)), machines)
	}
}

// TestKillDuringASharedDownload: a service that is killed while two machines share a download goes on with what it has.
func TestKillDuringASharedDownload(t *testing.T) {
	t.Parallel()
	const kills = 3
	l := newLAN(t, true, false, 32*mib, 0)
	l.warm(l.machine("local")) // the origin has described it
	if err := l.origin.Shape(40e6); err != nil {
		t.Fatal(err)
	}
	at := l.cable()
	s, beside := l.prepare(at, "distributed"), l.machine("distributed")
	s.up()
	theirs := beside.fetch(l.server.url+"/file", "file")
	before := l.count(at, "rx_bytes")
	job := s.fetch(l.server.url+"/file", "file")
	for i := range int64(kills) {
		s.moved(job, (i+1)*8*mib)
		s.kill9()
		s.nothingStray(job)
		s.up()
	}
	info := l.arrives(s, job)
	came := l.count(at, "rx_bytes") - before
	s.holds("file")
	l.arrives(beside, theirs)
	t.Logf("%d bytes came for %d, of these %d from the other; %d kills", came, len(l.content), info.Files[0].BytesFromPeers, kills)
	// What headers, descriptions, questions and answers to the other take is within a tenth.
	if most := int64(len(l.content))*11/10 + kills*lossLimit; came > most {
		t.Errorf("%d bytes came, more than %d", came, most)
	}
}

// harms runs a machine with a fault, which has a cache, until what is returned is called.
func (l *lan) harms(m *netlab.Machine, fault, dir string) (stop func()) {
	l.t.Helper()
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	words := append(m.Inside(), self, faultpeer.Acts, fault, dir)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	l.t.Cleanup(stop)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		l.t.Fatalf("the machine with a fault says %q, %v", line, err)
	}
	return stop
}

// keysIn returns the secrets of the segments in a cache that no service has open.
func keysIn(t *testing.T, dir string) (keys []peerdist.Secret) {
	t.Helper()
	c, err := cache.Open(dir, cache.Limits{Size: 1 << 40, MaxAge: time.Hour})
	must(t, err)
	defer c.Close()
	all, err := c.List()
	must(t, err)
	for _, e := range all {
		b, err := c.Read(e.ID, 0, nil)
		must(t, err)
		keys = append(keys, b.Secret)
	}
	return keys
}

// TestPeersThatDoHarm: whatever machines of the network do, and wherever there is no room, the file comes. Who lies is
// named in the log. (The other faults: internal/transfer; how long it takes: bench/.)
func TestPeersThatDoHarm(t *testing.T) {
	t.Parallel()
	l := newLAN(t, true, false, 8*mib, 0)
	at := l.cable()
	warm := l.prepare(at, "local")
	warm.up()
	l.warm(warm)
	warm.kill9()
	if err := l.origin.Shape(20e6); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(warm.state, "peers")
	keys := keysIn(t, dir)
	for _, fault := range []string{"wrong blocks", "flood of probes", "flood of matches", "vanishes"} {
		t.Run(fault, func(t *testing.T) {
			f, err := faultpeer.Find(fault)
			if err != nil {
				t.Fatal(err)
			}
			stop := l.harms(at, fault, dir)
			defer stop()
			s := l.machine("distributed").in(t)
			defer s.kill9() // the next one is not to find it
			for end := time.Now().Add(patience); ; {
				l.get(s, "file")
				if !f.Lies || s.hasLogged("a peer sent what is wrong", "peer="+at.Four.String()) {
					break
				}
				if time.Now().After(end) {
					t.Fatal("the log does not name who lied")
				}
				s.cli("cache", "clear").want(t, 0) // it had all before the other was asked
			}
			s.holds("file")
			log, err := os.ReadFile(s.log)
			must(t, err)
			tellsNoKey(t, "the log", string(log), keys)
		})
	}
	if err := at.Run("ip", "link", "set", netlab.Interface, "up"); err != nil {
		t.Fatal(err)
	}
	t.Run("no room for the cache", func(t *testing.T) {
		stop := l.harms(at, "", dir)
		defer stop()
		s := l.prepare(l.cable(), "distributed").in(t)
		peers := filepath.Join(s.state, "peers")
		must(t, os.MkdirAll(peers, 0o700))
		run(t, "mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "ebb-test", peers)
		defer run(t, "umount", peers)
		defer s.kill9()
		s.up()
		l.get(s, "file")
		s.holds("file")
	})
}
