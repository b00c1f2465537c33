package front

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

func TestTarget(t *testing.T) {
	p := &session.Prefix{Path: "/up/"}
	for _, c := range []struct{ path, name, want string }{ // an empty want is ErrTarget
		{"/up/file", "", "file"},
		{"/up/file", "other", "file"},
		{"/up/dir/file", "", "dir/file"},
		{"/up/", "file", "file"},
		{"/up", "file", "file"},
		{"/up/dir/", "file", "dir/file"},
		{"/up/", "", ""},
		{"/up/dir/", "", ""},
		{"/up/", "dir/file", ""},
		{"/up/", `dir\file`, ""},
		{"/up/", "..", ""},
		{"/up/../file", "", ""},
		{"/up//file", "", ""},
		{"/up/dir/..", "", ""},
		{"/up/dir/../", "file", ""},
		{"/up/.ebb-uploads", "", ""},
		{"/up/.ebb-uploads/", "file", ""},
		{"/up/dir/.EBB-uploads/file", "", ""},
		{"/other/file", "", ""},
		{"/upper/file", "", ""},
		{"/up/a\x00b", "", ""},
	} {
		got, err := Target(p, c.path, c.name)
		if c.want == "" && !errors.Is(err, session.ErrTarget) || c.want != "" && (err != nil || got != c.want) {
			t.Errorf("Target(%q, %q) = %q, %v; want %q", c.path, c.name, got, err, c.want)
		}
	}
}

func TestSessionPath(t *testing.T) {
	p := &session.Prefix{Path: "/up/"}
	if id, ok := SessionID(p, SessionPath(p, "abc")); id != "abc" || !ok {
		t.Errorf("got %q, %v", id, ok)
	}
	for _, path := range []string{"/up/.ebb-uploads", "/up/.ebb-uploads/", "/up/.ebb-uploads/a/b", "/up/abc", "/.ebb-uploads/abc"} {
		if id, ok := SessionID(p, path); ok {
			t.Errorf("%s names the session %q", path, id)
		}
	}
}

func TestLocation(t *testing.T) {
	for public, want := range map[string]string{
		"":                       "/up/a%20b%2525",
		"https://example.org":    "https://example.org/up/a%20b%2525",
		"https://example.org:8/": "https://example.org:8/up/a%20b%2525",
	} {
		if got := Location(&session.Prefix{PublicURL: public}, "/up/a b%25"); got != want {
			t.Errorf("with %q: got %s, want %s", public, got, want)
		}
	}
}

func TestLimit(t *testing.T) {
	for want, p := range map[string]*session.Prefix{
		"min-size=0":             {MaxSize: -1},
		"max-size=5":             {MaxSize: 5},
		"max-age=60":             {MaxSize: -1, SessionTimeout: time.Hour},
		"max-size=0, max-age=60": {MaxSize: 0, SessionTimeout: time.Hour},
	} {
		if got := Limit(p, time.Minute); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestCORS(t *testing.T) {
	const app, other = "https://app.example.org", "https://other.example.org"
	for _, c := range []struct {
		name                string
		origins             []string
		method, origin, ask string // ask is Access-Control-Request-Method
		answered            bool
		allow, credentials  string
	}{
		{"off", nil, "OPTIONS", app, "POST", false, "", ""},
		{"listed, asked", []string{app}, "OPTIONS", app, "POST", true, app, "true"},
		{"listed, done", []string{app}, "POST", app, "", false, app, "true"},
		{"listed, discovery", []string{app}, "OPTIONS", app, "", false, app, "true"},
		{"another", []string{app}, "OPTIONS", other, "POST", false, "", ""},
		{"any", []string{"*"}, "OPTIONS", other, "POST", true, "*", ""},
		{"any, and one by name", []string{"*", app}, "POST", app, "", false, app, "true"},
		{"a star is no origin", []string{app}, "POST", "*", "", false, "", ""},
		{"an origin without a name", []string{app}, "POST", "null", "", false, "", ""},
		{"not a browser", []string{"*"}, "POST", "", "", false, "", ""},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(c.method, "/up/", nil)
		for name, value := range map[string]string{"Origin": c.origin, "Access-Control-Request-Method": c.ask} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		got := CORS(&session.Prefix{Origins: c.origins}, w, r)
		h := w.Result().Header
		if got != c.answered || h.Get("Access-Control-Allow-Origin") != c.allow || h.Get("Access-Control-Allow-Credentials") != c.credentials {
			t.Errorf("%s: got %v, %v", c.name, got, h)
		}
		if c.answered && (w.Code != http.StatusNoContent || h.Get("Access-Control-Allow-Headers") != corsHeaders) {
			t.Errorf("%s: got %d, %v", c.name, w.Code, h)
		}
		if len(c.origins) > 0 && h.Get("Vary") != "Origin" {
			t.Errorf("%s: caches are not told", c.name)
		}
	}
}
