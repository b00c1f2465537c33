package tus

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dial opens a connection to the server.
func (s *server) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(s.url, "http://"), "/up/"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// head returns the offset of an upload.
func (s *server) head(upload string) int64 {
	s.t.Helper()
	n, err := strconv.ParseInt(s.expect(http.StatusOK, http.MethodHead, upload, nil).Header.Get("Upload-Offset"), 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// The connection breaks after every byte of a PATCH in turn: what came of the content is kept, and the
// rest makes the file.
func TestConnectionBreaksAtAnyByte(t *testing.T) {
	s := serve(t, nil)
	data := random(200)
	target := func(i int) string { return fmt.Sprintf("file%d", i) }
	request := func(up string) string {
		return "PATCH " + up + " HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: " + contentType +
			"\r\nContent-Length: 200\r\n\r\n" + string(data)
	}
	id := strings.Repeat("0", 32)
	length := len(request("/up/.ebb-uploads/" + id))
	for cut := range length + 1 {
		up := s.create(target(cut), "Upload-Length", "200")
		before := s.read.Load()
		c := s.dial()
		if _, err := io.WriteString(c, request(up)[:cut]); err != nil {
			t.Fatal(err)
		}
		if cut == length { // the answer is what is lost
			if _, err := bufio.NewReader(c).Peek(1); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		body := int64(max(0, cut-(length-200)))
		// A HEAD that comes before the server reads what the connection has would end the request.
		for s.read.Load()-before < body {
			time.Sleep(time.Millisecond)
		}
		offset := s.head(up)
		if offset != body {
			t.Fatalf("cut at %d: the offset is %d, want %d", cut, offset, body)
		}
		if offset < 200 {
			s.hasNot(target(cut))
			s.patch(http.StatusNoContent, up, offset, data[offset:])
		}
		s.has(target(cut), data)
	}
}

// A connection that the client gave up but the server did not hear of must not keep the upload.
func TestNewRequestTakesTheUploadOver(t *testing.T) {
	s := serve(t, nil)
	data := random(100_000)
	for _, c := range []struct {
		name    string
		request func(up string)
	}{
		{"HEAD", func(up string) {
			if n := s.head(up); n != 60_000 {
				t.Errorf("the offset is %d", n)
			}
			s.patch(http.StatusNoContent, up, 60_000, data[60_000:])
			s.has("HEAD", data)
		}},
		{"PATCH", func(up string) {
			s.patch(http.StatusNoContent, up, 60_000, data[60_000:])
			s.has("PATCH", data)
		}},
		{"DELETE", func(up string) {
			s.expect(http.StatusNoContent, http.MethodDelete, up, nil)
			s.expect(http.StatusNotFound, http.MethodHead, up, nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			up := s.create(c.name, "Upload-Length", "100000")
			before := s.read.Load()
			old := s.dial()
			fmt.Fprintf(old, "PATCH %s HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: %s\r\n"+
				"Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n", up, contentType)
			answer := bufio.NewReader(old)
			// It is in the handler, and reads.
			if res, err := http.ReadResponse(answer, nil); err != nil || res.StatusCode != http.StatusContinue {
				t.Fatalf("got %v, %v", res, err)
			}
			if _, err := old.Write(data[:60_000]); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			for s.read.Load()-before < 60_000 {
				time.Sleep(time.Millisecond)
			}
			c.request(up)
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			res, err := http.ReadResponse(answer, nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != http.StatusLocked {
				t.Errorf("the old request got %d", res.StatusCode)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				t.Fatal(err)
			}
			if n, err := answer.ReadByte(); err == nil {
				t.Errorf("after the answer comes %q, want the connection's end", n)
			}
		})
	}
}
