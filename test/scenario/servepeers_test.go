package scenario

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
	"github.com/ebbtransfer/ebb/internal/peerdist/pchc"
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

// keysOf returns the secrets of all segments.
func keysOf(f *peerdist.Info) (keys []peerdist.Secret) {
	for _, s := range f.Segments {
		keys = append(keys, s.Secret)
	}
	return keys
}

// tellsNoKey fails if a text has a segment's secret, in any form that a log or JSON gives to bytes.
func tellsNoKey(t *testing.T, what, text string, keys []peerdist.Secret) {
	t.Helper()
	if len(keys) == 0 || text == "" {
		t.Fatalf("there are %d keys, and %d bytes of %s", len(keys), len(text), what)
	}
	for _, k := range keys {
		b := []byte(k)
		for _, form := range []string{string(b), fmt.Sprintf("%x", b), fmt.Sprintf("%X", b), strings.Trim(fmt.Sprintf("%d", b), "[]"), strings.Trim(strconv.Quote(string(b)), `"`),
			base64.RawStdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b)} {
			if strings.Contains(text, form) {
				t.Fatalf("%s tells a key: %q", what, form)
			}
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
	// What the hashes take on the disk is told, and that nothing is being hashed.
	var used int64
	err = filepath.WalkDir(filepath.Join(state, "hashes"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		i, err := d.Info()
		used += i.Size()
		return err
	})
	if err != nil || used == 0 {
		t.Fatalf("hashes of %d bytes: %v", used, err)
	}
	s.measured(fmt.Sprint("ebb_serve_branchcache_hashes_bytes ", used))
	s.measured("ebb_serve_branchcache_hashing 0")
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
	tellsNoKey(t, "the log", string(log), keysOf(f))
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

// A hosted cache keeps what a machine offered when that machine and its own process are gone; without being
// told to, it takes nothing of this machine itself.
func TestServeHostedCache(t *testing.T) {
	t.Parallel()
	body := golden(3<<20 + 1)
	h, err := peerdist.Generate(t.Context(), bytes.NewReader(body), peerdist.TruncatedSHA512)
	if err != nil {
		t.Fatal(err)
	}
	f, err := h.Info(peerdist.TruncatedSHA512.ServerKey([]byte("p")), bits.Range{Length: h.Size})
	if err != nil {
		t.Fatal(err)
	}
	machine, err := cache.Open(filepath.Join(t.TempDir(), "cache"), cache.Limits{Size: 1 << 30, MaxAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Close()
	offer := pchc.BatchedOffer{}
	for i := range f.Segments {
		s := &f.Segments[i]
		if err := machine.Put(s, 0, body[s.Offset:][:s.Length]); err != nil {
			t.Fatal(err)
		}
		offer.Segments = append(offer.Segments, pchc.Offered{BlockSize: uint32(s.Length), SegmentSize: uint32(s.Length), Tag: pchc.TagBITS, Version: 2, ID: s.ID()})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, gone := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- pccrr.NewServer(machine, 64, func(netip.Addr) bool { return true }).Serve(ctx, l) }()
	offer.Port = netip.MustParseAddrPort(l.Addr().String()).Port()

	refusing := startServing(t, "", "--hosted-cache")
	if a := refusing.do("POST", pchc.Path2, string(offer.Append(nil))); a.StatusCode != 403 || a.body != "" {
		t.Errorf("an offer of this machine: %d %q", a.StatusCode, a.body)
	}
	s := startServing(t, "[hosted_cache]\nallow = [\"127.0.0.0/8\"]\n")
	if a := s.do("POST", pchc.Path2, string(offer.Append(nil))).want(t, 200); a.body != "\x00\x00\x00\x01\x00" {
		t.Errorf("the answer is %q", a.body)
	}
	s.do("POST", pchc.Path1, string((&pchc.InitialOffer{Port: 1, ID: offer.Segments[0].ID}).Append(nil))).want(t, 404) // it is not HTTPS
	for _, metric := range []string{fmt.Sprintf("ebb_serve_hosted_cache_offers_total %d", len(f.Segments)), "ebb_serve_hosted_cache_waiting 0"} {
		s.measured(metric)
	}
	client := pccrr.NewClient(slog.New(slog.DiscardHandler))
	defer client.Close()
	addr := netip.MustParseAddrPort(s.addr)
	var ids [][]byte
	for i := range f.Segments {
		ids = append(ids, f.Segments[i].ID())
	}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) { // the last is on its way
		if has, err := client.Segments(t.Context(), addr, ids); err == nil && len(has) == len(ids) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%d of %d segments are there, %v", len(has), len(ids), err)
		}
	}
	gone()
	if err := <-served; err != nil {
		t.Error(err)
	}
	s.kill9()
	s.up()
	for i := range f.Segments {
		g := &f.Segments[i]
		from := map[netip.AddrPort]int{}
		for end := time.Now().Add(patience); len(from) == 0; { // a slow machine may need a second try
			if from, err = client.Fetch(t.Context(), g, []int{0}, []netip.AddrPort{addr}, func(_ int, data []byte) error {
				if !bytes.Equal(data, body[g.Offset:][:g.Length]) {
					t.Errorf("segment %d has other bytes", i)
				}
				return nil
			}); err != nil || time.Now().After(end) {
				t.Fatalf("segment %d does not come: %v", i, err)
			}
		}
	}
	// It has nothing by which it could read them.
	err = filepath.WalkDir(s.home, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(name)
		if bytes.Contains(b, f.Segments[0].Secret) || bytes.Contains(b, body[:64]) {
			t.Errorf("%s has a key, or content", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// measured waits until the metrics have a line.
func (s *serving) measured(line string) {
	s.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.socket)
	}}}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		a, err := request(c, "GET", "http://ebb/metrics", nil)
		if err == nil && strings.Contains(a.body, line+"\n") {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("the metrics do not have %q: %v\n%s", line, err, a.body)
		}
	}
}
