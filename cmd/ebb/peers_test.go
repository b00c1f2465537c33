//go:build unix

package main

import (
	"strings"
	"testing"
)

// What `ebb peers enable` is told stands in the configuration.
func TestPeersEnable(t *testing.T) {
	_, _, name := withPolicy(t, "# ours\n")
	enable := func(args ...string) []string { return append([]string{"peers", "enable", "--file", name}, args...) }
	for _, c := range []struct {
		args []string
		want string // lines, in any order
	}{
		{nil, `mode = "distributed"`},
		{[]string{"--serve-on-battery", "--version1", "--digests", "--plain-http", "--port", "80", "--interface", "eth0,wlan0"},
			"mode = \"distributed\"\nserve_on_battery = true\nversion1_only = true\ndigest_mode = true\nplain_http = true\nport = 80\ninterfaces = \"eth0, wlan0\""},
		{[]string{"--serve-on-battery=false"}, "serve_on_battery = false\nversion1_only = true"},
		{[]string{"--hosted-cache", "cache.example.com", "--hosted-cache", "192.0.2.7:2178"}, "mode = \"hosted\"\nhosted_caches = \"cache.example.com, 192.0.2.7:2178\""},
		{[]string{"local"}, `mode = "local"`},
	} {
		ebb(t, "/nowhere", enable(c.args...)...).want(t, 0, "changed "+name, "")
		text := read(t, name)
		for line := range strings.SplitSeq("# ours\n"+c.want, "\n") {
			if !strings.Contains(text, line+"\n") {
				t.Errorf("%v: %q is not in\n%s", c.args, line, text)
			}
		}
	}
	before := read(t, name)
	ebb(t, "/nowhere", enable("everywhere")...).want(t, exitUsage, "", "everywhere")
	ebb(t, "/nowhere", enable("--port", "0")...).want(t, exitUsage, "", "out of range")
	ebb(t, "/nowhere", enable("--hosted-cache", "http://cache")...).want(t, exitUsage, "", "is not the address of a cache")
	if read(t, name) != before {
		t.Error("an error changed the file")
	}
	ebb(t, "/nowhere", "peers", "disable", "--file", name).want(t, 0, "changed "+name, "")
	if text := read(t, name); !strings.Contains(text, "mode = \"off\"\n") {
		t.Errorf("%s", text)
	}
}
