package client_test

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// TestGettersAndSetters sets each property by its setter and reads it by its getter, as a
// program ported from BITS does, with a real service between.
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
		"HighPerformance": true, "OnDemand": true, "MaximumDownloadSize": int64(1 << 40), "FileACLFlags": bits.ACLAll, "PeerCachingFlags": bits.PeerDisableBranch,
		"UseStoredCredentials": bits.TargetProxy, "RunWhen": bits.RunLoggedOn, "OnlyIfNewer": true, "VerifyCertificates": true, "MinimumNotificationInterval": 2 * time.Second,
		"NotifyCommand": []string{"/bin/true", "a b"}, "TLSPins": []string{"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
		"ProxySettings": bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{"http://p:3128"}, Bypass: []string{"*.example.org", "<local>"}},
	}
	left := bits.Settings{Options: bits.Options{HTTPMethod: new(""), DynamicContent: new(false), OnDemand: new(false)}}
	for i := range reflect.TypeOf(j).NumMethod() {
		name, ok := strings.CutPrefix(reflect.TypeOf(j).Method(i).Name, "Set")
		if !ok || name == "" || name == "CustomHeaders" || name == "Certificate" {
			continue
		}
		set := reflect.ValueOf(j).Method(i)
		if set.Type().NumIn() != 2 || !reflect.ValueOf(j).MethodByName(name).IsValid() {
			continue // not of a property of jobs
		}
		v, ok := values[name]
		if !ok {
			t.Errorf("this test has no value for Set%s", name)
			continue
		}
		to := j
		if kind, ok := uploads[name]; ok {
			if to, err = m.Create(ctx, bits.NewJob{Type: kind, Settings: bits.Settings{Name: new("up")}}); err != nil {
				t.Fatal(err)
			}
			defer func() { _, _ = to.Cancel(context.WithoutCancel(ctx)) }()
		}
		get := func(j *client.Job) (any, any) {
			out := reflect.ValueOf(j).MethodByName(name).Call([]reflect.Value{reflect.ValueOf(ctx)})
			return out[0].Interface(), out[1].Interface()
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
		if got, err := get(to); err != nil || !reflect.DeepEqual(got, v) {
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

// TestErrorObject: the error of a job, and its texts. Client.md 1.8.
func TestErrorObject(t *testing.T) {
	ctx := t.Context()
	m := client.New(socket)
	defer m.Close()
	url := origin + "no such file"
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
	if e.Code != "BG_E_HTTP_ERROR_404" || e.HResult != "0x80190194" || e.Context != bits.ContextRemoteFile || e.ContextMessage == "" {
		t.Errorf("%+v", e)
	}
	if p, err := e.GetProtocol(); p != "http" || err != nil {
		t.Errorf("protocol %q, %v", p, err)
	}
	if f, err := e.GetFile(); !strings.HasPrefix(f, origin) || err != nil {
		t.Errorf("file %q, %v", f, err)
	}
	text, err := m.ErrorText(ctx, e.Err().Code, e.Context, "en-US")
	if err != nil || text.Code != e.Code || !strings.Contains(text.Message, "404") || text.ContextMessage != e.ContextMessage || text.Hint == "" {
		t.Errorf("%+v, %v", text, err)
	}
	if _, err := m.ErrorText(ctx, bits.NotFound, bits.ContextNone, "de"); !errors.Is(err, &bits.Error{Code: bits.LanguageNotFound}) {
		t.Errorf("German: %v", err)
	}
}
