package scenario

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// golden is the content of the published vectors.
func golden(n int) []byte {
	var b []byte
	for i := uint32(0); len(b) < n; i++ {
		sum := sha256.Sum256(binary.LittleEndian.AppendUint32(nil, i))
		b = append(b, sum[:]...)
	}
	return b[:n]
}

// wantsInfo are the headers of a client that asks for content information of at most a version, and waits.
func wantsInfo(most string) []string {
	return []string{"Accept-Encoding", "peerdist", "X-P2P-PeerDist", "Version=1.1", "X-P2P-PeerDistEx", "MinContentInformation=1.0, MaxContentInformation=" + most + ", HashRequest=true"}
}

// info asks for content information until it is there.
func (s *serving) info(c *http.Client, path, most string, headers ...string) (*peerdist.Info, string) {
	s.t.Helper()
	for end := time.Now().Add(patience); ; {
		a, err := request(c, "GET", s.url+path, nil, append(wantsInfo(most), headers...)...)
		if err != nil {
			s.t.Fatal(err)
		}
		a.want(s.t, 200)
		if a.Header.Get("Content-Encoding") == "peerdist" {
			f, err := peerdist.Decode([]byte(a.body))
			if err != nil {
				s.t.Fatal(err)
			}
			return f, a.body
		}
		if a.Header.Get("X-P2P-PeerDistEx") != "MakeHashRequest=true" || time.Now().After(end) {
			s.t.Fatalf("%s gets %v", path, a.Header)
		}
	}
}

// A server with a secret of the vectors sends their bytes.
func TestServeBranchCacheSendsGoldenBytes(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("no more secrets"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServing(t, "", "--branchcache", "--branchcache-secret", secret, "--branchcache-http")
	s.write("a.bin", string(golden(128000)))
	f, body := s.info(http.DefaultClient, "/a.bin", "1.0")
	sum := sha256.Sum256([]byte(body))
	if got := hex.EncodeToString(f.Segments[0].ID()); got != "f1eacc3322777f8284bfd4137d92cb81e3e7cf7ff46efe8e7b52c152ccb98eea" ||
		hex.EncodeToString(sum[:]) != "6e8ce1f1eda9f522cf868644bd90ed7ef473fbe05e4f8afa622ff1cac3df7ea7" {
		t.Errorf("%d bytes (%x) with the id %s", len(body), sum, got)
	}
	// Whoever may read the secret may read all files.
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	s.kill9()
	if r := s.cli(s.args[1:]...); r.code == 0 || !strings.Contains(r.err, "chmod 600") {
		t.Errorf("with a secret that everybody may read: %d %s", r.code, r.err)
	}
}

// Only who may read a file gets what describes it, and only over HTTPS; the secret, and with it every
// byte of the description, stays the same over restarts.
func TestServeBranchCacheIsForWhoMayRead(t *testing.T) {
	t.Parallel()
	s := newServing(t, `
[tls]
self_signed = true
[branchcache]
[tokens.alice]
token = "0123456789abcdef"
[tokens.bob]
token = "fedcba9876543210"
[[group]]
path = "/"
dir = "%DIR%"
read = ["alice"]
[[group]]
path = "/off/"
dir = "%DIR%"
branchcache = false
`)
	body := golden(3 << 20)
	s.write("a.bin", string(body))
	s.up()
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	alice, bob := []string{"Authorization", "Bearer 0123456789abcdef"}, []string{"Authorization", "Bearer fedcba9876543210"}
	f, first := s.info(insecure, "/a.bin", "2.0", alice...)
	if f.Version() != 2 || f.Range != (bits.Range{Length: int64(len(body))}) {
		t.Errorf("version %d of %v", f.Version(), f.Range)
	}
	for who, c := range map[string]struct {
		headers []string
		status  int
	}{"nobody": {nil, 401}, "a wrong token": {[]string{"Authorization", "Bearer 0000000000000000"}, 401}, "who is not in the list": {bob, 403}} {
		for _, most := range []string{"1.0", "2.0"} {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				a, err := request(insecure, method, s.url+"/a.bin", nil, append(wantsInfo(most), c.headers...)...)
				if err != nil {
					t.Fatal(err)
				}
				if a.StatusCode != c.status || len(a.body) > 100 || strings.Contains(a.Header.Get("Content-Encoding")+a.Header.Get("X-P2P-PeerDist")+a.Header.Get("X-P2P-PeerDistEx"), "1") {
					t.Errorf("%s: %s %v", who, a.Status, a.Header)
				}
			}
		}
	}
	if a, err := request(insecure, "GET", s.url+"/off/a.bin", nil, append(wantsInfo("2.0"), alice...)...); err != nil || a.Header.Get("X-P2P-PeerDist") != "" || a.body != string(body) {
		t.Errorf("a group that is not described: %v %v", a.Header, err)
	}
	state := filepath.Join(s.home, "state")
	i, err := os.Stat(filepath.Join(state, "branchcache.secret"))
	if err != nil || i.Size() != 32 || i.Mode().Perm() != 0o600 {
		t.Fatalf("the secret: %v %v", i, err)
	}
	// After a crash the hashes are there, and at once.
	s.kill9()
	s.up()
	a, err := request(insecure, "GET", s.url+"/a.bin", nil, append([]string{"Accept-Encoding", "peerdist", "X-P2P-PeerDist", "Version=1.1", "X-P2P-PeerDistEx", "MinContentInformation=1.0, MaxContentInformation=2.0"}, alice...)...)
	if err != nil || a.body != first {
		t.Errorf("after a restart: %v, %d bytes of other content information", err, len(a.body))
	}
	// Another secret, other keys and ids; the hashes are still good.
	if err := os.Remove(filepath.Join(state, "branchcache.secret")); err != nil {
		t.Fatal(err)
	}
	s.kill9()
	s.up()
	g, other := s.info(insecure, "/a.bin", "2.0", alice...)
	if other == first || string(g.Segments[0].ID()) == string(f.Segments[0].ID()) || string(g.Segments[0].HashOfData) != string(f.Segments[0].HashOfData) {
		t.Error("another secret makes the same ids")
	}
	log, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{hex.EncodeToString(f.Segments[0].Secret), string(f.Segments[0].Secret)} {
		if strings.Contains(string(log), secret) {
			t.Error("the log tells a key")
		}
	}
	s.logged("encoding=peerdist")
}

// The secret travels in a file that Windows reads too, under a passphrase that is never in the arguments.
func TestPeersSecretExportAndImport(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	peers := func(passphrase string, args ...string) result {
		t.Helper()
		c := &call{t: t, cmd: exec.Command(ebb, append([]string{"peers", "secret"}, args...)...)}
		c.cmd.Dir, c.cmd.Stdin = home, strings.NewReader(passphrase+"\n")
		c.cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+home)
		c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
		return c.begin().end()
	}
	if r := peers("p", "export", "a.key"); r.code == 0 || !strings.Contains(r.err, "--secret") {
		t.Errorf("without a secret: %d %s", r.code, r.err)
	}
	// What a server made is found.
	state := filepath.Join(home, "ebb", "serve", "8080")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(state, "branchcache.secret")
	if err := os.WriteFile(own, golden(32), 0o600); err != nil {
		t.Fatal(err)
	}
	peers("pass phrase ä", "export", "a.key").want(t, 0)
	sealed, err := os.ReadFile(filepath.Join(home, "a.key"))
	if err != nil || len(sealed) != 80 { // SHA-256, 32 bytes and 16 that fill it up
		t.Fatalf("%d bytes, %v", len(sealed), err)
	}
	if i, err := os.Stat(filepath.Join(home, "a.key")); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", i.Mode(), err)
	}
	if p, err := peerdist.ImportSecret(sealed, "pass phrase ä"); err != nil || string(p) != string(golden(32)) {
		t.Errorf("%d bytes, %v", len(p), err)
	}
	if r := peers("p", "export", "a.key"); r.code == 0 {
		t.Error("a file was overwritten")
	}
	if r := peers("", "export", "b.key"); r.code == 0 {
		t.Error("exported without a passphrase")
	}
	if r := peers("wrong", "import", "a.key", "--secret", "other"); r.code == 0 || !strings.Contains(r.err, "passphrase") {
		t.Errorf("a wrong passphrase: %d %s", r.code, r.err)
	}
	if err := os.WriteFile(filepath.Join(home, "phrase"), []byte("pass phrase ä\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	peers("", "import", "a.key", "--secret", "other", "--from", "phrase").want(t, 0)
	i, err := os.Stat(filepath.Join(home, "other"))
	if b, _ := os.ReadFile(filepath.Join(home, "other")); err != nil || string(b) != string(golden(32)) || i.Mode().Perm() != 0o600 {
		t.Errorf("%d bytes with mode %v, %v", len(b), i.Mode(), err)
	}
	// The same again is no change; another is one.
	peers("pass phrase ä", "import", "a.key", "--secret", "other").want(t, 0)
	if err := os.WriteFile(own, golden(64), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := peers("pass phrase ä", "import", "a.key"); r.code == 0 || !strings.Contains(r.err, "--replace") {
		t.Errorf("another secret was replaced: %d %s", r.code, r.err)
	}
	if r := peers("pass phrase ä", "import", "a.key", "--replace", "--json").want(t, 0); !strings.Contains(r.out, `"bytes": 32`) {
		t.Error(r.out)
	}
	if b, _ := os.ReadFile(own); string(b) != string(golden(32)) {
		t.Errorf("%d bytes", len(b))
	}
}
