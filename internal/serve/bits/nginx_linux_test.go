package bits_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/test/servers"
)

// nginx as it is by default takes bodies of no more than 1 MiB, and speaks HTTP/1.0 to the server with
// a Host of its own. An upload goes through, and the reply comes back.
func TestThroughNginx(t *testing.T) {
	a := application(t, func(w http.ResponseWriter, _ call) {
		w.Header().Set("BITS-Copy-File-To-Destination", "1")
		_, _ = io.WriteString(w, "reply")
	})
	s := serve(t, notifying(session.NotifyByValue, a.URL), session.Options{})
	proxy, err := servers.Nginx(t.TempDir(), servers.Options{Proxy: s.url})
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	want := content(5 << 20)
	c := s.client("f")
	c.addr = strings.TrimPrefix(proxy.URL, "http://")
	c.host = c.addr
	c.open()
	if err := c.sendAll(want, 13<<20); err != nil {
		t.Fatal(err)
	}
	s.file("f", want)
	upload, err := url.Parse(proxy.URL + c.path)
	if err != nil {
		t.Fatal(err)
	}
	u, err := upload.Parse(c.reply)
	if err != nil || u.Host != c.addr {
		t.Fatalf("reply URL %s, %v", u, err)
	}
	if a := c.get(u.EscapedPath(), "0-99"); a.status != 206 || a.body != "reply" {
		t.Errorf("reply: %v", a)
	}
	c.expect(c.end("Close-Session"), 200)
	s.left(0)
}
