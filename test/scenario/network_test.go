package scenario

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// namespace is a network of its own for a service, with one cable to this machine.
type namespace struct {
	t                    *testing.T
	name, inside, beyond string // of the namespace and of the cable's ends
	host                 string // address of this machine on the cable
}

// namespaces counts those that were made.
var namespaces atomic.Int32

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	isRoot(t)
	if _, err := exec.LookPath("ip"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("ip is not installed: apt-get install iproute2")
		}
		t.Skip("ip is not installed: apt-get install iproute2")
	}
	// No name twice: the kernel takes a cable away some time after its namespace.
	number := int(namespaces.Add(1))
	id := fmt.Sprintf("%dn%d", os.Getpid()%100000, number)
	n := &namespace{t: t, name: "ebb" + id, inside: "ebbi" + id, beyond: "ebbo" + id}
	subnet := fmt.Sprintf("198.18.%d", (os.Getpid()+number)%250)
	n.host = subnet + ".1"
	if out, err := exec.Command("ip", "netns", "add", n.name).CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %s", out)
	}
	t.Cleanup(func() {
		run(t, "ip", "netns", "del", n.name) // and the cable with it
	})
	run(t, "ip", "link", "add", n.beyond, "type", "veth", "peer", "name", n.inside, "netns", n.name)
	run(t, "ip", "addr", "add", n.host+"/24", "dev", n.beyond)
	run(t, "ip", "link", "set", n.beyond, "up")
	n.ip("addr", "add", subnet+".2/24", "dev", n.inside)
	n.ip("link", "set", "lo", "up")
	n.ip("link", "set", n.inside, "up")
	return n
}

// ip runs ip inside.
func (n *namespace) ip(args ...string) {
	n.t.Helper()
	run(n.t, append([]string{"ip", "-n", n.name}, args...)...)
}

// within is what begins a command that runs inside, where names of a domain are asked of this machine.
func (n *namespace) within(domain string) []string {
	n.t.Helper()
	conf := filepath.Join(n.t.TempDir(), "resolv.conf")
	must(n.t, os.WriteFile(conf, []byte("nameserver "+n.host+"\nsearch "+domain+"\n"), 0o644))
	// ip gives it a table of mounts of its own, too.
	return []string{"ip", "netns", "exec", n.name, "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, conf}
}

// names answers questions of the DNS that are asked inside: it knows some names, by IPv4.
func (n *namespace) names(addrs map[string]string) {
	n.t.Helper()
	c, err := net.ListenPacket("udp", n.host+":53")
	must(n.t, err)
	n.t.Cleanup(func() { _ = c.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			size, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:size]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true}, Questions: m.Questions}
			addr, known := addrs[strings.ToLower(q.Name.String())]
			switch {
			case !known:
				answer.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				answer.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: &dnsmessage.AResource{A: netip.MustParseAddr(addr).As4()}}}
			}
			if packed, err := answer.Pack(); err == nil {
				_, _ = c.WriteTo(packed, from)
			}
		}
	}()
}

// TestServersDoNotLeadInside: what a name means that a server sends a job to is looked at when a connection is
// made, so that no name leads to what only this machine can reach. The job's owner may go there. It runs alone,
// as the next one.
func TestServersDoNotLeadInside(t *testing.T) {
	n := newNamespace(t)
	n.names(map[string]string{"files.ebb.test.": n.host, "other.ebb.test.": n.host, "trap.ebb.test.": "127.0.0.1"})
	l, err := net.Listen("tcp", n.host+":0")
	must(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	at := func(host, path string) string { return "http://" + net.JoinHostPort(host, port) + path }
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if to, ok := strings.CutPrefix(r.URL.Path, "/to/"); ok {
			http.Redirect(w, r, at(to, "/end"), http.StatusTemporaryRedirect)
			return
		}
		w.WriteHeader(http.StatusCreated)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	s := start(t, options{before: n.within("ebb.test")})
	for _, c := range []struct {
		url  string
		code bits.Code // 0 if it arrives
	}{
		{at("files.ebb.test", "/to/other.ebb.test"), 0},
		{at("files.ebb.test", "/to/trap.ebb.test"), bits.RedirectFailed},
		{at("trap.ebb.test", "/x"), bits.CannotConnect}, // nobody listens there, but it was asked for
	} {
		file, _ := s.source("up", 1000, 1)
		job := s.sends(bits.Upload, bits.Settings{Protocol: ptr(bits.ProtocolPut)}, c.url, file)
		if c.code == 0 {
			s.settled(job, bits.Transferred)
			continue
		}
		info := s.until(job, "refused", func(j *bits.Job) bool { return j.Error != nil })
		if info.Error.Code != c.code.Name() {
			t.Errorf("%s: the error is %+v, want %s", c.url, info.Error, c.code.Name())
		}
	}
}

// TestNetworkGoesAndComesBack: a job without a network waits for it and for no timer. It runs
// alone, because the services of other tests see the cable too and try their jobs again.
func TestNetworkGoesAndComesBack(t *testing.T) {
	n := newNamespace(t)
	l, err := net.Listen("tcp", n.host+":0")
	if err != nil {
		t.Fatal(err)
	}
	const size, rate = 12 * mib, 4 * mib
	content := faultserver.Content(1, size)
	srv := &http.Server{Handler: faultserver.Throttle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "file", time.Unix(1e9, 0), newSeeker(content, size))
	}), rate)}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })

	s := start(t, options{before: []string{"ip", "netns", "exec", n.name}})
	job := s.fetch("http://"+l.Addr().String()+"/file", "file")
	for i, outage := range []struct {
		name     string
		down, up func()
		code     bits.Code // empty: not looked at
	}{
		{"the interface is taken down", func() { n.ip("link", "set", n.inside, "down") }, func() { n.ip("link", "set", n.inside, "up") }, bits.NetworkDisconnected},
		{"the cable is unplugged", func() { run(t, "ip", "link", "set", n.beyond, "down") }, func() { run(t, "ip", "link", "set", n.beyond, "up") }, 0},
	} {
		s.moved(job, int64(i+1)*3*mib)
		s.untilState(job, bits.Transferring)
		before := s.info(job).ErrorCount
		began := time.Now()
		outage.down()
		info := s.untilState(job, bits.TransientError)
		t.Logf("%s: noticed after %v as %s", outage.name, time.Since(began).Round(time.Millisecond), info.Error.Code)
		if outage.code != 0 {
			isError(t, info, outage.code, bits.ContextGeneralTransport)
			if info.Times.RetryAt != nil {
				t.Errorf("%s: a timer is set to %v", outage.name, info.Times.RetryAt)
			}
			if info.ErrorCount != before {
				t.Errorf("%s: %d errors are counted, before %d", outage.name, info.ErrorCount, before)
			}
		}
		began = time.Now()
		outage.up()
		s.untilState(job, bits.Transferring)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: the job went on %v after the network was back", outage.name, took)
		}
	}
	s.settled(job, bits.Transferred)
	s.complete(job)
	if got, _ := digest(t, filepath.Join(s.dir, "file")); got != faultserver.SHA256(1, size) {
		t.Error("the file is damaged")
	}
	s.holds("file")
}
