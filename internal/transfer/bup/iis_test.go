package bup

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// iis is a server that is like IIS 6.0 with its BITS Server Extensions, written from server.md 1.15
// on bare sockets: it wants a Content-Length with every packet and the headers spelled as Windows
// spells them, names the session only when it begins, answers about gaps and overlaps with 416, and
// names replies by relative paths with backslashes.
type iis struct {
	URL string // of its directory of uploads, with a slash

	tb   testing.TB
	l    net.Listener
	wg   sync.WaitGroup
	once sync.Once

	// Set before the first request.
	proxied bool                           // requests come through nginx, as HTTP/1.0
	lenient bool                           // overlaps as the documentation has them, not [MC-BUP]
	partial bool                           // keeps what came of a fragment that was cut off
	mangle  func(answer string) string     // what becomes of an answer of ordinary service
	reply   string                         // BITS-Reply-URL of the last Ack; %s is the session
	onAck   string                         // further header lines for the Ack to Create-Session
	act     func(n int, p *packet) *action // nil and a nil action are ordinary service

	acting   sync.Mutex // held while act runs
	mu       sync.Mutex
	sessions map[string]*iisSession // guarded by mu
	files    map[string]string      // guarded by mu: published, by path
	log      []string               // guarded by mu: packets, in words
	host     []string               // guarded by mu: Host of each packet
	got      []map[string]string    // guarded by mu: headers of each packet
	conns    map[net.Conn]struct{}  // guarded by mu
	accepted int                    // guarded by mu
	notified int                    // guarded by mu: how often the application got a file
}

type iisSession struct {
	path  string
	data  []byte
	total int64
	done  bool // published and notified
}

// packet is a request as it came.
type packet struct {
	method, path, kind, id string
	header                 map[string]string
	first, last, total     int64
	length                 int64
}

// action is something other than ordinary service.
type action struct {
	raw    string // answered instead of serving; \n stands for the end of a line
	early  bool   // raw goes out before the body is read, which never is
	cut    bool   // the connection ends, after the answer if there is one
	served bool   // though the packet was served before the connection ended
	then   func() // called once it was served
	keep   int64  // bytes of the body that are read before the cut, if not served
}

func newIIS(tb testing.TB) *iis {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &iis{tb: tb, l: l, URL: "http://" + l.Addr().String() + "/upload/", sessions: map[string]*iisSession{}, files: map[string]string{}, conns: map[net.Conn]struct{}{}}
	tb.Cleanup(s.Close)
	return s
}

// start begins to serve.
func (s *iis) start() *iis {
	s.wg.Go(func() {
		for {
			c, err := s.l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.accepted++
			s.conns[c] = struct{}{}
			s.mu.Unlock()
			s.wg.Go(func() {
				s.serve(c)
				c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			})
		}
	})
	return s
}

func (s *iis) Close() {
	s.once.Do(func() {
		s.l.Close()
		s.mu.Lock()
		for c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
}

// spelled lists the headers whose spelling some servers insist on.
var spelled = []string{
	"BITS-Packet-Type", "BITS-Session-Id", "BITS-Supported-Protocols", "Content-Range", "Content-Length", "Content-Name", "Host", "User-Agent", "Connection", "Accept",
}

func (s *iis) read(r *bufio.Reader) (*packet, string) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, ""
	}
	f := strings.Fields(line)
	version := "HTTP/1.1"
	if s.proxied {
		version = "HTTP/1.0"
	}
	if len(f) != 3 || f[2] != version || !strings.HasSuffix(line, "\r\n") {
		return nil, "bad request line " + line
	}
	p := &packet{method: f[0], path: f[1], header: map[string]string{}, length: -1}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, ""
		}
		line, ok := strings.CutSuffix(line, "\r\n")
		if !ok {
			return nil, "a line without CR"
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return nil, "bad header " + line
		}
		if _, twice := p.header[name]; twice {
			return nil, "twice " + name
		}
		if i := slices.IndexFunc(spelled, func(n string) bool { return strings.EqualFold(n, name) }); i >= 0 && spelled[i] != name {
			return nil, "misspelled " + name
		}
		p.header[name] = value
	}
	p.kind, p.id = p.header["BITS-Packet-Type"], p.header["BITS-Session-Id"]
	if n, err := strconv.ParseInt(p.header["Content-Length"], 10, 64); err == nil {
		p.length = n
	}
	if v := p.header["Content-Range"]; v == "bytes */0" {
		p.last = -1
	} else if v != "" {
		if _, err := fmt.Sscanf(v, "bytes %d-%d/%d", &p.first, &p.last, &p.total); err != nil {
			return nil, "bad range " + v
		}
	}
	return p, ""
}

const ack = "HTTP/1.1 200 OK\nDate: Mon, 18 Jun 2007 21:01:56 GMT\nServer: Microsoft-IIS/6.0\nPragma: no-cache\nBITS-Packet-Type: Ack\n"

// errorAck is an answer with an error's code and context.
func errorAck(status int, code, context string) string {
	return fmt.Sprintf("HTTP/1.1 %d Trouble\nServer: Microsoft-IIS/6.0\nPragma: no-cache\nBITS-Packet-Type: Ack\nContent-Length: 0\nBITS-Error-Code: %s\nBITS-Error-Context: %s\n\n", status, code, context)
}

func (s *iis) serve(c net.Conn) {
	r := bufio.NewReader(c)
	say := func(answer string) bool {
		_, err := io.WriteString(c, strings.ReplaceAll(answer, "\n", "\r\n"))
		return err == nil
	}
	for {
		p, bad := s.read(r)
		if bad != "" {
			s.tb.Errorf("the client sent something odd: %s", bad)
			say(errorAck(400, "0x80070057", "0x5"))
			return
		}
		if p == nil {
			return
		}
		s.mu.Lock()
		n := len(s.log)
		words := p.kind
		if p.kind == "Fragment" {
			words += " " + strings.TrimPrefix(p.header["Content-Range"], "bytes ")
		}
		s.log, s.host, s.got = append(s.log, words), append(s.host, p.header["Host"]), append(s.got, p.header)
		s.mu.Unlock()
		var a *action
		if s.act != nil {
			s.acting.Lock()
			a = s.act(n, p)
			s.acting.Unlock()
		}
		if a != nil && a.early {
			say(a.raw)
			return
		}
		body := make([]byte, max(p.length, 0))
		if a != nil && a.cut && !a.served && a.raw == "" {
			body = body[:min(int64(len(body)), a.keep)]
		}
		m, err := io.ReadFull(r, body)
		if err != nil || int64(m) < p.length {
			if s.partial && p.kind == "Fragment" {
				s.mu.Lock()
				if t := s.sessions[p.id]; t != nil && p.first == int64(len(t.data)) {
					t.data, t.total = append(t.data, body[:m]...), p.total
				}
				s.mu.Unlock()
			}
			return
		}
		if a != nil && a.raw != "" {
			if !say(a.raw) || a.cut {
				return
			}
			continue
		}
		answer := s.handle(p, body)
		if s.mangle != nil {
			answer = s.mangle(answer)
		}
		if a != nil && a.then != nil {
			a.then()
		}
		if a != nil && a.cut || !say(answer) || s.proxied {
			return
		}
	}
}

func (s *iis) handle(p *packet, body []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.length < 0 || p.method != "BITS_POST" {
		return errorAck(400, "0x80070057", "0x5")
	}
	if p.kind != "Fragment" && p.length != 0 {
		return errorAck(400, "0x80070057", "0x5")
	}
	switch p.kind {
	case "Create-Session":
		if !strings.Contains(p.header["BITS-Supported-Protocols"], "{7df0354d-249b-430f-820d-3d2a9bef4931}") {
			return errorAck(400, "0x80070057", "0x5")
		}
		var b [16]byte
		_, _ = rand.Read(b[:])
		id := fmt.Sprintf("{%X-%X-%X-%X-%X}", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
		s.sessions[id] = &iisSession{path: p.path, total: -1}
		return ack + "BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}\nBITS-Session-Id: " + id + "\n" + s.onAck + "Content-Length: 0\nAccept-encoding: identity\n\n"
	case "Ping":
		return ack + "Content-Length: 0\n\n"
	}
	t := s.sessions[p.id]
	if t == nil {
		return errorAck(500, "0x8020001F", "0x5")
	}
	switch p.kind {
	case "Close-Session", "Cancel-Session":
		delete(s.sessions, p.id)
		return ack + "Content-Length: 0\n\n"
	case "Fragment":
		return s.fragment(t, p, body)
	}
	return errorAck(400, "0x80070057", "0x5")
}

func (s *iis) fragment(t *iisSession, p *packet, body []byte) string {
	next := int64(len(t.data))
	switch {
	case p.last-p.first+1 != p.length, t.total >= 0 && p.total != t.total:
		return errorAck(400, "0x80070057", "0x5")
	case t.done && p.last+1 == p.total: // the last Ack again
		return s.last(t, p)
	case p.first == next:
	case s.lenient && p.first < next && next <= p.last:
		body = body[next-p.first:]
	default:
		return fmt.Sprintf("HTTP/1.1 416 Requested Range Not Satisfiable\nServer: Microsoft-IIS/6.0\nPragma: no-cache\nBITS-Packet-Type: Ack\nContent-Length: 0\nBITS-Received-Content-Range: %d\nBITS-Error-Code: 0x0\nBITS-Error-Context: 0x5\n\n", next)
	}
	t.data, t.total = append(t.data, body...), p.total
	if int64(len(t.data)) == t.total {
		t.done = true
		s.files[t.path] = string(t.data)
		s.notified++
		return s.last(t, p)
	}
	return fmt.Sprintf("%sContent-Length: 0\nBITS-Received-Content-Range: %d\n\n", ack, len(t.data))
}

func (s *iis) last(t *iisSession, p *packet) string {
	reply := ""
	if s.reply != "" {
		reply = "BITS-Reply-URL: " + strings.ReplaceAll(s.reply, "%s", p.id) + "\n"
	}
	return fmt.Sprintf("%sContent-Length: 0\nBITS-Received-Content-Range: %d\n%s\n", ack, t.total, reply)
}

// packets returns what came, in words.
func (s *iis) packets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// file returns what was published at a name, and whether it was.
func (s *iis) file(name string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.files["/upload/"+name]
	return data, ok
}

// open returns how many sessions there are.
func (s *iis) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}
