package governor

import (
	"math"
	"net/netip"

	"golang.org/x/sys/unix"
)

// lowerEffort is the DSCP class Lower Effort (RFC 8622) in the place it has in the header.
const lowerEffort = 1 << 2

// setLowerEffort marks what is sent as the least important, where that is allowed; nothing
// depends on it.
func (s *socket) setLowerEffort(remote netip.Addr) {
	s.control(func(fd int) { setLowerEffort(fd, remote) })
}

func setLowerEffort(fd int, remote netip.Addr) {
	if remote.Is4() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, lowerEffort)
	} else {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, lowerEffort)
	}
}

// setCongestion has the kernel's own congestion control be the plainest one, which is a backstop here, whatever the system
// prefers: BBR spaces what it sends by a rate that it takes from what we let it send, and CUBIC leaves its slow start when
// acknowledgements come at a pace that is ours.
func (s *socket) setCongestion() { s.control(setCongestion) }

func setCongestion(fd int) {
	_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
}

// firstWindow has the handshake offer the server about listenFirst bytes. A window that was offered cannot be taken back,
// and the usual 64 KiB are a tenth of a second of a slow link. The kernel offers a share of the buffer, which must not stay
// what it is set to: then the window could not grow later, and its scale would be made for that.
func firstWindow(fd int) {
	if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK); err != nil {
		return // before Linux 5.15 the buffer could not be released
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, firstBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0)
}

// firstBuffer is a buffer of which as much is offered: the kernel takes twice that and offers a half.
const firstBuffer = listenFirst + 104

// setWindow bounds the window that is offered to the peer.
func (s *socket) setWindow(bytes int) {
	s.control(func(fd int) { setOption(fd, unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, int32(bytes)) })
}

// tcpTimestamps is the bit of tcpi_options that says that both ends send timestamps.
const tcpTimestamps = 1

// look returns what the kernel tells of the connection, or last if it is closed.
func (s *socket) look(last reading) reading {
	s.control(func(fd int) {
		i, err := tcpInfo(fd)
		if err != nil {
			return
		}
		last = reading{
			rtt: float64(i.Rcv_rtt) / 1e6, handshake: float64(i.Min_rtt) / 1e6, mss: int(i.Snd_mss), bytes: int64(i.Bytes_received), segments: int64(i.Data_segs_in),
			window: int(i.Rcv_wnd), lost: int64(i.Rcv_ooopack), timestamps: i.Options&tcpTimestamps != 0,
		}
	})
	if last.handshake > 60 { // not measured yet
		last.handshake = 0
	}
	return last
}

// lookSend is look for what we send.
func (s *socket) lookSend(last reading) reading {
	s.control(func(fd int) {
		i, err := tcpInfo(fd)
		if err != nil {
			return
		}
		last = reading{
			rtt: float64(i.Rtt) / 1e6, handshake: float64(i.Min_rtt) / 1e6, mss: int(i.Snd_mss), bytes: int64(i.Bytes_acked), segments: int64(i.Segs_in),
			sent: int64(max(i.Bytes_sent, i.Bytes_acked)), unsent: int64(i.Notsent_bytes), lost: int64(i.Total_retrans), pacing: float64(i.Pacing_rate), timestamps: true,
		}
	})
	return last
}

// setPacing bounds the rate at which the kernel sends, in bytes per second; 0 lifts the bound.
func (s *socket) setPacing(rate uint64) {
	if rate == 0 {
		rate = math.MaxUint64
	}
	s.control(func(fd int) { setOption(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, rate) })
}
