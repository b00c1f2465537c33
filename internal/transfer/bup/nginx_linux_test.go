package bup

import (
	"errors"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
	"github.com/ebbtransfer/ebb/test/servers"
)

// TestThroughNginx uploads through nginx as it is configured by default: it takes bodies of no more
// than 1 MiB, hangs up where there is more, and speaks HTTP/1.0 to the server.
func TestThroughNginx(t *testing.T) {
	s := newIIS(t)
	s.proxied = true
	s.start()
	proxy, err := servers.Nginx(t.TempDir(), servers.Options{Proxy: strings.TrimSuffix(s.URL, "/upload/")})
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	data := uploadtest.Bytes(20<<20, 18)
	task := uploadtest.New(t, proxy.URL+"/upload/f.bin", uploadtest.NewSource("f.bin", data))
	whole(t, s, task, data)
	if want := int64(13 << 20 / 16); task.State.Fragment != want {
		t.Errorf("the limit learned is %d, want %d", task.State.Fragment, want)
	}
	for _, p := range s.packets() {
		if p == "Ping" {
			t.Errorf("a connection broke instead of saying 413: %q", s.packets())
			break
		}
	}
}
