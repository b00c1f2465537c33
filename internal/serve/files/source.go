package files

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// Source is where a group's files come from.
type Source interface {
	// Open opens a file or a directory by its name: relative, with slashes, fit for fs.ValidPath.
	// The error is of the kinds of io/fs.
	Open(name string) (*os.File, error)
}

// Hidden reports whether a name is one of those that uploads keep to themselves, or below one.
func Hidden(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if session.Reserved(part) {
			return true
		}
	}
	return false
}

// Tree serves a directory. Nothing outside of it can be reached, by links neither: each step is
// taken by os.Root.
type Tree struct{ root *os.Root }

// OpenTree opens a directory.
func OpenTree(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Tree{root}, nil
}

// Open implements Source.
func (t *Tree) Open(name string) (*os.File, error) {
	if Hidden(name) {
		return nil, fmt.Errorf("%s is hidden: %w", name, fs.ErrNotExist)
	}
	return t.root.OpenFile(name, openFlags, 0)
}

// Close closes the directory; files that are open stay so.
func (t *Tree) Close() error { return t.root.Close() }

// Table serves files that are listed one by one, wherever they are.
type Table struct{ files map[string]string }

// NewTable makes a table of names, as in Source, and paths.
func NewTable(list map[string]string) *Table { return &Table{maps.Clone(list)} }

// Open implements Source.
func (t *Table) Open(name string) (*os.File, error) {
	file, ok := t.files[name]
	if !ok {
		return nil, fmt.Errorf("%s is not in the list: %w", name, fs.ErrNotExist)
	}
	return os.OpenFile(file, openFlags, 0)
}

// names returns the names in order.
func (t *Table) names() []string { return slices.Sorted(maps.Keys(t.files)) }

// CheckName says what is wrong with a name that a file is listed under.
func CheckName(name string) error {
	if name == "" || name == "." || !fs.ValidPath(name) || strings.ContainsAny(name, "\\\x00") {
		return fmt.Errorf("%q is not a name for a file: want one such as \"a.iso\" or \"images/a.iso\"", name)
	}
	if Hidden(name) {
		return fmt.Errorf("%q is a name that uploads keep to themselves", path.Base(name))
	}
	return nil
}
