package ietf

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dial opens a connection to the server.
func (s *server) dial() (net.Conn, *bufio.Reader) {
	s.t.Helper()
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(s.url, "http://"), "/up/"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

// answered reads the next answer, interim ones too.
func answered(t *testing.T, r *bufio.Reader) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// head returns the offset of an upload and whether it is complete.
func (s *server) head(upload string) (int64, bool) {
	s.t.Helper()
	a := s.expect(http.StatusNoContent, http.MethodHead, upload, nil, v8...)
	complete, _ := item[bool](a.Header, completeHeader)
	return count(a.Header, offsetHeader), complete
}

// Example 1 of the draft's overview: a client that sends all at once learns from a 104 where the upload
// is. The connection breaks after every byte of the content in turn.
func TestConnectionBreaksAtAnyByteOfACreation(t *testing.T) {
	s := serve(t, nil)
	data := random(150)
	for cut := range len(data) + 1 {
		file := fmt.Sprint("file", cut)
		before := s.read.Load()
		c, answers := s.dial()
		fmt.Fprintf(c, "PUT /up/%s HTTP/1.1\r\nHost: x\r\nUpload-Draft-Interop-Version: 8\r\nUpload-Complete: ?1\r\nContent-Length: 150\r\n\r\n", file)
		told := answered(t, answers)
		if told.StatusCode != statusResumptionSupported {
			t.Fatalf("got %d", told.StatusCode)
		}
		up := told.Header.Get("Location")
		if _, err := c.Write(data[:cut]); err != nil {
			t.Fatal(err)
		}
		// A HEAD that comes before the server reads what the connection has would end the request.
		for s.read.Load()-before < int64(cut) {
			time.Sleep(time.Millisecond)
		}
		if cut == len(data) { // the answer is what is lost
			if _, err := answers.Peek(1); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		offset, complete := s.head(up)
		if offset != int64(cut) || complete != (cut == len(data)) {
			t.Fatalf("cut at %d: the offset is %d, complete %v", cut, offset, complete)
		}
		if !complete {
			s.hasNot(file)
			s.patch(http.StatusCreated, up, offset, true, data[offset:])
		}
		s.has(file, data)
	}
}

// Example 2: the connection breaks after every byte of an append in turn, its header included.
func TestConnectionBreaksAtAnyByteOfAnAppend(t *testing.T) {
	s := serve(t, nil)
	data := random(50)
	request := func(up string) string {
		return "PATCH " + up + " HTTP/1.1\r\nHost: x\r\nContent-Type: " + partialContent +
			"\r\nUpload-Offset: 10\r\nUpload-Complete: ?1\r\nContent-Length: 40\r\n\r\n" + string(data[10:])
	}
	length := len(request("/up/.ebb-uploads/" + strings.Repeat("0", 32)))
	for cut := range length + 1 {
		file := fmt.Sprint("file", cut)
		up := s.create(file, lengthHeader, "50")
		s.patch(http.StatusNoContent, up, 0, false, data[:10])
		before, begun := s.read.Load(), s.begun.Load()
		c, answers := s.dial()
		if _, err := io.WriteString(c, request(up)[:cut]); err != nil {
			t.Fatal(err)
		}
		body := int64(max(0, cut-(length-40)))
		for s.read.Load()-before < body || cut >= length-40 && s.begun.Load() == begun {
			time.Sleep(time.Millisecond)
		}
		if cut == length {
			if _, err := answers.Peek(1); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		for s.ended.Load() < s.begun.Load() { // what is broken must not displace what comes next
			time.Sleep(time.Millisecond)
		}
		offset, complete := s.head(up)
		if offset != 10+body || complete != (body == 40) {
			t.Fatalf("cut at %d: the offset is %d, complete %v, want %d", cut, offset, complete, 10+body)
		}
		if !complete {
			s.hasNot(file)
			s.patch(http.StatusCreated, up, offset, true, data[offset:])
		}
		s.has(file, data)
	}
}

// A client that does not understand 104 cannot go on with what it began, so nothing is kept.
func TestInterruptedRequestThatNobodyCanResume(t *testing.T) {
	s := serve(t, nil)
	c, _ := s.dial()
	before := s.read.Load()
	fmt.Fprint(c, "PUT /up/file HTTP/1.1\r\nHost: x\r\nUpload-Complete: ?1\r\nContent-Length: 10\r\n\r\nhello")
	for s.read.Load()-before < 5 {
		time.Sleep(time.Millisecond)
	}
	c.Close()
	for begun := time.Now(); s.sessions() > 0; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("the upload is still there")
		}
	}
	s.hasNot("file")
}

// A connection that the client gave up but the server did not hear of must not keep the upload
// (Concurrency).
func TestNewRequestTakesTheUploadOver(t *testing.T) {
	s := serve(t, nil)
	data := random(100_000)
	for _, c := range []struct {
		name    string
		request func(up string)
	}{
		{"HEAD", func(up string) {
			if offset, complete := s.head(up); offset != 60_000 || complete {
				t.Errorf("the offset is %d, complete %v", offset, complete)
			}
			s.patch(http.StatusCreated, up, 60_000, true, data[60_000:])
			s.has("HEAD", data)
		}},
		{"PATCH", func(up string) {
			s.patch(http.StatusCreated, up, 60_000, true, data[60_000:])
			s.has("PATCH", data)
		}},
		{"DELETE", func(up string) {
			s.expect(http.StatusNoContent, http.MethodDelete, up, nil)
			s.expect(http.StatusNotFound, http.MethodHead, up, nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := s.read.Load()
			old, answers := s.dial()
			fmt.Fprintf(old, "PUT /up/%s HTTP/1.1\r\nHost: x\r\nUpload-Draft-Interop-Version: 8\r\nUpload-Complete: ?1\r\n"+
				"Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n", c.name)
			told := answered(t, answers)
			// The 104 does not stand for the 100 that the client asked for.
			if code := answered(t, answers).StatusCode; code != http.StatusContinue {
				t.Fatalf("got %d", code)
			}
			if _, err := old.Write(data[:60_000]); err != nil {
				t.Fatal(err)
			}
			for s.read.Load()-before < 60_000 {
				time.Sleep(time.Millisecond)
			}
			begun := time.Now()
			c.request(told.Header.Get("Location"))
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			res := answered(t, answers)
			for res.StatusCode == statusResumptionSupported { // progress
				res = answered(t, answers)
			}
			if res.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("the old request got %d", res.StatusCode)
			}
		})
	}
}
