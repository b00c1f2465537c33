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
	WhyNot   string           // why none are served, in words
	Networks []Network        // that are asked and answered, in the distributed mode
	Peers    []Peer           // machines that blocks came from
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
	Used    time.Time // when it last gave a block
	Banned  bool      // it is not asked at present
	Lied    bool      // and that is because it sent what is wrong
}

// Stats are counts since the service was started.
type Stats struct {
	FromPeers    int64 // bytes of downloads that could come from peers, and did
	FromCache    int64 // that this machine had
	FromOrigin   int64 // that came from their servers
	Fetched      int64 // bytes that came from peers and were right
	Served       int64 // bytes of blocks that were given to peers
	ServedBlocks int64
	Refused      int64 // requests that were not answered because of the limit of uploads
	Probes       int64 // that were sent
	Answers      int64 // to them, that were good
	Probed       int64 // probes of others that came
	Answered     int64 // those that were answered
	Dropped      int64 // datagrams that were malformed, from elsewhere, or too many
	Offers       int64 // segments that were offered to hosted caches
}

// counters are those of Stats that are counted here.
type counters struct {
	fromPeers, fromCache, fromOrigin, fetched, served, servedBlocks, refused, offers atomic.Int64
}

// Status describes the node.
func (n *Node) Status() Status {
	n.mu.RLock()
	defer n.mu.RUnlock()
	c := &n.stats
	s := Status{Settings: n.settings, Stats: Stats{FromPeers: c.fromPeers.Load(), FromCache: c.fromCache.Load(), FromOrigin: c.fromOrigin.Load(), Fetched: c.fetched.Load(),
		Served: c.served.Load(), ServedBlocks: c.servedBlocks.Load(), Refused: c.refused.Load(), Offers: c.offers.Load()}}
	if n.problem != nil {
		s.Problem = n.problem.Error()
	}
	if n.cache == nil {
		return s
	}
	s.Used, s.Limit = n.cache.Used(), n.cache.Limit()
	if n.serving != nil {
		c := n.serving.Counts()
		s.Stats.Served += c.Bytes
		s.Stats.ServedBlocks += c.Blocks
		s.Stats.Refused += c.Refused
		for _, w := range n.networks {
			for _, p := range w.Addresses {
				s.Serving = append(s.Serving, netip.AddrPortFrom(p.Addr(), n.settings.Port))
			}
		}
		if n.hosted != nil { // which may come by any way
			s.Serving = append(s.Serving, netip.AddrPortFrom(netip.IPv6Unspecified(), n.settings.Port))
		}
	} else {
		s.WhyNot = n.holds()
	}
	d := n.past
	if n.discovery != nil {
		d = d.Add(n.discovery.Counts())
	}
	for _, w := range n.networks {
		s.Networks = append(s.Networks, Network{w.Name, w.Addresses})
	}
	s.Stats.Probes, s.Stats.Answers, s.Stats.Probed, s.Stats.Answered, s.Stats.Dropped = d.Probes, d.Answers, d.Probed, d.Answered, d.Dropped
	s.Peers = n.sticky.list()
	for i := range s.Peers {
		p := &s.Peers[i]
		p.Hosted = n.hosted != nil && n.hosted.at(p.Address)
		p.Banned, p.Lied = n.client.Banned(p.Address)
	}
	return s
}

var modeNames = [...]string{Off: "off", Local: "local", Distributed: "distributed", Hosted: "hosted"}

// String returns the mode as it is configured.
func (m Mode) String() string { return modeNames[m] }
