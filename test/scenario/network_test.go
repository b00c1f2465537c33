package scenario

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// namespace is a network of its own for a service, with one cable to this machine.
type namespace struct {
	t                    *testing.T
	name, inside, beyond string // of the namespace and of the cable's ends
	host                 string // address of this machine on the cable
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	isRoot(t)
	if _, err := exec.LookPath("ip"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("ip is not installed: apt-get install iproute2")
		}
		t.Skip("ip is not installed: apt-get install iproute2")
	}
	id := os.Getpid() % 10000
	n := &namespace{t: t, name: fmt.Sprintf("ebb%d", id), inside: fmt.Sprintf("ebbi%d", id), beyond: fmt.Sprintf("ebbo%d", id)}
	subnet := fmt.Sprintf("198.18.%d", id%250)
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
