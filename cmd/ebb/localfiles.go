package main

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/fileget"
)

// localFile is one of the files that an argument stands for.
type localFile struct {
	path string // absolute
	rel  string // its name below the directory that it goes to, with '/'
}

// finder finds the files of this machine that arguments stand for.
type finder struct {
	files  []localFile
	others []string // what was left out, since it is neither a file nor a directory
}

// wildcards are the characters that make a pattern of a name.
const wildcards = "*?["

// find adds the files that an argument stands for: itself, all files below it if it is a directory, or
// what fits its wildcards, which a shell did not see because they were quoted. many says that it is not
// just the one file. As with rsync, a directory keeps its name where it goes, unless it ends in '/'.
func (f *finder) find(arg string) (many bool, err error) {
	info, err := os.Stat(arg)
	if err == nil {
		return info.IsDir(), f.take(arg, info)
	}
	if !errors.Is(err, fs.ErrNotExist) || !strings.ContainsAny(arg, wildcards) {
		return false, usagef("%w", err)
	}
	return true, f.glob(arg)
}

// glob adds what fits a pattern as path/filepath reads it; names that begin with a dot fit only a
// pattern that does, as in a shell.
func (f *finder) glob(pattern string) error {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return usagef("the pattern %q cannot be used: %w", pattern, err)
	}
	before := len(f.files)
	for _, name := range names {
		if strings.HasPrefix(filepath.Base(name), ".") && !strings.HasPrefix(filepath.Base(pattern), ".") {
			continue
		}
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) { // a symbolic link to nothing
			f.others = append(f.others, name)
			continue
		}
		if err != nil {
			return usagef("%w", err)
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			f.others = append(f.others, name)
			continue
		}
		if err := f.take(name, info); err != nil {
			return err
		}
	}
	if len(f.files) == before {
		return usagef("no file fits %q", pattern)
	}
	return nil
}

// take adds a file, or the files below a directory; links to directories there are not followed.
func (f *finder) take(name string, info fs.FileInfo) error {
	abs, err := filepath.Abs(name)
	switch {
	case err != nil:
		return err
	case info.Mode().IsRegular():
		return f.add(abs, filepath.Base(abs))
	case !info.IsDir():
		return usagef("%q is not a regular file", name)
	}
	prefix := filepath.Base(abs)
	if last := filepath.Base(name); os.IsPathSeparator(name[len(name)-1]) || last == "." || last == ".." {
		prefix = ""
	}
	before := len(f.files)
	tree := os.DirFS(abs)
	err = fs.WalkDir(tree, ".", func(rel string, d fs.DirEntry, err error) error {
		if err != nil {
			return usagef("the directory %q cannot be read: %w", name, err)
		}
		mode := d.Type()
		if mode&fs.ModeSymlink != 0 {
			if to, err := fs.Stat(tree, rel); err == nil && to.Mode().IsRegular() {
				mode = 0
			}
		}
		switch {
		case d.IsDir():
			return nil
		case !mode.IsRegular():
			f.others = append(f.others, filepath.Join(abs, filepath.FromSlash(rel)))
			return nil
		}
		return f.add(filepath.Join(abs, filepath.FromSlash(rel)), path.Join(prefix, rel))
	})
	if err == nil && len(f.files) == before {
		err = usagef("the directory %q holds no file", name)
	}
	return err
}

func (f *finder) add(abs, rel string) error {
	if len(f.files) == bits.MaxFilesPerJob {
		return usagef("there are more than %d files", bits.MaxFilesPerJob)
	}
	f.files = append(f.files, localFile{abs, rel})
	return nil
}

// tellOthers says what was left out.
func (a *app) tellOthers(others []string) {
	switch n := len(others); {
	case n == 1:
		a.note("%s is left out: it is no regular file", others[0])
	case n > 1:
		a.note("%s and %d more are left out: they are no regular files", others[0], n-1)
	}
}

// addSource plans the files that a source stands for: one, but for a directory or a pattern with
// wildcards on this machine or on a share that is mounted here. Their directories are made below dest,
// which is one.
func (p *planner) addSource(raw, dest string) error {
	place, ok := fileSource(raw)
	if !ok {
		if last := raw[strings.LastIndexByte(raw, '/')+1:]; strings.Contains(beforeQuery(last), "*") {
			return hinted(usagef("%q has a wildcard, but servers have no listing of files to find those that fit", bits.RedactURL(raw)),
				"name each file, or list them for -i; a '*' that belongs to the name is written %%2A")
		}
		return p.add(raw, dest, "")
	}
	many, err := place.find(&p.finder)
	if err != nil {
		return err
	}
	if !many {
		p.finder.files = nil
		return p.add(raw, dest, "")
	}
	base := p.base
	if dest != "" {
		if base = dest; !filepath.IsAbs(base) {
			base = filepath.Join(p.base, dest)
		}
	}
	if err := p.checkDir(base); err != nil {
		return err
	}
	found := p.finder.files
	p.finder.files = nil
	for _, f := range found {
		local := filepath.Join(base, filepath.FromSlash(f.rel))
		for dir := filepath.Dir(local); dir != base; dir = filepath.Dir(dir) {
			if !isDir(dir) {
				p.dirs[dir] = nil
				p.fresh = append(p.fresh, dir)
			}
		}
		if err := p.add(place.url(f.path), local, ""); err != nil {
			return err
		}
	}
	return nil
}

func beforeQuery(s string) string {
	s, _, _ = strings.Cut(s, "#")
	s, _, _ = strings.Cut(s, "?")
	return s
}

// makeDirs makes the directories of planned files that are not there.
func (p *planner) makeDirs() error {
	for _, dir := range p.fresh {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return usagef("the directory for the files cannot be made: %w", err)
		}
	}
	return nil
}

// filePlace is a file, directory or pattern that a URL names.
type filePlace struct {
	scheme, host string
	raw          string // as it was given
	dir          string // directory before the first part with a wildcard, as a path of the URL
	local        string // the same on this machine
	name         string // what stands behind dir, as it is
	pattern      string // the same as a pattern
}

// fileSource reads a URL of a file, or a Windows network path; ok is false for others. In a pattern '*',
// '?' and '[' are wildcards, unless they are written as %2A, %3F and %5B.
func fileSource(raw string) (p filePlace, ok bool) {
	p.raw = raw
	rest, decode := "", true
	switch scheme, after, found := strings.Cut(raw, "://"); {
	case strings.HasPrefix(raw, `\\`):
		p.scheme, rest, decode = "smb", strings.ReplaceAll(raw[2:], `\`, "/"), false
	case found && strings.EqualFold(scheme, "file"), found && strings.EqualFold(scheme, "smb"):
		p.scheme, rest = strings.ToLower(scheme), after
	default:
		return p, false
	}
	var whole string
	p.host, whole, _ = strings.Cut(rest, "/")
	if strings.EqualFold(p.host, "localhost") {
		p.host = ""
	}
	whole = "/" + whole
	from := len(whole)
	if i := strings.IndexAny(whole, wildcards); i >= 0 {
		from = i
	}
	cut := strings.LastIndexByte(strings.TrimRight(whole[:from], "/"), '/')
	if from < len(whole) {
		cut = strings.LastIndexByte(whole[:from], '/')
	}
	p.dir, p.name, p.pattern = whole[:max(cut, 0)], whole[cut+1:], whole[cut+1:]
	if decode {
		var err, err2 error
		p.dir, err = url.PathUnescape(p.dir)
		p.name, err2 = url.PathUnescape(p.name)
		if err != nil || err2 != nil {
			return p, false // the check of the URL says so
		}
		p.pattern = decodePattern(p.pattern)
	}
	return p, true
}

// decodePattern undoes the escapes of a URL; wildcards that were escaped stand for themselves.
func decodePattern(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := url.PathUnescape(s[i : i+3]); err == nil {
				if strings.ContainsAny(c, wildcards+`\`) {
					b.WriteByte('\\')
				}
				b.WriteString(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// locate finds dir on this machine. It returns the path of what is named there and, as path/filepath reads
// it, the pattern.
func (p *filePlace) locate() (name, pattern string, err error) {
	inside := url.URL{Scheme: p.scheme, Host: p.host, Path: p.dir + "/x"}
	if p.host != "" {
		inside.Scheme = "smb"
	}
	local, err := fileget.Path(inside.String())
	if err != nil {
		return "", "", err
	}
	p.local = filepath.Dir(local)
	return filepath.Join(p.local, filepath.FromSlash(p.name)), filepath.Join(escapePattern(p.local), filepath.FromSlash(p.pattern)), nil
}

// find adds the files that are meant to f; many says that it is not just one.
func (p *filePlace) find(f *finder) (many bool, err error) {
	name, pattern, err := p.locate()
	if err != nil {
		return false, err
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		if strings.HasSuffix(p.name, "/") {
			name += "/"
		}
		return true, f.take(name, info)
	case err == nil || !strings.ContainsAny(p.pattern, wildcards):
		return false, nil // one file, or none: the service says what is wrong with it
	}
	return true, f.glob(pattern)
}

// escapePattern makes a pattern that only a path itself fits.
func escapePattern(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

// url returns the URL of a file that was found.
func (p *filePlace) url(local string) string {
	rel, err := filepath.Rel(p.local, local)
	if err != nil {
		return p.raw
	}
	u := url.URL{Scheme: p.scheme, Host: p.host, Path: path.Join(p.dir, filepath.ToSlash(rel))}
	if p.host == "" {
		u.Scheme = "file"
	} else {
		u.Scheme = "smb"
	}
	if u.Path != "" && u.Path[0] != '/' {
		u.Path = "/" + u.Path
	}
	return u.String()
}
