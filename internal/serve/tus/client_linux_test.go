package tus

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/test/servers"
)

// run runs tus-js-client.
func run(t *testing.T, u servers.TusUpload) *servers.TusUploaded {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	done, err := u.Run(ctx)
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// count returns how many requests had the method and an offset as wanted.
func count(done *servers.TusUploaded, method string, wanted func(offset string) bool) int {
	n := 0
	for _, r := range done.Requests {
		if r.Method == method && wanted(r.Offset) {
			n++
		}
	}
	return n
}

func anyOffset(string) bool    { return true }
func later(offset string) bool { return offset != "" && offset != "0" }

func TestTusJSClient(t *testing.T) {
	dir := t.TempDir()
	data := random(32 << 20)
	file := filepath.Join(dir, "source.bin")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		u     servers.TusUpload
		check func(*servers.TusUploaded) bool // that it went as the name says
	}{
		{"whole", servers.TusUpload{}, func(d *servers.TusUploaded) bool { return len(d.Requests) == 2 }},
		{"chunks", servers.TusUpload{Chunk: 5 << 20}, func(d *servers.TusUploaded) bool { return count(d, "PATCH", anyOffset) == 7 }},
		{"at once", servers.TusUpload{AtOnce: true}, func(d *servers.TusUploaded) bool { return len(d.Requests) == 1 }},
		{"first chunk at once", servers.TusUpload{AtOnce: true, Chunk: 20 << 20}, func(d *servers.TusUploaded) bool { return len(d.Requests) == 2 }},
		{"length later", servers.TusUpload{Deferred: true, Chunk: 20 << 20}, func(d *servers.TusUploaded) bool { return count(d, "PATCH", anyOffset) >= 2 }},
		{"POST for PATCH", servers.TusUpload{Override: true}, func(d *servers.TusUploaded) bool { return count(d, "PATCH", anyOffset) == 0 }},
		{"pause and resume", servers.TusUpload{Pauses: 1, Again: true}, func(d *servers.TusUploaded) bool {
			return count(d, "HEAD", anyOffset) == 1 && count(d, "PATCH", later) == 1
		}},
		{"parts at the same time", servers.TusUpload{Parallel: 4}, func(d *servers.TusUploaded) bool { return count(d, "POST", anyOffset) == 5 }},
		{"parts, pause and resume", servers.TusUpload{Parallel: 4, Pauses: 1, Again: true}, func(d *servers.TusUploaded) bool {
			return count(d, "HEAD", anyOffset) > 0 && count(d, "PATCH", later) > 0
		}},
		{"parts at once", servers.TusUpload{Parallel: 3, AtOnce: true}, func(d *servers.TusUploaded) bool { return len(d.Requests) == 4 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, nil)
			c.u.Endpoint, c.u.File, c.u.Name = s.url, file, "Ziel (1).bin"
			done := run(t, c.u)
			if done.Error != "" || !c.check(done) {
				t.Fatalf("got %+v", done)
			}
			s.has("Ziel (1).bin", data)
		})
	}

	t.Run("resume in another process", func(t *testing.T) {
		s := serve(t, nil)
		u := servers.TusUpload{Endpoint: s.url, File: file, Name: "file", Storage: filepath.Join(dir, "storage.json"), Pauses: 1}
		first := run(t, u)
		s.hasNot("file")
		u.Pauses = 0
		second := run(t, u)
		if second.Error != "" || second.URL != first.URL || count(second, "POST", anyOffset) != 0 || count(second, "PATCH", later) != 1 {
			t.Fatalf("got %+v, then %+v", first, second)
		}
		s.has("file", data)
	})
	t.Run("terminate", func(t *testing.T) {
		s := serve(t, nil)
		done := run(t, servers.TusUpload{Endpoint: s.url, File: file, Name: "file", Pauses: 1, Terminate: true})
		if done.Error != "" || count(done, "DELETE", anyOffset) != 1 {
			t.Fatalf("got %+v", done)
		}
		s.hasNot("file")
		if n := s.sessions(); n != 0 {
			t.Errorf("there are %d uploads", n)
		}
	})
	t.Run("refused once and for all", func(t *testing.T) {
		s := serve(t, func(p *session.Prefix) { p.MaxSize = 1 << 20 })
		done := run(t, servers.TusUpload{Endpoint: s.url, File: file, Name: "file"})
		if done.Error == "" || len(done.Requests) != 1 || done.Requests[0].Status != http.StatusRequestEntityTooLarge {
			t.Fatalf("got %+v", done)
		}
	})
}
