package bits

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestRedactURL(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"http://host/a", "http://host/a"},
		{"http://user:secret@host/a?b=c", "http://user:xxxxx@host/a?b=c"},
		{"https://user:@host/", "https://user:xxxxx@host/"},
		{"https://:secret@host/", "https://:xxxxx@host/"},
		{"http://user:se%63ret@host/a%2Fb", "http://user:xxxxx@host/a%2Fb"},
		{"http://user@host/a", "http://user@host/a"},
		{"http://host/a@b:c", "http://host/a@b:c"},
		{"http://host:80?mail=a:b@c", "http://host:80?mail=a:b@c"},
		{"//user:secret@host/a", "//user:xxxxx@host/a"},
		{"ftp://user:secret@host/a", "ftp://user:xxxxx@host/a"},
		{"/home/me/a:b@c", "/home/me/a:b@c"},
		{"/home/http://user:secret@host", "/home/http://user:secret@host"},
		{"relative/a:b@c", "relative/a:b@c"},
		// What does not parse.
		{"http://user:sec ret@host/a", "http://host/a"},
		{"http://user:secret@host/%zz", "http://host/%zz"},
		{"http://user:secret@host:port/", "http://host:port/"},
		{"http://user:sec@ret@ho st/", "http://ho st/"},
		{"http://user:secret\n@host/", "http://host/"},
		{"http://user:sec/ret@host/", "http://host/"},
		{"http://user:sec?ret@host/", "http://host/"},
		{"http://ho st/a@b", "http://ho st/a@b"},
		{"user:secret@host/a", "host/a"},
		{"http:user:secret@host/a", "host/a"},
		{"us er:secret@host", "host"},
		{"user@host", "user@host"},
		// Presigned URLs.
		{"https://b.example/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F1&X-Amz-Security-Token=a/b+c==&X-Amz-Expires=9&X-Amz-Signature=0aF",
			"https://b.example/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=xxxxx&X-Amz-Security-Token=xxxxx&X-Amz-Expires=9&X-Amz-Signature=xxxxx"},
		{"https://a.example/c/b?sv=1&sig=a%2Bb%3D&se=2", "https://a.example/c/b?sv=1&sig=xxxxx&se=2"},
		{"https://h/k?AWSAccessKeyId=a&Signature=b", "https://h/k?AWSAccessKeyId=a&Signature=xxxxx"},
		{"http://user:secret@host/a?TOKEN=b c&access_token=d#token=e", "http://user:xxxxx@host/a?TOKEN=xxxxx&access_token=xxxxx#token=xxxxx"},
		{"http://host/%zz?token=a", "http://host/%zz?token=xxxxx"},
		{"http://host/token=a?design=b&sig=", "http://host/token=a?design=b&sig="},
		{"/d/a?token=b", "/d/a?token=b"},
		{"https://h/k?alt=media&key=AIza1&monkey=2", "https://h/k?alt=media&key=xxxxx&monkey=xxxxx"}, // rather one too many
		{"https://h/k?Expires=1&Policy=eyJ&Key-Pair-Id=K1&Signature=s", "https://h/k?Expires=1&Policy=xxxxx&Key-Pair-Id=xxxxx&Signature=xxxxx"},
		{"https://h/k?X-Goog-Algorithm=a&X-Goog-Credential=c&X-Goog-SignedHeaders=host&X-Goog-Signature=s", "https://h/k?X-Goog-Algorithm=a&X-Goog-Credential=xxxxx&X-Goog-SignedHeaders=host&X-Goog-Signature=xxxxx"},
		{"https://h/k?sp=r&st=1&se=2&sv=3&sr=b&sig=s", "https://h/k?sp=r&st=1&se=2&sv=3&sr=b&sig=xxxxx"},
		{"https://h/k?apiKey=a&auth=b&user_password=c&sessionid=d&__token__=e&hdnts=f&md5=g&keys=h&page=2", "https://h/k?apiKey=xxxxx&auth=xxxxx&user_password=xxxxx&sessionid=xxxxx&__token__=xxxxx&hdnts=xxxxx&md5=xxxxx&keys=h&page=2"},
	} {
		if got := RedactURL(c.in); got != c.want {
			t.Errorf("RedactURL(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestRedactPath(t *testing.T) {
	for in, want := range map[string]string{
		"https://h": "https://h", "https://h/": "https://h/", "https://h/T/B/x": "https://h/...", "https://h:1/?x=1": "https://h:1/...", "https://h/...": "https://h/...",
		"http://[::1]:2/a": "http://[::1]:2/...", "https://u:p@h/": "https://h/...", "https://h/#x": "https://h/...", "https://h o/secret": "...", "secret": "...", "": "...",
	} {
		if got := RedactPath(in); got != want {
			t.Errorf("RedactPath(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestErrorsHideThePassword checks all that turns an error into text.
func TestErrorsHideThePassword(t *testing.T) {
	for _, u := range []string{"http://user:secret@host/a", "http://user:secret\"\n@host/a", "http://user:secret@ho st/"} {
		for _, e := range []*Error{
			{Code: NameNotResolved, File: u},
			{Code: NameNotResolved, File: u, Message: u + " leads nowhere"},
			{Code: InvalidArg, File: u, Message: fmt.Sprintf("%q is not a URL", u)},
			{Code: ValidationFailed, File: "/d/a", Message: "the checksum of http://user:secret@host/a is wrong"},
			{Code: RedirectFailed, Message: `Get "http://user:secret@host/a": stopped`},
			(&ErrorInfo{HResult: InvalidArg.Hex(), File: u, Message: u}).Err(),
		} {
			info, err := json.Marshal(e.Info())
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{e.Error(), e.Sentence(), string(info), fmt.Sprint(e), fmt.Sprintf("%+v", fmt.Errorf("x: %w", e))} {
				if strings.Contains(text, "secret") {
					t.Errorf("%s tells the password", text)
				}
			}
		}
	}
	for _, u := range []string{"https://host/a?x=1&X-Amz-Signature=secret&y=2", "https://host/a?sig=s%2Fsecret", "https://host/a?token=a secret"} {
		for _, e := range []*Error{
			{Code: NameNotResolved, File: u},
			{Code: InvalidArg, File: u, Message: fmt.Sprintf("%q is not a URL", u)},
			{Code: RedirectFailed, Message: `Get "https://other/?access_token=secret": stopped`},
		} {
			if info := e.Info(); strings.Contains(e.Error()+e.Sentence()+info.File+info.Message, "secret") {
				t.Errorf("%v tells a signature", e)
			}
		}
	}
	if got, want := RedactText("Get http://u:p@h/a?sig=b: x (http://h/?a=1&token=c.d), y"), "Get http://u:xxxxx@h/a?sig=xxxxx: x (http://h/?a=1&token=xxxxx), y"; got != want {
		t.Errorf("RedactText makes %q", got)
	}
	if u := "https://host/a?sig=b"; RedactPassword(u) != u {
		t.Error("the owner does not see the signature")
	}
	for _, remote := range []string{"ftp://user:secret@host/", "http://user:secret@/", "http://user:secret@ho st/", "user:secret@host/a", "http://user:sec/secret@host/"} {
		f := FileSpec{Remote: remote, Local: "/d/a"}
		e := f.Check(Download)
		if e == nil {
			t.Fatalf("%s is accepted", remote)
		}
		if strings.Contains(e.Error()+e.Message+e.File, "secret") {
			t.Errorf("%v tells the password", e)
		}
	}
}

func FuzzRedactURL(f *testing.F) {
	for _, s := range []string{"http://user:secret@host/a", "http://u:p w@h/", "u:p@h", "//u:p@h", "http://h/a@b", "a://@:@/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := RedactURL(s)
		if again := RedactURL(got); again != got && !strings.Contains(got, "@") {
			t.Errorf("%q becomes %q, then %q", s, got, again)
		}
		u, err := url.Parse(s)
		if err == nil && u.User == nil && (strings.Contains(s, "://") || strings.HasPrefix(s, "/")) && got != s && !secretParameter.MatchString(s) {
			t.Errorf("%q has no password but becomes %q", s, got)
		}
		if err == nil && u.User != nil {
			_, had := u.User.Password()
			safe, err := url.Parse(got)
			if err != nil {
				t.Fatalf("%q becomes %q: %v", s, got, err)
			}
			if p, has := safe.User.Password(); has != had || had && p != "xxxxx" {
				t.Errorf("%q becomes %q", s, got)
			}
		}
		if scheme, rest, ok := strings.Cut(s, "://"); ok && err != nil && strings.Contains(authority(rest), "@") {
			if strings.Contains(authority(strings.TrimPrefix(got, scheme+"://")), "@") {
				t.Errorf("%q keeps what may be a password: %q", s, got)
			}
		}
	})
}

// FuzzErrorHidesThePassword puts any password in a URL, as people do who do not escape it.
func FuzzErrorHidesThePassword(f *testing.F) {
	f.Add("sec@ret")
	f.Add("s e\"c")
	f.Fuzz(func(t *testing.T, secret string) {
		secret = "<" + secret + ">" // so that it is not part of the rest by chance
		if strings.ContainsAny(secret, "/?#") {
			t.Skip() // may be a port and a path
		}
		u := "http://user:" + secret + "@host/a"
		e := &Error{Code: InvalidArg, File: u, Message: fmt.Sprintf("%q or %s is not a URL", u, u)}
		for _, text := range []string{e.Error(), e.Info().File, e.Info().Message} {
			if strings.Contains(text, secret) || strings.Contains(text, inner(secret)) {
				t.Errorf("%q tells the password", text)
			}
		}
	})
}
