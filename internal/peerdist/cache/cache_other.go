//go:build !linux

package cache

import (
	"errors"
	"os"
)

func open(name string, flags int) (*os.File, error) { return os.OpenFile(name, flags, 0o600) }

// space does not know on this system: the limit alone holds.
func space(string) (free, total int64, err error) { return 0, 0, errors.ErrUnsupported }

func clone(*os.File, *os.File, int64, int64, int64) error { return errors.ErrUnsupported }
