package s3

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

// store answers by operation: create, list, part, complete, head, abort or object.
func store(t *testing.T, answers map[string]http.HandlerFunc) *atomic.Int64 {
	t.Helper()
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		q := r.URL.Query()
		op := map[string]string{"POST": "complete", "PUT": "part", "GET": "list", "DELETE": "abort", "HEAD": "head"}[r.Method]
		switch {
		case q.Has("uploads"):
			op = "create"
		case op == "part" && !q.Has("partNumber"):
			op = "object"
		}
		switch answer := answers[op]; {
		case answer != nil:
			answer(w, r)
		case op == "create":
			_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>")
		case op == "part":
			w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
		case op == "list":
			_, _ = io.WriteString(w, "<ListPartsResult></ListPartsResult>")
		case op == "complete":
			_, _ = io.WriteString(w, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
		}
	}))
	t.Cleanup(s.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_S3": s.URL, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_REGION": "",
	} {
		t.Setenv(name, value)
	}
	return &n
}

func fails(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", code)
	}
}

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

// TestHostileStores: each makes the upload fail, with a code, and without a claim that it is done.
func TestHostileStores(t *testing.T) {
	forgetful := fails(404, "NoSuchUpload")
	tests := []struct {
		name    string
		answers map[string]http.HandlerFunc
		size    int
		resume  bool
		code    bits.Code
	}{
		{"refuses", map[string]http.HandlerFunc{"object": fails(403, "AccessDenied")}, 1, false, bits.HTTPStatus(403)},
		{"no id", map[string]http.HandlerFunc{"create": says("<x/>")}, 10 << 20, false, bits.InvalidServerResponse},
		{"no XML", map[string]http.HandlerFunc{"create": says("\x00<<<")}, 10 << 20, false, bits.HTTPStatus(500)},
		{"no tag", map[string]http.HandlerFunc{"part": says("")}, 10 << 20, false, bits.InvalidServerResponse},
		{"forgets at once", map[string]http.HandlerFunc{"part": forgetful}, 10 << 20, false, bits.SessionNotFound},
		{"says yes and means no", map[string]http.HandlerFunc{"complete": fails(200, "InternalError")}, 10 << 20, false, bits.HTTPStatus(500)},
		{"does not find its parts", map[string]http.HandlerFunc{"complete": fails(400, "InvalidPart")}, 10 << 20, false, bits.SessionNotFound},
		{"lists without end", map[string]http.HandlerFunc{
			"list":     says("<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker><Part><PartNumber>-7</PartNumber><Size>1</Size><ETag>x</ETag></Part></ListPartsResult>"),
			"complete": fails(403, "AccessDenied"),
		}, 10 << 20, true, bits.HTTPStatus(403)},
		{"answers without end", map[string]http.HandlerFunc{"create": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<InitiateMultipartUploadResult>")
			for range 2000 {
				if _, err := io.WriteString(w, strings.Repeat("<a></a>", 1000)); err != nil {
					return
				}
			}
		}}, 10 << 20, false, bits.HTTPStatus(500)},
		{"sends elsewhere", map[string]http.HandlerFunc{"object": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(307)
		}}, 1, false, bits.HTTPStatus(307)},
		{"speaks in tongues", map[string]http.HandlerFunc{"object": fails(403, "\x1b[31m<b>")}, 1, false, bits.HTTPStatus(403)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := store(t, tt.answers)
			task := uploadtest.New(t, "s3://b/k", uploadtest.NewSource("f", uploadtest.Bytes(tt.size, 1)))
			if tt.resume {
				task.State = upload.State{Protocol: upload.S3, ID: "id", Fragment: leastPart}
			}
			err := New(uploadtest.Client()).Upload(t.Context(), task.Task)
			var e *bits.Error
			if !errors.As(err, &e) || e.Code != tt.code || task.State.Done {
				t.Errorf("error %v, done %v, want %v", err, task.State.Done, tt.code)
			}
			if n.Load() > 60 || e != nil && strings.ContainsRune(e.Message, '\x1b') {
				t.Errorf("%d requests, error %v", n.Load(), err)
			}
		})
	}
}

// TestPartsThatAreNotFound ends each upload that is given up for a new one.
func TestPartsThatAreNotFound(t *testing.T) {
	var begun, ended atomic.Int64
	store(t, map[string]http.HandlerFunc{
		"create": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%d</UploadId></InitiateMultipartUploadResult>", begun.Add(1))
		},
		"complete": fails(400, "InvalidPart"),
		"abort": func(w http.ResponseWriter, r *http.Request) {
			if id := fmt.Sprint(ended.Add(1)); r.URL.Query().Get("uploadId") != id {
				t.Errorf("%s is ended, not %s", r.URL, id)
			}
			w.WriteHeader(http.StatusNoContent)
		},
	})
	task := uploadtest.New(t, "s3://b/k", uploadtest.NewSource("f", uploadtest.Bytes(10<<20, 1)))
	if err := New(uploadtest.Client()).Upload(t.Context(), task.Task); err == nil || begun.Load() == 0 || begun.Load() != ended.Load() {
		t.Errorf("%d uploads were begun, %d ended: %v", begun.Load(), ended.Load(), err)
	}
}

// TestNobodyIsAskedForCredentials where the environment has none.
func TestNobodyIsAskedForCredentials(t *testing.T) {
	store(t, nil)
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer s.Close()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": s.URL,
	} {
		t.Setenv(name, value)
	}
	task := uploadtest.New(t, "s3://b/k", uploadtest.NewSource("f", uploadtest.Bytes(1, 1)))
	if err := New(uploadtest.Client()).Upload(t.Context(), task.Task); !errors.Is(err, &bits.Error{Code: bits.AccessDenied}) || asked.Load() != 0 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}

func TestAStoreThatStandsStill(t *testing.T) {
	over := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	defer s.Close()
	defer close(over)
	store(t, nil)
	t.Setenv("AWS_ENDPOINT_URL_S3", s.URL)
	task := uploadtest.New(t, "s3://b/k", uploadtest.NewSource("f", uploadtest.Bytes(8<<20, 1)))
	task.Stall = func() time.Duration { return 700 * time.Millisecond }
	err := New(uploadtest.Client()).Upload(t.Context(), task.Task)
	if !errors.Is(err, &bits.Error{Code: bits.WinHTTPTimeout}) {
		t.Errorf("error %v", err)
	}
}

func TestTheContextsOwnErrorIsReturned(t *testing.T) {
	store(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	task := uploadtest.New(t, "s3://b/k", uploadtest.NewSource("f", uploadtest.Bytes(40<<20, 1)))
	why := errors.New("suspended")
	task.Connected = func() { cancel(why) }
	if err := New(uploadtest.Client()).Upload(ctx, task.Task); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

// TestPartsAreSignedWithTheirBytes, which is ours to see to: over TLS the SDK would leave them out.
func TestPartsAreSignedWithTheirBytes(t *testing.T) {
	var hashes, bodies sync.Map
	answer := func(w http.ResponseWriter, r *http.Request) {
		hashes.Store(r.URL.RawQuery, r.Header.Get("X-Amz-Content-Sha256"))
		w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
	}
	store(t, map[string]http.HandlerFunc{"part": answer, "object": answer})
	for _, n := range []int{100, 20 << 20} {
		data := uploadtest.Bytes(n, 1)
		task := uploadtest.New(t, "s3://b/k", uploadtest.NewSource("f", data))
		if err := New(uploadtest.Client()).Upload(t.Context(), task.Task); err != nil {
			t.Fatal(err)
		}
		for i := 0; n > wholeSize && i*swiftPart < n; i++ {
			bodies.Store(fmt.Sprintf("partNumber=%d&uploadId=id&x-id=UploadPart", i+1), data[i*swiftPart:min((i+1)*swiftPart, n)])
		}
		if n <= wholeSize {
			bodies.Store("x-id=PutObject", data)
		}
	}
	bodies.Range(func(query, data any) bool {
		want := fmt.Sprintf("%x", sha256.Sum256(data.([]byte)))
		if got, _ := hashes.Load(query); got != want {
			t.Errorf("%s is signed with %v, want %s", query, got, want)
		}
		return true
	})
}
