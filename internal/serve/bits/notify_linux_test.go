package bits_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// The application runs as nobody: it can read the upload and write the reply whose names it was
// told, and list nothing.
func TestByReferenceToAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run something as another user")
	}
	const script = `cp "$1" "$2" && ! ls "$3" 2>/dev/null && ! ls "$4" 2>/dev/null`
	a := application(t, func(w http.ResponseWriter, c call) {
		from, to := c.header.Get("BITS-Request-DataFile-Name"), c.header.Get("BITS-Response-DataFile-Name")
		cmd := exec.Command("sh", "-c", script, "sh", from, to, filepath.Join(from, "..", ".."), filepath.Join(from, "..", "..", ".."))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	s := serve(t, notifying(session.NotifyByReference, a.URL), session.Options{})
	for dir := s.root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	want := content(5000)
	c := s.client("f")
	c.open()
	if err := c.sendAll(want, 5000); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(c.reply)
	if err != nil {
		t.Fatal(err)
	}
	if a := c.get(u.EscapedPath(), ""); a.body != string(want) {
		t.Errorf("reply: %v", a)
	}
}
