package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

func TestUserState(t *testing.T) {
	lookup := func() (string, error) { return "/home/known", nil }
	none := func() (string, error) { return "", errors.New("unknown") }
	for _, c := range []struct {
		xdg, home string
		lookup    func() (string, error)
		want      string
	}{
		{"/x", "/h", lookup, "/x/ebb"},
		{"relative", "/h", lookup, "/h/.local/state/ebb"},
		{"", "/h", none, "/h/.local/state/ebb"},
		{"", "", lookup, "/home/known/.local/state/ebb"},
		{"", "h", lookup, "/home/known/.local/state/ebb"},
		{"", "", none, ""},
	} {
		t.Setenv("XDG_STATE_HOME", c.xdg)
		t.Setenv("HOME", c.home)
		if got := userState(c.lookup); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

func TestNoHome(t *testing.T) {
	m := &Manager{http: &http.Transport{}}
	_, err := m.Service(context.Background())
	if !errors.Is(err, ErrNoHome) || !errors.Is(err, ErrNoService) {
		t.Errorf("got %v", err)
	}
}

func TestFindRefusesWhatNoPathCanHold(t *testing.T) {
	m := New("/nowhere/s") // is not asked
	for _, ref := range []string{"", ".", "..", "/"} {
		if _, err := m.Find(context.Background(), ref); !errors.Is(err, &bits.Error{Code: bits.NotFound}) {
			t.Errorf("%q: got %v", ref, err)
		}
	}
}

// serve serves a handler on a socket for the length of a test.
func serve(t *testing.T, h http.Handler) *Manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "ebb") // t.TempDir() can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	m := New(filepath.Join(dir, "s"))
	t.Cleanup(m.Close)
	return m
}

// TestTransferCancelsWhatItDoesNotKnowOf ends the context while the job is being created.
func TestTransferCancelsWhatItDoesNotKnowOf(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	var asked []string
	created := make(chan string, 1)
	m := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.URL.Path)
		mu.Unlock()
		if r.URL.Path == "/v1/jobs" {
			b := make([]byte, 4096)
			n, _ := r.Body.Read(b)
			created <- string(b[:n])
			cancel()
			<-r.Context().Done()
			return
		}
		_, _ = w.Write([]byte("{}"))
	}))
	id := bits.NewID()
	if _, err := m.Transfer(ctx, bits.NewJob{ID: &id}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if last := asked[len(asked)-1]; last != "POST /v1/jobs/"+id.String()+"/cancel" || !strings.Contains(<-created, id.String()) {
		t.Errorf("asked %q", asked)
	}
}

// TestWaitSurvivesBrokenConnections has a service that hangs up instead of answering, as one
// that stops does.
func TestWaitSurvivesBrokenConnections(t *testing.T) {
	id := bits.NewID()
	var mu sync.Mutex
	n := 0
	m := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n <= 4 {
			panic(http.ErrAbortHandler)
		}
		if strings.HasPrefix(r.URL.Path, "/v1/events") {
			w.Header().Set("Ebb-Last-Event", "1")
			return
		}
		_, _ = w.Write([]byte(`{"id":"` + id.String() + `","type":"download","priority":"NORMAL","state":"TRANSFERRED"}`))
	}))
	info, err := m.Job(id).Wait(context.Background())
	if err != nil || info.State != bits.Transferred {
		t.Errorf("got %v, %v", info, err)
	}
}
