package scenario

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// The log tells who did what to a job, and with which program; it has no secrets.
func TestAudit(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	url := srv.File("/file", faultserver.File{Seed: 1, Size: 100 * kib}).URL()
	s := start(t, options{})
	f := fetched{name: "a name", waits: true}
	f.settings.Headers = &[]string{"Authorization: Bearer geheim"}
	f.settings.NotifyCommand = &[]string{"/bin/false", "geheim"}
	f.settings.MinimumRetryDelay = ptr(int64(3600))
	job := s.create(f)
	if err := job.AddFiles(s.ctx(), s.file(url+"?X-Amz-Signature=geheim", "file")); err != nil {
		t.Fatal(err)
	}
	must(t, job.SetCredential(s.ctx(), bits.Credential{CredentialName: bits.CredentialName{Target: bits.TargetServer, Scheme: bits.AuthBasic}, User: ptr("user"), Password: ptr("geheim")}))
	for _, args := range [][]string{{"set", job.ID.String(), "priority=HIGH"}, {"resume", job.ID.String()}} {
		s.cli(args...).want(t, 0)
	}
	s.until(job, "told in vain", func(j *bits.Job) bool { return j.Failure != nil })
	s.complete(job)
	other := s.fetch(srv.URL()+"/missing", "missing")
	s.settled(other, bits.Errored)
	if _, err := other.Cancel(s.ctx()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	by := fmt.Sprintf("by=%s pid=%d process=%s", me.Username, os.Getpid(), self)
	for _, want := range []struct{ what, job, event, facts string }{
		{"job created", job.ID.String(), "3", by},
		{"job changed", job.ID.String(), "6", by + " properties="},
		{"file added", job.ID.String(), "16403", by},
		{"job changed", job.ID.String(), "", "process=" + ebb + " properties=priority"},
		{"job's credentials changed", job.ID.String(), "", by + " target=SERVER scheme=BASIC done=set"},
		{"job resumed", job.ID.String(), "1", "process=" + ebb},
		{"job transferred", job.ID.String(), "60", ""},
		{"notify command failed", job.ID.String(), "63", "program=/bin/false"},
		{"notification will be tried again", job.ID.String(), "16390", "wait=1h0m0s"},
		{"job completed", job.ID.String(), "4", by + " files=1 bytes=102400"},
		{"job met an error", other.ID.String(), "211", ""},
		{"job cancelled", other.ID.String(), "5", by},
	} {
		found := false
		for line := range strings.Lines(string(text)) {
			found = found || strings.Contains(line, want.what) && strings.Contains(line, "job="+want.job) && strings.Contains(line, want.facts) &&
				(want.event == "" || strings.Contains(line, "event="+want.event+" "))
		}
		if !found {
			t.Errorf("the log does not tell %+v:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "geheim") {
		t.Errorf("the log has a secret:\n%s", text)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	url := srv.File("/file", faultserver.File{Seed: 1, Size: 100 * kib}).URL()
	s := start(t, options{args: []string{"--metrics", ":0"}})
	in := filepath.Join(s.dir, "file")
	s.settled(s.told(url, bits.Options{NotifyCommand: &[]string{"/bin/sh", "-c", `echo >"$1"`, "sh", in + ".told"}}), bits.Transferred)
	appears(t, in+".told")
	s.create(fetched{waits: true})
	text := s.metrics()
	for _, want := range []string{`ebb_jobs{state="TRANSFERRED"} 1`, `ebb_jobs{state="SUSPENDED"} 1`, `ebb_jobs{state="ERROR"} 0`, `ebb_transferred_bytes_total{direction="received"} 102400`,
		`ebb_events_total{kind="added"} 2`, `ebb_events_total{kind="transferred"} 1`, "go_goroutines ", "process_resident_memory_bytes "} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}

	// Over TCP whoever asks gets the same numbers, and nothing else.
	log, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	at := regexp.MustCompile(`http://(127\.0\.0\.1:\d+)/metrics`).FindSubmatch(log)
	if at == nil {
		t.Fatalf("the log names no address:\n%s", log)
	}
	addr := string(at[1])
	ask := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	status, open := ask("GET", "/metrics")
	if status != http.StatusOK || !strings.Contains(open, "ebb_transferred_bytes_total{direction=\"received\"} 102400\n") {
		t.Errorf("over TCP: %d %s", status, open)
	}
	for _, secret := range []string{url, s.dir, t.Name(), s.socket, "/file"} {
		if strings.Contains(open, secret) {
			t.Errorf("the metrics tell %q", secret)
		}
	}
	for call, want := range map[string]int{"GET /v1/jobs": http.StatusNotFound, "GET /": http.StatusNotFound, "POST /metrics": http.StatusMethodNotAllowed, "DELETE /metrics": http.StatusMethodNotAllowed} {
		method, path, _ := strings.Cut(call, " ")
		if status, _ := ask(method, path); status != want {
			t.Errorf("%s: %d, want %d", call, status, want)
		}
	}
	// Who takes all connections keeps the service from nothing.
	for range 40 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	if text := s.metrics(); !strings.Contains(text, "ebb_online") {
		t.Errorf("the socket's metrics are %s", text)
	}
	if took := s.stop(); took > patience {
		t.Errorf("the service took %v to end", took)
	}
}

// metrics returns what Prometheus reads of the service.
func (s *service) metrics() string {
	s.t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.socket)
	}}}
	defer c.CloseIdleConnections()
	resp, err := c.Get("http://ebb/v1/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}
