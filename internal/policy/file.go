package policy

import (
	"bytes"
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
	name     string
	exists   bool
	text     []byte // of the last reading, also one with errors
	zone     []byte // the machine's time zone then
	read     time.Time
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
	if _, err := f.reload(true); err != nil {
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
		File: f.name, Exists: f.exists, Read: f.read.UTC(), Settings: f.policy.Settings(),
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
	_, err := f.reload(true)
	return err
}

// reload reads the file again, if it or the machine's time zone changed or if it must.
func (f *File) reload(must bool) (changed bool, err error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	name, exists := f.given, true
	if name == "" {
		name, exists = Find()
	}
	zone, _ := os.ReadFile(LocalZoneFile) // where there is none it does not change
	var text []byte
	var p Policy
	if exists {
		text, err = os.ReadFile(name)
	}
	f.mu.Lock()
	same := err == nil && name == f.name && exists == f.exists && bytes.Equal(text, f.text) && bytes.Equal(zone, f.zone)
	f.mu.Unlock()
	if same && !must {
		return false, nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = Problems{{File: name, Message: "the configuration file does not exist"}}
	case err != nil:
		err = Problems{{File: name, Message: err.Error()}}
	case exists:
		p, err = Parse(name, text)
	default:
		p = Default()
	}
	f.mu.Lock()
	first := f.read.IsZero()
	f.name, f.exists, f.text, f.zone, f.problems = name, exists, text, zone, nil
	if err != nil {
		errors.As(err, &f.problems)
		f.mu.Unlock()
		return true, err
	}
	f.policy, f.read = p, time.Now()
	f.mu.Unlock()
	if !first {
		f.apply(p)
	}
	return true, nil
}

// settle is how long after a change the file is read: an editor may write it in several steps.
const settle = 100 * time.Millisecond

// Watch reads the file again whenever it changes, appears or goes, and whenever the machine's
// time zone changes, until ctx ends. It calls done after each such reading, with its error. What
// Watch itself returns is that of the system's watch; to begin again then misses nothing.
func (f *File) Watch(ctx context.Context, done func(error)) error {
	look := func() {
		if changed, err := f.reload(false); changed {
			done(err)
		}
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		look()
		return fmt.Errorf("watch the configuration file: %w", err)
	}
	defer func() { _ = w.Close() }()
	settled := time.After(0) // for what changed before the watch began
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-settled:
			settled = nil
			f.follow(w) // first, so that no change falls between
			look()
		case _, ok := <-w.Events:
			if !ok {
				return errors.New("the watch of the configuration file ended")
			}
			if settled == nil {
				settled = time.After(settle)
			}
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch the configuration file: %w", err)
			}
			if settled == nil {
				settled = time.After(settle)
			}
		}
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
