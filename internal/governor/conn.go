package governor

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// Conn is a connection under the governor.
type Conn struct {
	net.Conn
	raw      syscall.RawConn
	class    Class
	governed bool     // the path's law sets its window
	limit    *limiter // nil: none
	path     *path
	remote   netip.Addr

	// Guarded by path.mu.
	requests int // under way
	last     reading
	rtt      float64 // the kernel's estimate at the last reading
	clamped  int
}

// Read implements net.Conn. It keeps to the ceilings of policy; how much is under way is the
// window's matter.
func (c *Conn) Read(b []byte) (int, error) {
	if c.limit != nil {
		b = c.limit.bound(b)
	}
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.path.count(c.class, n)
		if c.limit != nil {
			c.limit.wait(n)
		}
	}
	return n, err
}

// Begin says that a request goes over the connection now. Of a background connection it waits
// until the path has room for another. Every Begin without an error is followed by an End.
func (c *Conn) Begin(ctx context.Context) error {
	if !c.governed {
		return nil
	}
	return c.path.begin(ctx, c)
}

// End says that a request's answer was read or given up.
func (c *Conn) End() {
	if c.governed {
		c.path.end(c, false)
	}
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	if c.governed {
		c.path.end(c, true)
	}
	return c.Conn.Close()
}

// Pace says what decides how fast the connection moves, and the same for people.
func (c *Conn) Pace() (bits.PaceState, string) {
	if c.limit != nil && c.limit.active() {
		return bits.PaceCapped, "the bandwidth policy allows no more"
	}
	switch {
	case c.class == Foreground:
		return bits.PaceUnrestricted, "foreground: takes what it can get"
	case !c.governed:
		return bits.PaceUnrestricted, "the server is on this machine"
	}
	c.path.mu.Lock()
	defer c.path.mu.Unlock()
	return c.path.law.pace()
}

// clamp bounds the bytes that the server may have under way to us; path.mu is held, or the
// connection is new.
func (c *Conn) clamp(window float64) {
	c.clamped = int(window)
	setWindow(c.raw, c.clamped)
}

// reading is what the kernel tells of a connection.
type reading struct {
	rtt        float64 // its smoothed estimate of the round-trip time, as a receiver; 0 if none
	bytes      int64   // received
	segments   int64   // with data, received
	outOfOrder int64
	timestamps bool // without them the estimate means nothing
}

func seconds(d time.Duration) float64 { return d.Seconds() }
