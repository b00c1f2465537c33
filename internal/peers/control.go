package peers

import (
	"errors"
	"os"
	"path/filepath"
)

// Dir returns where the cache is, or would be.
func (n *Node) Dir() string { return n.dir }

// Left reports whether there is something of a cache on the disk while peer caching is off.
func (n *Node) Left() bool {
	if n.Cache() != nil {
		return false
	}
	dirs, err := os.ReadDir(filepath.Join(n.dir, "seg"))
	return err == nil && len(dirs) > 0
}

// Clear removes all that is in the cache, also while peer caching is off.
func (n *Node) Clear() error {
	n.applying.Lock()
	defer n.applying.Unlock()
	if c := n.Cache(); c != nil {
		return errors.Join(c.Clear(), os.RemoveAll(n.indexDir()))
	}
	return os.RemoveAll(n.dir)
}
