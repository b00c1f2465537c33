//go:build !linux

package governor

import "errors"

type counter struct{}

func (*counter) read(string, bool) (int64, error) { return 0, errors.ErrUnsupported }

func linkSpeed(string) float64 { return 0 }
