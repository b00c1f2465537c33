package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain is the helper too: tests are a program that starts itself, as the service is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == HelperVerb {
		if err := Help(os.Args[2:], intruder(os.Stdin, os.Stdout), os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// uid is the owner of the jobs of most tests.
var uid = uint32(os.Getuid())

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func show(ways []*url.URL) string {
	var s []string
	for _, w := range ways {
		if w == nil {
			s = append(s, "direct")
			continue
		}
		s = append(s, w.String())
	}
	return strings.Join(s, " ")
}

func TestList(t *testing.T) {
	for _, c := range []struct{ list, bypass, url, want string }{
		{"p", "", "http://h/", "http://p:80"},
		{"p:3128", "", "https://h/", "http://p:3128"},
		{"http://p:3128 https://q", "", "http://h/", "http://p:3128 https://q:443"},
		{"p:1,q:2;r:3", "", "http://h/", "http://p:1 http://q:2 http://r:3"},
		{"http=p:1 https=q:2", "", "https://h/", "http://q:2"},
		{"http=p:1", "", "https://h/", "direct"},
		{"https=http://u:pw@p:1", "", "https://h/", "http://u:pw@p:1"},
		{"ftp=p:1 q:2", "", "http://h/", "http://q:2"},
		{"socks=p", "", "https://h/", "socks5://p:1080"},
		{"[::1]:8080", "", "http://h/", "http://[::1]:8080"},
		{"p", "h.example", "http://H.example./", "direct"},
		{"p", "h.example", "http://x.h.example/", "http://p:80"},
		{"p", "*.example", "http://a.b.example/", "direct"},
		{"p", "*.example", "http://example/", "http://p:80"},
		{"p", ".example", "http://a.example/", "direct"},
		{"p", "<local>", "http://intranet/", "direct"},
		{"p", "<local>", "http://in.tranet/", "http://p:80"},
		{"p", "<LOCAL>", "http://[::1]/", "http://p:80"},
		{"p", "10.0.0.0/8;192.168.1.*", "http://10.1.2.3/", "direct"},
		{"p", "10.0.0.0/8;192.168.1.*", "http://192.168.1.7/", "direct"},
		{"p", "10.0.0.0/8;192.168.1.*", "http://192.168.2.7/", "http://p:80"},
		{"p", "[fe80::1]:80 fc00::/7", "http://[fc00::2]/", "direct"},
		{"p", "h:8080", "http://h/", "http://p:80"},
		{"p", "h:8080", "http://h:8080/", "direct"},
		{"p", "h:443", "https://h/", "direct"},
		{"p", "https://h", "http://h/", "http://p:80"},
		{"p", "*", "http://h/", "direct"},
	} {
		l, err := ParseList([]string{c.list}, []string{c.bypass})
		if err != nil {
			t.Errorf("%q without %q: %v", c.list, c.bypass, err)
			continue
		}
		if got := show(l.For(mustURL(t, c.url))); got != c.want {
			t.Errorf("%q without %q for %s: %q, want %q", c.list, c.bypass, c.url, got, c.want)
		}
	}
	for _, bad := range []string{"", "ftp=p", "gopher://p", "p:0", "p:99999", "p:x", "http://", "nntp=p", "p/path", "p?q", "*.example", "http://a:b:c"} {
		if l, err := ParseList([]string{bad}, nil); err == nil {
			t.Errorf("%q was taken: %s", bad, show(l.For(mustURL(t, "http://h/"))))
		}
	}
	for _, bad := range []string{"a/b", "<x>", "[", "h:0", "a?b"} {
		if _, err := ParseList([]string{"p"}, []string{bad}); err == nil {
			t.Errorf("bypass %q was taken", bad)
		}
	}
	if _, err := ParseList([]string{"user:secret@p:x"}, nil); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
}

func FuzzList(f *testing.F) {
	f.Add("http=p:1 socks=[::1]", "<local>;*.example,10.0.0.0/8 h:80", "http://h/")
	f.Fuzz(func(t *testing.T, list, without, u string) {
		l, err := ParseList([]string{list}, []string{without})
		at, uerr := url.Parse(u)
		if err != nil || uerr != nil {
			return
		}
		for _, w := range l.For(at) {
			if w != nil && (w.Hostname() == "" || w.Port() == "") {
				t.Errorf("%q: %v", list, w)
			}
		}
	})
}

func TestShExpMatch(t *testing.T) {
	for _, c := range []struct {
		text, pattern string
		want          bool
	}{
		{"", "", true}, {"", "*", true}, {"", "?", false}, {"a", "", false}, {"abc", "abc", true}, {"abc", "ab", false}, {"ab", "abc", false},
		{"http://h/x/y.zip", "*/x/*.zip", true}, {"http://h/x/y.zip", "http://*/y.zip", true}, {"http://h/x/y.zi", "*.zip", false},
		{"abcabd", "*abd", true}, {"aXbXc", "a*b*c", true}, {"aXbX", "a*b*c", false}, {"ab", "a**b", true}, {"abc", "a?c", true}, {"ac", "a?c", false}, {"a/c", "a?c", true},
		{"ä", "?", true}, {"A", "a", false},
		{"http://[::1]/", "http://[::1]/*", true}, {"http://1/", "http://[::1]/*", false}, {"[", "[", true}, {"b", "[a-c]", false}, {"[a-c]", "[a-c]", true}, {"x[y", "*[*", true}, {`a\b`, `a\b`, true}, {"a*", `a\*`, false}, {"^a", "[^b]", false},
		{strings.Repeat("a", 5000), strings.Repeat("*a", 2000) + "b", false}, // in no time that grows with the number of *
	} {
		if got := shExpMatch(c.text, c.pattern); got != c.want {
			t.Errorf("%.40q with %.40q: %v", c.text, c.pattern, got)
		}
	}
}

func FuzzFound(f *testing.F) {
	f.Add("PROXY a:80; SOCKS b; DIRECT")
	f.Fuzz(func(t *testing.T, s string) {
		ways, err := parseFound(s)
		if err == nil && len(ways) == 0 {
			t.Errorf("%q: nothing", s)
		}
	})
}

func TestScripts(t *testing.T) {
	r := New()
	defer r.helpers.close()
	find := func(body, u string) string {
		t.Helper()
		at := mustURL(t, u)
		got, err := r.helpers.find(t.Context(), uid, "function FindProxyForURL(url, host) {"+body+"}", u, at.Hostname())
		if err != nil {
			return "error: " + err.Error()
		}
		ways, err := parseFound(got)
		if err != nil {
			return "error: " + err.Error()
		}
		return show(ways)
	}
	yes := func(cond string) string { return "return (" + cond + ") ? 'PROXY yes:1' : 'DIRECT'" }
	for _, c := range []struct{ body, url, want string }{
		{"return 'PROXY p:3128; SOCKS5 s; HTTPS q; DIRECT'", "http://h/", "http://p:3128 socks5://s:1080 https://q:443 direct"},
		{"return host == 'h' && url == 'http://h/x' ? 'PROXY p' : 'DIRECT'", "http://h/x", "http://p:80"},
		{"return null", "http://h/", "direct"},
		{"return 'GOPHER x'", "http://h/", "error: the proxy script answered \"GOPHER x\": it names no proxy that can be spoken to"},
		{"return 'PROXY a b; PROXY p:0; PROXY; PROXY good:3128; SOCKS4 old; DIRECT'", "http://h/", "http://good:3128 direct"},
		{"return 'PROXY p:0'", "http://h/", "error: the proxy script answered \"PROXY p:0\": bad port"},
		{"return undefinedFunction()", "http://h/", "error: ReferenceError"},
		{yes("isPlainHostName(host)"), "http://intranet/", "http://yes:1"},
		{yes("isPlainHostName(host)"), "http://a.b/", "direct"},
		{yes("dnsDomainIs(host, '.Example.com')"), "http://www.example.COM/", "http://yes:1"},
		{yes("localHostOrDomainIs(host, 'www.example.com')"), "http://www/", "http://yes:1"},
		{yes("localHostOrDomainIs(host, 'www.example.com')"), "http://www.other.com/", "direct"},
		{yes("dnsDomainLevels(host) == 2"), "http://a.b.c/", "http://yes:1"},
		{yes("shExpMatch(url, 'http://*/x/*.zip')"), "http://h/x/y/z.zip", "http://yes:1"},
		{yes("shExpMatch(host, '*.example.com')"), "http://example.com/", "direct"},
		{yes("isInNet(host, '10.0.0.0', '255.0.0.0')"), "http://10.2.3.4/", "http://yes:1"},
		{yes("isInNet(host, '10.0.0.0', '255.0.0.0')"), "http://11.2.3.4/", "direct"},
		{yes("isInNetEx(host, 'fc00::/7')"), "http://[fc00::1]/", "http://yes:1"},
		{yes("dnsResolve('localhost') == '127.0.0.1' && isResolvable('localhost') && !isResolvable('no.such.host.invalid')"), "http://h/", "http://yes:1"},
		{yes("convert_addr('1.2.3.4') == 16909060"), "http://h/", "http://yes:1"},
		{yes("/^[0-9.]+$/.test(myIpAddress())"), "http://h/", "http://yes:1"},
		{yes("weekdayRange('SUN', 'SAT') && timeRange(0, 24) && timeRange(0, 0, 0, 23, 59, 59, 'GMT') && dateRange(2020, 2999) && dateRange('JAN', 'DEC', 'GMT') && dateRange(1, 31)"), "http://h/", "http://yes:1"},
		{yes("timeRange(25) || weekdayRange('XYZ') || dateRange(1999) || dateRange('JAN', 1990, 'DEC', 1991)"), "http://h/", "direct"},
		{"alert('x'); return 'DIRECT'", "http://h/", "direct"},
	} {
		if got := find(c.body, c.url); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s for %s: %q, want %q", c.body, c.url, got, c.want)
		}
	}
}

// TestHostileScripts runs what the network of a stranger might bring.
func TestHostileScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the time that scripts are given")
	}
	r := New()
	defer r.helpers.close()
	const fn = "function FindProxyForURL(url, host) {"
	for name, body := range map[string]string{
		"endless":         fn + "for(;;); }",
		"endless at load": "for(;;); " + fn + "}",
		"recursion":       fn + "return FindProxyForURL(url, host) }",
		"memory":          fn + "var a=[]; for(;;) a.push(new Array(1e6).fill(1)) }",
		"a long string":   fn + "var s='x'; for(;;) s+=s }",
		"a long answer":   fn + "return 'PROXY '+new Array(1e5).join('x') }",
		"no function":     "var FindProxyForURL = 1",
		"no program":      fn,
		"a bad regexp":    fn + "return /(a+)+$/.test(new Array(40).join('a')+'b') ? 'x' : 'PROXY /' }",
	} {
		began := time.Now()
		got, err := r.helpers.find(t.Context(), uid, body, "http://h/", "h")
		if err == nil {
			_, err = parseFound(got)
		}
		if err == nil || time.Since(began) > answerTime+5*time.Second {
			t.Errorf("%s: %q, %v after %v", name, got, err, time.Since(began))
		}
	}
	if got, err := r.helpers.find(t.Context(), uid, fn+"return 'DIRECT' }", "http://h/", "h"); err != nil || got != "DIRECT" {
		t.Errorf("a good script afterwards: %q, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.helpers.find(ctx, uid, fn+"for(;;); } // another", "http://h/", "h"); err != context.DeadlineExceeded {
		t.Errorf("a context that ends: %v", err)
	}
}

// TestScriptsOfOwners: a script that does not end keeps nobody but its owner waiting, and the owner not for long.
func TestScriptsOfOwners(t *testing.T) {
	var hs helpers
	defer hs.close()
	const fn = "function FindProxyForURL(url, host) {"
	endless := make(chan error)
	for range 8 {
		go func() {
			_, err := hs.find(t.Context(), 1, fn+"for(;;); }", "http://h/", "h")
			endless <- err
		}()
	}
	hs.untilBusy(t, 1)
	// Who waits for his turn may give up.
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if _, err := hs.find(ctx, 1, fn+"return 'DIRECT' }", "http://h/", "h"); err != gone {
		t.Errorf("while another of the owner's scripts runs: %v", err)
	}
	others := make(chan struct{})
	go func() {
		defer close(others)
		for owner := uint32(2); owner < 5; owner++ {
			if got, err := hs.find(t.Context(), owner, fmt.Sprint(fn, "return 'PROXY p:", owner, "' }"), "http://h/", "h"); err != nil || got != fmt.Sprint("PROXY p:", owner) {
				t.Errorf("owner %d: %s, %v", owner, got, err)
			}
		}
	}()
	// The first endless question alone is asked for scriptTime.
	select {
	case <-others:
	case err := <-endless:
		t.Errorf("the script ended before the others were served: %v", err)
		<-others
		endless <- err
	}
	for range 8 {
		if err := <-endless; !errors.Is(err, errTooLong) {
			t.Error(err)
		}
	}
	h := hs.enter(1)
	defer hs.leave(1, h)
	if took := time.Duration(spentRate) * 2 * answerTime; time.Until(h.spent) > took {
		t.Errorf("the script was asked again and again: what it took is made up for in %v", time.Until(h.spent))
	}
	if got, err := hs.find(t.Context(), 1, fn+"return 'DIRECT' }", "http://h/", "h"); err != nil || got != "DIRECT" {
		t.Errorf("the owner's new script: %s, %v", got, err)
	}
	h.turn <- struct{}{}
	h.spent = time.Now().Add(spentRate*maxSpent + time.Minute)
	<-h.turn
	if _, err := hs.find(t.Context(), 1, fn+"return 'DIRECT' }", "http://h/", "h"); err != errSpent {
		t.Errorf("an owner who took all his time: %v", err)
	}
}

// untilBusy waits until an owner's script is asked.
func (hs *helpers) untilBusy(t *testing.T, owner uint32) {
	t.Helper()
	h := hs.enter(owner)
	defer hs.leave(owner, h)
	for end := time.Now().Add(time.Minute); len(h.turn) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody asks")
		}
	}
}

// TestHelpersAreBounded: many owners share few processes, of which those that rest make room.
func TestHelpersAreBounded(t *testing.T) {
	var hs helpers
	const fn = "function FindProxyForURL(url, host) {"
	var all sync.WaitGroup
	for owner := range uint32(2*mostHelpers + 3) {
		all.Go(func() {
			if got, err := hs.find(t.Context(), owner, fn+"return 'DIRECT' }", "http://h/", "h"); err != nil || got != "DIRECT" {
				t.Errorf("owner %d: %s, %v", owner, got, err)
			}
		})
	}
	all.Wait()
	hs.mu.Lock()
	running := 0
	for _, h := range hs.of {
		if h.p != nil {
			running++
		}
	}
	hs.mu.Unlock()
	if running == 0 || running > mostHelpers {
		t.Errorf("%d processes, want 1 to %d", running, mostHelpers)
	}
	// One that was not used for a while ends, and nothing is left that would wake the service.
	h := hs.enter(0)
	hs.leave(0, h)
	h.idle.Reset(0)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		hs.mu.Lock()
		there := hs.of[0] == h
		hs.mu.Unlock()
		if !there {
			break
		}
		if time.Now().After(end) {
			t.Fatal("an unused helper stays")
		}
	}
	hs.close()
	for range mostHelpers { // all processes are gone
		select {
		case hs.room <- struct{}{}:
		case <-time.After(time.Minute):
			t.Fatal("a process stays")
		}
	}
}

func TestScriptsAreFetched(t *testing.T) {
	var seen string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.URL.Path
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/proxy.pac", http.StatusFound)
		case "/proxy.pac":
			fmt.Fprint(w, "function FindProxyForURL(url, host) { return 'PROXY '+host+':'+url.length }")
		case "/huge":
			fmt.Fprint(w, "FindProxyForURL", strings.Repeat(" ", maxScript))
		case "/page":
			fmt.Fprint(w, "<html>")
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	r := New()
	defer r.helpers.close()
	got, err := r.run(t.Context(), uid, s.URL+"/moved", mustURL(t, "https://user:pw@h/secret?token=1#x"))
	if want := fmt.Sprintf("http://h:%d", len("https://h/")); err != nil || show(got) != want {
		t.Errorf("%s, %v; the script must not see what is secret: want %s", show(got), err, want)
	}
	for _, path := range []string{"/huge", "/page", "/none"} {
		if _, err := r.run(t.Context(), uid, s.URL+path, mustURL(t, "http://h/")); err == nil || seen != path {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, at := range []string{"file:///etc/passwd", "data:,FindProxyForURL", "http://127.0.0.1:1/"} {
		if _, err := r.run(t.Context(), uid, at, mustURL(t, "http://h/")); err == nil {
			t.Errorf("%s was taken", at)
		}
	}
}

// Users choose where their scripts are, so there is a bound on those that are remembered.
func TestScriptsAreBounded(t *testing.T) {
	r := New()
	now := time.Now()
	for i := range 3 * mostScripts {
		at := fmt.Sprintf("http://h/%d", i/2) // each twice
		r.keep(at, kept[string]{value: at, until: now.Add(time.Duration(i) * time.Second)})
	}
	if n := len(r.scripts); n != mostScripts {
		t.Errorf("%d scripts are remembered, want %d", n, mostScripts)
	}
	if _, ok := r.scripts[fmt.Sprintf("http://h/%d", 3*mostScripts/2-1)]; !ok {
		t.Error("the newest is not")
	}
	if _, ok := r.scripts["http://h/0"]; ok {
		t.Error("the oldest is")
	}
}

func TestDesktops(t *testing.T) {
	const kde = "[General]\nx=1\n[Proxy Settings][$i]\nignored=1\n[Proxy Settings]\n"
	for _, c := range []struct {
		parse           func(string) (desktop, error)
		in, url, script string
		want            string // ways; "auto", "none" or "error"
	}{
		{parseGNOME, "org.gnome.system.proxy mode 'none'\norg.gnome.system.proxy.http host 'p'\norg.gnome.system.proxy.http port 1\n", "", "", "none"},
		{parseGNOME, "org.gnome.system.proxy mode 'manual'\norg.gnome.system.proxy ignore-hosts ['localhost', '127.0.0.0/8', '::1']\norg.gnome.system.proxy.http host 'p'\norg.gnome.system.proxy.http port 3128\norg.gnome.system.proxy.https host 'q'\norg.gnome.system.proxy.https port 3129\n", "https://h/", "", "http://q:3129"},
		{parseGNOME, "org.gnome.system.proxy mode 'manual'\norg.gnome.system.proxy ignore-hosts ['localhost', '127.0.0.0/8', '::1']\norg.gnome.system.proxy.http host 'p'\norg.gnome.system.proxy.http port 3128\n", "http://127.3.2.1/", "", "direct"},
		{parseGNOME, "org.gnome.system.proxy mode 'manual'\norg.gnome.system.proxy ignore-hosts @as []\norg.gnome.system.proxy.socks host '::1'\norg.gnome.system.proxy.socks port 1080\n", "http://h/", "", "socks5://[::1]:1080"},
		{parseGNOME, "org.gnome.system.proxy mode 'manual'\n", "", "", "none"},
		{parseGNOME, "org.gnome.system.proxy mode 'auto'\norg.gnome.system.proxy autoconfig-url 'http://x/p.pac'\n", "", "http://x/p.pac", ""},
		{parseGNOME, "org.gnome.system.proxy mode 'auto'\norg.gnome.system.proxy autoconfig-url ''\n", "", "", "auto"},
		{parseGNOME, "", "", "", "none"},
		{parseKDE, kde + "ProxyType=0\nhttpProxy=http://p 3128\n", "", "", "none"},
		{parseKDE, kde + "ProxyType=1\nhttpProxy=http://p 3128\nhttpsProxy=http://q:3129/\nNoProxyFor=.example,localhost\n", "https://h/", "", "http://q:3129"},
		{parseKDE, kde + "ProxyType=1\nhttpProxy=http://p 3128\nNoProxyFor=.example,localhost\n", "http://a.example/", "", "direct"},
		{parseKDE, kde + "ProxyType=1\nhttpProxy[$e]=http://p 3128\nReversedException=true\n", "", "", "error"},
		{parseKDE, kde + "ProxyType=2\nProxy Config Script=http://x/p.pac\n", "", "http://x/p.pac", ""},
		{parseKDE, kde + "ProxyType=2\nProxy Config Script=/etc/passwd\n", "", "", "error"},
		{parseKDE, kde + "ProxyType=3\n", "", "", "auto"},
		{parseKDE, "", "", "", "none"},
	} {
		d, err := c.parse(c.in)
		got := ""
		switch {
		case err != nil:
			got = "error"
		case d.list != nil:
			got = show(d.list.For(mustURL(t, c.url)))
		case d.auto:
			got = "auto"
		case !d.set():
			got = "none"
		}
		if got != c.want || err == nil && d.script != c.script {
			t.Errorf("%q: %q %q (%v), want %q", c.in, got, d.script, err, c.want)
		}
	}
}

func FuzzDesktops(f *testing.F) {
	f.Add("org.gnome.system.proxy mode 'manual'\norg.gnome.system.proxy.http host 'p'\norg.gnome.system.proxy.http port 1")
	f.Add("[Proxy Settings]\nProxyType=1\nhttpProxy=http://p 3128")
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = parseGNOME(s)
		_, _ = parseKDE(s)
	})
}

func TestNetworksScriptByName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 1.1.1.1\nsearch corp.example.com Local evil/../x a.b c.d e.f\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "http://wpad.corp.example.com/wpad.dat http://wpad.a.b/wpad.dat http://wpad.c.d/wpad.dat"
	if got := strings.Join(byName(file), " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPreconfig(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"} {
		t.Setenv(name, "")
	}
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("PATH", home) // no gsettings
	ask := func() string {
		t.Helper()
		found, err := New().Preconfig(t.Context(), uid, mustURL(t, "http://h.example/"))
		if err != nil {
			return err.Error()
		}
		if found.ByNetwork {
			t.Error("the network named it")
		}
		return show(found.Ways)
	}
	if got := ask(); got != "direct" {
		t.Errorf("nothing set: %s", got)
	}
	if err := os.WriteFile(filepath.Join(home, "kioslaverc"), []byte("[Proxy Settings]\nProxyType=1\nhttpProxy=http://desk 8080\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got != "http://desk:8080" {
		t.Errorf("set on the desktop: %s", got)
	}
	t.Setenv("all_proxy", "socks5://env")
	if got := ask(); got != "socks5://env:1080" {
		t.Errorf("set in the environment: %s", got)
	}
	t.Setenv("HTTP_PROXY", "env:3128")
	if got := ask(); got != "http://env:3128" {
		t.Errorf("set in the environment: %s", got)
	}
	t.Setenv("NO_PROXY", ".example")
	if got := ask(); got != "direct" {
		t.Errorf("excepted in the environment: %s", got)
	}
}
