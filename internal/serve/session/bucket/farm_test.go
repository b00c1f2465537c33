package bucket_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/bits"
	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/internal/serve/tus"
	"github.com/ebbtransfer/ebb/internal/transfer/bup"
	clienttus "github.com/ebbtransfer/ebb/internal/transfer/tus"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

// farm is nodes behind a load balancer that gives each request to the next of them.
func (g gateway) farm(t *testing.T, nodes int) string {
	t.Helper()
	var handlers []http.Handler
	for range nodes {
		p := &session.Prefix{Path: "/up/", Store: g.node(t), MaxSize: -1, MaxFragment: 64 << 20, SessionTimeout: time.Hour,
			Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
		b, u := bits.New(p), tus.New(p)
		handlers = append(handlers, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "BITS_POST" {
				b.ServeHTTP(w, r)
				return
			}
			u.ServeHTTP(w, r)
		}))
	}
	var next atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers[int(next.Add(1))%nodes].ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestFarm uploads by both protocols through connections that break, to nodes that share a bucket.
func TestFarm(t *testing.T) {
	g := startGateway(t)
	u := g.farm(t, 2)
	for name, client := range map[string]upload.Uploader{"bits": bup.New(uploadtest.Client()), "tus": clienttus.New(uploadtest.Client())} {
		for seed := range uint64(2) {
			data := uploadtest.Bytes(20<<20+int(seed), byte(seed))
			proxy := uploadtest.NewProxy(t, u, 6, 12<<20, seed)
			target := fmt.Sprint(name, seed)
			task := uploadtest.New(t, proxy.URL+"/up/"+target, uploadtest.NewSource(target, data))
			if err := task.Patiently(t.Context(), client, 40); err != nil {
				t.Fatalf("%s seed %d: %v", name, seed, err)
			}
			wantTarget(t, g, target, data)
		}
	}
}
