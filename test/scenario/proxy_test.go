package scenario

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/fakebus"
	"github.com/ebbtransfer/ebb/test/servers"
)

// TestProxies: which proxy a job takes, by its own settings, the environment and the desktop's. Only
// the proxy knows the name of the server, so the file comes by it or not at all.
func TestProxies(t *testing.T) {
	t.Parallel()
	web := authenticating(t)(servers.Nginx(served(t, 1000), servers.Options{}))
	squid := authenticating(t)(servers.Squid(servers.Options{Name: "web.ebb.test"}))
	url := strings.Replace(web.URL, "127.0.0.1", "web.ebb.test", 1) + "/a"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	_ = l.Close()
	host, port, err := net.SplitHostPort(strings.TrimPrefix(squid.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	script := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `function FindProxyForURL(url, host) {
			if (dnsDomainIs(host, ".ebb.test") && shExpMatch(url, "*/a")) return "PROXY %s; PROXY %s:%s";
			return "DIRECT";
		}`, strings.TrimPrefix(nobody, "http://"), host, port)
	}))
	t.Cleanup(script.Close)
	kde := func(lines ...string) string {
		return "[General]\nx=y\n\n[Proxy Settings]\n" + strings.Join(lines, "\n") + "\n"
	}
	byHand := "httpProxy=http://" + host + " " + port
	desktop := func(more ...string) []string {
		return append([]string{"org.gnome.system.proxy.http host " + host, "org.gnome.system.proxy.http port " + port, "org.gnome.system.proxy mode manual"}, more...)
	}
	override := func(list string, bypass ...string) *bits.ProxySettings {
		return &bits.ProxySettings{Usage: bits.ProxyOverride, List: strings.Fields(list), Bypass: bypass}
	}
	for _, test := range []struct {
		name     string
		env      []string
		settings []string // of GNOME
		kde      string   // kioslaverc
		proxy    *bits.ProxySettings
		comes    bool
	}{
		{"nothing", nil, nil, "", nil, false},
		{"a list, of which the second answers", nil, nil, "", override(nobody + " " + squid.URL), true},
		{"a list, and another host that goes past it", nil, nil, "", override(squid.URL, "other.test", "<local>"), true},
		{"a list that the host goes past", nil, nil, "", override(squid.URL, "*.ebb.test"), false},
		{"the environment", []string{"http_proxy=" + squid.URL}, nil, "", nil, true},
		{"the environment, past which the host goes", []string{"http_proxy=" + squid.URL, "no_proxy=.ebb.test"}, nil, "", nil, false},
		{"no proxy, whatever the environment says", []string{"http_proxy=" + squid.URL}, desktop(), "", &bits.ProxySettings{Usage: bits.ProxyNone}, false},
		{"the job's before the environment's", []string{"http_proxy=" + nobody}, nil, "", override(squid.URL), true},
		{"the desktop", nil, desktop(), "", nil, true},
		{"the desktop, past which the host goes", nil, desktop("org.gnome.system.proxy ignore-hosts ['*.ebb.test']"), "", nil, false},
		{"the desktop's, turned off", nil, desktop("org.gnome.system.proxy mode none"), "", nil, false},
		{"the desktop's script", nil, []string{"org.gnome.system.proxy autoconfig-url " + script.URL, "org.gnome.system.proxy mode auto"}, "", nil, true},
		{"KDE's", nil, nil, kde("ProxyType=1", byHand), nil, true},
		{"KDE's, past which the host goes", nil, nil, kde("ProxyType=1", byHand, "NoProxyFor=localhost,.ebb.test"), nil, false},
		{"KDE's, turned off", nil, nil, kde("ProxyType=0", byHand), nil, false},
		{"KDE's script", nil, nil, kde("ProxyType=2", "Proxy Config Script="+script.URL), nil, true},
		{"GNOME's before KDE's", nil, desktop(), kde("ProxyType=0"), nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env := []string{"http_proxy=", "HTTP_PROXY=", "https_proxy=", "HTTPS_PROXY=", "all_proxy=", "ALL_PROXY=", "no_proxy=", "NO_PROXY="} // those of whoever runs the test
			s := prepare(t, options{env: append(env, test.env...)})
			s.gnome(test.settings...)
			if test.kde != "" {
				must(t, os.MkdirAll(s.configHome(), 0o700), os.WriteFile(filepath.Join(s.configHome(), "kioslaverc"), []byte(test.kde), 0o600))
			}
			s.up()
			job := s.create(fetched{settings: bits.Settings{Options: bits.Options{Proxy: test.proxy}}, files: []bits.FileSpec{s.file(url, "a")}})
			if test.comes {
				s.settled(job, bits.Transferred)
				return
			}
			got := s.until(job, "without a way to its server", func(j *bits.Job) bool { return j.Error != nil })
			if got.Error.Code != bits.NameNotResolved.Name() {
				t.Errorf("the error is %+v", got.Error)
			}
		})
	}
}

// asker is a proxy that serves one body, whatever it is asked for, to those who say what it wants to hear.
type asker struct {
	*http.Server
	url   string
	wants string // of Proxy-Authorization; empty for nothing

	mu    sync.Mutex
	heard []string // guarded by mu: each Proxy-Authorization
	asked []string // guarded by mu: each request's method and target
}

func newAsker(t *testing.T, at, wants string) *asker {
	t.Helper()
	a := &asker{wants: wants}
	l, err := net.Listen("tcp", at)
	must(t, err)
	a.url = "http://" + l.Addr().String()
	a.Server = &http.Server{Handler: a}
	go func() { _ = a.Serve(l) }()
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// ServeHTTP implements http.Handler.
func (a *asker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	said := r.Header.Get("Proxy-Authorization")
	a.mu.Lock()
	a.asked = append(a.asked, r.Method+" "+r.RequestURI)
	if said != "" {
		a.heard = append(a.heard, said)
	}
	a.mu.Unlock()
	if said != a.wants {
		w.Header().Add("Proxy-Authenticate", "NTLM")
		w.Header().Add("Proxy-Authenticate", `Basic realm="proxy"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	http.ServeContent(w, r, "", time.Unix(1e9, 0), strings.NewReader("through the proxy"))
}

// TestTheNetworksProxy: a proxy that the DHCP server names is used by jobs that look for one, and told
// nothing secret; once the owner names it, it is.
func TestTheNetworksProxy(t *testing.T) {
	t.Parallel()
	b := fakebus.New(t)
	nm, err := b.NetworkManager()
	must(t, err)
	open := newAsker(t, "127.0.0.1:0", "")
	asking := newAsker(t, "127.0.0.1:0", "Basic "+base64.StdEncoding.EncodeToString([]byte("alice:s3cret-of-proxies")))
	script := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `function FindProxyForURL(url, host) {
			if (host == "open.ebb.test") return "PROXY %s";
			return "PROXY %s";
		}`, strings.TrimPrefix(open.url, "http://"), strings.TrimPrefix(asking.url, "http://"))
	}))
	t.Cleanup(script.Close)
	must(t, nm.DHCP("wpad", script.URL+"\n"))
	s := start(t, options{env: []string{"DBUS_SYSTEM_BUS_ADDRESS=" + b.Address}})
	auto := &bits.ProxySettings{Usage: bits.ProxyAutodetect}
	get := func(url, name string) *client.Job {
		t.Helper()
		return s.create(fetched{name: name, settings: bits.Settings{Options: bits.Options{Proxy: auto}}, files: []bits.FileSpec{s.file(url, name)}, waits: true})
	}
	job := get("http://open.ebb.test/file", "open")
	s.resume(job)
	s.settled(job, bits.Transferred)

	file := get("http://asking.ebb.test/file", "file")
	for _, job := range []*client.Job{file, get("https://asking.ebb.test/file", "tunnel")} {
		for _, scheme := range []string{"basic", "ntlm"} {
			s.identifies(job, "s3cret-of-proxies", "proxy", scheme, "alice")
		}
		s.resume(job)
		s.refusedWith(job, http.StatusProxyAuthRequired)
		if said := s.info(job).Error.Message; !strings.Contains(said, "the network named this proxy") {
			t.Errorf("the error says %q", said)
		}
	}
	asking.mu.Lock()
	if len(asking.asked) < 2 || len(asking.heard) > 0 {
		t.Errorf("it was asked %q, and heard %q", asking.asked, asking.heard)
	}
	asking.mu.Unlock()

	must(t, file.Set(s.ctx(), bits.Settings{Options: bits.Options{Proxy: &bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{asking.url}}}}))
	s.resume(file)
	s.settled(file, bits.Transferred)
	s.keepsSecret(file, "s3cret-of-proxies")
}

// TestTheNetworksProxyByName: where DHCP names no script it is looked for at the host wpad of the network's
// domain (WPAD by DNS), and what the script says is done. It runs alone, see TestNetworkGoesAndComesBack.
func TestTheNetworksProxyByName(t *testing.T) {
	n := newNamespace(t)
	n.names(map[string]string{"wpad.corp.ebb.test.": n.host})
	proxy := newAsker(t, n.host+":0", "")
	l, err := net.Listen("tcp", n.host+":80")
	must(t, err)
	var host atomic.Value
	script := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host.Store(r.Host + r.URL.Path)
		_, _ = fmt.Fprintf(w, `function FindProxyForURL(url, host) {
			return dnsResolve("wpad.corp.ebb.test") == "%s" && !isResolvable(host) ? "PROXY %s" : "DIRECT";
		}`, n.host, strings.TrimPrefix(proxy.url, "http://"))
	})}
	go func() { _ = script.Serve(l) }()
	t.Cleanup(func() { _ = script.Close() })
	s := start(t, options{before: n.within("corp.ebb.test"), env: []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent"}})
	job := s.create(fetched{settings: bits.Settings{Options: bits.Options{Proxy: &bits.ProxySettings{Usage: bits.ProxyAutodetect}}},
		files: []bits.FileSpec{s.file("http://files.corp.ebb.test/file", "file")}})
	s.settled(job, bits.Transferred)
	if got := host.Load(); got != "wpad.corp.ebb.test/wpad.dat" {
		t.Errorf("the script was asked for at %v", got)
	}
	proxy.mu.Lock()
	defer proxy.mu.Unlock()
	if len(proxy.asked) == 0 || proxy.asked[0] != "GET http://files.corp.ebb.test/file" {
		t.Errorf("the proxy was asked %q", proxy.asked)
	}
}

// gnome sets settings of GNOME for the service's user: each the schema, the key and the value.
func (s *service) gnome(settings ...string) {
	s.t.Helper()
	if len(settings) == 0 {
		return
	}
	for _, tool := range []string{"dbus-run-session", "gsettings"} {
		if _, err := exec.LookPath(tool); err != nil {
			needs(s.t, fmt.Errorf("%w: %w", servers.ErrNotInstalled, err))
		}
	}
	home := s.t.TempDir()
	cmd := exec.Command("dbus-run-session", "--", "sh", "-c", `while read -r schema key value; do gsettings set "$schema" "$key" "$value" || exit 1; done`)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR="+home, "XDG_CONFIG_HOME="+s.configHome(), "GSETTINGS_BACKEND=dconf")
	cmd.Stdin = strings.NewReader(strings.Join(settings, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("set the desktop's settings: %v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(s.configHome(), "dconf", "user")); err != nil {
		s.t.Fatal(err)
	}
}
