package policy

import "testing"

func TestPrograms(t *testing.T) {
	for _, c := range []struct {
		list, program string
		want          bool
	}{
		{"any", "/bin/x", true},
		{"any", "/tmp/../bin/x", true},
		{"none", "/bin/x", false},
		{"/bin/x", "/bin/x", true},
		{"/bin/x", "/bin/xy", false},
		{"/bin/y,  /opt/hooks/*", "/opt/hooks/a", true},
		{"/opt/hooks/*", "/opt/hooks/a/b", false},
		{"/opt/hooks/*", "/opt/hooks/../../bin/sh", false},
		{"/opt/hooks/*", "/opt/hooks/", false},
		{"/opt/hooks/*", "/opt/hooks", false},
		{"/opt/hooks/*", "/opt//hooks/a", false},
		{"/*", "/x", true},
		{"/*", "/", false},
		{"/*", "/x/y", false},
		{"/bin/x", "x", false},
	} {
		var p Programs
		if err := p.UnmarshalText([]byte(c.list)); err != nil {
			t.Errorf("%s: %v", c.list, err)
		}
		if got := p.Allow(c.program); got != c.want {
			t.Errorf("%s allows %s: %v", c.list, c.program, got)
		}
	}
	for _, bad := range []string{"", "x", "/bin/x,,/bin/y", "/bin/../x", "/b*/x", "/bin/**", "any, /x", "/bin/"} {
		if err := new(Programs).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestHosts(t *testing.T) {
	for _, c := range []struct {
		list, url string
		want      bool
	}{
		{"any", "http://x/", true},
		{"none", "http://x/", false},
		{"hooks.example.com", "https://Hooks.example.com:8443/a?b", true},
		{"hooks.example.com", "https://hooks.example.com./", true},
		{"hooks.example.com", "https://hooks.example.com.evil.org/", false},
		{"hooks.example.com", "https://hooks.example.com@evil.org/", false},
		{"*.example.com", "https://a.b.example.com/", true},
		{"*.example.com", "https://example.com/", false},
		{"*.example.com", "https://badexample.com/", false},
		{"::1, 127.0.0.1", "http://[::1]:80/", true},
	} {
		var h Hosts
		if err := h.UnmarshalText([]byte(c.list)); err != nil {
			t.Errorf("%s: %v", c.list, err)
		}
		if got := h.Allow(c.url); got != c.want {
			t.Errorf("%s allows %s: %v", c.list, c.url, got)
		}
	}
	for _, bad := range []string{"", "https://x", "a b", "*", "*.", "a,*b*"} {
		if err := new(Hosts).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
