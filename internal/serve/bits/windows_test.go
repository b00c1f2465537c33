package bits_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// windows is a BITS client as Windows has it, written from the exchanges in server.md 1.15 and the
// state machine in 1.6: raw bytes over a socket, and header names looked at as they are spelled.
// It shares no code with the server.
type windows struct {
	t    testing.TB
	addr string // of the server
	path string // of the upload's URL, with its query
	host string // of the Host header
	user string // the test server takes it for the authenticated principal

	conn    net.Conn
	br      *bufio.Reader
	session string
	offset  int64 // acknowledged
	reply   string
}

const guid = "{7df0354d-249b-430f-820d-3d2a9bef4931}"

// answer is a response. The keys of header are spelled as they came.
type answer struct {
	proto  string
	status int
	header map[string]string
	body   string
}

func (a answer) String() string { return fmt.Sprint(a.status, " ", a.header) }

// dial opens the connection, or opens it anew.
func (c *windows) dial() error {
	c.hangUp()
	conn, err := net.DialTimeout("tcp", c.addr, 10*time.Second)
	if err != nil {
		return err
	}
	c.conn, c.br = conn, bufio.NewReader(conn)
	return conn.SetDeadline(time.Now().Add(30 * time.Second))
}

func (c *windows) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// packet returns the bytes of a request without its body. Headers are "Name: value".
func (c *windows) packet(kind string, length int, headers ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "BITS_POST %s HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: %s\r\n", c.path, kind)
	if c.user != "" {
		headers = append(headers, "X-User: "+c.user)
	}
	for _, h := range append(headers, "User-Agent: Microsoft BITS/7.8", "Host: "+c.host, "Content-Length: "+strconv.Itoa(length), "Connection: Keep-Alive", "", "") {
		b.WriteString(strings.TrimSuffix(h, "\r\n") + "\r\n")
	}
	return b.Bytes()[:b.Len()-2]
}

func (c *windows) create() []byte {
	return c.packet("Create-Session", 0, "BITS-Supported-Protocols: "+guid)
}

func (c *windows) ping() []byte { return c.packet("Ping", 0) }

func (c *windows) end(kind string) []byte {
	return c.packet(kind, 0, "BITS-Session-Id: "+c.session)
}

// fragment returns the request for content[from:to], both of a file of total bytes.
func (c *windows) fragment(content []byte, from, to, total int64) []byte {
	p := c.packet("Fragment", int(to-from), "BITS-Session-Id: "+c.session, "Content-Name: leaf.bin", fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, to-1, total))
	return append(p, content[from:to]...)
}

// exchange sends a request over the connection, which it opens if need be, and reads the answer.
func (c *windows) exchange(raw []byte) (answer, error) {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return answer{}, err
		}
	}
	if _, err := c.conn.Write(raw); err != nil {
		c.hangUp()
		return answer{}, err
	}
	return c.read()
}

// read reads an answer. An Ack must have an empty body.
func (c *windows) read() (answer, error) {
	a, err := c.readAny()
	if err == nil && a.header["BITS-Packet-Type"] == "Ack" && (a.body != "" || a.header["Content-Length"] != "0" || a.header["Pragma"] != "no-cache") {
		c.t.Errorf("an Ack with a body, or without Content-Length: 0 or Pragma: no-cache: %v", a)
	}
	return a, err
}

func (c *windows) readAny() (answer, error) {
	fail := func(err error) (answer, error) {
		c.hangUp()
		return answer{}, err
	}
	line, err := c.br.ReadString('\n')
	if err != nil {
		return fail(err)
	}
	a := answer{header: map[string]string{}}
	if _, err := fmt.Sscanf(line, "%s %d", &a.proto, &a.status); err != nil {
		return fail(fmt.Errorf("status line %q: %w", line, err))
	}
	for {
		line, err := c.br.ReadString('\n')
		if err != nil {
			return fail(err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ": ")
		a.header[name] = value
	}
	if a.status >= 200 {
		n, _ := strconv.Atoi(a.header["Content-Length"])
		body := make([]byte, n)
		if _, err := io.ReadFull(c.br, body); err != nil {
			return fail(err)
		}
		a.body = string(body)
		if a.header["Connection"] == "close" {
			c.hangUp()
		}
	}
	return a, nil
}

// must is exchange where nothing may go wrong with the connection.
func (c *windows) must(raw []byte) answer {
	c.t.Helper()
	a, err := c.exchange(raw)
	if err != nil {
		c.t.Fatalf("%.60q: %v", raw, err)
	}
	return a
}

// expect is must, and checks the answer: its status and headers "Name: value", or "Name" alone for
// one that must not be there.
func (c *windows) expect(raw []byte, status int, headers ...string) answer {
	c.t.Helper()
	a := c.must(raw)
	c.check(a, status, headers...)
	return a
}

func (c *windows) check(a answer, status int, headers ...string) {
	c.t.Helper()
	if a.status != status {
		c.t.Fatalf("answer %v, want status %d", a, status)
	}
	for _, h := range headers {
		name, value, wanted := strings.Cut(h, ": ")
		if got, ok := a.header[name]; ok != wanted || got != value {
			c.t.Errorf("%s is %q in %v, want %q", name, got, a, h)
		}
	}
}

// open creates the session.
func (c *windows) open() {
	c.t.Helper()
	a := c.expect(c.create(), 200, "BITS-Packet-Type: Ack", "BITS-Protocol: "+guid, "Accept-Encoding: identity")
	c.session = a.header["BITS-Session-Id"]
	if len(c.session) != 38 || c.session[0] != '{' || strings.ToUpper(c.session) != c.session {
		c.t.Fatalf("session id %q is not as IIS writes it", c.session)
	}
	c.offset = 0
}

// errStatus is an answer that the client does not go on after.
type errStatus struct{ answer }

func (e errStatus) Error() string { return e.String() }

// sendAll sends fragments of at most size bytes from the acknowledged offset to the end, as the
// state FRAGMENT does: on 200 and 416 it goes on where the server says, on 413 with smaller ones.
func (c *windows) sendAll(content []byte, size int64) error {
	total := int64(len(content))
	for range 1 << 20 {
		a, err := c.exchange(c.fragment(content, c.offset, min(c.offset+size, total), total))
		if err != nil {
			return err
		}
		if a.status == 413 && size > 5<<10 {
			size = max(size/2, 5<<10)
			continue
		}
		if a.status != 200 && a.status != 416 {
			return errStatus{a}
		}
		next, err := strconv.ParseInt(a.header["BITS-Received-Content-Range"], 10, 64)
		if err != nil || next > total {
			return fmt.Errorf("no offset in %v", a)
		}
		if next < c.offset {
			return fmt.Errorf("the server had %d bytes and now has %d", c.offset, next)
		}
		c.offset = next
		if c.offset == total {
			c.reply = a.header["BITS-Reply-URL"]
			return nil
		}
	}
	return errors.New("no end in sight")
}

// upload does all of it.
func (c *windows) upload(content []byte, size int64) {
	c.t.Helper()
	c.open()
	if err := c.sendAll(content, size); err != nil {
		c.t.Fatal(err)
	}
	c.expect(c.end("Close-Session"), 200, "BITS-Packet-Type: Ack", "BITS-Session-Id: "+c.session)
}

// get downloads a URL as BITS does for the reply, with a range, and more headers.
func (c *windows) get(path, rng string, headers ...string) answer {
	c.t.Helper()
	raw := fmt.Sprintf("GET %s HTTP/1.1\r\nAccept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: Microsoft BITS/7.8\r\nHost: %s\r\n", path, c.host)
	if rng != "" {
		raw += "Range: bytes=" + rng + "\r\n"
	}
	if c.user != "" {
		raw += "X-User: " + c.user + "\r\n"
	}
	for _, h := range headers {
		raw += h + "\r\n"
	}
	if c.conn == nil {
		if err := c.dial(); err != nil {
			c.t.Fatal(err)
		}
	}
	if _, err := io.WriteString(c.conn, raw+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	a, err := c.readAny()
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}
