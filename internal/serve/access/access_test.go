package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func basic(user, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+secret))
}

func newList(t *testing.T) *List {
	t.Helper()
	argon, err := Hash("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	bc, err := bcrypt.GenerateFromPassword([]byte("battery staple"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(map[string]string{"alice": argon, "bob": string(bc)}, map[string]string{
		"ci": "0123456789abcdef", "cd": "sha256:" + "3465f6e6975baa864ca957f0914ecda9bf7eb601ac31ac20a5dc3d329279a843", // of "fedcba9876543210"
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPrincipal(t *testing.T) {
	l := newList(t)
	for _, c := range []struct {
		authorization, want string
		wrong               bool
	}{
		{"", "", false},
		{basic("alice", "correct horse"), "alice", false},
		{basic("alice", "correct horse"), "alice", false}, // remembered
		{basic("bob", "battery staple"), "bob", false},
		{basic("alice", "battery staple"), "", true},
		{basic("alice", ""), "", true},
		{basic("alic", "ecorrect horse"), "", true}, // not what is remembered
		{basic("nobody", "correct horse"), "", true},
		{basic("alice", strings.Repeat("x", maxPassword+1)), "", true},
		{"Basic !", "", true},
		{"bearer 0123456789abcdef", "ci", false},
		{"Bearer fedcba9876543210", "cd", false},
		{"Bearer 0123456789abcdeg", "", true},
		{"Bearer ", "", true},
		{"Negotiate abc", "", true},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		got, err := l.Principal(r)
		if got != c.want || errors.Is(err, ErrCredentials) != c.wrong {
			t.Errorf("%s: %q, %v", c.authorization, got, err)
		}
	}
}

// Passwords are slow to check, and clients send them with each of many requests.
func TestRightPasswordIsRemembered(t *testing.T) {
	l := newList(t)
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", basic("alice", "correct horse"))
	if _, err := l.Principal(r); err != nil {
		t.Fatal(err)
	}
	l.users["alice"] = never{t}
	began := time.Now()
	for range 1000 {
		if _, err := l.Principal(r); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("1000 checks took %v", d)
	}
}

type never struct{ t *testing.T }

func (n never) matches(string) bool {
	n.t.Error("a password that was right is checked again")
	return true
}

// Who sends wrong passwords without end makes others wait for a while at most. Those who were let in
// before do not wait at all.
func TestFloodOfPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newList(t)
		ask := func(ctx context.Context, authorization string) error {
			r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
			r.Header.Set("Authorization", authorization)
			_, err := l.Principal(r)
			return err
		}
		if err := ask(t.Context(), basic("bob", "battery staple")); err != nil {
			t.Fatal(err)
		}
		release := make(blocked)
		l.users["alice"] = release
		answers := make(chan error, mostChecked+mostWaiting)
		for range mostChecked + mostWaiting - 1 {
			go func() { answers <- ask(t.Context(), basic("alice", "wrong")) }()
		}
		synctest.Wait()
		gone, leave := context.WithCancel(t.Context())
		go func() { answers <- ask(gone, basic("alice", "wrong")) }()
		synctest.Wait()
		if err := ask(t.Context(), basic("alice", "wrong")); !errors.Is(err, ErrBusy) || errors.Is(err, ErrCredentials) {
			t.Errorf("one too many: %v", err)
		}
		for _, known := range []string{basic("bob", "battery staple"), "Bearer 0123456789abcdef"} {
			if err := ask(t.Context(), known); err != nil {
				t.Errorf("%s: %v", known, err)
			}
		}
		leave() // its place is free
		if err := <-answers; !errors.Is(err, ErrBusy) {
			t.Errorf("who left: %v", err)
		}
		go func() { answers <- ask(t.Context(), basic("alice", "wrong")) }()
		synctest.Wait()
		close(release)
		for range mostChecked + mostWaiting {
			if err := <-answers; !errors.Is(err, ErrCredentials) {
				t.Errorf("in the end: %v", err)
			}
		}
		if err := ask(t.Context(), basic("alice", "wrong")); !errors.Is(err, ErrCredentials) {
			t.Errorf("after the flood: %v", err)
		}
	})
}

// blocked is a password whose check takes until the channel is closed.
type blocked chan struct{}

func (b blocked) matches(string) bool {
	<-b
	return false
}

func TestCertificate(t *testing.T) {
	l := newList(t)
	r := httptest.NewRequest("GET", "/", nil)
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "machine-7"}}
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	if p, err := l.Principal(r); p != "" || err != nil {
		t.Errorf("a certificate that was not verified makes %q", p)
	}
	r.TLS.VerifiedChains = [][]*x509.Certificate{{leaf}}
	if p, err := l.Principal(r); p != "machine-7" || err != nil {
		t.Errorf("%q, %v", p, err)
	}
	// So are named those whom only this server knows.
	leaf.Subject.CommonName = "bob\x00:replies"
	if p, err := l.Principal(r); !errors.Is(err, ErrCredentials) {
		t.Errorf("%q, %v", p, err)
	}
}

// Clients send credentials that they have for a name, whether the server has any or not. One that has none
// knows nobody by them, and no other one by leaving them out.
func TestCredentialsWhereThereAreNone(t *testing.T) {
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "machine-7"}}
	verified := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}
	for _, certs := range []bool{false, true} {
		l, err := New(nil, nil, certs)
		if err != nil {
			t.Fatal(err)
		}
		for _, authorization := range []string{"", basic("alice", "correct horse"), basic("", ""), "Bearer 0123456789abcdef", "Bearer ", "Negotiate abc"} {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", authorization)
			if p, err := l.Principal(r); p != "" || err != nil {
				t.Errorf("%s: %q, %v", authorization, p, err)
			}
			r.TLS = verified
			if p, err := l.Principal(r); p != map[bool]string{true: "machine-7"}[certs] || err != nil {
				t.Errorf("%s with a certificate, which counts %v: %q, %v", authorization, certs, p, err)
			}
		}
	}
	// As soon as there is one, they are taken for an attempt.
	l, err := New(nil, map[string]string{"ci": "0123456789abcdef"}, false)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", basic("alice", "correct horse"))
	if p, err := l.Principal(r); !errors.Is(err, ErrCredentials) {
		t.Errorf("%q, %v", p, err)
	}
}

func TestChallenge(t *testing.T) {
	h := http.Header{}
	if l := newList(t); !l.Challenge(h) || len(h.Values("WWW-Authenticate")) != 2 {
		t.Error(h)
	}
	none, err := New(nil, nil, true)
	if err != nil || none.Challenge(http.Header{}) {
		t.Error("a certificate cannot be asked for in a header")
	}
}

func TestBadHashesAreRefused(t *testing.T) {
	salt, sum := strings.Repeat("A", 22), strings.Repeat("A", 43)
	for _, hash := range []string{
		"", "secret", "$2y$", "$2y$31$" + strings.Repeat("a", 53), "$1$abc$def", "$argon2id$", "$argon2id$v=19$m=1,t=1$" + salt + "$" + sum,
		"$argon2id$v=18$m=65536,t=3,p=4$" + salt + "$" + sum, "$argon2id$v=19$m=4294967295,t=3,p=4$" + salt + "$" + sum,
		"$argon2id$v=19$m=65536,t=0,p=4$" + salt + "$" + sum, "$argon2id$v=19$m=65536,t=3,p=0$" + salt + "$" + sum, "$argon2id$v=19$m=65536,t=3,p=4$AA$" + sum,
	} {
		if _, err := New(map[string]string{"a": hash}, nil, false); err == nil {
			t.Errorf("%q is taken", hash)
		}
	}
	for _, token := range []string{"", "short", "sha256:00", "sha256:" + strings.Repeat("g", 64)} {
		if _, err := New(nil, map[string]string{"a": token}, false); err == nil {
			t.Errorf("the token %q is taken", token)
		}
	}
	if _, err := New(nil, map[string]string{"a": "0123456789abcdef", "b": "0123456789abcdef"}, false); err == nil {
		t.Error("two have the same token")
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$2y$05$......................................................")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := parseHash(text); err == nil && h == nil {
			t.Error(text)
		}
	})
}
