//go:build !unix

package serve

func privately(listen func() error) error { return listen() }
