package ietf

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/internal/serve/session/bucket"
	"github.com/ebbtransfer/ebb/test/servers"
)

func TestBucket(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "uploads")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	gw, err := servers.VersityGW(dir, servers.Options{})
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gw.Close)
	store, err := bucket.Open(t.Context(), bucket.Config{Endpoint: gw.URL, Region: servers.S3Region, Bucket: "uploads",
		AccessKey: servers.S3AccessKey, SecretKey: servers.S3SecretKey}, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := serveFrom(t, store, root, nil)
	data := random(12 << 20)

	up := s.create("series")
	s.patch(http.StatusNoContent, up, 0, false, data[:7<<20], "Content-Digest", digestOf(data[:7<<20]))
	s.patch(http.StatusBadRequest, up, 7<<20, true, data[7<<20:], "Content-Digest", digestOf(data))
	s.patch(http.StatusCreated, up, 7<<20, true, data[7<<20:])
	s.has("series", data)

	// Verified before it appears, though the bytes are parts of an object that is not there yet.
	for _, f := range [][]string{fields(completeHeader, "?1"), {completeHeader, "?1"}} {
		s.expect(http.StatusBadRequest, http.MethodPut, "bad", data, append(f, digestHeader, digestOf(data[1:]))...).has(t, completeHeader, "?1")
		s.hasNot("bad")
	}
	s.expect(http.StatusCreated, http.MethodPut, "good", data, completeHeader, "?1", digestHeader, digestOf(data))
	s.has("good", data)
	a := s.expect(http.StatusCreated, http.MethodPut, "told", data, fields(completeHeader, "?1", wantDigestHeader, "sha-512=1")...)
	if a.Header.Get(digestHeader) == "" {
		t.Error("the digest that was asked for is missing")
	}
	s.has("told", data)
}
