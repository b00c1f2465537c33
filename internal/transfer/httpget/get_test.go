package httpget

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/auth"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

func TestParseContentRange(t *testing.T) {
	for _, c := range []struct {
		in                 string
		first, last, total int64
		ok                 bool
	}{
		{"bytes 0-99/100", 0, 99, 100, true},
		{"Bytes 5-5/6", 5, 5, 6, true},
		{"bytes 5-9/*", 5, 9, -1, true},
		{"bytes */100", -1, -1, 100, true},
		{"bytes */0", -1, -1, 0, true},
		{"bytes */*", 0, 0, 0, false},
		{"", 0, 0, 0, false},
		{"bytes", 0, 0, 0, false},
		{"items 0-1/2", 0, 0, 0, false},
		{"bytes 0-99", 0, 0, 0, false},
		{"bytes 9-5/100", 0, 0, 0, false},
		{"bytes 0-100/100", 0, 0, 0, false},
		{"bytes -5-9/100", 0, 0, 0, false},
		{"bytes +5-9/100", 0, 0, 0, false},
		{"bytes 0x5-9/100", 0, 0, 0, false},
		{"bytes 5-/100", 0, 0, 0, false},
		{"bytes 0-1/99999999999999999999", 0, 0, 0, false},
		{"bytes 0-9223372036854775807/*", 0, 0, 0, false},
	} {
		first, last, total, err := parseContentRange(c.in)
		if (err == nil) != c.ok {
			t.Errorf("%q: error %v", c.in, err)
		}
		if c.ok && (first != c.first || last != c.last || total != c.total) {
			t.Errorf("%q: %d-%d/%d", c.in, first, last, total)
		}
	}
}

func FuzzParseContentRange(f *testing.F) {
	f.Add("bytes 0-99/100")
	f.Add("bytes */7")
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, err := parseContentRange(s)
		if err != nil {
			return
		}
		if first >= 0 && (last < first || total >= 0 && last >= total) || first < 0 && total < 0 {
			t.Errorf("%q: %d-%d/%d", s, first, last, total)
		}
	})
}

func FuzzValidatorOf(f *testing.F) {
	f.Add(`"abc"`, "Sun, 01 Mar 2026 12:01:00 GMT")
	f.Add(`W/"abc"`, "yesterday")
	f.Fuzz(func(t *testing.T, tag, modified string) {
		v := validatorOf(http.Header{"Etag": {tag}, "Last-Modified": {modified}})
		if strings.HasPrefix(v.ETag, "W/") || v.ETag != "" && v.ETag[0] != '"' {
			t.Errorf("%q is taken for a strong entity tag", v.ETag)
		}
		if v.ETag != "" && !v.Same(v) {
			t.Errorf("%+v is not the same as itself", v)
		}
	})
}

func TestValidators(t *testing.T) {
	const monday, tuesday = "Mon, 02 Mar 2026 12:00:00 GMT", "Tue, 03 Mar 2026 12:00:00 GMT"
	full := Validator{ETag: `"a"`, LastModified: monday, Size: 10}
	for _, c := range []struct {
		name         string
		a, b         Validator
		same, usable bool
	}{
		{"equal", full, full, true, true},
		{"other tag", full, Validator{ETag: `"b"`, LastModified: monday, Size: 10}, false, true},
		{"same tag, other date", full, Validator{ETag: `"a"`, LastModified: tuesday, Size: 10}, true, true},
		{"same tag, other size", full, Validator{ETag: `"a"`, LastModified: monday, Size: 11}, false, true},
		{"same tag, size unknown now", full, Validator{ETag: `"a"`, LastModified: monday, Size: -1}, true, true},
		{"tag gone", full, Validator{ETag: "", LastModified: monday, Size: 10}, false, true},
		{"all gone", full, Validator{ETag: "", LastModified: "", Size: 10}, false, true},
		{"date and size", Validator{ETag: "", LastModified: monday, Size: 10}, Validator{ETag: "", LastModified: monday, Size: 10}, true, true},
		{"date changed", Validator{ETag: "", LastModified: monday, Size: 10}, Validator{ETag: "", LastModified: tuesday, Size: 10}, false, true},
		{"date without size", Validator{ETag: "", LastModified: monday, Size: -1}, Validator{ETag: "", LastModified: monday, Size: -1}, true, false},
		{"nothing", Validator{ETag: "", LastModified: "", Size: 10}, Validator{ETag: "", LastModified: "", Size: 10}, false, false},
	} {
		if c.a.Same(c.b) != c.same || c.b.Same(c.a) != c.same {
			t.Errorf("%s: same is %v, want %v", c.name, c.a.Same(c.b), c.same)
		}
		if c.a.Usable() != c.usable {
			t.Errorf("%s: usable is %v, want %v", c.name, c.a.Usable(), c.usable)
		}
		if !c.same && c.a.difference(c.b) == "" {
			t.Errorf("%s: no words for the difference", c.name)
		}
	}
}

// TestAFreshFileHasNoUsableValidator holds what dates with whole seconds cannot tell apart.
func TestAFreshFileHasNoUsableValidator(t *testing.T) {
	const at = "Mon, 02 Mar 2026 12:00:00 GMT"
	for _, c := range []struct {
		name, etag, date string
		usable           bool
	}{
		{"settled date", "", "Mon, 02 Mar 2026 12:00:02 GMT", true},
		{"same second", "", at, false},
		{"a second later", "", "Mon, 02 Mar 2026 12:00:01 GMT", false},
		{"server without a clock", "", "", false},
		{"date in the future", "", "Mon, 02 Mar 2026 11:59:00 GMT", false},
		{"fresh, with a tag of its own", `"v7"`, at, true},
		{"fresh, with nginx's tag", `"69a57bc0-a"`, at, false},
		{"fresh, with Caddy's tag", `"tb9tc0a"`, at, false},
		{"settled, with nginx's tag", `"69a57bc0-a"`, "Mon, 02 Mar 2026 12:01:00 GMT", true},
	} {
		h := http.Header{"Last-Modified": {at}, "Etag": {c.etag}, "Date": {c.date}}
		v := validatorOf(h)
		v.Size = 10
		if v.Usable() != c.usable {
			t.Errorf("%s: usable is %v, want %v", c.name, v.Usable(), c.usable)
		}
	}
}

func TestCompressedBodies(t *testing.T) {
	for _, c := range []struct {
		url, encoding string
		ok            bool
	}{
		{"http://h/a.iso", "", true},
		{"http://h/a.iso", "identity", true},
		{"http://h/a.iso", "gzip", false},
		{"http://h/a.tar.GZ?x=.iso", "x-gzip", true},
		{"http://h/a.gz", "br", false},
		{"http://h/a.gz", "gzip, gzip", false},
	} {
		if err := checkEncoding(c.url, http.Header{"Content-Encoding": {c.encoding}}); (err == nil) != c.ok {
			t.Errorf("%s with %q: %v", c.url, c.encoding, err)
		}
	}
}

// TestCustomHeadersStayWithTheirHost follows a redirect inside a host and one to another.
func TestCustomHeadersStayWithTheirHost(t *testing.T) {
	seen := map[string]http.Header{}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen["other"] = r.Header
		_, _ = io.WriteString(w, "x")
	}))
	defer other.Close()
	elsewhere, err := url.Parse(other.URL)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere.Host = "localhost:" + elsewhere.Port()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen[r.URL.Path] = r.Header
		if r.URL.Path == "/first" {
			http.Redirect(w, r, "/second", http.StatusFound)
			return
		}
		http.Redirect(w, r, elsewhere.String(), http.StatusTemporaryRedirect)
	}))
	defer origin.Close()

	resp, err := New(httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler)))).Get(context.Background(), Request{URL: origin.URL + "/first", Header: http.Header{"X-Token": {"secret"}, "Authorization": {"Bearer secret"}}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, path := range []string{"/first", "/second"} {
		if seen[path].Get("X-Token") != "secret" || seen[path].Get("Authorization") == "" {
			t.Errorf("%s lacks the job's headers: %v", path, seen[path])
		}
	}
	if h := seen["other"]; h.Get("X-Token") != "" || h.Get("Authorization") != "" || h.Get("Range") != "bytes=0-" || h.Get("Referer") != "" {
		t.Errorf("the other host got %v", h)
	}
}

func TestTheContextsOwnErrorIsReturned(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer s.Close()
	why := errors.New("stalled")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	if _, err := New(httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler)))).Get(ctx, Request{URL: s.URL}); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestRedirectsAreReportedIfTheJobWantsIt(t *testing.T) {
	var got []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = append(got, r.URL.Path+" "+r.Header.Get("X-Token"))
	}))
	defer other.Close()
	origin := httptest.NewServer(http.RedirectHandler(other.URL+"/new", http.StatusFound))
	defer origin.Close()
	conns := httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler)))
	c := New(conns)
	header := http.Header{"X-Token": {"secret"}}
	for flags, want := range map[bits.SecurityFlags]string{0: "", bits.SecurityRedirectReport: other.URL + "/new"} {
		a, err := c.Open(httpconn.Settings{Security: flags})
		if err != nil {
			t.Fatal(err)
		}
		ctx := a.With(t.Context())
		resp, err := c.Get(ctx, Request{URL: origin.URL + "/old", Header: header})
		if err != nil || resp.Moved != want {
			t.Errorf("%s: moved to %q, %v; want %q", flags, resp.Moved, err, want)
		}
		resp.Body.Close()
		if want != "" { // the next time it goes straight there, and what is the owner's still does not
			resp, err := c.Get(httpconn.OnBehalf(ctx, origin.URL+"/old"), Request{URL: resp.Moved, Header: header})
			if err != nil || resp.Moved != "" {
				t.Errorf("straight to the new URL: %v", err)
			}
			resp.Body.Close()
		}
		a.Close()
	}
	for _, g := range got {
		if g != "/new " {
			t.Errorf("the other server got %q", got)
		}
	}
}

// TestPublic: what came for who asked, or is not for caches, is not for everybody; nor what that led to.
func TestPublic(t *testing.T) {
	file := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v := r.URL.Query().Get("cache"); v != "" {
			w.Header().Set("Cache-Control", v)
		}
		_, _ = io.WriteString(w, "the file")
	}))
	defer file.Close()
	asks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok && r.URL.Path != "/free" {
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path == "/file" {
			_, _ = io.WriteString(w, "the file")
			return
		}
		http.Redirect(w, r, file.URL+"/signed?key=1", http.StatusFound)
	}))
	defer asks.Close()
	conns := httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler)))
	c := New(conns)
	alice := auth.New([]auth.Credential{{Target: bits.TargetServer, Scheme: bits.AuthBasic, User: "alice", Password: "secret"}}, nil)
	basic := http.Header{"Authorization": {"Basic YWxpY2U6c2VjcmV0"}}
	for _, v := range []struct {
		url    string
		header http.Header
		who    *auth.Agent
		public bool
	}{
		{file.URL + "/file", nil, nil, true},
		{file.URL + "/file?cache=max-age%3D60,public", nil, nil, true},
		{file.URL + "/file?cache=max-age%3D60,+Private", nil, nil, false},
		{file.URL + "/file?cache=private%3D%22x%22", nil, nil, false},
		{file.URL + "/file?cache=no-store", nil, nil, false},
		{file.URL + "/file", nil, alice, true}, // who is not asked for
		{file.URL + "/file", basic, nil, false},
		{file.URL + "/file", http.Header{"Cookie": {"a=b"}}, nil, false},
		{asks.URL + "/file", nil, alice, false},
		{asks.URL + "/file", basic, nil, false},
		{asks.URL + "/away", nil, alice, false},
		{asks.URL + "/away", basic, nil, false},
		{asks.URL + "/free", nil, nil, true},
	} {
		access, err := conns.Open(httpconn.Settings{Identity: v.who})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Get(access.With(t.Context()), Request{URL: v.url, Header: v.header, Validator: Validator{Size: -1}, Class: governor.Foreground})
		if err != nil {
			t.Errorf("%s: %v", v.url, err)
			continue
		}
		resp.Body.Close()
		if resp.Public != v.public {
			t.Errorf("%s with %v and credentials %v: public %v, want %v", v.url, v.header, v.who != nil, resp.Public, v.public)
		}
		access.Close()
	}
}
