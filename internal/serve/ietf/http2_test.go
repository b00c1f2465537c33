package ietf

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"testing"
	"time"
)

// Over HTTP/2, where interim answers and the end of a request's content are other frames, and where a
// request that is taken over shares the connection with the one that takes it.
func TestHTTP2(t *testing.T) {
	s := serve(t, nil)
	hs := httptest.NewUnstartedServer(s.http.Config.Handler)
	hs.EnableHTTP2 = true
	hs.StartTLS()
	t.Cleanup(hs.Close)
	data := random(100_000)

	// send begins an upload of which the first 60,000 bytes come, and returns where it is.
	send := func(ctx context.Context, file string) (string, <-chan *http.Response) {
		t.Helper()
		told := make(chan string, 1)
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if h.Get("Location") != "" {
				told <- h.Get("Location")
			}
			return nil
		}})
		r, w := io.Pipe()
		t.Cleanup(func() { _ = w.Close() })
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, hs.URL+"/up/"+file, r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(interopHeader, "8")
		req.Header.Set(completeHeader, "?1")
		req.ContentLength = int64(len(data))
		before := s.read.Load()
		answers := make(chan *http.Response, 1)
		go func() {
			res, err := hs.Client().Do(req)
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", file, err)
			}
			answers <- res
		}()
		if _, err := w.Write(data[:60_000]); err != nil {
			t.Fatal(err)
		}
		for s.read.Load()-before < 60_000 {
			time.Sleep(time.Millisecond)
		}
		return <-told, answers
	}
	goOn := func(file, upload string) {
		t.Helper()
		for _, c := range []struct {
			method string
			body   []byte
			status int
			header []string
		}{
			{http.MethodHead, nil, http.StatusNoContent, nil},
			{http.MethodPatch, data[60_000:], http.StatusCreated, []string{"Content-Type", partialContent, offsetHeader, "60000", completeHeader, "?1"}},
		} {
			req, err := http.NewRequestWithContext(t.Context(), c.method, hs.URL+upload, bytes.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(c.header); i += 2 {
				req.Header.Set(c.header[i], c.header[i+1])
			}
			res, err := hs.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.ProtoMajor != 2 || res.StatusCode != c.status || c.method == http.MethodHead && res.Header.Get(offsetHeader) != "60000" {
				t.Fatalf("%s %s: got %s %s %v", c.method, file, res.Proto, res.Status, res.Header)
			}
		}
		s.has(file, data)
	}

	upload, answers := send(t.Context(), "taken")
	begun := time.Now()
	goOn("taken", upload)
	if res := <-answers; res == nil || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the request that was taken over got %v", res)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}

	ctx, cancel := context.WithCancel(t.Context())
	upload, answers = send(ctx, "cancelled")
	cancel()
	<-answers
	goOn("cancelled", upload)
}
