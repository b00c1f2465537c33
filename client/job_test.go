package client_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// TestGettersAndSetters reads each property of a new job by its getter, which tells the default of
// client.md 1.5, 1.6 and 1.9, sets it by its setter and reads it again, as a program ported from BITS
// does, with a real service between.
func TestGettersAndSetters(t *testing.T) {
	ctx := t.Context()
	m := client.New(socket)
	defer m.Close()
	j, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: new("one by one")}})
	if err != nil {
		t.Fatal(err)
	}
	reply := filepath.Join(dir, "an answer")
	uploads := map[string]bits.Type{"Protocol": bits.Upload, "ReplyFileName": bits.UploadReply}
	values := map[string]any{
		"Name": "two by two", "Description": "what", "Priority": bits.High, "MinimumRetryDelay": 90 * time.Second, "NoProgressTimeout": time.Duration(0),
		"MaximumDownloadTime": time.Hour, "Connections": 3, "AutoComplete": true, "TransferPolicy": bits.TransferNotRoaming, "Protocol": bits.ProtocolAuto,
		"ReplyFileName": reply, "NotifyFlags": bits.NotifyDisable, "NotifyURL": "https://hook.example.org/x", "NotifyDesktop": true,
		"SecurityFlags": bits.SecurityCRLCheck | bits.SecurityRedirectDeny, "TLSMinVersion": "1.3", "HTTPMethod": "POST", "DynamicContent": true,
		"HighPerformance": true, "OnDemand": true, "MaximumDownloadSize": bits.SizeLimit(1 << 40), "FileACLFlags": bits.ACLAll, "PeerCachingFlags": bits.PeerDisableBranch,
		"UseStoredCredentials": bits.TargetProxy, "RunWhen": bits.RunLoggedOn, "OnlyIfNewer": true, "VerifyCertificates": true, "MinimumNotificationInterval": 2 * time.Second,
		"NotifyCommand": []string{"/bin/true", "a b"}, "TLSPins": []string{"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
		"ProxySettings": bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{"http://p:3128"}, Bypass: []string{"*.example.org", "<local>"}},
	}
	defaults := map[string]any{
		"Name": "one by one", "Description": "", "Priority": bits.Normal, "MinimumRetryDelay": 600 * time.Second, "NoProgressTimeout": 1209600 * time.Second,
		"MaximumDownloadTime": 7776000 * time.Second, "Connections": 16, "AutoComplete": false, "TransferPolicy": bits.TransferDefault, "Protocol": bits.ProtocolBITS,
		"ReplyFileName": "", "NotifyFlags": bits.NotifyTransferred | bits.NotifyError, "NotifyURL": "", "NotifyDesktop": false,
		"SecurityFlags": bits.SecurityFlags(0), "TLSMinVersion": "", "HTTPMethod": "GET", "DynamicContent": false,
		"HighPerformance": false, "OnDemand": false, "MaximumDownloadSize": bits.SizeLimit(0), "FileACLFlags": bits.ACLFlags(0), "PeerCachingFlags": bits.PeerFlags(0),
		"UseStoredCredentials": bits.TargetNone, "RunWhen": bits.RunAlways, "OnlyIfNewer": false, "VerifyCertificates": false, "MinimumNotificationInterval": 500 * time.Millisecond,
		"NotifyCommand": []string(nil), "TLSPins": []string(nil), "ProxySettings": bits.ProxySettings{Usage: bits.ProxyPreconfig},
	}
	left := bits.Settings{Options: bits.Options{HTTPMethod: new(""), DynamicContent: new(false), OnDemand: new(false)}}
	get := func(j *client.Job, name string) (any, any) {
		out := reflect.ValueOf(j).MethodByName(name).Call([]reflect.Value{reflect.ValueOf(ctx)})
		return out[0].Interface(), out[1].Interface()
	}
	properties := map[string]*client.Job{} // by name, with a job that has it
	for i := range reflect.TypeOf(j).NumMethod() {
		name, ok := strings.CutPrefix(reflect.TypeOf(j).Method(i).Name, "Set")
		if !ok || name == "" || name == "CustomHeaders" || name == "Certificate" {
			continue
		}
		if reflect.ValueOf(j).Method(i).Type().NumIn() != 2 || !reflect.ValueOf(j).MethodByName(name).IsValid() {
			continue // not of a property of jobs
		}
		properties[name] = j
		if kind, ok := uploads[name]; ok {
			up, err := m.Create(ctx, bits.NewJob{Type: kind, Settings: bits.Settings{Name: new("up")}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _, _ = up.Cancel(context.WithoutCancel(ctx)) }()
			if got, err := up.Type(ctx); err != nil || got != kind {
				t.Errorf("the type is %s, want %s: %v", got, kind, err)
			}
			properties[name] = up
		}
		if got, err := get(properties[name], name); err != nil || !reflect.DeepEqual(got, defaults[name]) {
			t.Errorf("%s of a new job is %#v, want %#v: %v", name, got, defaults[name], err)
		}
	}
	if got, err := j.Type(ctx); err != nil || got != bits.Download {
		t.Errorf("the type is %s: %v", got, err)
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		to := properties[name]
		v, ok := values[name]
		if !ok {
			t.Errorf("this test has no value for Set%s", name)
			continue
		}
		args := []reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(v)}
		var out []reflect.Value
		if set := reflect.ValueOf(to).MethodByName("Set" + name); set.Type().IsVariadic() {
			out = set.CallSlice(args)
		} else {
			out = set.Call(args)
		}
		if err, _ := out[0].Interface().(error); err != nil {
			t.Errorf("Set%s: %v", name, err)
		}
		if reflect.DeepEqual(v, defaults[name]) {
			t.Errorf("%s is set to what it is", name)
		}
		if got, err := get(to, name); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("%s is %v, want %v: %v", name, got, v, err)
		}
		if err := j.Set(ctx, left); err != nil { // these do not go together
			t.Fatal(err)
		}
	}
	if err := j.SetCustomHeaders(ctx, "A: b", "C: d"); err != nil {
		t.Error(err)
	}
	if got, err := j.CustomHeaderNames(ctx); err != nil || !slices.Equal(got, []string{"A", "C"}) {
		t.Errorf("headers %v, %v", got, err)
	}
	if err := j.MakeCustomHeadersWriteOnly(ctx); err != nil {
		t.Error(err)
	}
	if err := j.Set(ctx, bits.Settings{Options: bits.Options{HeadersWriteOnly: new(false)}}); !errors.Is(err, &bits.Error{Code: bits.ReadOnlyProperty}) {
		t.Errorf("headers are no longer write-only: %v", err)
	}
	if p, err := properties["ReplyFileName"].ReplyProgress(ctx); err != nil || p.BytesTotal != bits.Unknown || p.BytesTransferred != 0 || p.File != reply {
		t.Errorf("the reply of a job that has none yet is %+v, %v", p, err)
	}
	if _, err := j.ReplyProgress(ctx); !errors.Is(err, &bits.Error{Code: bits.NotImplemented}) {
		t.Errorf("a download has a reply: %v", err)
	}
	if owner, err := j.Owner(ctx); err != nil || owner == "" {
		t.Errorf("owner %q, %v", owner, err)
	}

	// A handle stays readable after the end.
	if _, err := j.Cancel(ctx); err != nil {
		t.Fatal(err)
	}
	if s, err := j.State(ctx); err != nil || s != bits.Cancelled {
		t.Errorf("state %s, %v", s, err)
	}
	if n, err := j.Name(ctx); err != nil || n != "two by two" {
		t.Errorf("name %q, %v", n, err)
	}
	if err := j.SetDescription(ctx, "late"); !errors.Is(err, &bits.Error{Code: bits.InvalidState}) {
		t.Errorf("a cancelled job is changed: %v", err)
	}
}

// TestNewJob: what CreateJob makes, and refuses. Client.md 1.2.
func TestNewJob(t *testing.T) {
	ctx := t.Context()
	m := client.New(socket)
	defer m.Close()
	ids := map[bits.ID]bool{}
	for _, kind := range []bits.Type{bits.Download, bits.Upload, bits.UploadReply} {
		j, err := m.Create(ctx, bits.NewJob{Type: kind, Settings: bits.Settings{Name: new("not unique")}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = j.Cancel(context.WithoutCancel(ctx)) }()
		ids[j.ID] = true
		info, err := j.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if info.ID != j.ID || info.Name != "not unique" || info.Type != kind || info.State != bits.Suspended || info.Priority != bits.Normal || len(info.Files) != 0 ||
			info.Progress != (bits.Progress{}) || info.ErrorCount != 0 || info.Error != nil {
			t.Errorf("the new job is %+v", info)
		}
	}
	if len(ids) != 3 {
		t.Errorf("three jobs have the ids %v", ids)
	}
	for what, spec := range map[string]bits.NewJob{
		"no name":       {},
		"a name of 257": {Settings: bits.Settings{Name: new(strings.Repeat("n", 257))}},
		"no such type":  {Type: 3, Settings: bits.Settings{Name: new("x")}},
	} {
		if j, err := m.Create(ctx, spec); !errors.Is(err, &bits.Error{Code: bits.InvalidArg}) {
			t.Errorf("%s: %v, %v", what, j, err)
		}
	}
	j, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: new(strings.Repeat("é", 256))}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = j.Cancel(ctx)
}

// TestTimes: when a job was made, changed and transferred. Client.md 1.10.
func TestTimes(t *testing.T) {
	ctx := t.Context()
	m := client.New(socket)
	defer m.Close()
	before := time.Now().Add(-time.Second) // for the clock of files and that of processes may differ by a tick
	j, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: new("timed"), Priority: new(bits.Foreground)}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = j.Cancel(context.WithoutCancel(ctx)) }()
	now := func() bits.Times {
		t.Helper()
		times, err := j.Times(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return times
	}
	made := now()
	if made.Created.Before(before) || made.Created.After(time.Now().Add(time.Second)) || made.Modified.Before(made.Created) || made.Transferred != nil || made.Created.Location() != time.UTC {
		t.Errorf("a new job has the times %+v", made)
	}
	last := made
	for _, c := range []struct {
		what   string
		change func() error
	}{
		{"a property was set", func() error { return j.SetDescription(ctx, "changed") }},
		{"a file was added", func() error {
			return j.AddFiles(ctx, bits.FileSpec{Remote: origin + "hello.txt", Local: filepath.Join(dir, "timed.txt")})
		}},
		{"it was transferred", func() error {
			if err := j.Resume(ctx); err != nil {
				return err
			}
			_, err := j.Wait(ctx)
			return err
		}},
		{"it was completed", func() error { _, err := j.Complete(ctx); return err }},
	} {
		if err := c.change(); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		times := now()
		if !times.Modified.After(last.Modified) || !times.Created.Equal(made.Created) {
			t.Errorf("after %s the times are %+v, before %+v", c.what, times, last)
		}
		last = times
	}
	if done := last.Transferred; done == nil || done.Before(made.Modified) || !done.Before(last.Modified) {
		t.Errorf("the times of a completed job are %+v", last)
	}
}

// TestCustomHeaders: they are in every request of the job until they are replaced or removed. Client.md 1.9.
func TestCustomHeaders(t *testing.T) {
	ctx := t.Context()
	m := client.New(socket)
	defer m.Close()
	var mu sync.Mutex
	asked := map[string][]string{} // the headers of the requests for each path
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.URL.Path] = append(asked[r.URL.Path], fmt.Sprintf("%q %q", r.Header["X-One"], r.Header["X-Two"]))
		mu.Unlock()
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/end", http.StatusFound)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(strings.Repeat("ebb", 100_000)))
	}))
	defer srv.Close()
	j, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: new("with headers"), Priority: new(bits.Foreground)}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = j.Cancel(context.WithoutCancel(ctx)) }()
	none := fmt.Sprintf("%q %q", []string(nil), []string(nil))
	for i, c := range []struct {
		headers []string
		want    string
	}{
		{nil, none},
		{[]string{"X-One: 1", "X-Two: two words"}, `["1"] ["two words"]`},
		{[]string{"X-Two: 2"}, fmt.Sprintf(`%q ["2"]`, []string(nil))},
		{[]string{}, none},
	} {
		if c.headers != nil {
			if err := j.SetCustomHeaders(ctx, c.headers...); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := j.Headers(ctx); err != nil || !slices.Equal(got, c.headers) {
			t.Errorf("the headers are %q, want %q: %v", got, c.headers, err)
		}
		var files []bits.FileSpec
		for _, path := range []string{"/whole", "/moved", "/parts"} {
			files = append(files, bits.FileSpec{Remote: srv.URL + path, Local: filepath.Join(dir, fmt.Sprint("headers", i, path[1:]))})
		}
		files[2].Ranges = []bits.Range{{Offset: 10, Length: 10}, {Offset: 200_000, Length: 10}}
		if err := j.AddFiles(ctx, files...); err != nil {
			t.Fatal(err)
		}
		if err := j.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		if info, err := j.Wait(ctx); err != nil || info.State != bits.Transferred {
			t.Fatalf("%+v, %v", info, err)
		}
		mu.Lock()
		for _, path := range []string{"/whole", "/moved", "/end", "/parts"} {
			if len(asked[path]) == 0 || slices.ContainsFunc(asked[path], func(got string) bool { return got != c.want }) {
				t.Errorf("with the headers %q %s is asked for with %q", c.headers, path, asked[path])
			}
		}
		clear(asked)
		mu.Unlock()
	}
}

// TestEventsOfFiles: each file of a download is told of before the job's end, and of an upload the answer alone. Client.md 7.1.
func TestEventsOfFiles(t *testing.T) {
	ctx := t.Context()
	m := client.New(socket)
	defer m.Close()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		kind  bits.Type
		files []bits.FileSpec
		want  []string
	}{
		{bits.Download, []bits.FileSpec{{Remote: origin + "hello.txt", Local: in("told 1")}, {Remote: origin + "world.txt", Local: in("told 2")}}, []string{in("told 1"), in("told 2")}},
		{bits.Upload, []bits.FileSpec{{Remote: target + "told", Local: in("hello.txt")}}, nil},
		{bits.UploadReply, []bits.FileSpec{{Remote: target + "told and answered", Local: in("hello.txt")}}, []string{in("told answer")}},
	} {
		spec := bits.NewJob{Type: c.kind, Settings: bits.Settings{Name: new("of files")}, Files: c.files, Resume: true}
		if c.kind == bits.UploadReply {
			spec.ReplyFile = new(in("told answer"))
		}
		j, err := m.Create(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = j.Cancel(context.WithoutCancel(ctx)) }()
		var told []string
		for e, err := range m.Watch(ctx, client.Filter{Job: []bits.ID{j.ID}, After: 1}) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == bits.EventFile {
				told = append(told, e.File.Local)
			}
			if e.Kind == bits.EventTransferred || e.Kind == bits.EventError {
				break
			}
		}
		slices.Sort(told) // the files of a job may come side by side
		if !slices.Equal(told, c.want) {
			t.Errorf("of an %s the files %q are told of, want %q", c.kind, told, c.want)
		}
	}
}

// TestErrorObject: the error of a job, and its texts. Client.md 1.8.
func TestErrorObject(t *testing.T) {
	ctx := t.Context()
	m := client.New(socket)
	defer m.Close()
	url := origin + "missing.txt"
	j, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: new("fails")}, Files: []bits.FileSpec{{Remote: url, Local: filepath.Join(dir, "none")}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = j.Cancel(context.WithoutCancel(ctx)) }()
	if _, err := j.Error(ctx); !errors.Is(err, &bits.Error{Code: bits.ErrorInfoUnavailable}) {
		t.Errorf("a suspended job has the error %v", err)
	}
	if err := j.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if info, err := j.Wait(ctx); err != nil || info.State != bits.Errored {
		t.Fatalf("%+v, %v", info, err)
	}
	e, err := j.Error(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if e.Code != "BG_E_HTTP_ERROR_404" || e.HResult != "0x80190194" || e.Context != bits.ContextRemoteFile || !strings.Contains(e.Message, "404") || e.Hint == "" {
		t.Errorf("%+v", e)
	}
	if e.ContextMessage != "the error occurred while the file on the server was used" {
		t.Errorf("the context is %q", e.ContextMessage)
	}
	if p, err := e.GetProtocol(); p != "http" || err != nil {
		t.Errorf("protocol %q, %v", p, err)
	}
	if f, err := e.GetFile(); f != url || err != nil {
		t.Errorf("file %q, %v", f, err)
	}
	text, err := m.ErrorText(ctx, e.Err().Code, e.Context, "en-US")
	if err != nil || text.Code != e.Code || !strings.Contains(text.Message, "404") || text.ContextMessage != e.ContextMessage || text.Hint == "" {
		t.Errorf("%+v, %v", text, err)
	}
	for _, c := range []struct {
		what, remote string
		set          bits.Options
		protocol     string
		file         bool
	}{
		{"a file of this machine", "file://" + filepath.Join(dir, "missing.txt"), bits.Options{}, "file", true},
		{"a proxy that is none", origin + "hello.txt", bits.Options{Proxy: &bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{"://"}}}, "", false},
	} {
		j, err := m.Create(ctx, bits.NewJob{Resume: true, Settings: bits.Settings{Name: new("fails too"), Options: c.set}, Files: []bits.FileSpec{{Remote: c.remote, Local: filepath.Join(dir, "none")}}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = j.Cancel(context.WithoutCancel(ctx)) }()
		if info, err := j.Wait(ctx); err != nil || info.State != bits.Errored {
			t.Fatalf("%s: %+v, %v", c.what, info, err)
		}
		e, err := j.Error(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := e.GetProtocol(); p != c.protocol || (p == "") != errors.Is(err, &bits.Error{Code: bits.ProtocolNotAvailable}) {
			t.Errorf("%s: protocol %q, %v of %+v", c.what, p, err, e)
		}
		if f, err := e.GetFile(); (f == c.remote) != c.file || c.file == errors.Is(err, &bits.Error{Code: bits.FileNotAvailable}) {
			t.Errorf("%s: file %q, %v of %+v", c.what, f, err, e)
		}
	}
	if _, err := m.ErrorText(ctx, bits.NotFound, bits.ContextNone, "de"); !errors.Is(err, &bits.Error{Code: bits.LanguageNotFound}) {
		t.Errorf("German: %v", err)
	}
}
