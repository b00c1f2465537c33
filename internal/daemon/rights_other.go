//go:build !linux

package daemon

import "errors"

func keepRights() error { return errors.New("this system has no rights per thread; only Linux has") }

func preferThread() {}
