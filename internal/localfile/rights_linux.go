package localfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bits"
)

// Names of the lists of who may do what: a file system's own (acl(5)), and that of an SMB server, which
// shows on mounted shares (mount.cifs(8)).
const (
	posixACL = "system.posix_acl_access"
	shareACL = "system.cifs_acl"
)

// maxList bounds a list; the kernel's own limit for attributes.
const maxList = 64 << 10

// RightsOf reads what of the rights of an open file the flags name; nil if they name nothing.
func RightsOf(f *os.File, what bits.ACLFlags) (*Rights, error) {
	if what &= bits.ACLOwner | bits.ACLGroup | bits.ACLDACL; what == 0 {
		return nil, nil
	}
	var st unix.Stat_t
	fd := int(f.Fd())
	err := unix.Fstat(fd, &st)
	r := &Rights{what: what, uid: st.Uid, gid: st.Gid, mode: st.Mode & 0o777}
	if err == nil && what&bits.ACLDACL != 0 {
		if r.acl, err = list(fd, posixACL); err == nil && onShare(fd) {
			r.ntACL, err = list(fd, shareACL)
		}
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read the rights of", Path: f.Name(), Err: err}
	}
	return r, nil
}

// list returns a list of an open file, nil if it has none.
func list(fd int, name string) ([]byte, error) {
	b := make([]byte, maxList)
	n := 0
	err := again(func() (err error) {
		n, err = unix.Fgetxattr(fd, name, b)
		return err
	})
	switch err {
	case nil:
		return b[:n:n], nil
	case unix.ENODATA, unix.EOPNOTSUPP:
		return nil, nil
	}
	return nil, err
}

// onShare reports whether a file is on a mounted SMB share.
func onShare(fd int) bool {
	var vfs unix.Statfs_t
	err := again(func() error { return unix.Fstatfs(fd, &vfs) })
	return err == nil && (uint32(vfs.Type) == unix.CIFS_SUPER_MAGIC || uint32(vfs.Type) == unix.SMB2_SUPER_MAGIC)
}

// give gives the file, which nobody but its owner may use yet, the rights of its source. The thread has
// the owner's rights: what these do not allow is refused by the kernel.
func (f *file) give(r *Rights) error {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return err
	}
	if r.what&bits.ACLGroup != 0 && st.Gid != r.gid {
		if err := unix.Fchown(f.fd, -1, int(r.gid)); err != nil {
			return rightsError(err, f.path, bits.ACLGroup, "the file cannot get the group %d of its source: only who is in a group gives files to it", r.gid)
		}
	}
	if r.what&bits.ACLOwner != 0 && st.Uid != r.uid {
		if err := unix.Fchown(f.fd, int(r.uid), -1); err != nil {
			return rightsError(err, f.path, bits.ACLOwner, "the file cannot be given to the user %d, whose its source is: only root gives files to others", r.uid)
		}
	}
	if r.what&bits.ACLDACL == 0 {
		return unix.Fchmod(f.fd, f.as.mode())
	}
	return f.giveList(r)
}

// giveList says who may do what with the file.
func (f *file) giveList(r *Rights) error {
	if r.ntACL != nil && onShare(f.fd) {
		err := again(func() error { return unix.Fsetxattr(f.fd, shareACL, r.ntACL, 0) })
		return rightsError(err, f.path, bits.ACLDACL, "the share does not take the access control list of the source")
	}
	if r.acl != nil {
		// The mode's bits for the group are then a mask, and would give the group too much alone.
		err := again(func() error { return unix.Fsetxattr(f.fd, posixACL, r.acl, 0) })
		return rightsError(err, f.path, bits.ACLDACL, "the file system keeps no access control list such as the source's")
	}
	// One that came from the directory.
	if err := unix.Fremovexattr(f.fd, posixACL); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	err := unix.Fchmod(f.fd, r.mode)
	return rightsError(err, f.path, bits.ACLDACL, "the file cannot get the mode %s of its source", fmt.Sprintf("%04o", r.mode))
}

// Reclaim removes the part file at path if the rights that Finish gave it keep Open from going on with
// it: it is another user's, or not for writing. There may be none.
func (o Owner) Reclaim(path string) error {
	err := o.at(path, func(dir int, name string) error {
		var st unix.Stat_t
		err := again(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			return err
		}
		if st.Mode&unix.S_IWUSR != 0 && (!another(st.Uid) || o.madeUp(dir, path, st.Uid)) {
			return nil
		}
		return unlink(dir, name)
	})
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &fs.PathError{Op: "unlink", Path: path, Err: err}
}
