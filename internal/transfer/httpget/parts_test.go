package httpget

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

const modified = "Mon, 02 Mar 2026 12:00:00 GMT"

// content is what the servers of these tests have.
var content = func() []byte {
	b := make([]byte, 100_000)
	for i := range b {
		b[i] = byte(i * i >> 3)
	}
	return b
}()

type got struct {
	part bits.Range
	data []byte
}

// ask gets parts from a server with the handler.
func ask(t *testing.T, v Validator, ranges []bits.Range, h http.HandlerFunc) ([]got, *Parts, error) {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	p, err := New(httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler)))).GetParts(t.Context(), PartsRequest{URL: s.URL, Ranges: ranges, Validator: v})
	if err != nil || p.Restart != "" {
		return nil, p, err
	}
	defer p.Close()
	var out []got
	for {
		part, r, err := p.Next(t.Context())
		if err == io.EOF {
			return out, p, nil
		}
		if err != nil {
			return out, p, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return out, p, err
		}
		out = append(out, got{part, data})
	}
}

func serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Etag", `"v1"`)
	when, _ := http.ParseTime(modified)
	http.ServeContent(w, r, "x.bin", when, bytes.NewReader(content))
}

// multipart answers with parts, each written as head and body.
func multipartAnswer(parts ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", `multipart/byteranges; boundary="a b"`)
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, strings.Join(parts, ""))
	}
}

func part(first, last int, total string) string {
	return fmt.Sprintf("\r\n--a b\r\nContent-Type: x/y\r\nContent-Range: bytes %d-%d/%s\r\n\r\n%s", first, last, total, content[first:last+1])
}

const ending = "\r\n--a b--\r\n"

func ranges(text string) []bits.Range {
	r, err := bits.ParseRanges(text)
	if err != nil {
		panic(err)
	}
	return r
}

func TestPartsThatAreRight(t *testing.T) {
	total := fmt.Sprint(len(content))
	for name, c := range map[string]struct {
		ask     string
		handler http.HandlerFunc
		want    string
	}{
		"one range":                      {"10:20", serve, "10:20"},
		"several":                        {"10:20,500:1,90000:10", serve, "10:20,500:1,90000:10"},
		"in any order":                   {"90000:10,10:20", serve, "90000:10,10:20"},
		"to the end":                     {"10:1,99000:eof", serve, "10:1,99000:1000"},
		"longer than the file":           {"10:1,99000:5000", serve, "10:1,99000:1000"},
		"sent in another order":          {"10:2,30:2", multipartAnswer(part(30, 31, total), part(10, 11, total), ending), "30:2,10:2"},
		"joined":                         {"10:2,14:2", multipartAnswer(part(10, 15, total), ending), "10:6"},
		"joined, as a single part":       {"10:2,14:2", func(w http.ResponseWriter, r *http.Request) { r.Header.Set("Range", "bytes=10-15"); serve(w, r) }, "10:6"},
		"only the first":                 {"10:2,14:2", func(w http.ResponseWriter, r *http.Request) { r.Header.Set("Range", "bytes=10-11"); serve(w, r) }, "10:2"},
		"no line before the first":       {"10:2", multipartAnswer(strings.TrimPrefix(part(10, 11, total), "\r\n"), ending), "10:2"},
		"with words before the first":    {"10:2", multipartAnswer("to be ignored\r\n", part(10, 11, total), ending, "and after"), "10:2"},
		"mere line feeds":                {"10:2", multipartAnswer(strings.ReplaceAll(part(10, 11, total), "\r", ""), ending), "10:2"},
		"a boundary within the contents": {"0:9", multipartAnswer("--a b\r\ncontent-range: bytes 0-8/9\r\n\r\n\r\n--a b--", ending), "0:9"},
	} {
		out, p, err := ask(t, Validator{}, ranges(c.ask), c.handler)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var parts []bits.Range
		for _, g := range out {
			parts = append(parts, g.part)
			if name != "a boundary within the contents" && !bytes.Equal(g.data, content[g.part.Offset:g.part.End()]) {
				t.Errorf("%s: the bytes of %v are others", name, g.part)
			}
		}
		if !slices.Equal(parts, ranges(c.want)) {
			t.Errorf("%s: got %v, want %s", name, parts, c.want)
		}
		if p.Validator.Size != int64(len(content)) && name != "a boundary within the contents" {
			t.Errorf("%s: the size is %d", name, p.Validator.Size)
		}
	}
}

func TestPartsThatAreWrong(t *testing.T) {
	total := fmt.Sprint(len(content))
	answer := func(status int, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
			_, _ = w.Write(content[:10])
		}
	}
	plain := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }
	for name, c := range map[string]struct {
		ask     string
		handler http.HandlerFunc
		want    bits.Code
	}{
		"whole file for one range":        {"10:20", plain, bits.InsufficientRangeSupport},
		"beyond the end":                  {"100000:1", serve, bits.InvalidRange},
		"not there":                       {"1:1", http.NotFound, bits.HTTPStatus(404)},
		"unknown size":                    {"0:10", answer(206, "Content-Range", "bytes 0-9/*"), bits.InsufficientRangeSupport},
		"no Content-Range":                {"0:10", answer(206), bits.InvalidServerResponse},
		"Content-Range of another length": {"0:10", answer(206, "Content-Range", "bytes 0-5/100", "Content-Length", "10"), bits.InvalidServerResponse},
		"another part":                    {"50:10", answer(206, "Content-Range", "bytes 0-9/100", "Content-Length", "10"), bits.InvalidServerResponse},
		"compressed":                      {"0:10", answer(206, "Content-Range", "bytes 0-9/100", "Content-Encoding", "gzip"), bits.InvalidServerResponse},
		"no boundary":                     {"0:10", answer(206, "Content-Type", "multipart/byteranges"), bits.InvalidServerResponse},
		"no part":                         {"0:10,20:1", multipartAnswer(ending), bits.ConnectionError},
		"a part too many":                 {"10:2,30:2", multipartAnswer(part(10, 11, total), part(30, 31, total), part(10, 11, total), ending), bits.InvalidServerResponse},
		"a part that nobody wants":        {"10:2,30:2", multipartAnswer(part(20, 21, total), ending), bits.InvalidServerResponse},
		"two sizes":                       {"10:2,30:2", multipartAnswer(part(10, 11, total), part(30, 31, "77777"), ending), bits.InvalidServerResponse},
		"a part longer than it says":      {"10:2,30:2", multipartAnswer(part(10, 11, total), "more", part(30, 31, total), ending), bits.InvalidServerResponse},
		"cut between parts":               {"10:2,30:2", multipartAnswer(part(10, 11, total)), bits.ConnectionError},
		"a long header":                   {"10:2", multipartAnswer("--a b\r\nX: " + strings.Repeat("x", 9000)), bits.InvalidServerResponse},
		"many headers":                    {"10:2", multipartAnswer("--a b\r\n" + strings.Repeat("X: y\r\n", 9000)), bits.InvalidServerResponse},
		"a long preamble":                 {"10:2", multipartAnswer(strings.Repeat("x\r\n", 9000)), bits.InvalidServerResponse},
		"a header without a colon":        {"10:2", multipartAnswer("--a b\r\nnothing\r\n\r\n"), bits.InvalidServerResponse},
		"two Content-Ranges":              {"10:2", multipartAnswer("--a b\r\nContent-Range: bytes 10-11/100\r\nContent-Range: bytes 12-13/100\r\n\r\nxx"), bits.InvalidServerResponse},
		"no Content-Range in a part":      {"10:2", multipartAnswer("--a b\r\n\r\nxx"), bits.InvalidServerResponse},
	} {
		_, _, err := ask(t, Validator{}, ranges(c.ask), c.handler)
		var e *bits.Error
		switch {
		case err == nil && c.want != bits.OK:
			t.Errorf("%s: no error", name)
		case err != nil && (!errors.As(err, &e) || e.Code != c.want):
			t.Errorf("%s: %v, want %s", name, err, c.want.Name())
		}
	}
	if _, _, err := ask(t, Validator{}, ranges("10:20,50:1"), plain); !errors.Is(err, ErrManyRanges) {
		t.Errorf("whole file for two ranges: %v", err)
	}
}

func TestAnotherVersionHasNoParts(t *testing.T) {
	whole := int64(len(content))
	same := Validator{ETag: `"v1"`, LastModified: modified, Size: whole}
	ignoring := func(w http.ResponseWriter, r *http.Request) { r.Header.Del("If-Range"); serve(w, r) }
	for name, c := range map[string]struct {
		v       Validator
		handler http.HandlerFunc
		restart bool
	}{
		"same":                         {same, serve, false},
		"another tag":                  {Validator{ETag: `"v0"`, Size: whole}, serve, true},
		"another tag, If-Range passed": {Validator{ETag: `"v0"`, Size: whole}, ignoring, true},
		"another size":                 {Validator{ETag: `"v1"`, Size: whole + 1}, serve, true},
		"tag gone": {same, func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "x.bin", time.Time{}, bytes.NewReader(content))
		}, true},
		"shorter than what is wanted": {Validator{ETag: `"v1"`, Size: whole}, func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("If-Range")
			http.ServeContent(w, r, "x.bin", time.Time{}, bytes.NewReader(content[:10]))
		}, true},
	} {
		out, p, err := ask(t, c.v, ranges("50:10,90:1"), c.handler)
		if err != nil || (p.Restart != "") != c.restart || c.restart == (len(out) > 0) {
			t.Errorf("%s: %v, restart %q, %d parts", name, err, p.Restart, len(out))
		}
	}
}

func FuzzParts(f *testing.F) {
	f.Add([]byte("--b\r\nContent-Range: bytes 0-1/9\r\n\r\nxx\r\n--b--\r\n"))
	f.Add([]byte("--b\r\nContent-Range: bytes 0-1/9\r\n\r\nxx\r\n--b\r\nContent-Range: bytes 4-4/9\r\n\r\nx\r\n--b--\r\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p := newPartsParser(bytes.NewReader(doc), "b")
		for range len(doc) + 1 {
			part, total, err := p.header()
			if err != nil {
				return
			}
			if part.Offset < 0 || part.Length <= 0 || part.End() > total {
				t.Fatalf("%v of %d", part, total)
			}
			n, err := io.Copy(io.Discard, p.content())
			if err != nil {
				return
			}
			if n != part.Length {
				t.Fatalf("%v has %d bytes", part, n)
			}
		}
		t.Fatal("there is no end")
	})
}
