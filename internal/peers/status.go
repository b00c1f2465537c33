package peers

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Status is what a node does, for people.
type Status struct {
	Settings Settings
	Problem  string           // why not all of it runs; empty if all does
	Serving  []netip.AddrPort // where blocks are served; none while they are not
	WhyNot   string           // why none are served though the mode wants it, as on battery
	Networks []Network        // that are asked, in the distributed mode
	Peers    []Peer           // machines that blocks came from, or that had something, lately
	Used     int64            // bytes of the cache
	Limit    int64            // bytes that it may have now
	Stats    Stats
}

// Network is an interface whose network is asked.
type Network struct {
	Interface string
	Addresses []netip.Prefix
}

// Peer is another machine.
type Peer struct {
	Address netip.AddrPort
	Hosted  bool      // it is a hosted cache
	Fetched int64     // bytes that came from it
	Used    time.Time // when it last gave a block; zero if it did not
	Banned  bool      // it is not asked at present
	Lied    bool      // and that is because it sent what is wrong
}

// Stats are counts since the service was started.
type Stats struct {
	FromPeers, FromOrigin int64 // bytes of downloads that could come from peers, and where they came from
	Fetched               int64 // bytes that came from peers and were right
	Served                int64 // bytes of blocks that were given to peers
	ServedBlocks          int64
	Refused               int64 // requests that were not answered because of the limit of uploads
	Probes                int64 // that were sent
	Answers               int64 // to them, that were good
	Probed                int64 // probes of others that came
	Answered              int64 // those that were answered
	Dropped               int64 // datagrams that were malformed, from elsewhere, or too many
	Offers                int64 // segments that were offered to hosted caches
}

// counters are Stats as they are counted.
type counters struct {
	fromPeers, fromOrigin, fetched, served, servedBlocks, refused, probes, answers, probed, answered, dropped, offers atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		FromPeers: c.fromPeers.Load(), FromOrigin: c.fromOrigin.Load(), Fetched: c.fetched.Load(), Served: c.served.Load(), ServedBlocks: c.servedBlocks.Load(),
		Refused: c.refused.Load(), Probes: c.probes.Load(), Answers: c.answers.Load(), Probed: c.probed.Load(), Answered: c.answered.Load(),
		Dropped: c.dropped.Load(), Offers: c.offers.Load(),
	}
}

// Status describes the node.
func (n *Node) Status() Status {
	n.mu.RLock()
	defer n.mu.RUnlock()
	s := Status{Settings: n.settings, Stats: n.stats.stats()}
	if n.problem != nil {
		s.Problem = n.problem.Error()
	}
	if n.cache != nil {
		s.Used, s.Limit = n.cache.Used(), n.cache.Limit()
	}
	return s
}

var modeNames = [...]string{Off: "off", Local: "local", Distributed: "distributed", Hosted: "hosted"}

// String returns the mode as it is configured.
func (m Mode) String() string { return modeNames[m] }
