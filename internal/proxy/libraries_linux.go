//go:build !cgo

package proxy

// libraries are none: the program is complete.
var libraries []string
