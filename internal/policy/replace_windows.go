package policy

import "os"

// chown does nothing: a file gets the access rights of its directory.
func chown(*os.File, os.FileInfo) error { return nil }
