package bits_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/internal/serve/session/bucket"
	"github.com/ebbtransfer/ebb/test/servers"
)

// farm starts two nodes with one bucket, and returns a client of each of them for the same upload, and
// the directory of the bucket.
func farm(t *testing.T, configure func(*session.Prefix)) (nodes [2]*windows, dir string) {
	top := t.TempDir()
	dir = filepath.Join(top, "uploads")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s3, err := servers.VersityGW(top, servers.Options{})
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s3.Close() })
	for i := range nodes {
		store, err := bucket.Open(t.Context(), bucket.Config{
			Endpoint: s3.URL, Region: servers.S3Region, Bucket: "uploads", AccessKey: servers.S3AccessKey, SecretKey: servers.S3SecretKey,
		}, session.Options{})
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(handler("", store, configure))
		nodes[i] = &windows{t: t, addr: srv.Listener.Addr().String(), path: "/up/f", host: "farm"}
		t.Cleanup(func() {
			nodes[i].hangUp()
			srv.Close()
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return nodes, dir
}

// alternate sends fragments to the nodes in turn.
func alternate(t *testing.T, nodes [2]*windows, want []byte, size int64) {
	t.Helper()
	nodes[0].open()
	nodes[1].session = nodes[0].session
	total := int64(len(want))
	for i := 0; nodes[0].offset < total; i++ {
		c, from := nodes[i%2], nodes[0].offset
		to := min(from+size, total)
		a := c.must(c.fragment(want, max(0, from-10), to, total)) // a little of it twice
		c.check(a, 200)
		nodes[0].offset = to
		nodes[0].reply = a.header["BITS-Reply-URL"]
	}
}

func TestFarmWithABucket(t *testing.T) {
	nodes, dir := farm(t, nil)
	want := content(18<<20 + 5)
	alternate(t, nodes, want, 3<<20+1)
	if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the bucket has %d bytes, %v", len(got), err)
	}
	nodes[0].expect(nodes[0].fragment(want, 18<<20, 18<<20+5, 18<<20+5), 200, "BITS-Received-Content-Range: 18874373")
	nodes[1].expect(nodes[1].end("Close-Session"), 200)
	nodes[0].expect(nodes[0].end("Close-Session"), 500, notFound)
	nodes[0].expect(nodes[0].create(), 403, denied)
}

// The application gets an upload that is in a bucket, and every node has its reply.
func TestFarmWithAnApplication(t *testing.T) {
	want := content(18<<20 + 5)
	reply := content(100_000)
	a := application(t, func(w http.ResponseWriter, c call) {
		w.Header().Set("BITS-Copy-File-To-Destination", "1")
		_, _ = w.Write(reply)
		if !bytes.Equal(c.body, want) {
			t.Errorf("the application got %d bytes", len(c.body))
		}
	})
	nodes, dir := farm(t, notifying(session.NotifyByValue, a.URL))
	alternate(t, nodes, want, 5<<20)
	a.last(t, 1)
	if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the bucket has %d bytes, %v", len(got), err)
	}
	u, err := url.Parse(nodes[0].reply)
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for i := range 6 { // many at once, also of one node
		readers.Go(func() {
			resp, err := http.Get("http://" + nodes[i%2].addr + u.EscapedPath())
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, reply) {
				t.Errorf("the reply has %d bytes, %s, %v", len(got), resp.Status, err)
			}
		})
	}
	readers.Wait()
	nodes[1].expect(nodes[1].end("Close-Session"), 200)
	if got := nodes[0].get(u.EscapedPath(), ""); got.status != 404 {
		t.Errorf("the reply outlives Close: %v", got)
	}
}
