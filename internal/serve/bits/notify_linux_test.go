package bits_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// The uploader may be a local user. He knows his session's id, and must find nothing by it: neither
// the upload, nor the directory where everyone may write, to put a link there before the application
// writes.
func TestUploaderDoesNotFindTheFilesForTheApplication(t *testing.T) {
	a := application(t, func(w http.ResponseWriter, c call) {
		for header, mode := range map[string]os.FileMode{"BITS-Request-DataFile-Name": 0o755, "BITS-Response-DataFile-Name": os.ModeSticky | 0o777} {
			dir := filepath.Dir(c.header.Get(header))
			above := filepath.Dir(dir)
			for name, want := range map[string]os.FileMode{dir: mode, above: 0o711, filepath.Dir(above): 0o711} {
				if st, err := os.Stat(name); err != nil {
					t.Error(err)
				} else if st.Mode() != os.ModeDir|want {
					t.Errorf("%s: %v, want %v", name, st.Mode(), os.ModeDir|want)
				}
			}
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	s := serve(t, notifying(session.NotifyByReference, a.URL), session.Options{})
	want := content(10)
	c := s.client("f")
	c.open()
	id, ok := session.ParseGUID(c.session)
	if !ok {
		t.Fatal(c.session)
	}
	used := map[string]bool{}
	for i := range 2 {
		c.expect(c.fragment(want, 0, 10, 10), 503)
		for _, header := range []string{"BITS-Request-DataFile-Name", "BITS-Response-DataFile-Name"} {
			file := a.last(t, i+1).header.Get(header)
			if plain := strings.ToLower(strings.ReplaceAll(file, "-", "")); strings.Contains(plain, id) || used[file] {
				t.Errorf("%s: %s in the session %s, used before: %v", header, file, c.session, used[file])
			}
			used[file] = true
		}
	}
}
