package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/ebbtransfer/ebb/test/faultserver"
)

func TestPaths(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "note.txt"), []byte("from the directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(handler(dir))
	t.Cleanup(s.Close)
	note := sha256.Sum256([]byte("from the directory"))
	tests := []struct {
		path   string
		status int
		digest string
	}{
		{"/gen/100000", 200, faultserver.SHA256(1, 100_000)},
		{"/gen/3M?seed=7", 200, faultserver.SHA256(7, 3<<20)},
		{"/small/0", 200, faultserver.SHA256(1<<32|1, 16<<10)},
		{"/small/9999?seed=2", 200, faultserver.SHA256(10_000<<32|2, 16<<10)},
		{"/note.txt", 200, hex.EncodeToString(note[:])},
		{"/gen/much", 400, ""},
		{"/small/-1", 400, ""},
		{"/gen/1?seed=x", 400, ""},
		{"/absent", 404, ""},
	}
	for _, test := range tests {
		resp, err := http.Get(s.URL + test.path)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, resp.Body); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != test.status || test.digest != "" && hex.EncodeToString(h.Sum(nil)) != test.digest {
			t.Errorf("%s: %s, digest %x; want %d, %s", test.path, resp.Status, h.Sum(nil), test.status, test.digest)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "1": 1, "1000000": 1_000_000, "64K": 64 << 10, "10M": 10 << 20, "8G": 8 << 30,
		"": -1, "K": -1, "-1": -1, "1T": -1, "99999999999G": -1} {
		got, err := parseSize(s)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
}
