package queue

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

// logText keeps what is logged.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(l.b.String(), "\n")
}

// TestEventsOfLimits checks that the log has BITS's number for each quota that refuses a call, for
// another cost of the network, and for another bandwidth limit.
func TestEventsOfLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, err := store.Open(dir, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		var log logText
		quiet := slog.New(slog.DiscardHandler)
		gov := governor.New("", quiet)
		q, err := Open(s, transfer.NewEngine(httpget.New(httpconn.New("test", gov)), time.Second, nil), gov,
			parse(t, "[jobs]\nmax_per_user = 2\nmax_per_machine = 3\nmax_files = 2\nmax_ranges = 1\n"), conditions.State{}, nil, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer shut(t, q)
		spec := func(n int, ranges ...bits.Range) (files []bits.FileSpec) {
			for i := range n {
				files = append(files, bits.FileSpec{Remote: "http://127.0.0.1:1/a", Local: filepath.Join(dir, fmt.Sprint(i)), Ranges: ranges})
			}
			return files
		}
		make := func(c Caller, files []bits.FileSpec) {
			name := "n"
			_, _ = q.Create(c, bits.NewJob{Settings: bits.Settings{Name: &name}, Files: files}) // refused or not: the log tells
		}
		make(alice, spec(3))
		make(alice, spec(1, bits.Range{Length: 1}, bits.Range{Offset: 5, Length: 1}))
		for range 3 {
			make(alice, spec(1))
		}
		for range 2 {
			make(bob, spec(1))
		}
		q.SetConditions(metered)
		q.SetPolicy(parse(t, `bandwidth.foreground = "1 Mbit/s"`))
		settle(t)
		for _, want := range []string{"event=16400 by=", "event=16401 by=", "event=16398 by=", "event=16397 by=", "event=37 cost=", "event=205 "} {
			found := false
			for _, line := range log.lines() {
				found = found || strings.Contains(line, want)
			}
			if !found {
				t.Errorf("no line has %q:\n%s", want, strings.Join(log.lines(), "\n"))
			}
		}
	})
}

// TestChangesAreAudited: whatever changes a job is told in the log, with BITS's number where another than the
// owner did it, and without secrets. What the owner's own program reads is not.
func TestChangesAreAudited(t *testing.T) {
	dir, quiet := t.TempDir(), slog.New(slog.DiscardHandler)
	s, err := store.Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	var log logText
	gov := governor.New("", quiet)
	q, err := Open(s, transfer.NewEngine(httpget.New(httpconn.New("test", gov)), time.Second, nil), gov, policy.Default(), conditions.State{}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, q)
	id := create(t, q, alice, "job", bits.FileSpec{Remote: "http://127.0.0.1:1/a", Local: filepath.Join(dir, "a")}, bits.FileSpec{Remote: "http://127.0.0.1:1/b", Local: filepath.Join(dir, "b")})
	server := bits.CredentialName{Target: bits.TargetServer, Scheme: bits.AuthBasic}
	remote, user, password := "http://r:geheim@127.0.0.1:2/a", "u", "geheim"
	for _, c := range []struct {
		name  string
		owner bool // only the owner may
		call  func(Caller) error
		want  string // empty: only another's is told
	}{
		{"SetCredential", true, func(c Caller) error {
			return q.SetCredential(c, id, bits.Credential{CredentialName: server, User: &user, Password: &password})
		}, `msg="job's credentials changed" target=SERVER scheme=BASIC done=set`},
		{"RemoveCredential", true, func(c Caller) error { _, err := q.RemoveCredential(c, id, server); return err }, `msg="job's credentials changed" target=SERVER scheme=BASIC done=removed`},
		{"SetCertificate", true, func(c Caller) error {
			_, err := q.SetCertificate(c, id, bits.ClientCertificateFile{PEM: certificatePEM(t)})
			return err
		}, `msg="job's client certificate changed" done=set`},
		{"RemoveCertificate", true, func(c Caller) error { _, err := q.RemoveCertificate(c, id); return err }, `msg="job's client certificate changed" done=removed`},
		{"Set", false, func(c Caller) error {
			_, err := q.Set(c, id, bits.Settings{Priority: new(bits.Low)})
			return err
		}, `msg="job changed" properties=priority`},
		{"URL", false, func(c Caller) error {
			change := remote + "?" + strconv.Itoa(int(c.UID))
			_, err := q.ChangeFile(c, id, 0, bits.FileChange{Remote: &change, Mirrors: &[]string{"http://127.0.0.1:3/a"}})
			return err
		}, `msg="file changed" remote=http://r@127.0.0.1:2/a mirrors=1 skipped=false`},
		{"skip", false, func(c Caller) error {
			_, err := q.ChangeFile(c, id, 1, bits.FileChange{Skipped: new(c.UID == alice.UID)})
			return err
		}, `msg="file changed" local=` + filepath.Join(dir, "b") + ` skipped=`},
		{"ReplacePrefix", false, func(c Caller) error { // a password that is one only with the rest of the URL
			_, err := q.ReplacePrefix(c, id, bits.PrefixChange{Old: "http://r", New: "http://r:geheim"})
			return err
		}, `msg="file changed" remote=http://r@127.0.0.1:2/a`},
		{"SetPosition", false, func(c Caller) error { _, err := q.SetPosition(c, id, 1, 5); return err }, ""},
		{"RequestRanges", false, func(c Caller) error {
			_, err := q.RequestRanges(c, id, 1, []bits.Range{{Offset: 5, Length: 5}})
			return err
		}, ""},
	} {
		for _, who := range []Caller{alice, root} {
			before := len(log.lines())
			err := c.call(who)
			if c.owner && who.UID != alice.UID {
				if codeOf(err) != bits.AccessDenied {
					t.Errorf("%s by root: %v", c.name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s by uid %d: %v", c.name, who.UID, err)
			}
			if err := q.do(func(*tx) error { return nil }); err != nil { // lines are written after the answer
				t.Fatal(err)
			}
			lines := log.lines()[before-1:]
			found := slices.ContainsFunc(lines, func(line string) bool {
				for fact := range strings.FieldsSeq(c.want) {
					if !strings.Contains(line, fact) {
						return false
					}
				}
				return strings.Contains(line, "by=") && strings.Contains(line, "event=16387") == (who.UID != alice.UID)
			})
			if want := c.want != "" || who.UID != alice.UID; found != want {
				t.Errorf("%s by uid %d is told of: %v in %q", c.name, who.UID, found, lines)
			}
		}
	}
	if _, err := q.SetValidated(alice, id, 0, true); codeOf(err) != bits.Pending {
		t.Errorf("SetValidated of what is not here: %v", err)
	}
	err = q.RemoveFile(alice, id, 1)
	if err := q.do(func(*tx) error { return nil }); err != nil { // lines are written after the answer
		t.Fatal(err)
	}
	if err != nil || !strings.Contains(strings.Join(log.lines(), "\n"), `msg="file removed"`) {
		t.Errorf("RemoveFile: %v, %q", err, log.lines())
	}
	if text := strings.Join(log.lines(), "\n"); strings.Contains(text, "geheim") || strings.Contains(text, "validated") {
		t.Errorf("the log has a secret, or what was refused:\n%s", text)
	}
}

// certificatePEM makes a client certificate with its key.
func certificatePEM(t *testing.T) string {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	c := srv.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}
