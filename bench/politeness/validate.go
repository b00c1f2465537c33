package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/bench/politeness/link"
)

// check is something that arithmetic tells of a link, and what was measured.
type check struct {
	link, what  string
	want, got   float64
	least, most float64 // of got
	format      string
}

func (c check) ok() bool { return c.got >= c.least && c.got <= c.most }

// validations is how often a link is measured at most: a machine that is busy for a moment gets
// another chance.
const validations = 3

// validate measures the links themselves, prints that beside what arithmetic expects, and returns an
// error when they differ.
func (l *lab) validate(ctx context.Context, specs []linkSpec) error {
	var rows [][]string
	var wrong error
	for _, s := range specs {
		checks, err := l.checkLink(ctx, s)
		for range validations - 1 {
			if err == nil && !allOK(checks) {
				checks, err = l.checkLink(ctx, s)
			}
		}
		if err != nil {
			return fmt.Errorf("validate %s: %w", s.name, err)
		}
		for _, c := range checks {
			verdict := "right"
			if !c.ok() {
				verdict = "**wrong**"
				wrong = errors.New("a link is not what it should be: the machine is too busy, or the emulator is wrong")
			}
			rows = append(rows, []string{c.link, c.what, fmt.Sprintf(c.format, c.want), fmt.Sprintf(c.format, c.got), verdict})
		}
	}
	fmt.Print("The links against arithmetic:\n\n")
	printTable([]string{"link", "", "expected", "measured", ""}, rows)
	return wrong
}

func allOK(checks []check) bool {
	for _, c := range checks {
		if !c.ok() {
			return false
		}
	}
	return true
}

// checkLink measures a link that is idle, flooded by datagrams, and filled by one TCP flow.
func (l *lab) checkLink(ctx context.Context, s linkSpec) ([]check, error) {
	s.steps = nil
	down, up := s.directions(1)
	base := (down.Delay + up.Delay).Seconds() * 1000
	wait := s.queue.Seconds() * 1000
	var checks []check
	add := func(what string, want, got, least, most float64, format string) {
		checks = append(checks, check{s.name, what, want, got, least, most, format})
	}

	err := l.withWire(s, func(*link.Wire) error {
		rtt, err := l.handshakes(ctx, 20, 900*ms)
		// A veth pair and two routers take their time, too.
		add("round trip of the idle link, least, ms", base, percentile(rtt, 0), base, base+1, "%.2f")
		return err
	})
	if err != nil {
		return nil, err
	}

	err = l.withWire(s, func(wire *link.Wire) error {
		stop, received, err := flood(s.rate * 13 / 10)
		if err != nil {
			return err
		}
		defer stop()
		if err := process.Sleep(ctx, 500*ms+2*s.queue); err != nil { // until the queue is full
			return err
		}
		n, began := received(), time.Now()
		rtt, err := l.handshakes(ctx, 12, down.Delay+up.Delay+s.queue+s.jitter+100*ms)
		if err != nil {
			return err
		}
		if err := process.Sleep(ctx, time.Second-time.Since(began)); err != nil {
			return err
		}
		n = received() - n
		rate := float64(s.rate) / mbit * (1 - s.loss)
		got := float64(n) * 8 / time.Since(began).Seconds() / mbit
		add("datagrams that get through a flood, Mbit/s", rate, got, rate*0.985-s.loss*rate*0.5, rate*1.015+s.loss*rate*0.5, "%.2f")
		if down.Queue == link.DropTail {
			// A SYN-ACK that gets in finds the queue full but for less than a packet.
			most := base + wait + 1 + s.jitter.Seconds()*1000
			add("round trip under the flood, median, ms", base+wait, percentile(rtt, 0.5), (base+wait)*0.97-2*link.MTU*8000/float64(s.rate), most+2, "%.2f")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	if down.Queue != link.DropTail || s.loss > 0 || s.jitter > 0 || s.queue < down.Delay+up.Delay {
		return checks, nil // TCP does not fill it, as it should be
	}
	const fill = 5 * time.Second
	bulkRun := spec{link: s, load: bulk, from: neighbour, phases: [3]time.Duration{0, fill, 0}}
	t, err := l.run(ctx, bulkRun)
	if err != nil {
		return nil, err
	}
	ideal := float64(s.rate) * segmentPayload / link.MTU / mbit
	first := t.up.first[foreground]
	got := rate(t.down.payload[foreground], first+3*time.Second, first+fill) / mbit
	add("payload of one TCP flow, Mbit/s", ideal, got, ideal*0.985, ideal*1.005, "%.2f")
	counted := float64(t.Bytes)
	var passed int64
	for _, n := range t.down.payload[foreground] {
		passed += n
	}
	// What was dropped passed twice; what was on its way at the end did not arrive.
	add("bytes of it that the program got, of those that passed the link, %", 100, 100*counted/float64(passed), 90, 100, "%.1f")
	return checks, nil
}

// withWire calls f while a link lies.
func (l *lab) withWire(s linkSpec, f func(*link.Wire) error) error {
	downConfig, upConfig := s.directions(1)
	down, err := link.New(downConfig, newRecorder(0))
	if err != nil {
		return err
	}
	up, err := link.New(upConfig, newRecorder(0))
	if err != nil {
		return err
	}
	wire := link.Run(l.bed.far, l.bed.near, down, up)
	err = f(wire)
	_, wireErr := wire.Stop()
	return errors.Join(err, wireErr)
}

// handshakes connects the neighbour to a server so often and returns how long each took in ms. Those
// that lost a packet, as most do in a full queue, take longer than most, and are tried again.
func (l *lab) handshakes(ctx context.Context, n int, most time.Duration) ([]float64, error) {
	var took []float64
	for tries := 0; tries < 10*n && len(took) < n; tries++ {
		err := within(neighbour, func() error {
			began := time.Now()
			c, err := (&net.Dialer{Timeout: most}).DialContext(ctx, "tcp4", fmt.Sprintf("%s:%d", addresses[cubic], foregroundPort))
			if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
				return nil
			}
			if err != nil {
				return err
			}
			took = append(took, time.Since(began).Seconds()*1000)
			return c.Close()
		})
		if err != nil {
			return nil, err
		}
	}
	if len(took) == 0 {
		return nil, errors.New("no connection comes about")
	}
	return took, nil
}

// floodPort is where the datagrams of a flood go.
const floodPort = 9999

// flood sends datagrams from the server to the neighbour at a rate in bit/s of IP packets, until
// stop. received returns how many bytes of IP packets have arrived.
func flood(rate int64) (stop func(), received func() int64, err error) {
	var in, out net.PacketConn
	err = errors.Join(
		within(neighbour, func() (err error) {
			in, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", floodPort))
			return err
		}),
		within(cubic, func() (err error) {
			out, err = net.ListenPacket("udp4", ":0")
			return err
		}))
	if err != nil {
		return nil, nil, err
	}
	if err := in.(*net.UDPConn).SetReadBuffer(4 << 20); err != nil {
		return nil, nil, os.NewSyscallError("setsockopt SO_RCVBUF", err)
	}
	const size = link.MTU - 28 // the headers of IP and UDP
	var arrived atomic.Int64
	var stopped atomic.Bool
	go func() {
		b := make([]byte, link.MTU)
		for {
			n, _, err := in.(*net.UDPConn).ReadFromUDPAddrPort(b)
			if err != nil {
				return // closed
			}
			arrived.Add(int64(n) + link.MTU - size)
		}
	}()
	go func() {
		b := make([]byte, size)
		to := netip.AddrPortFrom(netip.MustParseAddr(addresses[neighbour]), floodPort)
		for began, sent := time.Now(), int64(0); !stopped.Load(); time.Sleep(ms / 2) {
			for due := int64(time.Since(began).Seconds() * float64(rate) / 8); sent < due && !stopped.Load(); sent += link.MTU {
				_, _ = out.(*net.UDPConn).WriteToUDPAddrPort(b, to)
			}
		}
	}()
	return func() {
		stopped.Store(true)
		_, _ = in.Close(), out.Close()
	}, arrived.Load, nil
}
