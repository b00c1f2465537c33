package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/localfile"
)

// destinations are the directories that downloads of one call go to, each looked at once: a call may
// bring 100,000 files for one directory. Of those in which the owner may make no files it has the
// reason (client.md 3.3); one that is not there may come until the transfer starts.
type destinations map[string]error

// lookAt looks, with the owner's rights, at the directories of files. It is not for the queue's loop: a
// disk may take its time.
func lookAt(owner localfile.Owner, jobs ...[]bits.FileSpec) destinations {
	seen, last := destinations{}, ""
	var dirs []string
	for _, files := range jobs {
		for i := range files {
			dir := filepath.Dir(files[i].Local)
			if dir == last || !filepath.IsAbs(dir) {
				continue
			}
			last = dir
			if _, known := seen[dir]; !known {
				seen[dir] = nil
				dirs = append(dirs, dir)
			}
		}
	}
	if len(dirs) == 0 {
		return seen
	}
	for i, err := range owner.CheckDirs(dirs) {
		seen[dirs[i]] = err
	}
	return seen
}

// refuse returns why no file may be made at a path in one of the directories; nil for what is not
// known to be forbidden.
func (d destinations) refuse(path string) error {
	err := d[filepath.Dir(path)]
	if err == nil {
		return nil
	}
	if e := notMade(err, path); e.Code == bits.AccessDenied || e.Code == bits.WriteProtect {
		return e
	}
	return nil
}

// notMade is the error for a file that cannot be made at path, because of err of its directory.
func notMade(err error, path string) *bits.Error {
	e := *localfile.Err(err, path)
	e.File = path
	var told *bits.Error
	if errors.Is(err, fs.ErrPermission) && !errors.As(err, &told) {
		e.Message = fmt.Sprintf("no file may be made in %s by the job's owner", filepath.Dir(path))
	}
	return &e
}
