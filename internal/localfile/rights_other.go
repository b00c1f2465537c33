//go:build !linux

package localfile

import (
	"os"

	"github.com/ebbtransfer/ebb/bits"
)

// RightsOf refuses: rights are copied on Linux only.
func RightsOf(f *os.File, what bits.ACLFlags) (*Rights, error) {
	if what&(bits.ACLOwner|bits.ACLGroup|bits.ACLDACL) == 0 {
		return nil, nil
	}
	return nil, &bits.Error{Code: bits.NotImplemented, Context: bits.ContextLocalFile, File: f.Name(), Message: "on this system the rights of files are not copied (acl_flags)"}
}

// Reclaim does nothing: no rights were given.
func (o Owner) Reclaim(string) error { return nil }
