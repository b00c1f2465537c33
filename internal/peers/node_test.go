package peers

import (
	"bytes"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
)

// described returns random bytes and their segments.
func described(t *testing.T, size int, a peerdist.Algorithm) ([]byte, []*peerdist.Segment) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.Read(data)
	h, err := peerdist.Generate(t.Context(), bytes.NewReader(data), a)
	if err != nil {
		t.Fatal(err)
	}
	info, err := h.Info(a.ServerKey([]byte("secret")), bits.Range{Length: int64(size)})
	if err != nil {
		t.Fatal(err)
	}
	var all []*peerdist.Segment
	for i := range info.Segments {
		all = append(all, &info.Segments[i])
	}
	return data, all
}

// freePort returns a port that nobody listens at.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// opened returns a node with the settings that change makes of the defaults.
func opened(t *testing.T, change func(*Settings)) *Node {
	t.Helper()
	n := Open(filepath.Join(t.TempDir(), "cache"), slog.New(slog.DiscardHandler))
	t.Cleanup(n.Close)
	s := Defaults()
	s.Limits = cache.Limits{Size: 1 << 40, MaxAge: time.Hour}
	s.Port = freePort(t)
	change(&s)
	if err := n.Apply(s); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestBetweenTwo lets one machine get from another's cache what that has, as from a hosted cache.
func TestBetweenTwo(t *testing.T) {
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
		data, all := described(t, 1<<20, a)
		one := opened(t, func(s *Settings) { s.Mode, s.HostedCaches = Hosted, []string{"127.0.0.1:1"} })
		for _, s := range all[:max(1, len(all)/2)] {
			for i := range s.Blocks() {
				at, n := s.Block(i)
				if err := one.Cache().Put(s, i, data[s.Offset+int64(at):][:n]); err != nil {
					t.Fatal(err)
				}
			}
		}
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), one.Settings().Port)
		two := opened(t, func(s *Settings) { s.Mode, s.HostedCaches = Hosted, []string{at.String()} })
		who := two.Find(t.Context(), all)
		for i, s := range all {
			has := i < max(1, len(all)/2)
			if has != (len(who[i]) == 1 && who[i][0] == at) {
				t.Fatalf("segment %d of version %d is said to be with %v", i, a.Version(), who[i])
			}
			var blocks []int
			for b := range s.Blocks() {
				blocks = append(blocks, b)
			}
			var got int
			if _, err := two.Fetch(t.Context(), s, blocks, who[i], func(b int, block []byte) error {
				o, _ := s.Block(b)
				if !bytes.Equal(block, data[s.Offset+int64(o):][:len(block)]) {
					t.Errorf("block %d of segment %d is wrong", b, i)
				}
				got += len(block)
				return nil
			}); err != nil || has != (got == s.Length) {
				t.Errorf("%d of %d bytes of segment %d came: %v", got, s.Length, i, err)
			}
		}
	}
}

// TestPeersThatDoNotList need not, as lists are for hosted caches (section 7.6): they are asked for blocks.
func TestPeersThatDoNotList(t *testing.T) {
	data, all := described(t, 1<<20, peerdist.TruncatedSHA512)
	store := opened(t, func(s *Settings) { s.Mode, s.HostedCaches = Hosted, []string{"127.0.0.1:1"} }).Cache()
	for _, s := range all {
		if err := store.Put(s, 0, data[s.Offset:][:s.Length]); err != nil {
			t.Fatal(err)
		}
	}
	blocks := pccrr.NewServer(store, 8, func(netip.Addr) bool { return true })
	for name, list := range map[string]http.HandlerFunc{
		"it does not know the request": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) },
		"it hangs up":                  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"its lists are empty": func(w http.ResponseWriter, r *http.Request) {
			none := pccrr.NewServer(empty{}, 8, func(netip.Addr) bool { return true })
			none.ServeHTTP(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				r.Body = io.NopCloser(bytes.NewReader(b))
				if m, _, err := pccrr.DecodeRequest(b); err == nil && m.Type() == (pccrr.GetSegmentList{}).Type() {
					list(w, r)
					return
				}
				blocks.ServeHTTP(w, r)
			}))
			defer peer.Close()
			at := netip.MustParseAddrPort(peer.Listener.Addr().String())
			n := opened(t, func(s *Settings) { s.Mode, s.HostedCaches = Hosted, []string{"127.0.0.1:1"} })
			ids, unknown := make([][]byte, len(all)), make([]int, len(all))
			for i, s := range all {
				ids[i], unknown[i] = s.ID(), i
			}
			now := time.Now()
			n.sticky.met(at, now)
			n.known.add(ids[0], at, now) // as it said to a probe
			n.list(t.Context(), n.client, []netip.AddrPort{at}, all, ids, unknown)
			if banned, _ := n.client.Banned(at); banned || !n.sticky.isMute(at) {
				t.Errorf("it is banned: %v; it is taken to list what it has: %v", banned, !n.sticky.isMute(at))
			}
			if n.sticky.lists(at, now) || !n.sticky.lists(at, now.Add(2*muteFor)) {
				t.Error("it is asked for a list again at once, or never")
			}
			got := 0
			if _, err := n.Fetch(t.Context(), all[1], []int{0}, []netip.AddrPort{at}, func(_ int, b []byte) error { got += len(b); return nil }); err != nil || got != all[1].Length {
				t.Errorf("%d bytes came: %v", got, err)
			}
		})
	}
}

// empty is a store of nothing.
type empty struct{}

func (empty) Held([]byte) (cache.Bitmap, error)             { return cache.Bitmap{}, cache.ErrNotHeld }
func (empty) Read([]byte, int, []byte) (cache.Block, error) { return cache.Block{}, cache.ErrNotHeld }

// TestOffAndOn turns a node on and off.
func TestOffAndOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	n := Open(dir, slog.New(slog.DiscardHandler))
	defer n.Close()
	u, _ := url.Parse("https://origin.example/file")
	plain, _ := url.Parse("http://origin.example/file")
	if n.Cache() != nil || n.Wants(u) {
		t.Error("a node that nobody turned on does something")
	}
	if _, all := described(t, 1<<10, peerdist.SHA256); len(n.Find(t.Context(), all)[0]) != 0 {
		t.Error("it finds somebody")
	}
	s := Defaults()
	s.Port = freePort(t)
	for range 2 {
		s.Mode = Local
		if err := n.Apply(s); err != nil {
			t.Fatal(err)
		}
		if n.Cache() == nil || !n.Wants(u) || n.Wants(plain) {
			t.Error("a node that was turned on wants no content information, or of origins without TLS")
		}
		n.Refused(u)
		if n.Wants(u) {
			t.Error("an origin that does not speak it is asked again at once")
		}
		s.Mode = Off
		if err := n.Apply(s); err != nil || n.Cache() != nil || n.Wants(u) {
			t.Error("a node that was turned off does something:", err)
		}
	}
	if c, err := cache.Open(dir, s.Limits); err != nil {
		t.Error("the cache of a node that is off is locked:", err)
	} else {
		c.Close()
	}
}

// TestStrangers: only hosted caches, or machines of the shared networks, are given anything.
func TestStrangers(t *testing.T) {
	data, all := described(t, 100<<10, peerdist.SHA256)
	one := opened(t, func(s *Settings) { s.Mode, s.HostedCaches = Hosted, []string{"192.0.2.1:80"} })
	if err := one.Cache().Put(all[0], 0, data[:65536]); err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), one.Settings().Port)
	two := opened(t, func(s *Settings) { s.Mode, s.HostedCaches = Hosted, []string{at.String()} })
	if from, err := two.Fetch(t.Context(), all[0], []int{0}, []netip.AddrPort{at}, func(int, []byte) error { return nil }); err != nil || len(from) != 0 {
		t.Errorf("a stranger gets %v: %v", from, err)
	}
}

// TestPortInUse goes on without serving, and serves once it can.
func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	n := Open(filepath.Join(t.TempDir(), "cache"), slog.New(slog.DiscardHandler))
	defer n.Close()
	s := Defaults()
	s.Mode, s.HostedCaches, s.Port = Hosted, []string{"127.0.0.1:80"}, uint16(l.Addr().(*net.TCPAddr).Port)
	if err := n.Apply(s); err == nil {
		t.Error("a port that another program has can be served at")
	}
	if st := n.Status(); st.Problem == "" || len(st.Serving) > 0 || n.Cache() == nil {
		t.Errorf("the status is %+v", st)
	}
	l.Close()
	n.NetworkChanged()
	if st := n.Status(); st.Problem != "" || len(st.Serving) == 0 {
		t.Errorf("later the status is %+v", st)
	}
}

// TestKnown forgets what is old, and what is too much.
func TestKnown(t *testing.T) {
	var k known
	now := time.Now()
	id, peer := []byte("id"), netip.MustParseAddrPort("10.0.0.1:2178")
	if k.has(id, now) {
		t.Error("nothing was asked yet")
	}
	k.asked(id, now)
	if !k.has(id, now.Add(emptyFor/2)) || k.has(id, now.Add(2*emptyFor)) {
		t.Error("that nobody answered is not remembered, or for too long")
	}
	k.add(id, peer, now)
	if got := k.get(id, now.Add(peerFor/2)); len(got) != 1 || got[0] != peer {
		t.Errorf("%v have it", got)
	}
	if len(k.get(id, now.Add(2*peerFor))) > 0 {
		t.Error("an answer is remembered for too long")
	}
	k.add(id, peer, now)
	k.miss(id, []netip.AddrPort{peer}, now)
	if len(k.get(id, now)) > 0 || !k.missed(id, now) || k.missed(id, now.Add(2*missedFor)) {
		t.Error("a peer that did not have it is asked again")
	}
	for i := range 2 * 16 {
		k.add(id, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), 2178), now)
	}
	if got := k.get(id, now); len(got) != 16 || got[15].Addr() != netip.AddrFrom4([4]byte{10, 0, 1, 31}) {
		t.Errorf("%v have it", got)
	}
	for i := range 2 * maxKnown {
		k.asked([]byte{byte(i), byte(i >> 8), byte(i >> 16)}, now)
	}
	if len(k.segments) > maxKnown {
		t.Errorf("%d segments are remembered", len(k.segments))
	}
}
