package governor

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// Conn is a connection under the governor.
type Conn struct {
	net.Conn
	class    Class
	governed *socket // the same connection if the paths' laws hold for it, else nil
	remote   netip.Addr
	down, up flow
	fed      atomic.Int64 // when a part of what ReadFrom took was last sent, in nanoseconds since the governor began; 0 if none was

	// The reader's own.
	gathered time.Time     // when it last read
	drained  bool          // whether it then took all there was
	patience time.Duration // how long what arrives may wait
	late     bool          // the machine let it wait for much longer
}

// flow is one direction of a connection, and its share of that direction's path.
type flow struct {
	conn *Conn
	path *path

	// Guarded by path.mu.
	requests int // under way
	last     reading
	looked   time.Time // when that was
	rtt      float64   // the kernel's estimate at the last reading
	edges    []edge    // of the offered window, whose bytes have not come
	clamped  int
	written  int64     // up: bytes given to the kernel, counted as those acknowledged are
	paced    float64   // up: bytes per second that the kernel was told to keep to
	spaced   bool      // up: the kernel was told one
	spoke    time.Time // up: when something was last sent only to listen
	asked    time.Time // up: when the law was last asked for room
	room     int       // up: bytes of it that are left
}

// hold puts the connection under the path's law, where the system can.
func (c *Conn) hold(conn *net.TCPConn) {
	s, err := newSocket(conn)
	if err != nil {
		return
	}
	c.Conn, c.governed = s, s
	s.setLowerEffort(c.remote)
	s.setCongestion()
	c.down.clamp(listenFirst)
	c.up.last = s.lookSend(reading{})
	c.up.written = c.up.last.bytes // nothing is under way
}

// Read implements net.Conn. It keeps to the ceilings of policy; how much is under way is the
// window's matter.
func (c *Conn) Read(b []byte) (int, error) {
	limit := c.ceiling()
	if limit != nil {
		b = limit.bound(b)
	}
	if c.governed != nil {
		c.gather()
	}
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.down.path.count(c.class, n)
		c.own(c.down.path, n)
		if c.governed != nil {
			c.gathered, c.drained = time.Now(), n < len(b)
			c.patience = c.down.path.arrived(&c.down)
		}
		if limit != nil {
			limit.wait(n)
		}
	}
	return n, err
}

// own counts bytes of background jobs, which are not other traffic of this machine.
func (c *Conn) own(p *path, n int) {
	if c.class != Foreground {
		p.others.own.Add(int64(n))
	}
}

// ceiling returns the limiter that holds for the connection now; nil if none does.
func (c *Conn) ceiling() *limiter {
	g := c.down.path.g
	if c.down.path.route.local && g.caps.Load().LANExempt {
		return nil
	}
	return &g.limits[c.class]
}

// gather lets what arrives come together for a tick: to wake for every packet costs more than to
// move it, and what the kernel measures once the reader has emptied its queue tells more.
func (c *Conn) gather() {
	if !c.drained {
		return
	}
	if d := time.Until(c.gathered.Add(c.patience)); d > leastPause {
		before := time.Now()
		c.governed.reading.pause(d)
		c.late = time.Since(before) > d+tooLate
	}
}

// leastPause is the shortest pause that is worth making.
const leastPause = 100 * time.Microsecond

// tooLate is how late a reader must wake for what it sees to be taken for its own delay.
const tooLate = 10 * time.Millisecond

// Begin says that a request goes over the connection now. Of a background connection it waits
// until the path has room for another. Every Begin without an error is followed by an End.
func (c *Conn) Begin(ctx context.Context) error {
	if c.governed == nil {
		return nil
	}
	return c.down.path.begin(ctx, &c.down)
}

// End says that a request's answer was read or given up.
func (c *Conn) End() {
	if c.governed != nil {
		c.down.path.end(&c.down, false)
	}
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	if c.governed != nil {
		c.down.path.end(&c.down, true)
		c.up.path.end(&c.up, true)
	}
	return c.Conn.Close()
}

// ungoverned is why a background transfer takes what it can get.
const ungoverned = "nothing to give way to: the server is on this machine, or the system offers no means"

// Pace says what decides how fast the connection moves, and the same for people.
func (c *Conn) Pace() (bits.PaceState, string) {
	if l := c.ceiling(); l != nil && l.active() {
		return bits.PaceCapped, "the bandwidth policy allows no more"
	}
	switch {
	case c.class == Foreground:
		return bits.PaceUnrestricted, "foreground: takes what it can get"
	case c.governed == nil:
		return bits.PaceUnrestricted, ungoverned
	}
	p := c.down.path
	if c.up.busy() {
		p = c.up.path
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.law.pace()
}

// edge is up to where the window let the server send at a time.
type edge struct {
	when time.Time
	at   int64 // counted as reading.bytes is
}

// maxEdges bounds the edges that are remembered: of a second, at least.
const maxEdges = 256

// byWindow measures the round-trip time of a connection without TCP timestamps by how long it takes until
// what the window allowed has come: a server that has enough to send sends it when it hears of it. When
// within a tick a byte came follows from how many did. It is too long when something else holds the
// server back, which errs on the polite side. 0 if there is none yet.
func (f *flow) byWindow(before int64, since time.Time, r reading, now time.Time) (rtt float64) {
	n := 0
	for ; n < len(f.edges) && f.edges[n].at <= r.bytes; n++ {
		e := f.edges[n]
		part := 1.0
		if r.bytes > before {
			part = max(0, float64(e.at-before)/float64(r.bytes-before))
		}
		came := since.Add(time.Duration(part * float64(now.Sub(since))))
		rtt = max(came.Sub(e.when).Seconds(), r.handshake)
	}
	window := r.window
	if window == 0 {
		window = f.clamped
	}
	last := r.bytes
	if len(f.edges) > 0 {
		last = max(last, f.edges[len(f.edges)-1].at) // it is never taken back
	}
	f.edges = slices.Delete(f.edges, 0, n)
	if at := r.bytes + int64(window); at > last && len(f.edges) < maxEdges {
		f.edges = append(f.edges, edge{now, at})
	}
	return rtt
}

// clamp bounds the bytes that the server may have under way to us; path.mu is held, or the
// connection is new.
func (f *flow) clamp(window float64) {
	if f.requests > 0 && !f.last.timestamps {
		window = max(window, leastWindow) // a single segment would be acknowledged late
	}
	f.clamped = int(window)
	if f.last.mss > int(segment) {
		// Jumbo frames: a server sends nothing into a window that has no room for one of them.
		f.clamped = max(f.clamped, f.last.mss*min(int(window/segment), 2))
	}
	f.conn.governed.setWindow(f.clamped)
}

// reading is what the kernel tells of a connection.
type reading struct {
	rtt        float64 // its smoothed estimate of the round-trip time in this direction; 0 if none
	handshake  float64 // least round-trip time as a sender, so of the handshake or the request
	mss        int     // payload of a full segment
	bytes      int64   // received, or acknowledged by the peer
	sent       int64   // in all, what was sent again too
	unsent     int64   // given to the kernel and not sent
	segments   int64   // with data, received; or of any kind while we send
	window     int     // bytes that the peer was last allowed to have under way; 0 if unknown
	lost       int64   // segments out of order, or sent again
	pacing     float64 // bytes per second at which the kernel sends, if it was told to bound that
	timestamps bool    // without them a receiver's estimate means nothing
}
