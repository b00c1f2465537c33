package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/ebbtransfer/ebb/internal/serve/config"
	"github.com/ebbtransfer/ebb/internal/serve/files"
)

// Group is a group that was made at run time: its path is its name, one level deep, as in BITS's
// Compact Server. Either it has a directory or files that are listed one by one.
type Group struct {
	Name        string          `json:"name"`
	Dir         string          `json:"dir,omitempty"` // absolute
	Files       map[string]File `json:"files,omitempty"`
	Listing     bool            `json:"listing,omitempty"`
	Connections int             `json:"connections,omitempty"` // requests at once; 0 is no limit
	Bandwidth   int64           `json:"bandwidth,omitempty"`   // bytes a second in each direction; 0 is no limit
	Read        []string        `json:"read,omitempty"`        // who may; empty: as in the configuration's groups
}

// File is a file that is listed in a group.
type File struct {
	Path string   `json:"path"`           // absolute
	Read []string `json:"read,omitempty"` // who may; empty: as the group says
}

// equal reports whether two groups are the same.
func (g Group) equal(o Group) bool {
	a, errA := json.Marshal(g)
	b, errB := json.Marshal(o)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// leastBandwidth is that of BITS's Compact Server.
const leastBandwidth = 1024

// checkGroupName says what is wrong with a group's name.
func checkGroupName(name string) error {
	switch {
	case files.CheckName(name) != nil || strings.ContainsAny(name, "/?#%"):
		return fmt.Errorf("%q cannot be a group's name: want one without slashes, such as \"images\"", name)
	case strings.TrimSpace(name) != name || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%q cannot be a group's name: it has spaces at an end, or control characters", name)
	}
	return nil
}

// check says what is wrong with a group.
func (g Group) check() error {
	if err := checkGroupName(g.Name); err != nil {
		return err
	}
	switch {
	case g.Dir != "" && !filepath.IsAbs(g.Dir):
		return fmt.Errorf("the path %s is not absolute", g.Dir)
	case g.Dir != "" && len(g.Files) > 0:
		return errors.New("a group has either a directory or files")
	case g.Connections < 0:
		return errors.New("want 1 connection or more, or 0 for no limit")
	case g.Bandwidth != 0 && g.Bandwidth < leastBandwidth:
		return fmt.Errorf("want a bandwidth of %d B/s or more, or 0 for no limit", leastBandwidth)
	}
	for name, f := range g.Files {
		if err := files.CheckName(name); err != nil {
			return err
		}
		if !filepath.IsAbs(f.Path) {
			return fmt.Errorf("the path %s is not absolute", f.Path)
		}
	}
	return nil
}

// config returns the group as the configuration would have it.
func (g Group) config(c *config.Config) config.Group {
	out := config.Group{
		Path: "/" + g.Name + "/", Dir: g.Dir, Listing: g.Listing, Connections: g.Connections, Bandwidth: g.Bandwidth, Read: g.Read,
	}
	if len(out.Read) == 0 {
		out.Read = c.DefaultAccess()
	}
	if g.Dir == "" {
		out.Files = map[string]string{}
		for name, f := range g.Files {
			out.Files[name] = f.Path
		}
	}
	return out
}

// stateName is the file of the groups that were made at run time.
const stateName = "groups.json"

// loadGroups reads the groups of the state directory.
func loadGroups(state string) (map[string]Group, error) {
	groups := map[string]Group{}
	name := filepath.Join(state, stateName)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return groups, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &groups)
	}
	if err != nil {
		return nil, fmt.Errorf("the groups that were made at run time: %s: %w", name, err)
	}
	return groups, nil
}

// saveGroups writes the groups, durably, all or nothing.
func saveGroups(state string, groups map[string]Group) error {
	text, err := json.MarshalIndent(groups, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(state, stateName), append(text, '\n'))
}
