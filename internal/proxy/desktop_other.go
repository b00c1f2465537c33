//go:build !linux

package proxy

import (
	"context"
	"errors"
)

func gsettings(context.Context, uint32) (string, error) { return "", errors.ErrUnsupported }

func kioslaverc(uint32) (string, error) { return "", errors.ErrUnsupported }
