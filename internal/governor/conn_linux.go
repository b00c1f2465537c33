package governor

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// lowerEffort is the DSCP class Lower Effort (RFC 8622) in the place it has in the header.
const lowerEffort = 1 << 2

// setLowerEffort marks what is sent as the least important, where that is allowed; nothing
// depends on it.
func setLowerEffort(raw syscall.RawConn, remote netip.Addr) {
	_ = raw.Control(func(fd uintptr) {
		if remote.Is4() {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, lowerEffort)
		} else {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, lowerEffort)
		}
	})
}

// setWindow bounds the window that is offered to the peer. A connection that was closed in the
// meantime needs none.
func setWindow(raw syscall.RawConn, bytes int) {
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, bytes)
	})
}

// tcpTimestamps is the bit of tcpi_options that says that both ends send timestamps.
const tcpTimestamps = 1

func (c *Conn) read() reading {
	r := c.last
	_ = c.raw.Control(func(fd uintptr) {
		i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		r = reading{
			rtt: float64(i.Rcv_rtt) / 1e6, handshake: float64(i.Min_rtt) / 1e6, mss: int(i.Snd_mss), bytes: int64(i.Bytes_received), segments: int64(i.Data_segs_in),
			outOfOrder: int64(i.Rcv_ooopack), timestamps: i.Options&tcpTimestamps != 0,
		}
	})
	return r
}
