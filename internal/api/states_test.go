package api

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/queue"
)

// columns are the states in the order of client.md 3.2.
var columns = []bits.State{bits.Suspended, bits.Queued, bits.Connecting, bits.Transferring, bits.TransientError, bits.Errored, bits.Transferred, bits.Acknowledged, bits.Cancelled}

// lab makes jobs of any state: real transfers, with a server that answers as each state needs.
type lab struct {
	t      *testing.T
	h      http.Handler
	other  http.Handler // the same service, to another administrator
	server *httptest.Server
	dir    string
	made   int
}

func newLab(t *testing.T) *lab {
	rules := policy.Default()
	rules.Jobs.Background, rules.Jobs.Foreground = 1, 1000
	rules.Jobs.MaxPerUser, rules.Jobs.MaxPerMachine = 1<<20, 1<<20
	l := &lab{t: t, dir: t.TempDir()}
	end := make(chan struct{})
	stall := func(r *http.Request) {
		select {
		case <-end: // the end of a connection is not seen while its request's body is unread
		case <-r.Context().Done():
		}
	}
	l.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content := bytes.Repeat([]byte("ebb"), 1000)
		w.Header().Set("ETag", `"1"`)
		switch filepath.Base(r.URL.Path) {
		case "missing":
			w.WriteHeader(http.StatusNotFound)
		case "overloaded":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "status": // that the query names
			status, _ := strconv.Atoi(r.URL.RawQuery)
			w.WriteHeader(status)
		case "silent":
			stall(r)
		case "moved":
			http.Redirect(w, r, "/a", http.StatusFound)
		case "whole": // whatever part is asked for
			_, _ = w.Write(content)
		case "odd": // another part
			w.Header().Set("Content-Range", "bytes 7-9/3000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[7:10])
		case "0x80200020", "0x80200022", "0x80200023": // what a server of BITS says
			w.Header().Set("BITS-Packet-Type", "Ack")
			w.Header().Set("BITS-Error", filepath.Base(r.URL.Path))
			w.WriteHeader(http.StatusForbidden)
		case "stalls":
			if r.Header.Get("BITS-Packet-Type") == "Create-Session" {
				acknowledge(w, r, "")
				return
			}
			if r.Method == http.MethodPut || r.Method == "BITS_POST" {
				_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
				stall(r)
				return
			}
			w.Header().Set("Content-Length", "1000000")
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 0-999999/1000000")
			}
			_, _ = w.Write(content)
			_ = http.NewResponseController(w).Flush()
			stall(r)
		default:
			if r.Method == "BITS_POST" {
				acknowledge(w, r, map[bool]string{true: "/stalls", false: "/answer"}[filepath.Base(r.URL.Path) == "late"])
				return
			}
			if r.Method == http.MethodPut {
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusCreated)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}
	}))
	t.Cleanup(l.server.Close)
	t.Cleanup(func() { close(end) })
	self := uint32(os.Getuid())
	service := newAPIBy(t, configuration(t, ""), rules)
	l.h, l.other = as(queue.Caller{UID: self, Self: self}, l.noTrace(service)), as(queue.Caller{UID: self + 1, Self: self + 1}, l.noTrace(service))
	l.wait(l.create(`"priority":"HIGH","resume":true`, "stalls"), bits.Transferring) // keeps those below in QUEUED
	return l
}

// noTrace lets each call that is refused prove that it left the job as it was.
func (l *lab) noTrace(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/") // "", "v1", "jobs", id, ...
		if r.Method == http.MethodGet || len(parts) < 4 || parts[2] != "jobs" || strings.HasSuffix(r.URL.Path, "/complete") {
			h.ServeHTTP(w, r) // what Complete placed before it failed stays there
			return
		}
		look := func() (j bits.Job, ok bool) {
			get, seen := httptest.NewRequest(http.MethodGet, strings.Join(parts[:4], "/"), nil).WithContext(r.Context()), httptest.NewRecorder()
			h.ServeHTTP(seen, get)
			ok = seen.Code == http.StatusOK && json.Unmarshal(seen.Body.Bytes(), &j) == nil
			return j, ok
		}
		before, ok := look()
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
		if !ok || answer.Code < 400 {
			return
		}
		after, _ := look()
		for _, j := range []*bits.Job{&before, &after} { // what changes by itself in a job that is under way
			if j.State.Action() || j.State == bits.TransientError || before.State != after.State {
				j.State, j.Times, j.Error, j.ErrorCount, j.Progress, j.Reply, j.Pace, j.Note = 0, bits.Times{}, nil, 0, bits.Progress{}, nil, nil, ""
				for i := range j.Files {
					f := &j.Files[i]
					f.BytesTotal, f.BytesTransferred, f.Completed, f.Temporary, f.Protocol, f.Source, f.Note = 0, 0, false, "", "", "", ""
				}
			}
		}
		for _, j := range []*bits.Job{&before, &after} {
			for i := range j.Files {
				if j.State == bits.Errored { // the transfer that failed leaves a moment later, and its part file with it
					j.Files[i].Temporary = ""
				}
			}
		}
		if !reflect.DeepEqual(before, after) {
			l.t.Errorf("%s %s was refused with %s and changed\n%+v\ninto\n%+v", r.Method, r.URL.Path, answer.Body, before, after)
		}
	})
}

// acknowledge answers a packet of an upload by BITS; the reply is there when the file is.
func acknowledge(w http.ResponseWriter, r *http.Request, reply string) {
	h := w.Header()
	h.Set("BITS-Packet-Type", "Ack")
	h.Set("BITS-Session-Id", "{7df0354d-0000-430f-820d-3d2a9bef4931}")
	switch r.Header.Get("BITS-Packet-Type") {
	case "Create-Session":
		h.Set("BITS-Protocol", "{7df0354d-249b-430f-820d-3d2a9bef4931}")
	case "Fragment":
		_, _ = io.Copy(io.Discard, r.Body)
		var first, last, size int64
		_, _ = fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size)
		h.Set("BITS-Received-Content-Range", fmt.Sprint(last+1))
		if last+1 == size {
			h.Set("BITS-Reply-URL", reply)
		}
	}
}

// create makes a download of the files that the server has under the names.
func (l *lab) create(more string, names ...string) bits.ID {
	l.t.Helper()
	l.made++
	var files []string
	for i, n := range names {
		files = append(files, fmt.Sprintf(`{"remote":%q,"local":%q}`, l.server.URL+"/"+n, filepath.Join(l.dir, fmt.Sprintf("%d-%d", l.made, i))))
	}
	w := call(l.h, "POST", "/v1/jobs", fmt.Sprintf(`{"name":"job %d","files":[%s],%s}`, l.made, strings.Join(files, ","), more))
	return decode[bits.Summary](l.t, w, http.StatusCreated).ID
}

// in makes a download of two files that is in a state.
func (l *lab) in(s bits.State) bits.ID {
	l.t.Helper()
	switch s {
	case bits.Suspended:
		return l.create(`"priority":"NORMAL"`, "a", "b")
	case bits.Queued:
		return l.create(`"priority":"NORMAL","resume":true`, "a", "b")
	case bits.Acknowledged, bits.Cancelled:
		id := l.in(bits.Transferred)
		verb := map[bits.State]string{bits.Acknowledged: "complete", bits.Cancelled: "cancel"}[s]
		decode[bits.Outcome](l.t, l.post(id, verb), http.StatusOK)
		l.wait(id, s)
		return id
	}
	file := map[bits.State]string{bits.Connecting: "silent", bits.Transferring: "stalls", bits.TransientError: "overloaded", bits.Errored: "missing", bits.Transferred: "a"}[s]
	id := l.create(`"priority":"FOREGROUND","connections":1,"resume":true`, file, "b")
	l.wait(id, s)
	return id
}

// upload makes an upload that is in a state.
func (l *lab) upload(s bits.State) bits.ID { return l.uploadOf("UPLOAD", "put", s) }

// replied makes an upload with a reply that is in a state.
func (l *lab) replied(s bits.State) bits.ID { return l.uploadOf("UPLOAD_REPLY", "bits", s) }

func (l *lab) uploadOf(kind, protocol string, s bits.State) bits.ID {
	l.t.Helper()
	if s.Final() {
		id := l.uploadOf(kind, protocol, bits.Transferred)
		decode[bits.Outcome](l.t, l.post(id, map[bits.State]string{bits.Acknowledged: "complete", bits.Cancelled: "cancel"}[s]), http.StatusOK)
		l.wait(id, s)
		return id
	}
	file := map[bits.State]string{bits.Suspended: "a", bits.Queued: "a", bits.Connecting: "silent", bits.Transferring: "stalls", bits.TransientError: "overloaded", bits.Errored: "missing", bits.Transferred: "a"}[s]
	id := l.uploadTo(kind, protocol, file, s)
	l.wait(id, s)
	return id
}

// uploadTo makes an upload that is to come to a state.
func (l *lab) uploadTo(kind, protocol, file string, s bits.State) bits.ID {
	l.t.Helper()
	priority := bits.Foreground
	if s == bits.Queued || s == bits.Suspended { // which stays QUEUED once it is resumed
		priority = bits.Normal
	}
	l.made++
	w := call(l.h, "POST", "/v1/jobs", fmt.Sprintf(`{"name":"upload %d","type":%q,"protocol":%q,"priority":%q,"resume":%t,"files":[{"remote":%q,"local":%q}]}`,
		l.made, kind, protocol, priority, s != bits.Suspended, l.server.URL+"/"+file, l.source()))
	return decode[bits.Summary](l.t, w, http.StatusCreated).ID
}

// source returns a file to upload.
func (l *lab) source() string {
	l.t.Helper()
	name := filepath.Join(l.dir, "source")
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if err := os.WriteFile(name, make([]byte, 64<<20), 0o600); err != nil { // more than sockets hold
		l.t.Fatal(err)
	}
	return name
}

func (l *lab) post(id bits.ID, verb string) *httptest.ResponseRecorder {
	return call(l.h, "POST", "/v1/jobs/"+id.String()+"/"+verb, "{}")
}

func (l *lab) get(id bits.ID) bits.Job {
	l.t.Helper()
	return decode[bits.Job](l.t, call(l.h, "GET", "/v1/jobs/"+id.String(), ""), http.StatusOK)
}

// wait returns the job once it is in a state.
func (l *lab) wait(id bits.ID, s bits.State) bits.Job {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		j := l.get(id)
		if j.State == s {
			return j
		}
		if time.Now().After(end) {
			l.t.Fatalf("the job is %s (%+v), want %s", j.State, j.Error, s)
		}
	}
}

// word is the answer to a call in one word: the code, or "ok".
func word(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	if w.Code < 400 {
		var o struct{ Code string }
		if _ = json.Unmarshal(w.Body.Bytes(), &o); o.Code != "" && o.Code != "S_OK" && strings.HasPrefix(o.Code, "BG_S_") {
			return o.Code
		}
		return "ok"
	}
	var p bits.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	return p.Code
}

const inv = "BG_E_INVALID_STATE"

// repeat writes a word for the next n states.
func repeat(word string, n int) []string { return slices.Repeat([]string{word}, n) }

// came waits until a job is what a word says that a call makes of it: "=" what it was before the
// call, "again" tried again, which ends as before, or the name of another state.
func (l *lab) came(before *bits.Job, word string) bits.State {
	l.t.Helper()
	switch word {
	case "=":
		if j := l.wait(before.ID, before.State); j.ErrorCount != before.ErrorCount {
			l.t.Errorf("in %s the call made the job fail again", before.State)
		}
		return before.State
	case "again":
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if j := l.get(before.ID); j.State == before.State && j.ErrorCount == before.ErrorCount+1 {
				return j.State
			}
			if time.Now().After(end) {
				l.t.Fatalf("the job was not tried again, which was in %s", before.State)
			}
		}
	}
	var s bits.State
	if err := s.UnmarshalText([]byte(word)); err != nil {
		l.t.Fatal(err)
	}
	l.wait(before.ID, s)
	return s
}

// TestStateByMethod is client.md 3.2 through the API, a real job for each cell. after says what
// became of the job (came), with one word for each state that is not final.
func TestStateByMethod(t *testing.T) {
	l := newLab(t)
	always := slices.Concat(repeat("ok", 7), repeat(inv, 2))
	certificate := l.certificate()
	const changed = "= = = = again = =" // what failed may work now
	for _, c := range []struct {
		method string
		call   func(bits.ID) *httptest.ResponseRecorder
		want   []string
		after  string
	}{
		{"Suspend", func(id bits.ID) *httptest.ResponseRecorder { return l.post(id, "suspend") },
			slices.Concat(repeat("ok", 7), repeat(inv, 2)), "= SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED ="},
		{"Resume", func(id bits.ID) *httptest.ResponseRecorder { return l.post(id, "resume") },
			slices.Concat(repeat("ok", 7), repeat(inv, 2)), "QUEUED = = = again again ="},
		{"Cancel", func(id bits.ID) *httptest.ResponseRecorder {
			before, w := l.get(id), l.post(id, "cancel")
			for _, f := range before.Files {
				if !before.State.Final() && exists(f.Local) || f.Temporary != "" && exists(f.Temporary) {
					t.Errorf("cancelled in %s it left something of %+v", before.State, f)
				}
			}
			return w
		},
			slices.Concat(repeat("ok", 7), repeat(inv, 2)), strings.Repeat("CANCELLED ", 7)},
		{"Complete", func(id bits.ID) *httptest.ResponseRecorder {
			before, w := l.get(id), l.post(id, "complete")
			for i, f := range l.get(id).Files { // what was here is in its place, and nothing else
				got, err := os.ReadFile(f.Local)
				if !before.State.Final() && (f.Completed != (len(got) == 3000) || f.Completed != (err == nil) || before.State == bits.Transferred && !f.Completed) {
					t.Errorf("completed in %s it left %d bytes of %+v: %v", before.State, len(got), f, err)
				}
				if part := before.Files[i].Temporary; part != "" && exists(part) {
					t.Errorf("completed in %s it left %s", before.State, part)
				}
			}
			return w
		},
			slices.Concat(repeat("BG_S_PARTIAL_COMPLETE", 6), []string{"ok"}, repeat(inv, 2)), strings.Repeat("ACKNOWLEDGED ", 7)},
		{"AddFile", func(id bits.ID) *httptest.ResponseRecorder { return l.adds(id, "/c") }, always, "= = = = = = ="},
		{"AddFileSet", func(id bits.ID) *httptest.ResponseRecorder {
			set := fmt.Sprintf(`[{"remote":%q,"local":%q},{"remote":"ftp://h/d","local":"/d"}]`, l.server.URL+"/c", filepath.Join(l.dir, id.String()))
			if got := word(t, call(l.h, "POST", "/v1/jobs/"+id.String()+"/files", set)); got == "ok" { // and leaves none, which noTrace looks for
				t.Error("a set with a wrong file is taken")
			}
			return l.adds(id, "/c", "/d")
		}, always, "= = = = = = ="},
		{"GetCustomHeaders", func(id bits.ID) *httptest.ResponseRecorder {
			return call(l.h, "GET", "/v1/jobs/"+id.String()+"/headers", "")
		}, repeat("ok", 9), "= = = = = = ="},
		{"GetError", func(id bits.ID) *httptest.ResponseRecorder {
			return call(l.h, "GET", "/v1/jobs/"+id.String()+"/error", "")
		}, slices.Concat(repeat("BG_E_ERROR_INFORMATION_UNAVAILABLE", 4), repeat("ok", 2), repeat("BG_E_ERROR_INFORMATION_UNAVAILABLE", 3)), "= = = = = = ="},
		{"GetReplyData of a download", func(id bits.ID) *httptest.ResponseRecorder {
			return call(l.h, "GET", "/v1/jobs/"+id.String()+"/reply", "")
		}, repeat("E_NOTIMPL", 9), "= = = = = = ="},
		{"SetReplyFileName of a download", func(id bits.ID) *httptest.ResponseRecorder {
			return l.set(id, `{"reply_file":"/tmp/reply"}`)
		}, repeat("E_NOTIMPL", 9), "= = = = = = ="},
		{"AddFileWithRanges", func(id bits.ID) *httptest.ResponseRecorder { return l.addRanges(id) }, always, "= = = = = = ="},
		{"SetRemoteName", func(id bits.ID) *httptest.ResponseRecorder {
			return l.file(id, "PATCH", "1", fmt.Sprintf(`{"remote":%q}`, l.server.URL+"/c"))
		}, always, changed},
		{"SetRemoteName of another host", func(id bits.ID) *httptest.ResponseRecorder {
			return l.file(id, "PATCH", "1", `{"remote":"http://host.invalid/c"}`)
		}, always, changed},
		{"ReplaceRemotePrefix", func(id bits.ID) *httptest.ResponseRecorder { return l.replacePrefix(id) }, always, changed},
		{"RequestFileRanges", func(id bits.ID) *httptest.ResponseRecorder {
			return l.file(id, "POST", "0/ranges", `[{"offset":10,"length":10}]`)
		}, always, "= = = = = = ="},
		{"UpdateDownloadPosition", func(id bits.ID) *httptest.ResponseRecorder {
			return l.file(id, "PUT", "0/position", `{"offset":10}`)
		}, always, "= = = = = = ="},
		{"SetValidationState to true", func(id bits.ID) *httptest.ResponseRecorder {
			return l.file(id, "PUT", "0/validated", `{"validated":true}`)
		}, slices.Concat(repeat("E_PENDING", 6), []string{"ok"}, repeat(inv, 2)), "= = = = = = ="},
		{"SetValidationState to false", func(id bits.ID) *httptest.ResponseRecorder {
			return l.file(id, "PUT", "0/validated", `{"validated":false}`)
		}, slices.Concat(repeat("E_PENDING", 6), []string{"ok"}, repeat(inv, 2)), "= = = = = = ERROR"},
		{"skip a file", func(id bits.ID) *httptest.ResponseRecorder { return l.file(id, "PATCH", "1", `{"skipped":true}`) }, always, changed},
		{"remove a file", func(id bits.ID) *httptest.ResponseRecorder { return l.file(id, "DELETE", "1", "") }, always, changed},
		{"a file that is not there", func(id bits.ID) *httptest.ResponseRecorder {
			return l.file(id, "PUT", "9/position", `{"offset":10}`)
		}, repeat("ERROR_FILE_NOT_FOUND", 9), "= = = = = = ="},
		{"GetFilledFileRanges", func(id bits.ID) *httptest.ResponseRecorder { return l.file(id, "GET", "0", "") }, repeat("ok", 9), "= = = = = = ="},
		{"SetCredentials", func(id bits.ID) *httptest.ResponseRecorder {
			return call(l.h, "PUT", "/v1/jobs/"+id.String()+"/credentials", `{"target":"SERVER","scheme":"BASIC","user":"u","password":"p"}`)
		}, always, "= = = = = = ="},
		{"RemoveCredentials", func(id bits.ID) *httptest.ResponseRecorder {
			return call(l.h, "DELETE", "/v1/jobs/"+id.String()+"/credentials/SERVER/BASIC", "")
		}, always, "= = = = = = ="},
		{"SetClientCertificate", func(id bits.ID) *httptest.ResponseRecorder {
			return call(l.h, "PUT", "/v1/jobs/"+id.String()+"/certificate", certificate)
		}, always, "= = = = = = ="},
		{"RemoveClientCertificate", func(id bits.ID) *httptest.ResponseRecorder {
			return call(l.h, "DELETE", "/v1/jobs/"+id.String()+"/certificate", "")
		}, always, "= = = = = = ="},
		{"TakeOwnership", func(id bits.ID) *httptest.ResponseRecorder {
			return call(l.other, "POST", "/v1/jobs/"+id.String()+"/own", "")
		}, always, "= = = = = = ="},
		{"a getter", func(id bits.ID) *httptest.ResponseRecorder {
			return call(l.h, "GET", "/v1/jobs/"+id.String(), "")
		}, repeat("ok", 9), "= = = = = = ="},
	} {
		t.Run(c.method, func(t *testing.T) {
			l := *l
			l.t = t
			after := append(strings.Fields(c.after), "=", "=")
			for i, s := range columns {
				before := l.get(l.in(s))
				got := word(t, c.call(before.ID))
				if got != c.want[i] {
					t.Errorf("in %s: %s, want %s", s, got, c.want[i])
				}
				if !l.came(&before, after[i]).Final() {
					l.post(before.ID, "cancel")
				}
			}
		})
	}
	for kind, protocol := range map[string]string{"UPLOAD": "put", "UPLOAD_REPLY": "bits"} {
		t.Run(kind, func(t *testing.T) {
			l := *l
			l.t = t
			for i, s := range columns {
				for _, c := range []struct{ verb, after string }{
					{"suspend", "= SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED ="},
					{"resume", "QUEUED = = = again again ="},
					{"cancel", strings.Repeat("CANCELLED ", 7)},
				} {
					before := l.get(l.uploadOf(kind, protocol, s))
					id := before.ID
					wrong := slices.Concat(repeat("BG_E_ERROR_INFORMATION_UNAVAILABLE", 4), repeat("ok", 2), repeat("BG_E_ERROR_INFORMATION_UNAVAILABLE", 3))[i]
					if got := word(t, call(l.h, "GET", "/v1/jobs/"+id.String()+"/error", "")); got != wrong {
						t.Errorf("GetError in %s: %s, want %s", s, got, wrong)
					}
					if got := word(t, call(l.h, "GET", "/v1/jobs/"+id.String()+"/headers", "")); got != "ok" {
						t.Errorf("GetCustomHeaders in %s: %s", s, got)
					}
					if got := word(t, l.post(id, c.verb)); got != always[i] {
						t.Errorf("%s in %s: %s, want %s", c.verb, s, got, always[i])
					}
					if !l.came(&before, append(strings.Fields(c.after), "=", "=")[i]).Final() {
						l.post(id, "cancel")
					}
				}
			}
		})
	}
	t.Run("Resume in TRANSFERRED with new files", func(t *testing.T) {
		l := *l
		l.t = t
		id := l.in(bits.Transferred)
		add := fmt.Sprintf(`[{"remote":%q,"local":%q}]`, l.server.URL+"/c", filepath.Join(l.dir, "new"))
		decode[bits.Summary](t, call(l.h, "POST", "/v1/jobs/"+id.String()+"/files", add), http.StatusOK)
		if j := l.get(id); j.State != bits.Transferred || len(j.Files) != 3 || j.Files[2].BytesTransferred != 0 {
			t.Errorf("with a new file the job is %+v", j)
		}
		if sum := decode[bits.Summary](t, l.post(id, "resume"), http.StatusOK); sum.State != bits.Queued {
			t.Errorf("the resumed job is %s", sum.State)
		}
		if j := l.wait(id, bits.Transferred); j.Files[2].BytesTransferred != 3000 {
			t.Errorf("the new file was not fetched: %+v", j.Files[2])
		}
		l.post(id, "cancel")
	})
	t.Run("Complete of an upload", func(t *testing.T) {
		l := *l
		l.t = t
		for i, s := range columns {
			id := l.upload(s)
			want := slices.Concat(repeat(inv, 6), []string{"ok"}, repeat(inv, 2))[i]
			if got := word(t, l.post(id, "complete")); got != want {
				t.Errorf("in %s: %s, want %s", s, got, want)
			}
			if s == bits.Transferred {
				l.wait(id, bits.Acknowledged)
				continue
			}
			l.wait(id, s)
			if got := word(t, call(l.h, "POST", "/v1/jobs/"+id.String()+"/files", fmt.Sprintf(`[{"remote":%q,"local":%q}]`, l.server.URL+"/c", l.source()))); got != map[bool]string{false: "BG_E_TOO_MANY_FILES", true: inv}[s.Final()] {
				t.Errorf("a second file in %s: %s", s, got)
			}
			if !s.Final() {
				l.post(id, "cancel")
			}
		}
	})
	t.Run("files of an upload", func(t *testing.T) {
		l := *l
		l.t = t
		for _, kind := range []string{"UPLOAD", "UPLOAD_REPLY"} {
			id := decode[bits.Summary](t, call(l.h, "POST", "/v1/jobs", fmt.Sprintf(`{"name":"two at once","type":%q}`, kind)), http.StatusCreated).ID
			two := fmt.Sprintf(`[{"remote":%[1]q,"local":%[2]q},{"remote":%[1]q,"local":%[2]q}]`, l.server.URL+"/c", l.source())
			if got := word(t, call(l.h, "POST", "/v1/jobs/"+id.String()+"/files", two)); got != "BG_E_TOO_MANY_FILES" { // and noTrace finds none
				t.Errorf("two files at once for an %s: %s", kind, got)
			}
		}
		for _, s := range columns {
			id := l.upload(s)
			random := map[bool]string{false: "BG_E_RANDOM_ACCESS_NOT_SUPPORTED", true: inv}[s.Final()]
			for _, c := range []struct {
				method string
				answer *httptest.ResponseRecorder
				want   string
			}{
				{"AddFileWithRanges", l.addRanges(id), "E_NOTIMPL"},
				{"SetRemoteName", l.file(id, "PATCH", "0", fmt.Sprintf(`{"remote":%q}`, l.server.URL+"/c")), "E_NOTIMPL"},
				{"ReplaceRemotePrefix", l.replacePrefix(id), "E_NOTIMPL"},
				{"skip", l.file(id, "PATCH", "0", `{"skipped":true}`), "E_NOTIMPL"},
				{"remove", l.file(id, "DELETE", "0", ""), "E_NOTIMPL"},
				{"RequestFileRanges", l.file(id, "POST", "0/ranges", `[{"offset":10,"length":10}]`), random},
				{"UpdateDownloadPosition", l.file(id, "PUT", "0/position", `{"offset":10}`), random},
				{"GetReplyData", call(l.h, "GET", "/v1/jobs/"+id.String()+"/reply", ""), "E_NOTIMPL"},
				{"SetReplyFileName", l.set(id, `{"reply_file":"/tmp/reply"}`), "E_NOTIMPL"},
			} {
				if got := word(t, c.answer); got != c.want {
					t.Errorf("%s in %s: %s, want %s", c.method, s, got, c.want)
				}
			}
			l.wait(id, s)
			if !s.Final() {
				l.post(id, "cancel")
			}
		}
	})
	t.Run("the protocol of an upload", func(t *testing.T) {
		l := *l
		l.t = t
		const late = "BG_E_READ_ONLY_PROPERTY_AFTER_RESUME" // a server may have something of it
		for i, s := range columns {
			want := []string{"ok", "ok", late, late, "ok", "ok", late, inv, inv}[i]
			for _, c := range []struct {
				kind, from, to string
			}{{"UPLOAD", "put", "tus"}, {"UPLOAD_REPLY", "bits", "auto"}} {
				id := l.uploadOf(c.kind, c.from, s)
				if got := word(t, l.set(id, fmt.Sprintf(`{"protocol":%q}`, c.to))); got != want {
					t.Errorf("%s in %s: %s, want %s", c.kind, s, got, want)
				}
				shown := c.from
				if want == "ok" && c.kind == "UPLOAD" { // a reply comes with one only, which auto is then
					shown = c.to
				}
				if j := l.wait(id, s); string(j.Properties.Protocol) != shown {
					t.Errorf("%s in %s has the protocol %s, want %s", c.kind, s, j.Properties.Protocol, shown)
				}
				if !s.Final() {
					l.post(id, "cancel")
				}
			}
		}
	})
	t.Run("replies", func(t *testing.T) {
		l := *l
		l.t = t
		check := func(method string, s bits.State, w *httptest.ResponseRecorder, want string) {
			t.Helper()
			if got := word(t, w); got != want {
				t.Errorf("%s in %s: %s, want %s", method, s, got, want)
			}
		}
		read := func(id bits.ID) *httptest.ResponseRecorder {
			return call(l.h, "GET", "/v1/jobs/"+id.String()+"/reply", "")
		}
		name := func(id bits.ID) *httptest.ResponseRecorder {
			return l.set(id, fmt.Sprintf(`{"reply_file":%q}`, filepath.Join(l.dir, id.String())))
		}
		for i, s := range columns {
			id := l.replied(s)
			check("GetReplyData", s, read(id), slices.Concat(repeat(inv, 6), repeat("ok", 2), []string{inv})[i])
			generated := l.get(id).Reply.File
			if filepath.Dir(generated) != filepath.Dir(l.source()) { // beside the file that is uploaded
				t.Errorf("in %s the reply is to go to %q", s, generated)
			}
			check("SetReplyFileName", s, name(id), slices.Concat(repeat("ok", 6), repeat(inv, 3))[i])
			j := l.wait(id, s)
			// GetReplyProgress: the size is not known before the reply comes.
			done := s == bits.Transferred || s.Final()
			if j.Reply == nil || (j.Reply.BytesTotal == bits.Unknown) == done || j.Reply.BytesTransferred != map[bool]int64{true: 3000}[done] {
				t.Errorf("in %s the reply is %+v", s, j.Reply)
			}
			if want := map[bool]string{false: filepath.Join(l.dir, id.String()), true: generated}[done]; j.Reply.File != want {
				t.Errorf("in %s the reply goes to %q, want %q", s, j.Reply.File, want)
			}
			if !s.Final() {
				l.post(id, "cancel")
			}
		}
		// Once the reply comes its file has its name, whatever becomes of the job (client.md 1.5).
		id := l.uploadTo("UPLOAD_REPLY", "bits", "late", bits.Transferring)
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if j := l.get(id); j.State == bits.Transferring && j.Reply.BytesTotal != bits.Unknown {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("no reply comes: %+v", l.get(id))
			}
		}
		check("SetReplyFileName once the reply comes", bits.Transferring, name(id), inv)
		check("GetReplyData", bits.Transferring, read(id), inv)
		l.post(id, "cancel")
	})
	t.Run("Resume without files", func(t *testing.T) {
		id := made(t, l.h, "empty")
		if got := word(t, l.post(id, "resume")); got != "BG_E_EMPTY" {
			t.Errorf("%s, want BG_E_EMPTY", got)
		}
	})
}

// certificate returns the body of a call that gives a job a certificate.
func (l *lab) certificate() string {
	l.t.Helper()
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	c := srv.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		l.t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	body, err := json.Marshal(bits.ClientCertificateFile{PEM: text})
	if err != nil {
		l.t.Fatal(err)
	}
	return string(body)
}

// file makes a call about a file of a job.
func (l *lab) file(id bits.ID, method, path, body string) *httptest.ResponseRecorder {
	return call(l.h, method, "/v1/jobs/"+id.String()+"/files/"+path, body)
}

// adds adds files with one call, and checks that they are the job's last or, if they are refused, not there.
func (l *lab) adds(id bits.ID, remote ...string) *httptest.ResponseRecorder {
	l.t.Helper()
	before := l.get(id).Files
	var set []string
	local := func(i int) string { return filepath.Join(l.dir, fmt.Sprint(id, "-", i)) }
	for i, r := range remote {
		set = append(set, fmt.Sprintf(`{"remote":%q,"local":%q}`, l.server.URL+r, local(i)))
	}
	w := call(l.h, "POST", "/v1/jobs/"+id.String()+"/files", "["+strings.Join(set, ",")+"]")
	after := l.get(id).Files
	if w.Code >= 400 {
		if len(after) != len(before) {
			l.t.Errorf("what was refused left %+v", after)
		}
		return w
	}
	if len(after) != len(before)+len(remote) {
		l.t.Fatalf("of %d files and %d more there are %+v", len(before), len(remote), after)
	}
	for i, f := range after[len(before):] {
		if f.Remote != l.server.URL+remote[i] || f.Local != local(i) {
			l.t.Errorf("file %d of %q is %+v", i, remote, f)
		}
	}
	return w
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (l *lab) addRanges(id bits.ID) *httptest.ResponseRecorder {
	return call(l.h, "POST", "/v1/jobs/"+id.String()+"/files", fmt.Sprintf(`[{"remote":%q,"local":%q,"ranges":[{"offset":0,"length":10}]}]`, l.server.URL+"/c", filepath.Join(l.dir, id.String())))
}

func (l *lab) replacePrefix(id bits.ID) *httptest.ResponseRecorder {
	return call(l.h, "POST", "/v1/jobs/"+id.String()+"/replace-prefix", fmt.Sprintf(`{"old":%q,"new":%q}`, l.server.URL+"/b", l.server.URL+"/c"))
}

func (l *lab) set(id bits.ID, body string) *httptest.ResponseRecorder {
	return call(l.h, "PATCH", "/v1/jobs/"+id.String(), body)
}

// give sets a property by its text form, as `ebb set` does.
func (l *lab) give(id bits.ID, name, value string) *httptest.ResponseRecorder {
	l.t.Helper()
	var s bits.Settings
	if err := s.Set(name, value); err != nil {
		l.t.Fatal(err)
	}
	body, err := json.Marshal(s)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.set(id, string(body))
}

// TestPropertyByState sets each property of a download and of an upload in each state through the API, reads it
// back, and reads it unchanged where it was refused. Client.md 1.5, 1.6, 1.9, 3.2.
func TestPropertyByState(t *testing.T) {
	l := newLab(t)
	always := slices.Concat(repeat("ok", 7), repeat(inv, 2))
	resumed := slices.Concat([]string{"ok"}, repeat("BG_E_READ_ONLY_PROPERTY_AFTER_RESUME", 6), repeat(inv, 2))
	want := map[string][]string{
		"http_method": resumed, "dynamic_content": resumed, "on_demand": resumed, "maximum_download_size": resumed,
		"high_performance":    slices.Concat(repeat("BG_E_READ_ONLY_PROPERTY_AFTER_ADDFILE", 7), repeat(inv, 2)),
		"acl_flags":           slices.Concat(repeat("ok", 6), repeat(inv, 3)),
		"verify_certificates": slices.Concat(repeat("ok", 1), repeat("BG_E_READ_ONLY_WHEN_JOB_ACTIVE", 4), repeat("ok", 2), repeat(inv, 2)),
		"protocol":            repeat("E_NOTIMPL", 9),
		"reply_file":          repeat("E_NOTIMPL", 9),
	}
	values := map[string]string{
		"name": "another name", "priority": "LOW", "auto_complete": "true", "description": "text", "minimum_retry_delay": "900", "no_progress_timeout": "100000", "maximum_download_time": "86400", "connections": "7",
		"transfer_policy": "always", "run_when": "logged-on", "protocol": "put", "reply_file": "/tmp/reply", "header": "X-A: b", "headers_write_only": "true",
		"http_method": "POST", "security_flags": "redirect-report", "tls_min_version": "1.2", "tls_pins": "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "proxy": "no-proxy",
		"use_stored_credentials": "PROXY", "notify_flags": "disable", "notify_command": "/bin/true 'a b'", "notify_url": "https://hook.invalid/", "notify_desktop": "true",
		"minimum_notification_interval": "1000", "dynamic_content": "true", "high_performance": "true", "on_demand": "true", "maximum_download_size": "1000000000",
		"only_if_newer": "true", "verify_certificates": "true", "acl_flags": "owner|group", "peer_caching_flags": "disable-branchcache",
	}
	sent, words := maps.Clone(want), maps.Clone(values) // of an upload
	for _, name := range []string{"dynamic_content", "high_performance", "on_demand", "maximum_download_size", "only_if_newer"} {
		sent[name] = slices.Concat(repeat("BG_E_PROPERTY_SUPPORTED_FOR_DOWNLOAD_JOBS_ONLY", 7), repeat(inv, 2))
	}
	const late = "BG_E_READ_ONLY_PROPERTY_AFTER_RESUME" // a server may have something of it
	sent["protocol"] = []string{"ok", "ok", late, late, "ok", "ok", late, inv, inv}
	words["protocol"] = "auto" // which goes with a method of the job's own
	for i, s := range columns {
		of := func(t *testing.T, make func(*lab, bits.State) bits.ID, want map[string][]string, values map[string]string) {
			l := *l
			l.t = t
			id := make(&l, s)
			for k := range bits.PropertyTable {
				p := &bits.PropertyTable[k]
				id := id
				if p.Name == "auto_complete" && s == bits.Transferred {
					id = make(&l, s) // for it is completed
				}
				before := l.wait(id, s) // a change may have made the transfer start again
				value, ok := values[p.Name]
				if !ok {
					t.Fatalf("this test has no value for %s", p.Name)
				}
				expected := always
				if w, ok := want[p.Name]; ok {
					expected = w
				}
				if value == p.Text(&before) {
					t.Errorf("%s is %q already", p.Name, value)
				}
				got := word(t, l.give(id, p.Name, value))
				if got != expected[i] {
					t.Errorf("%s: %s, want %s", p.Name, got, expected[i])
				}
				after := l.get(id)
				shown := p.Text(&after)
				if p.Name == "header" {
					value, _, _ = strings.Cut(value, ":")
				}
				switch {
				case got == "ok" && shown != value:
					t.Errorf("%s is %q, want %q", p.Name, shown, value)
				case got != "ok" && shown != p.Text(&before):
					t.Errorf("%s is refused and is %q", p.Name, shown)
				}
				if got == "ok" && (p.Name == "priority" || p.Name == "run_when") { // with which the job may wait
					l.give(id, p.Name, p.Text(&before))
				}
				if got == "ok" && p.When == bits.MethodSetBeforeResume { // they do not all go together
					l.give(id, p.Name, p.Default)
				}
			}
			if !s.Final() {
				l.post(id, "cancel")
			}
		}
		t.Run(s.String(), func(t *testing.T) {
			t.Run("download", func(t *testing.T) { of(t, (*lab).in, want, values) })
			t.Run("upload", func(t *testing.T) { of(t, (*lab).upload, sent, words) })
		})
	}
}

// TestPropertyErrors: what is refused, and how, whatever the state is.
func TestPropertyErrors(t *testing.T) {
	l := newLab(t)
	upload := func(kind string) bits.ID {
		w := call(l.h, "POST", "/v1/jobs", fmt.Sprintf(`{"name":"up","type":%q}`, kind))
		return decode[bits.Summary](t, w, http.StatusCreated).ID
	}
	jobs := map[string]func() bits.ID{
		"download": func() bits.ID { return l.create(`"priority":"NORMAL"`, "a") },
		"upload":   func() bits.ID { return upload("UPLOAD") },
		"reply":    func() bits.ID { return upload("UPLOAD_REPLY") },
	}
	long, longer := strings.Repeat("a", 5000), strings.Repeat("a", 32<<10+1)
	for _, c := range []struct {
		kind, first, body string
		want              bits.Code
	}{
		{"download", "", `{"name":""}`, bits.InvalidArg},
		{"download", "", `{"name":"` + long[:257] + `"}`, bits.StringTooLong},
		{"download", "", `{"description":"` + long[:1025] + `"}`, bits.StringTooLong},
		{"download", "", `{"connections":0}`, bits.InvalidArg},
		{"download", "", `{"minimum_retry_delay":-1}`, bits.InvalidArg},
		{"download", "", `{"minimum_retry_delay":4294967296}`, bits.InvalidArg},
		{"download", "", `{"no_progress_timeout":4294967296}`, bits.InvalidArg},
		{"download", "", `{"maximum_download_time":-2}`, bits.InvalidArg},
		{"download", "", `{"transfer_policy":"0x100"}`, bits.InvalidArg},
		{"download", "", `{"transfer_policy":"0x80000000"}`, bits.InvalidArg},
		{"download", "", `{"notify_flags":"0x40"}`, bits.NotImplemented},
		{"download", "", `{"notify_flags":"loud"}`, bits.NotImplemented},
		{"download", "", `{"minimum_notification_interval":4294967296}`, bits.InvalidArg},
		{"download", "", `{"minimum_notification_interval":-1}`, bits.InvalidArg},
		{"download", "", `{"notify_command":["true"]}`, bits.InvalidArg},
		{"download", "", `{"notify_command":["","a"]}`, bits.InvalidArg},
		{"download", "", `{"notify_command":["/bin/true","` + long[:4001] + `"]}`, bits.StringTooLong},
		{"download", "", `{"notify_command":["/` + long + `"]}`, bits.StringTooLong},
		{"download", "", `{"notify_url":"ftp://h/"}`, bits.InvalidArg},
		{"download", "", `{"notify_url":"https://u:secret@h/"}`, bits.InvalidArg},
		{"download", "", `{"proxy":{"usage":"4"}}`, bits.NotImplemented},
		{"download", "", `{"proxy":{"usage":"OVERRIDE"}}`, bits.InvalidArg},
		{"download", "", `{"proxy":{"usage":"NO_PROXY","list":["http://p"]}}`, bits.InvalidArg},
		{"download", "", `{"proxy":{"usage":"AUTODETECT","bypass":["h"]}}`, bits.InvalidArg},
		{"download", "", `{"proxy":{"usage":"OVERRIDE","list":["http://u:secret@p"]}}`, bits.InvalidArg},
		{"download", "", `{"proxy":{"usage":"OVERRIDE","list":["` + longer[1:] + `"]}}`, bits.OK},
		{"download", "", `{"proxy":{"usage":"OVERRIDE","list":["` + longer + `"]}}`, bits.ProxyListTooLarge},
		{"download", "", `{"proxy":{"usage":"OVERRIDE","list":["p"],"bypass":["` + longer + `"]}}`, bits.ProxyBypassListTooLarge},
		{"download", "", `{"security_flags":"0x20"}`, bits.NotImplemented},
		{"download", "", `{"security_flags":"0x300"}`, bits.NotImplemented},
		{"download", "", `{"security_flags":"0x400"}`, bits.NotImplemented},
		{"download", "", `{"tls_min_version":"0.9"}`, bits.InvalidArg},
		{"download", "", `{"tls_pins":["sha256/AAAA"]}`, bits.InvalidArg},
		{"download", "", `{"http_method":"GET IT"}`, bits.InvalidArg},
		{"download", "", `{"http_method":"CONNECT"}`, bits.InvalidArg},
		{"download", "", `{"maximum_download_size":-1}`, bits.MaxDownloadSizeInvalid},
		{"download", "", `{"maximum_download_size":9223372036854775807}`, bits.OK},
		{"download", "", `{"maximum_download_size":18446744073709551615}`, bits.OK}, // BG_SIZE_UNKNOWN
		{"download", "", `{"maximum_download_size":18446744073709551616}`, bits.InvalidArg},
		{"download", "", `{"acl_flags":"16"}`, bits.InvalidArg},
		{"download", "", `{"peer_caching_flags":"8"}`, bits.InvalidArg},
		{"download", "", `{"use_stored_credentials":"SERVER"}`, bits.StoredCredentialsUnsupported},
		{"download", "", `{"run_when":"never"}`, bits.InvalidArg},
		{"download", "", `{"headers":["Range: bytes=0-"]}`, bits.InvalidArg},
		{"download", "", `{"headers":["X: ` + strings.Repeat("a", 1<<14) + `"]}`, bits.StringTooLong},
		{"download", "", `{"protocol":"put"}`, bits.NotImplemented},
		{"download", "", `{"reply_file":"/tmp/r"}`, bits.NotImplemented},
		{"upload", "", `{"reply_file":"/tmp/r"}`, bits.NotImplemented},
		{"reply", "", `{"reply_file":"r"}`, bits.InvalidArg},
		{"reply", "", `{"protocol":"tus"}`, bits.InvalidArg},
		{"upload", "", `{"dynamic_content":true}`, bits.DownloadJobsOnly},
		{"upload", "", `{"high_performance":true}`, bits.DownloadJobsOnly},
		{"reply", "", `{"maximum_download_size":5}`, bits.DownloadJobsOnly},
		{"upload", "", `{"on_demand":true}`, bits.DownloadJobsOnly},
		{"upload", "", `{"only_if_newer":true}`, bits.DownloadJobsOnly},
		{"upload", "", `{"http_method":"POST"}`, bits.OK},
		{"reply", "", `{"http_method":"POST"}`, bits.OK},
		{"upload", "", `{"http_method":"bits_post","priority":"LOW"}`, bits.OK},
		{"upload", `{"http_method":"POST"}`, `{"http_method":"BITS_POST","priority":"LOW"}`, bits.OK},
		{"upload", "", `{"http_method":"GET"}`, bits.InvalidArg},
		{"upload", "", `{"http_method":"HEAD"}`, bits.InvalidArg},
		{"upload", "", `{"http_method":"POST","priority":"LOW"}`, bits.NotWithCustomMethod},
		{"upload", `{"http_method":"POST"}`, `{"priority":"LOW"}`, bits.NotWithCustomMethod},
		{"upload", `{"http_method":"POST"}`, `{"protocol":"put"}`, bits.OK},
		{"upload", `{"http_method":"POST"}`, `{"protocol":"auto"}`, bits.OK},
		{"upload", `{"http_method":"POST"}`, `{"protocol":"tus"}`, bits.NotWithCustomMethod},
		{"upload", `{"protocol":"ietf"}`, `{"http_method":"POST"}`, bits.NotWithCustomMethod},
		{"upload", "", `{"protocol":"s3","http_method":"POST"}`, bits.NotWithCustomMethod},
		{"download", "", `{"http_method":"get","priority":"LOW"}`, bits.OK},
		{"download", "", `{"http_method":"BITS_POST","priority":"LOW"}`, bits.NotWithCustomMethod}, // which is not the usual one of a download
		{"download", `{"headers_write_only":true}`, `{"headers_write_only":false}`, bits.ReadOnlyProperty},
		{"download", `{"dynamic_content":true}`, `{"on_demand":true}`, bits.UnsupportedConfiguration},
		{"download", `{"dynamic_content":true}`, `{"http_method":"POST"}`, bits.NotWithCustomMethod},
		{"download", `{"http_method":"POST"}`, `{"dynamic_content":true}`, bits.NotWithCustomMethod},
		{"download", `{"http_method":"POST"}`, `{"on_demand":true}`, bits.NotWithCustomMethod},
		{"download", `{"http_method":"POST"}`, `{"priority":"LOW"}`, bits.NotWithCustomMethod},
		{"download", `{"http_method":"POST"}`, `{"priority":"FOREGROUND"}`, bits.OK},
		{"download", "", `{"http_method":"POST","priority":"LOW"}`, bits.NotWithCustomMethod},
		{"download", "", `{"colour":"red"}`, bits.InvalidArg},
	} {
		t.Run(c.kind+c.first+c.body[:min(len(c.body), 60)], func(t *testing.T) {
			id := jobs[c.kind]()
			if c.first != "" {
				decode[bits.Summary](t, l.set(id, c.first), http.StatusOK)
			}
			before := l.get(id)
			w := l.set(id, c.body)
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%s tells the password", w.Body)
			}
			if c.want == bits.OK {
				decode[bits.Summary](t, w, http.StatusOK)
				return
			}
			if got := word(t, w); got != c.want.Name() {
				t.Errorf("%s, want %s", w.Body, c.want.Name())
			}
			after := l.get(id)
			for i := range bits.PropertyTable {
				if p := &bits.PropertyTable[i]; p.Text(&before) != p.Text(&after) {
					t.Errorf("a refused change left %s at %q", p.Name, p.Text(&after))
				}
			}
		})
	}
}

// TestCustomMethodIsForeground: client.md 1.9.
func TestCustomMethodIsForeground(t *testing.T) {
	l := newLab(t)
	id := l.create(`"priority":"LOW"`, "a")
	decode[bits.Summary](t, l.set(id, `{"http_method":"POST"}`), http.StatusOK)
	if j := l.get(id); j.Priority != bits.Foreground || j.Properties.HTTPMethod != "POST" {
		t.Errorf("%s, %+v", j.Priority, j.Properties)
	}
}

// TestOwnersOnly: what not even an administrator sets (client.md 1.4).
func TestOwnersOnly(t *testing.T) {
	service := newAPI(t)
	id := made(t, as(alice, service), "hers")
	for _, body := range []string{`{"headers":["A: b"]}`, `{"headers_write_only":true}`} {
		if got := word(t, call(as(admin, service), "PATCH", "/v1/jobs/"+id.String(), body)); got != "E_ACCESSDENIED" {
			t.Errorf("an administrator sets %s: %s", body, got)
		}
		if got := word(t, call(as(alice, service), "PATCH", "/v1/jobs/"+id.String(), body)); got != "ok" {
			t.Errorf("the owner sets %s: %s", body, got)
		}
	}
	if got := word(t, call(as(admin, service), "PATCH", "/v1/jobs/"+id.String(), `{"priority":"LOW"}`)); got != "ok" {
		t.Errorf("an administrator changes the priority: %s", got)
	}
}

// TestMinimumRetryDelay: the least that there is, and that a job waits so long. Client.md 1.5.
func TestMinimumRetryDelay(t *testing.T) {
	l := newLab(t)
	for given, kept := range map[int64]int64{1: 5, 5: 5, 7200: 7200} {
		id := l.create(`"priority":"FOREGROUND"`, "overloaded")
		decode[bits.Summary](t, l.set(id, fmt.Sprintf(`{"minimum_retry_delay":%d}`, given)), http.StatusOK)
		if j := l.get(id); j.Properties.MinimumRetryDelay != kept {
			t.Errorf("the delay is %d s, want %d", j.Properties.MinimumRetryDelay, kept)
		}
		resumed := time.Now()
		l.post(id, "resume")
		j := l.wait(id, bits.TransientError)
		if least := resumed.Add(time.Duration(kept) * time.Second); j.Times.RetryAt == nil || j.Times.RetryAt.Before(least) {
			t.Errorf("the job is tried again at %v, want %v at the earliest", j.Times.RetryAt, least)
		}
		l.post(id, "cancel")
	}
}

func TestDescribeError(t *testing.T) {
	h := as(alice, newAPI(t))
	for _, c := range []struct{ target, want string }{
		{"/v1/errors/0x80200013", "BG_E_INSUFFICIENT_RANGE_SUPPORT"},
		{"/v1/errors/BG_E_HTTP_ERROR_404?context=remote_file&language=en", "BG_E_HTTP_ERROR_404"},
	} {
		text := decode[bits.ErrorText](t, call(h, "GET", c.target, ""), http.StatusOK)
		if text.Code != c.want || text.Message == "" || text.Hint == "" || text.ContextMessage == "" {
			t.Errorf("%s: %+v", c.target, text)
		}
	}
	for target, want := range map[string]bits.Code{"/v1/errors/x": bits.InvalidArg, "/v1/errors/0x80200013?language=de": bits.LanguageNotFound, "/v1/errors/0x80200013?context=moon": bits.InvalidArg} {
		if p := problemOf(t, call(h, "GET", target, ""), http.StatusUnprocessableEntity); p.Code != want.Name() {
			t.Errorf("%s: %+v", target, p)
		}
	}
}
