package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/files"
)

// pipes is a listener whose connections are in memory, so that their time is the test's.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// withServer runs a test against a handler behind an exchange, in a time of its own.
func withServer(t *testing.T, h http.HandlerFunc, test func(t *testing.T, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			e, r := newExchange(w, r, r.Context())
			defer e.finish(r)
			h(e, r)
		})}
		srv.Protocols.SetHTTP1(true)
		srv.Protocols.SetUnencryptedHTTP2(true)
		done := make(chan error)
		go func() { done <- srv.Serve(l) }()
		test(t, func() net.Conn {
			client, server := net.Pipe()
			l.conns <- server
			return client
		})
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		time.Sleep(time.Hour) // until all have noticed
	})
}

// trickle sends n bytes, some at a time, and returns the answer's status line.
func trickle(c net.Conn, n, step int, every time.Duration) (string, error) {
	go func() {
		_, _ = fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", n)
		for sent := 0; sent < n; sent += step {
			time.Sleep(every)
			if _, err := io.WriteString(c, strings.Repeat("x", min(step, n-sent))); err != nil {
				return
			}
		}
	}()
	return bufio.NewReader(c).ReadString('\n')
}

func TestSlowClientsThatMoveGoOn(t *testing.T) {
	received := func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			w.WriteHeader(http.StatusRequestTimeout)
			return
		}
		w.Header().Set("Got", fmt.Sprint(n))
	}
	for _, c := range []struct {
		name    string
		n, step int
		every   time.Duration
		ok      bool
	}{
		{"100 bytes a second, for hours", 1 << 20, 100, time.Second, true},
		{"a burst every 50 seconds", 1 << 20, 8 << 10, 50 * time.Second, true},
		{"a small body that takes its time", 300, 10, time.Second, true},
		{"a byte now and then", 1 << 20, 1, 10 * time.Second, false},
		{"nothing for two minutes", 1 << 20, 4096, 2 * time.Minute, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			withServer(t, received, func(t *testing.T, dial func() net.Conn) {
				conn := dial()
				defer func() { _ = conn.Close() }()
				status, err := trickle(conn, c.n, c.step, c.every)
				if ok := err == nil && strings.HasPrefix(status, "HTTP/1.1 200"); ok != c.ok {
					t.Errorf("%q, %v", status, err)
				}
			})
		})
	}
}

// Of HTTP/2 a deadline that passes ends the stream, whether anybody waits for it or not.
func TestSlowClientsOfHTTP2GoOn(t *testing.T) {
	for _, pause := range []time.Duration{time.Second, 5 * time.Minute} { // of the client, of the server
		handle := func(w http.ResponseWriter, r *http.Request) {
			buf := make([]byte, 16<<10)
			n := 0
			for {
				got, err := r.Body.Read(buf)
				if n += got; errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Error(err)
					break
				}
				if pause > time.Minute && n%(32<<10) == 0 {
					time.Sleep(pause)
				}
			}
			time.Sleep(5 * time.Minute) // as an application that is told of the upload
			_, _ = fmt.Fprint(w, n)
		}
		withServer(t, handle, func(t *testing.T, dial func() net.Conn) {
			tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(), nil }}
			tr.Protocols.SetUnencryptedHTTP2(true)
			defer tr.CloseIdleConnections()
			r, w := io.Pipe()
			go func() {
				for range 600 {
					time.Sleep(time.Second)
					_, _ = w.Write(make([]byte, 200))
				}
				_ = w.Close()
			}()
			resp, err := (&http.Client{Transport: tr}).Post("http://x/", "", r)
			if err != nil {
				t.Error(err)
				return
			}
			b, err := io.ReadAll(resp.Body)
			if string(b) != "120000" || err != nil || resp.ProtoMajor != 2 {
				t.Errorf("%s %q, %v", resp.Proto, b, err)
			}
		})
	}
}

// The time that the server takes is not the client's.
func TestServerMayTakeItsTime(t *testing.T) {
	slow := func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 1000)
		for range 5 {
			time.Sleep(3 * time.Minute) // as a disk that is busy
			if _, err := io.ReadFull(r.Body, buf); err != nil {
				t.Error(err)
			}
		}
		if _, err := r.Body.Read(buf); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		time.Sleep(10 * time.Minute) // as an application that is told of the upload
		if r.Context().Err() != nil {
			t.Error("the client is taken for gone")
		}
	}
	withServer(t, slow, func(t *testing.T, dial func() net.Conn) {
		conn := dial()
		defer func() { _ = conn.Close() }()
		if status, err := trickle(conn, 5000, 5000, 0); err != nil || !strings.HasPrefix(status, "HTTP/1.1 200") {
			t.Errorf("%q, %v", status, err)
		}
	})
}

func TestSlowReaders(t *testing.T) {
	const size = 4 << 20
	for _, c := range []struct {
		name string
		rate int // bytes a second
		ok   bool
	}{{"10 KB a second", 10_000, true}, {"1 KB a second", 1000, false}, {"none", 0, false}} {
		t.Run(c.name, func(t *testing.T) {
			var ended chan error
			send := func(w http.ResponseWriter, _ *http.Request) {
				_, err := io.Copy(w, io.LimitReader(zeros{}, size))
				ended <- err
			}
			withServer(t, send, func(t *testing.T, dial func() net.Conn) {
				ended = make(chan error, 1) // not outside: waiting for it must count as doing nothing
				conn := dial()
				defer func() { _ = conn.Close() }()
				_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				go func() {
					buf := make([]byte, max(c.rate, 1))
					for c.rate > 0 {
						time.Sleep(time.Second)
						if _, err := io.ReadFull(conn, buf); err != nil {
							return
						}
					}
				}()
				began := time.Now()
				err := <-ended
				if (err == nil) != c.ok {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				if !c.ok && time.Since(began) > 10*time.Minute {
					t.Errorf("it was held for %v", time.Since(began))
				}
			})
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// A front end that ends a read, to let a newer request have the upload, is not overruled.
func TestReadDeadlineOfAFrontEndHolds(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 10)
		if _, err := io.ReadFull(r.Body, buf); err != nil {
			t.Error(err)
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
		time.Sleep(time.Minute)
		if n, err := r.Body.Read(buf); err == nil {
			t.Errorf("%d bytes were read after the end", n)
		}
	}
	withServer(t, h, func(t *testing.T, dial func() net.Conn) {
		conn := dial()
		defer func() { _ = conn.Close() }()
		_, _ = trickle(conn, 1000, 10, time.Second)
	})
}

// fileSink is an answer that notes what it is given to read from.
type fileSink struct {
	http.ResponseWriter
	from []io.Reader
}

func (s *fileSink) ReadFrom(r io.Reader) (int64, error) {
	s.from = append(s.from, r)
	return io.Copy(io.Discard, r)
}

// The kernel can copy a file to a socket only as long as nothing stands between the two.
func TestFileIsVisibleToTheSocket(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(name, make([]byte, 3*writeChunk+1), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := files.OpenTree(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tree.Close() }()
	sink := &fileSink{ResponseWriter: httptest.NewRecorder()}
	r := httptest.NewRequest(http.MethodGet, "/a", nil)
	e, r := newExchange(sink, r, r.Context())
	(&files.Handler{Source: tree, Digests: files.NewDigests()}).Serve(e, r, "a")
	if e.sent != 3*writeChunk+1 || len(sink.from) < 4 {
		t.Errorf("%d bytes in %d steps", e.sent, len(sink.from))
	}
	for _, from := range sink.from {
		part, ok := from.(*io.LimitedReader)
		if !ok {
			t.Fatalf("the answer reads from a %T", from)
		}
		if _, ok := part.R.(*os.File); !ok {
			t.Fatalf("the answer reads from a part of a %T", part.R)
		}
	}
}
