package bup

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

// FuzzHostURL holds that a host that a server names changes nothing of a URL but the host.
func FuzzHostURL(f *testing.F) {
	for _, host := range []string{"b", "b:81", "[fe80::1]:5", "::1", "user@b", "b/x", "b?x", "b#x", "b%2f", "b\\x", ":80", "b:port", "[::1%25lo]"} {
		f.Add(host)
	}
	u := &url.URL{Scheme: "https", Host: "a:444", Path: "/x"}
	f.Fuzz(func(t *testing.T, host string) {
		to, err := hostURL(u, host)
		if err != nil {
			return
		}
		if to.Scheme != "https" || to.User != nil || to.Hostname() == "" || to.Path != "/" || to.Port() == "" {
			t.Fatalf("%q gives %v", host, to)
		}
		again, err := url.Parse("https://" + to.Host + "/")
		if err != nil || again.Host != to.Host {
			t.Errorf("%q gives the host %q, which is read as %v, %v", host, to.Host, again, err)
		}
	})
}

// FuzzServer answers packets with whatever comes to it, separated by "|", the last part again and
// again. The client comes to an end soon, and takes nothing for done without a reason.
func FuzzServer(f *testing.F) {
	created := ack + "BITS-Session-Id: {1}\nContent-Length: 0\n\n"
	for _, s := range []string{
		created + "|" + ack + "BITS-Received-Content-Range: 9000\nContent-Length: 0\n\n",
		created + "|" + ack + "BITS-Received-Content-Range: 100\nContent-Length: 0\n\n",
		created + "|" + errorAck(416, "0x0", "0x5"), created + "|" + errorAck(500, "0x8020001F", "0x5"), created + "|" + errorAck(413, "0x0", "0x5"),
		ack + "BITS-Session-Id: {1}\nBITS-Host-Id: 127.0.0.2:1\nContent-Length: 0\n\n|", "HTTP/1.1 100 Continue\n\n", "", "|",
		"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nffffffffffffffff\n",
	} {
		f.Add(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	answers := make(chan []string, 1)
	packets := make(chan int)
	go func() {
		for script := range answers {
			packets <- answerAll(l, script)
		}
	}()
	data := uploadtest.Bytes(9000, 1)
	f.Fuzz(func(t *testing.T, script string) {
		if len(script) > 4096 {
			return
		}
		answers <- strings.Split(script, "|")
		task := uploadtest.New(t, "http://"+l.Addr().String()+"/f", uploadtest.NewSource("f", data))
		task.Stall = func() time.Duration { return time.Second }
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // a script may be an answer that never ends
		c := client()
		err := c.Upload(ctx, task.Task)
		_ = c.Close(ctx, task.Task)
		cancel()
		if c, derr := net.Dial("tcp", l.Addr().String()); derr == nil {
			_, _ = io.WriteString(c, "END / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
			c.Close()
		}
		n := <-packets
		if n > 500 {
			t.Errorf("%d packets until %v", n, err)
		}
		if err == nil && (!strings.Contains(script, "9000") || task.State.ID == "") {
			t.Errorf("done after %q", script)
		}
	})
}

// answerAll plays a script to the clients that come, one connection at a time, until one says END. It
// returns how many packets came.
func answerAll(l net.Listener, script []string) int {
	for n := 0; ; {
		c, err := l.Accept()
		if err != nil {
			return n
		}
		r := bufio.NewReader(c)
		for {
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			req, err := http.ReadRequest(r)
			if err != nil {
				break
			}
			if req.Method == "END" {
				c.Close()
				return n
			}
			_, _ = io.Copy(io.Discard, req.Body)
			answer := script[min(n, len(script)-1)]
			n++
			if _, err := io.WriteString(c, strings.ReplaceAll(answer, "\n", "\r\n")); err != nil || answer == "" {
				break
			}
		}
		c.Close()
	}
}
