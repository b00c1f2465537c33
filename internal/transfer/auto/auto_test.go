package auto

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	servebits "github.com/ebbtransfer/ebb/internal/serve/bits"
	serveietf "github.com/ebbtransfer/ebb/internal/serve/ietf"
	"github.com/ebbtransfer/ebb/internal/serve/session"
	servetus "github.com/ebbtransfer/ebb/internal/serve/tus"
	"github.com/ebbtransfer/ebb/internal/transfer/bup"
	"github.com/ebbtransfer/ebb/internal/transfer/ietf"
	"github.com/ebbtransfer/ebb/internal/transfer/put"
	"github.com/ebbtransfer/ebb/internal/transfer/tus"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

// TestAMethodOfTheJob makes one request, which nothing comes before.
func TestAMethodOfTheJob(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			t.Errorf("there was a %s", r.Method)
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer s.Close()
	task := uploadtest.New(t, s.URL+"/f", uploadtest.NewSource("f", []byte("data")))
	task.Method = http.MethodPost
	if err := newClient().Upload(t.Context(), task.Task); err != nil || task.State.Protocol != upload.Put {
		t.Errorf("%v, by %q", err, task.State.Protocol)
	}
}

func newClient() *Client {
	c := uploadtest.Client()
	b := bup.New(c)
	return New(c, b, map[upload.Protocol]upload.Uploader{upload.BITS: b, upload.IETF: ietf.New(c), upload.Put: put.New(c), upload.Tus: tus.New(c)})
}

// prefix returns a prefix with a local store, and its directory.
func prefix(t *testing.T) (*session.Prefix, string) {
	t.Helper()
	root := t.TempDir()
	store, err := session.OpenDir(root, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return &session.Prefix{Path: "/", Root: root, Store: store, MaxSize: -1, MaxFragment: 13 << 20, SessionTimeout: time.Hour, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, root
}

func status(code int, header ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	})
}

// TestWhatIsSpoken: the protocol that the server speaks is found, and the file gets there by it.
func TestWhatIsSpoken(t *testing.T) {
	p, root := prefix(t)
	bitsOnly := servebits.New(p)
	tests := []struct {
		name   string
		server http.Handler
		want   upload.Protocol
	}{
		{"tus", servetus.New(p), upload.Tus},
		{"ietf", serveietf.New(p), upload.IETF},
		{"bits", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodOptions { // as IIS has it
				w.Header().Set("Public", "OPTIONS, TRACE, GET, HEAD, POST")
				return
			}
			bitsOnly.ServeHTTP(w, r)
		}), upload.BITS},
		{"put", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPut {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			body, _ := io.ReadAll(r.Body)
			_ = os.WriteFile(filepath.Join(root, filepath.FromSlash(r.URL.Path)), body, 0o600)
		}), upload.Put},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(tt.server)
			defer s.Close()
			data := uploadtest.Bytes(300<<10, 1)
			task := uploadtest.New(t, s.URL+"/"+tt.name, uploadtest.NewSource("f", data))
			c := newClient()
			if err := c.Upload(t.Context(), task.Task); err != nil {
				t.Fatal(err)
			}
			if err := c.Close(t.Context(), task.Task); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(filepath.Join(root, tt.name)); err != nil || string(got) != string(data) {
				t.Errorf("%d bytes arrived (%v)", len(got), err)
			}
			if task.State.Protocol != tt.want || !task.State.Done {
				t.Errorf("state %+v, want %s", task.State, tt.want)
			}
			if n := task.Notes(); len(n) != 1 || !strings.HasPrefix(n[0], "uploaded by "+string(tt.want)+": ") {
				t.Errorf("notes %q", n)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	tests := []struct {
		name   string
		server http.Handler
		url    string // after that of the server, or whole
		reply  bool
		want   upload.Protocol
		code   bits.Code
	}{
		{"scheme s3", nil, "s3://bucket/key", false, upload.S3, 0},
		{"presigned", nil, "https://bucket.example/key?X-Amz-Algorithm=a&X-Amz-Signature=b", false, upload.Put, 0},
		{"presigned, old", nil, "https://bucket.example/key?AWSAccessKeyId=a&Signature=b", false, upload.Put, 0},
		{"reply", nil, "http://a.example/", true, upload.BITS, 0},
		{"tus among others", status(204, "Tus-Version", "2.0.0, 1.0.0", "Upload-Limit", "max-size=1"), "/", false, upload.Tus, 0},
		{"another tus", status(204, "Tus-Version", "0.2.2"), "/", false, upload.Put, 0},
		{"limits", status(204, "Upload-Limit", "min-size=0"), "/", false, upload.IETF, 0},
		{"interop version", status(204, "Upload-Draft-Interop-Version", "8"), "/", false, upload.IETF, 0},
		{"another interop version", status(204, "Upload-Draft-Interop-Version", "6", "Upload-Limit", "max-size=1"), "/", false, upload.Put, 0},
		{"plain", status(200), "/", false, upload.Put, 0},
		{"refuses all", status(403), "/", false, upload.Put, 0},
		{"overloaded", status(503), "/", false, "", bits.HTTPStatus(503)},
		{"BITS that is not offered", status(501, "BITS-Packet-Type", "Ack", "BITS-Error-Code", "0x80070005"), "/", false, upload.Put, 0},
		{"BITS that refuses", status(403, "BITS-Packet-Type", "Ack", "BITS-Error-Code", "0x80070005"), "/", false, "", bits.AccessDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := tt.url
			if tt.server != nil {
				s := httptest.NewServer(tt.server)
				defer s.Close()
				u = s.URL + u
			}
			task := uploadtest.New(t, u, uploadtest.NewSource("f", []byte("data")))
			task.Reply = tt.reply
			p, why, err := newClient().choose(t.Context(), task.Task)
			var e *bits.Error
			if tt.code != 0 && (!errors.As(err, &e) || e.Code != tt.code) || tt.code == 0 && (err != nil || p != tt.want || why == "") {
				t.Errorf("%q, %q, %v, want %q or %v", p, why, err, tt.want, tt.code)
			}
			if task.MostSent() != 0 {
				t.Errorf("%d bytes of the file were sent", task.MostSent())
			}
		})
	}
}

// TestAServerThatHangsUpOnWhatItDoesNotKnow is no reason to give up.
func TestAServerThatHangsUpOnWhatItDoesNotKnow(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut {
			panic(http.ErrAbortHandler)
		}
	}))
	defer s.Close()
	task := uploadtest.New(t, s.URL+"/f", uploadtest.NewSource("f", []byte("data")))
	if err := newClient().Upload(t.Context(), task.Task); err != nil || task.State.Protocol != upload.Put {
		t.Errorf("%v, by %q", err, task.State.Protocol)
	}
}

// TestNobodyIsThere: nothing is chosen while the server cannot be reached.
func TestNobodyIsThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	task := uploadtest.New(t, "http://"+l.Addr().String()+"/f", uploadtest.NewSource("f", []byte("data")))
	c := newClient()
	if err := c.Upload(t.Context(), task.Task); !errors.Is(err, &bits.Error{Code: bits.CannotConnect}) || task.State.Protocol != "" || len(task.Saved()) != 0 {
		t.Errorf("%v, chose %q", err, task.State.Protocol)
	}
	if err := c.Cancel(context.Background(), task.Task); err != nil {
		t.Error(err)
	}
}
