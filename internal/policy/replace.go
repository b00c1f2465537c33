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
	name, err := asItWas(name, was)
	if err != nil {
		return err
	}
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := written(dir, name, text)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp) }() // gone already if all went well
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync() // the name; a power cut may bring back the old file, but never a part of one
		_ = d.Close()
	}
	return nil
}

// MayReplace returns the error that Replace would meet, and leaves everything as it is.
func MayReplace(name string, was, text []byte) error {
	name, err := asItWas(name, was)
	if err != nil {
		return err
	}
	dir := filepath.Dir(name)
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir) // in which directories would be made
	}
	tmp, err := written(dir, name, text)
	if err != nil {
		return err
	}
	return os.Remove(tmp)
}

// asItWas follows links to the file itself, which must have the text that it was read with.
func asItWas(name string, was []byte) (string, error) {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	now, err := os.ReadFile(name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	case !bytes.Equal(now, was) || err == nil && was == nil || err != nil && was != nil:
		return "", fmt.Errorf("%s %w", name, ErrChanged)
	}
	return name, nil
}

// written makes a file in dir that could take the place of name, and returns its path.
func written(dir, name string, text []byte) (string, error) {
	tmp, err := os.CreateTemp(dir, ".policy-*")
	if err != nil {
		return "", err
	}
	_, err = tmp.Write(text)
	if err == nil {
		err = imitate(tmp, name)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		_ = os.Remove(tmp.Name())
		return "", err
	}
	return tmp.Name(), nil
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
