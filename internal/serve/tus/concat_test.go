package tus

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// part uploads a part.
func (s *server) part(data []byte, fields ...string) string {
	s.t.Helper()
	up := s.create("", append([]string{"Upload-Length", fmt.Sprint(len(data)), "Upload-Concat", "partial"}, fields...)...)
	s.patch(http.StatusNoContent, up, 0, data, fields...)
	return up
}

func TestConcatenation(t *testing.T) {
	s := serve(t, nil)
	data := random(3 << 20)
	parts := make([]string, 3)
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() { parts[i] = s.part(data[i<<20 : (i+1)<<20]) })
	}
	wg.Wait()
	header(t, s.expect(http.StatusOK, http.MethodHead, parts[1], nil), "Upload-Concat", "partial", "Upload-Offset", "1048576")
	// URLs may be absolute, by whatever name the client knows the server.
	concat := "final;" + parts[0] + " https://proxy.example.org:8443" + parts[1] + " " + parts[2]
	up := s.create("", "Upload-Concat", concat, "Upload-Metadata", name("whole"))
	s.has("whole", data)
	header(t, s.expect(http.StatusOK, http.MethodHead, up, nil), "Upload-Offset", "3145728", "Upload-Length", "3145728",
		"Upload-Concat", concat, "Upload-Metadata", name("whole"))
	s.patch(http.StatusForbidden, up, 3145728, "")

	// A client that did not get the answer asks again, and finds what it made.
	if again := s.create("", "Upload-Concat", concat, "Upload-Metadata", name("whole")); again != up {
		t.Errorf("asked again the upload is %s, want %s", again, up)
	}
	other := s.part([]byte("other"))
	s.expect(http.StatusForbidden, http.MethodPost, "", nil, "Upload-Concat", "final;"+other, "Upload-Metadata", name("whole"))
	s.has("whole", data)
}

func TestConcatenationAskedTwiceAtOnce(t *testing.T) {
	s := serve(t, nil)
	data := random(1 << 20)
	parts := s.part(data[:1<<19]) + " " + s.part(data[1<<19:])
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				res, text := s.do(http.MethodPost, "whole", nil, "Upload-Concat", "final;"+parts)
				switch res.StatusCode {
				case http.StatusCreated:
					return
				case http.StatusLocked: // others ask at the same time
				default:
					t.Errorf("got %d %s", res.StatusCode, text)
					return
				}
			}
		})
	}
	wg.Wait()
	s.has("whole", data)
	if n := s.sessions(); n != 3 {
		t.Errorf("there are %d uploads, want two parts and one made of them", n)
	}
}

func TestConcatenationRefused(t *testing.T) {
	s := serve(t, nil)
	done := s.part([]byte("hello"))
	bobs := s.part([]byte("hello"), "User", "bob")
	unfinished := s.create("", "Upload-Length", "5", "Upload-Concat", "partial")
	whole := s.create("other", "Upload-Length", "5")
	for _, c := range []struct {
		why    string
		status int
		concat string
		fields []string
	}{
		{"unfinished part", 400, "final;" + done + " " + unfinished, nil},
		{"somebody else's part", 404, "final;" + done + " " + bobs, nil},
		{"not a part", 400, "final;" + whole, nil},
		{"not an upload", 400, "final;/up/other", nil},
		{"upload of another prefix", 400, "final;/elsewhere" + strings.TrimPrefix(done, "/up"), nil},
		{"unknown part", 404, "final;/up/.ebb-uploads/00000000000000000000000000000000", nil},
		{"no parts", 400, "final;", nil},
		{"bad URL", 400, "final;%zz", nil},
		{"too many parts", 400, "final;" + strings.Repeat("/up/.ebb-uploads/0 ", mostParts+1), nil},
		{"a part twice", 400, "final;" + done + " " + done, nil},
		{"a length", 400, "final;" + done, []string{"Upload-Length", "5"}},
		{"a deferred length", 400, "final;" + done, []string{"Upload-Defer-Length", "1"}},
	} {
		res, text := s.do(http.MethodPost, "file", nil, append([]string{"Upload-Concat", c.concat}, c.fields...)...)
		if res.StatusCode != c.status {
			t.Errorf("%s: got %d %q, want %d", c.why, res.StatusCode, text, c.status)
		}
	}
	res, _ := s.do(http.MethodPost, "file", "content", "Upload-Concat", "final;"+done)
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("with content: got %d", res.StatusCode)
	}
	s.hasNot("file")
}

// Parts are given up once there is what they were made for, but not forgotten: a client that goes on
// with an upload asks for them.
func TestPartsAreUsedUp(t *testing.T) {
	s := serve(t, nil)
	a, b := s.part([]byte("a")), s.part([]byte("b"))
	up := s.create("ab", "Upload-Concat", "final;"+a+" "+b)
	header(t, s.expect(http.StatusOK, http.MethodHead, a, nil), "Upload-Offset", "1", "Upload-Length", "1", "Upload-Concat", "partial")
	s.patch(http.StatusNoContent, a, 1, "")
	s.patch(http.StatusRequestEntityTooLarge, a, 1, "c")
	s.expect(http.StatusGone, http.MethodPost, "a", nil, "Upload-Concat", "final;"+a)
	s.expect(http.StatusGone, http.MethodPost, "ba", nil, "Upload-Concat", "final;"+b+" "+a)
	if again := s.create("ab", "Upload-Concat", "final;"+a+" "+b); again != up {
		t.Errorf("asked again the upload is %s, want %s", again, up)
	}
	s.has("ab", []byte("ab"))
	s.hasNot("ba")
}
