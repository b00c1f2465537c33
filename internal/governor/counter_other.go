//go:build !linux

package governor

import "errors"

type counter struct{}

func (*counter) received(string) (int64, error) { return 0, errors.ErrUnsupported }
