package httpconn

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/auth"
)

// TestServersAreToldWhoAsks: once asked for, then unasked; and no other server is.
func TestServersAreToldWhoAsks(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("another server got the credentials")
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="mine"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer other.Close()
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "alice" || p != "secret" {
			asked++
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path == "/away" {
			http.Redirect(w, r, other.URL, http.StatusFound)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	defer s.Close()
	c := New("test", governor.New("", slog.New(slog.DiscardHandler)))
	a, err := c.Open(Settings{Identity: auth.New([]auth.Credential{{Target: bits.TargetServer, Scheme: bits.AuthBasic, User: "alice", Password: "secret"}}, nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ctx := a.With(t.Context())
	for range 3 {
		req, err := c.Request(ctx, http.MethodPut, s.URL, nil, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req, governor.Foreground)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || string(body) != "body" {
			t.Fatalf("%s %q", resp.Status, body)
		}
	}
	if asked != 1 {
		t.Errorf("the server had to ask %d times", asked)
	}
	// A mirror that only the server named, or where it moved to.
	elsewhere, err := c.Request(OnBehalf(ctx, s.URL), http.MethodGet, other.URL, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	refusal, err := c.Do(elsewhere, governor.Foreground)
	if err != nil {
		t.Fatal(err)
	}
	refusal.Body.Close()
	if refusal.StatusCode != http.StatusUnauthorized {
		t.Errorf("on behalf of the server another answered %s", refusal.Status)
	}
	req, err := c.Request(ctx, http.MethodGet, s.URL+"/away", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req, governor.Foreground)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("behind the redirect: %s", resp.Status)
	}
}
