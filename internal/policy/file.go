package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/ebbtransfer/ebb/bits"
)

// SystemFile is the configuration file for all services of a machine that have none of their
// own.
const SystemFile = "/etc/ebb/policy.toml"

// candidates are the files of a service that is not told which one to read; the first that is
// there counts.
func candidates() []string {
	var out []string
	if dir, err := os.UserConfigDir(); err == nil {
		out = append(out, filepath.Join(dir, "ebb", "policy.toml"))
	}
	return append(out, SystemFile)
}

// Find returns the configuration file of a service of the calling user that is not told which
// one to read: the user's own, else the machine's. Where neither is there it returns the one
// to make.
func Find() (name string, exists bool) {
	all := candidates()
	for _, name := range all {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return name, true
		}
	}
	if os.Geteuid() == 0 {
		return SystemFile, false
	}
	return all[0], false
}

// File is the configuration file of a running service, with what it said when it was last
// without an error.
type File struct {
	given string       // path, or "" to look for one
	apply func(Policy) // called, one call at a time, with each new policy

	reading sync.Mutex // held while the file is read and applied

	mu       sync.Mutex // guards what follows
	policy   Policy
	last     content   // also one with errors
	read     time.Time // when the policy was
	problems Problems
}

// Open reads the configuration of a service: the file that is given or, for "", the one that
// Find returns, if there is one. An error, such as Problems, means that the service should
// not start. The function apply is called with each new policy, but not with this first one.
func Open(given string, apply func(Policy)) (*File, error) {
	if given != "" {
		abs, err := filepath.Abs(given)
		if err != nil {
			return nil, err
		}
		given = abs // what is told of it should mean the same to others
	}
	f := &File{given: given, apply: apply}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Policy returns what is in effect.
func (f *File) Policy() Policy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.policy
}

// Describe tells what is in effect and where it comes from.
func (f *File) Describe() bits.Policy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bits.Policy{
		File: f.last.name, Exists: f.last.exists, Read: f.read.UTC(), Settings: f.policy.Settings(),
		Notices: append([]bits.PolicyProblem{}, f.policy.Notices...), Errors: append([]bits.PolicyProblem{}, f.problems...),
	}
}

// Problems returns why the file as it is now is not in effect; nil if it is.
func (f *File) Problems() Problems {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.problems
}

// Reload reads the file again. With an error, such as Problems, everything stays as it was.
func (f *File) Reload() error {
	f.reading.Lock()
	defer f.reading.Unlock()
	return f.take(f.look().content)
}

// reading is what there was to read at a moment.
type reading struct {
	content
	modified int64 // Unix time of the file's last change, ns
}

type content struct {
	name   string
	exists bool
	text   string
	zone   string // the machine's time zone
	err    string // why the file could not be read
}

// look reads the file that counts now.
func (f *File) look() reading {
	r := reading{content: content{name: f.given, exists: true}}
	if r.name == "" {
		r.name, r.exists = Find()
	}
	zone, _ := os.ReadFile(LocalZoneFile) // where there is none it does not change
	r.zone = string(zone)
	if !r.exists {
		return r
	}
	text, err := os.ReadFile(r.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.err = "the configuration file does not exist"
	case err != nil:
		r.err = err.Error()
	}
	r.text = string(text)
	if info, err := os.Stat(r.name); err == nil {
		r.modified = info.ModTime().UnixNano()
	}
	return r
}

// take applies what was read. The caller holds f.reading.
func (f *File) take(r content) error {
	p, err := Default(), error(nil)
	switch {
	case r.err != "":
		err = Problems{{File: r.name, Message: r.err}}
	case r.exists:
		p, err = Parse(r.name, []byte(r.text))
	}
	f.mu.Lock()
	first := f.read.IsZero()
	f.last, f.problems = r, nil
	if err != nil {
		errors.As(err, &f.problems)
		f.mu.Unlock()
		return err
	}
	f.policy, f.read = p, time.Now()
	f.mu.Unlock()
	if !first {
		f.apply(p)
	}
	return nil
}

// settle is how long the file must have stayed the same before a change counts: an editor may
// write it in several steps, and half a file can be one without the limits that somebody wanted.
const settle = 100 * time.Millisecond

// Watch reads the file again whenever it changes, appears or goes, and whenever the machine's
// time zone changes, until ctx ends. It calls done after each such reading, with its error. What
// Watch itself returns is that of the system's watch; to begin again then misses nothing.
func (f *File) Watch(ctx context.Context, done func(error)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		f.still(f.look().content, done)
		return fmt.Errorf("watch the configuration file: %w", err)
	}
	defer func() { _ = w.Close() }()
	f.follow(w)
	before, settled := f.look(), time.After(settle) // for what changed before the watch began
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-settled:
			settled = nil
			f.follow(w) // first, so that no change falls between
			now := f.look()
			if now != before {
				settled = time.After(settle)
			} else {
				f.still(now.content, done)
			}
			before = now
		case _, ok := <-w.Events:
			if !ok {
				return errors.New("the watch of the configuration file ended")
			}
			if settled == nil {
				before, settled = f.look(), time.After(settle)
			}
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch the configuration file: %w", err)
			}
			if settled == nil {
				before, settled = f.look(), time.After(settle)
			}
		}
	}
}

// still takes what was the same for a while, unless it is what is in effect, and tells done.
func (f *File) still(now content, done func(error)) {
	f.reading.Lock()
	f.mu.Lock()
	same := now == f.last
	f.mu.Unlock()
	var err error
	if !same {
		err = f.take(now)
	}
	f.reading.Unlock()
	if !same {
		done(err)
	}
}

// follow makes the watch see all directories in which a change can matter.
func (f *File) follow(w *fsnotify.Watcher) {
	for dirs := f.dirs(); ; {
		for _, old := range w.WatchList() {
			if !slices.Contains(dirs, old) {
				_ = w.Remove(old)
			}
		}
		for _, dir := range dirs {
			_ = w.Add(dir) // one that cannot be watched leaves the others
		}
		// A directory that came or went before it was watched was not seen to do so.
		was := dirs
		if dirs = f.dirs(); slices.Equal(dirs, was) {
			return
		}
	}
}

// dirs returns the directories of the files, of those that they are links to and, of a
// directory that is not there, the nearest ancestor that is.
func (f *File) dirs() []string {
	names := []string{f.given}
	if f.given == "" {
		names = candidates()
	}
	var dirs []string
	for _, name := range append(names, LocalZoneFile) {
		if target, err := filepath.EvalSymlinks(name); err == nil && target != name {
			dirs = append(dirs, filepath.Dir(target))
		}
		dir := filepath.Dir(name)
		for {
			if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
				break
			}
			dir = filepath.Dir(dir)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}
