package governor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func quietGovernor(file string) *Governor { return New(file, slog.New(slog.DiscardHandler)) }

func TestMemoryOfPaths(t *testing.T) {
	file := filepath.Join(t.TempDir(), "paths.json")
	home, server := route{device: "wlan0", via: netip.MustParseAddr("192.0.2.1")}, netip.MustParseAddr("198.51.100.7")
	g := quietGovernor(file)
	g.known.put(home, server, memory{0.03, 2.5e6})
	g.known.put(route{device: "eth0"}, server, memory{0, 1}) // nothing was learned
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if got := quietGovernor(file).known.get(home, server); got != (memory{0.03, 2.5e6}) {
		t.Errorf("after a restart the path is known as %v", got)
	}
	if got := quietGovernor(file).known.get(route{device: "eth0"}, server); got != (memory{}) {
		t.Errorf("a path of which nothing was learned is known as %v", got)
	}
	for _, damaged := range []string{"", "{", "null", `{"wlan0 via 192.0.2.1 to 198.51.100.7": {"base_rtt": 1e-300, "capacity": 1e300, "seen": "2999-01-01T00:00:00Z"}}`, `[1]`} {
		if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		g := quietGovernor(file)
		if got := g.known.get(home, server); got != (memory{}) {
			t.Errorf("a file with %q gives %v", damaged, got)
		}
		g.known.put(home, server, memory{0.03, 1e6})
		if err := g.Close(); err != nil {
			t.Errorf("a file with %q cannot be replaced: %v", damaged, err)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := memories{}
	m.load()
	for i := range 3 * maxRecords {
		m.put(route{device: "eth0"}, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), memory{0.03, 1e6})
	}
	if len(m.paths) != maxRecords {
		t.Errorf("%d paths are remembered; want %d", len(m.paths), maxRecords)
	}
}

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		read := func(d time.Duration) (n int) {
			buf := make([]byte, 1<<20)
			for stop := time.Now().Add(d); time.Now().Before(stop); {
				got := len(l.bound(buf))
				l.wait(got)
				n += got
			}
			return n
		}
		l.set(100_000)
		if got := read(20 * time.Second); got < 1_990_000 || got > 2_100_000 {
			t.Errorf("%d bytes in 20 s under a ceiling of 100,000 a second", got)
		}
		if !l.active() {
			t.Error("a ceiling that holds readers back is not told")
		}
		l.set(10) // "values below 2 kbit/s behave as about 2"
		if got := read(100 * time.Second); got < 20_000 || got > 40_000 {
			t.Errorf("%d bytes in 100 s under the least ceiling, 250 bytes a second", got)
		}
		l.set(Unlimited)
		if len(l.bound(make([]byte, 1<<20))) != 1<<20 || l.active() {
			t.Error("the ceiling is still there after it was lifted")
		}
	})
}

// pair returns a governed connection over the loopback interface and its other end.
func pair(t *testing.T, g *Governor, class Class) (*Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := g.Govern(near.(*net.TCPConn), class)
	t.Cleanup(func() { c.Close(); far.Close() })
	return c, far
}

// governAnyway puts a connection of the loopback interface under the law, which leaves these alone.
func governAnyway(c *Conn) { c.hold(c.Conn.(*net.TCPConn)) }

func TestGovernedConnectionCarriesAll(t *testing.T) {
	g := quietGovernor("")
	c, far := pair(t, g, Background)
	governAnyway(c)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	go func() {
		_, _ = far.Write(sent)
		far.Close()
	}()
	if err := c.Begin(context.Background()); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes of %d came: %v", len(got), len(sent), err)
	}
	if p := g.Paths(); len(p) != 1 || p[0].Connections != 1 || p[0].Background == 0 && p[0].Window == 0 {
		t.Errorf("the path in use shows as %+v", p)
	}
	c.End()
	c.End() // more than were begun
	if p := g.Paths(); len(p) != 1 || p[0].Connections != 0 {
		t.Errorf("after the end the path shows as %+v", p)
	}
}

func TestBeginWaitsForRoom(t *testing.T) {
	g := quietGovernor("")
	first, _ := pair(t, g, Background)
	second, _ := pair(t, g, Background)
	governAnyway(first)
	governAnyway(second)
	second.down.path = first.down.path // on loopback each server is a path
	if err := first.Begin(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := first.Begin(context.Background()); err != nil { // another stream of it
		t.Fatal(err)
	}
	why := errors.New("given up")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	if err := second.Begin(ctx); !errors.Is(err, why) {
		t.Fatalf("beyond the path's room Begin returned %v; want the context's cause", err)
	}
	begun := make(chan error)
	go func() { begun <- second.Begin(context.Background()) }()
	first.End()
	first.Close()
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
}

func TestForegroundAndLoopbackAreLeftAlone(t *testing.T) {
	g := quietGovernor("")
	for _, class := range []Class{Foreground, Background} {
		c, _ := pair(t, g, class)
		if c.governed != nil {
			t.Errorf("a loopback connection of class %v is held back", class)
		}
		if st, why := c.Pace(); st != "unrestricted" || why == "" {
			t.Errorf("its pace is %q, %q", st, why)
		}
	}
}

func TestCapHoldsAConnection(t *testing.T) {
	g := quietGovernor("")
	g.SetCaps(Caps{Foreground: 1 << 20, Background: Unlimited})
	c, far := pair(t, g, Foreground)
	go func() {
		_, _ = far.Write(make([]byte, 1<<20))
		far.Close()
	}()
	began := time.Now()
	n, err := io.Copy(io.Discard, c)
	if err != nil || n != 1<<20 {
		t.Fatalf("%d bytes came: %v", n, err)
	}
	// A second's worth of bytes less the burst; only the lower bound is sure.
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("1 MiB took %v under a ceiling of 1 MiB/s", took)
	}
	if st, _ := c.Pace(); st != "capped" {
		t.Errorf("the pace is %q; want capped", st)
	}
}

// A ceiling holds for all readers together, however many they are, and is paid off at once.
func TestLimiterOfManyReaders(t *testing.T) {
	for _, readers := range []int{1, 16, 64} {
		synctest.Test(t, func(t *testing.T) {
			var l limiter
			l.set(1 << 20)
			var n atomic.Int64
			var all sync.WaitGroup
			stop := time.Now().Add(20 * time.Second)
			for range readers {
				all.Go(func() {
					for time.Now().Before(stop) {
						got := len(l.bound(make([]byte, 1<<20)))
						l.wait(got)
						n.Add(int64(got))
					}
				})
			}
			all.Wait()
			// Each reader may be in the middle of a read when the time is over.
			if got, most := n.Load(), int64(21<<20+readers<<18); got < 19<<20 || got > most {
				t.Errorf("%d readers got %d bytes in 20 s under 1 MiB/s; want at most %d", readers, got, most)
			}
		})
	}
}

// Whoever looks at the paths must not meet who works on one with a lock held.
func TestPathsBesideSteps(t *testing.T) {
	g := quietGovernor("")
	c, _ := pair(t, g, Background)
	governAnyway(c)
	if err := c.Begin(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer c.End()
	var both sync.WaitGroup
	both.Go(func() {
		for range 2000 {
			c.down.path.mu.Lock()
			c.down.path.step(time.Now())
			c.down.path.mu.Unlock()
		}
	})
	both.Go(func() {
		for range 2000 {
			g.Paths()
			g.SetCaps(Caps{Foreground: Unlimited, Background: Unlimited})
			g.path(c.down.path.route, c.remote)
		}
	})
	both.Wait()
}

func TestRouteIsLocalOnlyInItsSubnet(t *testing.T) {
	if r := routeTo(netip.MustParseAddr("127.0.0.1")); !r.local && r.device != "" {
		t.Errorf("127.0.0.1 is reached by %+v; want local", r)
	}
	for _, c := range []struct {
		r    route
		want string
	}{
		{route{device: "eth0", via: netip.MustParseAddr("192.0.2.1")}, "eth0 via 192.0.2.1"},
		{route{device: "eth0", via: netip.MustParseAddr("192.0.2.7"), local: true}, "eth0 to 192.0.2.7"},
		{route{device: "ppp0"}, "ppp0"},
		{route{via: netip.MustParseAddr("192.0.2.7")}, "192.0.2.7"},
	} {
		if got := c.r.String(); got != c.want {
			t.Errorf("%+v is shown as %q; want %q", c.r, got, c.want)
		}
	}
}

// What is sent in the background arrives whole, within the window, and is seen as the path's.
func TestGovernedConnectionSendsAll(t *testing.T) {
	g := quietGovernor("")
	c, far := pair(t, g, Background)
	governAnyway(c)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := c.BeginSend(context.Background()); err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(far)
		got <- b
	}()
	if !c.Fed().IsZero() {
		t.Errorf("a part was sent at %v, before there was any", c.Fed())
	}
	began := time.Now()
	if n, err := c.ReadFrom(bytes.NewReader(sent)); err != nil || n != int64(len(sent)) {
		t.Fatalf("%d bytes of %d were sent: %v", n, len(sent), err)
	}
	if last := c.Fed(); last.Before(began) || time.Since(last) < 0 {
		t.Errorf("the last part was sent at %v; want since %v", last, began)
	}
	if p := g.Paths(); len(p) != 1 || p[0].Connections != 1 || p[0].Capacity == 0 || !strings.HasSuffix(p[0].Name, ", upload") {
		t.Errorf("the path in use shows as %+v", p)
	}
	if f := c.Fragment(); f < leastFragment || f > mostFragment {
		t.Errorf("a fragment has %d bytes", f)
	}
	c.EndSend()
	c.Close()
	if b := <-got; !bytes.Equal(b, sent) {
		t.Errorf("%d bytes of %d came", len(b), len(sent))
	}
}

// Never more is unacknowledged than the window and what a tick adds to it.
func TestSendKeepsToTheWindow(t *testing.T) {
	g := quietGovernor("")
	c, far := pair(t, g, Background)
	governAnyway(c)
	if err := c.BeginSend(context.Background()); err != nil {
		t.Fatal(err)
	}
	p := c.up.path
	go func() { _, _ = io.Copy(io.Discard, far) }()
	for range 200 {
		n, err := c.Write(make([]byte, 64<<10))
		if err != nil || n != 64<<10 {
			t.Fatalf("%d bytes were sent: %v", n, err)
		}
		p.mu.Lock()
		period, rtt := p.law.period(), p.law.base+p.law.queue
		under, most := float64(c.up.written-c.up.last.bytes), max(float64(c.up.clamped), 64<<10)*(1+period/rtt)
		p.mu.Unlock()
		if under > most {
			t.Fatalf("%.0f bytes are under way; the window allows %.0f", under, most)
		}
	}
}

// A reader behind a limit gives what the limit allows, and no more.
func TestReadFromKeepsToALimit(t *testing.T) {
	g := quietGovernor("")
	c, far := pair(t, g, Foreground)
	got := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, far)
		got <- n
	}()
	const size = 5<<20 + 7
	r := &io.LimitedReader{R: bytes.NewReader(make([]byte, 8<<20)), N: size}
	if n, err := c.ReadFrom(r); n != size || err != nil || r.N != 0 {
		t.Errorf("%d bytes of %d were sent, %d are left: %v", n, size, r.N, err)
	}
	c.Close()
	if n := <-got; n != size {
		t.Errorf("%d bytes of %d came", n, size)
	}
}

func TestCapHoldsWhatIsSent(t *testing.T) {
	g := quietGovernor("")
	g.SetCaps(Caps{Foreground: 1 << 20, Background: Unlimited})
	for _, kernel := range []bool{false, true} {
		c, far := pair(t, g, Foreground)
		go func() { _, _ = io.Copy(io.Discard, far) }()
		var r io.Reader = bytes.NewReader(make([]byte, 1<<20))
		began := time.Now()
		var err error
		if kernel {
			_, err = c.ReadFrom(r)
		} else {
			_, err = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{r})
		}
		if took := time.Since(began); err != nil || took < 500*time.Millisecond {
			t.Errorf("1 MiB took %v under a ceiling of 1 MiB/s: %v", took, err)
		}
		if f := c.Fragment(); f != 4<<20 {
			t.Errorf("a fragment has %d bytes; want four seconds' worth", f)
		}
	}
}

func TestAverage(t *testing.T) {
	for _, c := range []struct {
		before, now float64
		n           int
		want        float64
	}{{0, 0.03, 1, 0.03}, {0.03, 0.03, 5, 0.03}, {0.03, 0.03125, 1, 0.04}, {0.032, 0.031, 1, 0.024}} {
		if got := average(c.before, c.now, c.n); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("from %v to %v by %d samples: %v, want %v", c.before, c.now, c.n, got, c.want)
		}
	}
	est := 0.03 // four samples of 50 ms
	for range 4 {
		est += (0.05 - est) / 8
	}
	if got := average(0.03, est, 4); math.Abs(got-0.05) > 1e-9 {
		t.Errorf("four samples of 50 ms are taken for %v", got)
	}
}
