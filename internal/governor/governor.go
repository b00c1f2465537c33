// Package governor decides how fast background bytes may move right now, for everything the
// service does together: it takes the bandwidth that nobody else wants and gives way within a
// few round trips. docs/decisions/007-politeness.md explains the control law.
//
// It knows connections and bytes; it knows no jobs, no files and no HTTP.
package governor

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// Unlimited is a rate without a ceiling.
const Unlimited int64 = -1

// Caps are the ceilings that policy sets, in bytes per second, or Unlimited.
type Caps struct {
	Foreground int64
	Background int64
	// LANExempt says that servers in a subnet of this machine are not held back by the caps.
	LANExempt bool
}

// Governor watches over all connections of the service.
type Governor struct {
	log    *slog.Logger
	start  time.Time
	limits [2]limiter // by class
	known  memories

	caps atomic.Pointer[Caps]

	mu         sync.Mutex                  // taken before a path's, never after
	paths      map[route]*path             // guarded by mu
	interfaces map[neighbourKey]*neighbour // guarded by mu
}

// New returns a Governor without caps. It remembers what it learns of paths in the file memory;
// without a name it forgets. At level debug the log gets what the law sees and does.
func New(memory string, log *slog.Logger) *Governor {
	g := &Governor{log: log, start: time.Now(), paths: map[route]*path{}, interfaces: map[neighbourKey]*neighbour{}, known: memories{file: memory}}
	g.known.load()
	g.SetCaps(Caps{Foreground: Unlimited, Background: Unlimited})
	return g
}

// SetCaps changes the ceilings, also for connections that are open.
func (g *Governor) SetCaps(c Caps) {
	g.caps.Store(&c)
	g.limits[Foreground].set(c.Foreground)
	g.limits[Background].set(c.Background)
}

// Hold waits until n bytes that came over connections of others are within the ceiling of a class, like
// those that come over the governor's own. Its error is the context's.
func (g *Governor) Hold(ctx context.Context, class Class, n int) error {
	for n > 0 && ctx.Err() == nil {
		some := g.limits[class].most(n)
		g.limits[class].wait(some)
		n -= some
	}
	return context.Cause(ctx)
}

// Close writes down what was learned of the paths.
func (g *Governor) Close() error {
	g.mu.Lock()
	paths := make([]*path, 0, len(g.paths))
	for _, p := range g.paths {
		paths = append(paths, p)
	}
	g.mu.Unlock()
	for _, p := range paths {
		p.remember()
	}
	return g.known.save()
}

// Prepare tells the system what a connection to an address will be, before it is made: what a server may send at first is
// said then, and BBR, once it was in charge, leaves the kernel pacing.
func Prepare(to string, class Class, raw syscall.RawConn) {
	if remote, err := netip.ParseAddrPort(to); err == nil && governs(remote.Addr(), class) {
		_ = raw.Control(func(fd uintptr) { // a connection that cannot be made will say so
			firstWindow(int(fd))
			setLowerEffort(int(fd), remote.Addr())
			setCongestion(int(fd))
		})
	}
}

// governs reports whether there is anybody to give way to.
func governs(remote netip.Addr, class Class) bool {
	return class == Background && !remote.Unmap().IsLoopback()
}

// Govern puts a new connection under the governor, before anything was sent over it.
func (g *Governor) Govern(conn *net.TCPConn, class Class) *Conn {
	remote := addrOf(conn.RemoteAddr())
	r := routeTo(remote)
	c := &Conn{Conn: conn, class: class, remote: remote}
	c.down = flow{conn: c, path: g.path(r, remote)}
	r.up = true
	c.up = flow{conn: c, path: g.path(r, remote)}
	if governs(remote, class) {
		c.hold(conn)
	}
	return c
}

func addrOf(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return t.AddrPort().Addr().Unmap()
}

// path returns the path of a route, making it if need be.
func (g *Governor) path(r route, remote netip.Addr) *path {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.paths[r]; p != nil {
		return p
	}
	for k, p := range g.paths { // a network that was left
		if p.quiet(forgetAfter) {
			p.remember()
			delete(g.paths, k)
		}
	}
	at := neighbourKey{r.device, r.up}
	n := g.interfaces[at]
	if n == nil {
		n = &neighbour{device: r.device, up: r.up}
		g.interfaces[at] = n
	}
	p := &path{g: g, route: r, law: newControl(g.known.get(r, remote)), others: n, conns: map[*flow]struct{}{}, bases: map[netip.Addr]float64{}, made: time.Now()}
	p.room.L = &p.mu
	g.paths[r] = p
	return p
}

// forgetAfter is how long a path that is not used is kept at hand.
const forgetAfter = time.Hour

// shownFor is how long a path is shown after its last use.
const shownFor = 10 * time.Second

// Paths returns what is known of the paths that were in use within the last moments.
func (g *Governor) Paths() []bits.Path {
	g.mu.Lock()
	var paths []*path
	caps := *g.caps.Load()
	for _, p := range g.paths {
		if p.inUse(shownFor) {
			paths = append(paths, p)
		}
	}
	g.mu.Unlock()
	out := make([]bits.Path, 0, len(paths))
	for _, p := range paths {
		out = append(out, p.describe(caps))
	}
	slices.SortFunc(out, func(a, b bits.Path) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Class says on which terms a connection takes bandwidth.
type Class uint8

// The classes.
const (
	Background Class = iota // only what nobody else wants
	Foreground              // as any other program
)

// meter measures a rate.
type meter struct {
	total  atomic.Int64
	mu     sync.Mutex
	at     time.Time // guarded by mu
	before int64     // guarded by mu
	rate   float64   // guarded by mu
}

// perSecond returns the bytes per second of about the last half second.
func (m *meter) perSecond(now time.Time) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	total := m.total.Load()
	if m.at.IsZero() {
		m.at, m.before = now, total
		return 0
	}
	if dt := now.Sub(m.at).Seconds(); dt >= 0.1 {
		m.rate += min(1, 2*dt) * (float64(total-m.before)/dt - m.rate)
		m.at, m.before = now, total
	}
	return int64(m.rate)
}
