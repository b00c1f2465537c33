//go:build !unix

package vault

import "os"

func openKey(name string) (*os.File, error) { return os.Open(name) }

// private takes the directory's rights for the file's: there are no modes here.
func private(os.FileInfo) error { return nil }

func syncDir(string) error { return nil }
