package put

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

// TestStatuses is the table of client.md 5.2 for PUT.
func TestStatuses(t *testing.T) {
	tests := []struct {
		status int
		class  bits.Class
		says   string
	}{
		{301, bits.Fatal, ""}, {302, bits.Fatal, ""}, {303, bits.Fatal, ""},
		{400, bits.Fatal, "not taken"}, {401, bits.Fatal, "not allowed"}, {403, bits.Fatal, "not allowed"},
		{404, bits.Fatal, "directory"}, {405, bits.Fatal, "not turned on"}, {409, bits.Transient, "directory"},
		{412, bits.Fatal, "target exists"}, {413, bits.Fatal, "the file has 4 bytes, more than the server takes"}, {429, bits.Transient, ""},
		{500, bits.Transient, ""}, {501, bits.Fatal, "not turned on"}, {503, bits.Transient, ""}, {507, bits.Transient, "no room"},
	}
	for _, tt := range tests {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Location", "/elsewhere")
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, "so\x1b[31m it is\nand more")
		}))
		task := uploadtest.New(t, s.URL, uploadtest.NewSource("f", []byte("data")))
		err := New(uploadtest.Client()).Upload(t.Context(), task.Task)
		s.Close()
		var e *bits.Error
		if !errors.As(err, &e) || e.Code.HTTPStatus() != tt.status || e.Code.Class() != tt.class || e.Context != bits.ContextRemoteFile {
			t.Errorf("%d: error %v of class %d", tt.status, err, e.Code.Class())
			continue
		}
		if !strings.Contains(e.Message, tt.says) || !strings.Contains(e.Message, `"so[31m it is"`) {
			t.Errorf("%d: message %q does not say %q", tt.status, e.Message, tt.says)
		}
		var retry *httpconn.RetryError
		if errors.As(err, &retry) != (tt.class == bits.Transient) || retry != nil && retry.After != 7*time.Second {
			t.Errorf("%d: retry %v", tt.status, retry)
		}
		if task.State.Done || len(task.Saved()) != 0 {
			t.Errorf("%d: the state says that it is done", tt.status)
		}
	}
}

func TestRedirects(t *testing.T) {
	var got []byte
	var headers http.Header
	final := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		headers = r.Header
	}))
	defer final.Close()
	for _, status := range []int{307, 308} {
		first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				w.WriteHeader(401)
				return
			}
			http.Redirect(w, r, final.URL+"/there", status)
		}))
		data := uploadtest.Bytes(600<<10, byte(status))
		task := uploadtest.New(t, first.URL+"/here", uploadtest.NewSource("f", data))
		task.Header.Set("Authorization", "Bearer secret")
		got, headers = nil, nil
		if err := New(uploadtest.Client()).Upload(t.Context(), task.Task); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		first.Close()
		if !bytes.Equal(got, data) {
			t.Errorf("%d: the other server got %d bytes, want %d", status, len(got), len(data))
		}
		if headers.Get("Authorization") != "" {
			t.Errorf("%d: the password went to another host", status)
		}
	}
}

func TestEndlessRedirectsEnd(t *testing.T) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/"+strconv.FormatInt(n.Add(1), 10), http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	task := uploadtest.New(t, s.URL, uploadtest.NewSource("f", []byte("data")))
	err := New(uploadtest.Client()).Upload(t.Context(), task.Task)
	if !errors.Is(err, &bits.Error{Code: bits.RedirectFailed}) || n.Load() > 20 {
		t.Errorf("error %v after %d requests", err, n.Load())
	}
}

// rawServer answers each connection by a function and returns its URL.
func rawServer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/f"
}

// header reads a request's header.
func header(c net.Conn) {
	var seen []byte
	for b := make([]byte, 1); !bytes.HasSuffix(seen, []byte("\r\n\r\n")); seen = append(seen, b[0]) {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

func TestAHastyConfirmationIsNone(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	u := rawServer(t, func(c net.Conn) {
		header(c)
		_, _ = io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
		<-over // what it does not read is more than the kernel's buffers hold
	})
	task := uploadtest.New(t, u, uploadtest.NewSource("f", uploadtest.Bytes(64<<20, 2)))
	err := New(uploadtest.Client()).Upload(t.Context(), task.Task)
	if !errors.Is(err, &bits.Error{Code: bits.InvalidServerResponse}) || task.State.Done {
		t.Errorf("error %v, done %v", err, task.State.Done)
	}
}

// TestAHastyConfirmationThatIsSeenLate: the whole body goes out after the confirmation came, and
// before anybody has looked at it. The server waits for a piece, so that the answer is seen while
// the source still gives more.
func TestAHastyConfirmationThatIsSeenLate(t *testing.T) {
	const n, hold = 8 << 20, 1 << 20
	u := rawServer(t, func(c net.Conn) {
		header(c)
		if _, err := io.CopyN(io.Discard, c, hold); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}
	})
	src := uploadtest.NewSource("f", uploadtest.Bytes(n, 9))
	answered := make(chan struct{})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotFirstResponseByte: sync.OnceFunc(func() { close(answered) }),
	})
	src.Fail = func(off int64) error {
		if off > n/2 {
			<-answered
		}
		return nil
	}
	task := uploadtest.New(t, u, src)
	err := New(uploadtest.Client()).Upload(ctx, task.Task)
	if !errors.Is(err, &bits.Error{Code: bits.InvalidServerResponse}) || task.State.Done {
		t.Errorf("error %v, done %v", err, task.State.Done)
	}
}

func TestAServerThatIgnoresExpect(t *testing.T) {
	const n = 300 << 10
	u := rawServer(t, func(c net.Conn) {
		header(c)
		if _, err := io.CopyN(io.Discard, c, n); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.0 204 No Content\r\n\r\n")
		}
	})
	task := uploadtest.New(t, u, uploadtest.NewSource("f", uploadtest.Bytes(n, 3)))
	if err := New(uploadtest.Client()).Upload(t.Context(), task.Task); err != nil {
		t.Error(err)
	}
}

func TestAServerThatRefusesExpect(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Expect") != "" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer s.Close()
	task := uploadtest.New(t, s.URL, uploadtest.NewSource("f", uploadtest.Bytes(askFirst, 4)))
	if err := New(uploadtest.Client()).Upload(t.Context(), task.Task); err != nil {
		t.Error(err)
	}
}

func TestInterruptedUploadsStartOver(t *testing.T) {
	var tries atomic.Int64
	data := uploadtest.Bytes(2<<20, 5)
	var got []byte
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if tries.Add(1) == 1 {
			_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
			panic(http.ErrAbortHandler)
		}
		got, _ = io.ReadAll(r.Body)
	}))
	defer s.Close()
	task := uploadtest.New(t, s.URL, uploadtest.NewSource("f", data))
	c := New(uploadtest.Client())
	err := c.Upload(t.Context(), task.Task)
	if !errors.Is(err, &bits.Error{Code: bits.ConnectionError}) {
		t.Fatalf("error %v, want a broken connection", err)
	}
	if task.State.Offset != 0 || task.State.Done {
		t.Errorf("the state is %+v: a PUT cannot resume", task.State)
	}
	if err := c.Upload(t.Context(), task.Task); err != nil || !bytes.Equal(got, data) {
		t.Errorf("second try: %v, %d bytes", err, len(got))
	}
}

func TestTheSourceChanges(t *testing.T) {
	finished := make(chan error, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		finished <- err
	}))
	defer s.Close()
	src := uploadtest.NewSource("f", uploadtest.Bytes(4<<20, 6))
	src.Fail = func(off int64) error {
		if off > 1<<20 {
			return bits.Errorf(bits.LocalFileChanged, "it changed")
		}
		return nil
	}
	err := New(uploadtest.Client()).Upload(t.Context(), uploadtest.New(t, s.URL, src).Task)
	if !errors.Is(err, &bits.Error{Code: bits.LocalFileChanged}) {
		t.Errorf("error %v", err)
	}
	if err := <-finished; err == nil {
		t.Error("the server took what it has for the whole file")
	}
}

func TestAServerThatStandsStill(t *testing.T) {
	over := make(chan struct{})
	u := rawServer(t, func(c net.Conn) {
		header(c)
		<-over
	})
	defer close(over)
	task := uploadtest.New(t, u, uploadtest.NewSource("f", uploadtest.Bytes(64<<20, 7)))
	task.Stall = func() time.Duration { return 700 * time.Millisecond }
	err := New(uploadtest.Client()).Upload(t.Context(), task.Task)
	if !errors.Is(err, &bits.Error{Code: bits.WinHTTPTimeout}) {
		t.Errorf("error %v", err)
	}
}

func TestTheContextsOwnErrorIsReturned(t *testing.T) {
	over := make(chan struct{})
	u := rawServer(t, func(c net.Conn) {
		header(c)
		<-over
	})
	defer close(over)
	ctx, cancel := context.WithCancelCause(t.Context())
	task := uploadtest.New(t, u, uploadtest.NewSource("f", uploadtest.Bytes(8<<20, 8)))
	why := errors.New("suspended")
	task.Connected = func() { cancel(why) }
	if err := New(uploadtest.Client()).Upload(ctx, task.Task); err != why {
		t.Errorf("error %v, want %v", err, why)
	}
}

// TestAnotherMethod sends the file with the method that the job's owner gave.
func TestAnotherMethod(t *testing.T) {
	for _, size := range []int{4, askFirst} {
		data := uploadtest.Bytes(size, 1)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			if got, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d came: %v", len(got), size, err)
			}
			w.WriteHeader(http.StatusCreated)
		}))
		task := uploadtest.New(t, s.URL, uploadtest.NewSource("f", data))
		task.Method = http.MethodPost
		if err := New(uploadtest.Client()).Upload(t.Context(), task.Task); err != nil || !task.State.Done {
			t.Error(err)
		}
		again := uploadtest.New(t, s.URL, uploadtest.NewSource("f", data))
		again.Method = "REPORT"
		if err := New(uploadtest.Client()).Upload(t.Context(), again.Task); err == nil || !strings.Contains(err.Error(), "by REPORT") {
			t.Errorf("a method that the server does not take: %v", err)
		}
		s.Close()
	}
}
