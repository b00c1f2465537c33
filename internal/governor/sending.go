package governor

// What the law says of sending; of it receiving needs only how often to listen.

const (
	pacingHeadroom = 1.25
	few            = 10 // segments, which may go at once as at the start of any connection
	// slowest is the rate, in bytes per second, up to which what a tick allows needs no spreading.
	slowest = 2 * segment / tick
	// fastest is the rate from which pacing costs more than the bursts of a tick do harm.
	fastest = 250e6
	// mostPair bounds, in seconds, what is taken for the wait of a pair of segments and not for a queue.
	mostPair = 0.01
	// listenShare is the share of a path that listening may take from others, half of it while the counters
	// tell of them; mostApart is the longest time, in seconds, without it.
	listenShare = 0.015
	mostApart   = 0.25
	// mostUnread is how long, in seconds, a receiver that listens leaves a segment unread.
	mostUnread = 0.1
	// mostHesitation is how long, in seconds, a sender waits for what seems to be somebody.
	mostHesitation = 0.02
)

// pacing returns how fast, in bytes per second, a flow sends that may have so many bytes under way; 0: at
// once. What is written at once would be sent at once: pacing spreads it. It is no bound itself.
func (c *control) pacing(window float64) float64 {
	rtt := c.base + c.queue
	if rtt == 0 || window < few*segment {
		// The peer acknowledges two together: the first waits for the second, and pacing makes that wait longer.
		return 0
	}
	if rate := pacingHeadroom * window / rtt; slowest <= rate && rate <= fastest {
		return rate
	}
	return 0
}

// pairWait returns how much longer, in seconds, the first of two full segments, which the peer acknowledges
// together, is under way than a short packet, without any queue. Pacing sends them gap apart.
func (c *control) pairWait(gap float64) float64 {
	if c.phase != starting { // until then the capacity is a guess
		each := segment / c.capacity
		gap = each + max(gap, each)
	}
	return min(gap, mostPair)
}

// hesitates reports whether a sender should wait, as somebody seems to have come: what it sends meanwhile would be in their
// way when that turns out to be so, and only late otherwise. It does not last, as without sending nothing can be seen.
func (c *control) hesitates() bool {
	return c.up && c.phase == cruising && c.now >= c.graceUntil && c.taken >= c.telling()/2 && c.now-c.waited < mostHesitation
}

// listenEvery returns how long, in seconds, each of n flows waits between two pairs of segments, or a receiver between two segments, with which
// it listens to a path that others fill.
func (c *control) listenEvery(n int) float64 {
	if c.phase != yielding || c.window > segment || c.capacity <= 0 {
		return 0
	}
	share := listenShare
	if c.local {
		share /= 2
	}
	return min(float64(n)*leastWindow/(share*c.capacity), mostApart)
}
