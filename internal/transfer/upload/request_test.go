package upload

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

func parse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAllowed(t *testing.T) {
	tests := []struct {
		from, to string
		want     bool
	}{
		{"http://a.example/x", "http://a.example/y", true},
		{"http://a.example/x", "https://b.example/y", true},
		{"https://a.example/x", "https://b.example/y", true},
		{"https://a.example/x", "http://a.example/x", false},
		{"http://a.example/x", "file:///etc/passwd", false},
		{"http://a.example/x", "ftp://a.example/x", false},
		{"http://a.example/x", "http:///x", false},
		{"http://a.example/x", "http://127.0.0.1:8080/", false},
		{"http://a.example/x", "http://[::1]/", false},
		{"http://a.example/x", "http://[::ffff:127.0.0.1]/", false},
		{"http://a.example/x", "http://0.0.0.0/", false},
		{"http://a.example/x", "http://169.254.169.254/latest", false},
		{"http://a.example/x", "http://LOCALHOST./", false},
		{"http://a.example/x", "http://x.localhost/", false},
		{"http://127.0.0.1:1/x", "http://127.0.0.1:2/y", true},
		{"http://127.0.0.1:1/x", "http://localhost:2/y", true},
		{"http://169.254.1.2/x", "http://169.254.1.2/y", true},
	}
	for _, tt := range tests {
		err := Allowed(parse(t, tt.from), parse(t, tt.to))
		if (err == nil) != tt.want {
			t.Errorf("from %s to %s: %v, want allowed %v", tt.from, tt.to, err, tt.want)
		}
		if err != nil && !errors.Is(err, &bits.Error{Code: bits.RedirectFailed}) {
			t.Errorf("from %s to %s: %v", tt.from, tt.to, err)
		}
	}
}

func TestTooLarge(t *testing.T) {
	for _, tt := range []struct {
		name, value, want string
	}{
		{"Upload-Limit", "max-age=9, max-size=10", "the file has 20 bytes, and the server takes 10 at most"},
		{"Tus-Max-Size", "10", "the file has 20 bytes, and the server takes 10 at most"},
		{"Upload-Limit", "max-size=30", "the file has 20 bytes, more than the server takes"}, // a proxy's limit, not this one
		{"Tus-Max-Size", "ten", "the file has 20 bytes, more than the server takes"},
		{"X", "", "the file has 20 bytes, more than the server takes"},
	} {
		if got := TooLarge(20, http.Header{tt.name: {tt.value}}); got != tt.want {
			t.Errorf("%s: %s: %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
}

func TestTarget(t *testing.T) {
	tests := []struct{ u, name, want string }{
		{"http://a.example/d/f", "x", "http://a.example/d/f"},
		{"http://a.example/d/", "x", "http://a.example/d/x"},
		{"http://a.example", "x", "http://a.example/x"},
		{"http://a.example/d/?k=v", "a b%?#/ä", "http://a.example/d/a%20b%25%3F%23%2F%C3%A4?k=v"},
		{"s3://bucket/dir/", "x", "s3://bucket/dir/x"},
	}
	for _, tt := range tests {
		if got, err := Target(tt.u, tt.name); err != nil || got != tt.want {
			t.Errorf("Target(%q, %q) = %q, %v, want %q", tt.u, tt.name, got, err, tt.want)
		}
	}
}

func FuzzLocation(f *testing.F) {
	for _, s := range []string{"/x", "", "//b.example/", "http://127.0.0.1/", "ftp://x", "%zz", "http://[::1", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, location string) {
		a := &Answer{Response: &http.Response{Header: http.Header{"Location": {location}}}, URL: parse(t, "https://a.example/d/f")}
		if to, err := a.Location(); err == nil && (to.Scheme != "https" || to.Host == "") {
			t.Errorf("%q leads to %s", location, to)
		}
	})
}

func FuzzSaid(f *testing.F) {
	f.Add("text/plain", "no\nroom")
	f.Add("application/problem+json", `{"title":"x"}`)
	f.Fuzz(func(t *testing.T, kind, body string) {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", kind)
		a := &Answer{Response: &http.Response{Header: w.Header()}, Body: []byte(body)}
		for _, r := range a.said() {
			if r < ' ' || r == 0x7f {
				t.Errorf("%q keeps a control character", body)
			}
		}
		if n := len([]rune(a.said())); n > 121 {
			t.Errorf("%d runes", n)
		}
	})
}
