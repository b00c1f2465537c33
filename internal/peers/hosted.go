package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
	"github.com/ebbtransfer/ebb/internal/peerdist/pchc"
)

const (
	perList    = 256              // segments that a hosted cache is asked for at a time
	addressFor = 5 * time.Minute  // for which the addresses of a name are believed
	offerDelay = 5 * time.Second  // offers are collected for so long (section 10)
	maxOffers  = 16384            // segments that wait to be offered, or were
	offerTime  = 10 * time.Second // for an offer and its answer
	maxAnswer  = 64               // bytes of an answer that are read; it has 5
	restHosted = time.Minute      // of a hosted cache that did not take an offer

	plainPort  = "80"
	securePort = "443" // of version 1
)

// hosted is the hosted caches of one configuration.
type hosted struct {
	names    []string
	port     uint16 // where they fetch what is offered
	version1 bool   // of offers, over HTTPS
	log      *slog.Logger
	http     *http.Client
	offers   *atomic.Int64 // segments that were taken

	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu        sync.Mutex // guards what follows
	addresses map[string]addresses
	waiting   []*peerdist.Segment
	offered   map[string]bool      // by id, those that wait or were taken
	resting   map[string]time.Time // by name, until when nothing is offered
	timer     *time.Timer          // nil while nothing waits
}

type addresses struct {
	all   []netip.Addr
	port  uint16
	until time.Time // zero: for ever
}

func newHosted(s Settings, log *slog.Logger, offers *atomic.Int64) *hosted {
	h := &hosted{names: s.HostedCaches, port: s.Port, version1: s.Version1Only, log: log, offers: offers,
		http: &http.Client{
			Timeout:       offerTime,
			Transport:     &http.Transport{DisableCompression: true, MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 8 << 10},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		addresses: map[string]addresses{}, offered: map[string]bool{}, resting: map[string]time.Time{}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	for _, name := range h.names {
		host, port := hostPort(name)
		a, err := netip.ParseAddr(host)
		if p, perr := strconv.ParseUint(port, 10, 16); err == nil && perr == nil {
			h.addresses[name] = addresses{all: []netip.Addr{a.Unmap()}, port: uint16(p)}
		}
	}
	return h
}

// close gives up what was not offered yet.
func (h *hosted) close() {
	h.cancel()
	h.mu.Lock()
	if h.timer != nil && h.timer.Stop() {
		h.done.Done()
	}
	h.mu.Unlock()
	h.done.Wait()
	h.http.CloseIdleConnections()
}

// resolve returns where a hosted cache is.
func (h *hosted) resolve(ctx context.Context, name string) (netip.AddrPort, error) {
	now := time.Now()
	h.mu.Lock()
	known := h.addresses[name]
	h.mu.Unlock()
	if known.all != nil && (known.until.IsZero() || now.Before(known.until)) {
		return netip.AddrPortFrom(known.all[0], known.port), nil
	}
	host, port := hostPort(name)
	p, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(all) == 0 {
		err = errors.New("it has no address")
	}
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := range all {
		all[i] = all[i].Unmap()
	}
	h.mu.Lock()
	h.addresses[name] = addresses{all, uint16(p), now.Add(addressFor)}
	h.mu.Unlock()
	return netip.AddrPortFrom(all[0], uint16(p)), nil
}

// hostPort returns the parts of host:port, where the port may be missing.
func hostPort(name string) (host, port string) {
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		return name, plainPort
	}
	return host, port
}

// has reports whether an address is that of a hosted cache, as far as their names were looked up.
func (h *hosted) has(a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, known := range h.addresses {
		if slices.Contains(known.all, a) {
			return true
		}
	}
	return false
}

// at reports whether a peer is a hosted cache.
func (h *hosted) at(p netip.AddrPort) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, known := range h.addresses {
		if known.port == p.Port() && slices.Contains(known.all, p.Addr()) {
			return true
		}
	}
	return false
}

// find asks all hosted caches for segments.
func (h *hosted) find(ctx context.Context, client *pccrr.Client, k *known, ids [][]byte) {
	now := time.Now()
	for _, id := range ids {
		k.asked(id, now)
	}
	var wait sync.WaitGroup
	for _, name := range h.names {
		wait.Go(func() {
			at, err := h.resolve(ctx, name)
			if err != nil {
				h.log.Debug("a hosted cache cannot be found", "name", name, "err", err)
				return
			}
			if banned, _ := client.Banned(at); banned {
				return
			}
			for some := range slices.Chunk(ids, perList) {
				has, err := client.Segments(ctx, at, some)
				if err != nil {
					return
				}
				now := time.Now()
				for _, i := range has {
					k.add(some[i], at, now)
				}
			}
		})
	}
	wait.Wait()
}

// isHosted reports whether a machine is one of the hosted caches.
func (n *Node) isHosted(a netip.Addr) bool {
	n.mu.RLock()
	h := n.hosted
	n.mu.RUnlock()
	return h != nil && h.has(a)
}

// Offer says that a download has blocks of these segments now, so that hosted caches can be told.
func (n *Node) Offer(segments []*peerdist.Segment) {
	n.mu.RLock()
	h, serving := n.hosted, n.serving != nil
	n.mu.RUnlock()
	if h != nil && serving {
		h.offer(segments)
	}
}

// offer has segments offered soon.
func (h *hosted) offer(segments []*peerdist.Segment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range segments {
		id := string(s.ID())
		if h.offered[id] {
			continue
		}
		if len(h.waiting) >= maxOffers {
			break
		}
		if len(h.offered) >= maxOffers {
			clear(h.offered)
		}
		h.offered[id] = true
		h.waiting = append(h.waiting, s)
	}
	if h.timer == nil && len(h.waiting) > 0 && h.ctx.Err() == nil {
		h.done.Add(1)
		h.timer = time.AfterFunc(offerDelay, h.flush)
	}
}

// flush offers what waits.
func (h *hosted) flush() {
	defer h.done.Done()
	h.mu.Lock()
	segments := h.waiting
	h.waiting, h.timer = nil, nil
	h.mu.Unlock()
	taken := false
	for _, name := range h.names {
		h.mu.Lock()
		rests := time.Now().Before(h.resting[name])
		h.mu.Unlock()
		if rests {
			continue
		}
		// It will come from its addresses, so these must be known.
		_, err := h.resolve(h.ctx, name)
		if err == nil {
			err = h.tell(name, segments)
		}
		if h.ctx.Err() != nil {
			return
		}
		if err != nil {
			h.log.Info("a hosted cache takes no offer, and is told nothing for a while", "name", name, "for", restHosted, "err", err)
			h.mu.Lock()
			h.resting[name] = time.Now().Add(restHosted)
			h.mu.Unlock()
			continue
		}
		taken = true
	}
	if taken {
		return
	}
	h.mu.Lock() // they may be offered again
	for _, s := range segments {
		delete(h.offered, string(s.ID()))
	}
	h.mu.Unlock()
}

// tell offers segments to one hosted cache.
func (h *hosted) tell(name string, segments []*peerdist.Segment) error {
	if h.version1 {
		return h.tell1(name, segments)
	}
	var all []pchc.Offered
	for _, s := range segments {
		o := pchc.Offered{BlockSize: peerdist.BlockSize, SegmentSize: uint32(s.Length), Tag: pchc.TagBITS, Version: s.Algorithm.Version(), ID: s.ID()}
		if o.Version == 2 {
			o.BlockSize = o.SegmentSize
		}
		if s.Algorithm == peerdist.SHA256 || o.Version == 2 { // others have ids that version 2 cannot carry
			all = append(all, o)
		}
	}
	host, port := hostPort(name)
	for some := range slices.Chunk(all, pchc.MaxBatch) {
		m := pchc.BatchedOffer{Port: h.port, Segments: some}
		if _, err := h.post("http://"+net.JoinHostPort(host, port)+pchc.Path2, m.Append(nil)); err != nil {
			return err
		}
		h.offers.Add(int64(len(some)))
	}
	return nil
}

// tell1 does it in version 1, which gives the cache what it needs to read the segments.
func (h *hosted) tell1(name string, segments []*peerdist.Segment) error {
	host, _ := hostPort(name)
	to := "https://" + net.JoinHostPort(host, securePort) + pchc.Path1
	for _, s := range segments {
		if s.Algorithm.Version() != 1 {
			continue
		}
		first := pchc.InitialOffer{Port: h.port, ID: s.ID()}
		answer, err := h.post(to, first.Append(nil))
		if err == nil && answer == pchc.Interested {
			all := pchc.SegmentInfo{Port: h.port, Tag: pchc.TagBITS, Segment: *s}
			_, err = h.post(to, all.Append(nil))
		}
		if err != nil {
			return err
		}
		h.offers.Add(1)
	}
	return nil
}

// post sends a message to a hosted cache and returns its answer.
func (h *hosted) post(to string, message []byte) (pchc.Answer, error) {
	r, err := http.NewRequestWithContext(h.ctx, http.MethodPost, to, bytes.NewReader(message))
	if err != nil {
		return 0, err
	}
	r.Header.Set("User-Agent", "Ebb")
	r.Header.Set("Content-Type", "application/octet-stream")
	resp, err := h.http.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("it answers with the status %d", resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, err
	}
	return pchc.DecodeAnswer(b)
}
