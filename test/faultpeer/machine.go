package faultpeer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/disco"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrd"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
	"github.com/ebbtransfer/ebb/internal/peers"
	"github.com/ebbtransfer/ebb/test/netlab"
)

// Acts, as the first argument, makes a program that calls Main a machine with a fault.
const Acts = "faultpeer"

// Main runs a machine of a netlab network, as the arguments say: the fault's name, none for a machine that does no
// harm, and the directory of the cache that it serves. It calls ready when it can be asked, and returns when ctx ends.
func Main(ctx context.Context, args []string, ready func()) error {
	if len(args) != 2 {
		return errors.New("want the name of a fault and a cache")
	}
	var f Fault
	if args[0] != "" {
		var err error
		if f, err = Find(args[0]); err != nil {
			return err
		}
	}
	c, err := cache.Open(args[1], cache.Limits{Size: 1 << 40, MaxAge: 24 * time.Hour})
	if err != nil {
		return err
	}
	defer c.Close()
	networks, err := disco.Networks([]string{netlab.Interface}, func(string) bool { return false })
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	d, err := disco.Open(disco.Config{Networks: networks, Port: peers.DefaultPort, Log: log,
		Found: func([]byte, netip.AddrPort) {}, Heard: func([][]byte, netip.Addr) {},
		Held: func(id []byte) (disco.Holding, bool) {
			e, err := c.Look(id)
			return disco.Holding{Blocks: e.Blocks, All: e.Held == int64(e.Length), Age: time.Since(e.Created)}, err == nil
		}})
	if err != nil {
		return err
	}
	defer d.Close()
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", peers.DefaultPort))
	if err != nil {
		return err
	}
	unplug := sync.OnceFunc(func() { _ = exec.Command("ip", "link", "set", netlab.Interface, "down").Run() })
	s := &http.Server{Handler: f.Wrap(pccrr.NewServer(c, pccrr.DefaultUploads, func(netip.Addr) bool { return true }), unplug),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	flooded := make(chan error, 1)
	go func() {
		if f.flood == nil {
			flooded <- nil
			return
		}
		flooded <- f.flood(ctx)
	}()
	ready()
	err = s.Serve(l)
	if ctx.Err() != nil {
		err = <-flooded
	}
	return err
}

// groupSockets returns a socket that hears what is sent to the group of discovery, and one to send with.
func groupSockets(ctx context.Context) (hears, sends *net.UDPConn, err error) {
	lan, err := net.InterfaceByName(netlab.Interface)
	if err != nil {
		return nil, nil, err
	}
	addresses, err := lan.Addrs()
	if err != nil || len(addresses) == 0 {
		return nil, nil, errors.Join(errors.New("the machine has no address"), err)
	}
	own := addresses[0].(*net.IPNet).IP
	if hears, err = net.ListenMulticastUDP("udp4", lan, &net.UDPAddr{IP: pccrd.Group4.AsSlice(), Port: pccrd.Port}); err != nil {
		return nil, nil, err
	}
	if sends, err = net.ListenUDP("udp4", &net.UDPAddr{IP: own}); err != nil {
		_ = hears.Close()
		return nil, nil, err
	}
	context.AfterFunc(ctx, func() {
		_ = hears.Close()
		_ = sends.Close()
	})
	return hears, sends, nil
}

// hear calls f with each probe of others, until ctx ends.
func hear(ctx context.Context, from, own *net.UDPConn, f func(p *pccrd.Probe, from netip.AddrPort)) error {
	b := make([]byte, pccrd.MaxDatagram)
	for {
		n, who, err := from.ReadFromUDPAddrPort(b)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		who = netip.AddrPortFrom(who.Addr().Unmap(), who.Port())
		p, err := pccrd.DecodeProbe(b[:n])
		if err == nil && who.Addr() != own.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap() {
			f(p, who)
		}
	}
}

// floodRate is how many datagrams a flood has in a second.
const floodRate = 4000

// floodOfProbes asks for what others ask for, without end.
func floodOfProbes(ctx context.Context) error {
	hears, sends, err := groupSockets(ctx)
	if err != nil {
		return err
	}
	var heard atomic.Pointer[pccrd.Probe]
	go func() {
		group := netip.AddrPortFrom(pccrd.Group4, pccrd.Port)
		for pause(ctx, 10*time.Millisecond) {
			for range floodRate / 100 {
				if last := heard.Load(); last != nil {
					p := pccrd.Probe{MessageID: pccrd.NewID(), Version: last.Version, IDs: last.IDs}
					_, _ = sends.WriteToUDPAddrPort(p.Append(nil), group)
				}
			}
		}
	}()
	return hear(ctx, hears, sends, func(p *pccrd.Probe, _ netip.AddrPort) { heard.Store(p) })
}

// floodOfMatches answers each probe again and again, each time as another machine, of which there is none.
func floodOfMatches(ctx context.Context) error {
	hears, sends, err := groupSockets(ctx)
	if err != nil {
		return err
	}
	return hear(ctx, hears, sends, func(p *pccrd.Probe, from netip.AddrPort) {
		go func() {
			for k := range 2 * floodRate {
				m := pccrd.Match{Endpoint: pccrd.NewID(), Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 99, 0, byte(100 + k%150)}), peers.DefaultPort)}
				for i := range p.IDs {
					m.Held = append(m.Held, pccrd.Held{Index: i, Blocks: 512, All: true})
				}
				r := pccrd.Reply{MessageID: pccrd.NewID(), Instance: 1, Number: uint32(k + 1)}
				_, _ = sends.WriteToUDPAddrPort(pccrd.AppendReply(nil, p, r, m), from)
				if k%(floodRate/100) == 0 && !pause(ctx, 10*time.Millisecond) {
					return
				}
			}
		}()
	})
}
