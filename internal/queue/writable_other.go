//go:build !linux

package queue

// writable says nothing: making the file will tell.
func writable(string) error { return nil }
