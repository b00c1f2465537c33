package governor

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strconv"
)

// counter is an interface's counter of bytes received or sent.
type counter struct {
	f  *os.File // nil before
	fd uintptr
}

var errNoDevice = errors.New("the interface is not known")

func (c *counter) read(device string, up bool) (int64, error) {
	if device == "" || filepath.Base(device) != device {
		return 0, errNoDevice
	}
	if c.f == nil {
		name := "rx_bytes"
		if up {
			name = "tx_bytes"
		}
		f, err := os.Open(filepath.Join("/sys/class/net", device, "statistics", name))
		if err != nil {
			return 0, err
		}
		c.f, c.fd = f, f.Fd()
	}
	var text [32]byte
	n, err := readNow(c.fd, text[:])
	if n == 0 {
		c.f.Close()
		c.f = nil
		return 0, cmp.Or(err, errNoDevice)
	}
	return strconv.ParseInt(string(bytes.TrimSpace(text[:n])), 10, 64)
}

// linkSpeed returns how many bytes per second an interface can send; 0 if that is not known.
func linkSpeed(device string) float64 {
	if device == "" || filepath.Base(device) != device {
		return 0
	}
	text, err := os.ReadFile(filepath.Join("/sys/class/net", device, "speed"))
	if err != nil {
		return 0
	}
	mbit, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil || mbit <= 0 {
		return 0
	}
	return float64(mbit) * 1e6 / 8
}
