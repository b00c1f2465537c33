package config

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/internal/policy"
)

var sizeForm = regexp.MustCompile(`^([0-9]{1,18}) ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB|)$`)

var sizeUnits = map[string]int64{
	"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// ParseSize reads a number of bytes; -1 is "unlimited".
func ParseSize(text string) (int64, error) {
	if strings.EqualFold(text, "unlimited") {
		return -1, nil
	}
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf(`%q is not a size (want "500 MB", "20 GiB" or "unlimited")`, text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n > math.MaxInt64/sizeUnits[m[2]] {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return n * sizeUnits[m[2]], nil
}

// ParseRate reads bytes a second; 0 is "unlimited". BITS allows no less than 1,024.
func ParseRate(text string) (int64, error) {
	var r policy.Rate
	if err := r.UnmarshalText([]byte(text)); err != nil {
		return 0, err
	}
	switch {
	case int64(r) == policy.Unlimited:
		return 0, nil
	case r < 1024:
		return 0, errors.New("want at least 1024 B/s")
	}
	return int64(r), nil
}

// parseDuration reads a duration between two bounds.
func parseDuration(text string, lo, hi time.Duration) (time.Duration, error) {
	var d policy.Duration
	if err := d.UnmarshalText([]byte(text)); err != nil {
		return 0, err
	}
	if v := time.Duration(d); v >= lo && v <= hi {
		return v, nil
	}
	return 0, fmt.Errorf("%s is out of range; want %s to %s", text, policy.Duration(lo), policy.Duration(hi))
}
