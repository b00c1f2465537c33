package scenario

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
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
	desktop := func(more ...string) []string {
		return append([]string{"org.gnome.system.proxy.http host " + host, "org.gnome.system.proxy.http port " + port, "org.gnome.system.proxy mode manual"}, more...)
	}
	override := func(list string, bypass ...string) *bits.ProxySettings {
		return &bits.ProxySettings{Usage: bits.ProxyOverride, List: strings.Fields(list), Bypass: bypass}
	}
	for _, test := range []struct {
		name     string
		env      []string
		settings []string // of the desktop
		proxy    *bits.ProxySettings
		comes    bool
	}{
		{"nothing", nil, nil, nil, false},
		{"a list, of which the second answers", nil, nil, override(nobody + " " + squid.URL), true},
		{"a list, and another host that goes past it", nil, nil, override(squid.URL, "other.test", "<local>"), true},
		{"a list that the host goes past", nil, nil, override(squid.URL, "*.ebb.test"), false},
		{"the environment", []string{"http_proxy=" + squid.URL}, nil, nil, true},
		{"the environment, past which the host goes", []string{"http_proxy=" + squid.URL, "no_proxy=.ebb.test"}, nil, nil, false},
		{"no proxy, whatever the environment says", []string{"http_proxy=" + squid.URL}, desktop(), &bits.ProxySettings{Usage: bits.ProxyNone}, false},
		{"the job's before the environment's", []string{"http_proxy=" + nobody}, nil, override(squid.URL), true},
		{"the desktop", nil, desktop(), nil, true},
		{"the desktop, past which the host goes", nil, desktop("org.gnome.system.proxy ignore-hosts ['*.ebb.test']"), nil, false},
		{"the desktop's, turned off", nil, desktop("org.gnome.system.proxy mode none"), nil, false},
		{"the desktop's script", nil, []string{"org.gnome.system.proxy autoconfig-url " + script.URL, "org.gnome.system.proxy mode auto"}, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env := []string{"http_proxy=", "HTTP_PROXY=", "https_proxy=", "HTTPS_PROXY=", "all_proxy=", "ALL_PROXY=", "no_proxy=", "NO_PROXY="} // those of whoever runs the test
			s := prepare(t, options{env: append(env, test.env...)})
			s.gnome(test.settings...)
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
