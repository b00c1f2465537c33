package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrChanged means that somebody else changed a file after it was read.
var ErrChanged = errors.New("was changed by somebody else meanwhile")

// Replace puts a text in the place of a file, all of it or, with an error, nothing. It keeps the
// file's mode and owner, and follows links. The file must still have the text it was read with,
// nil for a file that was not there; otherwise the error is ErrChanged.
func Replace(name string, was, text []byte) error {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	now, err := os.ReadFile(name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case !bytes.Equal(now, was) || err == nil && was == nil || err != nil && was != nil:
		return fmt.Errorf("%s %w", name, ErrChanged)
	}
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".policy-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already if all went well
	_, err = tmp.Write(text)
	if err == nil {
		err = imitate(tmp, name)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), name); err != nil {
		return err
	}
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync() // the name; a power cut may bring back the old file, but never a part of one
		_ = d.Close()
	}
	return nil
}

// imitate gives a new file the mode and the owner of the one that it replaces.
func imitate(f *os.File, name string) error {
	old, err := os.Stat(name)
	if err != nil {
		return f.Chmod(0o644)
	}
	if err := chown(f, old); err != nil {
		return fmt.Errorf("keep the owner of %s: %w", name, err)
	}
	return f.Chmod(old.Mode().Perm())
}
