package bupwire_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/bupwire"
)

// vector reads a message of [MC-BUP] 4, example 1.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "upload-example1", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const vectorSession = "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}"

var vectorRequests = []struct {
	file, body string
	want       bupwire.Request
}{
	{"01-ex1-create-session-request-from-the-client.bin", "", bupwire.Request{Type: bupwire.CreateSession, Protocols: []string{bupwire.Protocol}, ContentName: "rfc2119.txt"}},
	{"03-ex1-fragment-request-from-the-client-headers-only.bin", "04-ex1-fragment-request-from-the-client-message-body.bin",
		bupwire.Request{Type: bupwire.Fragment, SessionID: vectorSession, ContentName: "rfc2119.txt", Range: bupwire.Range{First: 0, Last: 4891, Total: 4892}, Length: 4892}},
	{"06-ex1-ping-request-from-the-client.bin", "", bupwire.Request{Type: bupwire.Ping}},
	{"08-ex1-close-session-request-from-the-client.bin", "", bupwire.Request{Type: bupwire.CloseSession, SessionID: vectorSession, ContentName: "rfc2119.txt"}},
}

func TestWindowsRequestsRoundTripByteForByte(t *testing.T) {
	for _, v := range vectorRequests {
		t.Run(string(v.want.Type), func(t *testing.T) {
			raw := vector(t, v.file)
			if v.body != "" {
				raw = append(raw, vector(t, v.body)...)
			}
			hr, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(hr.Body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := bupwire.ParseRequest(hr.Header, hr.ContentLength)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(v.want, got); d != "" {
				t.Errorf("parsed (-want +got):\n%s", d)
			}
			if int64(len(body)) != got.Length {
				t.Errorf("body has %d bytes, want %d", len(body), got.Length)
			}
			head, err := got.Head(hr.RequestURI, hr.Host, http.Header{"User-Agent": {"Microsoft BITS/6.7"}})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(raw), string(head)+string(body)); d != "" {
				t.Errorf("written (-want +got):\n%s", d)
			}
		})
	}
}

// fields returns the header lines of a raw message as they are spelled, without those that differ
// from one server or moment to another.
func fields(t *testing.T, raw []byte) []string {
	t.Helper()
	head, _, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok {
		t.Fatalf("no end of headers in %q", raw)
	}
	var out []string
	for _, line := range strings.Split(string(head), "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "date", "server", "cache-control":
		case "accept-encoding": // "Accept-encoding" in the capture
			out = append(out, strings.ToLower(line))
		default:
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

// exchange has a real server answer a raw request with a, and returns the raw answer.
func exchange(t *testing.T, raw []byte, a bupwire.Ack) []byte {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		a.Write(w)
	}))
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// The Acks of the capture come out of a Go server with the same lines. What differs: their order, Date
// and Server, Cache-Control: no-store on top, and Accept-Encoding, which IIS spells with a small e.
func TestIISAcksRoundTrip(t *testing.T) {
	for _, v := range []struct {
		file string
		want bupwire.Ack
	}{
		{"02-ex1-ack-response-from-the-server.bin", bupwire.Ack{Status: 200, Protocol: bupwire.Protocol, SessionID: vectorSession, Received: -1}},
		{"05-ex1-ack-response-from-the-server.bin", bupwire.Ack{Status: 200, Received: 4892}},
		{"07-ex1-ack-response-from-the-server.bin", bupwire.Ack{Status: 200, Received: -1}},
		{"09-ex1-ack-response-from-the-server.bin", bupwire.Ack{Status: 200, Received: -1}},
	} {
		t.Run(v.file[:2], func(t *testing.T) {
			raw := vector(t, v.file)
			got := parseAck(t, raw)
			if d := cmp.Diff(v.want, got); d != "" {
				t.Errorf("parsed (-want +got):\n%s", d)
			}
			written := exchange(t, vector(t, "06-ex1-ping-request-from-the-client.bin"), got)
			if d := cmp.Diff(fields(t, raw), fields(t, written)); d != "" {
				t.Errorf("written (-want +got):\n%s", d)
			}
		})
	}
}

func parseAck(t *testing.T, raw []byte) bupwire.Ack {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), &http.Request{Method: bupwire.Method})
	if err != nil {
		t.Fatal(err)
	}
	a, err := bupwire.ParseAck(resp)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAcksSurviveWritingAndParsing(t *testing.T) {
	d := 110 * time.Second
	for _, a := range []bupwire.Ack{
		{Status: 200, Protocol: bupwire.Protocol, SessionID: vectorSession, HostID: "FRANKCAO8", HostIDFallback: &d, Received: -1},
		{Status: 200, Protocol: bupwire.Protocol, SessionID: vectorSession, HostID: "[::1]:8080", Received: -1},
		{Status: 200, SessionID: vectorSession, Received: 4892, ReplyURL: "http://h/d/BITS-Sessions/Replies/%7BX%7D/responsefile.bin"},
		{Status: 200, Received: 0},
		{Status: 416, SessionID: vectorSession, Received: 6000, Context: bits.ContextRemoteFile},
		{Status: 500, Received: -1, Code: bits.SessionNotFound, Context: bits.ContextRemoteFile},
		{Status: 403, Received: -1, Code: bits.HTTPStatus(403), Context: bits.ContextRemoteApplication},
	} {
		raw := exchange(t, vector(t, "06-ex1-ping-request-from-the-client.bin"), a)
		if d := cmp.Diff(a, parseAck(t, raw)); d != "" {
			t.Errorf("%+v (-want +got):\n%s", a, d)
		}
		if a.Context != bits.ContextNone {
			for _, name := range []string{"BITS-Error-Code: ", "BITS-Error: ", "BITS-Error-Context: 0x"} {
				if !strings.Contains(string(raw), "\r\n"+name) {
					t.Errorf("no %q in %q", name, raw)
				}
			}
		}
	}
}

func TestAcksOfOtherServers(t *testing.T) {
	second := time.Second
	for _, v := range []struct {
		name   string
		status int
		header string
		want   bupwire.Ack
	}{
		{"error under MC-BUP's name", 500, "BITS-Packet-Type: ACK\nBITS-Error: 0x8020001f\nBITS-Error-Context: 0x5", bupwire.Ack{Received: -1, Code: bits.SessionNotFound, Context: bits.ContextRemoteFile}},
		{"documented name wins", 500, "bits-packet-type: ack\nBITS-Error-Code: 0x80070057\nBITS-Error: 0x1", bupwire.Ack{Received: -1, Code: bits.InvalidArg, Context: bits.ContextRemoteFile}},
		{"disk full as MC-BUP prints it", 500, "BITS-Packet-Type: Ack\nBITS-Error-Code: 0x80070112\nBITS-Error-Context: 0x5", bupwire.Ack{Received: -1, Code: bits.DiskFull, Context: bits.ContextRemoteFile}},
		{"application's timeout as MC-BUP prints it", 408, "BITS-Packet-Type: Ack\nBITS-Error-Code: 0x80070112\nBITS-Error-Context: 0x7", bupwire.Ack{Received: -1, Code: bits.TimedOut, Context: bits.ContextRemoteApplication}},
		{"code that is none", 500, "BITS-Packet-Type: Ack\nBITS-Error-Code: oops", bupwire.Ack{Received: -1}},
		{"GoBITS's spelling", 416, "BITS-Packet-Type: Ack\nBITS-Recieved-Content-Range: 77", bupwire.Ack{Received: 77}}, //nolint:misspell // as it is
		{"416 of something else", 416, "BITS-Packet-Type: Ack", bupwire.Ack{Received: -1}},
		{"nginx", 413, "Content-Type: text/html", bupwire.Ack{Received: -1, Foreign: true}},
		{"a web server that ignores the method", 200, "Content-Type: text/html\nBITS-Received-Content-Range: 5", bupwire.Ack{Received: -1, Foreign: true}},
		{"fallback without a host", 200, "BITS-Packet-Type: Ack\nBITS-Host-Id-Fallback-Timeout: 1", bupwire.Ack{Received: -1}},
		{"fallback", 200, "BITS-Packet-Type: Ack\nBITS-Host-Id: h\nBITS-Host-Id-Fallback-Timeout: 1", bupwire.Ack{Received: -1, HostID: "h", HostIDFallback: &second}},
		{"fallback never", 200, "BITS-Packet-Type: Ack\nBITS-Host-Id: h\nBITS-Host-Id-Fallback-Timeout: 4294967295", bupwire.Ack{Received: -1, HostID: "h"}},
	} {
		v.want.Status = v.status
		got, err := bupwire.ParseAck(&http.Response{StatusCode: v.status, Header: header(v.header)})
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		if d := cmp.Diff(v.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", v.name, d)
		}
	}
}

func TestHostileAcksAreRefused(t *testing.T) {
	for name, h := range map[string]string{
		"huge offset":          "BITS-Received-Content-Range: 99999999999999999999",
		"negative offset":      "BITS-Received-Content-Range: -1",
		"offset as range":      "BITS-Received-Content-Range: 0-5",
		"long session":         "BITS-Session-Id: " + strings.Repeat("x", 101),
		"session with space":   "BITS-Session-Id: a b",
		"host with path":       "BITS-Host-Id: evil/x",
		"host with user":       "BITS-Host-Id: me@evil",
		"long host":            "BITS-Host-Id: " + strings.Repeat("h", 301),
		"long reply":           "BITS-Reply-URL: /" + strings.Repeat("r", 2200),
		"two sessions":         "BITS-Session-Id: a\nBITS-Session-Id: b",
		"header beyond 4 KiB":  "BITS-Protocol: " + strings.Repeat("p", 4097),
		"session not in ASCII": "BITS-Session-Id: ü",
	} {
		if a, err := bupwire.ParseAck(&http.Response{StatusCode: 200, Header: header("BITS-Packet-Type: Ack\n" + h)}); err == nil {
			t.Errorf("%s: parsed as %+v", name, a)
		}
	}
}

// header makes a header of lines, with the names as net/http reads them.
func header(lines string) http.Header {
	h := http.Header{}
	for line := range strings.SplitSeq(lines, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			h.Add(name, strings.TrimSpace(value))
		}
	}
	return h
}

func TestRequestsOfOtherClients(t *testing.T) {
	const id = "\nBITS-Session-Id: {x}"
	for _, v := range []struct {
		name, header string
		length       int64
		want         bupwire.Request
	}{
		{"case", "BITS-PACKET-TYPE: FRAgmENT" + id + "\nContent-Range: Bytes 0-1/5\nContent-Length: 2", 2, bupwire.Request{Type: bupwire.Fragment, SessionID: "{x}", Range: bupwire.RangeOf(0, 2, 5), Length: 2}},
		{"no Content-Length on Create", "BITS-Packet-Type: CREATE-SESSION\nBITS-Supported-Protocols: {7df0354d-249b-430f-820D-3D2A9BEF4931}", 0,
			bupwire.Request{Type: bupwire.CreateSession, Protocols: []string{"{7df0354d-249b-430f-820D-3D2A9BEF4931}"}}},
		{"commas", "BITS-Packet-Type: Create-Session\nBITS-Supported-Protocols: {a},{b}, {c} {d}", 0, bupwire.Request{Type: bupwire.CreateSession, Protocols: []string{"{a}", "{b}", "{c}", "{d}"}}},
		{"chunked", "BITS-Packet-Type: Fragment" + id + "\nContent-Range: bytes 0-1/5", -1, bupwire.Request{Type: bupwire.Fragment, SessionID: "{x}", Range: bupwire.RangeOf(0, 2, 5), Length: -1}},
		{"empty file without Content-Length", "BITS-Packet-Type: Fragment" + id + "\nContent-Range: bytes */0", 0, bupwire.Request{Type: bupwire.Fragment, SessionID: "{x}", Range: bupwire.Range{Last: -1}}},
		{"ping with a session", "BITS-Packet-Type: Ping" + id, 0, bupwire.Request{Type: bupwire.Ping}},
		{"cancel", "BITS-Packet-Type: Cancel-Session" + id, 0, bupwire.Request{Type: bupwire.CancelSession, SessionID: "{x}"}},
		{"identity", "BITS-Packet-Type: Fragment" + id + "\nContent-Encoding: Identity\nContent-Range: bytes 3-4/5\nContent-Length: 2", 2, bupwire.Request{Type: bupwire.Fragment, SessionID: "{x}", Range: bupwire.RangeOf(3, 2, 5), Length: 2}},
		{"the same header twice", "BITS-Packet-Type: Close-Session" + id + id, 0, bupwire.Request{Type: bupwire.CloseSession, SessionID: "{x}"}},
	} {
		got, err := bupwire.ParseRequest(header(v.header), v.length)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		if d := cmp.Diff(v.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", v.name, d)
		}
	}
	citrix := bupwire.Request{Protocols: []string{"{0}", "{7df0354d-249b-430f-820D-3D2A9BEF4931}"}}
	if !citrix.Speaks() || (&bupwire.Request{Protocols: []string{"{0}"}}).Speaks() {
		t.Error("Speaks does not compare GUIDs")
	}
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	const frag = "BITS-Packet-Type: Fragment\nBITS-Session-Id: {x}\n"
	for _, v := range []struct {
		name, header string
		length       int64
		status       int
	}{
		{"no packet type", "Content-Length: 0", 0, 400},
		{"unknown packet type", "BITS-Packet-Type: Ack", 0, 400},
		{"no session", "BITS-Packet-Type: Close-Session", 0, 400},
		{"long session", "BITS-Packet-Type: Close-Session\nBITS-Session-Id: " + strings.Repeat("x", 101), 0, 400},
		{"two sessions", "BITS-Packet-Type: Close-Session\nBITS-Session-Id: {x}\nBITS-Session-Id: {y}", 0, 400},
		{"body of a ping", "BITS-Packet-Type: Ping\nContent-Length: 1", 1, 400},
		{"chunked ping", "BITS-Packet-Type: Ping", -1, 400},
		{"header beyond 4 KiB", "BITS-Packet-Type: Ping\nContent-Name: " + strings.Repeat("n", 4097), 0, 400},
		{"no range", frag + "Content-Length: 2", 2, 400},
		{"no Content-Length", frag + "Content-Range: bytes 0-1/2", 0, 411},
		{"Content-Length is not the range's", frag + "Content-Range: bytes 0-1/2\nContent-Length: 3", 3, 400},
		{"empty body", frag + "Content-Range: bytes 0-1/2\nContent-Length: 0", 0, 400},
		{"coding", frag + "Content-Encoding: gzip\nContent-Range: bytes 0-1/2\nContent-Length: 2", 2, 400},
	} {
		got, err := bupwire.ParseRequest(header(v.header), v.length)
		var e *bupwire.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: parsed as %+v, error %v", v.name, got, err)
			continue
		}
		if a := e.Ack(); a.Status != v.status || a.Code != bits.InvalidArg || a.Context != bits.ContextRemoteFile {
			t.Errorf("%s: answer %+v, want status %d", v.name, a, v.status)
		}
	}
}

func TestRanges(t *testing.T) {
	for in, want := range map[string]string{
		"bytes 0-4891/4892":                 "bytes 0-4891/4892",
		"Bytes 4096-8191/10240":             "bytes 4096-8191/10240",
		" bytes  7-7/8 ":                    "bytes 7-7/8",
		"bytes */0":                         "bytes */0",
		"bytes 0--1/0":                      "bytes */0",
		"bytes 0-0/0":                       "bytes */0",
		"bytes 0-0/1":                       "bytes 0-0/1",
		"":                                  "",
		"bytes":                             "",
		"bytes 0-4":                         "",
		"bytes 0-4/*":                       "",
		"bytes */5":                         "",
		"bytes 0-5/5":                       "",
		"bytes 4-3/5":                       "",
		"bytes -1-3/5":                      "",
		"bytes 1-2/0":                       "",
		"bytes +0-3/5":                      "",
		"bytes 0x0-3/5":                     "",
		"bytes 0-3/-5":                      "",
		"items 0-3/5":                       "",
		"bytes 0-3,4-4/5":                   "",
		"bytes 0-1/99999999999999999999999": "",
		"bytes 0-9223372036854775806/9223372036854775807": "bytes 0-9223372036854775806/9223372036854775807",
	} {
		got, err := bupwire.ParseRange(in)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("ParseRange(%q) = %v, %v; want %q", in, got, err, want)
		}
	}
}

func TestReplyURLs(t *testing.T) {
	for _, v := range []struct{ upload, reply, want string }{
		// As IIS sends it, and as Windows asks for it (server.md 1.15B).
		{"http://frankcao8/upload-ref-isapi-WebFarm/2100mb-rfc2119.txt", `BITS-Sessions\Replies\{C85B4E0A-9EB9-4114-BFA4-8A43B4710091}\responsefile.bin`,
			"http://frankcao8/upload-ref-isapi-WebFarm/BITS-Sessions/Replies/%7BC85B4E0A-9EB9-4114-BFA4-8A43B4710091%7D/responsefile.bin"},
		{"http://h/d/f?q=1", "r.bin", "http://h/d/r.bin"},
		{"http://h/d/f", `\r\{x}`, "http://h/r/%7Bx%7D"},
		{"http://h/d/f", "https://other:8/a%7Bb?x={y}", "https://other:8/a%7Bb?x={y}"},
		{"http://u:p@h/d/f", "r", "http://h/d/r"},
		{"http://u:p@h/d/f", "http://h/r", "http://h/r"},
		{"http://h/d/f", "http://u:p@evil/r#f", "http://evil/r"},
		{"http://h/d/f", `\\host2\r`, "http://host2/r"},
		// A server behind a proxy that ends TLS does not know of it.
		{"https://h/d/f", "http://h/r", "https://h/r"},
		{"https://h:8443/d/f", "http://H/r", "https://h:8443/r"},
		{"https://h:8443/d/f", "http://h:8443/r", "https://h:8443/r"},
		{"https://u:p@h/d/f", "http://h/r", "https://h/r"},
		{"https://h/d/f", "http://h:8080/r", ""},
		{"https://h/d/f", "http://other/r", ""},
		{"http://h/d/f", "http://:80/r", ""},
		{"http://h/d/f", "file:///etc/passwd", ""},
		{"http://h/d/f", "mailto:me", ""},
		{"http://h/d/f", "http://[", ""},
		{"http://h/d/f", "/" + strings.Repeat("r", 2200), ""},
	} {
		u, err := url.Parse(v.upload)
		if err != nil {
			t.Fatal(err)
		}
		got, err := bupwire.ReplyURL(u, v.reply)
		if v.want == "" {
			if err == nil {
				t.Errorf("ReplyURL(%q, %.50q) = %v", v.upload, v.reply, got)
			}
			continue
		}
		if err != nil || got.String() != v.want {
			t.Errorf("ReplyURL(%q, %.50q) = %v, %v; want %s", v.upload, v.reply, got, err, v.want)
		}
	}
}

func TestHead(t *testing.T) {
	r := bupwire.Request{Type: bupwire.Fragment, SessionID: "{x}", ContentName: "a:b", Range: bupwire.RangeOf(5, 3, 9), Length: 3}
	got, err := r.Head("http://h/f", "h", http.Header{
		"X-B": {"2"}, "x-a": {"1", "3"}, "User-Agent": {"ebb"}, "Content-Length": {"9"}, "Bits-Packet-Type": {"Ping"}, "Transfer-Encoding": {"chunked"}, "host": {"evil"},
	})
	want := "BITS_POST http://h/f HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: Fragment\r\nBITS-Session-Id: {x}\r\nContent-Range: bytes 5-7/9\r\n" +
		"User-Agent: ebb\r\nX-B: 2\r\nx-a: 1\r\nx-a: 3\r\nHost: h\r\nContent-Length: 3\r\nConnection: Keep-Alive\r\n\r\n"
	if d := cmp.Diff(want, string(got)); d != "" || err != nil {
		t.Errorf("error %v (-want +got):\n%s", err, d)
	}
	for name, bad := range map[string]func() ([]byte, error){
		"target":  func() ([]byte, error) { return r.Head("/a b", "h", nil) },
		"newline": func() ([]byte, error) { return r.Head("/a\r\nX: y", "h", nil) },
		"empty":   func() ([]byte, error) { return r.Head("", "h", nil) },
		"host":    func() ([]byte, error) { return r.Head("/", "h\r\nX: y", nil) },
		"value":   func() ([]byte, error) { return r.Head("/", "h", http.Header{"X": {"a\r\nY: b"}}) },
		"name":    func() ([]byte, error) { return r.Head("/", "h", http.Header{"X\r\nY": {"a"}}) },
		"session": func() ([]byte, error) {
			return (&bupwire.Request{Type: bupwire.Fragment, SessionID: "x\r\ny"}).Head("/", "h", nil)
		},
	} {
		if got, err := bad(); err == nil {
			t.Errorf("%s: written as %q", name, got)
		}
	}
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes 0-4891/4892", "bytes */0", "bytes 0--1/0", "Bytes 1-1/2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := bupwire.ParseRange(s)
		if err != nil {
			return
		}
		if r.First < 0 || r.Last >= r.Total || r.Len() < 0 || r.Len() > r.Total {
			t.Fatalf("ParseRange(%q) = %+v", s, r)
		}
		if again, err := bupwire.ParseRange(r.String()); err != nil || again != r {
			t.Fatalf("%q came back as %+v, %v", r.String(), again, err)
		}
	})
}

func FuzzRequest(f *testing.F) {
	for _, v := range vectorRequests {
		f.Add(vector(f, v.file))
	}
	f.Add([]byte("BITS_POST / HTTP/1.0\r\nBITS-Packet-Type: Fragment\r\nBITS-Session-Id: x\r\nContent-Range: bytes */0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		hr, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		r, err := bupwire.ParseRequest(hr.Header, hr.ContentLength)
		if err != nil {
			if a := err.(*bupwire.Error).Ack(); a.Status < 400 || a.Status > 499 {
				t.Fatalf("answer %+v to %q", a, raw)
			}
			return
		}
		if r.Length < 0 {
			r.Length = r.Range.Len()
		}
		head, err := r.Head("/", "h", nil)
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", r, err)
		}
		hr, err = http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		again, err := bupwire.ParseRequest(hr.Header, hr.ContentLength)
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		if again.ContentName == "" {
			again.ContentName = r.ContentName // one that should not be sent is left out
		}
		if d := cmp.Diff(fmt.Sprintf("%+v", r), fmt.Sprintf("%+v", again)); d != "" {
			t.Fatalf("%q (-want +got):\n%s", head, d)
		}
	})
}

func FuzzAck(f *testing.F) {
	files, err := filepath.Glob("testdata/upload-example1/*-ack-*.bin")
	if err != nil || len(files) != 4 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		f.Add(vector(f, filepath.Base(name)))
	}
	f.Add([]byte("HTTP/1.1 500 X\r\nBITS-Packet-Type: Ack\r\nBITS-Error: 0x8020001F\r\nBITS-Host-Id: h:1\r\nBITS-Host-Id-Fallback-Timeout: 110\r\nBITS-Reply-URL: a\\{b}\r\nContent-Length: 0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), &http.Request{Method: bupwire.Method})
		if err != nil {
			return
		}
		a, err := bupwire.ParseAck(resp)
		if err != nil || a.Foreign || a.Status < 200 || a.Status > 599 {
			return
		}
		w := httptest.NewRecorder()
		a.Write(w)
		resp.Header = http.Header{}
		for _, name := range slices.Sorted(maps.Keys(w.Header())) { // as a client reads it
			resp.Header.Add(name, w.Header()[name][0])
		}
		resp.StatusCode = w.Code
		again, err := bupwire.ParseAck(resp)
		if err != nil {
			t.Fatalf("%+v came back with %v", a, err)
		}
		if d := cmp.Diff(a, again); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
	})
}

func FuzzReplyURL(f *testing.F) {
	f.Add(`BITS-Sessions\Replies\{C85B4E0A-9EB9-4114-BFA4-8A43B4710091}\responsefile.bin`)
	f.Add("https://h/x?y#z")
	f.Add(`\\h\..\x`)
	upload := &url.URL{Scheme: "https", User: url.UserPassword("u", "p"), Host: "server", Path: "/d/f"}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := bupwire.ReplyURL(upload, s)
		if err != nil {
			return
		}
		if u.Scheme != "https" || u.Host == "" || u.User != nil {
			t.Fatalf("ReplyURL(%q) = %v", s, u)
		}
		if _, err := http.NewRequest("GET", u.String(), nil); err != nil {
			t.Fatalf("ReplyURL(%q) = %q: %v", s, u, err)
		}
	})
}
