package peers

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/pchc"
)

// TestOffers offers segments to a hosted cache that takes them.
func TestOffers(t *testing.T) {
	t.Parallel()
	_, one := described(t, 100<<10, peerdist.SHA256)
	_, two := described(t, 1<<20, peerdist.TruncatedSHA512)
	var mu sync.Mutex
	offered := map[string]pchc.Offered{}
	cache := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		m, err := pchc.Decode2(b)
		if err != nil || r.URL.Path != pchc.Path2 || m.Port != 2178 {
			t.Errorf("%s: %+v %v", r.URL, m, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, o := range m.Segments {
			if _, again := offered[string(o.ID)]; again {
				t.Error("a segment is offered twice")
			}
			offered[string(o.ID)] = o
		}
		_, _ = w.Write(pchc.AppendAnswer(nil, pchc.OK))
	}))
	defer cache.Close()
	n := opened(t, func(s *Settings) {
		s.Mode, s.Port, s.HostedCaches = Hosted, freePort(t), []string{cache.Listener.Addr().String()}
	})
	n.hosted.port = 2178
	all := slices.Concat(one, two)
	n.Offer(all)
	n.Offer(all)
	for end := time.Now().Add(patience); n.Status().Stats.Offers < int64(len(all)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d segments were offered", n.Status().Stats.Offers, len(all))
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, s := range all {
		want := pchc.Offered{BlockSize: peerdist.BlockSize, SegmentSize: uint32(s.Length), Tag: pchc.TagBITS, Version: s.Algorithm.Version()}
		if want.Version == 2 {
			want.BlockSize = want.SegmentSize
		}
		o := offered[string(s.ID())]
		o.ID = nil
		if o.BlockSize != want.BlockSize || o.SegmentSize != want.SegmentSize || o.Tag != want.Tag || o.Version != want.Version {
			t.Errorf("%+v was offered, want %+v", o, want)
		}
	}
}

// TestOffersOfVersion1 tells a hosted cache of version 1 all about the segments that it is interested in.
func TestOffersOfVersion1(t *testing.T) {
	_, all := described(t, 100<<10, peerdist.SHA256)
	_, two := described(t, 200<<10, peerdist.TruncatedSHA512)
	l, err := net.Listen("tcp", "127.0.99.1:"+securePort)
	if err != nil {
		t.Skip("the port of HTTPS cannot be had: ", err)
	}
	var infos atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		m, err := pchc.Decode1(b)
		answer := pchc.OK
		switch m := m.(type) {
		case *pchc.InitialOffer:
			answer = pchc.Interested
		case *pchc.SegmentInfo:
			if m.Segment.Length != all[0].Length || m.Tag != pchc.TagBITS || m.Port != 2178 {
				t.Errorf("%+v was told", m)
			}
			infos.Add(1)
		default:
			t.Errorf("%s: %v", r.URL, err)
		}
		_, _ = w.Write(pchc.AppendAnswer(nil, answer))
	}))
	server.Listener.Close()
	server.Listener = l
	server.StartTLS()
	defer server.Close()
	var offers atomic.Int64
	h := newHosted(Settings{Port: 2178, Version1Only: true, HostedCaches: []string{"127.0.99.1:2178"}}, slog.New(slog.DiscardHandler), &offers)
	defer h.close()
	if err := h.tell("127.0.99.1:2178", all); err == nil {
		t.Error("a certificate that nobody vouches for is believed")
	}
	h.http.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"}
	if err := h.tell("127.0.99.1:2178", slices.Concat(two, all)); err != nil || infos.Load() != 1 || offers.Load() != 1 {
		t.Errorf("%d segments were told of, %d counted: %v", infos.Load(), offers.Load(), err)
	}
}

// TestARefusedOffer leaves a hosted cache alone for a while.
func TestARefusedOffer(t *testing.T) {
	t.Parallel()
	_, all := described(t, 100<<10, peerdist.SHA256)
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	var offers atomic.Int64
	name := server.Listener.Addr().String()
	h := newHosted(Settings{Port: 2178, HostedCaches: []string{name}}, slog.New(slog.DiscardHandler), &offers)
	defer h.close()
	h.offer(all)
	for range 2 {
		h.mu.Lock()
		if h.timer != nil && h.timer.Stop() {
			h.timer.Reset(0)
		}
		h.mu.Unlock()
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			h.mu.Lock()
			ready := h.timer == nil && !h.offered[string(all[0].ID())]
			h.mu.Unlock()
			if ready {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the offer is not made")
			}
		}
		h.offer(all)
	}
	if asked.Load() != 1 || offers.Load() != 0 {
		t.Errorf("it was asked %d times, and took %d", asked.Load(), offers.Load())
	}
}
