//go:build !unix

package daemon

// checkPrivate trusts the directory's access control list, which is inherited from the user's.
func checkPrivate(string) error { return nil }

func setUmask(int) (restore func()) { return func() {} }
