package faultpeer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"
)

// Date makes all segments of a cache come at t, as far as it knows, as a clock that was or is wrong does.
func Date(cache string, t time.Time) error {
	names, err := filepath.Glob(filepath.Join(cache, "seg", "*", "*.seg"))
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("there is nothing in the cache %s", cache)
	}
	for _, name := range names {
		b, rerr := os.ReadFile(name)
		if rerr != nil || len(b) < 84 {
			err = errors.Join(err, rerr, fmt.Errorf("%s has %d bytes", name, len(b)))
			continue
		}
		// A description is a magic of 8 bytes, the time, 64 bytes that say which blocks are here, a checksum of the rest.
		binary.BigEndian.PutUint64(b[8:], uint64(t.UnixNano()))
		table := crc32.MakeTable(crc32.Castagnoli)
		binary.BigEndian.PutUint32(b[80:], crc32.Update(crc32.Checksum(b[:16], table), table, b[84:]))
		err = errors.Join(err, os.WriteFile(name, b, 0o600))
	}
	return err
}
