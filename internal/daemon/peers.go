package daemon

import (
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peers"
	"github.com/ebbtransfer/ebb/internal/policy"
)

// peerPatience is how long a start waits for the cache of peers, which is swept when it is opened, so that
// transfers that go on then have it. They do without it otherwise.
const peerPatience = 2 * time.Second

// startPeers puts the settings for peer caching in force for the first time.
func (s *service) startPeers(p policy.Peers) {
	if p.Mode == policy.PeersOff {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.applyPeers(p)
	}()
	select {
	case <-done:
	case <-time.After(peerPatience):
	}
}

// applyPeers puts settings for peer caching in force.
func (s *service) applyPeers(p policy.Peers) {
	if err := s.peers.Apply(peerSettings(p)); err != nil {
		s.Log.Error("peer caching does not work as it is wanted", "err", err)
	}
}

// peerSettings are what a policy means for the node.
func peerSettings(p policy.Peers) peers.Settings {
	s := peers.Settings{
		Mode:           peerModes[p.Mode],
		Port:           uint16(p.Port),
		Interfaces:     p.Interfaces.Names(),
		HostedCaches:   p.HostedCaches.Addresses(),
		Limits:         cache.Limits{Size: p.CacheSize.Bytes, Percent: p.CacheSize.Percent, MaxAge: time.Duration(p.MaxAge)},
		ServeOnly:      !p.Fetch,
		ServeOnBattery: p.ServeOnBattery,
		PlainHTTP:      p.PlainHTTP,
		Version1Only:   p.Version1Only,
		ThrottleLAN:    p.ThrottleLAN,
		DigestMode:     p.DigestMode,
	}
	if p.Serve && p.UploadRate != 0 {
		s.Uploads = p.Uploads
		s.UploadRate = max(int64(p.UploadRate), 0)
	}
	return s
}

var peerModes = map[policy.PeerMode]peers.Mode{
	policy.PeersOff: peers.Off, policy.PeersLocal: peers.Local, policy.PeersDistributed: peers.Distributed, policy.PeersHosted: peers.Hosted,
}
