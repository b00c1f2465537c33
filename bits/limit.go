package bits

import (
	"encoding/json"
	"math"
	"strconv"
)

// SizeLimit is how many bytes there may be at most, 0 for any number. BITS has 64 bits without a sign for it: no
// file has as many bytes as do not fit into 63, so those numbers are no limit, as BG_SIZE_UNKNOWN is none.
type SizeLimit int64

// UnmarshalJSON implements json.Unmarshaler.
func (l *SizeLimit) UnmarshalJSON(text []byte) error {
	if no, ok := unlimited(string(text)); ok {
		*l = no
		return nil
	}
	return json.Unmarshal(text, (*int64)(l))
}

// unlimited reports whether a number is one of those that are no limit but 0.
func unlimited(text string) (SizeLimit, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	return 0, err == nil && n > math.MaxInt64
}
