package link

import "encoding/binary"

// Flow is what the packets of one conversation in one direction have in common. Packets that are
// not IPv4 have the zero Flow.
type Flow struct {
	From, To         [4]byte
	FromPort, ToPort uint16 // 0 unless TCP or UDP
	Protocol         uint8  // of IP
}

// Numbers of IP protocols.
const (
	ICMP = 1
	TCP  = 6
	UDP  = 17
)

// parse reads the flow of a packet and the length of what TCP or UDP carries.
func parse(b []byte) (f Flow, payload int) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return Flow{}, 0
	}
	header := int(b[0]&15) * 4
	total := min(int(binary.BigEndian.Uint16(b[2:])), len(b))
	f.Protocol = b[9]
	copy(f.From[:], b[12:])
	copy(f.To[:], b[16:])
	least := 0
	switch f.Protocol {
	case TCP:
		least = 20
	case UDP:
		least = 8
	}
	if least == 0 || header < 20 || total < header+least {
		return f, 0
	}
	f.FromPort = binary.BigEndian.Uint16(b[header:])
	f.ToPort = binary.BigEndian.Uint16(b[header+2:])
	if f.Protocol == TCP {
		least = max(least, int(b[header+12]>>4)*4)
	}
	return f, max(0, total-header-least)
}
