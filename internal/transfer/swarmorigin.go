package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

const (
	// minRun and maxRun bound what the origin is asked for at once, in bytes; in between it is what takes
	// about runTime: what peers get meanwhile is not asked for then, and a round trip costs little.
	minRun  = 1 << 20
	maxRun  = 256 << 20
	runTime = 2 * time.Second

	// patience is how long the rate of peers is measured before it is held against that of the origin;
	// firstPatience, how long it may take to find the first ones.
	patience      = 500 * time.Millisecond
	firstPatience = time.Second

	// firstRate is what the origin is taken to give, in bytes per second, before it gave anything.
	firstRate = 1 << 20
)

// askOrigin asks the origin for what nobody else has, and for more if that is faster.
func (s *swarm) askOrigin(ctx context.Context) {
	for tries := 0; ; {
		first, end, ok := s.choose(ctx)
		if !ok {
			return
		}
		began := time.Now()
		n, err := s.request(ctx, first, end)
		s.settle(first, end, n, time.Since(began))
		if n > 0 {
			tries = 0
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			tries = 0
			continue
		case errors.Is(err, errPlain) || errors.Is(err, errAnew):
			s.fail(err)
			return
		}
		if tries++; !quick(err) || tries > quickTries {
			s.without(ctx, err)
			return
		}
		if sleep(ctx, time.Duration(float64(quickPause)*(0.5+rand.Float64()))) != nil {
			return
		}
	}
}

// without waits for what peers still give, now that the origin has failed.
func (s *swarm) without(ctx context.Context, err error) {
	s.mu.Lock()
	for ctx.Err() == nil && (s.active > 0 || len(s.ready) > 0 || s.found && !s.looked) {
		s.toOrigin.Wait()
	}
	s.mu.Unlock()
	if ctx.Err() == nil {
		s.fail(err)
	}
}

// choose waits until there is something to ask the origin for, and returns the blocks from first on before
// end.
func (s *swarm) choose(ctx context.Context) (first, end int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; ctx.Err() == nil; s.toOrigin.Wait() {
		if b := s.wrong; b >= 0 && s.blocks[b] == blockMissing {
			return s.take(b, func(c int) bool { return c == b })
		}
		for _, may := range []func(int) bool{s.nobodys, s.anybodys, s.peers} {
			if first, ok := s.pick(may); ok {
				return s.take(first, may)
			}
			if !s.peersAreSlow() {
				break
			}
		}
	}
	return 0, 0, false
}

// nobodys reports whether a block is missing that nobody has; anybodys, whether it is missing; peers, whether
// peers are asked for it.
func (s *swarm) nobodys(b int) bool {
	st := s.segments[b/s.per].state
	return s.blocks[b] == blockMissing && (st == free || st == unknown && time.Now().UnixNano() < s.lonely.Load())
}

func (s *swarm) anybodys(b int) bool { return s.blocks[b] == blockMissing }

func (s *swarm) peers(b int) bool { return s.blocks[b] == blockAtPeers }

// pick chooses a block: the next one if that will do, else any.
func (s *swarm) pick(may func(int) bool) (int, bool) {
	if b := s.next % len(s.blocks); may(b) {
		return b, true
	}
	n, chosen := 0, -1
	for b := range s.blocks {
		if may(b) {
			if n++; rand.IntN(n) == 0 {
				chosen = b
			}
		}
	}
	return chosen, chosen >= 0
}

// take marks a run of blocks for the origin.
func (s *swarm) take(first int, may func(int) bool) (int, int, bool) {
	end := first
	for n := int64(0); n < s.length && end < len(s.blocks) && may(end); end++ {
		_, _, at := s.block(end)
		n += at.Length
		s.blocks[end] = blockAtOrigin
	}
	s.next = end
	return first, end, true
}

// peersAreSlow reports whether peers gave less, the last time that it was measured, than the origin would.
func (s *swarm) peersAreSlow() bool {
	if passed := time.Since(s.since); passed >= patience && (s.answered || passed >= firstPatience) {
		rate := s.rate
		if rate == 0 {
			rate = firstRate
		}
		s.slow = float64(s.fromPeers-s.before) < rate*passed.Seconds()
		s.since, s.before = time.Now(), s.fromPeers
	}
	return s.slow
}

// settle takes stock after the origin was asked: n bytes came in a time.
func (s *swarm) settle(first, end int, n int64, passed time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := first; b < end; b++ {
		if s.blocks[b] == blockAtOrigin {
			s.blocks[b] = blockMissing
		}
	}
	if n >= minRun/2 {
		s.rate = float64(n) / max(passed, time.Millisecond).Seconds()
		s.length = max(minRun, min(maxRun, 2*s.length, int64(s.rate*runTime.Seconds())))
	}
}

// request asks the origin for blocks, and returns how many bytes of them came.
func (s *swarm) request(ctx context.Context, first, end int) (n int64, err error) {
	_, _, a := s.block(first)
	_, _, z := s.block(end - 1)
	ctx, under := s.ask(ctx, s.src.url)
	defer under.end()
	resp, err := s.http.GetParts(s.guard(ctx), httpget.PartsRequest{URL: s.src.url, Header: s.job.Header, Ranges: []bits.Range{{Offset: a.Offset, Length: z.End() - a.Offset}},
		Validator: s.named(), PeerDist: httpget.PeerDist{Missing: !s.byWord()}, Class: s.job.Class, Got: under.got, Answered: s.answer.came})
	var e *bits.Error
	switch {
	case errors.As(err, &e) && (e.Code == bits.InsufficientRangeSupport || e.Code == bits.InvalidRange):
		return 0, s.discard("the server describes the file but does not send parts of it", false)
	case err != nil:
		return 0, err
	case resp.Restart != "":
		if err := s.discard(resp.Restart, true); err != errPlain {
			return 0, err
		}
		return 0, errAnew // it may be described anew
	}
	defer resp.Close()
	part, body, err := resp.Next(ctx)
	switch {
	case err != nil:
		return 0, err
	case part.Offset != a.Offset:
		return 0, &bits.Error{Code: bits.InvalidServerResponse, Context: bits.ContextRemoteFile, File: s.src.url,
			Message: fmt.Sprintf("the server sent the file from byte %d though byte %d was asked for", part.Offset, a.Offset)}
	}
	space := make([]byte, max(peerdist.BlockSize, peerdist.MaxSegment2))
	for b := first; b < end; b++ {
		seg, i, at := s.block(b)
		data := space[:at.Length]
		if at.End() > part.End() {
			return n, errShort
		}
		if err := s.read(ctx, body, data, under); err != nil {
			return n, err
		}
		n += at.Length
		s.run.live.moved.Add(at.Length)
		if !seg.Verify(i, data) {
			return n, s.sentWrong(b)
		}
		if err := s.put(b, data, theOrigin); err != nil {
			return n, err
		}
		s.keep(seg, i, data)
	}
	return n, nil
}

// named is the validator that requests carry, if the server names versions at all.
func (s *swarm) named() httpget.Validator {
	if v := s.validator; v.ETag != "" || v.LastModified != "" {
		return v
	}
	return httpget.Validator{}
}

// read fills data.
func (s *swarm) read(ctx context.Context, body io.Reader, data []byte, under *asked) error {
	for len(data) > 0 {
		under.patience.Wait(httpconn.Arrival, s.stallTime())
		n, err := body.Read(data)
		under.patience.Rest() // what follows is the disk's time
		data = data[n:]
		if err != nil && len(data) > 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return httpconn.TransportError(ctx, err, s.src.url)
		}
	}
	return nil
}

// sentWrong deals with a block of the origin that has another hash: it is asked for once more. If it is as
// wrong then, the file is another one than was described.
func (s *swarm) sentWrong(b int) error {
	s.mu.Lock()
	again := s.wrong == b
	s.wrong = b
	s.mu.Unlock()
	if again && s.byWord() {
		return s.refute("the server sends other bytes")
	}
	if again {
		return s.discard("the server sent another file than it had described", true)
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	s.note("some of what the server sent was damaged, and was fetched again")
	return nil
}
