package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

const whole = `
listen = [":8080", "https://:8443", "http://127.0.0.1:80"]
metrics = "127.0.0.1:9100"

[tls]
cert = "cert.pem"
key = "/etc/key.pem"
client_ca = "ca.pem"
client_certificates = "required"

[users]
alice.password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$c3VtIHN1bSBzdW0gc3VtIHN1bSBzdW0gc3VtIHN1bSA"

[users.bob]
password = "$2y$10$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

[tokens.ci]
token = "0123456789abcdef"

[branchcache]
secret = "secret"
http = true
version = 1
hashes_size = "2 GB"
hashes_age = "7d"

[hosted_cache]
size = "50 GB"
max_age = "14d"
allow = ["10.1.2.3/16", "fd00::1"]

[[group]]
path = "/images"
dir = "images"
listing = true
connections = 25
bandwidth = "10 MB/s"
read = ["anyone"]

branchcache = false

[[group]]
path = "/listed/"
branchcache_http = false
branchcache_version = 2
files = { "a.iso" = "/srv/a.iso", "deep/b" = "b" }

[[group]]
path = "/in/"
dir = "/srv/in"
write = ["alice", "ci"]

[group.uploads]
session_timeout = "2d"
max_size = "10 GB"
max_fragment = "8 MiB"
overwrite = true
host_id = "node1.example.org:8443"
host_id_fallback = "90s"
notify = "by-value"
notify_url = "http://app/done"
notify_timeout = "30s"
public_url = "https://files.example.org/"
cleanup = "1h"
sessions_per_user = 7
min_free_space = "1 GiB"
origins = ["https://app.example.org"]

[[group]]
path = "/bits/"
dir = "/srv/bits"

[group.bits]
BITSUploadEnabled = true
BITSSessionDirectory = "BITS-Sessions"
BITSSessionTimeout = 3600
BITSMaximumUploadSize = "1844674407370955"
BITSServerNotificationType = 1
BITSServerNotificationURL = "app.asp"
BITSHostId = "node2"
BITSHostIdFallbackTimeout = 110
BITSAllowOverwrites = 1
BITSCleanupUseDefault = 0
BITSCleanupCount = 2
BITSCleanupUnits = 2
BITSNumberOfSessionsLimit = 5
bitssessionlimitenable = 0

[[group]]
path = "/bucket/"

[group.uploads]
storage = "s3://bucket/a/b/"
s3_endpoint = "http://localhost:7070"
s3_region = "eu-1"
s3_access_key = "key"
s3_secret_key = "secret"

[[group]]
path = "/off/"
dir = "/srv/off"
bits = { BITSUploadEnabled = false }
`

func TestParse(t *testing.T) {
	got, err := Parse("/etc/ebb/serve.toml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	authenticated := []string{Authenticated}
	fromBITS := DefaultUploads(authenticated)
	fromBITS.SessionTimeout, fromBITS.MaxSize, fromBITS.Overwrite = time.Hour, 1844674407370955, true
	fromBITS.Notify, fromBITS.NotifyURL, fromBITS.HostID, fromBITS.HostIDFallback = session.NotifyByReference, "app.asp", "node2", 110*time.Second
	fromBITS.Cleanup, fromBITS.SessionsPerUser = 48*time.Hour, 0
	inBucket := DefaultUploads(authenticated)
	inBucket.Storage = Storage{Bucket: "bucket", Prefix: "a/b/", Endpoint: "http://localhost:7070", Region: "eu-1", AccessKey: "key", SecretKey: "secret"}
	want := Config{
		Listen:      []Address{{":8080", true}, {":8443", true}, {"127.0.0.1:80", false}},
		Metrics:     "127.0.0.1:9100",
		TLS:         TLS{Cert: "/etc/ebb/cert.pem", Key: "/etc/key.pem", ClientCA: "/etc/ebb/ca.pem", ClientRequired: true},
		Users:       map[string]string{"alice": "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$c3VtIHN1bSBzdW0gc3VtIHN1bSBzdW0gc3VtIHN1bSA", "bob": "$2y$10$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
		Tokens:      map[string]string{"ci": "0123456789abcdef"},
		BranchCache: BranchCache{On: true, Secret: "/etc/ebb/secret", PlainHTTP: true, Version: 1, HashesSize: 2e9, HashesAge: 7 * 24 * time.Hour},
		HostedCache: HostedCache{On: true, Size: 50e9, MaxAge: 14 * 24 * time.Hour, Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::1/128")}},
		Groups: []Group{
			{Path: "/images/", Dir: "/etc/ebb/images", Listing: true, Connections: 25, Bandwidth: 10e6, Read: []string{Anyone}, Write: authenticated,
				BranchCache: GroupBranchCache{Off: true}},
			{Path: "/listed/", BranchCache: GroupBranchCache{PlainHTTP: new(bool), Version: 2}, Files: map[string]string{"a.iso": "/srv/a.iso", "deep/b": "/etc/ebb/b"}, Read: authenticated, Write: authenticated},
			{Path: "/in/", Dir: "/srv/in", Read: authenticated, Write: []string{"alice", "ci"}, Uploads: &Uploads{
				SessionTimeout: 48 * time.Hour, MaxSize: 10e9, MaxFragment: 8 << 20, Overwrite: true, HostID: "node1.example.org:8443",
				HostIDFallback: 90 * time.Second, Notify: session.NotifyByValue, NotifyURL: "http://app/done", NotifyTimeout: 30 * time.Second,
				PublicURL: "https://files.example.org", Cleanup: time.Hour, SessionsPerUser: 7, MinFree: 1 << 30, Origins: []string{"https://app.example.org"},
			}},
			{Path: "/bits/", Dir: "/srv/bits", Read: authenticated, Write: authenticated, Uploads: &fromBITS},
			{Path: "/bucket/", Read: authenticated, Write: authenticated, Uploads: &inBucket},
			{Path: "/off/", Dir: "/srv/off", Read: authenticated, Write: authenticated},
		},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func TestBranchCacheOfGroups(t *testing.T) {
	on, off := true, false
	for _, c := range []struct {
		server BranchCache
		group  GroupBranchCache
		want   BranchCache
	}{
		{BranchCache{}, GroupBranchCache{Version: 1}, BranchCache{Version: 1}},
		{BranchCache{On: true}, GroupBranchCache{}, BranchCache{On: true, Version: 2}},
		{BranchCache{On: true, PlainHTTP: true, Version: 1}, GroupBranchCache{}, BranchCache{On: true, PlainHTTP: true, Version: 1}},
		{BranchCache{On: true, PlainHTTP: true, Version: 1}, GroupBranchCache{PlainHTTP: &off, Version: 2}, BranchCache{On: true, Version: 2}},
		{BranchCache{On: true}, GroupBranchCache{PlainHTTP: &on}, BranchCache{On: true, PlainHTTP: true, Version: 2}},
		{BranchCache{On: true}, GroupBranchCache{Off: true}, BranchCache{Version: 2}},
	} {
		if got := c.server.In(&Group{BranchCache: c.group}); got != c.want {
			t.Errorf("%+v in %+v: %+v, want %+v", c.server, c.group, got, c.want)
		}
	}
	if c, err := Parse("x.toml", []byte("[branchcache]\nenabled = false\n")); err != nil || c.BranchCache.On {
		t.Errorf("%+v %v", c.BranchCache, err)
	}
}

func TestDefaultsAreThoseOfBITS(t *testing.T) {
	u := DefaultUploads([]string{Authenticated})
	if u.SessionTimeout != 1_209_600*time.Second || u.MaxSize != -1 || u.HostIDFallback != 86_400*time.Second || u.Overwrite || u.Notify != 0 ||
		u.Cleanup != 12*time.Hour || u.SessionsPerUser != 50 || u.NotifyTimeout != 5*time.Minute {
		t.Errorf("%+v", u)
	}
	if u := DefaultUploads([]string{Anyone}); u.SessionsPerUser != 0 {
		t.Error("all who are anonymous share a limit")
	}
}

// Each case is a file and the start of the problem, with its line.
func TestProblems(t *testing.T) {
	const group = "[[group]]\npath = \"/\"\ndir = \"/srv\"\n"
	for _, c := range []struct{ text, want string }{
		{"listen = [\":8080\"]\nlisten = [\":1\"]", "x.toml:2: "},
		{"listen = \":8080\"", "x.toml:1: listen: want a list"},
		{"listen = [\"8080\"]", "x.toml:1: listen: address 8080: want HOST:PORT, :PORT, http://HOST:PORT or https://HOST:PORT"},
		{"listen = [\"https://:8443\"]", "x.toml:1: listen: https://:8443 needs a certificate"},
		{"\nlisen = [\":8080\"]", "x.toml:2: lisen: there is no such key; did you mean listen?"},
		{group + "[group.uploads]\nmax_sise = \"1 GB\"", "x.toml:5: group.uploads.max_sise: there is no such key; did you mean max_size?"},
		{group + "[group.bits]\nBITSHostID = \"a\"\nBITSAllowOverwrite = 1", "x.toml:6: group.bits.BITSAllowOverwrite: there is no such key; did you mean BITSAllowOverwrites?"},
		{group + "connections = \"3\"", "x.toml:4: group.connections: want a whole number"},
		{group + "[group.uploads]\noverwrite = 1", "x.toml:5: group.uploads.overwrite: want true or false"},
		{group + "[group.uploads]\nmax_size = 5", "x.toml:5: group.uploads.max_size: want a text such as \"20 GB\""},
		{group + "read = \"alice\"", "x.toml:4: group.read: want a list"},
		{group + "uploads = true", "x.toml:4: group.uploads: want a table"},
		{"[users]\nalice = \"secret\"", "x.toml:2: users.alice: want a table"},
		{group + "[group.bits]\nBITSUploadEnabled = 2", "x.toml:5: group[0].bits.BITSUploadEnabled: want true or false"},
		{group + "[group.bits]\nBITSSessionLimitEnable = 2", "x.toml:5: group[0].bits.BITSSessionLimitEnable: want true or false"},
		{group + "[group.bits]\nBITSCleanupUseDefault = \"no\"", "x.toml:5: group[0].bits.BITSCleanupUseDefault: want true or false"},
		{group + "[group.bits]\nBITSUploadEnabled = [1]", "x.toml:5: group[0].bits.BITSUploadEnabled: want true or false"},
		{group + "[group.bits]\nBITSMaximumUploadSize = 1.5", "x.toml:5: group[0].bits.BITSMaximumUploadSize: \"1.5\" is not a number"},
		{group + "connections = -3", "x.toml:4: group[0].connections: want 1 or more"},
		{group + "bandwidth = \"1000 B/s\"", "x.toml:4: group[0].bandwidth: want at least 1024 B/s"},
		{group + "read = [\"alice\"]", "x.toml:4: group[0].read: there is no user or token \"alice\""},
		{"[tokens.alice]\ntoken = \"0123456789abcdef\"\n" + group + "read = [\"alise\"]", "x.toml:6: group[0].read: there is no user or token \"alise\"; did you mean \"alice\"?"},
		{group + group, "x.toml:5: group[1].path: another group has the path / too"},
		{"[[group]]\npath = \"/a/../b\"\ndir = \"/\"", "x.toml:2: group[0].path: want a path"},
		{"[[group]]\npath = \"/a\"", "x.toml:1: group[0]: has nothing to serve"},
		{"[[group]]\npath = \"/a\"\nfiles = { \"../a\" = \"/a\" }", "x.toml:3: group[0].files: \"../a\" is not a name"},
		{group + "[group.uploads]\n[[group]]\npath=\"/b\"\ndir=\"/srv\"\n[group.uploads]", "x.toml:7: group[1].dir: another group takes uploads"},
		{group + "[group.uploads]\nsession_timeout = \"0s\"", "x.toml:5: group[0].uploads.session_timeout: 0s is out of range; want 1s to "},
		{group + "[group.uploads]\nsession_timeout = 5", "x.toml:5: group.uploads.session_timeout: want a text such as \"14d\""},
		{group + "[group.uploads]\nmax_fragment = \"1 KiB\"", "x.toml:5: group[0].uploads.max_fragment: 1 KiB is out of range"},
		{group + "[group.uploads]\nnotify = \"by-value\"", "x.toml:5: group[0].uploads.notify: there is no notify_url"},
		{group + "[group.uploads]\nnotify_url = \"ftp://x/\"", "x.toml:5: group[0].uploads.notify_url: "},
		{group + "[group.uploads]\nhost_id = \"a/b\"", "x.toml:5: group[0].uploads.host_id: "},
		{group + "[group.uploads]\norigins = [\"app.example.org\"]", "x.toml:5: group[0].uploads.origins: "},
		{group + "[group.uploads]\nstorage = \"s3://b\"", "x.toml:5: group[0].uploads.storage: a group has either"},
		{"[[group]]\npath = \"/\"\n[group.uploads]\nstorage = \"http://b\"", "x.toml:4: group[0].uploads.storage: \"http://b\" is not a bucket"},
		{"[[group]]\npath = \"/\"\n[group.uploads]\nstorage = \"s3://b\"\nnotify = \"by-reference\"\nnotify_url = \"/x\"", "x.toml:5: group[0].uploads.notify: by-reference"},
		{group + "[group.bits]\nBITSSessionTimeout = 0", "x.toml:5: group[0].bits.BITSSessionTimeout: 0 is out of range; want 1 to 4294967295"},
		{group + "[group.bits]\nBITSCleanupUseDefault = 0\nBITSCleanupUnits = 0\nBITSCleanupCount = 61", "x.toml:7: group[0].bits.BITSCleanupCount: 61 is out of range; want 1 to 60"},
		{group + "[group.bits]\nBITSMaximumUploadSize = \"-1\"", "x.toml:5: group[0].bits.BITSMaximumUploadSize: \"-1\" is not a number"},
		{group + "[group.bits]\nBITSMaximumUploadSize = 1844674407370956", "x.toml:5: group[0].bits.BITSMaximumUploadSize: 1844674407370956 is out of range; want up to 1844674407370955 bytes"},
		{group + "[group.bits]\nBITSMaximumUploadSize = \"18446744073709551615\"", "x.toml:5: group[0].bits.BITSMaximumUploadSize: 18446744073709551615 is out of range"},
		{group + "[group.uploads]\nnotify_url = \"/x\"", "x.toml:5: group[0].uploads.notify_url: has no effect"},
		{"[branchcache]\nversion = 3", "x.toml:2: branchcache.version: want 1, "},
		{"[branchcache]\nhashes_size = \"1 MB\"", "x.toml:2: branchcache.hashes_size: 1 MB is out of range"},
		{"[branchcache]\nhashes_age = 28", "x.toml:2: branchcache.hashes_age: want a text such as \"28d\""},
		{"[branchcache]\nsecrets = \"x\"", "x.toml:2: branchcache.secrets: there is no such key; did you mean secret?"},
		{"[hosted_cache]\nallow = [\"10.0.0.0/33\"]", "x.toml:2: hosted_cache.allow: \"10.0.0.0/33\" is not a network"},
		{"[hosted_cache]\nsize = \"1 MB\"", "x.toml:2: hosted_cache.size: 1 MB is out of range"},
		{group + "branchcache_version = 0", "x.toml:4: group[0].branchcache_version: want 1, "},
		{"[tls]\ncert = \"a\"", "x.toml:2: tls.cert: cert and key are needed both"},
		{"[tokens.anyone]\ntoken = \"0123456789abcdef\"", "x.toml:1: tokens.anyone: "},
		{"[users.alice]\npassword = \"secret\"", "x.toml:2: users.alice.password: the password of alice is not a hash"},
		{"tokens = { ci = { token = \"short\" } }", "x.toml:1: tokens.ci.token: "},
	} {
		_, err := Parse("x.toml", []byte(c.text))
		var p policy.Problems
		told := func(p bits.PolicyProblem) bool { return strings.HasPrefix(p.String(), c.want) }
		if !errors.As(err, &p) || !slices.ContainsFunc(p, told) {
			t.Errorf("%s\n: %v, want %s...", c.text, err, c.want)
		}
	}
}

func TestBITSNamesTakeNumbersAndTexts(t *testing.T) {
	for _, c := range []struct {
		text    string
		enabled bool
		size    int64
	}{
		{"BITSUploadEnabled = 1\nBITSMaximumUploadSize = 5000", true, 5000},
		{"BITSUploadEnabled = 0", false, 0},
		{"BITSUploadEnabled = true\nBITSMaximumUploadSize = \"5000\"", true, 5000},
		{"BITSUploadEnabled = true\nBITSMaximumUploadSize = \"\"", true, -1},
	} {
		got, err := Parse("x.toml", []byte("[[group]]\npath = \"/\"\ndir = \"/srv\"\n[group.bits]\n"+c.text))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if u := got.Groups[0].Uploads; (u != nil) != c.enabled || u != nil && u.MaxSize != c.size {
			t.Errorf("%s: %+v", c.text, u)
		}
	}
}

func TestBITSNamesTakeBooleansAndNumbers(t *testing.T) {
	for _, c := range []struct {
		text     string
		sessions int
		cleanup  time.Duration
	}{
		{"", 0, 12 * time.Hour}, // anyone may upload
		{"BITSSessionLimitEnable = true", 50, 12 * time.Hour},
		{"BITSSessionLimitEnable = 1", 50, 12 * time.Hour},
		{"BITSNumberOfSessionsLimit = 3", 3, 12 * time.Hour},
		{"BITSSessionLimitEnable = true\nBITSNumberOfSessionsLimit = 3", 3, 12 * time.Hour},
		{"BITSSessionLimitEnable = false\nBITSNumberOfSessionsLimit = 3", 0, 12 * time.Hour},
		{"BITSCleanupUseDefault = true", 0, 12 * time.Hour},
		{"BITSCleanupUseDefault = false\nBITSCleanupCount = 3\nBITSCleanupUnits = 0", 0, 3 * time.Minute},
		{"BITSCleanupUseDefault = 0\nBITSCleanupCount = 3", 0, 3 * time.Hour},
	} {
		got, err := Parse("x.toml", []byte("[[group]]\npath = \"/\"\ndir = \"/srv\"\n[group.bits]\nBITSUploadEnabled = true\n"+c.text))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if u := got.Groups[0].Uploads; u == nil || u.SessionsPerUser != c.sessions || u.Cleanup != c.cleanup {
			t.Errorf("%s: %+v", c.text, u)
		}
	}
}

// As with IIS, whoever sets another property does not open the directory for uploads. A table for uploads
// does.
func TestBITSNamesAloneDoNotEnableUploads(t *testing.T) {
	for _, c := range []struct {
		text    string
		enabled bool
	}{
		{"[group.bits]", false},
		{"[group.bits]\nBITSMaximumUploadSize = 5000", false},
		{"[group.bits]\nBITSMaximumUploadSize = 5000\nBITSUploadEnabled = true", true},
		{"[group.uploads]\n[group.bits]\nBITSMaximumUploadSize = 5000", true},
		{"[group.uploads]\n[group.bits]\nBITSMaximumUploadSize = 5000\nBITSUploadEnabled = false", false},
		{"[group.uploads]\nenabled = true\n[group.bits]\nBITSMaximumUploadSize = 5000\nBITSUploadEnabled = false", true},
		{"[group.uploads]\nenabled = false\n[group.bits]\nBITSUploadEnabled = true", false},
	} {
		got, err := Parse("x.toml", []byte("[[group]]\npath = \"/\"\ndir = \"/srv\"\n"+c.text))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if u := got.Groups[0].Uploads; (u != nil) != c.enabled || u != nil && u.MaxSize != 5000 {
			t.Errorf("%s: %+v", c.text, u)
		}
	}
}

// IIS keeps the URL while the type says that nobody is notified.
func TestNotificationOfBITSThatIsOff(t *testing.T) {
	for _, kind := range []string{"", "BITSServerNotificationType = 0\n"} {
		got, err := Parse("x.toml", []byte("[[group]]\npath = \"/\"\ndir = \"/srv\"\n[group.bits]\nBITSUploadEnabled = true\n"+kind+"BITSServerNotificationURL = \"http://app/\""))
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if u := got.Groups[0].Uploads; u == nil || u.Notify != session.NotifyNone {
			t.Errorf("%s: %+v", kind, u)
		}
	}
}

func TestAllProblemsAreTold(t *testing.T) {
	_, err := Parse("x.toml", []byte("[[group]]\npath = \"x\"\ndir = \"/a\"\nbandwidth = \"fast\"\nconnections = -1\n"))
	var p policy.Problems
	if !errors.As(err, &p) || len(p) != 3 || !slices.IsSortedFunc(p, func(a, b bits.PolicyProblem) int { return a.Line - b.Line }) {
		t.Error(p)
	}
}

func TestTheExampleInTheDocumentIsRight(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "serve.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```toml\n")
	example, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("there is no example")
	}
	if _, err := Parse("serve.toml", []byte(example)); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("[[group]]\n[[group.uploads]]\n"))
	f.Add([]byte("group = [{path='/', uploads={max_size='1 GB'}}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("x.toml", text)
		var p policy.Problems
		if err != nil && (!errors.As(err, &p) || len(p) == 0) {
			t.Error(err)
		}
		for _, g := range c.Groups {
			if !strings.HasPrefix(g.Path, "/") || !strings.HasSuffix(g.Path, "/") {
				t.Error(g.Path)
			}
		}
	})
}
