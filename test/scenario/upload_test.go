package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
	"github.com/ebbtransfer/ebb/test/servers"
)

// sends makes an upload job and starts it.
func (s *service) sends(kind bits.Type, set bits.Settings, url, local string) *client.Job {
	s.t.Helper()
	if set.Name == nil {
		set.Name = ptr(s.t.Name())
	}
	if set.Priority == nil {
		set.Priority = ptr(bits.Foreground)
	}
	job, err := s.Create(s.ctx(), bits.NewJob{Type: kind, Settings: set, Resume: true, Files: []bits.FileSpec{{Remote: url, Local: local}}})
	if err != nil {
		s.t.Fatal(err)
	}
	return job
}

// text makes a file to upload.
func (s *service) text(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// TestPut uploads files of all sizes by each protocol with the command line.
func TestPut(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	r := startServing(t, "", "--uploads")
	sizes := []int{0, 1, 3000, 4096, 5*mib + 7}
	// What the last answer of each says.
	last := map[string]string{"bits": "HTTP/1.1 200 OK\r\nBits-Packet-Type: Ack\r\n", "tus": "Upload-Offset: 5242887\r\n", "ietf": "Upload-Complete: ?1\r\n", "put": "HTTP/1.1 201 Created\r\n"}
	for protocol := range last {
		t.Run(protocol, func(t *testing.T) {
			s := s.in(t)
			args := []string{"put", "--protocol", protocol}
			var want, contents []string
			for i, n := range sizes {
				name := fmt.Sprintf("%s %d", protocol, n)
				_, data := s.source(name, n, byte(i))
				contents = append(contents, string(data))
				args = append(args, name)
				want = append(want, r.url+"/dir/"+strings.ReplaceAll(name, " ", "%20"))
			}
			if err := os.MkdirAll(filepath.Join(r.dir, "dir"), 0o755); err != nil {
				t.Fatal(err)
			}
			got := s.cli(append(args, r.url+"/dir")...).want(t, 0)
			if lines := strings.Split(strings.TrimSpace(got.out), "\n"); !slices.Equal(lines, want) {
				t.Errorf("it printed %q, want %q", lines, want)
			}
			if !strings.Contains(got.err, "sent in") || !strings.Contains(got.err, "protocol "+protocol) {
				t.Errorf("it said %q", got.err)
			}
			for i, n := range sizes {
				r.isFile(filepath.Join("dir", fmt.Sprintf("%s %d", protocol, n)), contents[i])
			}
			var jobs []bits.Job
			s.cli("put", "--json", "--protocol", protocol, fmt.Sprintf("%s %d", protocol, sizes[len(sizes)-1]), r.url+"/last-"+protocol).want(t, 0).decode(t, &jobs)
			if d, err := s.Job(jobs[0].ID).File(s.ctx(), 0); err != nil || !strings.Contains(d.ResponseHeaders, last[protocol]) {
				t.Errorf("the last answer is %q, %v, want %q in it", d.ResponseHeaders, err, last[protocol])
			}
		})
	}
	if out := s.cli("list", "--json").want(t, 0).out; strings.TrimSpace(out) != "[]" {
		t.Errorf("the queue has %s", out)
	}

	// One file that exists already, which may not be replaced, fails its own job only.
	s.source("new", 0, 0)
	got := s.cli("put", "--protocol", "bits", "bits 1", "new", r.url+"/dir/").want(t, 1)
	if strings.TrimSpace(got.out) != r.url+"/dir/new" || !strings.Contains(got.err, "hint:") {
		t.Errorf("it printed %q and said %q", got.out, got.err)
	}
	var jobs []bits.Job
	s.cli("put", "--json", "--progress", "none", "--protocol", "put", "bits 0", r.url+"/json").want(t, 0).decode(t, &jobs)
	if len(jobs) != 1 || jobs[0].State != bits.Acknowledged || jobs[0].Type != bits.Upload || !jobs[0].Files[0].Completed || jobs[0].Files[0].Protocol != bits.ProtocolPut {
		t.Errorf("--json printed %+v", jobs)
	}
	got = s.cli("put", "--json", "--progress", "none", "--protocol", "tus", "bits 1", r.url+"/dir/").want(t, 1)
	got.decode(t, &jobs)
	if len(jobs) != 1 || jobs[0].State != bits.Cancelled || jobs[0].Error == nil || jobs[0].Error.Code == "" || jobs[0].Files[0].Remote != r.url+"/dir/bits%201" {
		t.Errorf("--json of a failed upload printed %+v", jobs)
	}
	if want := filepath.Join(s.dir, "bits 1") + ": " + r.url + "/dir/bits%201: "; !strings.Contains(got.err, want) {
		t.Errorf("it said %q, want %q", got.err, want)
	}
	// Without a protocol the server is asked, and ebb says what it chose.
	got = s.cli("put", "bits 3000", r.url+"/auto").want(t, 0)
	if !strings.Contains(got.err, "uploaded by ietf: ") || !strings.Contains(got.err, "protocol ietf") {
		t.Errorf("it said %q", got.err)
	}
	if b, err := os.ReadFile(filepath.Join(s.dir, "bits 3000")); err != nil {
		t.Error(err)
	} else {
		r.isFile("auto", string(b))
	}
	s.cli("put", "bits 0").want(t, 2)
	s.cli("put", "none", r.url).want(t, 2)
}

// TestPutIsInterrupted presses Ctrl+C while two files are on their way.
func TestPutIsInterrupted(t *testing.T) {
	t.Parallel()
	r := startServing(t, "", "--uploads")
	slow := newRelay(t, r.addr, 4*mib)
	s := start(t, options{})
	_, a := s.source("a", 8*mib, 1)
	_, b := s.source("b", 8*mib, 2)
	for _, keep := range []bool{false, true} {
		args := []string{"put", "--protocol", "bits", "a", "b", slow.url + "/"}
		if keep {
			args = append(args, "--keep")
		}
		c := s.begin(args...)
		var jobs []*client.Job
		for len(jobs) < 2 {
			jobs = nil
			for info, err := range s.List(s.ctx(), client.ListOptions{}) {
				if err != nil {
					t.Fatal(err)
				}
				jobs = append(jobs, s.Job(info.ID))
			}
		}
		for _, job := range jobs {
			s.moved(job, 256*kib)
		}
		if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		got := c.end().want(t, 130)
		if !keep {
			for _, job := range jobs {
				if info := s.info(job); info.State != bits.Cancelled {
					t.Errorf("after Ctrl+C the job is %s; it said %q", info.State, got.err)
				}
			}
			r.forgets()
			continue
		}
		for _, job := range jobs {
			if _, err := job.Wait(s.ctx()); err != nil {
				t.Fatal(err)
			}
		}
		r.isFile("a", string(a))
		r.isFile("b", string(b))
	}
	s.holds("a", "b")
}

// TestPutByHand takes the steps of `ebb put` one by one.
func TestPutByHand(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	r := startServing(t, "", "--uploads")
	_, data := s.source("data", 100_000, 1)
	id := strings.TrimSpace(s.cli("create", "--type", "upload", "--priority", "foreground", "by hand").want(t, 0).out)
	s.cli("add", id, r.url+"/x", "data").want(t, 0)
	s.cli("add", id, r.url+"/y", "data").want(t, 1)
	s.cli("complete", id).want(t, 6)
	s.cli("resume", id).want(t, 0)
	s.cli("wait", id).want(t, 0)
	if out := s.cli("show", id).want(t, 0).out; !strings.Contains(out, "UPLOAD") || !strings.Contains(out, "to    "+r.url+"/x") || !strings.Contains(out, "with the server") || !strings.Contains(out, "by    bits") {
		t.Errorf("show prints\n%s", out)
	}
	if out := s.cli("complete", id).want(t, 0).out; !strings.Contains(out, r.url+"/x") {
		t.Errorf("complete prints %q", out)
	}
	r.isFile("x", string(data))

	// A job that is left to the service completes itself.
	id = strings.TrimSpace(s.cli("put", "--detach", "--protocol", "bits", "--background=low", "data", r.url+"/z").want(t, 0).out)
	s.cli("wait", id).want(t, 0)
	r.isFile("z", string(data))
	s.holds("data")
}

// TestUploadSurvivesKills kills the service and the server by turns in the middle of an upload.
func TestUploadSurvivesKills(t *testing.T) {
	t.Parallel()
	for _, protocol := range []bits.Protocol{bits.ProtocolTus, bits.ProtocolIETF} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			uploadWithKills(t, protocol)
		})
	}
}

func uploadWithKills(t *testing.T, protocol bits.Protocol) {
	r := startServing(t, "", "--uploads")
	slow := newRelay(t, r.addr, 8*mib)
	s := start(t, options{})
	const size = 48 * mib
	file, data := s.source("data", size, 1)
	job := s.sends(bits.Upload, bits.Settings{MinimumRetryDelay: ptr(int64(5)), Protocol: &protocol}, slow.url+"/x", file)
	for i := range 4 {
		s.until(job, "further", func(j *bits.Job) bool {
			return j.State == bits.Transferring && j.Progress.BytesTransferred >= int64(28+5*i)*mib || j.State == bits.Transferred
		})
		if i%2 == 0 {
			s.restart()
			continue
		}
		r.kill9()
		r.up()
	}
	info := s.settled(job, bits.Transferred)
	if info.Progress.BytesTransferred != size {
		t.Errorf("the job is at %+v", info.Progress)
	}
	s.complete(job)
	r.isFile("x", string(data))
	// Each kill may cost what is on its way in the buffers of both ends and of the relay between
	// them, and a request's body if the server had not all of it. An upload that starts over after
	// each sends four times its size.
	const most = size * 5 / 2
	if n := slow.sent.Load(); n > most {
		t.Errorf("%d bytes went to the server for a file of %d", n, size)
	} else {
		t.Logf("%.1f MiB went to the server for a file of %d", float64(n)/mib, size/mib)
	}
}

// TestLocalFileChanged changes the file under its upload.
func TestLocalFileChanged(t *testing.T) {
	t.Parallel()
	r := startServing(t, "", "--uploads")
	slow := newRelay(t, r.addr, 8*mib)
	s := start(t, options{})
	local, _ := s.source("data", 24*mib, 1)
	job := s.sends(bits.Upload, bits.Settings{}, slow.url+"/x", local)
	s.moved(job, mib)
	f, err := os.OpenFile(local, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("more")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	info := s.settled(job, bits.Errored)
	isError(t, info, bits.LocalFileChanged, bits.ContextLocalFile)
	if info.Error.File != local {
		t.Errorf("the error is about %q", info.Error.File)
	}
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	isError(t, s.settled(job, bits.Errored), bits.LocalFileChanged, bits.ContextLocalFile)
	if _, err := job.Cancel(s.ctx()); err != nil {
		t.Fatal(err)
	}
	r.forgets()
	if _, err := os.Lstat(filepath.Join(r.dir, "x")); err == nil {
		t.Error("the server has the file")
	}
	s.holds("data")
}

// sessions returns how many uploads the server keeps.
func (r *serving) sessions() int {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if got := r.cli("uploads", "--json"); got.code == 0 {
			return strings.Count(got.out, `"id":`)
		} else if time.Now().After(deadline) { // its socket opens a moment after its port
			r.t.Fatalf("ebb serve uploads: %s", got.err)
		}
	}
}

// forgets waits until the server keeps no upload.
func (r *serving) forgets() {
	r.t.Helper()
	for deadline := time.Now().Add(patience); r.sessions() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("the server still keeps an upload")
		}
	}
}

// TestCancelReachesAServerThatIsDown cancels while the server is away; the service is killed
// before the server comes back.
func TestCancelReachesAServerThatIsDown(t *testing.T) {
	t.Parallel()
	for _, protocol := range []bits.Protocol{bits.ProtocolBITS, bits.ProtocolTus, bits.ProtocolIETF} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			cancelWhileDown(t, protocol)
		})
	}
}

func cancelWhileDown(t *testing.T, protocol bits.Protocol) {
	r := startServing(t, "", "--uploads")
	slow := newRelay(t, r.addr, 8*mib)
	s := start(t, options{})
	file, _ := s.source("data", 24*mib, 1)
	job := s.sends(bits.Upload, bits.Settings{MinimumRetryDelay: ptr(int64(5)), Protocol: &protocol}, slow.url+"/x", file)
	s.moved(job, mib)
	if r.sessions() == 0 {
		t.Fatal("the server keeps no upload")
	}
	r.kill9()
	o, err := job.Cancel(s.ctx())
	if err != nil || o.Code != bits.OK.Name() || o.Job.State != bits.Cancelled {
		t.Fatalf("Cancel answered %+v, %v", o, err)
	}
	s.restart()
	if info := s.info(job); info.State != bits.Cancelled || info.Times.RetryAt != nil {
		t.Errorf("after the restart the job is %+v", info)
	}
	r.up()
	began := time.Now()
	r.forgets()
	t.Logf("forgotten %v after the server came back", time.Since(began))
	if _, err := os.Lstat(filepath.Join(r.dir, "x")); err == nil {
		t.Error("the server has the file")
	}
	s.holds("data")
}

// TestUploadsByPriority lets uploads of all priorities meet: the higher one goes first, and who
// was preempted goes on where it was.
func TestUploadsByPriority(t *testing.T) {
	t.Parallel()
	r := startServing(t, "", "--uploads")
	slow := newRelay(t, r.addr, 4*mib)
	s := start(t, options{})
	const size = 6 * mib
	before := slow.sent.Load()
	jobs, contents := map[bits.Priority]*client.Job{}, map[bits.Priority]string{}
	order := []bits.Priority{bits.Low, bits.Normal, bits.High}
	for _, p := range order {
		name := strings.ToLower(p.String())
		file, data := s.source(name, size, byte(p))
		contents[p] = string(data)
		jobs[p] = s.sends(bits.Upload, bits.Settings{Priority: &p}, slow.url+"/"+name, file)
		s.moved(jobs[p], 256*kib)
	}
	for _, p := range order[:2] {
		if info := s.info(jobs[p]); info.State != bits.Queued {
			t.Errorf("the job of priority %s is %s at %d bytes", p, info.State, info.Progress.BytesTransferred)
		}
	}
	for _, p := range []bits.Priority{bits.High, bits.Normal, bits.Low} {
		s.settled(jobs[p], bits.Transferred)
		s.complete(jobs[p])
		r.isFile(strings.ToLower(p.String()), contents[p])
	}
	if n := slow.sent.Load() - before; n > 3*size+4*mib {
		t.Errorf("%.1f MiB went to the server for three files of %d MiB", float64(n)/mib, size/mib)
	}
}

// application is what a server tells of uploads.
type application struct {
	*httptest.Server
	answer func(body []byte) []byte
}

// applies runs an application that answers to what it is given.
func applies(t *testing.T, answer func(body []byte) []byte) *application {
	a := &application{answer: answer}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		_, _ = w.Write(a.answer(b))
	}))
	t.Cleanup(a.Close)
	return a
}

// TestUploadReply has an application answer to files.
func TestUploadReply(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	_, large := s.source("large", 3*mib, 9)
	app := applies(t, func(body []byte) []byte {
		switch string(body) {
		case "nothing":
			return nil
		case "much":
			return large
		case "the most":
			return large[:bits.MaxReplyData]
		case "one more":
			return large[:bits.MaxReplyData+1]
		}
		return fmt.Appendf(nil, "%d bytes", len(body))
	})
	r := startServing(t, fmt.Sprintf("[[group]]\npath = \"/\"\ndir = \"%%DIR%%\"\n[group.uploads]\nnotify = \"by-value\"\nnotify_url = %q\n", app.URL))

	t.Run("to a file", func(t *testing.T) {
		s := s.in(t)
		s.source("order", 100_000, 1)
		out := s.cli("put", "--reply", "answer", "order", r.url+"/1").want(t, 0).out
		if !strings.Contains(out, r.url+"/1") {
			t.Errorf("it printed %q", out)
		}
		if b, err := os.ReadFile(filepath.Join(s.dir, "answer")); err != nil || string(b) != "100000 bytes" {
			t.Errorf("the reply is %q, %v", b, err)
		}
	})
	t.Run("to the standard output", func(t *testing.T) {
		s := s.in(t)
		s.text("order", "much")
		if got := s.cli("put", "--reply", "-", "order", r.url+"/2").want(t, 0); got.out != string(large) {
			t.Errorf("it printed %d bytes", len(got.out))
		}
	})
	t.Run("by steps", func(t *testing.T) {
		s := s.in(t)
		s.text("order", "12345")
		reply := filepath.Join(s.dir, "reply")
		job := s.sends(bits.UploadReply, bits.Settings{ReplyFile: &reply}, r.url+"/3", filepath.Join(s.dir, "order"))
		info := s.settled(job, bits.Transferred)
		want := bits.Reply{Remote: info.Reply.Remote, File: reply, BytesTotal: 7, BytesTransferred: 7}
		if *info.Reply != want || want.Remote == "" || info.Progress.FilesTransferred != 1 || info.Progress.BytesTotal != 5 {
			t.Errorf("the job is %+v, its reply %+v", info, info.Reply)
		}
		if _, err := os.Stat(reply); err == nil {
			t.Error("the reply file is there before Complete")
		}
		data, err := job.ReplyData(s.ctx())
		if err != nil || string(data) != "5 bytes" {
			t.Errorf("the reply is %q, %v", data, err)
		}
		if err := job.Set(s.ctx(), bits.Settings{ReplyFile: ptr(reply + "2")}); !errors.Is(err, &bits.Error{Code: bits.InvalidState}) {
			t.Errorf("another name for a reply that is here: %v", err)
		}
		s.complete(job)
		if info := s.info(job); !info.Reply.Completed {
			t.Errorf("the reply is %+v", info.Reply)
		}
		if b, err := os.ReadFile(reply); err != nil || string(b) != "5 bytes" {
			t.Errorf("the reply file has %q, %v", b, err)
		}
		if data, err = job.ReplyData(s.ctx()); err != nil || string(data) != "5 bytes" {
			t.Errorf("after Complete the reply is %q, %v", data, err)
		}
	})
	t.Run("larger than data may be", func(t *testing.T) {
		s := s.in(t)
		job := s.sends(bits.UploadReply, bits.Settings{}, r.url+"/4", s.text("much", "much"))
		info := s.settled(job, bits.Transferred)
		if _, err := job.ReplyData(s.ctx()); !errors.Is(err, &bits.Error{Code: bits.TooLarge}) {
			t.Errorf("the data of a large reply: %v", err)
		}
		s.complete(job)
		if b, err := os.ReadFile(info.Reply.File); err != nil || !bytes.Equal(b, large) || filepath.Dir(info.Reply.File) != s.dir {
			t.Errorf("the reply file %s has %d bytes, %v", info.Reply.File, len(b), err)
		}
	})
	t.Run("as large as data may be", func(t *testing.T) {
		s := s.in(t)
		for n, order := range []string{"the most", "one more"} {
			job := s.sends(bits.UploadReply, bits.Settings{}, fmt.Sprintf("%s/limit-%d", r.url, n), s.text(order, order))
			s.settled(job, bits.Transferred)
			data, err := job.ReplyData(s.ctx())
			if n == 0 && (err != nil || !bytes.Equal(data, large[:bits.MaxReplyData])) || n == 1 && !errors.Is(err, &bits.Error{Code: bits.TooLarge}) {
				t.Errorf("%s: %d bytes, %v", order, len(data), err)
			}
			s.complete(job)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		s := s.in(t)
		job := s.sends(bits.UploadReply, bits.Settings{}, r.url+"/5", s.text("nothing", "nothing"))
		info := s.settled(job, bits.Transferred)
		if data, err := job.ReplyData(s.ctx()); err != nil || len(data) != 0 {
			t.Errorf("the data of no reply: %q, %v", data, err)
		}
		s.complete(job)
		if st, err := os.Stat(info.Reply.File); err != nil || st.Size() != 0 {
			t.Errorf("the file of no reply: %v, %v", st, err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		s := s.in(t)
		s.dir = t.TempDir()
		job := s.sends(bits.UploadReply, bits.Settings{}, r.url+"/6", s.text("order", "12345"))
		s.settled(job, bits.Transferred)
		if _, err := job.Cancel(s.ctx()); err != nil {
			t.Fatal(err)
		}
		s.holds("order")
	})
	if n := r.sessions(); n != 0 {
		t.Errorf("the server keeps %d uploads", n)
	}
}

// TestUploadsOfAnotherMethod: a method of the job's own is that of all packets of BITS's protocol and of
// the one request that takes the place of PUT; the job is FOREGROUND, and its errors are fatal.
func TestUploadsOfAnotherMethod(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	app := applies(t, func(body []byte) []byte { return fmt.Appendf(nil, "%d bytes", len(body)) })
	r := startServing(t, fmt.Sprintf("[[group]]\npath = \"/\"\ndir = \"%%DIR%%\"\n[group.uploads]\nnotify = \"by-value\"\nnotify_url = %q\n", app.URL))
	behind, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	relay := httputil.NewSingleHostReverseProxy(behind)
	var mu sync.Mutex
	seen, posted := map[string]int{}, map[string]string{} // guarded by mu
	// What knows no BITS_POST stands before the server.
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		packet := req.Header.Get("BITS-Packet-Type")
		mu.Lock()
		seen[req.Method+" "+packet]++
		mu.Unlock()
		switch {
		case req.Method != "POST" && req.Method != "GET":
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		case strings.HasSuffix(req.URL.Path, "/busy"):
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case packet != "":
			req.Method = "BITS_POST"
		case req.Method == "POST":
			body, _ := io.ReadAll(req.Body)
			mu.Lock()
			posted[req.URL.Path] = string(body)
			mu.Unlock()
			return
		}
		relay.ServeHTTP(w, req)
	}))
	t.Cleanup(front.Close)
	set := func(p bits.Protocol) bits.Settings {
		return bits.Settings{Protocol: &p, Priority: ptr(bits.Foreground), Options: bits.Options{HTTPMethod: ptr("POST")}}
	}
	order := s.text("order", "12345")

	job := s.sends(bits.UploadReply, set(bits.ProtocolBITS), front.URL+"/1", order)
	s.settled(job, bits.Transferred)
	if data, err := job.ReplyData(s.ctx()); err != nil || string(data) != "5 bytes" {
		t.Errorf("the reply is %q, %v", data, err)
	}
	if m, err := job.HTTPMethod(s.ctx()); m != "POST" || err != nil {
		t.Errorf("the method is %q, %v", m, err)
	}
	if info := s.info(job); info.Priority != bits.Foreground {
		t.Errorf("the priority is %s", info.Priority)
	}
	if err := job.Set(s.ctx(), bits.Settings{Priority: ptr(bits.Low)}); !errors.Is(err, &bits.Error{Code: bits.NotWithCustomMethod}) {
		t.Errorf("another priority: %v", err)
	}
	for _, p := range []bits.Protocol{bits.ProtocolPut, bits.ProtocolAuto} {
		job := s.sends(bits.Upload, set(p), front.URL+"/"+string(p), order)
		if info := s.settled(job, bits.Transferred); info.Files[0].Protocol != bits.ProtocolPut {
			t.Errorf("%s: uploaded by %s", p, info.Files[0].Protocol)
		}
		mu.Lock()
		if got := posted["/"+string(p)]; got != "12345" {
			t.Errorf("%s: %q arrived", p, got)
		}
		mu.Unlock()
		isError(t, s.settled(s.sends(bits.Upload, set(p), front.URL+"/busy", order), bits.Errored), bits.HTTPStatus(503), bits.ContextRemoteFile)
	}
	isError(t, s.settled(s.sends(bits.Upload, set(bits.ProtocolBITS), front.URL+"/busy", order), bits.Errored), bits.HTTPStatus(503), bits.ContextRemoteFile)
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"POST Create-Session", "POST Fragment", "POST Close-Session", "POST ", "GET "} { // the last one is the reply
		if seen[want] == 0 {
			t.Errorf("there was no %s", want)
		}
		delete(seen, want)
	}
	if len(seen) > 0 {
		t.Errorf("there were also %v", seen)
	}

	// A file as the target, and a bucket, know no method.
	for _, target := range []string{"file://" + filepath.Join(s.dir, "copy"), "s3://bucket/key"} {
		_, err := s.Create(s.ctx(), bits.NewJob{Type: bits.Upload, Settings: bits.Settings{Name: ptr("n"), Protocol: ptr(bits.ProtocolAuto), Options: bits.Options{HTTPMethod: ptr("POST")}},
			Files: []bits.FileSpec{{Remote: target, Local: order}}})
		if !errors.Is(err, &bits.Error{Code: bits.NotWithCustomMethod}) {
			t.Errorf("an upload to %s: %v", target, err)
		}
	}
	// The usual method is none of the job's own.
	usual := s.sends(bits.Upload, bits.Settings{Priority: ptr(bits.Low), Options: bits.Options{HTTPMethod: ptr("BITS_POST")}}, r.url+"/usual", order)
	s.settled(usual, bits.Transferred)
	if m, err := usual.HTTPMethod(s.ctx()); m != "BITS_POST" || err != nil {
		t.Errorf("the usual method is %q, %v", m, err)
	}
}

// TestUploadReplyWithCredentials has the URL of the upload name the user who may read the reply, too.
func TestUploadReplyWithCredentials(t *testing.T) {
	t.Parallel()
	app := applies(t, func(body []byte) []byte { return fmt.Appendf(nil, "%d bytes", len(body)) })
	setup := newServing(t, "") // only for its verb
	c := setup.prepareServe("password")
	c.cmd.Stdin = strings.NewReader("secret\n")
	hash := c.begin().end().want(t, 0).out
	r := startServing(t, fmt.Sprintf("[users.alice]\n%s\n[[group]]\npath = \"/\"\ndir = \"%%DIR%%\"\nread = [\"alice\"]\nwrite = [\"alice\"]\n[group.uploads]\nnotify = \"by-value\"\nnotify_url = %q\n", hash, app.URL))
	s := start(t, options{})
	job := s.sends(bits.UploadReply, bits.Settings{}, strings.Replace(r.url, "://", "://alice:secret@", 1)+"/1", s.text("order", "12345"))
	if info := s.settled(job, bits.Transferred); info.Reply == nil || strings.Contains(info.Reply.Remote, "secret") {
		t.Errorf("the reply is %+v", info.Reply)
	}
	if data, err := job.ReplyData(s.ctx()); err != nil || string(data) != "5 bytes" {
		t.Errorf("the reply is %q, %v", data, err)
	}
	s.complete(job)
}

// TestReplyGoesOn kills the service, and gives the reply another name, while the file and its reply
// are on their way; the application has the reply on another server, to which the owner's headers
// do not travel.
func TestReplyGoesOn(t *testing.T) {
	t.Parallel()
	elsewhere := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	const size = 16 * mib
	e := elsewhere.File("/reply", faultserver.File{Seed: 1, Size: size})
	e.Set(func(p *faultserver.Program) { p.Rate = 8 * mib })
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("BITS-Static-Response-URL", elsewhere.URL()+"/reply")
	}))
	t.Cleanup(app.Close)
	r := startServing(t, fmt.Sprintf("[[group]]\npath = \"/\"\ndir = \"%%DIR%%\"\n[group.uploads]\nnotify = \"by-value\"\nnotify_url = %q\n", app.URL))
	slow := newRelay(t, r.addr, 8*mib)
	s := start(t, options{})
	file, _ := s.source("order", 8*mib, 1)
	reply := filepath.Join(s.dir, "reply")
	job := s.sends(bits.UploadReply, bits.Settings{Headers: &[]string{"X-Secret: 1"}}, slow.url+"/x", file)
	s.moved(job, mib)
	if err := job.Set(s.ctx(), bits.Settings{ReplyFile: &reply}); err != nil {
		t.Errorf("another name while the file is on its way: %v", err)
	}
	s.until(job, "fetching the reply", func(j *bits.Job) bool { return j.State == bits.Transferring && j.Reply.BytesTransferred > 2*mib })
	if err := job.Set(s.ctx(), bits.Settings{ReplyFile: ptr(reply + "2")}); !errors.Is(err, &bits.Error{Code: bits.InvalidState}) {
		t.Errorf("another name while the reply is on its way: %v", err)
	}
	s.restart()
	info := s.settled(job, bits.Transferred)
	if info.Reply.File != reply || info.Reply.BytesTotal != size || info.Reply.BytesTransferred != size || info.Progress.BytesTotal != 8*mib || info.Progress.FilesTotal != 1 {
		t.Errorf("the job is %+v, its reply %+v", info.Progress, info.Reply)
	}
	s.complete(job)
	s.isWhole(reply, e)
	s.holds("order", "reply")
	if n := elsewhere.Refetched("/reply"); n > lossLimit {
		t.Errorf("%d bytes of the reply were fetched twice", n)
	}
	for _, req := range elsewhere.Requests() {
		if req.Header.Get("X-Secret") != "" {
			t.Error("a header for the upload's server went to the reply's")
		}
	}
	if n := r.sessions(); n != 0 {
		t.Errorf("the server keeps %d uploads", n)
	}

	// An error of the reply is about the reply: the upload is not repeated.
	e.Set(func(p *faultserver.Program) { p.Status = http.StatusNotFound })
	before := slow.sent.Load()
	job = s.sends(bits.UploadReply, bits.Settings{}, slow.url+"/y", file)
	info = s.settled(job, bits.Errored)
	isError(t, info, bits.HTTPStatus(http.StatusNotFound), bits.ContextRemoteFile)
	if info.Error.File != info.Reply.Remote || info.Progress.FilesTransferred != 1 {
		t.Errorf("the error is about %q; the reply is %+v", info.Error.File, info.Reply)
	}
	e.Set(func(p *faultserver.Program) { p.Status = 0 })
	if err := job.Resume(s.ctx()); err != nil {
		t.Fatal(err)
	}
	s.settled(job, bits.Transferred)
	if n := slow.sent.Load() - before; n > 8*mib+mib {
		t.Errorf("%d bytes were sent for a file of %d", n, 8*mib)
	}
}

// TestUploadToNginx puts files into nginx as a WebDAV server, which knows no resuming.
func TestUploadToNginx(t *testing.T) {
	t.Parallel()
	if missing := servers.Missing(); slices.Contains(missing, "nginx") {
		t.Skipf("not installed: %v", missing)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	srv, err := servers.Nginx(dir, servers.Options{Uploads: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	slow := newRelay(t, strings.TrimPrefix(srv.URL, "http://"), 8*mib)
	s := start(t, options{})
	file, data := s.source("data", 24*mib, 1)
	job := s.sends(bits.Upload, bits.Settings{Protocol: ptr(bits.ProtocolPut)}, slow.url+"/x", file)
	s.moved(job, mib)
	s.restart()
	s.settled(job, bits.Transferred)
	s.complete(job)
	if got, err := os.ReadFile(filepath.Join(dir, "x")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the server has %d bytes, %v", len(got), err)
	}
	if got := s.cli("put", "data", srv.URL+"/z").want(t, 0); !strings.Contains(got.err, "uploaded by put: ") {
		t.Errorf("it said %q", got.err)
	}
	// What nginx refuses is an error that a person understands.
	job = s.sends(bits.Upload, bits.Settings{Protocol: ptr(bits.ProtocolBITS)}, srv.URL+"/y", filepath.Join(s.dir, "data"))
	info := s.settled(job, bits.Errored)
	isError(t, info, bits.HTTPStatus(http.StatusMethodNotAllowed), bits.ContextRemoteFile)
}
