package front

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// Words says for a client what a store refuses an upload to p for; known is the store's error that
// err is. It names nothing but what the upload's own URL does: neither where the files lie nor what
// else is there.
func Words(p *session.Prefix, known, err error) string {
	switch known {
	case session.ErrTooLarge:
		if p.MaxSize >= 0 {
			return fmt.Sprintf("%v; the server takes %d bytes at most", known, p.MaxSize)
		}
	case session.ErrTarget:
		return target(err)
	}
	return known.Error()
}

// target says why a target cannot be used.
func target(err error) string {
	name := "a directory"
	var at *fs.PathError
	if errors.As(err, &at) && fs.ValidPath(at.Path) && at.Path != "." {
		name = fmt.Sprintf("the directory %q", at.Path)
	}
	switch {
	case errors.Is(err, syscall.EISDIR):
		return session.ErrTarget.Error() + ": it is a directory"
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("%v: %s does not exist", session.ErrTarget, name)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return fmt.Sprintf("%v: %s is none, but something else", session.ErrTarget, name)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return session.ErrTarget.Error() + ": the server may not write there"
	case errors.Unwrap(err) == session.ErrTarget:
		return err.Error() // with a reason in the target's name itself
	}
	return session.ErrTarget.Error()
}
