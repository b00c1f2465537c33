package tus

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

func name(n string) string { return "filename " + base64.StdEncoding.EncodeToString([]byte(n)) }

func TestOptionsTellWhatTheServerDoes(t *testing.T) {
	s := serve(t, func(p *session.Prefix) { p.MaxSize = 1 << 30 })
	res := s.expect(http.StatusNoContent, http.MethodOptions, "", nil, "Tus-Resumable", "")
	header(t, res, "Tus-Version", "1.0.0", "Tus-Max-Size", "1073741824", "Tus-Extension", extensions,
		"Tus-Checksum-Algorithm", "crc32,crc32c,md5,sha1,sha256,sha512")
}

func TestVersions(t *testing.T) {
	s := serve(t, nil)
	for _, version := range []string{"", "0.2.2", "1.0.1"} {
		res := s.expect(http.StatusPreconditionFailed, http.MethodPost, "file", nil, "Tus-Resumable", version, "Upload-Length", "1")
		header(t, res, "Tus-Version", "1.0.0")
	}
	if n := s.sessions(); n != 0 {
		t.Errorf("%d uploads were made", n)
	}
}

func TestUploadAppearsWhenItIsComplete(t *testing.T) {
	s := serve(t, nil)
	data := random(1000)
	up := s.create("dir.bin", "Upload-Length", "1000", "Upload-Metadata", "filename b3RoZXI=,empty ,none")
	if want := "/up/.ebb-uploads/"; !strings.HasPrefix(up, want) {
		t.Fatalf("Location is %q, want %s and an id", up, want)
	}
	res := s.expect(http.StatusOK, http.MethodHead, up, nil)
	header(t, res, "Upload-Offset", "0", "Upload-Length", "1000", "Cache-Control", "no-store",
		"Upload-Metadata", "filename b3RoZXI=,empty ,none")
	res = s.patch(http.StatusNoContent, up, 0, data[:400])
	header(t, res, "Upload-Offset", "400")
	expires, err := http.ParseTime(res.Header.Get("Upload-Expires"))
	if left := time.Until(expires); err != nil || left < 59*time.Minute || left > time.Hour {
		t.Errorf("Upload-Expires is %q (%v), want an hour from now", res.Header.Get("Upload-Expires"), err)
	}
	s.hasNot("dir.bin")
	res = s.patch(http.StatusNoContent, up, 400, data[400:])
	header(t, res, "Upload-Offset", "1000", "Upload-Expires", "")
	s.has("dir.bin", data)
	res = s.expect(http.StatusOK, http.MethodHead, up, nil)
	header(t, res, "Upload-Offset", "1000", "Upload-Length", "1000")
	s.patch(http.StatusNoContent, up, 1000, []byte{})
	s.patch(http.StatusRequestEntityTooLarge, up, 1000, []byte("more"))
	s.expect(http.StatusNoContent, http.MethodDelete, up, nil)
	s.expect(http.StatusNotFound, http.MethodHead, up, nil)
	s.has("dir.bin", data) // what is published stays
}

func TestRefusals(t *testing.T) {
	s := serve(t, func(p *session.Prefix) { p.MaxSize = 100 })
	if err := os.WriteFile(filepath.Join(s.Root, "there"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.Root, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	up := s.create("file", "Upload-Length", "10")
	s.patch(http.StatusNoContent, up, 0, []byte("12345"))
	deferred := s.create("later", "Upload-Defer-Length", "1")
	s.patch(http.StatusNoContent, deferred, 0, []byte("12345"))
	for _, c := range []struct {
		why    string
		status int
		method string
		target string
		body   any
		fields []string
	}{
		{"no length", 400, "POST", "a", nil, nil},
		{"both lengths", 400, "POST", "a", nil, []string{"Upload-Length", "1", "Upload-Defer-Length", "1"}},
		{"deferred by two", 400, "POST", "a", nil, []string{"Upload-Defer-Length", "2"}},
		{"negative length", 400, "POST", "a", nil, []string{"Upload-Length", "-1"}},
		{"length with a sign", 400, "POST", "a", nil, []string{"Upload-Length", "+1"}},
		{"length beyond 63 bits", 400, "POST", "a", nil, []string{"Upload-Length", "9223372036854775808"}},
		{"no number", 400, "POST", "a", nil, []string{"Upload-Length", "1 2"}},
		{"larger than allowed", 413, "POST", "a", nil, []string{"Upload-Length", "101"}},
		{"target exists", 403, "POST", "there", nil, []string{"Upload-Length", "1"}},
		{"target is a directory", 404, "POST", "dir", nil, []string{"Upload-Length", "1"}},
		{"directory does not exist", 404, "POST", "no/a", nil, []string{"Upload-Length", "1"}},
		{"no name", 400, "POST", "", nil, []string{"Upload-Length", "1"}},
		{"name is a path", 400, "POST", "", nil, []string{"Upload-Length", "1", "Upload-Metadata", name("dir/a")}},
		{"name leads out", 400, "POST", "", nil, []string{"Upload-Length", "1", "Upload-Metadata", name("..")}},
		{"name is a Windows path", 400, "POST", "", nil, []string{"Upload-Length", "1", "Upload-Metadata", name(`C:\a`)}},
		{"path leads out", 400, "POST", "%2e%2e/a", nil, []string{"Upload-Length", "1"}},
		{"path leads out, encoded", 400, "POST", "x%2f..%2f..%2fa", nil, []string{"Upload-Length", "1"}},
		{"name is the server's own", 400, "POST", "", nil, []string{"Upload-Length", "1", "Upload-Metadata", name(".ebb-uploads")}},
		{"name has a control character", 400, "POST", "", nil, []string{"Upload-Length", "1", "Upload-Metadata", name("a\nb")}},
		{"metadata twice", 400, "POST", "a", nil, []string{"Upload-Length", "1", "Upload-Metadata", "k YQ==,k YQ=="}},
		{"metadata not base64", 400, "POST", "a", nil, []string{"Upload-Length", "1", "Upload-Metadata", "k !"}},
		{"metadata without a key", 400, "POST", "a", nil, []string{"Upload-Length", "1", "Upload-Metadata", "k YQ==,,"}},
		{"metadata too long", 431, "POST", "a", nil, []string{"Upload-Length", "1", "Upload-Metadata", "k " + strings.Repeat("YWFh", 4<<10)}},
		{"content of another type", 415, "POST", "a", "12", []string{"Upload-Length", "5", "Content-Type", "text/plain"}},
		{"more content than length", 413, "POST", "a", "12345", []string{"Upload-Length", "4"}},
		{"unknown concatenation", 400, "POST", "a", nil, []string{"Upload-Length", "4", "Upload-Concat", "whole"}},
		{"another method", 405, "PUT", "a", "12345", nil},
		{"another method for an upload", 405, "POST", up, "12345", nil},
		{"no upload", 404, "HEAD", "a", nil, nil},

		{"unknown upload", 404, "HEAD", ".ebb-uploads/00000000000000000000000000000000", nil, nil},
		{"unknown upload", 404, "PATCH", ".ebb-uploads/x", "6", []string{"Upload-Offset", "5"}},
		{"unknown upload", 404, "DELETE", ".ebb-uploads/%2e%2e", nil, nil},
		{"somebody else's upload", 404, "HEAD", up, nil, []string{"User", "mallory"}},
		{"somebody else's upload", 404, "PATCH", up, "6", []string{"User", "mallory", "Upload-Offset", "5"}},
		{"somebody else's upload", 404, "DELETE", up, nil, []string{"User", "mallory"}},
		{"no offset", 400, "PATCH", up, "6", nil},
		{"negative offset", 400, "PATCH", up, "6", []string{"Upload-Offset", "-5"}},
		{"too low an offset", 409, "PATCH", up, "6", []string{"Upload-Offset", "4"}},
		{"too high an offset", 409, "PATCH", up, "6", []string{"Upload-Offset", "6"}},
		{"content of another type", 415, "PATCH", up, "6", []string{"Upload-Offset", "5", "Content-Type", "text/plain"}},
		{"more content than length", 413, "PATCH", up, "6789ABC", []string{"Upload-Offset", "5"}},
		{"another length", 400, "PATCH", up, "6", []string{"Upload-Offset", "5", "Upload-Length", "11"}},
		{"checksum of an unknown algorithm", 400, "PATCH", up, "6", []string{"Upload-Offset", "5", "Upload-Checksum", "rot13 YQ=="}},
		{"checksum of another length", 400, "PATCH", up, "6", []string{"Upload-Offset", "5", "Upload-Checksum", "sha1 YQ=="}},
		{"too low an offset, with the length", 409, "PATCH", deferred, "6", []string{"Upload-Offset", "4", "Upload-Length", "10"}},
		{"more content than the length that comes with it", 413, "PATCH", deferred, "6789", []string{"Upload-Offset", "5", "Upload-Length", "8"}},
		{"deferred length is less", 400, "PATCH", deferred, "6", []string{"Upload-Offset", "5", "Upload-Length", "4"}},
		{"deferred length is too large", 413, "PATCH", deferred, "6", []string{"Upload-Offset", "5", "Upload-Length", "101"}},
	} {
		res, text := s.do(c.method, c.target, c.body, c.fields...)
		if res.StatusCode != c.status {
			t.Errorf("%s: %s %s %q: got %d %q, want %d", c.why, c.method, c.target, c.fields, res.StatusCode, text, c.status)
		}
		if strings.Contains(text, s.Root) {
			t.Errorf("%s: the answer %q tells the server's paths", c.why, text)
		}
	}
	// Nothing of all that changed anything.
	header(t, s.expect(http.StatusOK, http.MethodHead, up, nil), "Upload-Offset", "5", "Upload-Length", "10")
	header(t, s.expect(http.StatusOK, http.MethodHead, deferred, nil), "Upload-Offset", "5", "Upload-Defer-Length", "1")
	if n := s.sessions(); n != 2 {
		t.Errorf("there are %d uploads, want 2", n)
	}
}

func TestMethodOverride(t *testing.T) {
	s := serve(t, nil)
	up := s.create("file", "Upload-Length", "5")
	res := s.expect(http.StatusNoContent, http.MethodPost, up, "hello", "X-HTTP-Method-Override", "PATCH", "Upload-Offset", "0")
	header(t, res, "Upload-Offset", "5")
	s.has("file", []byte("hello"))
	s.expect(http.StatusNoContent, http.MethodPost, up, nil, "X-HTTP-Method-Override", "DELETE")
	s.expect(http.StatusNotFound, http.MethodHead, up, nil)
}

func TestCreationWithUpload(t *testing.T) {
	s := serve(t, nil)
	res := s.expect(http.StatusCreated, http.MethodPost, "part", "hel", "Upload-Length", "5")
	header(t, res, "Upload-Offset", "3")
	s.patch(http.StatusNoContent, res.Header.Get("Location"), 3, "lo")
	s.has("part", []byte("hello"))

	res = s.expect(http.StatusCreated, http.MethodPost, "", "hello", "Upload-Length", "5", "Upload-Metadata", name("Grüße, Welt.txt"))
	header(t, res, "Upload-Offset", "5")
	s.has("Grüße, Welt.txt", []byte("hello"))

	// Of unknown length, with content of unknown length.
	res = s.expect(http.StatusCreated, http.MethodPost, "stream", io.MultiReader(strings.NewReader("hel")), "Upload-Defer-Length", "1")
	header(t, res, "Upload-Offset", "3")
	s.patch(http.StatusNoContent, res.Header.Get("Location"), 3, io.MultiReader(strings.NewReader("lo")), "Upload-Length", "5")
	s.has("stream", []byte("hello"))
}

func TestEmptyFile(t *testing.T) {
	s := serve(t, nil)
	s.create("empty", "Upload-Length", "0")
	s.has("empty", nil)
}

func TestDeferredLength(t *testing.T) {
	s := serve(t, nil)
	up := s.create("file", "Upload-Defer-Length", "1")
	header(t, s.expect(http.StatusOK, http.MethodHead, up, nil), "Upload-Defer-Length", "1", "Upload-Length", "")
	s.patch(http.StatusNoContent, up, 0, "hello")
	header(t, s.expect(http.StatusOK, http.MethodHead, up, nil), "Upload-Defer-Length", "1", "Upload-Offset", "5")
	s.hasNot("file")
	s.patch(http.StatusNoContent, up, 5, "", "Upload-Length", "5") // the length comes last, without content
	header(t, s.expect(http.StatusOK, http.MethodHead, up, nil), "Upload-Defer-Length", "", "Upload-Length", "5")
	s.has("file", []byte("hello"))
}

func TestTargetThatAppearsMeanwhileIsKept(t *testing.T) {
	s := serve(t, nil)
	up := s.create("file", "Upload-Length", "5")
	other := []byte("somebody else's")
	if err := os.WriteFile(filepath.Join(s.Root, "file"), other, 0o600); err != nil {
		t.Fatal(err)
	}
	s.patch(http.StatusForbidden, up, 0, "hello")
	s.has("file", other)
	// The bytes are not lost: the client may wait until the name is free.
	if err := os.Remove(filepath.Join(s.Root, "file")); err != nil {
		t.Fatal(err)
	}
	header(t, s.expect(http.StatusOK, http.MethodHead, up, nil), "Upload-Offset", "5")
	s.has("file", []byte("hello"))
}

func TestOverwriteWhereAllowed(t *testing.T) {
	s := serve(t, func(p *session.Prefix) { p.Overwrite = true })
	for _, text := range []string{"one", "three"} {
		s.expect(http.StatusCreated, http.MethodPost, "file", text, "Upload-Length", fmt.Sprint(len(text)))
		s.has("file", []byte(text))
	}
}

func TestPublicURL(t *testing.T) {
	s := serve(t, func(p *session.Prefix) { p.PublicURL = "https://files.example.org" })
	up := s.create("file", "Upload-Length", "5", "X-Forwarded-Host", "evil.example.org")
	if !strings.HasPrefix(up, "https://files.example.org/up/.ebb-uploads/") {
		t.Errorf("Location is %q", up)
	}
}

func TestChecksum(t *testing.T) {
	sum := func(algorithm string, data []byte) string {
		h := algorithms[algorithm]()
		h.Write(data)
		return algorithm + " " + base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	for _, size := range []int{0, 5, 4095, 64 << 10, 64<<10 + 1, 3<<20 + 5} {
		data := random(size)
		for algorithm := range algorithms {
			t.Run(fmt.Sprintf("%s of %d", algorithm, size), func(t *testing.T) {
				s := serve(t, nil)
				up := s.create("file", "Upload-Length", fmt.Sprint(size+5))
				s.patch(statusChecksumMismatch, up, 0, data, "Upload-Checksum", sum(algorithm, append([]byte("x"), data...)))
				header(t, s.expect(http.StatusOK, http.MethodHead, up, nil), "Upload-Offset", "0")
				s.patch(http.StatusNoContent, up, 0, data, "Upload-Checksum", sum(algorithm, data))
				s.patch(statusChecksumMismatch, up, int64(size), "hallo", "Upload-Checksum", sum(algorithm, []byte("hello")))
				s.patch(http.StatusNoContent, up, int64(size), "hello", "Upload-Checksum", sum(algorithm, []byte("hello")))
				s.has("file", append(data[:size:size], "hello"...))
				if n := s.sessions(); n != 1 {
					t.Errorf("there are %d uploads, want that of the file only", n)
				}
			})
		}
	}
}

func TestChecksumOfKnownValues(t *testing.T) {
	s := serve(t, nil)
	for header, text := range map[string]string{
		"sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=": "hello world", // the protocol's example
		"crc32 y/Q5Jg==":                    "123456789",   // the check value of CRC-32/ISO-HDLC
		"crc32c 4waSgw==":                   "123456789",   // that of CRC-32/ISCSI, e3069283
	} {
		name, _, _ := strings.Cut(header, " ")
		s.expect(http.StatusCreated, http.MethodPost, name, text, "Upload-Length", fmt.Sprint(len(text)), "Upload-Checksum", header)
		s.has(name, []byte(text))
	}
	if crc32.ChecksumIEEE([]byte("123456789")) != 0xcbf43926 || sha1.Size != 20 {
		t.Error("other algorithms than thought")
	}
}

func TestCreationWithWrongChecksumMakesNothing(t *testing.T) {
	s := serve(t, nil)
	s.expect(statusChecksumMismatch, http.MethodPost, "file", "hallo", "Upload-Length", "5", "Upload-Checksum", "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=")
	s.hasNot("file")
	if n := s.sessions(); n != 0 {
		t.Errorf("there are %d uploads", n)
	}
}

func TestChecksumTrailer(t *testing.T) {
	s := serve(t, nil)
	up := s.create("file", "Upload-Length", "11")
	send := func(sum string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, strings.TrimSuffix(s.url, "/up/")+up,
			io.MultiReader(strings.NewReader("hello world")))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Tus-Resumable": version, "Upload-Offset": "0", "Content-Type": contentType} {
			req.Header.Set(name, value)
		}
		req.Trailer = http.Header{"Upload-Checksum": {sum}}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	for _, c := range []struct {
		sum    string
		status int
	}{
		{"sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=", statusChecksumMismatch},
		{"sha1", http.StatusBadRequest},
		{"", http.StatusBadRequest},
		{"sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", http.StatusNoContent},
	} {
		if got := send(c.sum); got != c.status {
			t.Errorf("trailer %q: got %d, want %d", c.sum, got, c.status)
		}
	}
	s.has("file", []byte("hello world"))
}

func TestSessionsOfOtherProtocolsAreNotThisOnes(t *testing.T) {
	s := serve(t, nil)
	info, err := s.Store.Create(t.Context(), session.Spec{Protocol: "ietf", Target: "file", Size: 5, Limit: -1})
	if err != nil {
		t.Fatal(err)
	}
	s.expect(http.StatusNotFound, http.MethodHead, ".ebb-uploads/"+info.ID, nil)
}

func TestFinishedBeforeACrash(t *testing.T) {
	s := serve(t, nil)
	info, err := s.Store.Create(t.Context(), session.Spec{Protocol: "tus", Target: "file", Size: 5, Limit: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, sess, err := s.Store.Acquire(t.Context(), info.ID, session.Who{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sess.Append(ctx, strings.NewReader("hello")); err != nil {
		t.Fatal(err)
	}
	sess.Release() // here the server ended
	s.hasNot("file")
	header(t, s.expect(http.StatusOK, http.MethodHead, ".ebb-uploads/"+info.ID, nil), "Upload-Offset", "5", "Upload-Length", "5")
	s.has("file", []byte("hello"))
}

func TestStorageErrorsAreForTheLogOnly(t *testing.T) {
	s := serve(t, func(p *session.Prefix) { p.Store = broken{p.Store} })
	_, text := s.do(http.MethodPost, "file", nil, "Upload-Length", "5")
	if text != "the server could not store the upload\n" {
		t.Errorf("got %q", text)
	}
	if why := s.why.Load(); why != errBroken.Error() {
		t.Errorf("the log tells %q", why)
	}
}

var errBroken = errors.New("open /secret/path: input/output error")

// broken is a store whose disk has gone.
type broken struct{ session.Store }

func (b broken) Create(ctx context.Context, spec session.Spec) (session.Info, error) {
	return session.Info{}, errBroken
}
