package scenario

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/test/servers"
	"github.com/ebbtransfer/ebb/test/tap"
)

// uploaded is an upload job of the test.
type uploaded struct {
	file, url string
	priority  bits.Priority
	reply     bool
}

// upload makes an upload job by BITS and starts it.
func (s *service) upload(u uploaded) *client.Job {
	s.t.Helper()
	name, kind, protocol := s.t.Name(), bits.Upload, bits.ProtocolBITS
	if u.reply {
		kind = bits.UploadReply
	}
	job, err := s.Create(s.ctx(), bits.NewJob{Type: kind, Resume: true, Files: []bits.FileSpec{{Remote: u.url, Local: u.file}},
		Settings: bits.Settings{Name: &name, Priority: &u.priority, Protocol: &protocol}})
	if err != nil {
		s.t.Fatal(err)
	}
	return job
}

// source writes a file of random bytes for an upload.
func (s *service) source(name string, size int, seed byte) (path string, data []byte) {
	s.t.Helper()
	data = make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	path = filepath.Join(s.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path, data
}

func TestUploadByBITS(t *testing.T) {
	t.Parallel()
	srv := startServing(t, "", "--uploads")
	s := start(t, options{})
	for i, size := range []int{0, 1, 100 * kib, 30*mib + 1} {
		for _, p := range []bits.Priority{bits.Foreground, bits.Low} {
			name := fmt.Sprintf("a b-%d-%d", size, p)
			file, data := s.source(name, size, byte(i))
			job := s.upload(uploaded{file: file, url: srv.url + "/" + strings.ReplaceAll(name, " ", "%20"), priority: p})
			info := s.settled(job, bits.Transferred)
			if info.Progress.BytesTransferred != int64(size) || info.ErrorCount != 0 {
				t.Errorf("%s: %+v", name, info)
			}
			srv.isFile(name, string(data))
			s.complete(job)
		}
	}
	// What exists may not be overwritten unless the server says so.
	file, _ := s.source("again", 10, 9)
	job := s.upload(uploaded{file: file, url: srv.url + "/a%20b-1-0"})
	info := s.settled(job, bits.Errored)
	if info.Error == nil || info.Error.Code != bits.AccessDenied.Name() || info.Error.Context != bits.ContextRemoteFile {
		t.Errorf("the error is %+v", info.Error)
	}
}

func TestUploadByBITSOverTLS(t *testing.T) {
	t.Parallel()
	srv := startServing(t, "", "--uploads", "--self-signed")
	s := start(t, options{})
	file, data := s.source("secret", 20*mib, 3)
	job := s.upload(uploaded{file: file, url: srv.url + "/secret"})
	if info := s.settled(job, bits.Errored); info.Error == nil || info.Error.Code != bits.CertUntrusted.Name() {
		t.Errorf("with an unknown certificate: %+v", info.Error)
	}
	s.kill9()
	s.env = append(s.env, "SSL_CERT_FILE="+filepath.Join(srv.home, "state", "self-signed.pem"))
	s.up()
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	s.settled(job, bits.Transferred)
	srv.isFile("secret", string(data))
	s.complete(job)
}

func TestUploadReplyByBITS(t *testing.T) {
	t.Parallel()
	var fails atomic.Int32
	fails.Store(1)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if fails.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "%d bytes for %s", len(body), r.Header.Get("BITS-Original-Request-URL"))
	}))
	defer app.Close()
	srv := startServing(t, `
[[group]]
path = "/up/"
dir = "%DIR%"
read = ["anyone"]
write = ["anyone"]
[group.uploads]
notify = "by-value"
notify_url = "`+app.URL+`/"
`)
	s := start(t, options{})
	file, data := s.source("question", 3*mib, 1)
	job := s.upload(uploaded{file: file, url: srv.url + "/up/question", reply: true})
	info := s.untilState(job, bits.TransientError)
	if info.Error == nil || info.Error.Context != bits.ContextRemoteApplication || info.Error.Code != bits.HTTPStatus(503).Name() {
		t.Errorf("the application's trouble is told as %+v", info.Error)
	}
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	s.settled(job, bits.Transferred)
	reply, err := job.ReplyData(s.ctx())
	if want := fmt.Sprintf("%d bytes for %s/up/question", len(data), srv.url); err != nil || string(reply) != want {
		t.Errorf("the reply is %q, %v, want %q", reply, err, want)
	}
	s.complete(job)
}

// TestUploadsThroughNginx has nginx before the server, with the limits and the HTTP/1.0 that it has by default.
func TestUploadsThroughNginx(t *testing.T) {
	t.Parallel()
	srv := startServing(t, "", "--uploads")
	proxy, err := servers.Nginx(srv.dir, servers.Options{Proxy: srv.url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	s := start(t, options{})
	for _, p := range []bits.Priority{bits.Foreground, bits.Normal} {
		name := fmt.Sprintf("large-%d", p)
		file, data := s.source(name, 30*mib, byte(p))
		job := s.upload(uploaded{file: file, url: proxy.URL + "/" + name, priority: p})
		if info := s.settled(job, bits.Transferred); info.ErrorCount != 0 {
			t.Errorf("%+v", info)
		}
		srv.isFile(name, string(data))
		s.complete(job)
	}
	for _, protocol := range []string{"auto", "ietf", "tus"} {
		_, data := s.source(protocol, 5*mib, 9)
		s.cli("put", "--protocol", protocol, protocol, proxy.URL+"/by-"+protocol).want(t, 0)
		srv.isFile("by-"+protocol, string(data))
	}
}

func TestCancelOfABITSUpload(t *testing.T) {
	t.Parallel()
	srv := startServing(t, "", "--uploads")
	slow := newRelay(t, srv.addr, 4*mib)
	s := start(t, options{})
	file, _ := s.source("gone", 64*mib, 1)
	job := s.upload(uploaded{file: file, url: slow.url + "/gone"})
	s.moved(job, mib)
	if _, err := job.Cancel(s.ctx()); err != nil {
		t.Fatal(err)
	}
	srv.logged("Cancel-Session")
	if _, err := os.Stat(filepath.Join(srv.dir, "gone")); !os.IsNotExist(err) {
		t.Errorf("a cancelled upload left %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a cancelled upload touched its file: %v", err)
	}
}

// relay passes connections on and counts what clients send.
type relay struct {
	url  string
	l    net.Listener
	to   string
	rate int // bytes per second and connection to the server
	sent atomic.Int64
	wg   sync.WaitGroup
}

func newRelay(t *testing.T, to string, rate int) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{url: "http://" + l.Addr().String(), l: l, to: to, rate: rate}
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.pass(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.wg.Wait()
	})
	return r
}

func (r *relay) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	r.wg.Go(func() {
		_, _ = io.Copy(client, server)
		client.Close()
	})
	buf := make([]byte, 32*kib)
	for begun, n := time.Now(), 0; ; {
		m, err := client.Read(buf)
		if err != nil {
			return
		}
		r.sent.Add(int64(m))
		n += m
		if _, err := server.Write(buf[:m]); err != nil {
			return
		}
		time.Sleep(time.Until(begun.Add(time.Duration(float64(n) / float64(r.rate) * float64(time.Second)))))
	}
}

// TestKillDuringBITSUpload kills the service or the server at random moments. Nothing is lost or
// doubled, and no kill costs more than the fragment that it cut.
func TestKillDuringBITSUpload(t *testing.T) {
	t.Parallel()
	const size, rate = 60*mib + 12345, 30 * mib
	r, n := dice(t), kills(t)
	srv := startServing(t, "", "--uploads")
	wire, err := tap.New(srv.addr, rate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wire.Close)
	s := start(t, options{})
	done, again := 0, int64(0)
	for round := 0; done < n; round++ {
		name := fmt.Sprintf("f%d", round)
		file, data := s.source(name, size, byte(round))
		wire.Forget()
		kills := 0
		job := s.upload(uploaded{file: file, url: wire.URL() + "/" + name})
		for done < n {
			time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond) // the moment is what is tested
			if s.info(job).State == bits.Transferred {
				break
			}
			done++
			kills++
			if r.IntN(2) == 0 {
				s.restart()
				continue
			}
			srv.kill9()
			srv.up()
			_ = job.Resume(s.ctx()) // if the service took the refused connections for long trouble
		}
		info := s.settled(job, bits.Transferred)
		srv.isFile(name, string(data))
		if names, err := filepath.Glob(filepath.Join(srv.dir, "[^.]*")); err != nil || len(names) != 1 {
			t.Errorf("the server has %q, %v", names, err)
		}
		wide := 0
		for _, b := range tap.Returns(wire.Fragments()) {
			// What had come of the fragment, and the one that asks where the server is.
			if b.Again > b.Cut.Passed+bupwire.MinFragment {
				t.Errorf("%d bytes were sent twice after %d bytes of a fragment", b.Again, b.Cut.Passed)
			}
			if b.Again > bupwire.MinFragment {
				wide++
			}
			again += b.Again
		}
		if wide > kills {
			t.Errorf("the client sent what it had sent %d times, for %d kills", wide, kills)
		}
		if info.Progress.BytesTransferred != size {
			t.Errorf("%+v", info.Progress)
		}
		s.complete(job)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(srv.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, sent twice: %.2f MiB on average", done, float64(again)/mib/float64(done))
}
