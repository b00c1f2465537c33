package scenario

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/test/servers"
)

func TestServeWithNothingSetUp(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--uploads")
	s.do("PUT", "/a.bin", "first").want(t, 201)
	s.isFile("a.bin", "first")
	r := s.do("GET", "/a.bin", "", "Range", "bytes=1-2").want(t, 206)
	if r.body != "ir" || r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Content-Disposition") != "attachment" {
		t.Error(r.body, r.Header)
	}
	// What exists stays.
	s.do("PUT", "/a.bin", "second").want(t, 403)
	s.do("PUT", "/a.bin", "second", "If-None-Match", "*").want(t, 412)
	s.do("PUT", "/b.bin", "second", "If-None-Match", "*").want(t, 201)
	s.do("PUT", "/c.bin", "x", "If-Match", "*").want(t, 412)
	// What cannot be a file is none.
	for path, status := range map[string]int{
		"/": 400, "/dir/": 400, "/none/a": 404, "/.ebb-uploads/x/y": 400, "/..%2fx": 404, "/a%00b": 404, "/a.bin/b": 404, "/BITS-Sessions/x": 404, "/a%5cb": 404,
	} {
		if r := s.do("PUT", path, "x"); r.StatusCode != status {
			t.Errorf("PUT %s: %d %q, want %d", path, r.StatusCode, r.body, status)
		}
	}
	s.do("PUT", "/part", "x", "Content-Range", "bytes 0-0/2").want(t, 400)
	s.do("DELETE", "/a.bin", "").want(t, 405)
	s.do("GET", "/", "").want(t, 404)
	// A length that nobody knows.
	if a, err := request(http.DefaultClient, "PUT", s.url+"/chunked", io.MultiReader(strings.NewReader("un"), strings.NewReader("known"))); err != nil || a.StatusCode != 201 {
		t.Fatal(a, err)
	}
	s.isFile("chunked", "unknown")
	// What breaks off is nothing.
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(c, "PUT /half HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this")
	_ = c.Close()
	s.logged(`path=/half status=400`)
	s.do("GET", "/half", "").want(t, 404)
	if r := s.do("OPTIONS", "/", ""); r.Header.Get("Tus-Version") != "1.0.0" || r.Header.Get("Upload-Limit") == "" {
		t.Error(r.Header)
	}
	s.logged(`method=PUT path=/a.bin status=403`)
	s.logged(`why="create an upload: the target exists"`)
	if left := names(t, filepath.Join(s.dir, ".ebb-uploads")); len(left) > 1 {
		t.Errorf("left over: %q", left)
	}
	if took := s.stop(); took > 3*time.Second {
		t.Errorf("an idle server took %v to stop", took)
	}
}

func TestServeWithoutUploadsTakesNone(t *testing.T) {
	t.Parallel()
	s := startServing(t, "")
	s.do("PUT", "/a", "x").want(t, 405)
	r := s.do("BITS_POST", "/a", "", "BITS-Packet-Type", "Create-Session").want(t, 501)
	if r.Header.Get("BITS-Error-Code") != "0x80070005" || r.Header.Get("BITS-Error-Context") != "0x5" || r.body != "" {
		t.Errorf("%v %q", r.Header, r.body)
	}
	s.do("POST", "/a", "", "Tus-Resumable", "1.0.0", "Upload-Length", "1").want(t, 405)
	if len(names(t, s.dir)) > 0 {
		t.Error(names(t, s.dir))
	}
}

// Nobody gets past an application that decides what becomes of uploads.
func TestServeWithAnApplicationTakesBITSAlone(t *testing.T) {
	t.Parallel()
	s := startServing(t, "[[group]]\npath = \"/\"\ndir = \"%DIR%\"\n[group.uploads]\nnotify = \"by-value\"\nnotify_url = \"http://127.0.0.1:1/\"\n")
	for _, r := range []answer{
		s.do("PUT", "/a", "x"),
		s.do("POST", "/a", "", "Tus-Resumable", "1.0.0", "Upload-Length", "1"),
		s.do("POST", "/a", "x", "Upload-Complete", "?1", "Upload-Draft-Interop-Version", "8"),
	} {
		r.want(t, 405)
		if r.Header.Get("Allow") != "GET, HEAD, OPTIONS, BITS_POST" {
			t.Errorf("%v", r.Header)
		}
	}
	s.do("BITS_POST", "/a", "", "BITS-Packet-Type", "Create-Session", "BITS-Supported-Protocols", "{7df0354d-249b-430f-820d-3d2a9bef4931}").want(t, 200)
	if r := s.do("OPTIONS", "/a", ""); r.Header.Get("Tus-Version") != "" || r.Header.Get("Upload-Limit") != "" {
		t.Errorf("what is not taken is offered: %v", r.Header)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "a")); err == nil {
		t.Error("an upload went past the application")
	}
}

// tus makes an upload and returns the path of its URL.
func (s *serving) tus(path string, size int, headers ...string) string {
	s.t.Helper()
	r := s.do("POST", path, "", append([]string{"Tus-Resumable", "1.0.0", "Upload-Length", strconv.Itoa(size)}, headers...)...).want(s.t, 201)
	u, err := r.Location()
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Path
}

// offset asks how far an upload is.
func (s *serving) offset(upload string) int {
	s.t.Helper()
	r := s.do("HEAD", upload, "", "Tus-Resumable", "1.0.0").want(s.t, 200)
	n, err := strconv.Atoi(r.Header.Get("Upload-Offset"))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// patch sends the upload's bytes from its offset on.
func (s *serving) patch(upload string, from int, text string) (answer, error) {
	return request(http.DefaultClient, "PATCH", s.url+upload, strings.NewReader(text), "Tus-Resumable", "1.0.0", "Upload-Offset", strconv.Itoa(from),
		"Content-Type", "application/offset+octet-stream")
}

func TestServeGoesOnAfterKill(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--uploads")
	random := dice(t)
	content := strings.Repeat("0123456789abcdef", 512*kib) // 8 MiB
	upload, at := s.tus("/big", len(content)), 0
	for range kills(t) {
		n := min(len(content)-at, len(content)/kills(t))
		if n > 1 && random.IntN(2) == 0 { // while the bytes come
			r, w := io.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = request(http.DefaultClient, "PATCH", s.url+upload, r, "Tus-Resumable", "1.0.0", "Upload-Offset", strconv.Itoa(at), "Content-Type", "application/offset+octet-stream")
			}()
			_, _ = io.WriteString(w, content[at:at+1+random.IntN(n-1)])
			s.kill9()
			_ = w.CloseWithError(io.ErrUnexpectedEOF)
			<-done
		} else { // after they were acknowledged
			a, err := s.patch(upload, at, content[at:at+n])
			if err != nil || a.StatusCode != 204 {
				t.Fatal(a, err)
			}
			at += n
			s.kill9()
		}
		s.up()
		if at == len(content) {
			break
		}
		if is := s.offset(upload); is < at {
			t.Fatalf("at %d, but %d were acknowledged", is, at)
		} else {
			at = is
		}
	}
	if at < len(content) {
		if a, err := s.patch(upload, at, content[at:]); err != nil || a.StatusCode != 204 {
			t.Fatal(a, err)
		}
	}
	s.isFile("big", content)
}

// A stop cuts an upload that is under way; what came is kept.
func TestServeStopsInTheMiddle(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--uploads")
	upload := s.tus("/a", 1<<20)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := request(http.DefaultClient, "PATCH", s.url+upload, r, "Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream")
		done <- err
	}()
	if _, err := io.WriteString(w, strings.Repeat("x", 100_000)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !strings.Contains(s.metrics(), "ebb_serve_requests_running 1"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server does not get the request")
		}
	}
	if took := s.stop(); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	_ = w.Close()
	if err := <-done; err == nil {
		t.Error("the upload was answered")
	}
	s.up()
	if n := s.offset(upload); n == 0 || n > 100_000 {
		t.Errorf("at %d of the 100,000 that were sent", n)
	}
}

func TestServeThroughNginx(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--uploads")
	// As it is by default: HTTP/1.0 behind it, and no body above 1 MiB.
	front, err := servers.Nginx(s.dir, servers.Options{Proxy: s.url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	direct := s.url
	s.url = front.URL
	content := strings.Repeat("0123456789abcdef", 192*kib) // 3 MiB
	s.do("PUT", "/small", content[:mib]).want(t, 201)
	s.isFile("small", content[:mib])
	s.do("PUT", "/large", content).want(t, 413)
	upload := s.tus("/large", len(content))
	for at := 0; at < len(content); at += mib {
		if a, err := s.patch(upload, at, content[at:at+mib]); err != nil || a.StatusCode != 204 {
			t.Fatal(a, err)
		}
	}
	s.isFile("large", content)
	r := s.do("GET", "/large", "", "Range", "bytes=1048576-1048579").want(t, 206)
	if r.body != "0123" {
		t.Error(r.body)
	}
	if h := s.do("HEAD", "/large", "").want(t, 200); h.ContentLength != int64(len(content)) || h.Header.Get("Etag") != r.Header.Get("Etag") {
		t.Error(h.Header)
	}
	s.url = direct
	if h := s.do("HEAD", "/large", "").want(t, 200); h.Header.Get("Etag") != r.Header.Get("Etag") {
		t.Error("the tag is another one behind the proxy")
	}
}

func TestServeGroupsAtRunTime(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	s := startServing(t, "[tokens.alice]\ntoken = \""+token+"\"\n[[group]]\npath = \"/\"\ndir = \"%DIR%\"\nread = [\"anyone\"]\n")
	s.write("sub/a", "of the directory")
	file := s.write("b", "b")
	s.do("GET", "/one/b", "").want(t, 404)
	if r := s.cli("group", "create", "one", "--read", "anyone", "--connections", "3", "--bandwidth", "5 MB/s").want(t, 0); r.out != s.url+"/one/\n" {
		t.Error(r.out)
	}
	s.cli("group", "create", "one").want(t, 6)
	s.cli("group", "create", "bad/name").want(t, 2)
	s.cli("group", "create", "bad ").want(t, 2)
	s.cli("group", "create", "two", "--read", "bob").want(t, 2)
	if r := s.cli("group", "create", "sub").want(t, 6); !strings.Contains(r.err, "would hide") {
		t.Error(r.err)
	}
	if r := s.cli("group", "delete", "/").want(t, 2); !strings.Contains(r.err, "is not the name of a group") {
		t.Error(r.err)
	}
	s.cli("group", "create", "slow", "--bandwidth", "1 kbit/s").want(t, 2)
	s.cli("group", "create", "gone", "--dir", filepath.Join(s.dir, "nothing")).want(t, 2)
	s.cli("group", "create", "tree", "--dir", filepath.Join(s.dir, "sub"), "--listing", "--read", "anyone").want(t, 0)
	if r := s.cli("file", "add", "one", file).want(t, 0); r.out != s.url+"/one/b\n" || r.err != "" {
		t.Error(r)
	}
	if r := s.cli("file", "add", "/one/", file).want(t, 0); !strings.Contains(r.err, "it replaces "+file) {
		t.Error(r)
	}
	s.cli("file", "add", "one", file, "--read", "bob").want(t, 2)
	s.cli("file", "add", "one", file, "--as", "deep/name", "--read", "alice").want(t, 0)
	s.cli("file", "add", "one", s.dir).want(t, 2)
	s.cli("file", "add", "one", file, "--as", "../x").want(t, 2)
	s.cli("file", "add", "tree", file).want(t, 6)
	s.cli("file", "add", "none", file).want(t, 4)
	check := func() {
		t.Helper()
		if r := s.do("GET", "/one/b", "").want(t, 200); r.body != "b" {
			t.Error(r.body)
		}
		s.do("GET", "/one/deep/name", "").want(t, 401)
		s.do("GET", "/one/deep/name", "", "Authorization", "Bearer "+token).want(t, 200)
		s.do("GET", "/one/", "").want(t, 404)
		s.do("PUT", "/one/c", "c").want(t, 405)
		if r := s.do("GET", "/tree/a", "").want(t, 200); r.body != "of the directory" {
			t.Error(r.body)
		}
		if r := s.do("GET", "/tree/", "").want(t, 200); !strings.Contains(r.body, `href="./a"`) {
			t.Error(r.body)
		}
	}
	check()
	s.kill9() // what was answered is on the disk
	s.up()
	check()
	out := s.cli("group", "list").want(t, 0).out
	for _, want := range []string{"/one/ ", "2 files", "3 connections", "5000000 B/s", "/tree/ ", "configured"} {
		if !strings.Contains(out, want) {
			t.Errorf("the list does not tell %q:\n%s", want, out)
		}
	}
	if out := s.cli("file", "list", "one").want(t, 0).out; !strings.Contains(out, "/one/deep/name") || !strings.Contains(out, "for alice") {
		t.Error(out)
	}
	s.cli("file", "remove", "one", "b").want(t, 0)
	s.cli("file", "remove", "one", "b").want(t, 4)
	s.do("GET", "/one/b", "").want(t, 404)
	// A directory that is gone at the next start keeps nothing else from being served.
	if err := os.RemoveAll(filepath.Join(s.dir, "sub")); err != nil {
		t.Fatal(err)
	}
	s.kill9()
	s.up()
	s.do("GET", "/tree/a", "").want(t, 404)
	s.cli("file", "add", "one", file).want(t, 0)
	s.do("GET", "/one/b", "").want(t, 200)
	s.cli("group", "delete", "tree").want(t, 0)
	s.cli("group", "delete", "one").want(t, 0)
	s.cli("group", "delete", "one").want(t, 4)
	s.do("GET", "/one/b", "").want(t, 404)
	s.do("GET", "/b", "").want(t, 200)
	s.stop()
	s.cli("group", "list").want(t, 3)
}

// Nobody can go on with a PUT, so nothing of one is left after a crash.
func TestServeForgetsAPutAfterACrash(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--uploads")
	body, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = request(http.DefaultClient, "PUT", s.url+"/a", body)
	}()
	if _, err := w.Write(make([]byte, mib)); err != nil {
		t.Fatal(err)
	}
	hidden := filepath.Join(s.dir, ".ebb-uploads")
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if names, err := os.ReadDir(hidden); err == nil && len(names) > 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the upload does not begin")
		}
	}
	s.kill9()
	_ = w.CloseWithError(io.ErrUnexpectedEOF)
	<-done
	s.up()
	names, err := os.ReadDir(hidden)
	if err != nil || len(names) != 1 || names[0].Name() != "lock" {
		t.Error(names, err)
	}
	s.do("GET", "/a", "").want(t, 404)
}

func TestServeOverwrites(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--uploads", "--overwrite")
	s.write("a", "one")
	s.do("PUT", "/a", "two").want(t, 204)
	s.isFile("a", "two")
	for method, status := range map[string]int{"OPTIONS": 204, "DELETE": 405} {
		if r := s.do(method, "/a", "").want(t, status); r.Header.Get("Allow") != "GET, HEAD, OPTIONS, PUT, POST, BITS_POST" {
			t.Error(method, r.Header)
		}
	}
}

func TestServeLimits(t *testing.T) {
	t.Parallel()
	s := startServing(t, `
[[group]]
path = "/few/"
dir = "%DIR%"
connections = 2

[[group]]
path = "/slow/"
dir = "%DIR%"
bandwidth = "1 MB/s"

[[group]]
path = "/in/"
dir = "%DIR%"
bandwidth = "1 MB/s"
[group.uploads]
max_size = "3 MB"
`)
	const size = 16 * mib
	s.write("big", strings.Repeat("x", size))
	// Two who take their time are all that there may be.
	for range 2 {
		r, err := http.Get(s.url + "/few/big")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
	}
	r := s.do("GET", "/few/big", "").want(t, 503)
	if r.Header.Get("Retry-After") == "" {
		t.Error(r.Header)
	}
	s.do("GET", "/slow/big", "", "Range", "bytes=0-1").want(t, 206) // another group

	// The bandwidth is for all of the group together.
	began := time.Now()
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if a, err := request(http.DefaultClient, "GET", s.url+"/slow/big", nil, "Range", "bytes=0-999999"); err != nil || len(a.body) != 1e6 {
				t.Error(len(a.body), err)
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took < 1500*time.Millisecond || took > 20*time.Second {
		t.Errorf("2 MB at 1 MB/s took %v", took)
	}
	began = time.Now()
	s.do("PUT", "/in/a", strings.Repeat("x", 2e6)).want(t, 201)
	if took := time.Since(began); took < 1500*time.Millisecond || took > 20*time.Second {
		t.Errorf("2 MB up at 1 MB/s took %v", took)
	}
	s.do("PUT", "/in/b", strings.Repeat("x", 3e6+1)).want(t, 413)
	if a, err := request(http.DefaultClient, "PUT", s.url+"/in/b", io.MultiReader(strings.NewReader(strings.Repeat("x", 3e6)), strings.NewReader("x"))); err == nil && a.StatusCode != 413 {
		t.Error(a.Status)
	}
	s.do("GET", "/in/b", "").want(t, 404)
}

// raw sends bytes and returns the first line of the answer, and the rest.
func (s *serving) raw(text string) (status, rest string) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(c, text) }()
	b, _ := io.ReadAll(bufio.NewReader(c))
	status, rest, _ = strings.Cut(string(b), "\r\n")
	return status, rest
}

func TestServeSpeaksHTTP10AndRefusesHugeHeaders(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--uploads")
	s.write("a", "text")
	if status, rest := s.raw("GET /a HTTP/1.0\r\n\r\n"); status != "HTTP/1.0 200 OK" || !strings.HasSuffix(rest, "\r\n\r\ntext") {
		t.Errorf("%s %q", status, rest)
	}
	if status, _ := s.raw("PUT /b HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc"); status != "HTTP/1.0 201 Created" {
		t.Error(status)
	}
	s.isFile("b", "abc")
	if status, _ := s.raw("GET /a HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 200_000) + "\r\n\r\n"); !strings.HasPrefix(status, "HTTP/1.1 431") {
		t.Error(status)
	}
	if status, _ := s.raw("GET /a HTTP/1.1\r\n\r\n"); !strings.HasPrefix(status, "HTTP/1.1 400") {
		t.Error(status)
	}
}

func TestServeMetrics(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--uploads", "--metrics", "127.0.0.2:0")
	s.do("PUT", "/a", "text").want(t, 201)
	s.do("GET", "/a", "").want(t, 200)
	s.do("GET", "/none", "").want(t, 404)
	s.tus("/b", 10)
	s.do("GET", "/metrics", "").want(t, 404)
	text := s.metrics()
	for _, want := range []string{
		`ebb_serve_requests_total{front="put",status="201"} 1`, `ebb_serve_requests_total{front="files",status="200"} 1`, `ebb_serve_sent_bytes_total{front="files"}`,
		`ebb_serve_received_bytes_total{front="put"} 4`, `ebb_serve_sessions{group="/"} 1`, "process_resident_memory_bytes",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	if out := s.cli("uploads").want(t, 0).out; !strings.Contains(out, "0 B / 10 B") || !strings.HasPrefix(out, "ID ") || !strings.Contains(out, "/b") {
		t.Error(out)
	}
	if out := s.cli("cleanup").want(t, 0).out; out != "0 removed\n" {
		t.Error(out)
	}
}

// metrics reads them from the admin socket.
func (s *serving) metrics() string {
	s.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", s.socket) }}}
	a, err := request(c, "GET", "http://admin/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return a.want(s.t, 200).body
}

func TestServeCleansUp(t *testing.T) {
	t.Parallel()
	s := startServing(t, "[[group]]\npath = \"/\"\ndir = \"%DIR%\"\n[group.uploads]\nsession_timeout = \"1s\"\n")
	upload := s.tus("/a", 10)
	time.Sleep(1100 * time.Millisecond)
	if out := s.cli("cleanup").want(t, 0).out; out != "1 removed\n" {
		t.Error(out)
	}
	if r := s.do("HEAD", upload, "", "Tus-Resumable", "1.0.0"); r.StatusCode != 404 && r.StatusCode != 410 {
		t.Error(r.Status)
	}
}

func TestServeTellsOfUploadsThatAreLeft(t *testing.T) {
	t.Parallel()
	const warning = "unfinished uploads are left"
	s := startServing(t, "", "--uploads")
	upload := s.tus("/a", 10)
	without := slices.DeleteFunc(slices.Clone(s.args), func(arg string) bool { return arg == "--uploads" })
	with := s.args
	for _, c := range []struct {
		args []string
		end  bool // of the upload
		want bool
	}{{without, false, true}, {with, true, false}, {without, false, false}} {
		s.stop()
		if err := os.Remove(s.log); err != nil {
			t.Fatal(err)
		}
		s.args = c.args
		s.up()
		if c.want {
			s.logged(warning)
			s.logged(filepath.Join(s.dir, ".ebb-uploads"))
		} else if b, err := os.ReadFile(s.log); err != nil || strings.Contains(string(b), warning) {
			t.Errorf("%v: %s %v", c.args, b, err)
		}
		if c.end {
			s.do("DELETE", upload, "", "Tus-Resumable", "1.0.0").want(t, 204)
		}
	}
}

func TestServeTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newServing(t, "[[group]]\npath = \"/\"\ndir = \"%DIR%\"\nlistin = true\n")
	r := s.cli(s.args[1:]...)
	if r.code == 0 || !strings.Contains(r.err, "serve.toml:4: group.listin: there is no such key; did you mean listing?") {
		t.Errorf("%d %s", r.code, r.err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "there is nothing to serve"},
		{[]string{"--uploads"}, "--root"},
		{[]string{"--root", "/nonexistent"}, "/nonexistent"},
		{[]string{"--root", s.dir, "--listen", "https://:0"}, "needs a certificate"},
		{[]string{"--root", s.dir, "--tls-cert", "x"}, "are needed both"},
		{[]string{"--root", s.dir, "--listen", "8080"}, "want HOST:PORT"},
		{[]string{"--root", s.dir, "--branchcache-http"}, "for --branchcache, which is missing"},
		{[]string{"--root", s.dir, "--branchcache", "--branchcache-secret", s.dir}, "not a regular file"},
	} {
		if r := s.cli(c.args...); r.code == 0 || !strings.Contains(r.err, c.want) {
			t.Errorf("%v: %d %s", c.args, r.code, r.err)
		}
	}
	// All that is missing is told at once.
	broken := filepath.Join(t.TempDir(), "serve.toml")
	if err := os.WriteFile(broken, []byte("[tls]\ncert = \"no.pem\"\nkey = \"no.key\"\nclient_ca = \"serve.toml\"\n[branchcache]\nsecret = \"no.secret\"\n[[group]]\npath = \"/\"\ndir = \"nowhere\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = s.cli("check", broken)
	for _, want := range []string{"the group /: ", "nowhere", "no.pem", "no.secret", "there is no certificate in " + broken} {
		if r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("%s is not in: %d %s", want, r.code, r.err)
		}
	}
}

// Two servers behind one name share a bucket: each goes on with what the other began.
func TestServeFromABucketOfTwoServers(t *testing.T) {
	t.Parallel()
	objects := t.TempDir()
	if err := os.Mkdir(filepath.Join(objects, "uploads"), 0o755); err != nil {
		t.Fatal(err)
	}
	gateway, err := servers.VersityGW(objects, servers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gateway.Close)
	config := fmt.Sprintf("[[group]]\npath = \"/in/\"\n[group.uploads]\nstorage = \"s3://uploads/here\"\ns3_endpoint = %q\ns3_region = %q\ns3_access_key = %q\ns3_secret_key = %q\n",
		gateway.URL, servers.S3Region, servers.S3AccessKey, servers.S3SecretKey)
	one, two := startServing(t, config), startServing(t, config)
	content := strings.Repeat("0123456789abcdef", 256*kib) // 4 MiB
	upload := one.tus("/in/a", len(content))
	for at, s := 0, one; at < len(content); at += mib {
		if is := s.offset(upload); is != at {
			t.Fatalf("at %d, want %d", is, at)
		}
		if a, err := s.patch(upload, at, content[at:at+mib]); err != nil || a.StatusCode != 204 {
			t.Fatal(a, err)
		}
		if s == one {
			one.kill9() // the other one has what it acknowledged
			s = two
		} else if at == 2*mib {
			one.up()
			s = one
		}
	}
	two.do("PUT", "/in/b", "text").want(t, 201)
	two.do("PUT", "/in/b", "text").want(t, 403)
	two.do("PUT", "/in/b", "text", "If-None-Match", "*").want(t, 412)
	for name, want := range map[string]string{"a": content, "b": "text"} {
		if b, err := os.ReadFile(filepath.Join(objects, "uploads", "here", name)); err != nil || string(b) != want {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	two.do("GET", "/in/a", "").want(t, 405)
}
