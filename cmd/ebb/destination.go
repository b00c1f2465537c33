package main

import (
	"cmp"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/ebbtransfer/ebb/bits"
)

// maxFileName is the longest name of a file, in bytes, on Linux's file systems.
const maxFileName = 255

// namelessFile is the name of what a URL fetches that has no file name, as with curl's and
// wget's users.
const namelessFile = "index.html"

// isURL reports whether an argument is meant as an http or https URL.
func isURL(s string) bool {
	scheme, rest, ok := strings.Cut(s, "://")
	return ok && rest != "" && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

// fileName returns the name under which the file of a URL is stored: the last segment of its
// path, decoded, and with '_' for what must not or should not be in a name.
func fileName(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return namelessFile
	}
	escaped := u.EscapedPath()
	name := escaped[strings.LastIndexByte(escaped, '/')+1:]
	if decoded, err := url.PathUnescape(name); err == nil {
		name = decoded
	}
	name = strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || garbles(r) {
			return '_'
		}
		return r
	}, name)
	name = shorten(name, maxFileName)
	if name == "" || name == "." || name == ".." {
		return namelessFile
	}
	return name
}

// shorten cuts a name to so many bytes between two characters, and keeps its extension.
func shorten(name string, most int) string {
	if len(name) <= most {
		return name
	}
	ext := path.Ext(name)
	if len(ext) > 16 {
		ext = ""
	}
	cut := most - len(ext)
	for !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut] + ext
}

// planner turns what was asked for into files of a job, and checks everything that can be
// checked before the service is asked.
type planner struct {
	base  string            // absolute directory for relative destinations
	given bool              // it was asked for, not just the current one
	files []bits.FileSpec   // in the order they were asked for
	byDst map[string]string // URL for each destination, as it is shown
	dirs  map[string]error  // what checkDir found
	fresh []string          // directories that are to be made

	finder finder

	namedBy     string       // URL of the document that names the files that are planned now; empty if the user does
	onlyIfNewer bool         // of all files
	ranges      []bits.Range // of the one file that is asked for, all of it if there are none
}

// newPlanner makes a planner for the directory dest, or for the current one.
func newPlanner(dest string) (*planner, error) {
	if err := checkText("destination", dest); err != nil {
		return nil, err
	}
	base, err := filepath.Abs(dest)
	if err != nil {
		return nil, err
	}
	p := &planner{base: base, given: dest != "", byDst: map[string]string{}, dirs: map[string]error{}}
	return p, p.checkDir(base)
}

// add plans one file. dest is a file, a directory, or empty for the URL's own name; a relative
// one is below the planner's directory.
func (p *planner) add(rawURL, dest, checksum string, mirrors ...string) error {
	shown := bits.RedactURL(rawURL)
	if !isSource(rawURL) {
		return usagef("%q is not an http, https, file or smb URL", shown)
	}
	if err := checkText("destination", dest); err != nil {
		return err
	}
	local := dest
	if !filepath.IsAbs(local) {
		local = filepath.Join(p.base, local)
	}
	if dest == "" || os.IsPathSeparator(dest[len(dest)-1]) || isDir(local) {
		local = filepath.Join(local, fileName(rawURL))
	}
	spec := bits.FileSpec{Remote: rawURL, Local: filepath.Clean(local), Checksum: checksum, Mirrors: mirrors, OnlyIfNewer: p.onlyIfNewer, Ranges: p.ranges, NamedBy: p.namedBy}
	if e := spec.Check(bits.Download); e != nil {
		return usagef("%s", e.Sentence())
	}
	if err := p.checkDir(filepath.Dir(spec.Local)); err != nil {
		return err
	}
	// Complete replaces what is there, as curl does; but only a file is replaced by a file.
	switch info, err := os.Stat(spec.Local); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return usagef("the destination cannot be used: %w", err)
	case info.IsDir():
		return usagef("the destination %q of %q is a directory", spec.Local, shown)
	case !info.Mode().IsRegular():
		return usagef("the destination %q is not a file that can be replaced", spec.Local)
	}
	if other, taken := p.byDst[spec.Local]; taken {
		return hinted(usagef("%q and %q would both become %q", other, shown, spec.Local),
			"give one of them a name of its own, in a list for -i or in a call of its own")
	}
	p.byDst[spec.Local] = shown
	p.files = append(p.files, spec)
	return nil
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// checkDir checks that a directory exists; thousands of files in it cost one look.
func (p *planner) checkDir(dir string) error {
	err, known := p.dirs[dir]
	if known {
		return err
	}
	switch info, e := os.Stat(dir); {
	case errors.Is(e, fs.ErrNotExist):
		err = hinted(usagef("the directory %q does not exist", dir), "create it with `mkdir -p %s`", shellQuote(dir))
	case e != nil:
		err = usagef("the directory %q cannot be used: %w", dir, e)
	case !info.IsDir():
		err = usagef("%q is not a directory", dir)
	}
	p.dirs[dir] = err
	return err
}

// checkText refuses what JSON cannot carry unchanged or no file name can hold.
func checkText(what, s string) error {
	if !utf8.ValidString(s) {
		return usagef("the %s %q is not valid UTF-8", what, s)
	}
	if strings.ContainsRune(s, 0) {
		return usagef("the %s %q holds a NUL byte", what, s)
	}
	return nil
}

// shellQuote writes a word as a shell reads it.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("/._-+,:@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// jobName is the name of a job that was given none.
func jobName(files []bits.FileSpec) string {
	if len(files) == 1 {
		return cutRunes(filepath.Base(files[0].Local), bits.MaxNameLen)
	}
	hosts := map[string]bool{}
	first := ""
	for _, f := range files {
		if u, err := url.Parse(f.Remote); err == nil {
			host := cmp.Or(u.Host, "this machine")
			hosts[host] = true
			if first == "" {
				first = host
			}
		}
	}
	name := filesText(len(files)) + " from " + first
	if n := len(hosts) - 1; n == 1 {
		name += " and another host"
	} else if n > 1 {
		name += " and other hosts"
	}
	return cutRunes(name, bits.MaxNameLen)
}

func cutRunes(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most])
	}
	return s
}
