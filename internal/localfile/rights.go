package localfile

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/ebbtransfer/ebb/bits"
)

// Rights are what a copy takes over of its source's access rights (client.md 1.5, FileACLFlags): whose
// it is, and who may do what. Bits that lend a program the rights of its file (set-id), capabilities
// and what is audited are never among them.
type Rights struct {
	what     bits.ACLFlags
	uid, gid uint32
	mode     uint32 // 0 to 0777
	acl      []byte // POSIX access control list as the kernel keeps it; nil for none
	ntACL    []byte // list of an SMB server; nil where the source is not on a share
}

// RightsError is the cause of the error for a finished file that could not be given the rights of its
// source. In a job it passes: its owner may ask for less, or an administrator help (client.md 5.3).
type RightsError struct{ Cause error }

func (e *RightsError) Error() string { return "give it the rights of its source: " + e.Cause.Error() }

func (e *RightsError) Unwrap() error { return e.Cause }

// rightsError is the error for a part of the rights that could not be given. Anything but a refusal
// is an error like any other.
func rightsError(err error, path string, flag bits.ACLFlags, format string, args ...any) error {
	for _, r := range []error{syscall.EPERM, syscall.EACCES, syscall.EINVAL, errors.ErrUnsupported} {
		if errors.Is(err, r) {
			return &bits.Error{Code: bits.AccessDenied, Context: bits.ContextLocalFile, File: path, Cause: &RightsError{err},
				Message: fmt.Sprintf(format, args...) + fmt.Sprintf("; without %s in acl_flags the job does not ask for it", flag)}
		}
	}
	return err
}

// SetRights has Finish give the file these rights, in place of those of a new file; nil changes nothing.
// If it may not, Finish fails because of a RightsError: all bytes are in the file then.
func (p *Part) SetRights(r *Rights) { p.f.rights = r }
