package governor

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
)

// counter is an interface's counter of received bytes.
type counter struct{ f *os.File }

var errNoDevice = errors.New("the interface is not known")

func (c *counter) received(device string) (int64, error) {
	if device == "" || filepath.Base(device) != device {
		return 0, errNoDevice
	}
	if c.f == nil {
		f, err := os.Open(filepath.Join("/sys/class/net", device, "statistics/rx_bytes"))
		if err != nil {
			return 0, err
		}
		c.f = f
	}
	var text [32]byte
	n, err := c.f.ReadAt(text[:], 0)
	if n == 0 {
		c.f.Close()
		c.f = nil
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(text[:n])), 10, 64)
}
