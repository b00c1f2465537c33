package scenario

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
)

// exported makes an export of a cache with the segments of a file, and returns their ids.
func exported(t *testing.T, name string, body []byte) []string {
	t.Helper()
	c, err := cache.Open(filepath.Join(t.TempDir(), "cache"), cache.Limits{Size: 1 << 40, MaxAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h, err := peerdist.Generate(t.Context(), bytes.NewReader(body), peerdist.TruncatedSHA512)
	if err != nil {
		t.Fatal(err)
	}
	info, err := h.Info(peerdist.TruncatedSHA512.ServerKey([]byte("secret of the origin")), bits.Range{Length: int64(len(body))})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range info.Segments {
		s := &info.Segments[i]
		if err := c.Put(s, 0, body[s.Offset:][:s.Length]); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, hex.EncodeToString(s.ID()))
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := c.Export(t.Context(), f, nil); err != nil {
		t.Fatal(err)
	}
	return ids
}

// tellsAll checks that a text has all of these.
func (r result) tellsAll(t *testing.T, parts ...string) result {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(r.out+r.err, p) {
			t.Errorf("%q is not in\n%s%s", p, r.out, r.err)
		}
	}
	return r
}

// An administrator turns peer caching on and off, and looks after the cache, while the service runs.
func TestPeersAreLookedAfter(t *testing.T) {
	t.Parallel()
	s := start(t, options{config: "# ours\n"})
	dir := filepath.Join(s.state, "peers")
	from := filepath.Join(s.dir, "from.tar")
	_, body := s.source("body", mib, 77)
	ids := exported(t, from, body)
	var about bits.CacheInfo
	info := func() bits.CacheInfo {
		t.Helper()
		about = bits.CacheInfo{}
		s.cli("cache", "info", "--json").want(t, 0).decode(t, &about)
		return about
	}

	// Off, as it is at first: nothing is there, and nothing listens.
	s.cli("peers", "status").want(t, 0).tellsAll(t, "off: downloads get everything from their servers")
	for _, verb := range []string{"list", "export -", "import from.tar", "delete abcd"} {
		s.cli(append([]string{"cache"}, strings.Fields(verb)...)...).want(t, 6).tellsAll(t, "BG_E_PEERCACHING_DISABLED", "ebb peers enable")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("there is a cache: %v", err)
	}

	s.cli("peers", "enable", "local").want(t, 0).tellsAll(t, "it is in effect")
	s.cli("peers", "status").want(t, 0).tellsAll(t, "local: ", "cache          0 B of ")
	s.cli("policy", "show").want(t, 0).tellsAll(t, "mode = \"local\"")
	if i, err := os.Stat(dir); err != nil || i.Mode().Perm() != 0o700 {
		t.Errorf("the cache's directory: %v, %v", i, err)
	}
	s.cli("cache", "list").want(t, 0).tellsAll(t, "the cache is empty")
	s.cli("peers", "list").want(t, 0).tellsAll(t, "no peers")

	// What another machine exported comes in; what is no export does not.
	var copied bits.CacheCopied
	s.cli("cache", "import", from, "--json").want(t, 0).decode(t, &copied)
	if copied.Segments != len(ids) || copied.Bytes != 1<<20 || copied.Damaged != 0 {
		t.Errorf("imported %+v of %d segments", copied, len(ids))
	}
	s.cliWith(strings.Repeat("no tar", 1000), "cache", "import", "-").want(t, 2).tellsAll(t, "ebb cache export")
	if i := info(); i.Segments != len(ids) || i.Bytes != 1<<20 || !i.Open || i.Directory != dir {
		t.Errorf("%+v", i)
	}
	var list []bits.CacheEntry
	s.cli("cache", "list", "--json").want(t, 0).decode(t, &list)
	if len(list) != len(ids) {
		t.Errorf("%d segments are listed, want %d", len(list), len(ids))
	}
	s.cli("cache", "list", "--limit", "1").want(t, 0).tellsAll(t, list[0].ID[:16])

	// An export is the administrator's alone, also where another file was before.
	to := filepath.Join(s.dir, "to.tar")
	must(t, os.WriteFile(to, nil, 0o644))
	s.cli("cache", "export", to, ids[0]).want(t, 0)
	if i, err := os.Stat(to); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("the export: %v, %v", i, err)
	}
	s.cli("cache", "export", filepath.Join(s.dir, "none.tar"), "ffffffff").want(t, 4).tellsAll(t, "ebb cache list")
	if names, err := filepath.Glob(filepath.Join(s.dir, "*none*")); err != nil || names != nil {
		t.Errorf("an export that failed left %v: %v", names, err)
	}
	s.cli("cache", "delete", ids[0][:16]).want(t, 0)
	s.cli("cache", "delete", ids[0][:16]).want(t, 4)
	if i := info(); i.Segments != len(ids)-1 {
		t.Errorf("%+v", i)
	}
	s.cli("cache", "import", to).want(t, 0)

	// Limits, which the file keeps, and what is wrong with them.
	s.cli("cache", "limit", "10%").want(t, 0)
	if i := info(); i.Size != "10%" || i.MaxAge != "28d" {
		t.Errorf("%+v", i)
	}
	s.cli("cache", "limit", "64MiB", "--max-age", "2d").want(t, 0)
	s.cli("cache", "limit").want(t, 0).tellsAll(t, "64 MiB", "kept for 2d")
	s.cli("cache", "limit", "81%").want(t, 2).tellsAll(t, "want 1% to 80%")
	if i := info(); i.Size != "64 MiB" || i.MaxAge != "2d" || i.Segments != len(ids) {
		t.Errorf("%+v", i)
	}
	s.cli("peers", "enable", "hosted").want(t, 1).tellsAll(t, "needs peers.hosted_caches")

	// A port that is taken is told at once.
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s.cli("peers", "enable", "--port", fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)).want(t, 6).tellsAll(t, "peer caching is on, but")
	s.cli("peers", "enable", "local", "--port", "2178").want(t, 0)

	// It is as it was after a restart.
	s.restart()
	if i := info(); i.Segments != len(ids) || i.Bytes != 1<<20 || i.Size != "64 MiB" {
		t.Errorf("after a restart: %+v", i)
	}
	text := s.metrics()
	for _, want := range []string{"ebb_peers_cache_bytes 1.048576e+06\n", "ebb_peers_cache_limit_bytes ", "ebb_peers_serving 0\n", `ebb_peers_bytes_total{direction="sent"} 0`, `ebb_peers_download_bytes_total{source="peers"} 0`} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}

	// Version 1 has segments of up to 32 MiB, version 2 of up to 128 KiB; the server has both.
	origin := startServing(t, "", "--branchcache", "--branchcache-http")
	origin.write("file", string(body))
	origin.info(http.DefaultClient, "/file", "1.0")
	origin.info(http.DefaultClient, "/file", "2.0")
	// brings fetches the file, and returns how many bytes the longest segment has that is new in the cache.
	brings := func(name string) (longest int) {
		t.Helper()
		job := s.fetch(origin.url+"/file", name)
		s.settled(job, bits.Transferred)
		s.complete(job)
		var after []bits.CacheEntry
		s.cli("cache", "list", "--json").want(t, 0).decode(t, &after)
		for _, e := range after {
			if !slices.ContainsFunc(list, func(old bits.CacheEntry) bool { return old.ID == e.ID }) {
				longest = max(longest, e.Length)
			}
		}
		list = after
		return longest
	}
	s.cli("peers", "enable", "local", "--plain-http", "--version1", "--serve-on-battery").want(t, 0)
	var st bits.PeerStatus
	s.cli("peers", "status", "--json").want(t, 0).decode(t, &st)
	if n := brings("first"); n != mib || !st.Version1Only || !st.ServeOnBattery {
		t.Errorf("with --version1 a segment has %d bytes: %+v", n, st)
	}
	s.cli("policy", "set", "peers.version1_only=false", "peers.serve_on_battery=false").want(t, 0)
	st = bits.PeerStatus{}
	s.cli("peers", "status", "--json").want(t, 0).decode(t, &st)
	if n := brings("second"); n == 0 || n > 128*kib || st.Version1Only || st.ServeOnBattery {
		t.Errorf("with version 2 a segment has %d bytes: %+v", n, st)
	}
	// As Reset-BC does it: what was set is as it was at first.
	s.cli("policy", "set", "peers.cache_size=", "peers.max_age=", "peers.plain_http=").want(t, 0)
	if i := info(); i.Size != "5%" || i.MaxAge != "28d" {
		t.Errorf("%+v", i)
	}

	// Off again: the cache is closed, what it had stays until it is cleared.
	s.cli("peers", "disable").want(t, 0)
	if i := info(); i.Open || !i.Left {
		t.Errorf("%+v", i)
	}
	s.cli("cache", "info").want(t, 0).tellsAll(t, "stays on the disk until")
	s.cli("cache", "clear", "--yes").want(t, 0)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("there still is a cache: %v", err)
	}
	if b, err := os.ReadFile(s.args[1]); err != nil || !strings.HasPrefix(string(b), "# ours\n") || !strings.Contains(string(b), "mode = \"off\"") {
		t.Errorf("the configuration is %s, %v", b, err)
	}
}

// Users of a service for all see whether peer caching is on; the rest is for administrators.
func TestUsersAndTheCacheOfPeers(t *testing.T) {
	t.Parallel()
	s := everyUser(t, options{config: "[peers]\nmode = \"local\"\n"})
	from := filepath.Join(s.dir, "from.tar")
	_, body := s.source("body", 200000, 78)
	ids := exported(t, from, body)
	must(t, os.Chmod(from, 0o644))
	s.cli("cache", "import", from).want(t, 0)
	for _, args := range [][]string{{"peers", "status"}, {"peers", "status", "--json"}, {"peers", "stats"}, {"cache", "info", "--json"}, {"cache", "limit"}} {
		r := s.as(worker, args...).want(t, 0)
		for _, secret := range []string{ids[0][:8], s.state} {
			if strings.Contains(r.out+r.err, secret) {
				t.Errorf("%v tells %s: %s", args, secret, r.out)
			}
		}
	}
	for _, args := range [][]string{{"cache", "list"}, {"cache", "clear"}, {"cache", "delete", ids[0]}, {"cache", "export", "-"}, {"cache", "import", from}, {"peers", "list"}, {"peers", "disable"}, {"cache", "limit", "1%"}} {
		if r := s.as(worker, args...).want(t, 5); strings.Contains(r.out+r.err, ids[0][16:]) {
			t.Errorf("%v tells too much: %s%s", args, r.out, r.err)
		}
	}
	var i bits.CacheInfo
	s.cli("cache", "info", "--json").want(t, 0).decode(t, &i)
	if i.Segments != len(ids) || i.Bytes != 200000 || i.Size != "5%" {
		t.Errorf("a user changed the cache: %+v", i)
	}
}

// What came from another machine is told: of the file, by the service, and in the log.
func TestBytesFromPeersAreTold(t *testing.T) {
	t.Parallel()
	origin := startServing(t, "", "--branchcache", "--branchcache-http")
	_, body := start(t, options{}).source("body", 8*mib, 79)
	origin.write("file", string(body))
	origin.info(http.DefaultClient, "/file", "2.0")
	port := func() int {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().(*net.TCPAddr).Port
	}
	// Each is a hosted cache to the other, so that both are on loopback.
	one, two := port(), port()
	first := start(t, options{config: fmt.Sprintf("[peers]\nmode = \"hosted\"\nplain_http = true\nport = %d\nhosted_caches = \"127.0.0.1:%d\"\n", one, two)})
	first.settled(first.fetch(origin.url+"/file", "file"), bits.Transferred)
	second := start(t, options{config: "# ours\n"})
	second.cli("peers", "enable", "hosted", "--hosted-cache", fmt.Sprintf("127.0.0.1:%d", one), "--port", fmt.Sprint(two), "--plain-http").want(t, 0)
	job := second.fetch(origin.url+"/file", "file")
	second.settled(job, bits.Transferred)
	second.complete(job)
	apart := second.create(fetched{files: []bits.FileSpec{second.file(origin.url+"/file", "apart")}, settings: bits.Settings{Options: bits.Options{PeerCachingFlags: ptr(bits.PeerDisableBranch)}}})
	second.settled(apart, bits.Transferred)
	if d, err := apart.File(second.ctx(), 0); err != nil || d.BytesFromPeers+d.BytesFromCache != 0 || d.BytesFromOrigin != int64(len(body)) {
		t.Errorf("of a job that is to have no part in it %d bytes came from peers, %d from the cache and %d from the server: %v", d.BytesFromPeers, d.BytesFromCache, d.BytesFromOrigin, err)
	}
	if d, err := job.File(second.ctx(), 0); err != nil || d.BytesFromOrigin+d.BytesFromPeers+d.BytesFromCache != int64(len(body)) {
		t.Errorf("%d bytes came from the server, %d from peers and %d from the cache: %v", d.BytesFromOrigin, d.BytesFromPeers, d.BytesFromCache, err)
	}
	// What came from elsewhere and is not right, as its owner says, comes from its server.
	wrong := second.fetch(origin.url+"/file", "wrong")
	if f := second.settled(wrong, bits.Transferred).Files[0]; f.BytesFromPeers+f.BytesFromCache == 0 {
		t.Fatalf("all is from the server: %+v", f)
	}
	must(t, wrong.SetValidationState(second.ctx(), 0, false))
	if info := second.settled(wrong, bits.Transferred); info.ErrorCount != 0 || info.Files[0].Validated {
		t.Errorf("the job is %+v", info)
	}
	if d, err := wrong.File(second.ctx(), 0); err != nil || d.BytesFromPeers+d.BytesFromCache != 0 || d.BytesFromOrigin != int64(len(body)) {
		t.Errorf("of the file that was not right %d bytes come from peers, %d from the cache and %d from the server: %v", d.BytesFromPeers, d.BytesFromCache, d.BytesFromOrigin, err)
	}
	must(t, wrong.SetValidationState(second.ctx(), 0, false)) // not right either
	isError(t, second.info(wrong), bits.ValidationFailed, bits.ContextRemoteFile)
	f := second.info(job).Files[0]
	if f.BytesFromPeers == 0 || f.BytesFromPeers+f.BytesFromCache > int64(len(body)) {
		t.Fatalf("%d bytes came from peers and %d from the cache", f.BytesFromPeers, f.BytesFromCache)
	}
	second.logged(fmt.Sprintf("event=60 job=%s name=%s files=1 bytes=%d bytes_from_peers=%d", job.ID, second.info(job).Name, len(body), f.BytesFromPeers))
	st, err := second.Peers(second.ctx())
	if err != nil || st.Stats.Fetched < f.BytesFromPeers || len(st.Peers) != 1 || st.Peers[0].Address != fmt.Sprintf("127.0.0.1:%d", one) || st.Peers[0].Bytes < f.BytesFromPeers {
		t.Errorf("%+v %v", st, err)
	}
	second.cli("peers", "list").want(t, 0).tellsAll(t, fmt.Sprintf("127.0.0.1:%d", one))
	second.cli("peers", "status").want(t, 0).tellsAll(t, "hosted: ", fmt.Sprintf("hosted caches  127.0.0.1:%d\n", one), " from peers and ", " from the own cache (")
	if gave, err := first.Peers(first.ctx()); err != nil || gave.Stats.Served < f.BytesFromPeers {
		t.Errorf("%+v %v", gave, err)
	}
	if text := second.metrics(); !strings.Contains(text, fmt.Sprintf("ebb_peers_serving %d\n", 1)) || strings.Contains(text, `ebb_peers_bytes_total{direction="received"} 0`) {
		t.Errorf("the metrics are\n%s", text)
	}
}

// What one machine fetched the hosted cache has fetched from it, and the next machine gets it there when the first is gone.
func TestHostedCacheBetweenMachines(t *testing.T) {
	t.Parallel()
	origin := startServing(t, "", "--branchcache", "--branchcache-http")
	_, body := start(t, options{}).source("body", 8*mib, 80)
	origin.write("file", string(body))
	about, _ := origin.info(http.DefaultClient, "/file", "2.0")
	hosted := startServing(t, "[hosted_cache]\nallow = [\"127.0.0.0/8\"]\n")
	config := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return fmt.Sprintf("[peers]\nmode = \"hosted\"\nplain_http = true\nport = %d\nhosted_caches = \"%s\"\n", l.Addr().(*net.TCPAddr).Port, hosted.addr)
	}
	first := start(t, options{config: config()})
	first.settled(first.fetch(origin.url+"/file", "file"), bits.Transferred)
	hosted.measured(fmt.Sprintf("ebb_serve_hosted_cache_offers_total %d", len(about.Segments)))
	hosted.measured("ebb_serve_hosted_cache_waiting 0")
	first.stop()

	second := start(t, options{config: config()})
	job := second.fetch(origin.url+"/file", "file")
	second.settled(job, bits.Transferred)
	f, err := job.File(second.ctx(), 0)
	if err != nil || f.BytesFromPeers < int64(len(body))/2 || f.BytesFromPeers+f.BytesFromOrigin != int64(len(body)) {
		t.Errorf("%d bytes came from the hosted cache and %d from the server: %v", f.BytesFromPeers, f.BytesFromOrigin, err)
	}
	second.complete(job)
	if got, err := os.ReadFile(filepath.Join(second.dir, "file")); err != nil || !bytes.Equal(got, body) {
		t.Errorf("the file is another: %v", err)
	}
}

// What is in the cache is for a job whose own request the server answers with the description, and for no other: row 9
// of the security table.
func TestTheCacheIsForWhoMayReadTheFile(t *testing.T) {
	t.Parallel()
	origin := newServing(t, `
[branchcache]
http = true
[tokens.worker]
token = "0123456789abcdef"
[tokens.other]
token = "fedcba9876543210"
[tokens.third]
token = "00112233445566778899"
[[group]]
path = "/"
dir = "%DIR%"
read = ["worker", "other"]
`)
	s := everyUser(t, options{config: "[peers]\nmode = \"local\"\nplain_http = true\n", args: []string{"--verbose"}})
	_, body := start(t, options{}).source("body", 3*mib, 80)
	origin.write("file", string(body))
	origin.up()
	header := func(token string) string { return "Authorization: Bearer " + token }
	described, _ := origin.info(http.DefaultClient, "/file", "2.0", "Authorization", "Bearer 0123456789abcdef") // from now on
	get := func(uid uint32, name string, args ...string) result {
		return s.as(uid, append([]string{"get", origin.url + "/file", filepath.Join(s.dir, name)}, args...)...)
	}
	cached := func(name string) int64 {
		t.Helper()
		for j, err := range s.List(s.ctx(), client.ListOptions{AllUsers: true, Files: true, State: []bits.State{bits.Acknowledged}}) {
			must(t, err)
			for _, f := range j.Files {
				if filepath.Base(f.Local) == name {
					return f.BytesFromCache
				}
			}
		}
		t.Fatalf("no job has %s", name)
		return 0
	}
	get(worker, "mine", "--header", header("0123456789abcdef")).want(t, 0)
	if n := cached("mine"); n != 0 {
		t.Errorf("%d bytes were here before anybody had asked", n)
	}
	var info bits.CacheInfo
	s.cli("cache", "info", "--json").want(t, 0).decode(t, &info)
	if info.Bytes != int64(len(body)) {
		t.Fatalf("the cache has %d bytes", info.Bytes)
	}
	refused := func(name string, args ...string) {
		t.Helper()
		if r := get(other, name, args...); r.code == 0 {
			t.Errorf("%s is fetched: %s%s", name, r.out, r.err)
		}
		if _, err := os.Stat(filepath.Join(s.dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is here: %v", name, err)
		}
	}
	refused("without")
	refused("wrong", "--header", header("0000000000000000"))
	refused("third", "--header", header("00112233445566778899"))
	// Whoever may read the file at the server gets it from the cache.
	get(other, "theirs", "--header", header("fedcba9876543210")).want(t, 0)
	if n := cached("theirs"); n != int64(len(body)) {
		t.Errorf("%d bytes came from the cache", n)
	}
	// A server that describes nothing gives nobody a way to the cache.
	plain := startServing(t, "")
	plain.write("file", string(body))
	s.as(other, "get", plain.url+"/file", filepath.Join(s.dir, "plain")).want(t, 0)
	if n := cached("plain"); n != 0 {
		t.Errorf("%d bytes came from the cache without a description", n)
	}
	// Who may read it no more is asked for anew, each time.
	config := filepath.Join(origin.home, "serve.toml")
	text, err := os.ReadFile(config)
	must(t, err, os.WriteFile(config, bytes.Replace(text, []byte(`["worker", "other"]`), []byte(`["worker"]`), 1), 0o600))
	origin.kill9()
	origin.up()
	refused("late", "--header", header("fedcba9876543210"))
	// Nobody but the service reads the cache's files.
	ls := exec.Command("ls", filepath.Join(s.state, "peers"))
	ls.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
	if out, err := ls.CombinedOutput(); err == nil || !strings.Contains(string(out), "ermission denied") {
		t.Errorf("another user lists the cache: %s", out)
	}
	// And nothing tells the keys.
	log, err := os.ReadFile(s.log)
	must(t, err)
	tellsNoKey(t, "the log", string(log), keysOf(described))
	var jobs []byte
	for j, err := range s.List(s.ctx(), client.ListOptions{AllUsers: true, Files: true, State: []bits.State{bits.Acknowledged}}) {
		must(t, err)
		b, err := json.Marshal(j)
		must(t, err)
		jobs = append(jobs, b...)
	}
	tellsNoKey(t, "the list of jobs", string(jobs), keysOf(described))
}
