package bup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

func client() *Client { return New(uploadtest.Client()) }

// whole uploads and closes, and checks that the server has the file.
func whole(t *testing.T, s *iis, task *uploadtest.Task, data []byte) {
	t.Helper()
	c := client()
	if err := c.Upload(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	if !task.State.Done || task.State.Offset != int64(len(data)) {
		t.Errorf("the state is %+v", task.State)
	}
	saved := task.Saved()
	if last := saved[len(saved)-1]; !last.Done || last.ID != task.State.ID {
		t.Errorf("saved %+v", last)
	}
	if got, ok := s.file("f.bin"); !ok || got != string(data) {
		t.Errorf("the server has %d bytes (%v), want the %d sent", len(got), ok, len(data))
	}
	task.Source = nil
	if err := c.Close(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	if n := s.open(); n != 0 {
		t.Errorf("%d sessions are still open", n)
	}
}

func newTask(t *testing.T, s *iis, data []byte) *uploadtest.Task {
	t.Helper()
	return uploadtest.New(t, s.URL+"f.bin", uploadtest.NewSource("local name.bin", data))
}

func wantPackets(t *testing.T, s *iis, want ...string) {
	t.Helper()
	if got := s.packets(); !slices.Equal(got, want) {
		t.Errorf("the server got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// TestTheExchangeOfTheExample makes the requests of [MC-BUP] 4.1, but for the Ping before the end and
// the names of the agent and the host.
func TestTheExchangeOfTheExample(t *testing.T) {
	dir := filepath.Join("..", "..", "bupwire", "testdata", "upload-example1")
	heads, err := filepath.Glob(filepath.Join(dir, "*ex1*request*"))
	if err != nil || len(heads) < 4 {
		t.Fatalf("the vectors are missing in %s: %v", dir, err)
	}
	read := func(part string) string {
		t.Helper()
		for _, name := range heads {
			if strings.Contains(name, part) {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
		}
		t.Fatalf("no vector %s", part)
		return ""
	}
	body := read("message-body")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		defer func() { got <- all.String() }()
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			all.Write(buf[:n])
			answer, whole := ack+"Content-Length: 0\n", bytes.HasSuffix(all.Bytes(), []byte(body))
			switch sofar := all.String(); {
			case whole:
				answer += "BITS-Received-Content-Range: 4892\n"
			case !strings.HasSuffix(sofar, "\r\n\r\n"):
				continue
			case !strings.Contains(sofar, "Fragment"):
				answer += "BITS-Session-Id: {A0FF5911-4144-45B3-BF27-27AFC8EC8A67}\n"
			}
			_, _ = io.WriteString(c, strings.ReplaceAll(answer+"\n", "\n", "\r\n"))
		}
	}()
	task := uploadtest.New(t, "http://"+l.Addr().String()+"/upload/2000mb-rfc2119.txt", uploadtest.NewSource("rfc2119.txt", []byte(body)))
	task.Header.Set("User-Agent", "Microsoft BITS/6.7")
	c := client()
	if err := c.Upload(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	want := read("create-session") + read("headers-only") + body + read("close-session")
	want = strings.ReplaceAll(want, "Host: frankcao8", "Host: "+l.Addr().String())
	// The name is no longer known when the session is closed. Newer clients do not send it then.
	i := strings.LastIndex(want, "Content-Name: rfc2119.txt\r\n")
	want = want[:i] + want[i+len("Content-Name: rfc2119.txt\r\n"):]
	if got := strings.Replace(<-got, body, "", 1); got != strings.Replace(want, body, "", 1) {
		t.Errorf("sent\n%q\nwant\n%q", got, want)
	}
}

func TestUpload(t *testing.T) {
	for _, size := range []int{1, 4892, 5 << 10, 64 << 10, 1<<20 + 1, 30 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data := uploadtest.Bytes(size, 1)
			s := newIIS(t).start()
			task := newTask(t, s, data)
			whole(t, s, task, data)
			want := []string{"Create-Session"}
			for from := 0; from < size; from += 13 << 20 {
				want = append(want, fmt.Sprintf("Fragment %d-%d/%d", from, min(from+13<<20, size)-1, size))
			}
			wantPackets(t, s, append(want, "Close-Session")...)
			if task.MostSent() != int64(size) {
				t.Errorf("the task was told of %d bytes", task.MostSent())
			}
			if s.accepted != 1 {
				t.Errorf("%d connections", s.accepted)
			}
		})
	}
}

func TestTheEmptyFile(t *testing.T) {
	s := newIIS(t).start()
	whole(t, s, newTask(t, s, nil), nil)
	wantPackets(t, s, "Create-Session", "Fragment */0", "Close-Session")

	s = newIIS(t)
	s.act = func(_ int, p *packet) *action {
		if p.kind == "Fragment" {
			return &action{raw: errorAck(400, "0x80070057", "0x5")}
		}
		return nil
	}
	s.start()
	wantError(t, client().Upload(t.Context(), newTask(t, s, nil).Task), bits.HTTPStatus(400), bits.ContextRemoteFile, "the server takes no empty file")
}

// wantError checks a code, a context and a part of the sentence.
func wantError(t *testing.T, err error, code bits.Code, in bits.Context, text string) {
	t.Helper()
	var e *bits.Error
	if !errors.As(err, &e) {
		t.Fatalf("the error is %v, want %v", err, code)
	}
	if e.Code != code || e.Context != in || !strings.Contains(e.Sentence(), text) {
		t.Errorf("the error is %v in context %v, want %v in %v with %q", e, e.Context, code, in, text)
	}
}

// TestResumeAfterLossAtAnyByte cuts the connection at points all over the exchange, with servers of
// several minds, and lets the client begin again from what was saved.
func TestResumeAfterLossAtAnyByte(t *testing.T) {
	data := uploadtest.Bytes(300<<10, 2)
	for _, kind := range []struct{ lenient, partial bool }{{false, false}, {false, true}, {true, true}} {
		for _, a := range []action{
			{cut: true}, {cut: true, keep: 1}, {cut: true, keep: 5 << 10}, {cut: true, keep: 100 << 10}, {cut: true, keep: 300<<10 - 1},
			{cut: true, served: true},
		} {
			for number := range 5 { // Create-Session and the fragments
				t.Run(fmt.Sprintf("%+v %+v %d", kind, a, number), func(t *testing.T) {
					s := newIIS(t)
					s.lenient, s.partial = kind.lenient, kind.partial
					n := 0
					s.act = func(int, *packet) *action {
						if n++; n == number+1 {
							return &a
						}
						return nil
					}
					s.start()
					task := newTask(t, s, data)
					task.State.Fragment = 80 << 10
					if err := task.Patiently(t.Context(), client(), 3); err != nil {
						t.Fatal(err)
					}
					if s.notified != 1 {
						t.Errorf("published %d times", s.notified)
					}
					if err := client().Close(t.Context(), task.Task); err != nil {
						t.Error(err)
					}
					if n := s.open(); n > 0 && number > 0 || n > 1 { // one whose Ack was lost is the server's to clean
						t.Errorf("%d sessions are open", n)
					}
					if got, _ := s.file("f.bin"); got != string(data) {
						t.Errorf("the server has other %d bytes", len(got))
					}
					var sent int64
					for _, p := range s.packets() {
						var from, to, size int64
						if _, err := fmt.Sscanf(p, "Fragment %d-%d/%d", &from, &to, &size); err == nil {
							sent += to - from + 1
						}
					}
					if most := int64(len(data) + 80<<10 + 5<<10); sent > most {
						t.Errorf("%d bytes were offered for a file of %d: %q", sent, len(data), s.packets())
					}
				})
			}
		}
	}
}

// TestEveryConnectionIsCut gets a large file through to a server that lets no connection live for
// longer than some bytes, and keeps nothing of fragments that did not come whole.
func TestEveryConnectionIsCut(t *testing.T) {
	data := uploadtest.Bytes(6<<20, 3)
	s := newIIS(t)
	s.act = func(_ int, p *packet) *action {
		if p.kind == "Fragment" && p.length > 700<<10 {
			return &action{cut: true, keep: 600 << 10}
		}
		return nil
	}
	s.start()
	whole(t, s, newTask(t, s, data), data)
}

func TestResumeAsksWithASmallFragment(t *testing.T) {
	data := uploadtest.Bytes(100<<10, 4)
	s := newIIS(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.act = func(n int, p *packet) *action {
		if n == 1 {
			return &action{cut: true, served: true, then: cancel} // between the server's having it and the client's knowing
		}
		return nil
	}
	s.start()
	task := newTask(t, s, data)
	task.State.Fragment = 40 << 10
	if err := client().Upload(ctx, task.Task); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	task.Restart()
	task.State.Fragment = 0
	whole(t, s, task, data)
	wantPackets(t, s, "Create-Session", "Fragment 0-40959/102400", "Ping", "Fragment 0-5119/102400", "Fragment 40960-102399/102400", "Close-Session")
}

// TestAllWasThereBefore resumes an upload of which only the last answer was lost.
func TestAllWasThereBefore(t *testing.T) {
	data := uploadtest.Bytes(100<<10, 5)
	s := newIIS(t)
	s.reply = `BITS-Sessions\Replies\%s\responsefile.bin`
	s.act = func(n int, p *packet) *action {
		if n == 1 {
			return &action{cut: true, served: true}
		}
		return nil
	}
	s.start()
	task := newTask(t, s, data)
	task.Reply = true
	whole(t, s, task, data)
	wantPackets(t, s, "Create-Session", "Fragment 0-102399/102400", "Ping", "Fragment 0-5119/102400", "Fragment 97280-102399/102400", "Close-Session")
	if want := s.URL + "BITS-Sessions/Replies/" + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(task.State.ID) + "/responsefile.bin"; task.State.Reply != want {
		t.Errorf("the reply is at %q, want %q", task.State.Reply, want)
	}
}

func TestReplies(t *testing.T) {
	data := []byte("question")
	for _, c := range []struct{ header, want, err string }{
		{"", "", ""},
		{`BITS-Sessions\Replies\{1}\responsefile.bin`, "/upload/BITS-Sessions/Replies/%7B1%7D/responsefile.bin", ""},
		{"/static?x=1", "/static?x=1", ""},
		{"http://other.example/r", "http://other.example/r", ""},
		{"file:///etc/passwd", "", "not where it can be fetched"},
	} {
		s := newIIS(t)
		s.reply = c.header
		s.start()
		task := newTask(t, s, data)
		task.Reply = true
		err := client().Upload(t.Context(), task.Task)
		if c.err != "" {
			wantError(t, err, bits.InvalidServerResponse, bits.ContextRemoteFile, c.err)
			continue
		}
		want := c.want
		if strings.HasPrefix(want, "/") {
			want = strings.TrimSuffix(s.URL, "/upload/") + want
		}
		if err != nil || task.State.Reply != want || !task.State.Done {
			t.Errorf("%q: %v, %q, want %q", c.header, err, task.State.Reply, want)
		}
	}
}

// TestRepliesOfAnHTTPSServer has a proxy before the server that ends TLS.
func TestRepliesOfAnHTTPSServer(t *testing.T) {
	for _, c := range []struct{ reply, want string }{
		{"http://h/r", "https://h:8443/r"},
		{`Replies\r`, "https://h:8443/d/Replies/r"},
		{"http://other/r", ""},
	} {
		task := uploadtest.New(t, "https://user:secret@h:8443/d/f", nil)
		task.Reply = true
		s, err := client().open(task.Task)
		if err != nil {
			t.Fatal(err)
		}
		err = s.finish(&answer{Ack: bupwire.Ack{ReplyURL: c.reply}})
		if (err == nil) != (c.want != "") || task.State.Reply != c.want {
			t.Errorf("%s: %q, %v, want %q", c.reply, task.State.Reply, err, c.want)
		}
	}
}

// TestTheApplicationFails lets the server's application refuse the file some times: the last
// fragment is what makes the server ask it again.
func TestTheApplicationFails(t *testing.T) {
	data := uploadtest.Bytes(20<<10, 6)
	for _, c := range []struct {
		status int
		class  bits.Class
	}{{503, bits.Transient}, {408, bits.Transient}, {409, bits.Transient}, {403, bits.Fatal}, {404, bits.Fatal}, {501, bits.Fatal}} {
		s := newIIS(t)
		fails := 1
		s.act = func(_ int, p *packet) *action {
			if p.kind == "Fragment" && p.last+1 == p.total && fails > 0 {
				fails--
				return &action{raw: errorAck(c.status, "0x80004005", "0x7")}
			}
			return nil
		}
		s.start()
		task := newTask(t, s, data)
		err := client().Upload(t.Context(), task.Task)
		wantError(t, err, bits.HTTPStatus(c.status), bits.ContextRemoteApplication, "its application answered")
		var retry *httpconn.RetryError
		if errors.As(err, &retry) != (c.class == bits.Transient) {
			t.Errorf("%d: %v", c.status, err)
		}
		task.Restart()
		whole(t, s, task, data)
	}
}

// TestOddAnswers meets the ways in which servers spell what is the same.
func TestOddAnswers(t *testing.T) {
	data := uploadtest.Bytes(100<<10, 20)
	for name, mangle := range map[string]func(string) string{
		"lower case": func(a string) string {
			return strings.NewReplacer("BITS-", "bits-", "Packet-Type: Ack", "packet-type: ack", "Content-Length", "content-length", "Received-Content-Range", "received-content-range").Replace(a)
		},
		"upper case":        strings.ToUpper,
		"net/http's case":   func(a string) string { return strings.ReplaceAll(a, "BITS-", "Bits-") },
		"HTTP/1.0":          func(a string) string { return strings.Replace(a, "HTTP/1.1", "HTTP/1.0", 1) },
		"a misspelled name": func(a string) string { return strings.ReplaceAll(a, "Received", "Recieved") }, //nolint:misspell // GoBITS writes it so
		"created":           func(a string) string { return strings.Replace(a, "200 OK", "201 Created", 1) },
		"no reason":         func(a string) string { return strings.Replace(a, "200 OK", "200", 1) },
		"a body":            func(a string) string { return strings.Replace(a, "Content-Length: 0", "Content-Length: 3", 1) + "ok\n" },
		"an empty chunk": func(a string) string {
			return strings.Replace(a, "Content-Length: 0", "Transfer-Encoding: chunked", 1) + "0\n\n"
		},
		"no length":          func(a string) string { return strings.Replace(a, "Content-Length: 0\n", "", 1) },
		"more than a length": func(a string) string { return a + "and more" },
		"a word before":      func(a string) string { return "HTTP/1.1 100 Continue\n\n" + a },
	} {
		t.Run(name, func(t *testing.T) {
			s := newIIS(t)
			s.mangle = mangle
			s.start()
			task := newTask(t, s, data)
			task.State.Fragment = 60 << 10
			whole(t, s, task, data)
			if n := s.notified; n != 1 {
				t.Errorf("published %d times", n)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	foreign := func(status string) string {
		return "HTTP/1.1 " + status + "\nContent-Length: 5\nContent-Type: text/html\n\noops\n"
	}
	for _, c := range []struct {
		name, kind, raw string
		code            bits.Code
		text            string
	}{
		{"not enabled, IIS 6", "Create-Session", errorAck(501, "0x80070005", "0x5"), bits.HTTPStatus(501), "takes no uploads by BITS"},
		{"not enabled, IIS 7", "Create-Session", foreign("404 Not Found"), bits.HTTPStatus(404), "no such directory, or takes no uploads by BITS"},
		{"no directory", "Create-Session", errorAck(404, "0x80070003", "0x5"), bits.HTTPStatus(404), "has no such directory"},
		{"exists", "Create-Session", errorAck(403, "0x80070005", "0x5"), bits.AccessDenied, "exists there and may not be overwritten"},
		{"exists, as documented", "Create-Session", errorAck(409, "0x80070005", "0x5"), bits.AccessDenied, "exists there and may not be overwritten"},
		{"conflict", "Create-Session", foreign("409 Conflict"), bits.HTTPStatus(409), "may not be overwritten"},
		{"another protocol", "Create-Session", errorAck(400, "0x80070057", "0x5"), bits.InvalidArg, "directory"},
		{"credentials", "Create-Session", foreign("401 Unauthorized"), bits.HTTPStatus(401), "credentials"},
		{"proxy's credentials", "Create-Session", foreign("407 Proxy"), bits.HTTPStatus(407), ""},
		{"credentials later", "Fragment", foreign("401 Unauthorized"), bits.HTTPStatus(401), "credentials"},
		{"redirect", "Create-Session", "HTTP/1.1 301 Moved\nLocation: https://other.example/upload/\nContent-Length: 0\n\n", bits.HTTPStatus(301), "https://other.example/upload/"},
		{"redirect nowhere", "Create-Session", "HTTP/1.1 302 Moved\nContent-Length: 0\n\n", bits.HTTPStatus(302), "redirects"},
		{"a web server", "Create-Session", foreign("200 OK"), bits.ProtocolMismatch, "does not speak"},
		{"no session id", "Create-Session", ack + "Content-Length: 0\n\n", bits.InvalidServerResponse, "without giving it an id"},
		{"unknown protocol", "Create-Session", ack + "BITS-Session-Id: {1}\nBITS-Protocol: {2}\nContent-Length: 0\n\n", bits.ProtocolMismatch, "{2}"},
		{"too large", "Fragment", errorAck(500, "0x80200020", "0x5"), bits.TooLarge, "the file has 20480 bytes, more than the server takes"},
		{"too large by the other header", "Fragment", strings.Replace(errorAck(500, "0x80200020", "0x5"), "BITS-Error-Code", "BITS-Error", 1), bits.TooLarge, "more than the server takes"},
		{"too large, 413", "Fragment", errorAck(413, "0x80200020", "0x5"), bits.TooLarge, "more than the server takes"},
		{"too large, and how much", "Fragment", strings.Replace(errorAck(500, "0x80200020", "0x5"), "BITS-Error-Code", "Upload-Limit: max-size=1000, max-age=60\nBITS-Error-Code", 1), bits.TooLarge, "the file has 20480 bytes, and the server takes 1000 at most"},
		{"disk full", "Fragment", errorAck(500, "0x80070070", "0x5"), bits.DiskFull, "full"},
		{"disk full as printed", "Fragment", errorAck(500, "0x80070112", "0x5"), bits.DiskFull, "full"},
		{"a code that would wait for ever", "Fragment", errorAck(500, "0x80200010", "0x5"), bits.HTTPStatus(500), "0x80200010"},
		{"a code of success", "Fragment", errorAck(500, "0x0", "0x5"), bits.HTTPStatus(500), "answered 500"},
		{"unavailable", "Fragment", foreign("503 Unavailable"), bits.HTTPStatus(503), "answered 503"},
		{"a portal", "Fragment", foreign("200 OK"), bits.InvalidServerAnswer, "something other than the server"},
		{"beyond the file", "Fragment", ack + "BITS-Received-Content-Range: 20481\nContent-Length: 0\n\n", bits.InvalidServerResponse, "claims 20481 bytes"},
		{"no offset", "Fragment", ack + "Content-Length: 0\n\n", bits.InvalidServerResponse, "does not tell"},
		{"no number", "Fragment", ack + "BITS-Received-Content-Range: many\nContent-Length: 0\n\n", bits.InvalidServerResponse, "many"},
		{"nothing taken", "Fragment", ack + "BITS-Received-Content-Range: 0\nContent-Length: 0\n\n", bits.InvalidServerResponse, "takes nothing"},
		{"forgotten", "Fragment", errorAck(500, "0x8020001F", "0x5"), bits.SessionNotFound, "forgets"},
		{"never small enough", "Fragment", foreign("413 Too Large"), bits.HTTPStatus(413), "no more than 5120 bytes"},
		{"no HTTP", "Create-Session", "SSH-2.0-OpenSSH\n\n", bits.InvalidServerAnswer, ""},
		{"a header without end", "Create-Session", "HTTP/1.1 200 OK\nX: " + strings.Repeat("x", 300<<10) + "\n\n", bits.InvalidServerAnswer, "does not end"},
		{"headers without end", "Create-Session", "HTTP/1.1 200 OK\n" + strings.Repeat("X: x\n", 100<<10) + "\n", bits.InvalidServerAnswer, "does not end"},
		{"patience without end", "Create-Session", strings.Repeat("HTTP/1.1 102 Processing\n\n", 20<<10), bits.InvalidServerAnswer, "does not end"},
		{"a reply URL that is too long", "Fragment", ack + "BITS-Received-Content-Range: 20480\nBITS-Reply-URL: " + strings.Repeat("x", 3000) + "\nContent-Length: 0\n\n", bits.InvalidServerResponse, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newIIS(t)
			s.act = func(_ int, p *packet) *action {
				if p.kind == c.kind {
					return &action{raw: c.raw}
				}
				return nil
			}
			s.start()
			task := newTask(t, s, uploadtest.Bytes(20<<10, 7))
			in := bits.ContextRemoteFile
			if c.name == "no HTTP" {
				in = bits.ContextGeneralTransport
			}
			wantError(t, client().Upload(t.Context(), task.Task), c.code, in, c.text)
			if n := len(s.packets()); n > 30 {
				t.Errorf("%d packets until it was given up", n)
			}
		})
	}
}

func TestRetryAfterIsPassedOn(t *testing.T) {
	s := newIIS(t)
	s.act = func(int, *packet) *action {
		return &action{raw: "HTTP/1.1 503 Busy\nRetry-After: 77\nContent-Length: 0\n\n"}
	}
	s.start()
	var retry *httpconn.RetryError
	if err := client().Upload(t.Context(), newTask(t, s, []byte("x")).Task); !errors.As(err, &retry) || retry.After != 77*time.Second {
		t.Errorf("got %v", err)
	}
}

func TestTheApplicationsStatusInWords(t *testing.T) {
	for _, c := range []struct {
		raw, want string
		code      bits.Code
	}{
		{errorAck(503, "0x80004005", "0x7"), "answered 503 Service Unavailable with the code 0x80004005", bits.HTTPStatus(503)},
		{errorAck(400, "0x801901A0", "0x7"), "answered 416 Requested Range Not Satisfiable", bits.HTTPStatus(400)},
		{errorAck(408, "0x80070112", "0x7"), "did not answer in time", bits.HTTPStatus(408)},
		{errorAck(500, "0x0", "0x7"), "answered 500 Internal Server Error", bits.HTTPStatus(500)},
	} {
		s := newIIS(t)
		s.act = func(n int, _ *packet) *action {
			if n == 1 {
				return &action{raw: c.raw}
			}
			return nil
		}
		s.start()
		wantError(t, client().Upload(t.Context(), newTask(t, s, []byte("x")).Task), c.code, bits.ContextRemoteApplication, c.want)
	}
}

// TestTheServerGoesBack loses what it had, once and then for ever.
func TestTheServerGoesBack(t *testing.T) {
	data := uploadtest.Bytes(100<<10, 8)
	for _, times := range []int{1, 1000} {
		s := newIIS(t)
		left := times
		s.act = func(_ int, p *packet) *action {
			if p.kind == "Fragment" && p.first > 0 && left > 0 {
				left--
				s.mu.Lock()
				s.sessions[p.id].data = nil
				s.mu.Unlock()
			}
			return nil
		}
		s.start()
		task := newTask(t, s, data)
		task.State.Fragment = 30 << 10
		if times == 1 {
			whole(t, s, task, data)
		} else {
			wantError(t, client().Upload(t.Context(), task.Task), bits.InvalidServerResponse, bits.ContextRemoteFile, "again and again")
		}
	}
}

func TestA416WithoutAnOffsetIsSurvived(t *testing.T) {
	data := uploadtest.Bytes(100<<10, 9)
	s := newIIS(t)
	s.act = func(n int, p *packet) *action {
		if n == 2 || n == 4 {
			return &action{raw: "HTTP/1.1 416 Range\nBITS-Packet-Type: Ack\nContent-Length: 0\n\n"}
		}
		return nil
	}
	s.start()
	task := newTask(t, s, data)
	task.State.Fragment = 60 << 10
	whole(t, s, task, data)
	wantPackets(t, s, "Create-Session", "Fragment 0-61439/102400", "Fragment 61440-102399/102400", "Ping", "Fragment 61440-102399/102400", "Ping",
		"Fragment 61440-102399/102400", "Close-Session")
}

func TestTheSessionIsLost(t *testing.T) {
	data := uploadtest.Bytes(100<<10, 10)
	for _, answer := range []string{"", "HTTP/1.1 404 Not Found\nContent-Length: 0\n\n"} {
		s := newIIS(t)
		s.act = func(_ int, p *packet) *action {
			if p.id == "{lost}" && answer != "" {
				return &action{raw: answer}
			}
			return nil
		}
		s.start()
		task := newTask(t, s, data)
		task.State = upload.State{Protocol: upload.BITS, ID: "{lost}", Offset: 50 << 10, Fragment: 1 << 20}
		whole(t, s, task, data)
		wantPackets(t, s, "Ping", "Fragment 51200-56319/102400", "Create-Session", "Fragment 0-102399/102400", "Close-Session")
		if task.State.Fragment != 1<<20 {
			t.Errorf("what was learned of the server was forgotten: %+v", task.State)
		}
	}
}

func TestTooLargeFragmentsAreHalved(t *testing.T) {
	data := uploadtest.Bytes(3<<20, 11)
	for _, early := range []bool{false, true} {
		s := newIIS(t)
		s.act = func(_ int, p *packet) *action {
			if p.length > 1<<20 {
				return &action{raw: "HTTP/1.1 413 Request Entity Too Large\nServer: nginx\nContent-Type: text/html\nContent-Length: 3\nConnection: close\n\n413", cut: true, early: early}
			}
			return nil
		}
		s.start()
		task := newTask(t, s, data)
		whole(t, s, task, data)
		if task.State.Fragment != 3<<20/4 {
			t.Errorf("early %v: the limit learned is %d", early, task.State.Fragment)
		}
		tooLarge := 0
		for _, p := range s.packets() {
			if strings.HasPrefix(p, "Fragment 0-") {
				tooLarge++
			}
		}
		if tooLarge != 3 {
			t.Errorf("early %v: %q", early, s.packets())
		}
	}
}

func TestHostID(t *testing.T) {
	data := uploadtest.Bytes(100<<10, 12)
	s := newIIS(t)
	_, port, _ := net.SplitHostPort(s.l.Addr().String())
	s.onAck = "BITS-Host-Id: LOCALHOST\nBITS-Host-Id-Fallback-Timeout: 110\n"
	s.reply = "r.bin"
	s.start()
	task := newTask(t, s, data)
	task.Reply = true
	task.Header.Set("Authorization", "Bearer secret")
	whole(t, s, task, data)
	wantPackets(t, s, "Create-Session", "Ping", "Fragment 0-102399/102400", "Close-Session")
	origin, node := s.l.Addr().String(), "LOCALHOST:"+port
	if want := []string{origin, node, node, node}; !slices.Equal(s.host, want) {
		t.Errorf("asked %q, want %q", s.host, want)
	}
	for i, h := range s.got {
		if (h["Authorization"] != "") != (i == 0) {
			t.Errorf("packet %d: %v", i, h)
		}
	}
	if task.State.Reply != s.URL+"r.bin" {
		t.Errorf("the reply is at %s", task.State.Reply)
	}
	if task.State.Host != node || task.State.HostFallback == nil || *task.State.HostFallback != 110 {
		t.Errorf("%+v", task.State)
	}
}

func TestHostURL(t *testing.T) {
	for _, c := range []struct{ url, host, want string }{
		{"http://a/x", "b", "b"},
		{"http://a:8080/x", "b", "b:8080"},
		{"http://a:8080/x", "b:81", "b:81"},
		{"https://a/x", "fe80::1", "[fe80::1]"},
		{"https://a:444/x", "[fe80::1]", "[fe80::1]:444"},
		{"https://a/x", "[fe80::1]:5", "[fe80::1]:5"},
		{"https://a/x", "user@b", ""},
		{"https://a/x", "b/x", ""},
		{"https://a/x", "b?x", ""},
		{"https://a/x", "b:port", ""},
		{"https://a/x", ":80", ""},
	} {
		task := uploadtest.New(t, c.url, uploadtest.NewSource("f", nil))
		s, err := client().open(task.Task)
		if err != nil {
			t.Fatal(err)
		}
		u, err := hostURL(s.origin, c.host)
		if (err == nil) != (c.want != "") || err == nil && (u.Host != c.want || u.Scheme != s.origin.Scheme) {
			t.Errorf("%s with %s: %v, %v, want %s", c.url, c.host, u, err, c.want)
		}
	}
}

// TestTheNamedHostCannotBeReached falls back to the URL's own host, but only when the time is up.
func TestTheNamedHostCannotBeReached(t *testing.T) {
	data := uploadtest.Bytes(50<<10, 13)
	gone := newIIS(t)
	gone.Close()
	s := newIIS(t)
	s.onAck = "BITS-Host-Id: " + gone.l.Addr().String() + "\nBITS-Host-Id-Fallback-Timeout: 100\n"
	s.start()
	task := newTask(t, s, data)
	if err := client().Upload(t.Context(), task.Task); !errors.Is(err, &bits.Error{Code: bits.CannotConnect}) {
		t.Fatal(err)
	}
	task.Restart()
	if f := task.State.HostFailed; f == 0 || f > time.Now().Unix() || task.State.Host == "" {
		t.Fatalf("%+v", task.State)
	}
	first := task.State.HostFailed
	if err := client().Upload(t.Context(), task.Task); !errors.Is(err, &bits.Error{Code: bits.CannotConnect}) || task.State.HostFailed != first {
		t.Fatalf("%v, %+v", err, task.State)
	}
	task.Restart()
	task.State.HostFailed -= 200
	whole(t, s, task, data)
	wantPackets(t, s, "Create-Session", "Ping", "Fragment 0-5119/51200", "Fragment 5120-51199/51200", "Close-Session")

	// Without a timeout it never falls back.
	s = newIIS(t)
	s.onAck = "BITS-Host-Id: " + gone.l.Addr().String() + "\n"
	s.start()
	task = newTask(t, s, data)
	_ = client().Upload(t.Context(), task.Task)
	task.State.HostFailed = 1
	if err := client().Upload(t.Context(), task.Task); !errors.Is(err, &bits.Error{Code: bits.CannotConnect}) || task.State.Host == "" {
		t.Fatalf("%v, %+v", err, task.State)
	}
	// Cancel falls back as well.
	never := int64(0)
	task.State.HostFallback = &never
	if err := client().Cancel(t.Context(), task.Task); err != nil || s.open() != 0 {
		t.Errorf("%v, %d open", err, s.open())
	}
}

func TestTheNamedHostIsNotTrusted(t *testing.T) {
	task := uploadtest.New(t, "https://server.example/f", uploadtest.NewSource("f", nil))
	s, err := client().open(task.Task)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1:22", "localhost", "::1"} {
		if u, err := hostURL(s.origin, host); err != nil || upload.Allowed(s.origin, u) == nil {
			t.Errorf("%s: %v, %v", host, u, err)
		}
	}
}

// TestTheConnectionIsGoneBeforeTheEnd has a server that hangs up after the last fragment.
func TestTheConnectionIsGoneBeforeTheEnd(t *testing.T) {
	data := uploadtest.Bytes(100, 19)
	s := newIIS(t)
	s.act = func(n int, _ *packet) *action {
		if n == 2 {
			return &action{cut: true}
		}
		return nil
	}
	s.start()
	whole(t, s, newTask(t, s, data), data)
	wantPackets(t, s, "Create-Session", "Fragment 0-99/100", "Close-Session", "Close-Session")
}

func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []string // the last one again and again; empty is ordinary service
		sent    int
		code    bits.Code // 0 is success
	}{
		{"ok", []string{""}, 1, 0},
		{"unknown", []string{errorAck(500, "0x8020001F", "0x5")}, 1, 0},
		{"trouble, then ok", []string{errorAck(500, "0x80004005", "0x5"), ""}, 2, 0},
		{"trouble, then unknown", []string{errorAck(503, "0x80004005", "0x5"), errorAck(500, "0x8020001F", "0x5")}, 2, 0},
		{"trouble", []string{errorAck(500, "0x80004005", "0x5")}, 3, bits.HTTPStatus(500)},
		{"refused", []string{errorAck(400, "0x80070057", "0x5")}, 1, bits.InvalidArg},
		{"not found", []string{"HTTP/1.1 404 Not Found\nContent-Length: 0\n\n"}, 1, bits.HTTPStatus(404)},
		{"a portal", []string{"HTTP/1.1 200 OK\nContent-Length: 0\n\n"}, 1, bits.InvalidServerAnswer},
	} {
		for _, kind := range []string{"Close-Session", "Cancel-Session"} {
			t.Run(c.name+" "+kind, func(t *testing.T) {
				t.Parallel() // the pauses between them are for servers
				s := newIIS(t)
				n := 0
				s.act = func(_ int, p *packet) *action {
					a := c.answers[min(n, len(c.answers)-1)]
					n++
					if a == "" {
						return nil
					}
					return &action{raw: a}
				}
				s.sessions["{1}"] = &iisSession{total: 1}
				s.start()
				task := newTask(t, s, nil)
				task.Source = nil
				task.State = upload.State{Protocol: upload.BITS, ID: "{1}"}
				end := client().Close
				if kind == "Cancel-Session" {
					end = client().Cancel
				}
				err := end(t.Context(), task.Task)
				if c.code == 0 && err != nil {
					t.Error(err)
				}
				if c.code != 0 {
					wantError(t, err, c.code, bits.ContextRemoteFile, "")
				}
				want := slices.Repeat([]string{kind}, c.sent)
				wantPackets(t, s, want...)
			})
		}
	}
	task := uploadtest.New(t, "http://127.0.0.1:1/f", nil)
	if err := client().Cancel(t.Context(), task.Task); err != nil {
		t.Errorf("cancel of what never began: %v", err)
	}
}

func TestTheLocalFileChanges(t *testing.T) {
	for _, at := range []int64{0, 20 << 10} {
		s := newIIS(t).start()
		changed := &bits.Error{Code: bits.LocalFileChanged, Context: bits.ContextLocalFile}
		src := uploadtest.NewSource("f", uploadtest.Bytes(1<<20, 14))
		src.Fail = func(off int64) error {
			if off >= at {
				return changed
			}
			return nil
		}
		task := uploadtest.New(t, s.URL+"f.bin", src)
		if err := client().Upload(t.Context(), task.Task); !errors.Is(err, changed) {
			t.Errorf("at %d: %v", at, err)
		}
		if _, ok := s.file("f.bin"); ok {
			t.Error("published")
		}
	}
}

// short is a file that ends before its size.
type short struct{ *uploadtest.Source }

func (s short) Size() int64 { return s.Source.Size() + 1 }

func TestTheLocalFileBecomesShorter(t *testing.T) {
	s := newIIS(t).start()
	task := uploadtest.New(t, s.URL+"f.bin", short{uploadtest.NewSource("f", uploadtest.Bytes(1<<20, 15))})
	wantError(t, client().Upload(t.Context(), task.Task), bits.LocalFileChanged, bits.ContextLocalFile, "shorter")
}

// TestAServerThatStandsStill takes a part of a fragment, or all of it, and then nothing happens.
func TestAServerThatStandsStill(t *testing.T) {
	s := newIIS(t)
	wake := make(chan struct{})
	s.act = func(_ int, p *packet) *action {
		if p.kind == "Fragment" {
			<-wake
		}
		return nil
	}
	s.start()
	defer close(wake)
	task := newTask(t, s, uploadtest.Bytes(13<<20, 16))
	task.Stall = func() time.Duration { return 200 * time.Millisecond }
	begun := time.Now()
	wantError(t, client().Upload(t.Context(), task.Task), bits.WinHTTPTimeout, bits.ContextGeneralTransport, "")
	if d := time.Since(begun); d > 8*time.Second {
		t.Errorf("it took %v", d)
	}

	task = newTask(t, s, []byte("x"))
	ctx, cancel := context.WithCancelCause(t.Context())
	defer time.AfterFunc(200*time.Millisecond, func() { cancel(errors.New("suspended")) }).Stop()
	if err := client().Upload(ctx, task.Task); err == nil || err.Error() != "suspended" {
		t.Errorf("a wait for an answer ended with %v", err)
	}
}

// TestAnIdleConnectionIsClosed survives servers that hang up between packets, also with a word.
func TestAnIdleConnectionIsClosed(t *testing.T) {
	data := uploadtest.Bytes(100<<10, 17)
	for _, last := range []string{"", "HTTP/1.1 408 Request Timeout\nConnection: close\nContent-Length: 0\n\n"} {
		s := newIIS(t)
		closing := true
		s.act = func(n int, p *packet) *action {
			if p.first == 40<<10 && closing {
				closing = false
				if last == "" {
					return &action{cut: true}
				}
				return &action{raw: last, early: true}
			}
			return nil
		}
		s.start()
		task := newTask(t, s, data)
		task.State.Fragment = 40 << 10
		whole(t, s, task, data)
	}
}

func TestTheNameIsAddedToADirectory(t *testing.T) {
	s := newIIS(t).start()
	task := uploadtest.New(t, s.URL, uploadtest.NewSource("f.bin", []byte("data")))
	whole(t, s, task, []byte("data"))
	if s.open() != 0 || task.State.URL != s.URL+"f.bin" {
		t.Errorf("%+v", task.State)
	}
}

func TestUserOfTheURL(t *testing.T) {
	s := newIIS(t).start()
	task := uploadtest.New(t, strings.Replace(s.URL, "://", "://user:secret@", 1)+"f.bin", uploadtest.NewSource("f", []byte("data")))
	task.Header.Set("X-Own", "1")
	whole(t, s, task, []byte("data"))
	for _, h := range s.got {
		if h["Authorization"] != "Basic dXNlcjpzZWNyZXQ=" || h["X-Own"] != "1" || h["Host"] != s.l.Addr().String() || h["User-Agent"] != "ebb-test" {
			t.Errorf("%v", h)
		}
	}
}
