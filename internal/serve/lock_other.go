//go:build !unix

package serve

// lockState leaves it to whoever starts two servers on one directory.
func lockState(string) (unlock func(), err error) { return func() {}, nil }

func privately(listen func() error) error { return listen() }
