package api

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// TestErrorsOfJobs: what a job ends in, or waits with, and that a resumed job has the chance to end
// otherwise (client.md 3.2, 5).
func TestErrorsOfJobs(t *testing.T) {
	l := newLab(t)
	own := l.server.URL + "/"
	const queue, remote, transport = bits.ContextGeneralQueueManager, bits.ContextRemoteFile, bits.ContextGeneralTransport
	for _, c := range []struct {
		name, remote, file, job string
		state                   bits.State
		code                    string
		context                 bits.Context
	}{
		{"fatal status", own + "missing", "", "", bits.Errored, "BG_E_HTTP_ERROR_404", remote},
		{"transient status", own + "overloaded", "", "", bits.TransientError, "BG_E_HTTP_ERROR_503", remote},
		{"transient, without time", own + "overloaded", "", `,"no_progress_timeout":0`, bits.Errored, "BG_E_HTTP_ERROR_503", remote},
		{"transient, the next attempt too late", own + "overloaded", "", `,"no_progress_timeout":60,"minimum_retry_delay":61`, bits.Errored, "BG_E_HTTP_ERROR_503", remote},
		{"transient, another method", own + "overloaded", "", `,"http_method":"POST"`, bits.Errored, "BG_E_HTTP_ERROR_503", remote},
		{"redirect that is refused", own + "moved", "", `,"security_flags":"redirect-deny"`, bits.Errored, "BG_E_HTTP_ERROR_302", remote},
		{"nobody there", "http://127.0.0.1:1/a", "", "", bits.TransientError, "ERROR_WINHTTP_CANNOT_CONNECT", transport},
		{"proxy that makes no sense", own + "a", "", `,"proxy":{"usage":"OVERRIDE","list":["://"]}`, bits.Errored, "BG_E_INVALID_PROXY_INFO", transport},
		{"server without ranges", own + "whole", `,"ranges":[{"offset":5,"length":5}]`, "", bits.Errored, "BG_E_INSUFFICIENT_RANGE_SUPPORT", remote},
		{"range behind the end", own + "a", `,"ranges":[{"offset":5000,"length":5}]`, "", bits.Errored, "BG_E_INVALID_RANGE", remote},
		{"another range than asked for", own + "odd", `,"ranges":[{"offset":5,"length":5}]`, "", bits.Errored, "BG_E_INVALID_SERVER_RESPONSE", remote},
		{"on demand without ranges", own + "whole", "", `,"on_demand":true`, bits.Errored, "BG_E_RANDOM_ACCESS_NOT_SUPPORTED", remote},
		{"too large", own + "a", "", `,"maximum_download_size":10`, bits.Errored, "BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED", remote},
		{"another content", own + "a", fmt.Sprintf(`,"checksum":"sha256:%064d"`, 0), "", bits.Errored, "BG_E_VALIDATION_FAILED", remote},
		{"too slow", own + "stalls", "", `,"maximum_download_time":1`, bits.Errored, "BG_E_MAXDOWNLOAD_TIMEOUT", queue},
		{"too large for BITS's server", own + "0x80200020", "", `,"type":"UPLOAD"`, bits.Errored, "BG_E_TOO_LARGE", remote},
		{"no common protocol", own + "0x80200022", "", `,"type":"UPLOAD"`, bits.Errored, "BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH", remote},
		{"a directory of programs", own + "0x80200023", "", `,"type":"UPLOAD"`, bits.Errored, "BG_E_SERVER_EXECUTE_ENABLED", remote},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := *l
			l.t = t
			l.made++
			local := filepath.Join(t.TempDir(), "file")
			if strings.Contains(c.job, "UPLOAD") {
				local = l.source()
			}
			w := call(l.h, "POST", "/v1/jobs", fmt.Sprintf(`{"name":"job","priority":"FOREGROUND","resume":true,"files":[{"remote":%q,"local":%q%s}]%s}`, c.remote, local, c.file, c.job))
			id := decode[bits.Summary](t, w, http.StatusCreated).ID
			j := l.wait(id, c.state)
			if j.Error == nil || j.Error.Code != c.code || j.Error.Message == "" || j.Error.Hint == "" || j.Error.Context != c.context {
				t.Errorf("the error is %+v, want %s of %s", j.Error, c.code, c.context)
			}
			if e := decode[bits.ErrorInfo](t, call(l.h, "GET", "/v1/jobs/"+id.String()+"/error", ""), http.StatusOK); e.Code != c.code || e.Context != c.context {
				t.Errorf("asked for it is %+v", e)
			}
			if j.ErrorCount != 1 {
				t.Errorf("there were %d errors", j.ErrorCount)
			}
			if got := word(t, l.post(id, "resume")); got != "ok" {
				t.Errorf("Resume: %s", got)
			}
			for end := time.Now().Add(time.Minute); l.get(id).ErrorCount < 2; time.Sleep(time.Millisecond) { // and fails again
				if time.Now().After(end) {
					t.Fatalf("it was not tried again: %+v", l.get(id))
				}
			}
			l.post(id, "cancel")
		})
	}
	t.Run("what went well in the end", func(t *testing.T) {
		l := *l
		l.t = t
		id := l.create(`"priority":"FOREGROUND","resume":true`, "missing")
		l.wait(id, bits.Errored)
		decode[bits.Outcome](t, l.file(id, "PATCH", "0", fmt.Sprintf(`{"remote":%q}`, l.server.URL+"/a")), http.StatusOK)
		l.post(id, "resume")
		if j := l.wait(id, bits.Transferred); j.ErrorCount != 1 || j.Error != nil { // the errors are counted for good
			t.Errorf("after %d errors it is told of %+v", j.ErrorCount, j.Error)
		}
		l.post(id, "cancel")
	})
	t.Run("every status", func(t *testing.T) {
		l := *l
		l.t = t
		jobs := map[int]bits.ID{}
		for status := range 600 {
			if status >= 300 && http.StatusText(status) != "" { // those below are no errors
				jobs[status] = l.create(`"priority":"FOREGROUND","resume":true`, fmt.Sprint("status?", status))
			}
		}
		for status, id := range jobs {
			code := bits.HTTPStatus(status)
			state := map[bits.Class]bits.State{bits.Fatal: bits.Errored, bits.Transient: bits.TransientError}[code.Class()]
			if j := l.wait(id, state); j.Error.Code != fmt.Sprint("BG_E_HTTP_ERROR_", status) || j.Error.HResult != fmt.Sprintf("0x8019%04X", status) || j.Error.Context != bits.ContextRemoteFile {
				t.Errorf("a server's %d is %+v", status, j.Error)
			}
		}
	})
}

// TestRefusals: calls about a job's files and credentials that are wrong whatever the state is.
func TestRefusals(t *testing.T) {
	l := newLab(t)
	id := l.create(`"priority":"NORMAL"`, "a")
	path := "/v1/jobs/" + id.String()
	file := func(more string) string {
		return fmt.Sprintf(`[{"remote":%q,"local":%q%s}]`, l.server.URL+"/c", filepath.Join(l.dir, "refused"), more)
	}
	credential := func(target, scheme, user, password string) string {
		return fmt.Sprintf(`{"target":%q,"scheme":%q,"user":%q,"password":%q}`, target, scheme, user, password)
	}
	for _, c := range []struct {
		name, method, path, body, want string
	}{
		{"no ranges", "POST", "/files/0/ranges", `[]`, "E_INVALIDARG"},
		{"range that ends nowhere", "POST", "/files", file(`,"ranges":[{"offset":9223372036854775807,"length":5}]`), "BG_E_INVALID_RANGE"},
		{"ranges that overlap", "POST", "/files", file(`,"ranges":[{"offset":5,"length":5},{"offset":9,"length":5}]`), "BG_E_OVERLAPPING_RANGES"},
		{"many ranges", "POST", "/files", file(`,"ranges":[` + strings.Repeat(`{"offset":5,"length":0},`, 100_000) + `{"offset":5,"length":5}]`), "BG_E_TOO_MANY_RANGES_IN_FILE"},
		{"long URL", "POST", "/files", fmt.Sprintf(`[{"remote":%q,"local":"/a"}]`, "http://h/"+strings.Repeat("a", 1<<16)), "E_INVALIDARG"},
		{"empty prefix", "POST", "/replace-prefix", `{"old":"","new":"http://h/"}`, "E_INVALIDARG"},
		{"prefix that makes no URL", "POST", "/replace-prefix", fmt.Sprintf(`{"old":%q,"new":"ftp://h"}`, l.server.URL), "E_INVALIDARG"},
		{"position before the file", "PUT", "/files/0/position", `{"offset":-1}`, "E_INVALIDARG"},
		{"URL of no kind", "PATCH", "/files/0", `{"remote":"ftp://h/a"}`, "E_INVALIDARG"},
		{"target", "DELETE", "/credentials/MOON/BASIC", "", "BG_E_INVALID_AUTH_TARGET"},
		{"scheme", "DELETE", "/credentials/SERVER/MAGIC", "", "BG_E_INVALID_AUTH_SCHEME"},
		{"unknown target", "PUT", "/credentials", credential("MOON", "BASIC", "u", "secret"), "BG_E_INVALID_AUTH_TARGET"},
		{"unknown scheme", "PUT", "/credentials", credential("SERVER", "MAGIC", "u", "secret"), "BG_E_INVALID_AUTH_SCHEME"},
		{"unknown field", "PUT", "/credentials", `{"magic":1}`, "E_INVALIDARG"},
		{"two bodies", "PUT", "/credentials", credential("SERVER", "BASIC", "u", "secret") + "{}", "E_INVALIDARG"},
		{"no body", "PUT", "/credentials", "", "E_INVALIDARG"},
		{"unknown priority", "PATCH", "", `{"priority":"URGENT"}`, "E_NOTIMPL"},
		{"priority without a name", "PATCH", "", `{"priority":"9"}`, "E_NOTIMPL"},
		{"unknown notify flag", "PATCH", "", `{"notify_flags":"error|moon"}`, "E_NOTIMPL"},
		{"unknown security flag", "PATCH", "", `{"security_flags":"moon"}`, "E_NOTIMPL"},
		{"flags as a number", "PATCH", "", `{"security_flags":1}`, "E_INVALIDARG"},
		{"a list as text", "PATCH", "", `{"proxy":{"list":"http://h"}}`, "E_INVALIDARG"},
		{"text as an array", "PATCH", "", `{"description":[]}`, "E_INVALIDARG"},
		{"files as an object", "POST", "/files", `{}`, "E_INVALIDARG"},
		{"a length as text", "POST", "/files", file(`,"ranges":[{"offset":"5","length":5}]`), "E_INVALIDARG"},
		{"unknown ACL flag", "PATCH", "", `{"acl_flags":"moon"}`, "E_INVALIDARG"},
		{"unknown proxy usage", "PATCH", "", `{"proxy":{"usage":"MOON"}}`, "E_NOTIMPL"},
		{"unknown target of stored credentials", "PATCH", "", `{"use_stored_credentials":"MOON"}`, "BG_E_INVALID_AUTH_TARGET"},
		{"no target", "PUT", "/credentials", credential("NONE", "BASIC", "u", "secret"), "BG_E_INVALID_AUTH_TARGET"},
		{"long user", "PUT", "/credentials", credential("SERVER", "BASIC", strings.Repeat("u", 301), "secret"), "BG_E_USERNAME_TOO_LARGE"},
		{"long password", "PUT", "/credentials", credential("SERVER", "BASIC", "u", strings.Repeat("secret", 65536/6+1)), "BG_E_PASSWORD_TOO_LARGE"},
		{"user that cannot be sent", "PUT", "/credentials", credential("SERVER", "BASIC", "u:v", "secret"), "BG_E_INVALID_CREDENTIALS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := call(l.h, c.method, path+c.path, c.body)
			if got := word(t, w); got != c.want {
				t.Errorf("%s, want %s: %.300s", got, c.want, w.Body)
			}
			for _, goes := range []string{"bits.", "unmarshal", "Settings"} { // what it says is about JSON
				if strings.Contains(w.Body.String(), goes) {
					t.Errorf("%s is about Go's types", w.Body)
				}
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%s tells the password", w.Body)
			}
			if j := l.get(id); len(j.Files) != 1 || j.Files[0].Remote != l.server.URL+"/a" || len(j.Properties.Credentials) != 0 {
				t.Errorf("what was refused left %+v", j)
			}
		})
	}
}

// TestLockedProperties: what is fixed once a job had a file, or was resumed, stays so also when the
// job is SUSPENDED again (client.md 1.6, 3.2).
func TestLockedProperties(t *testing.T) {
	l := newLab(t)
	empty := made(t, l.h, "empty")
	if got := word(t, l.give(empty, "high_performance", "true")); got != "ok" {
		t.Errorf("high_performance of a job without files: %s", got)
	}
	again := l.in(bits.Queued)
	decode[bits.Outcome](t, l.post(again, "suspend"), http.StatusOK)
	l.wait(again, bits.Suspended)
	for name, value := range map[string]string{"http_method": "POST", "dynamic_content": "true", "on_demand": "true", "maximum_download_size": "5"} {
		if got := word(t, l.give(again, name, value)); got != "BG_E_READ_ONLY_PROPERTY_AFTER_RESUME" {
			t.Errorf("%s of a job that was resumed: %s", name, got)
		}
	}
	id := l.create(`"priority":"NORMAL"`, "a")
	decode[bits.Summary](t, l.addRanges(id), http.StatusOK)
	before := l.get(id)
	local := made(t, l.h, "of this machine")
	decode[bits.Summary](t, call(l.h, "POST", "/v1/jobs/"+local.String()+"/files", fmt.Sprintf(`[{"remote":"file:///etc/hostname","local":%q}]`, filepath.Join(l.dir, "hostname"))), http.StatusOK)
	for _, c := range []struct {
		job        bits.ID
		body, want string
	}{
		{id, `{"name":"refused","dynamic_content":true}`, "BG_E_UNSUPPORTED_JOB_CONFIGURATION"},
		{id, `{"name":"refused","http_method":"POST"}`, "BG_E_NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD"},
		{local, `{"name":"refused","on_demand":true}`, "BG_E_RANDOM_ACCESS_NOT_SUPPORTED"},
	} {
		if got := word(t, l.set(c.job, c.body)); got != c.want {
			t.Errorf("%s of a job with ranges, or with a file of this machine: %s", c.body, got)
		}
	}
	// The next change of the job has nothing of what was refused either.
	decode[bits.Summary](t, l.set(id, `{"description":"changed"}`), http.StatusOK)
	if j := l.get(id); j.Name != before.Name || j.Properties.DynamicContent || j.Properties.HTTPMethod != "" || j.Priority != bits.Normal {
		t.Errorf("what was refused left %+v", j)
	}
}

// TestFilesThatStay: a job ends though a part file cannot be deleted, and says so.
func TestFilesThatStay(t *testing.T) {
	l := newLab(t)
	for verb, state := range map[string]bits.State{"cancel": bits.Cancelled, "complete": bits.Acknowledged} {
		id := l.create(`"priority":"FOREGROUND","connections":1,"resume":true`, "a", "stalls")
		part := ""
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // the first is here, the second not
			j := l.get(id)
			if j.Progress.FilesTransferred == 1 && j.Files[1].BytesTransferred > 0 {
				part = j.Files[1].Temporary
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%+v", l.get(id))
			}
		}
		decode[bits.Outcome](t, l.post(id, "suspend"), http.StatusOK)
		if err := errors.Join(os.Remove(part), os.MkdirAll(filepath.Join(part, "kept"), 0o700)); err != nil {
			t.Fatal(err)
		}
		if got := word(t, l.post(id, verb)); got != "BG_S_UNABLE_TO_DELETE_FILES" {
			t.Errorf("%s: %s", verb, got)
		}
		// What was here is in its place after Complete, and gone after Cancel.
		if j := l.wait(id, state); exists(j.Files[0].Local) != (state == bits.Acknowledged) || j.Files[0].Completed != (state == bits.Acknowledged) || exists(j.Files[1].Local) {
			t.Errorf("%s left %+v", verb, j.Files)
		}
	}
}
