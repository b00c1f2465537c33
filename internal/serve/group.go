package serve

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/time/rate"

	"github.com/ebbtransfer/ebb/internal/serve/config"
	"github.com/ebbtransfer/ebb/internal/serve/files"
)

// group is a URL prefix in service.
type group struct {
	config.Group
	files    *files.Handler // nil where a bucket is behind it
	tree     *files.Tree    // of a directory, to be closed
	slots    chan struct{}  // one for each request at once; nil is no limit
	up, down *rate.Limiter  // nil is no limit
	uploads  *uploads       // nil: none are taken
	made     *Group         // what it was made from at run time; nil if it is in the configuration
}

// newGroup opens what is behind a group.
func (s *server) newGroup(c config.Group) (*group, error) {
	g := &group{Group: c}
	if c.Connections > 0 {
		g.slots = make(chan struct{}, c.Connections)
	}
	if c.Bandwidth > 0 {
		burst := int(min(max(c.Bandwidth/4, 4<<10), writeChunk))
		g.up = rate.NewLimiter(rate.Limit(c.Bandwidth), burst)
		g.down = rate.NewLimiter(rate.Limit(c.Bandwidth), burst)
	}
	var source files.Source
	switch {
	case c.Dir != "":
		tree, err := files.OpenTree(c.Dir)
		if err != nil {
			return nil, fmt.Errorf("the group %s: %w", c.Path, err)
		}
		g.tree, source = tree, tree
		g.files = &files.Handler{Source: tree, Digests: s.digests, Listing: c.Listing, Describing: s.describing(&c), Untrusted: s.untrusted(&c)}
	case c.Files != nil:
		g.files = &files.Handler{Source: files.NewTable(c.Files), Digests: s.digests, Listing: c.Listing, Describing: s.describing(&c), Untrusted: s.untrusted(&c)}
	}
	if c.Uploads != nil {
		u, err := openUploads(c, source, s.Log)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("uploads to %s: %w", c.Path, err), g.close())
		}
		g.uploads = u
	}
	return g, nil
}

// findUploads finds where uploads go, so that what comes there is known for what it is in any group.
// Groups that are made at run time take none.
func (s *server) findUploads() error {
	for _, c := range s.Groups {
		if c.Uploads == nil || c.Dir == "" {
			continue
		}
		dir, err := resolve(c.Dir)
		if err != nil {
			return fmt.Errorf("the group %s: %w", c.Path, err)
		}
		s.uploadDirs = append(s.uploadDirs, dir)
	}
	return nil
}

// resolve returns the absolute path of a file, without links.
func resolve(name string) (string, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(name)
}

// untrusted returns what tells which files of a group others may have put there; nil if none.
func (s *server) untrusted(c *config.Group) func(name string) bool {
	switch {
	case c.Uploads != nil:
		return func(string) bool { return true }
	case len(s.uploadDirs) == 0:
		return nil
	case c.Files != nil:
		return func(name string) bool { return s.uploaded(c.Files[name]) }
	}
	return func(name string) bool { return s.uploaded(filepath.Join(c.Dir, name)) }
}

// uploaded reports whether a file is where uploads go, whatever links lead there. What cannot be
// found out counts as such.
func (s *server) uploaded(file string) bool {
	file, err := resolve(file)
	return err != nil || slices.ContainsFunc(s.uploadDirs, func(dir string) bool {
		rel, err := filepath.Rel(dir, file)
		return err == nil && filepath.IsLocal(rel)
	})
}

// close closes what is behind the group.
func (g *group) close() error {
	var err error
	if g.tree != nil {
		err = g.tree.Close()
	}
	if g.uploads != nil {
		err = errors.Join(err, g.uploads.prefix.Store.Close())
	}
	return err
}

// table are the groups in service, those with longer paths first. It never changes.
type table []*group

func newTable(groups ...*group) table {
	t := slices.Clone(groups)
	slices.SortFunc(t, func(a, b *group) int { return len(b.Path) - len(a.Path) })
	return t
}

// find returns the group of a path and the name below it; nil if there is none.
func (t table) find(path string) (g *group, name string) {
	for _, g := range t {
		if name, ok := strings.CutPrefix(path, g.Path); ok {
			return g, name
		}
	}
	return nil, ""
}

// closeBut closes the groups that are not in another table as well.
func (t table) closeBut(other table) {
	for _, g := range t {
		if !slices.Contains(other, g) {
			_ = g.close() // a directory that was only read
		}
	}
}
