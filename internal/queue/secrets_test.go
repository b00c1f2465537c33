package queue

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/auth"
)

// inClear returns the files below dir that hold a text.
func inClear(t *testing.T, dir, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if bytes.Contains(data, []byte(text)) {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSecretsAreSealed(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir)
	alice, admin, eve := Caller{UID: 1000, Self: 5}, Caller{UID: 0, Self: 5}, Caller{UID: 1001, Self: 5}
	name, secret := "job", "hidden-Pa55word"
	headers := []string{"X-Token: " + secret}
	s, err := q.Create(alice, bits.NewJob{Settings: bits.Settings{Name: &name, Headers: &headers},
		Files: []bits.FileSpec{{Remote: "http://alice:" + secret + "@127.0.0.1:1/x", Local: filepath.Join(t.TempDir(), "x")}}})
	if err != nil {
		t.Fatal(err)
	}
	user, password := "alice", secret
	cred := bits.Credential{CredentialName: bits.CredentialName{Target: bits.TargetServer, Scheme: bits.AuthDigest}, User: &user, Password: &password}
	if err := q.SetCredential(alice, s.ID, cred); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Caller{admin, eve} {
		want := bits.AccessDenied
		if c == eve {
			want = bits.NotFound
		}
		if err := q.SetCredential(c, s.ID, cred); !errors.Is(err, &bits.Error{Code: want}) {
			t.Errorf("uid %d sets credentials: %v", c.UID, err)
		}
		if _, err := q.RemoveCredential(c, s.ID, cred.CredentialName); !errors.Is(err, &bits.Error{Code: want}) {
			t.Errorf("uid %d removes credentials: %v", c.UID, err)
		}
		if _, err := q.Headers(c, s.ID); !errors.Is(err, &bits.Error{Code: want}) {
			t.Errorf("uid %d reads headers: %v", c.UID, err)
		}
	}
	check := func(q *Queue) {
		t.Helper()
		j, err := q.Get(alice, s.ID, true)
		if err != nil {
			t.Fatal(err)
		}
		if j.Files[0].Remote != "http://alice@127.0.0.1:1/x" || !slices.Equal(j.Properties.HeaderNames, []string{"X-Token"}) ||
			!slices.Equal(j.Properties.Credentials, []bits.CredentialName{cred.CredentialName}) {
			t.Errorf("shown: %q, %v, %v", j.Files[0].Remote, j.Properties.HeaderNames, j.Properties.Credentials)
		}
		if lines, err := q.Headers(alice, s.ID); err != nil || !slices.Equal(lines, headers) {
			t.Errorf("the owner reads %q, %v", lines, err)
		}
		v, err := q.look(alice, s.ID)
		if err != nil {
			t.Fatal(err)
		}
		d := v.detail()
		known, err := q.credentials(s.ID, &d)
		if err != nil || len(known) != 3 || !slices.ContainsFunc(known, func(c auth.Credential) bool { return c.Scheme == bits.AuthBasic && c.Password == secret && c.Unasked }) {
			t.Errorf("%d credentials, %v", len(known), err)
		}
	}
	check(q)
	if err := q.Backup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := inClear(t, dir, secret); found != nil {
		t.Errorf("in clear in %s", found)
	}
	shut(t, q)
	if found := inClear(t, dir, secret); found != nil {
		t.Errorf("in clear in %s", found)
	}
	q = open(t, dir)
	check(q)

	if code, err := q.RemoveCredential(alice, s.ID, cred.CredentialName); err != nil || code != bits.OK {
		t.Errorf("removed: %v, %v", code, err)
	}
	if code, err := q.RemoveCredential(alice, s.ID, cred.CredentialName); err != nil || code != bits.False {
		t.Errorf("removed again: %v, %v", code, err)
	}
	yes := true
	if _, err := q.Set(alice, s.ID, bits.Settings{Options: bits.Options{HeadersWriteOnly: &yes}}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Headers(alice, s.ID); !errors.Is(err, &bits.Error{Code: bits.AccessDenied}) {
		t.Errorf("write-only headers are read: %v", err)
	}
	if _, err := q.Cancel(alice, s.ID); err != nil {
		t.Fatal(err)
	}
	if v, err := q.look(alice, s.ID); err != nil || len(v.detail().Secrets) != 0 {
		t.Errorf("secrets outlive the job: %v", err)
	}
	if err := q.SetCredential(alice, s.ID, cred); !errors.Is(err, &bits.Error{Code: bits.InvalidState}) {
		t.Errorf("set after the end: %v", err)
	}
	shut(t, q)
}

// TestAnotherKeyIsAnErrorOfTheJob: secrets that cannot be opened end a job with words that say so.
func TestAnotherKeyIsAnErrorOfTheJob(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir)
	me, name := Caller{UID: 1000, Self: 5}, "job"
	headers := []string{"X-Token: secret"}
	s, err := q.Create(me, bits.NewJob{Settings: bits.Settings{Name: &name, Headers: &headers}, Files: []bits.FileSpec{{Remote: "http://127.0.0.1:1/x", Local: filepath.Join(t.TempDir(), "x")}}})
	if err != nil {
		t.Fatal(err)
	}
	shut(t, q)
	if err := os.Remove(filepath.Join(dir, "store.key")); err != nil {
		t.Fatal(err)
	}
	q = open(t, dir)
	if _, err := q.Resume(me, s.ID); err != nil {
		t.Fatal(err)
	}
	j := await(t, q, s.ID, bits.Errored)
	if j.Error == nil || j.Error.Code != "BG_E_INVALID_CREDENTIALS" || !strings.Contains(j.Error.Message, "another key") {
		t.Errorf("%+v", j.Error)
	}
	if _, err := q.Set(me, s.ID, bits.Settings{Headers: &headers}); err != nil {
		t.Fatal(err)
	}
	if lines, err := q.Headers(me, s.ID); err != nil || !slices.Equal(lines, headers) {
		t.Errorf("set again: %q, %v", lines, err)
	}
	shut(t, q)
}

// TestWhatWasInClearIsSealed opens a store that has headers and a web hook in clear.
func TestWhatWasInClearIsSealed(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	id := bits.NewID()
	err = s.Commit(&store.Change{Jobs: []*store.Job{{Num: 1, ID: id, UID: 1000, State: bits.Suspended, Name: "old", Detail: &store.Detail{Headers: []string{"X-Token: old-Pa55word"}, Options: &bits.Options{NotifyURL: new("https://h/old-Pa55word")}}}}})
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	q := open(t, dir)
	me := Caller{UID: 1000, Self: 5}
	if lines, err := q.Headers(me, id); err != nil || !slices.Equal(lines, []string{"X-Token: old-Pa55word"}) {
		t.Errorf("%q, %v", lines, err)
	}
	if err := q.do(func(*tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	shut(t, q)
	q = open(t, dir)
	if v, err := q.look(me, id); err != nil || v.detail().Headers != nil || len(v.detail().Secrets) != 2 || *v.detail().Options.NotifyURL != "https://h/..." {
		t.Errorf("still in clear: %v", err)
	}
	for uid, want := range map[uint32]string{1000: "https://h/old-Pa55word", 0: "https://h/..."} {
		if j, err := q.Get(Caller{UID: uid, Self: 5}, id, false); err != nil || j.Properties.NotifyURL != want {
			t.Errorf("the user %d sees %q, %v", uid, j.Properties.NotifyURL, err)
		}
	}
	shut(t, q)
}

// TestPasswordsOfChangedURLsAreSealed: not only those of new files, but of mirrors and of URLs that
// a file gets later.
func TestPasswordsOfChangedURLsAreSealed(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir)
	alice := Caller{UID: 1000, Self: 5}
	name := "job"
	s, err := q.Create(alice, bits.NewJob{Settings: bits.Settings{Name: &name}, Files: []bits.FileSpec{
		{Remote: "http://127.0.0.1:1/x", Local: filepath.Join(t.TempDir(), "x"), Mirrors: []string{"http://m:hidden-Mirror1@127.0.0.1:2/x"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	remote, mirrors := "http://r:hidden-Remote1@127.0.0.1:3/x", []string{"http://n:hidden-Mirror2@127.0.0.1:4/x"}
	if _, err := q.ChangeFile(alice, s.ID, 0, bits.FileChange{Remote: &remote, Mirrors: &mirrors}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.ReplacePrefix(alice, s.ID, bits.PrefixChange{Old: "http://r@127.0.0.1:3/", New: "http://p:hidden-Prefix1@127.0.0.1:5/"}); err != nil {
		t.Fatal(err)
	}
	got, err := q.Get(alice, s.ID, true)
	if err != nil {
		t.Fatal(err)
	}
	if f := got.Files[0]; f.Remote != "http://p@127.0.0.1:5/x" || len(f.Mirrors) != 1 || f.Mirrors[0] != "http://n@127.0.0.1:4/x" {
		t.Errorf("the file is from %s, or from %q", f.Remote, f.Mirrors)
	}
	v, err := q.look(alice, s.ID)
	if err != nil {
		t.Fatal(err)
	}
	d := v.detail()
	known, err := q.credentials(s.ID, &d)
	if err != nil {
		t.Fatal(err)
	}
	for user, password := range map[string]string{"m": "hidden-Mirror1", "n": "hidden-Mirror2", "r": "hidden-Remote1", "p": "hidden-Prefix1"} {
		if !slices.ContainsFunc(known, func(c auth.Credential) bool { return c.User == user && c.Password == password }) {
			t.Errorf("the password of %s is not known any more", user)
		}
	}
	if found := inClear(t, dir, "hidden-"); len(found) > 0 {
		t.Errorf("passwords are in clear in %q", found)
	}
}
