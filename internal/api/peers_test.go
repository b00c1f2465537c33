package api

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peers"
)

// cached returns the API of a node with one segment in its cache, and that.
func cached(t *testing.T) (http.Handler, *peers.Node, peerdist.Segment) {
	t.Helper()
	node := peers.Open(filepath.Join(t.TempDir(), "peers"), slog.New(slog.DiscardHandler))
	t.Cleanup(node.Close)
	s := peers.Defaults()
	s.Mode, s.Limits = peers.Local, cache.Limits{Size: 1 << 30, MaxAge: time.Hour}
	if err := node.Apply(s); err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("ebb"), 30000)
	h, err := peerdist.Generate(t.Context(), bytes.NewReader(body), peerdist.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	info, err := h.Info(peerdist.SHA256.ServerKey([]byte("p")), bits.Range{Length: int64(len(body))})
	if err != nil {
		t.Fatal(err)
	}
	seg := info.Segments[0]
	for i := range seg.Blocks() {
		at, n := seg.Block(i)
		if err := node.Cache().Put(&seg, i, body[at:at+n]); err != nil {
			t.Fatal(err)
		}
	}
	return New(nil, governor.New("", slog.New(slog.DiscardHandler)), configuration(t, ""), nil, node, nil), node, seg
}

// Administrators may do all; users see how much there is, but not what, nor of whom, nor where.
func TestWhoDealsWithPeers(t *testing.T) {
	h, node, seg := cached(t)
	id := hex.EncodeToString(seg.ID())
	for _, c := range []struct{ method, path string }{
		{"GET", "/v1/cache/segments"}, {"GET", "/v1/cache/export"}, {"GET", "/v1/cache/export?id=" + id}, {"POST", "/v1/cache/import"},
		{"DELETE", "/v1/cache/segments/" + id}, {"DELETE", "/v1/cache/segments/ffff"}, {"DELETE", "/v1/cache"},
	} {
		w := call(as(alice, h), c.method, c.path, "")
		if p := problemOf(t, w, http.StatusForbidden); p.Code != bits.AccessDenied.Name() || strings.Contains(w.Body.String(), id[:8]) {
			t.Errorf("%s %s: %s", c.method, c.path, w.Body)
		}
	}
	for _, path := range []string{"/v1/peers", "/v1/cache"} {
		w := call(as(alice, h), "GET", path, "")
		if text := w.Body.String(); w.Code != http.StatusOK || strings.Contains(text, id[:8]) || strings.Contains(text, node.Dir()) {
			t.Errorf("%s: %s", path, text)
		}
	}
	if i := decode[bits.CacheInfo](t, call(as(admin, h), "GET", "/v1/cache", ""), http.StatusOK); !i.Open || i.Segments != 1 || i.Bytes != int64(seg.Length) || i.Directory != node.Dir() || i.Size != "5%" || i.MaxAge != "28d" {
		t.Errorf("%+v", i)
	}
	if node.Cache().Used() == 0 {
		t.Error("a user emptied the cache")
	}
	// Not even administrators see secrets, but in an export.
	for _, path := range []string{"/v1/peers", "/v1/cache", "/v1/cache/segments"} {
		text := call(as(admin, h), "GET", path, "").Body.String()
		if strings.Contains(text, hex.EncodeToString(seg.Secret)) || strings.Contains(text, string(seg.Secret)) {
			t.Errorf("%s tells the secret: %s", path, text)
		}
	}
}

func TestCache(t *testing.T) {
	h, node, seg := cached(t)
	h = as(admin, h)
	id := hex.EncodeToString(seg.ID())
	list := decode[[]bits.CacheEntry](t, call(h, "GET", "/v1/cache/segments", ""), http.StatusOK)
	if len(list) != 1 || list[0].ID != id || list[0].Length != seg.Length || list[0].Held != int64(seg.Length) || time.Since(list[0].Created) > time.Hour {
		t.Errorf("%+v", list)
	}
	w := call(h, "GET", "/v1/cache/export?id="+id[:8], "")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/x-tar" {
		t.Fatal(w.Code, w.Body)
	}
	archive := w.Body.String()
	problemOf(t, call(h, "GET", "/v1/cache/export?id=ffffffff", ""), http.StatusNotFound)
	problemOf(t, call(h, "DELETE", "/v1/cache/segments/ffffffff", ""), http.StatusNotFound)
	if w := call(h, "DELETE", "/v1/cache/segments/"+id[:8], ""); w.Code != http.StatusNoContent || node.Cache().Used() != 0 {
		t.Errorf("%d: %d bytes are left", w.Code, node.Cache().Used())
	}
	if text := call(h, "GET", "/v1/cache/segments", "").Body.String(); text != "[]\n" {
		t.Errorf("an empty list is %q", text)
	}
	if c := decode[bits.CacheCopied](t, call(h, "POST", "/v1/cache/import", archive), http.StatusOK); c != (bits.CacheCopied{Segments: 1, Blocks: seg.Blocks(), Bytes: int64(seg.Length)}) {
		t.Errorf("%+v", c)
	}
	if p := problemOf(t, call(h, "POST", "/v1/cache/import", strings.Repeat("x", 5000)), http.StatusUnprocessableEntity); p.Code != bits.InvalidArg.Name() {
		t.Errorf("%+v", p)
	}
	node.Cache().SetLimits(cache.Limits{Size: 70_000, MaxAge: time.Hour})
	if p := problemOf(t, call(h, "POST", "/v1/cache/import", archive), http.StatusUnprocessableEntity); p.Code != bits.TooLarge.Name() {
		t.Errorf("%+v", p)
	}

	// Off: what is there stays until it is cleared, and is not to be had.
	if err := node.Apply(peers.Defaults()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/cache/segments", "/v1/cache/export"} {
		if p := problemOf(t, call(h, "GET", path, ""), http.StatusConflict); p.Code != bits.PeerCachingDisabled.Name() || !strings.Contains(p.Hint, "ebb peers enable") {
			t.Errorf("%+v", p)
		}
	}
	for _, left := range []bool{true, false} {
		if i := decode[bits.CacheInfo](t, call(h, "GET", "/v1/cache", ""), http.StatusOK); i.Open || i.Left != left {
			t.Errorf("%+v, want left %v", i, left)
		}
		if w := call(h, "DELETE", "/v1/cache", ""); w.Code != http.StatusNoContent {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	var st map[string]any
	if err := json.Unmarshal(call(h, "GET", "/v1/peers", "").Body.Bytes(), &st); err != nil || st["mode"] != "off" || st["fetch"] != false {
		t.Errorf("%v %v", st, err)
	}
}
