//go:build !linux

package proxy

import "io"

func intruder(in io.Reader, _ io.Writer) io.Reader { return in }
