package peerdist

import (
	"encoding/binary"
	"time"
)

// Age says for how long a peer has had a segment.
type Age struct {
	Segment int // index in the list of ids that was asked for, 0 to 255
	Age     time.Duration
}

// ageUnits are those of the extensible blob, by their numbers (section 7.3).
var ageUnits = [...]time.Duration{1: time.Second, 2: time.Second / 10, 3: time.Second / 100, 4: time.Millisecond}

const ageUnit = 3 // what is sent

// AppendAges appends the extensible blob of PCCRR, which PCCRD's SegmentAges has too: of at most 255
// ages, as long as 46 hours.
func AppendAges(b []byte, ages []Age) []byte {
	ages = ages[:min(len(ages), 255)]
	b = append(b, 0, 1, ageUnit, byte(len(ages)))
	for _, a := range ages {
		n := min(max(a.Age/ageUnits[ageUnit], 0), 1<<24-1)
		b = append(b, byte(a.Segment), byte(n), byte(n>>8), byte(n>>16))
	}
	return b
}

// DecodeAges reads what AppendAges writes. It returns nil for what cannot be read, which is to be
// ignored (section 7.3).
func DecodeAges(b []byte) []Age {
	if len(b) < 4 || binary.BigEndian.Uint16(b) != 1 || b[2] < 1 || int(b[2]) >= len(ageUnits) || len(b) < 4*(int(b[3])+1) {
		return nil
	}
	var ages []Age
	for i := range int(b[3]) {
		e := b[4*(i+1):]
		n := int(e[1]) | int(e[2])<<8 | int(e[3])<<16
		ages = append(ages, Age{Segment: int(e[0]), Age: time.Duration(n) * ageUnits[b[2]]})
	}
	return ages
}
