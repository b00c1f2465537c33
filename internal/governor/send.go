package governor

import (
	"context"
	"io"
	"time"
)

// read returns what the kernel tells of the flow.
func (f *flow) read() reading {
	if f.path.route.up {
		return f.conn.governed.lookSend(f.last)
	}
	return f.conn.governed.look(f.last)
}

// allow gives the flow its share of the window; path.mu is held.
func (f *flow) allow(window float64) {
	if !f.path.route.up {
		f.clamp(window)
		return
	}
	// The peer acknowledges a single segment late, and that wait would look like a queue.
	f.clamped = int(max(window, leastWindow, 2*float64(f.last.mss)))
	rate := f.path.law.pacing(float64(f.clamped))
	if rate < f.paced*0.97 || rate > f.paced*1.03 {
		f.paced, f.spaced = rate, true
		f.conn.governed.setPacing(uint64(rate))
	}
}

// gap returns how far apart, in seconds, pacing sends two segments. Once the kernel was told to bound that it keeps to a rate
// of its own too.
func (f *flow) gap() float64 {
	if !f.spaced || f.last.pacing == 0 {
		return 0
	}
	return float64(f.last.mss) / f.last.pacing
}

// busy reports whether a request is under way.
func (f *flow) busy() bool {
	f.path.mu.Lock()
	defer f.path.mu.Unlock()
	return f.requests > 0
}

// BeginSend says that a request with a body goes over the connection now, EndSend that its answer was
// read or given up. Of a background connection it waits until the path has room for another.
func (c *Conn) BeginSend(ctx context.Context) error {
	if c.governed == nil {
		return nil
	}
	return c.up.path.begin(ctx, &c.up)
}

// EndSend ends what BeginSend began.
func (c *Conn) EndSend() {
	if c.governed != nil {
		c.up.path.end(&c.up, false)
	}
}

const (
	leastFragment = 5 << 10
	mostFragment  = 13 << 20
	// fragmentTime is how long a fragment may take: the answer to each costs a round trip and the
	// server's disk, and what a fragment carries may have to be sent again.
	fragmentTime = 4 * time.Second
	// firstFragment is the fragment of a path of which nothing is known.
	firstFragment = 256 << 10
)

// Fragment returns how many bytes one request should carry, 5 KiB to 13 MiB: the most in the
// foreground, some seconds' worth of what the path gives in the background.
func (c *Conn) Fragment() int64 {
	rate := 0.0 // unlimited
	if l := c.ceiling(); l != nil {
		rate = l.rate()
	}
	if c.governed != nil {
		c.up.path.mu.Lock()
		law := c.up.path.law
		now := max(law.rate(1), law.capacity/8)
		c.up.path.mu.Unlock()
		if now == 0 {
			return firstFragment
		}
		if rate == 0 || now < rate {
			rate = now
		}
	}
	if rate == 0 {
		return mostFragment
	}
	return min(max(int64(rate*fragmentTime.Seconds()), leastFragment), mostFragment)
}

// Write implements net.Conn. It keeps to the ceilings of policy and, while a request with a body is
// under way in the background, to the window of the path's law: no more bytes than that are
// unacknowledged.
func (c *Conn) Write(b []byte) (n int, err error) { return c.write(b, func() {}) }

// write calls moved after each part that was sent.
func (c *Conn) write(b []byte, moved func()) (n int, err error) {
	for n < len(b) || n == 0 {
		part := b[n:]
		limit := c.ceiling()
		if limit != nil {
			part = limit.bound(part)
		}
		if c.governed != nil {
			part = part[:c.up.path.admit(&c.up, len(part))]
		}
		m, err := c.Conn.Write(part)
		n += m
		c.sent(m)
		if err != nil || len(b) == 0 {
			return n, err
		}
		moved()
		if limit != nil {
			limit.wait(m)
		}
	}
	return n, nil
}

// Fed returns when a part of what ReadFrom took was last sent, the zero time if none was: it takes more at
// once than it may send.
func (c *Conn) Fed() time.Time {
	if at := c.fed.Load(); at != 0 {
		return c.up.path.g.start.Add(time.Duration(at))
	}
	return time.Time{}
}

func (c *Conn) sent(n int) {
	c.up.path.count(c.class, n)
	if c.governed != nil {
		c.up.path.mu.Lock()
		defer c.up.path.mu.Unlock()
		c.up.written += int64(n)
		if c.up.requests > 0 {
			return // path.look counts what really goes out, and when
		}
	}
	c.own(c.up.path, n)
}

// ReadFrom implements io.ReaderFrom: where nothing is held back the kernel moves the bytes of a
// file by itself.
func (c *Conn) ReadFrom(r io.Reader) (n int64, err error) {
	direct, ok := c.Conn.(io.ReaderFrom)
	switch {
	case c.governed != nil:
		return c.feed(r)
	case !ok:
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	// The kernel takes a file behind one limit, not behind two.
	whole, limited := r.(*io.LimitedReader)
	if limited {
		r = whole.R
	}
	for !limited || whole.N > 0 {
		limit := c.ceiling()
		part := int64(sendAtOnce)
		if limit != nil {
			part = int64(limit.most(sendAtOnce))
		}
		if limited {
			part = min(part, whole.N)
		}
		m, err := direct.ReadFrom(io.LimitReader(r, part))
		n += m
		if limited {
			whole.N -= m
		}
		c.up.path.count(c.class, int(m))
		c.own(c.up.path, int(m))
		if err != nil || m < part {
			return n, err
		}
		if limit != nil {
			limit.wait(int(m))
		}
	}
	return n, nil
}

// sendAtOnce is how many bytes the kernel moves by itself before they are counted.
const sendAtOnce = 1 << 20

// feed sends all that r has, in pieces that need few calls of whoever reads it and are soon gone.
func (c *Conn) feed(r io.Reader) (n int64, err error) {
	var buf []byte
	for {
		if size := c.up.path.piece(&c.up); size > len(buf) {
			buf = make([]byte, size)
		}
		m, rerr := r.Read(buf)
		if m > 0 {
			m, err = c.write(buf[:m], func() { c.fed.Store(int64(time.Since(c.up.path.g.start))) })
			n += int64(m)
		}
		switch {
		case err != nil:
			return n, err
		case rerr == io.EOF:
			return n, nil
		case rerr != nil:
			return n, rerr
		}
	}
}

// piece returns how many bytes of a body should be read at once: those of some 100 ms, in pairs of full segments, so that none
// waits for the next piece to be acknowledged.
func (p *path) piece(f *flow) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	pair := 2 * max(f.last.mss, 1)
	size := min(max(int(0.1*p.law.capacity), leastPiece), mostPiece)
	return max(size/pair, 1) * pair
}

const (
	leastPiece = 64 << 10
	mostPiece  = 1 << 20
)

// admit waits until the law allows the flow some more bytes and returns how many of want.
func (p *path) admit(f *flow, want int) int {
	for {
		room, nap := p.offer(f, want)
		if room > 0 {
			return room
		}
		before := time.Now()
		f.conn.governed.writing.pause(nap)
		if time.Since(before) > nap+tooLate {
			p.mu.Lock()
			p.seen.late = true
			p.mu.Unlock()
		}
	}
}

// offer returns how many of want bytes the flow may send now; if it is none, how soon to ask again.
func (p *path) offer(f *flow, want int) (room int, nap time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, active := p.conns[f]; !active {
		return want, 0 // no law holds
	}
	now := time.Now()
	nap = time.Duration(p.law.period() * float64(time.Second))
	if now.Sub(f.asked) > nap/2 {
		p.ask(f, now)
		f.asked, f.room = now, p.unfilled(f, now)
		nap = time.Duration(p.law.period() * float64(time.Second))
	}
	room = min(f.room, want)
	if pair := 2 * max(f.last.mss, 1); room < want { // two full segments are acknowledged together
		room -= room % pair
		f.room = 0 // what is acknowledged while this is sent would go in crumbs
	} else {
		f.room -= room
	}
	return room, nap
}

// unfilled returns how many bytes the flow's window has room for; p.mu is held.
func (p *path) unfilled(f *flow, now time.Time) int {
	law := p.law
	if law.hesitates() {
		return 0
	}
	// Between two looks acknowledgements come that nobody answers: that much more is under way,
	// most of it waiting here for its time.
	window := float64(f.clamped)
	if rtt := law.base + law.queue; rtt > 0 {
		window *= 1 + law.period()/rtt
	}
	room := int(window) - int(f.written-f.last.bytes)
	if wait := law.listenEvery(len(p.conns)); wait > 0 && room >= 2*f.last.mss {
		if now.Sub(f.spoke).Seconds() < wait {
			return 0
		}
		f.spoke = now
	}
	return room
}
