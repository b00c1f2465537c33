package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/internal/api"
)

// The admin API is HTTP and JSON on a Unix socket, for the user that the server runs as and root:
//
//	GET    /v1/groups                       the groups, []Described
//	PUT    /v1/groups/{group}               make one, Group; Made
//	DELETE /v1/groups/{group}
//	PUT    /v1/groups/{group}/files/{name}  list a file, File; Made
//	DELETE /v1/groups/{group}/files/{name}
//	GET    /v1/uploads                      sessions, []Upload
//	POST   /v1/cleanup                      Cleaned
//	GET    /metrics
//
// What was answered with success is on the disk. An error is a Problem.

// Problem is an error of the admin API.
type Problem struct {
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func (p *Problem) Error() string { return p.Detail }

func problemf(status int, format string, args ...any) *Problem {
	return &Problem{status, fmt.Sprintf(format, args...)}
}

// Described is a group as it is in service.
type Described struct {
	Path        string          `json:"path"`
	Dir         string          `json:"dir,omitempty"`
	Bucket      string          `json:"bucket,omitempty"`
	Files       map[string]File `json:"files,omitempty"`
	Listing     bool            `json:"listing"`
	Connections int             `json:"connections"` // 0 is no limit
	Bandwidth   int64           `json:"bandwidth"`   // bytes a second; 0 is no limit
	Read        []string        `json:"read"`
	Uploads     bool            `json:"uploads"`
	RunTime     bool            `json:"run_time"` // made at run time, not in the configuration
}

// Upload is an upload session.
type Upload struct {
	Group     string    `json:"group"`
	ID        string    `json:"id"`
	Protocol  string    `json:"protocol"`
	Target    string    `json:"target,omitempty"`
	Principal string    `json:"principal,omitempty"`
	Offset    int64     `json:"offset"`
	Size      int64     `json:"size"` // -1 while unknown
	Published bool      `json:"published"`
	Created   time.Time `json:"created"`
	Touched   time.Time `json:"touched"`
}

// Made is what a group or a file is now found at.
type Made struct {
	URLs     []string `json:"urls"`
	Replaced string   `json:"replaced,omitempty"` // path of the file that had the name before
}

// made returns where a path of the server is found. A group's path has a slash at its end.
func (s *server) made(path string) Made {
	var m Made
	for _, u := range s.urls {
		m.URLs = append(m.URLs, u+(&url.URL{Path: path}).EscapedPath())
	}
	return m
}

// Cleaned is what a cleaning did.
type Cleaned struct {
	Removed int `json:"removed"` // sessions
}

func (s *server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
			answer, err := do(r)
			w.Header().Set("Content-Type", "application/json")
			var p *Problem
			switch {
			case errors.As(err, &p):
			case err != nil:
				p = problemf(http.StatusInternalServerError, "%s", err)
			}
			if p != nil {
				w.WriteHeader(p.Status)
				answer = p
			}
			_ = json.NewEncoder(w).Encode(answer)
		})
	}
	handle("GET /v1/groups", func(*http.Request) (any, error) { return s.describe(), nil })
	handle("PUT /v1/groups/{group}", func(r *http.Request) (any, error) {
		var g Group
		if err := decode(r, &g); err != nil {
			return nil, err
		}
		g.Name = r.PathValue("group")
		if err := s.checkAllowed(g.Read); err != nil {
			return nil, err
		}
		return s.made("/" + g.Name + "/"), s.change(func(groups map[string]Group) error {
			if _, ok := groups[g.Name]; ok {
				return problemf(http.StatusConflict, "there is a group %s already", g.Name)
			}
			if dir := s.hidden(g.Name); dir != "" {
				return problemf(http.StatusConflict, "the group would hide what is in %s; choose another name", dir)
			}
			groups[g.Name] = g
			return nil
		})
	})
	handle("DELETE /v1/groups/{group}", func(r *http.Request) (any, error) {
		name := r.PathValue("group")
		return struct{}{}, s.change(func(groups map[string]Group) error {
			if _, ok := groups[name]; !ok {
				return s.noGroup(name)
			}
			delete(groups, name)
			return nil
		})
	})
	handle("PUT /v1/groups/{group}/files/{name...}", func(r *http.Request) (any, error) {
		var f File
		if err := decode(r, &f); err != nil {
			return nil, err
		}
		if st, err := os.Stat(f.Path); err != nil {
			return nil, problemf(http.StatusBadRequest, "%s", err)
		} else if !st.Mode().IsRegular() {
			return nil, problemf(http.StatusBadRequest, "%s is not a file", f.Path)
		}
		if err := s.checkAllowed(f.Read); err != nil {
			return nil, err
		}
		group, name := r.PathValue("group"), r.PathValue("name")
		made := s.made("/" + group + "/" + name)
		err := s.changeFiles(group, func(files map[string]File) error {
			made.Replaced = files[name].Path
			files[name] = f
			return nil
		})
		return made, err
	})
	handle("DELETE /v1/groups/{group}/files/{name...}", func(r *http.Request) (any, error) {
		group, name := r.PathValue("group"), r.PathValue("name")
		return struct{}{}, s.changeFiles(group, func(files map[string]File) error {
			if _, ok := files[name]; !ok {
				return problemf(http.StatusNotFound, "the group %s has no file %s", group, name)
			}
			delete(files, name)
			return nil
		})
	})
	handle("GET /v1/uploads", func(r *http.Request) (any, error) { return s.listUploads(r.Context()) })
	handle("POST /v1/cleanup", func(r *http.Request) (any, error) {
		n, err := s.clean(r.Context(), func(*group) (bool, bool) { return true, true })
		return Cleaned{n}, err
	})
	mux.Handle("GET /metrics", s.metrics.handler())
	return api.OwnUserOnly(mux)
}

func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return problemf(http.StatusBadRequest, "the request is not understood: %s", err)
	}
	return nil
}

// checkAllowed checks who may read something, as in the configuration.
func (s *server) checkAllowed(read []string) error {
	for _, name := range read {
		if err := s.CheckAllowed(name); err != nil {
			return problemf(http.StatusBadRequest, "%s", err)
		}
	}
	return nil
}

// hidden returns what of a served directory could not be seen any more behind a group of that name;
// empty if there is nothing.
func (s *server) hidden(name string) string {
	g, _ := s.groups.Load().find("/" + name)
	if g == nil || g.tree == nil {
		return ""
	}
	below := strings.TrimPrefix("/"+name, g.Path)
	f, err := g.tree.Open(below)
	if err != nil {
		return ""
	}
	_ = f.Close() // was only looked at
	return filepath.Join(g.Dir, below)
}

func (s *server) noGroup(name string) *Problem {
	for _, g := range *s.groups.Load() {
		if g.Path == "/"+name+"/" {
			return problemf(http.StatusForbidden, "the group %s is in the configuration file, and is changed there", name)
		}
	}
	return problemf(http.StatusNotFound, "there is no group %s", name)
}

// change changes the groups that were made at run time: on the disk first, then in service.
func (s *server) change(do func(map[string]Group) error) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	next := maps.Clone(s.runTime)
	if err := do(next); err != nil {
		return err
	}
	t, err := s.newTable(next)
	if err != nil {
		return err
	}
	if err := saveGroups(s.State, next); err != nil {
		t.closeBut(*s.groups.Load())
		return err
	}
	old := *s.groups.Load()
	s.runTime = next
	s.groups.Store(&t)
	old.closeBut(t) // a file that is open stays so
	return nil
}

// changeFiles changes the list of files of a group.
func (s *server) changeFiles(group string, do func(map[string]File) error) error {
	return s.change(func(groups map[string]Group) error {
		g, ok := groups[group]
		if !ok {
			return s.noGroup(group)
		}
		if g.Dir != "" {
			return problemf(http.StatusConflict, "the group %s serves the directory %s", group, g.Dir)
		}
		if g.Files = maps.Clone(g.Files); g.Files == nil {
			g.Files = map[string]File{}
		}
		if err := do(g.Files); err != nil {
			return err
		}
		groups[group] = g
		return nil
	})
}

// newTable returns the table with these groups of the run time. Those that are in service and do
// not change stay as they are, with what they count. One that cannot be opened is an error if it
// is new or changes; one that was so before, as its directory is gone, is only left out.
func (s *server) newTable(runTime map[string]Group) (table, error) {
	all := slices.Clone(s.configured)
	for _, name := range slices.Sorted(maps.Keys(runTime)) {
		g := runTime[name]
		made, err := s.makeGroup(g)
		if err != nil && g.equal(s.runTime[name]) {
			s.Log.Error("a group is not served", "group", name, "err", err)
			continue
		}
		if err != nil {
			all.closeBut(*s.groups.Load())
			return nil, problemf(http.StatusBadRequest, "%s", err)
		}
		all = append(all, made)
	}
	return newTable(all...), nil
}

// makeGroup returns the group in service that was made from g, or makes it.
func (s *server) makeGroup(g Group) (*group, error) {
	for _, old := range *s.groups.Load() {
		if old.made != nil && old.made.equal(g) {
			return old, nil
		}
	}
	if err := g.check(); err != nil {
		return nil, err
	}
	c := g.config(&s.Config)
	if slices.ContainsFunc(s.configured, func(old *group) bool { return old.Path == c.Path }) {
		return nil, fmt.Errorf("the configuration file has a group %s", g.Name)
	}
	made, err := s.newGroup(c)
	if err != nil {
		return nil, err
	}
	made.made = &g
	return made, nil
}

func (s *server) describe() []Described {
	list := []Described{}
	for _, g := range *s.groups.Load() {
		d := Described{
			Path: g.Path, Dir: g.Dir, Listing: g.Listing, Connections: g.Connections, Bandwidth: g.Bandwidth, Read: g.Read,
			Uploads: g.uploads != nil, RunTime: g.made != nil,
		}
		if g.Uploads != nil && g.Uploads.Storage.Bucket != "" {
			d.Bucket = "s3://" + g.Uploads.Storage.Bucket + "/" + g.Uploads.Storage.Prefix
		}
		switch {
		case g.made != nil:
			d.Files = g.made.Files
		case g.Files != nil:
			d.Files = map[string]File{}
			for name, path := range g.Files {
				d.Files[name] = File{Path: path}
			}
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b Described) int { return strings.Compare(a.Path, b.Path) })
	return list
}

func (s *server) listUploads(ctx context.Context) ([]Upload, error) {
	list := []Upload{}
	for _, g := range *s.groups.Load() {
		if g.uploads == nil {
			continue
		}
		sessions, err := g.uploads.prefix.Store.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, i := range sessions {
			list = append(list, Upload{
				Group: g.Path, ID: i.ID, Protocol: i.Protocol, Target: i.Target, Principal: i.Principal, Offset: i.Offset, Size: i.Size,
				Published: i.Published, Created: i.Created, Touched: i.Touched,
			})
		}
	}
	return list, nil
}

// clean removes sessions that nobody went on with, and those that are finished, in the groups where
// either is due.
func (s *server) clean(ctx context.Context, due func(*group) (all, finished bool)) (int, error) {
	removed := 0
	for _, g := range *s.groups.Load() {
		if g.uploads == nil {
			continue
		}
		timeout, limit := time.Duration(math.MaxInt64), 0
		switch all, finished := due(g); {
		case all:
			timeout, limit = g.Uploads.SessionTimeout, g.Uploads.SessionsPerUser
		case !finished:
			continue
		}
		n, err := g.uploads.prefix.Store.Clean(ctx, time.Now(), timeout, limit)
		s.metrics.removed.Add(float64(n))
		if removed += n; err != nil {
			return removed, fmt.Errorf("clean up %s: %w", g.Path, err)
		}
		if n > 0 {
			s.Log.Info("upload sessions cleaned up", "group", g.Path, "removed", n)
		}
	}
	return removed, nil
}

// cleanFinished is how often finished sessions are removed: with the traffic there come many.
const cleanFinished = time.Hour

// keepClean cleans each group as often as it says, from the start on: what is due may have become
// so while the server was off.
func (s *server) keepClean(ctx context.Context) {
	last, lastFinished := map[string]time.Time{}, map[string]time.Time{}
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		now := time.Now()
		passed := func(last map[string]time.Time, g *group, every time.Duration) bool {
			if t, ok := last[g.Path]; ok && now.Sub(t) < every {
				return false
			}
			last[g.Path] = now
			return true
		}
		_, err := s.clean(ctx, func(g *group) (all, finished bool) {
			return passed(last, g, g.Uploads.Cleanup), passed(lastFinished, g, cleanFinished)
		})
		if err != nil && ctx.Err() == nil {
			s.Log.Error("old upload sessions could not be removed", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// listenAdmin makes the admin API's socket.
func listenAdmin(ctx context.Context, socket string) (l net.Listener, err error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", socket, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("another server listens on %s", socket)
	}
	if st, err := os.Lstat(socket); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s exists and is not a socket", socket)
		}
		if err := os.Remove(socket); err != nil { // left by a server that was killed
			return nil, err
		}
	}
	err = privately(func() error {
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, "unix", socket)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", socket, err)
	}
	return l, nil
}

// socketName is what the sockets of all servers of a user begin with.
const socketName = "serve-"

// nameOf makes a name for files out of where a server listens: "8080" or "127-0-0-1-8080".
func nameOf(a net.Addr) string {
	text := a.String()
	if t, ok := a.(*net.TCPAddr); ok && t.IP.IsUnspecified() {
		text = fmt.Sprint(t.Port)
	}
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, text), "-")
}

// Sockets returns the admin sockets in a directory, whether a server answers on them or not.
func Sockets(dir string) []string {
	list, _ := filepath.Glob(filepath.Join(dir, socketName+"*.sock"))
	return list
}
