package serve

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/serve/record"
)

// A fragment that is refused is read, but not for as long as its client likes.
func TestRefusedFragmentIsRead(t *testing.T) {
	for _, c := range []struct {
		name   string
		size   int
		step   int           // bytes that the client sends
		every  time.Duration // in this time
		head   string
		drains int
		took   time.Duration // at most
		read   bool          // to its end
	}{
		{"a slow one", bupwire.MaxFragment, 256 << 10, time.Second, "", 1, time.Minute, true},
		{"one that stalls", bupwire.MaxFragment, 1 << 20, time.Minute, "", 1, 2*drainPatience + time.Second, false},
		{"one that trickles", bupwire.MaxFragment, 1, time.Second, "", 1, 2*drainPatience + time.Second, false},
		{"a client that waits", bupwire.MaxFragment, 1 << 20, time.Minute, "Expect: 100-continue\r\n", 1, drainPatience + time.Second, false},
		{"more than any fragment", bupwire.MaxFragment + 1, 1 << 20, time.Second, "", 1, drainPatience + time.Second, false},
		{"one too many", bupwire.MaxFragment, 1 << 20, time.Second, "", 0, drainPatience + time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &server{}
			h := func(w http.ResponseWriter, r *http.Request) {
				ctx, rec := record.New(r.Context())
				s.refuse(&line{exchange: w.(*exchange), record: rec}, r.WithContext(ctx), nil, http.StatusUnauthorized, "who is it?")
			}
			withServer(t, h, func(t *testing.T, dial func() net.Conn) {
				s.drains = make(chan struct{}, c.drains)
				conn := dial()
				defer func() { _ = conn.Close() }()
				began := time.Now()
				sent := make(chan error, 1)
				go func() {
					_, err := fmt.Fprintf(conn, "BITS_POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n", c.size, c.head)
					for at := 0; at < c.size && err == nil; at += c.step {
						time.Sleep(c.every)
						_, err = io.WriteString(conn, strings.Repeat("x", min(c.step, c.size-at)))
					}
					sent <- err
				}()
				status, err := bufio.NewReader(conn).ReadString('\n')
				if err != nil || !strings.HasPrefix(status, "HTTP/1.1 401") || time.Since(began) > c.took {
					t.Errorf("after %v: %q, %v", time.Since(began), status, err)
				}
				_ = conn.SetDeadline(time.Now())
				if err := <-sent; (err == nil) != c.read {
					t.Errorf("to send it: %v", err)
				}
				if len(s.drains) > 0 {
					t.Error("it keeps its place")
				}
			})
		})
	}
}
