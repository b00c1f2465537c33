package peers

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/peerdist/disco"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
)

// serving is the server of blocks that runs.
type serving struct {
	*pccrr.Server
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// serve starts the server of blocks; applying is held.
func (n *Node) serve(s Settings) error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", s.Port))
	if err != nil {
		return fmt.Errorf("blocks cannot be served to peers: %w", err)
	}
	most := governor.Unlimited
	if s.UploadRate > 0 {
		most = s.UploadRate
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &serving{Server: pccrr.NewServer(shelf{n.cache, n}, s.Uploads, n.allowed), cancel: cancel}
	r.done.Go(func() {
		if err := r.Serve(ctx, &polite{Listener: l, spare: governor.NewSpare(most), ctx: ctx}); err != nil {
			n.log.Error("blocks are not served to peers any more", "err", err)
		}
	})
	n.mu.Lock()
	n.serving = r
	n.mu.Unlock()
	return nil
}

// unserve stops it; applying is held.
func (n *Node) unserve() {
	n.mu.Lock()
	r := n.serving
	n.serving = nil
	n.mu.Unlock()
	if r == nil {
		return
	}
	r.cancel()
	r.done.Wait()
	c := r.Counts()
	n.stats.served.Add(c.Bytes)
	n.stats.servedBlocks.Add(c.Blocks)
	n.stats.refused.Add(c.Refused)
}

// allowed reports whether an address may fetch blocks: those of the networks that are shared with, or those of
// hosted caches.
func (n *Node) allowed(a netip.Addr) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.hosted != nil {
		return n.hosted.has(a)
	}
	return slices.ContainsFunc(n.networks, func(w disco.Network) bool { return w.Has(a) })
}

// polite is a listener whose connections send what their interface has left.
type polite struct {
	net.Listener
	spare *governor.Spare
	ctx   context.Context
}

func (p *polite) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return p.spare.Conn(p.ctx, c.(*net.TCPConn)), nil
}
