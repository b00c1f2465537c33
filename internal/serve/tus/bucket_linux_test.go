package tus

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/internal/serve/session/bucket"
	"github.com/ebbtransfer/ebb/test/servers"
)

// nodes are servers of one bucket.
func nodes(t *testing.T, n int) []*server {
	t.Helper()
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
	c := bucket.Config{Endpoint: gw.URL, Region: servers.S3Region, Bucket: "uploads",
		AccessKey: servers.S3AccessKey, SecretKey: servers.S3SecretKey}
	all := make([]*server, n)
	for i := range all {
		store, err := bucket.Open(t.Context(), c, session.Options{})
		if err != nil {
			t.Fatal(err)
		}
		all[i] = serveFrom(t, store, root, nil)
	}
	return all
}

// What one node began the other goes on with, also parts.
func TestTwoNodesWithABucket(t *testing.T) {
	n := nodes(t, 2)
	a, b := n[0], n[1]
	data := random(12 << 20)
	up := a.create("file", "Upload-Length", strconv.Itoa(len(data)))
	a.patch(http.StatusNoContent, up, 0, data[:7<<20])
	if offset := b.head(up); offset != 7<<20 {
		t.Fatalf("the offset is %d", offset)
	}
	sum := sha1.Sum(data[7<<20:])
	b.patch(statusChecksumMismatch, up, 7<<20, data[7<<20:], "Upload-Checksum", "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	b.patch(http.StatusNoContent, up, 7<<20, data[7<<20:], "Upload-Checksum", "sha1 "+base64.StdEncoding.EncodeToString(sum[:]))
	b.has("file", data)

	concat := "final;" + a.part(data[:6<<20]) + " " + b.part(data[6<<20:7<<20]) + " " + a.part(data[7<<20:])
	whole := b.create("whole", "Upload-Concat", concat)
	a.has("whole", data)
	if again := a.create("whole", "Upload-Concat", concat); again != whole {
		t.Errorf("asked again the upload is %s, want %s", again, whole)
	}
	a.expect(http.StatusForbidden, http.MethodPost, "file", nil, "Upload-Length", "1")
	b.expect(http.StatusCreated, http.MethodPost, "small", "hello", "Upload-Length", "5")
	a.has("small", []byte("hello"))
}

func TestTusJSClientWithABucket(t *testing.T) {
	s := nodes(t, 1)[0]
	data := random(20 << 20)
	file := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, u := range map[string]servers.TusUpload{
		"paused": {Pauses: 1, Again: true}, "parts": {Parallel: 3}, "atonce": {AtOnce: true},
	} {
		u.Endpoint, u.File, u.Name = s.url, file, name
		if done := run(t, u); done.Error != "" {
			t.Errorf("%s: %+v", name, done)
		}
		s.has(name, data)
	}
}
