package main

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Voice is like a call with G.711: 160 bytes every 20 ms.
const (
	voiceBytes    = 160
	voiceInterval = 20 * time.Millisecond
)

// serveVoice sends datagrams to whoever has asked for them in the last second. Each holds the time at
// which it left.
func serveVoice() error {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: foregroundPort})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := stamp(conn); err != nil {
		return err
	}
	type request struct {
		from netip.AddrPort
		at   time.Time
	}
	var last atomic.Pointer[request]
	failed := make(chan error)
	go func() {
		b, oob := make([]byte, voiceBytes), make([]byte, 128)
		for {
			n, m, _, from, err := conn.ReadMsgUDPAddrPort(b, oob)
			if err == nil && n == voiceBytes { // somebody speaks: say when it was heard
				var heard int64
				if heard, err = received(oob[:m]); err == nil {
					binary.BigEndian.PutUint64(b[8:], uint64(heard))
					_, _ = conn.WriteToUDPAddrPort(b[:16], from)
					continue
				}
			}
			if err != nil {
				failed <- err
				return
			}
			last.Store(&request{from, time.Now()})
		}
	}()
	tick := time.NewTicker(voiceInterval)
	defer tick.Stop()
	b := make([]byte, voiceBytes)
	for {
		select {
		case <-tick.C:
			if r := last.Load(); r != nil && time.Since(r.at) < time.Second {
				binary.BigEndian.PutUint64(b, uint64(time.Now().UnixNano()))
				_, _ = conn.WriteToUDPAddrPort(b, r.from) // a listener that is gone asks no more
			}
		case err := <-failed:
			return err
		}
	}
}

// voice listens and notes how long each datagram was on its way, until the kernel had it.
func (c *consumer) voice(ctx context.Context, server string) error {
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(server), Port: foregroundPort})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := stamp(conn); err != nil {
		return err
	}
	b, oob := make([]byte, voiceBytes), make([]byte, 128)
	var asked time.Time
	for ctx.Err() == nil {
		if time.Since(asked) > 200*time.Millisecond {
			asked = time.Now()
			if _, err := conn.Write([]byte("more")); err != nil {
				return err
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, m, _, _, err := conn.ReadMsgUDP(b, oob)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return err
		}
		if n < 8 {
			continue
		}
		left := int64(binary.BigEndian.Uint64(b))
		arrived, err := received(oob[:m])
		if err != nil {
			return err
		}
		c.note(time.Unix(0, left), time.Duration(arrived-left))
	}
	return nil
}

// speak sends datagrams, and notes how long each was on its way until the server's kernel had it.
func (c *consumer) speak(ctx context.Context, server string) error {
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(server), Port: foregroundPort})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	go func() {
		tick := time.NewTicker(voiceInterval)
		defer tick.Stop()
		b := make([]byte, voiceBytes)
		for ctx.Err() == nil {
			<-tick.C
			binary.BigEndian.PutUint64(b, uint64(time.Now().UnixNano()))
			_, _ = conn.Write(b) // what cannot be sent is not heard
		}
	}()
	b := make([]byte, voiceBytes)
	for ctx.Err() == nil {
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := conn.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 16 {
			left, heard := int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
			c.note(time.Unix(0, left), time.Duration(heard-left))
		}
	}
	return nil
}

// stamp has the kernel note when datagrams arrive.
func stamp(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
	return errors.Join(err, os.NewSyscallError("setsockopt SO_TIMESTAMPNS", set))
}

// received returns the kernel's time stamp, ns since 1970.
func received(oob []byte) (int64, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			return int64(binary.NativeEndian.Uint64(m.Data))*1e9 + int64(binary.NativeEndian.Uint64(m.Data[8:])), nil
		}
	}
	return 0, errors.New("a datagram without a time stamp")
}
