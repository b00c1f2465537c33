package governor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func quietGovernor(file string) *Governor { return New(file, slog.New(slog.DiscardHandler)) }

func TestMemoryOfPaths(t *testing.T) {
	file := filepath.Join(t.TempDir(), "paths.json")
	home := route{device: "wlan0", via: netip.MustParseAddr("192.0.2.1")}
	g := quietGovernor(file)
	g.known.put(home, memory{0.03, 2.5e6})
	g.known.put(route{device: "eth0"}, memory{0, 1}) // nothing was learned
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if got := quietGovernor(file).known.get(home); got != (memory{0.03, 2.5e6}) {
		t.Errorf("after a restart the path is known as %v", got)
	}
	if got := quietGovernor(file).known.get(route{device: "eth0"}); got != (memory{}) {
		t.Errorf("a path of which nothing was learned is known as %v", got)
	}
	for _, damaged := range []string{"", "{", "null", `{"wlan0 via 192.0.2.1": {"base_rtt": -1, "capacity": 1e300, "seen": "2026-01-01T00:00:00Z"}}`, `[1]`} {
		if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		g := quietGovernor(file)
		if got := g.known.get(home); got != (memory{}) {
			t.Errorf("a file with %q gives %v", damaged, got)
		}
		g.known.put(home, memory{0.03, 1})
		if err := g.Close(); err != nil {
			t.Errorf("a file with %q cannot be replaced: %v", damaged, err)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := memories{}
	m.load()
	for i := range 3 * maxRecords {
		m.put(route{device: "eth0", via: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}, memory{0.03, 1})
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
	second.path = first.path // on loopback each server is a path
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
