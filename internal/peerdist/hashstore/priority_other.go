//go:build !linux

package hashstore

func yieldDisk() {}
