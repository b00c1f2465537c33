package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/test/servers"
)

// tusjs uploads a file with tus-js-client.
func (s *serving) tusjs(u servers.TusUpload) *servers.TusUploaded {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	defer cancel()
	u.Endpoint = s.url + "/"
	done, err := u.Run(ctx)
	if errors.Is(err, servers.ErrNotInstalled) {
		s.t.Skip(err)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return done
}

// asked returns whether a client made a request; of an offset: "", "0", or "later" for one beyond 0.
func asked(d *servers.TusUploaded, method, offset string) bool {
	for _, r := range d.Requests {
		if r.Method == method && (r.Offset == offset || offset == "later" && r.Offset != "" && r.Offset != "0") {
			return true
		}
	}
	return false
}

func TestServeTusJSClient(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("0123456789abcdef", 2<<20) // 32 MiB
	file := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServing(t, "", "--uploads")
	for name, u := range map[string]servers.TusUpload{
		"whole":           {},
		"paused":          {Pauses: 1, Again: true},
		"parts":           {Parallel: 4},
		"parts, paused":   {Parallel: 4, Pauses: 1, Again: true},
		"in the creation": {AtOnce: true},
	} {
		u.File, u.Name = file, name
		done := s.tusjs(u)
		if done.Error != "" || u.Again && (!asked(done, "HEAD", "") || !asked(done, "PATCH", "later")) {
			t.Errorf("%s: %+v", name, done)
		}
		s.isFile(name, content)
	}

	// The client breaks off, the server is killed, and another run of the client goes on.
	u := servers.TusUpload{File: file, Name: "killed", Storage: filepath.Join(t.TempDir(), "storage"), Pauses: 1}
	first := s.tusjs(u)
	s.kill9()
	s.up()
	u.Pauses = 0
	if second := s.tusjs(u); second.Error != "" || second.URL != first.URL || !asked(second, "PATCH", "later") || asked(second, "POST", "") {
		t.Errorf("%+v, then %+v", first, second)
	}
	s.isFile("killed", content)

	// As nginx is by default: HTTP/1.0 behind it, and no body above 1 MiB.
	front, err := servers.Nginx(s.dir, servers.Options{Proxy: s.url})
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	s.url = front.URL
	for name, u := range map[string]servers.TusUpload{
		"proxied":        {Chunk: mib},
		"proxied, parts": {Chunk: mib, Parallel: 3},
	} {
		u.File, u.Name = file, name
		done := s.tusjs(u)
		if done.Error != "" || !strings.HasPrefix(done.URL, front.URL) && u.Parallel == 0 {
			t.Errorf("%s: %+v", name, done)
		}
		s.isFile(name, content)
	}
	if done := s.tusjs(servers.TusUpload{File: file, Name: "too large"}); !strings.Contains(done.Error, "413") {
		t.Errorf("a body above what nginx takes: %+v", done)
	}
}

// A browser asks without credentials whether a page may upload, and uploads with them.
func TestServeUploadsFromBrowsers(t *testing.T) {
	t.Parallel()
	s := startServing(t, `
[tokens.robot]
token = "0123456789abcdef"

[[group]]
path = "/"
dir = "%DIR%"
write = ["robot"]
[group.uploads]
origins = ["https://app.example.org"]
`)
	ask := func(origin string) answer {
		return s.do("OPTIONS", "/", "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,tus-resumable,upload-length")
	}
	a := ask("https://app.example.org").want(t, 204)
	allowed := strings.Split(strings.ToLower(a.Header.Get("Access-Control-Allow-Headers")), ", ")
	for _, name := range []string{"authorization", "tus-resumable", "upload-length", "upload-metadata", "upload-offset", "upload-complete"} {
		if !slices.Contains(allowed, name) {
			t.Errorf("%s is not allowed: %v", name, a.Header)
		}
	}
	if a.Header.Get("Access-Control-Allow-Origin") != "https://app.example.org" || a.Header.Get("Vary") != "Origin" {
		t.Error(a.Header)
	}
	if a := ask("https://evil.example.org"); a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error(a.Header)
	}
	create := func(headers ...string) answer {
		return s.do("POST", "/file", "", append(headers, "Origin", "https://app.example.org", "Tus-Resumable", "1.0.0", "Upload-Length", "0")...)
	}
	create().want(t, 401)
	a = create("Authorization", "Bearer 0123456789abcdef").want(t, 201)
	if a.Header.Get("Access-Control-Allow-Origin") != "https://app.example.org" || !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), "Location") {
		t.Error(a.Header)
	}
	s.isFile("file", "")
}

// A client of the IETF draft sends all at once, learns by 104 where its upload is, and goes on there
// after the server was killed.
func TestServeDraftAfterKill(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--uploads")
	content := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	random := dice(t)
	for i := range kills(t) {
		file := fmt.Sprintf("/file%d", i)
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: x\r\nUpload-Draft-Interop-Version: 8\r\nUpload-Complete: ?1\r\nContent-Length: %d\r\n\r\n", file, len(content))
		told, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || told.StatusCode != 104 {
			t.Fatal(told, err)
		}
		sent, err := io.WriteString(c, content[:random.IntN(len(content)+1)])
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond) // any moment will do
		s.kill9()
		_ = c.Close()
		s.up()

		upload := told.Header.Get("Location")
		head := s.do("HEAD", upload, "").want(t, 204)
		if head.Header.Get("Upload-Complete") == "?1" { // nothing but the answer was lost
			s.isFile(file, content)
			continue
		}
		var offset int
		if _, err := fmt.Sscan(head.Header.Get("Upload-Offset"), &offset); err != nil || offset > sent {
			t.Fatalf("%d bytes were sent, the offset is %q", sent, head.Header.Get("Upload-Offset"))
		}
		if left := names(t, s.dir); slices.Contains(left, file[1:]) {
			t.Fatalf("%s is there before it is complete", file)
		}
		s.do("PATCH", upload, content[offset:], "Content-Type", "application/partial-upload", "Upload-Offset", fmt.Sprint(offset), "Upload-Complete", "?1").want(t, 201)
		s.isFile(file, content)
	}
}

// Through nginx as it is by default a client of the draft gets no 104, so it makes the upload first, and
// sends what nginx takes.
func TestServeDraftThroughNginx(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--uploads")
	front, err := servers.Nginx(s.dir, servers.Options{Proxy: s.url})
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	s.url = front.URL
	content := strings.Repeat("0123456789abcdef", 160<<10) // 2.5 MiB
	upload := s.do("POST", "/file", "", "Upload-Draft-Interop-Version", "8", "Upload-Complete", "?0", "Upload-Length", fmt.Sprint(len(content))).
		want(t, 201).Header.Get("Location")
	if !strings.HasPrefix(upload, "/") {
		t.Fatalf("Location is %q", upload)
	}
	patch := func(at, n int) answer {
		return s.do("PATCH", upload, content[at:at+n], "Upload-Draft-Interop-Version", "8", "Content-Type", "application/partial-upload",
			"Upload-Offset", fmt.Sprint(at), "Upload-Complete", map[bool]string{true: "?1", false: "?0"}[at+n == len(content)])
	}
	patch(0, 2*mib).want(t, 413)
	if offset := s.do("HEAD", upload, "").want(t, 204).Header.Get("Upload-Offset"); offset != "0" {
		t.Errorf("the offset is %s", offset)
	}
	patch(0, mib).want(t, 204)
	patch(mib, mib).want(t, 204)
	patch(2*mib, mib/2).want(t, 201)
	s.isFile("file", content)
}

// nginx that passes requests on by HTTP/1.1 and as they come takes a 104 for the answer, and then sends
// no more: such a client gets none.
func TestServeDraftThroughNginxThatStreams(t *testing.T) {
	t.Parallel()
	s := startServing(t, "", "--uploads")
	front, err := servers.Nginx(s.dir, servers.Options{Proxy: s.url, ProxyStreams: true})
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	content := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
	c := &http.Client{Timeout: patience}
	a, err := request(c, "PUT", front.URL+"/file", strings.NewReader(content), "Upload-Draft-Interop-Version", "8", "Upload-Complete", "?1")
	if err != nil {
		t.Fatal(err)
	}
	a.want(t, 201)
	s.isFile("file", content)
	s.url = front.URL
	file := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if done := s.tusjs(servers.TusUpload{File: file, Name: "tus", Parallel: 2, Pauses: 1, Again: true}); done.Error != "" {
		t.Errorf("%+v", done)
	}
	s.isFile("tus", content)
}
