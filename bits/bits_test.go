package bits

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestIDRoundTrip(t *testing.T) {
	id := NewID()
	if v := id[6] >> 4; v != 4 {
		t.Errorf("version %d, want 4", v)
	}
	for _, s := range []string{id.String(), "{" + strings.ToUpper(id.String()) + "}"} {
		got, err := ParseID(s)
		if err != nil || got != id {
			t.Errorf("ParseID(%s) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "x", "6af46e48-41d3-453f-b7af-a694bbc823f", "6af46e48x41d3-453f-b7af-a694bbc823f7", "6af46e48-41d3-453f-b7af-a694bbc823fg", "{6af46e48-41d3-453f-b7af-a694bbc823f7", "6af46e48-41d3-453f-b7af-a694bbc823f7}"} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) succeeds", s)
		}
	}
}

func TestNamesRoundTrip(t *testing.T) {
	for s := range State(States) {
		var back State
		if err := back.UnmarshalText([]byte(strings.ToLower(s.String()))); err != nil || back != s {
			t.Errorf("state %s comes back as %s, %v", s, back, err)
		}
	}
	for p := range Priority(Priorities) {
		var back Priority
		if err := back.UnmarshalText([]byte(p.String())); err != nil || back != p {
			t.Errorf("priority %s comes back as %s, %v", p, back, err)
		}
	}
	var typ Type
	if err := typ.UnmarshalText([]byte("upload-reply")); err != nil || typ != UploadReply {
		t.Errorf("upload-reply is %s, %v", typ, err)
	}
	if err := typ.UnmarshalText([]byte("sideload")); err == nil || !strings.Contains(err.Error(), "UPLOAD_REPLY") {
		t.Errorf("the error %v does not name the choices", err)
	}
}

func TestUnknownSizeIsNull(t *testing.T) {
	b, err := json.Marshal(Progress{BytesTotal: Unknown, BytesTransferred: 5})
	if err != nil || !strings.Contains(string(b), `"bytes_total":null`) {
		t.Errorf("%s, %v", b, err)
	}
	var p Progress
	if err := json.Unmarshal(b, &p); err != nil || p.BytesTotal != Unknown {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"-1", `"5"`, "1.5"} {
		var s Size
		if json.Unmarshal([]byte(bad), &s) == nil {
			t.Errorf("the size %s is accepted as %d", bad, s)
		}
	}
}

func TestCodesHaveNamesSentencesAndValues(t *testing.T) {
	seen := map[string]Code{}
	for c, i := range codes {
		if i.name == "" || i.message == "" {
			t.Errorf("%08X lacks a name or a sentence", uint32(c))
		}
		if other, ok := seen[i.name]; ok {
			t.Errorf("%s is both %s and %s", i.name, c.Hex(), other.Hex())
		}
		seen[i.name] = c
		if c.Failed() != (strings.HasPrefix(i.name, "BG_E_") || strings.HasPrefix(i.name, "E_") || strings.HasPrefix(i.name, "ERROR_") || strings.HasPrefix(i.name, "CRYPT_E_") || strings.HasPrefix(i.name, "RPC_X_")) {
			t.Errorf("%s has the severity of %s", i.name, c.Hex())
		}
		for _, s := range []string{i.name, c.Hex()} {
			if got, ok := ParseCode(s); !ok || got != c {
				t.Errorf("ParseCode(%s) = %v", s, got)
			}
		}
	}
	for _, c := range []struct {
		code Code
		want string
	}{
		{InvalidState, "BG_E_INVALID_STATE 0x80200002"},
		{HTTPStatus(404), "BG_E_HTTP_ERROR_404 0x80190194"},
		{DiskFull, "ERROR_DISK_FULL 0x80070070"},
		{NameNotResolved, "ERROR_WINHTTP_NAME_NOT_RESOLVED 0x80072EE7"},
		{0x8FFFFFFF, "0x8FFFFFFF 0x8FFFFFFF"},
	} {
		if c.code.String() != c.want {
			t.Errorf("got %s, want %s", c.code, c.want)
		}
	}
}

// TestHTTPClasses is the table of client.md 5.2 with our decisions for 308, 423, 425 and 429.
func TestHTTPClasses(t *testing.T) {
	fatal := []int{300, 301, 302, 303, 304, 305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 410, 411, 412, 413, 414, 415, 416, 417, 449, 501, 505}
	transient := []int{100, 101, 201, 204, 306, 408, 409, 423, 425, 429, 500, 502, 503, 504, 507, 599}
	for _, s := range fatal {
		if HTTPStatus(s).Class() != Fatal {
			t.Errorf("%d is not fatal", s)
		}
	}
	for _, s := range transient {
		if HTTPStatus(s).Class() != Transient {
			t.Errorf("%d is not transient", s)
		}
	}
}

func TestErrorKeepsItsCauseAndItsCode(t *testing.T) {
	cause := errors.New("the cable is cut")
	err := fmt.Errorf("fetch: %w", &Error{Code: ConnectionError, File: "http://a/b", Cause: cause})
	if !errors.Is(err, cause) || !errors.Is(err, &Error{Code: ConnectionError}) || errors.Is(err, &Error{Code: DiskFull}) {
		t.Errorf("%v does not match what it should", err)
	}
	info := (&Error{Code: HTTPStatus(404), Context: ContextRemoteFile, File: "http://a/b"}).Info()
	back := info.Err()
	if back.Code != HTTPStatus(404) || back.Context != ContextRemoteFile || info.Hint == "" || back.Sentence() != "the server answered 404 Not Found" {
		t.Errorf("%+v comes back as %+v", info, back)
	}
}

func TestSettingsCheck(t *testing.T) {
	text := func(s string) *string { return &s }
	number := func(n int64) *int64 { return &n }
	whole := func(n int) *int { return &n }
	for _, c := range []struct {
		name   string
		s      Settings
		create bool
		want   Code
	}{
		{"nothing", Settings{}, false, OK},
		{"longest name", Settings{Name: text(strings.Repeat("é", 256))}, true, OK},
		{"too long name at creation", Settings{Name: text(strings.Repeat("a", 257))}, true, InvalidArg},
		{"too long name later", Settings{Name: text(strings.Repeat("a", 257))}, false, StringTooLong},
		{"empty name", Settings{Name: text("")}, false, InvalidArg},
		{"name with an escape sequence", Settings{Name: text("a\x1b[2J")}, false, InvalidArg},
		{"name with a C1 control character", Settings{Name: text("a\u009b2J")}, false, InvalidArg},
		{"name that turns the text around", Settings{Name: text("a\u202egpj.exe")}, false, InvalidArg},
		{"description with an isolate", Settings{Description: text("a\u2066b")}, false, InvalidArg},
		{"description with a mark", Settings{Description: text("a\u200fb")}, false, InvalidArg},
		{"description of two lines", Settings{Description: text("a\n\tb")}, false, OK},
		{"name from right to left", Settings{Name: text("שלום")}, false, OK},
		{"name that is not UTF-8", Settings{Name: text("a\xff")}, false, InvalidArg},
		{"longest description", Settings{Description: text(strings.Repeat("a", 1024))}, false, OK},
		{"too long description", Settings{Description: text(strings.Repeat("a", 1025))}, false, StringTooLong},
		{"no progress timeout 0", Settings{NoProgressTimeout: number(0)}, false, OK},
		{"negative timeout", Settings{NoProgressTimeout: number(-1)}, false, InvalidArg},
		{"huge delay", Settings{MinimumRetryDelay: number(1 << 32)}, false, InvalidArg},
		{"no connections", Settings{Connections: whole(0)}, false, InvalidArg},
		{"most connections", Settings{Connections: whole(MaxConnections)}, false, OK},
		{"header", Settings{Headers: &[]string{"X-Token: a b"}}, false, OK},
		{"no protocol", Settings{Protocol: new(Protocol)}, false, InvalidArg},
		{"unknown protocol", Settings{Protocol: new(Protocol("ftp"))}, false, InvalidArg},
		{"reply file", Settings{ReplyFile: text("/r")}, false, OK},
		{"reply file of the service's choice", Settings{ReplyFile: text("")}, false, OK},
		{"reply file at no absolute path", Settings{ReplyFile: text("r")}, false, InvalidArg},
		{"reply file that is a directory", Settings{ReplyFile: text("/tmp/")}, false, InvalidArg},
		{"part of an upload", Settings{Headers: &[]string{"content-range: bytes 0-0/1"}}, false, InvalidArg},
		{"header without colon", Settings{Headers: &[]string{"X-Token"}}, false, InvalidArg},
		{"header with a line break", Settings{Headers: &[]string{"X: a\r\nY: b"}}, false, InvalidArg},
		{"header with a NUL", Settings{Headers: &[]string{"X: a\x00"}}, false, InvalidArg},
		{"header with an escape character", Settings{Headers: &[]string{"X: \x1b[2J"}}, false, InvalidArg},
		{"header with DEL", Settings{Headers: &[]string{"X: a\x7f"}}, false, InvalidArg},
		{"header with a tab", Settings{Headers: &[]string{"X: a\tb"}}, false, OK},
		{"header in Latin-1", Settings{Headers: &[]string{"X: caf\xe9"}}, false, OK},
		{"header without a value", Settings{Headers: &[]string{"X:"}}, false, OK},
		{"header with a space in the name", Settings{Headers: &[]string{"X : a"}}, false, InvalidArg},
		{"header with a name of Unicode", Settings{Headers: &[]string{"Größe: a"}}, false, InvalidArg},
		{"condition of the transfer", Settings{Headers: &[]string{"if-none-match: *"}}, false, InvalidArg},
		{"another condition", Settings{Headers: &[]string{"If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"}}, false, InvalidArg},
		{"Expect", Settings{Headers: &[]string{"Expect: 100-continue"}}, false, InvalidArg},
		{"Proxy-Authorization", Settings{Headers: &[]string{"proxy-authorization: Basic eDp5"}}, false, InvalidArg},
		{"Proxy-Connection", Settings{Headers: &[]string{"Proxy-Connection: close"}}, false, InvalidArg},
		{"header of the transfer", Settings{Headers: &[]string{"range: bytes=0-"}}, false, InvalidArg},
		{"too many header bytes", Settings{Headers: &[]string{"X: " + strings.Repeat("a", MaxHeaderBytes)}}, false, StringTooLong},
	} {
		got := OK
		if e := c.s.Check(c.create); e != nil {
			got = e.Code
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	s := Settings{MinimumRetryDelay: number(1)}
	if e := s.Check(false); e != nil || *s.MinimumRetryDelay != 5 {
		t.Errorf("a retry delay of 1 becomes %d, %v; want 5", *s.MinimumRetryDelay, e)
	}
}

func TestEveryPropertyCanBeSet(t *testing.T) {
	values := map[string]string{"name": "n", "description": "d", "priority": "low", "minimum_retry_delay": "90s", "no_progress_timeout": "2h", "connections": "4", "auto_complete": "true", "transfer_policy": "not-roaming", "maximum_download_time": "1h", "protocol": "TUS", "reply_file": "/tmp//r", "header": "A: b",
		"notify_flags": "transferred|file", "minimum_notification_interval": "100", "notify_command": "/bin/echo 'a b' c\\ d", "notify_url": "https://h/x#y", "notify_desktop": "true", "proxy": "override http://p:1,q *.r,<local>",
		"security_flags": "0x802", "tls_min_version": "1.3", "tls_pins": "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "http_method": "POST", "dynamic_content": "true", "high_performance": "true", "on_demand": "true",
		"maximum_download_size": "5", "acl_flags": "owner,dacl", "peer_caching_flags": "4", "use_stored_credentials": "proxy", "headers_write_only": "true", "run_when": "LOGGED-ON", "only_if_newer": "true", "verify_certificates": "true"}
	var s Settings
	for _, p := range PropertyTable {
		if err := s.Set(p.Name, values[p.Name]); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	if e := s.Check(false); e != nil {
		t.Fatal(e)
	}
	if *s.Priority != Low || *s.MinimumRetryDelay != 90 || *s.NoProgressTimeout != 7200 || *s.Connections != 4 || !*s.AutoComplete || *s.TransferPolicy != TransferNotRoaming || *s.MaximumDownloadTime != 3600 || *s.Protocol != ProtocolTus || *s.ReplyFile != "/tmp/r" || (*s.Headers)[0] != "A: b" {
		t.Errorf("got %+v", s)
	}
	if want := []string{"/bin/echo", "a b", "c d"}; !slices.Equal(*s.NotifyCommand, want) || *s.NotifyFlags != NotifyTransferred|NotifyFile || *s.NotifyURL != "https://h/x" ||
		*s.SecurityFlags != SecurityIgnoreName|SecurityRedirectInsecure || *s.ACLFlags != ACLOwner|ACLDACL || *s.PeerCachingFlags != PeerDisableBranch || *s.UseStoredCredentials != TargetProxy || *s.RunWhen != RunLoggedOn {
		t.Errorf("got %+v", s.Options)
	}
	if want := (ProxySettings{ProxyOverride, []string{"http://p:1", "q"}, []string{"*.r", "<local>"}}); !reflect.DeepEqual(*s.Proxy, want) {
		t.Errorf("proxy is %+v, want %+v", *s.Proxy, want)
	}
	if err := s.Set("colour", "red"); err == nil || !strings.Contains(err.Error(), "priority") {
		t.Errorf("the error %v does not name the properties", err)
	}
}

func TestSetRefusesWithoutAChange(t *testing.T) {
	for _, c := range []struct{ name, value string }{
		{"priority", "urgent"},
		{"minimum_retry_delay", "soon"},
		{"minimum_retry_delay", "1.5s"},
		{"no_progress_timeout", "-300ms"},
		{"no_progress_timeout", "99999999999999999999"},
		{"connections", "4.0"},
		{"auto_complete", "perhaps"},
		{"transfer_policy", "cheap"},
		{"maximum_download_time", "forever"},
		{"protocol", "gopher"},
		{"protocol", ""},
	} {
		var s Settings
		if err := s.Set(c.name, c.value); err == nil || s != (Settings{}) {
			t.Errorf("%s=%s: %v, and the settings are %+v", c.name, c.value, err, s)
		}
	}
}

// TestEveryErrorHasAHint also fixes the form of hints.
func TestEveryErrorHasAHint(t *testing.T) {
	all := []Code{0x8FFFFFFF}
	for c := range codes {
		all = append(all, c)
	}
	for status := range 1000 {
		all = append(all, HTTPStatus(status))
	}
	for _, c := range all {
		h := c.Hint()
		if c.Failed() && h == "" {
			t.Errorf("%s has no hint", c)
		}
		if strings.HasSuffix(h, ".") || h != "" && strings.ToLower(h[:1]) != h[:1] || len(h) > 80 {
			t.Errorf("%s: the form of the hint %q", c, h)
		}
	}
}

func TestFileSpecCheck(t *testing.T) {
	sum := "SHA256:" + strings.Repeat("AB", 32)
	for _, c := range []struct {
		name string
		f    FileSpec
		want Code
	}{
		{"plain", FileSpec{Remote: "http://host/a", Local: "/d/a", Checksum: ""}, OK},
		{"checksum in capitals", FileSpec{Remote: "https://host/a?x=1#frag", Local: "/d/../e/a", Checksum: sum}, OK},
		{"ftp", FileSpec{Remote: "ftp://host/a", Local: "/d/a", Checksum: ""}, InvalidArg},
		{"no host", FileSpec{Remote: "http:///a", Local: "/d/a", Checksum: ""}, InvalidArg},
		{"not a URL", FileSpec{Remote: "http://ho st/a", Local: "/d/a", Checksum: ""}, InvalidArg},
		{"control character in the URL", FileSpec{Remote: "http://host/\n", Local: "/d/a", Checksum: ""}, InvalidArg},
		{"too long URL", FileSpec{Remote: "http://host/" + strings.Repeat("a", MaxURLLen), Local: "/d/a", Checksum: ""}, InvalidArg},
		{"relative path", FileSpec{Remote: "http://host/a", Local: "d/a", Checksum: ""}, InvalidArg},
		{"directory", FileSpec{Remote: "http://host/a", Local: "/d/", Checksum: ""}, InvalidArg},
		{"root", FileSpec{Remote: "http://host/a", Local: "/..", Checksum: ""}, InvalidArg},
		{"NUL", FileSpec{Remote: "http://host/a", Local: "/d/a\x00b", Checksum: ""}, InvalidArg},
		{"too long name", FileSpec{Remote: "http://host/a", Local: "/" + strings.Repeat("a", 256), Checksum: ""}, InvalidArg},
		{"unknown digest", FileSpec{Remote: "http://host/a", Local: "/d/a", Checksum: "md5:0123"}, InvalidArg},
		{"short digest", FileSpec{Remote: "http://host/a", Local: "/d/a", Checksum: "sha256:0123"}, InvalidArg},
		{"digest that is not hexadecimal", FileSpec{Remote: "http://host/a", Local: "/d/a", Checksum: "sha256:" + strings.Repeat("g", 64)}, InvalidArg},
	} {
		got := OK
		if e := c.f.Check(Download); e != nil {
			got = e.Code
			if e.Context != ContextLocalFile && e.Context != ContextRemoteFile {
				t.Errorf("%s: context %s", c.name, e.Context)
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	f := FileSpec{Remote: "https://host/a?x=1#frag", Local: "/d/../e/a", Checksum: sum}
	for kind, want := range map[Type]bool{Download: false, Upload: true, UploadReply: false} {
		s3 := FileSpec{Remote: "s3://bucket/key", Local: "/d/a"}
		if e := s3.Check(kind); (e == nil) != want {
			t.Errorf("a bucket in a job of type %s: %v", kind, e)
		}
	}
	if e := f.Check(Download); e != nil || f.Remote != "https://host/a?x=1" || f.Local != "/e/a" || f.Checksum != strings.ToLower(sum) {
		t.Errorf("normalised to %+v, %v", f, e)
	}
}

func FuzzFileSpec(f *testing.F) {
	f.Add("http://host/a", "/d/a", "sha256:00")
	f.Fuzz(func(t *testing.T, remote, local, checksum string) {
		spec := FileSpec{Remote: remote, Local: local, Checksum: checksum}
		if spec.Check(Download) != nil {
			return
		}
		again := spec
		if e := again.Check(Download); e != nil || !reflect.DeepEqual(again, spec) {
			t.Errorf("%+v is not stable: %+v, %v", spec, again, e)
		}
	})
}

func FuzzParseChecksum(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("ab", 32))
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseChecksum(s)
		if err == nil && !strings.EqualFold(c, s) {
			t.Errorf("%q became %q", s, c)
		}
	})
}

// FuzzCheckHeaders holds checkHeaders against net/http: what it lets through can be sent.
func FuzzCheckHeaders(f *testing.F) {
	f.Add("X-Token: a b")
	f.Add("X: \x7f")
	f.Add("range: bytes=0-")
	f.Fuzz(func(t *testing.T, header string) {
		if checkHeaders([]string{header}) != nil {
			return
		}
		name, value, _ := strings.Cut(header, ":")
		h := http.Header{name: {strings.TrimSpace(value)}}
		var sent bytes.Buffer
		if err := h.Write(&sent); err != nil {
			t.Fatal(err)
		}
		back, err := textproto.NewReader(bufio.NewReader(io.MultiReader(&sent, strings.NewReader("\r\n")))).ReadMIMEHeader()
		if err != nil || len(back) != 1 || len(back[http.CanonicalHeaderKey(name)]) != 1 {
			t.Errorf("%q is sent as %q: %v", header, back, err)
		}
		for i := range len(value) {
			if b := value[i]; b < 0x20 && b != '\t' || b == 0x7f {
				t.Errorf("%q holds the control character %#x", header, b)
			}
		}
	})
}

func FuzzSettingsSet(f *testing.F) {
	for _, p := range PropertyTable {
		for _, v := range []string{"", p.Default, "90s", "10m", "-1", "1h1ns", "low", "true", "A: b"} {
			f.Add(p.Name, v)
		}
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		var s Settings
		if err := s.Set(name, value); err != nil {
			if s != (Settings{}) {
				t.Errorf("%s=%q is refused but leaves %+v", name, value, s)
			}
			return
		}
		if s == (Settings{}) {
			t.Errorf("%s=%q changes nothing", name, value)
		}
		if s.Check(false) != nil {
			return
		}
		// What is allowed comes back the same from JSON.
		doc, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Settings
		if err := json.Unmarshal(doc, &back); err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(value) && !reflect.DeepEqual(s, back) {
			t.Errorf("%s=%q: %s comes back as another", name, value, doc)
		}
		for _, d := range []*int64{s.MinimumRetryDelay, s.NoProgressTimeout} {
			if d == nil {
				continue
			}
			var again Settings
			if err := again.Set(name, strconv.FormatInt(*d, 10)+"s"); err != nil {
				t.Errorf("%s=%q becomes %d s, which is refused: %v", name, value, *d, err)
			}
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add("6af46e48-41d3-453f-b7af-a694bbc823f7")
	f.Add("{6AF46E48-41D3-453F-B7AF-A694BBC823F7}")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			return
		}
		if text := id.String(); !strings.EqualFold(text, s) && !strings.EqualFold("{"+text+"}", s) {
			t.Errorf("%q became %s", s, text)
		}
	})
}

func FuzzParseCode(f *testing.F) {
	for _, s := range []string{"BG_E_NOT_FOUND", "bg_e_http_error_404", "0x80190194", "0x", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := ParseCode(s)
		if !ok {
			return
		}
		for _, text := range []string{c.Name(), c.Hex()} {
			if again, ok := ParseCode(text); !ok || again != c {
				t.Errorf("%q is %s, but %s is %v, %t", s, c, text, again, ok)
			}
		}
	})
}
