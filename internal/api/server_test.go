package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/notify"
	"github.com/ebbtransfer/ebb/internal/peers"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/queue"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
	"github.com/ebbtransfer/ebb/internal/transfer/bup"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
	"github.com/ebbtransfer/ebb/internal/transfer/put"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

var (
	admin = queue.Caller{UID: 500, Self: 500}
	alice = queue.Caller{UID: 1000, Self: 500}
	bob   = queue.Caller{UID: 1001, Self: 500}
)

// newAPI returns the API of a queue on a store of its own.
func newAPI(t testing.TB) http.Handler {
	t.Helper()
	return newAPIWith(t, configuration(t, ""))
}

// newAPIWith is newAPI with a configuration that the queue does not know of.
func newAPIWith(t testing.TB, file *policy.File) http.Handler {
	t.Helper()
	return newAPIBy(t, file, policy.Default())
}

// newAPIBy is newAPIWith with a policy that the queue works by.
func newAPIBy(t testing.TB, file *policy.File, rules policy.Policy) http.Handler {
	t.Helper()
	s, err := store.Open(t.TempDir(), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	conns := httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler)))
	engine := transfer.NewEngine(httpget.New(conns), time.Minute, map[upload.Protocol]upload.Uploader{upload.BITS: bup.New(conns), upload.Put: put.New(conns)})
	q, err := queue.Open(s, engine, governor.New("", slog.New(slog.DiscardHandler)), rules, conditions.State{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return New(q, governor.New("", slog.New(slog.DiscardHandler)), file, notify.New(notify.Config{Queue: q, Log: slog.New(slog.DiscardHandler)}), peers.Open(filepath.Join(t.TempDir(), "peers"), slog.New(slog.DiscardHandler)), func(queue.Caller) bits.Service { return bits.Service{Version: "test"} })
}

// configuration returns a configuration file with a text.
func configuration(t testing.TB, text string) *policy.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "policy.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := policy.Open(name, func(policy.Policy) {})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// as makes all requests those of a caller.
func as(c queue.Caller, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	})
}

// call makes a request with a JSON body, or none.
func call(h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// made creates a job and returns its id.
func made(t *testing.T, h http.Handler, name string) bits.ID {
	t.Helper()
	w := call(h, "POST", "/v1/jobs", fmt.Sprintf(`{"name":%q}`, name))
	return decode[bits.Summary](t, w, http.StatusCreated).ID
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder, status int) (v T) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d: %s", w.Code, status, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	return v
}

// problemOf reads an error answer and checks what all of them must have.
func problemOf(t *testing.T, w *httptest.ResponseRecorder, status int) bits.Problem {
	t.Helper()
	p := decode[bits.Problem](t, w, status)
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	code, ok := bits.ParseCode(p.Code)
	if !ok || code.Hex() != p.HResult || !code.Failed() {
		t.Errorf("code %q with %q", p.Code, p.HResult)
	}
	if p.Status != status || p.Title == "" || p.Detail == "" || p.Hint == "" || p.Context == bits.ContextNone {
		t.Errorf("%+v lacks something", p)
	}
	return p
}

func TestErrors(t *testing.T) {
	service := newAPI(t)
	h := as(alice, service)
	made(t, h, "nightly")
	other := made(t, as(bob, service), "his")
	file := func(remote, local string) string {
		return fmt.Sprintf(`{"name":"a","files":[{"remote":%q,"local":%q}]}`, remote, local)
	}
	for _, c := range []struct {
		name, method, target, body string
		status                     int
		code                       bits.Code
		context                    bits.Context
		detail                     string
	}{
		{"unknown path", "GET", "/v2/jobs", "", 404, bits.NotImplemented, bits.ContextGeneralQueueManager, "GET /v2/jobs"},
		{"root", "GET", "/", "", 404, bits.NotImplemented, bits.ContextGeneralQueueManager, "no such call"},
		{"path that is not clean", "GET", "/v1//nothing", "", 404, bits.NotImplemented, bits.ContextGeneralQueueManager, "no such call"},
		{"wrong method", "DELETE", "/v1/jobs", "", 405, bits.NotImplemented, bits.ContextGeneralQueueManager, "GET, HEAD, POST"},
		{"unknown verb", "POST", "/v1/jobs/nightly/explode", "", 404, bits.NotImplemented, bits.ContextGeneralQueueManager, "explode"},
		{"unknown job", "GET", "/v1/jobs/weekly", "", 404, bits.NotFound, bits.ContextGeneralQueueManager, `"weekly"`},
		{"another user's job", "GET", "/v1/jobs/" + other.String(), "", 404, bits.NotFound, bits.ContextGeneralQueueManager, ""},
		{"another user's job, resumed", "POST", "/v1/jobs/" + other.String() + "/resume", "", 404, bits.NotFound, bits.ContextGeneralQueueManager, ""},
		{"empty job, resumed", "POST", "/v1/jobs/nightly/resume", "", 422, bits.Empty, bits.ContextGeneralQueueManager, ""},
		{"unknown field", "POST", "/v1/jobs", `{"name":"a","prio":1}`, 422, bits.InvalidArg, bits.ContextGeneralQueueManager, "prio"},
		{"unknown field of settings", "PATCH", "/v1/jobs/nightly", `{"colour":"red"}`, 422, bits.InvalidArg, bits.ContextGeneralQueueManager, "colour"},
		{"broken JSON", "POST", "/v1/jobs", `{"name":`, 422, bits.InvalidArg, bits.ContextGeneralQueueManager, ""},
		{"two values", "POST", "/v1/jobs", `{"name":"a"}{}`, 422, bits.InvalidArg, bits.ContextGeneralQueueManager, "more than one"},
		{"another type", "POST", "/v1/jobs", `{"name":5}`, 422, bits.InvalidArg, bits.ContextGeneralQueueManager, ""},
		{"unknown priority", "POST", "/v1/jobs", `{"name":"a","priority":"URGENT"}`, 422, bits.NotImplemented, bits.ContextGeneralQueueManager, "URGENT"},
		{"unknown priority of one of several", "POST", "/v1/batch", `[{"name":"a","priority":"URGENT"}]`, 422, bits.NotImplemented, bits.ContextGeneralQueueManager, "URGENT"},
		{"secrets in broken JSON", "POST", "/v1/jobs", `{"name":"a","headers":["X: secret"],"files":[{"remote":"http://u:secret@h/"`, 422, bits.InvalidArg, bits.ContextGeneralQueueManager, ""},
		{"no body", "POST", "/v1/jobs", "", 400, bits.InvalidArg, bits.ContextGeneralQueueManager, ""},
		{"too large body", "PATCH", "/v1/jobs/nightly", `{"description":"` + strings.Repeat("a", 2<<20) + `"}`, 413, bits.InvalidArg, bits.ContextGeneralQueueManager, ""},
		{"no name", "POST", "/v1/jobs", `{}`, 422, bits.InvalidArg, bits.ContextGeneralQueueManager, "name"},
		{"upload of nothing", "POST", "/v1/jobs", `{"name":"a","type":"UPLOAD","files":[{"remote":"http://h/a","local":"/nonexistent/a"}]}`, 422, bits.FileNotFound, bits.ContextLocalFile, "/nonexistent/a"},
		{"reply of a download", "GET", "/v1/jobs/nightly/reply", "", 422, bits.NotImplemented, bits.ContextGeneralQueueManager, ""},
		{"bad setting", "PATCH", "/v1/jobs/nightly", `{"connections":99}`, 422, bits.InvalidArg, bits.ContextGeneralQueueManager, "connections"},
		{"too long description", "PATCH", "/v1/jobs/nightly", `{"description":"` + strings.Repeat("a", 1025) + `"}`, 422, bits.StringTooLong, bits.ContextGeneralQueueManager, "1025"},
		{"bad URL", "POST", "/v1/jobs", file("ftp://user:secret@h/a", "/d/a"), 422, bits.InvalidArg, bits.ContextRemoteFile, "http, https, file or smb"},
		{"relative path", "POST", "/v1/jobs", file("http://h/a", "a"), 422, bits.InvalidArg, bits.ContextLocalFile, "absolute"},
		{"no files to add", "POST", "/v1/jobs/nightly/files", `[]`, 422, bits.InvalidArg, bits.ContextGeneralQueueManager, ""},
		{"unknown state", "GET", "/v1/jobs?state=DREAMING", "", 422, bits.InvalidArg, bits.ContextGeneralQueueManager, "DREAMING"},
		{"bad page", "GET", "/v1/jobs?after=x", "", 422, bits.InvalidArg, bits.ContextGeneralQueueManager, "job id"},
		{"bad limit", "GET", "/v1/jobs?limit=-1", "", 422, bits.InvalidArg, bits.ContextGeneralQueueManager, "limit"},
		{"all users", "GET", "/v1/jobs?all_users=true", "", 403, bits.AccessDenied, bits.ContextGeneralQueueManager, "administrator"},
		{"events of all users", "GET", "/v1/events?all_users=true", "", 403, bits.AccessDenied, bits.ContextGeneralQueueManager, "administrator"},
		{"events of no job", "GET", "/v1/events?job=x", "", 422, bits.InvalidArg, bits.ContextGeneralQueueManager, "job id"},
		{"events of no kind", "GET", "/v1/events?kind=x", "", 422, bits.InvalidArg, bits.ContextGeneralQueueManager, "kind"},
		{"events after nothing", "GET", "/v1/events?after=x", "", 422, bits.InvalidArg, bits.ContextGeneralQueueManager, "after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := call(h, c.method, c.target, c.body)
			p := problemOf(t, w, c.status)
			if p.Code != c.code.Name() || p.Context != c.context || !strings.Contains(p.Detail, c.detail) {
				t.Errorf("%+v, want %s, %s and %q", p, c.code.Name(), c.context, c.detail)
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%s tells the password", w.Body)
			}
		})
	}
}

func TestWrongMethodNamesTheRightOnes(t *testing.T) {
	w := call(as(alice, newAPI(t)), "DELETE", "/v1/service", "")
	if p := problemOf(t, w, 405); w.Header().Get("Allow") != "GET, HEAD" || p.Hint != "see /openapi.json" {
		t.Errorf("Allow: %q, %+v", w.Header().Get("Allow"), p)
	}
}

func TestAmbiguousNameListsItsCandidates(t *testing.T) {
	h := as(alice, newAPI(t))
	want := map[bits.ID]bool{made(t, h, "twin"): true, made(t, h, "twin"): true}
	p := problemOf(t, call(h, "GET", "/v1/jobs/twin", ""), http.StatusConflict)
	if p.Code != "E_INVALIDARG" || len(p.Candidates) != 2 {
		t.Fatalf("%+v", p)
	}
	for _, c := range p.Candidates {
		if !want[c.ID] || c.Name != "twin" || c.State != bits.Suspended {
			t.Errorf("candidate %+v", c)
		}
	}
}

func TestBatch(t *testing.T) {
	h := as(alice, newAPI(t))
	id := made(t, h, "there")
	batch := `[{"name": "one", "files": [{"remote": "https://h/a", "local": "/tmp/a"}]}, {"description": "no name"}, {"name": "again", "id": "` + id.String() + `"}, {"name": "two"}]`
	answers := decode[[]bits.Created](t, call(h, "POST", "/v1/batch", batch), http.StatusOK)
	if len(answers) != 4 {
		t.Fatalf("%d answers, want 4", len(answers))
	}
	for i, name := range []string{"one", "", "there", "two"} {
		a := answers[i]
		if name == "" {
			if a.Job != nil || a.Error == nil || a.Error.Code != "E_INVALIDARG" {
				t.Errorf("answer %d is %+v, want an error", i, a)
			}
			continue
		}
		if a.Job == nil || a.Error != nil || a.Job.Name != name {
			t.Errorf("answer %d is %+v, want the job %q", i, a, name)
		}
	}
	if jobs := decode[[]bits.Job](t, call(h, "GET", "/v1/jobs", ""), http.StatusOK); len(jobs) != 3 {
		t.Errorf("there are %d jobs, want 3", len(jobs))
	}
	many := "[" + strings.Repeat(`{"name": "x"},`, bits.MaxBatch) + `{"name": "x"}]`
	problemOf(t, call(h, "POST", "/v1/batch", many), http.StatusUnprocessableEntity)
	if got := decode[[]bits.Created](t, call(h, "POST", "/v1/batch", "[]"), http.StatusOK); len(got) != 0 {
		t.Errorf("no jobs have the answers %+v", got)
	}
}

func TestList(t *testing.T) {
	service := newAPI(t)
	h := as(alice, service)
	made(t, as(bob, service), "his")
	list := func(query string) []bits.Job {
		t.Helper()
		w := call(h, "GET", "/v1/jobs"+query, "")
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type %q", got)
		}
		return decode[[]bits.Job](t, w, http.StatusOK)
	}
	if jobs := list(""); jobs == nil || len(jobs) != 0 {
		t.Errorf("%v, want an empty list", jobs)
	}
	var ids []bits.ID
	for i := range 600 { // more than the queue lists, and the writer holds, at once
		ids = append(ids, made(t, h, fmt.Sprintf("job %d <&> \"é\"", i)))
		if i == 0 {
			if jobs := list(""); len(jobs) != 1 || jobs[0].ID != ids[0] {
				t.Errorf("%+v, want the one job", jobs)
			}
		}
	}
	jobs := list("")
	if len(jobs) != len(ids) {
		t.Fatalf("%d jobs, want %d", len(jobs), len(ids))
	}
	for i, j := range jobs {
		if j.ID != ids[i] || j.State != bits.Suspended {
			t.Fatalf("job %d is %+v", i, j)
		}
	}
	if page := list("?limit=2&after=" + ids[3].String()); len(page) != 2 || page[0].ID != ids[4] || page[1].ID != ids[5] {
		t.Errorf("the page is %+v", page)
	}
	if jobs := list("?state=error&state=queued"); len(jobs) != 0 {
		t.Errorf("%d jobs are in states that none is in", len(jobs))
	}
	all := call(as(admin, service), "GET", "/v1/jobs?all_users=true", "")
	if n := len(decode[[]bits.Job](t, all, http.StatusOK)); n != len(ids)+1 {
		t.Errorf("the administrator sees %d jobs, want %d", n, len(ids)+1)
	}
	if jobs := decode[[]bits.Job](t, call(as(admin, service), "GET", "/v1/jobs", ""), http.StatusOK); len(jobs) != 0 {
		t.Errorf("the administrator has %d jobs", len(jobs))
	}
	if p := problemOf(t, call(h, "GET", "/v1/jobs?all_users=true", ""), http.StatusForbidden); p.Code != "E_ACCESSDENIED" {
		t.Errorf("who is no administrator lists the jobs of all users: %+v", p)
	}
	for i, verb := range []string{"cancel", "complete"} { // which end a job, and an ended one is not listed
		decode[bits.Outcome](t, call(h, "POST", "/v1/jobs/"+ids[i].String()+"/"+verb, ""), http.StatusOK)
	}
	if jobs := list(""); len(jobs) != len(ids)-2 || jobs[0].ID != ids[2] {
		t.Errorf("of %d jobs two ended, and %d are listed", len(ids), len(jobs))
	}
}

func TestLifeOfAJob(t *testing.T) {
	h := as(alice, newAPI(t))
	id := made(t, h, "nightly")
	local := filepath.Join(t.TempDir(), "a")
	add := fmt.Sprintf(`[{"remote":"http://127.0.0.1:1/a","local":%q}]`, local)
	if s := decode[bits.Summary](t, call(h, "POST", "/v1/jobs/nightly/files", add), http.StatusOK); s.ID != id {
		t.Errorf("%+v", s)
	}
	decode[bits.Summary](t, call(h, "PATCH", "/v1/jobs/"+id.String()[:8], `{"priority":"LOW","headers":["X-Token: secret"]}`), http.StatusOK)
	w := call(h, "GET", "/v1/jobs/nightly", "")
	j := decode[bits.Job](t, w, http.StatusOK)
	if j.Type != bits.Download || j.Times.Created.IsZero() || j.Times.Modified.Before(j.Times.Created) || j.Times.Transferred != nil {
		t.Errorf("the job is a %s of the times %+v", j.Type, j.Times)
	}
	if j.Priority != bits.Low || len(j.Files) != 1 || j.Files[0].Remote != "http://127.0.0.1:1/a" || j.Files[0].Local != local || len(j.Properties.HeaderNames) != 1 {
		t.Errorf("%+v", j)
	}
	if strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%s shows the value of a header", w.Body)
	}
	if j := decode[bits.Job](t, call(h, "GET", "/v1/jobs/nightly?files=false", ""), http.StatusOK); j.Files != nil {
		t.Errorf("files nobody asked for: %+v", j.Files)
	}
	if o := decode[bits.Outcome](t, call(h, "POST", "/v1/jobs/nightly/cancel", ""), http.StatusOK); o.Code != "S_OK" || o.Job.State != bits.Cancelled {
		t.Errorf("%+v", o)
	}
	p := problemOf(t, call(h, "POST", "/v1/jobs/nightly/suspend", ""), http.StatusConflict)
	if p.Code != "BG_E_INVALID_STATE" || !strings.Contains(p.Detail, "CANCELLED") {
		t.Errorf("%+v", p)
	}
	if s := decode[bits.Service](t, call(h, "GET", "/v1/service", ""), http.StatusOK); s.Version != "test" {
		t.Errorf("%+v", s)
	}
}

// TestCallerIsWhoConnected asks over a real socket, and without a caller.
func TestCallerIsWhoConnected(t *testing.T) {
	h := newAPI(t)
	server := httptest.NewUnstartedServer(h)
	server.Config.ConnContext = WithCaller
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server.Listener.Close()
	server.Listener = l
	server.Start()
	defer server.Close()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	resp, err := c.Post("http://ebb/v1/jobs", "application/json", strings.NewReader(`{"name":"mine"}`))
	if err != nil {
		t.Fatal(err)
	}
	var s bits.Summary
	err = json.NewDecoder(resp.Body).Decode(&s)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s, %v", resp.Status, err)
	}

	me := uint32(os.Geteuid())
	owner := as(queue.Caller{UID: me, Self: me + 1}, h)
	if j := decode[bits.Job](t, call(owner, "GET", "/v1/jobs/mine", ""), http.StatusOK); j.ID != s.ID {
		t.Errorf("%+v, want the job %s", j, s.ID)
	}
	for name, h := range map[string]http.Handler{
		"no caller": h, // nothing put one into the context
		"nobody":    as(queue.Caller{UID: nobody, Self: me}, h),
	} {
		if jobs := decode[[]bits.Job](t, call(h, "GET", "/v1/jobs", ""), http.StatusOK); len(jobs) != 0 {
			t.Errorf("%s sees %+v", name, jobs)
		}
		problemOf(t, call(h, "GET", "/v1/jobs/"+s.ID.String(), ""), http.StatusNotFound)
		problemOf(t, call(h, "GET", "/v1/jobs?all_users=true", ""), http.StatusForbidden)
	}
}

func TestCallerOfAnotherConnectionIsNobody(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who is at the other end")
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if c := callerOf(WithCaller(t.Context(), a)); c.UID != nobody || c.Admin() {
		t.Errorf("%+v", c)
	}
}

// stream opens a stream of events; the returned function reads the next one, as its id line and
// its data.
func stream(t *testing.T, h http.Handler, query string, header ...string) (http.Header, func() (string, bits.Event)) {
	t.Helper()
	server := httptest.NewServer(h)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	req, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		resp.Body.Close()
		server.Close()
	})
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || ct != "text/event-stream" {
		t.Fatalf("%s, %s", resp.Status, ct)
	}
	lines := bufio.NewScanner(resp.Body)
	return resp.Header, func() (id string, e bits.Event) {
		t.Helper()
		var kind string
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				id = value
			case "event":
				kind = value
			case "data":
				if err := json.Unmarshal([]byte(value), &e); err != nil {
					t.Fatal(err)
				}
			case "":
				if kind != string(e.Kind) || id != fmt.Sprint(e.Seq) {
					t.Errorf("the lines %q and %q do not fit %+v", id, kind, e)
				}
				return id, e
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return "", e
	}
}

func TestEvents(t *testing.T) {
	service := newAPI(t)
	h := as(alice, service)
	live, next := stream(t, h, "")
	if got := live.Get("Ebb-Last-Event"); got != "0" {
		t.Errorf("Ebb-Last-Event %q of an empty queue", got)
	}
	first := made(t, h, "first")
	made(t, as(bob, service), "his")
	second := made(t, h, "second")
	id, e := next()
	if e.Job != first || e.Kind != bits.EventAdded {
		t.Errorf("%+v, want the first job", e)
	}
	if _, e := next(); e.Job != second {
		t.Errorf("%+v, want the second job and not another user's", e)
	}

	// A later stream goes on after any event, named in either way.
	for _, c := range []struct{ query, header string }{{"?after=" + id, ""}, {"", id}, {"?after=" + id, "2"}} {
		head, next := stream(t, h, c.query, "Last-Event-ID", c.header)
		if got := head.Get("Ebb-Last-Event"); got != id {
			t.Errorf("%+v: Ebb-Last-Event %q, want %s", c, got, id)
		}
		if _, e := next(); e.Job != second {
			t.Errorf("%+v: %+v, want the second job", c, e)
		}
	}
	// From now on, where no event is named; and only what concerns one job.
	head, fresh := stream(t, h, "")
	if got := head.Get("Ebb-Last-Event"); got == "0" || got == id {
		t.Errorf("Ebb-Last-Event %q, want the newest", got)
	}
	_, only := stream(t, h, "?after="+id+"&job="+first.String())
	decode[bits.Outcome](t, call(h, "POST", "/v1/jobs/second/cancel", ""), http.StatusOK)
	decode[bits.Outcome](t, call(h, "POST", "/v1/jobs/first/cancel", ""), http.StatusOK)
	if _, e := fresh(); e.Job != second || e.State != bits.Cancelled {
		t.Errorf("%+v, want the cancelling of the second job", e)
	}
	if _, e := only(); e.Job != first || e.State != bits.Cancelled {
		t.Errorf("%+v, want the cancelling of the first job", e)
	}
}

// FuzzCreateJob sends anything as a new job: it is made or refused, and nothing breaks.
func FuzzCreateJob(f *testing.F) {
	h := as(alice, newAPI(f))
	for _, body := range []string{
		`{"name":"a"}`, `{"name":"a","files":[{"remote":"http://127.0.0.1:1/a","local":"/d/a","checksum":"sha256:00"}]}`,
		`{"id":"6af46e48-41d3-453f-b7af-a694bbc823f7","name":"a","type":"DOWNLOAD","priority":"low"}`,
		`{"name":null,"files":null,"headers":["A: b"],"connections":-1,"minimum_retry_delay":1e99}`, `null`, `[]`, `{`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if bytes.Contains(bytes.ToLower(body), []byte("resume")) {
			t.Skip() // nothing is to be fetched
		}
		r := httptest.NewRequest("POST", "/v1/jobs", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusCreated {
			s := decode[bits.Summary](t, w, http.StatusCreated)
			decode[bits.Job](t, call(h, "GET", "/v1/jobs/"+s.ID.String(), ""), http.StatusOK)
			_, _ = io.Copy(io.Discard, call(h, "POST", "/v1/jobs/"+s.ID.String()+"/cancel", "").Body)
			return
		}
		if w.Code < 400 || w.Code >= 500 {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		problemOf(t, w, w.Code)
	})
}

// TestOnlyItsOwnUserIsServed holds as long as the service writes all files as one user.
func TestOnlyItsOwnUserIsServed(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for _, c := range []struct {
		caller queue.Caller
		want   int
	}{
		{queue.Caller{UID: 500, Self: 500}, http.StatusNoContent},
		{queue.Caller{UID: 0, Self: 500}, http.StatusNoContent},
		{queue.Caller{UID: 1000, Self: 500}, http.StatusForbidden},
		{queue.Caller{UID: 1000, Self: 0}, http.StatusForbidden},
		{queue.Caller{UID: nobody, Self: 500}, http.StatusForbidden},
	} {
		w := httptest.NewRecorder()
		as(c.caller, OwnUserOnly(next)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/jobs", nil))
		if w.Code != c.want {
			t.Errorf("%+v: %d, want %d", c.caller, w.Code, c.want)
		}
	}
}
