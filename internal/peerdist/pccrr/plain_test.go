package pccrr

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist"
)

var datePattern = regexp.MustCompile(`\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n`)

// TestPlainRequestsAreAnsweredAsOthers sends requests that differ by a header that net/http is needed for, and
// wants the same bytes for them.
func TestPlainRequestsAreAnsweredAsOthers(t *testing.T) {
	body := random(4 * 65536)
	s := segments(t, body, peerdist.SHA256)[0]
	id := s.ID()
	peer := serving(t, NewServer(filled(t, body, []peerdist.Segment{s}, func(i int) bool { return i != 2 }), 64, everybody), "127.0.0.1:0")
	messages := [][]byte{
		AppendRequest(nil, AES128, GetBlockList{id, []Range{{0, 4}}}),
		AppendRequest(nil, AES128, GetBlocks{id, []Range{{2, 1}}}),
		AppendRequest(nil, AES128, GetSegmentList{Segments: slices.Repeat([][]byte{id}, 256)}),
		AppendRequest(nil, AES128, NegotiateRequest{Version1, Version2}),
		[]byte("nonsense"),
		nil,
	}
	for i, m := range messages {
		request := appendPost(nil, peer, m)
		if _, n, err := plain(request); n != len(request) || err != nil {
			t.Errorf("message %d: plain until %d of %d, %v", i, n, len(request), err)
		}
		var answers [2]string
		for k, request := range [][]byte{request, bytes.Replace(request, []byte("\r\n\r\n"), []byte("\r\nX-Other: 1\r\n\r\n"), 1)} {
			b := ask(t, peer, request)
			if !datePattern.Match(b) {
				t.Errorf("message %d: no date in %q", i, b)
			}
			answers[k] = string(datePattern.ReplaceAll(b, nil))
		}
		if answers[0] != answers[1] {
			t.Errorf("message %d: %q, want %q", i, answers[0], answers[1])
		}
	}
}

// ask sends a request in two parts on a connection of its own and returns the answer as it came.
func ask(t *testing.T, peer netip.AddrPort, request []byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", peer.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	half := len(request) / 2
	_, _ = conn.Write(request[:half])
	_, _ = conn.Write(request[half:])
	var got bytes.Buffer
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &got)), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return got.Bytes()
}

// TestAConnectionWithRequestsOfBothForms has several on the way at once, which are answered in their order.
func TestAConnectionWithRequestsOfBothForms(t *testing.T) {
	body := random(8 * 65536)
	s := segments(t, body, peerdist.SHA256)[0]
	peer := serving(t, NewServer(filled(t, body, []peerdist.Segment{s}, whole), 64, everybody), "127.0.0.1:0")
	conn, err := net.Dial("tcp", peer.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	var all []byte
	for i := range 8 {
		request := appendPost(nil, peer, AppendRequest(nil, AES128, GetBlocks{s.ID(), []Range{{uint32(i), 1}}}))
		if i == 3 {
			request = bytes.Replace(request, []byte("User-Agent"), []byte("user-agent"), 1)
		}
		all = append(all, request...)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(all)
		sent <- err
	}()
	r := bufio.NewReader(conn)
	for i := range 8 {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(i, err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(i, err)
		}
		m, c, err := DecodeResponse(b)
		if err != nil {
			t.Fatal(i, err)
		}
		if data, err := Open(c, s.Secret, m.(Block)); err != nil || !s.Verify(i, data) {
			t.Errorf("block %d is another, %v", i, err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestWhatIsPlain(t *testing.T) {
	good := string(appendPost(nil, netip.MustParseAddrPort("10.0.0.1:80"), []byte("body")))
	for _, v := range []struct {
		name, request string
		err           error
		n             int
	}{
		{"ours", good, nil, len(good)},
		{"with more after it", good + "POST", nil, len(good)},
		{"nothing", "", nil, 0},
		{"its beginning", good[:10], nil, 0},
		{"half a header", good[:80], nil, 0},
		{"half a body", good[:len(good)-2], nil, 0},
		{"a GET", strings.Replace(good, "POST", "GET", 1), errNotPlain, 0},
		{"another path", strings.Replace(good, "116B", "116C", 1), errNotPlain, 0},
		{"another case", strings.Replace(good, "116B", "116b", 1), errNotPlain, 0},
		{"HTTP/1.0", strings.Replace(good, "1.1\r", "1.0\r", 1), errNotPlain, 0},
		{"HTTP/1.10", strings.Replace(good, "1.1\r", "1.10\r", 1), errNotPlain, 0},
		{"no host", strings.Replace(good, "Host: 10.0.0.1:80\r\n", "", 1), errNotPlain, 0},
		{"two hosts", strings.Replace(good, "Host", "Host: a\r\nHost", 1), errNotPlain, 0},
		{"no length", strings.Replace(good, "Content-Length: 4\r\n", "", 1), errNotPlain, 0},
		{"two lengths", strings.Replace(good, "Content-L", "Content-Length: 4\r\nContent-L", 1), errNotPlain, 0},
		{"a length with a sign", strings.Replace(good, "Length: 4", "Length: +4", 1), errNotPlain, 0},
		{"a length that is too long", strings.Replace(good, "Length: 4", "Length: 12288", 1), errNotPlain, 0},
		{"in chunks", strings.Replace(good, "Host", "Transfer-Encoding: chunked\r\nHost", 1), errNotPlain, 0},
		{"that waits", strings.Replace(good, "Host", "Expect: 100-continue\r\nHost", 1), errNotPlain, 0},
		{"that is the last", strings.Replace(good, "Host", "Connection: close\r\nHost", 1), errNotPlain, 0},
		{"a folded line", strings.Replace(good, "Host: ", "Host: \r\n ", 1), errNotPlain, 0},
		{"a line in a line", strings.Replace(good, "Ebb", "Ebb\nExpect: 100-continue", 1), errNotPlain, 0},
		{"a line without a colon", strings.Replace(good, "Host", "Ho\r\nHost", 1), errNotPlain, 0},
	} {
		message, n, err := plain([]byte(v.request))
		if n != v.n || err != v.err || n > 0 && string(message) != "body" {
			t.Errorf("%s: %q until %d, %v; want %d, %v", v.name, message, n, err, v.n, v.err)
		}
	}
}

// FuzzPlain holds what is taken for plain against what net/http makes of it.
func FuzzPlain(f *testing.F) {
	good := appendPost(nil, netip.MustParseAddrPort("10.0.0.1:80"), []byte("body"))
	f.Add(good)
	f.Add(append(slices.Clone(good), good...))
	f.Add(bytes.Replace(good, []byte("Host"), []byte("Expect: 100-continue\r\nHost"), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		message, n, err := plain(b)
		if n == 0 || err != nil {
			return
		}
		r := bufio.NewReader(bytes.NewReader(b[:n]))
		q, err := http.ReadRequest(r)
		if err != nil {
			// Values of headers that it does not take, and nobody here looks at.
			return
		}
		got, err := io.ReadAll(q.Body)
		if err != nil || !bytes.Equal(got, message) || r.Buffered() > 0 || q.Method != http.MethodPost || q.URL.Path != Path || q.Close {
			t.Errorf("%q, want %q, %v", message, got, err)
		}
	})
}
