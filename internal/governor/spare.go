package governor

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Spare lets connections that were accepted send what this machine's interfaces have left: nearly all of an
// interface while nobody else sends through it, a quarter of it or what is left otherwise. It looks at the
// interfaces' counters alone, which costs next to nothing: the law of paths, which listens to the queues of
// the whole way, costs as much as encrypting what is sent, and in a network of one switch there is
// no queue but the interface's.
type Spare struct {
	most int64 // bytes per second, or Unlimited

	mu         sync.Mutex
	interfaces map[string]*spare // by device
}

const (
	spareShare   = 0.9  // of an interface that is taken while nobody else sends
	sharedShare  = 0.25 // while somebody does
	spareUnknown = 20e6 // bytes per second of an interface whose speed is not known, as of a radio
	leastSpare   = 64 << 10
	spareBurst   = 512 << 10 // bytes
	// noise is what others seem to send because of headers and because counters are read a moment late: this
	// share of what is sent here, and so many bytes per second.
	noise     = 0.05
	noiseRate = 256 << 10
)

// NewSpare returns one that never lets through more than so many bytes per second, or Unlimited.
func NewSpare(most int64) *Spare {
	return &Spare{most: most, interfaces: map[string]*spare{}}
}

// spare is one interface.
type spare struct {
	most   int64
	device string
	others *neighbour
	sent   meter
	bucket *rate.Limiter

	mu sync.Mutex
	at time.Time // guarded by mu: when the bucket was set
}

// Conn returns a connection whose Write waits for its turn. It ends with an error when ctx ends.
func (s *Spare) Conn(ctx context.Context, conn *net.TCPConn) net.Conn {
	remote := addrOf(conn.RemoteAddr())
	device := remote.Zone()
	if device == "" {
		device = routeTo(remote).device
	}
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { setLowerEffort(int(fd), remote) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.interfaces[device]
	if i == nil {
		i = &spare{most: s.most, device: device, others: &neighbour{device: device, up: true}, bucket: rate.NewLimiter(rate.Inf, spareBurst)}
		s.interfaces[device] = i
	}
	return &spareConn{TCPConn: conn, ctx: ctx, spare: i}
}

type spareConn struct {
	*net.TCPConn
	ctx   context.Context
	spare *spare
}

// Write implements net.Conn.
func (c *spareConn) Write(b []byte) (n int, err error) {
	for n < len(b) || n == 0 {
		part := b[n:min(len(b), n+spareBurst)]
		if err := c.spare.take(c.ctx, len(part)); err != nil {
			return n, err
		}
		m, err := c.TCPConn.Write(part)
		n += m
		if err != nil || len(b) == 0 {
			return n, err
		}
	}
	return n, nil
}

// take waits until n bytes may be sent, at most spareBurst.
func (s *spare) take(ctx context.Context, n int) error {
	s.look(time.Now())
	if err := s.bucket.WaitN(ctx, n); err != nil {
		return err
	}
	s.others.own.Add(int64(n))
	s.sent.total.Add(int64(n))
	return nil
}

// look sets the bucket by what others send, if it is time to.
func (s *spare) look(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.at) < lookEvery {
		return
	}
	s.at = now
	s.others.look(now)
	limit := rate.Limit(left(linkSpeed(s.device), s.others.rate(), float64(s.sent.perSecond(now))))
	if s.device == "lo" {
		limit = rate.Inf
	}
	if s.most >= 0 {
		limit = min(limit, rate.Limit(s.most))
	}
	if limit != s.bucket.Limit() {
		s.bucket.SetLimitAt(now, limit)
	}
}

// left returns how many bytes per second may be sent through an interface of a speed, 0 if that is not known, while
// others send so many and we did.
func left(speed, others, own float64) float64 {
	if others < noise*own+noiseRate {
		others = 0
	}
	rate := speed*spareShare - others
	if speed == 0 {
		rate, speed = spareUnknown, spareUnknown
	}
	if others > 0 {
		rate = min(rate, speed*sharedShare)
	}
	return max(rate, leastSpare)
}
