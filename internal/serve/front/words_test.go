package front

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

func TestWords(t *testing.T) {
	limited, free := &session.Prefix{MaxSize: 1000}, &session.Prefix{MaxSize: -1}
	at := func(name string, err error) error {
		return fmt.Errorf("%w: a/b: %w", session.ErrTarget, &fs.PathError{Op: "open", Path: name, Err: err})
	}
	for _, c := range []struct {
		p          *session.Prefix
		known, err error
		want       string
	}{
		{limited, session.ErrTooLarge, session.ErrTooLarge, "the upload is too large; the server takes 1000 bytes at most"},
		{free, session.ErrTooLarge, session.ErrTooLarge, "the upload is too large"},
		{free, session.ErrExists, fmt.Errorf("publish: %w", session.ErrExists), "the target exists"},
		{free, session.ErrTarget, at("a", syscall.ENOENT), `the target cannot be used: the directory "a" does not exist`},
		{free, session.ErrTarget, at("a", syscall.ENOTDIR), `the target cannot be used: the directory "a" is none, but something else`},
		{free, session.ErrTarget, at("/srv/files", syscall.ENOENT), "the target cannot be used: a directory does not exist"},
		{free, session.ErrTarget, at("b", syscall.EACCES), "the target cannot be used: the server may not write there"},
		{free, session.ErrTarget, at("b", syscall.EISDIR), "the target cannot be used: it is a directory"},
		{free, session.ErrTarget, fmt.Errorf("%w: b is on another disk than /srv: %w", session.ErrTarget, syscall.EXDEV), "the target cannot be used"},
		{free, session.ErrTarget, fmt.Errorf("%w: %w", session.ErrTarget, errors.New("https://bucket.internal/")), "the target cannot be used"},
		{free, session.ErrTarget, session.CheckTarget("a//b"), `the target cannot be used: the name "a//b" has an empty element`},
	} {
		if got := Words(c.p, c.known, c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
