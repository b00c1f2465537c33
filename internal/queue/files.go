package queue

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
)

// extra returns what a file has that most files do not.
func extra(s *bits.FileSpec) *store.FileExtra {
	if len(s.Mirrors) == 0 && !s.OnlyIfNewer && len(s.Ranges) == 0 && s.NamedBy == "" {
		return nil
	}
	return &store.FileExtra{Mirrors: s.Mirrors, OnlyIfNewer: s.OnlyIfNewer, Ranges: s.Ranges, NamedBy: s.NamedBy}
}

// noSuchFile is the answer for an index that no file of the job has.
func noSuchFile(v *version, index int) error {
	return &bits.Error{Code: bits.FileNotFound, Context: bits.ContextGeneralQueueManager, Message: fmt.Sprintf("the job %q has no file %d", v.rec.Name, index)}
}

// ownFile returns the file with an index of a job whose files the owner may change.
func ownFile(j *job, v *version, index int, verb string) (*store.File, error) {
	if j.op != nil {
		return nil, busy(v)
	}
	if err := refused(v, bits.Decide(v.rec.State, bits.MethodReplaceRemotePrefix, v.facts()), verb); err != nil {
		return nil, err
	}
	if index < 0 || index >= len(v.files) || v.files[index].State == store.FileRemoved {
		return nil, noSuchFile(v, index)
	}
	return v.files[index], nil
}

// edited returns a copy of a file's record for a change by the job's owner.
func edited(f *store.File) *store.File {
	c := *f
	x := store.FileExtra{}
	if f.Extra != nil {
		x = *f.Extra
	}
	x.Edition++
	c.Extra = &x
	return &c
}

// setRemote changes the URL of a file's record. What is here of it is still from the old one.
func setRemote(f *store.File, remote string) {
	if f.Part != nil && f.State == store.FilePending && f.Part.Source == "" {
		part := *f.Part
		part.Source = f.Remote
		f.Part = &part
	}
	f.Remote = remote
}

// changeFile stages a file's new record and lets the job's transfer know.
func (t *tx) changeFile(j *job, index int, f *store.File) {
	t.setFile(j, index, f)
	if run := j.run; run != nil {
		t.then = append(t.then, func() { run.live.Change(index, f) })
	}
}

// modified notes that the job's owner changed its files. A job that waits for its next attempt
// need not wait any more: what failed may work now.
func (t *tx) modified(j *job) {
	t.edit(j, func(_ *store.Job, d *store.Detail) { d.Changed = changed(d, t.now) })
	t.event(j, bits.EventModified, nil)
	if v := t.get(j); v.rec.State == bits.TransientError && !v.waits() {
		t.setState(j, bits.Queued)
	}
}

// ChangeFile changes one file of a job. Its code is False if nothing was to change.
func (q *Queue) ChangeFile(c Caller, id bits.ID, index int, change bits.FileChange) (bits.Code, error) {
	var remote string
	if change.Remote != nil {
		u, e := bits.CheckURL(*change.Remote, bits.Download)
		if e != nil {
			return bits.OK, e
		}
		remote = u
	}
	code := bits.False
	_, err := q.change(c, id, func(t *tx, j *job, v *version) error {
		old, err := ownFile(j, v, index, "given other files")
		if err != nil {
			return err
		}
		f := edited(old)
		if remote != "" && remote != f.Remote {
			setRemote(f, remote)
			code = bits.OK
		}
		mirrors := f.Extra.Mirrors
		if change.Mirrors != nil {
			mirrors = *change.Mirrors
		}
		mirrors, e := bits.CheckMirrors(f.Remote, mirrors)
		if e != nil {
			return e
		}
		if !slices.Equal(mirrors, f.Extra.Mirrors) {
			f.Extra.Mirrors = mirrors
			code = bits.OK
		}
		if err := v.checkRanged([]*store.File{f}); err != nil {
			return err
		}
		if change.Skipped != nil {
			switch skip := *change.Skipped; {
			case skip && (f.State == store.FilePending || f.State == store.FileDone):
				f.State = store.FileSkipped
				code = bits.OK
			case !skip && f.State == store.FileSkipped:
				f.State = store.FilePending
				if f.Part != nil && f.Part.Inode != 0 { // it was whole
					f.Size, f.Done, f.Part = -1, 0, nil
				}
				if f.Part != nil {
					part := *f.Part
					part.Note = ""
					f.Part = &part
				}
				f.Extra.OnlyIfNewer = false // its owner wants it
				code = bits.OK
			case skip && f.State == store.FilePlaced:
				return &bits.Error{Code: bits.InvalidState, Context: bits.ContextLocalFile, File: f.Local, Message: f.Local + " is in its place already"}
			}
		}
		if code == bits.OK {
			t.takeNewPasswords(j, f)
			t.changeFile(j, index, f)
			t.modified(j)
			t.auditFile(c, j, "file changed", f, "mirrors", len(f.Extra.Mirrors), "skipped", f.State == store.FileSkipped)
		}
		return nil
	})
	return code, err
}

// RemoveFile takes a file out of a job and deletes what is here of it, but for a job of high performance.
// The numbers of the other files stay as they are.
func (q *Queue) RemoveFile(c Caller, id bits.ID, index int) error {
	_, err := q.change(c, id, func(t *tx, j *job, v *version) error {
		old, err := ownFile(j, v, index, "given other files")
		if err != nil {
			return err
		}
		if old.State == store.FilePlaced {
			return &bits.Error{Code: bits.InvalidState, Context: bits.ContextLocalFile, File: old.Local, Message: old.Local + " is in its place already"}
		}
		f := edited(old)
		f.State = store.FileRemoved
		t.changeFile(j, index, f)
		t.modified(j)
		t.auditFile(c, j, "file removed", f)
		switch {
		case v.highPerformance(): // what is at its destination is left to the caller (client.md 6.11)
		case j.run == nil || old.State != store.FilePending: // else the transfer does it
			t.then = append(t.then, func() {
				q.work.Go(func() {
					if err := q.as(v.rec.UID).Remove(transfer.PartName(f.Local, id, index)); err != nil {
						q.log.Warn("a part file could not be deleted", "job", id, "err", err)
					}
				})
			})
		}
		return nil
	})
	return err
}

// ReplacePrefix replaces the beginning of the URLs, and of the mirrors, of a job's files. Its code
// is False if none begins so.
func (q *Queue) ReplacePrefix(c Caller, id bits.ID, change bits.PrefixChange) (bits.Code, error) {
	if change.Old == "" || change.New == "" {
		return bits.OK, bits.Errorf(bits.InvalidArg, "the old and the new beginning of the URLs must not be empty")
	}
	code := bits.False
	_, err := q.change(c, id, func(t *tx, j *job, v *version) error {
		if j.op != nil {
			return busy(v)
		}
		if err := refused(v, bits.Decide(v.rec.State, bits.MethodReplaceRemotePrefix, v.facts()), "given other URLs"); err != nil {
			return err
		}
		files := map[int]*store.File{}
		for i, f := range v.files {
			if f.State == store.FileRemoved {
				continue
			}
			n, err := replacePrefix(f, change)
			if err != nil {
				return err // all or none
			}
			if n == nil {
				continue
			}
			if err := v.checkRanged([]*store.File{n}); err != nil {
				return err
			}
			files[i] = n
		}
		given := make([]*store.File, 0, len(files))
		for i := range v.files {
			if f := files[i]; f != nil {
				t.takeNewPasswords(j, f)
				t.changeFile(j, i, f)
				given = append(given, f)
			}
		}
		if len(files) > 0 {
			code = bits.OK
			t.modified(j)
			t.auditFiles(c, t.changed(c, j), j, "file changed", given)
		}
		return nil
	})
	return code, err
}

// replacePrefix returns a file's record with the beginning of its URLs replaced, nil if none of
// them begins so.
func replacePrefix(f *store.File, change bits.PrefixChange) (*store.File, error) {
	var out *store.File
	if rest, ok := strings.CutPrefix(f.Remote, change.Old); ok {
		u, e := bits.CheckURL(change.New+rest, bits.Download)
		if e != nil {
			return nil, e
		}
		if u != f.Remote {
			out = edited(f)
			setRemote(out, u)
		}
	}
	if f.Extra == nil {
		return out, nil
	}
	for i, m := range f.Extra.Mirrors {
		rest, ok := strings.CutPrefix(m, change.Old)
		if !ok {
			continue
		}
		u, e := bits.CheckURL(change.New+rest, bits.Download)
		if e != nil {
			return nil, e
		}
		if out == nil {
			out = edited(f)
		}
		mirrors := slices.Clone(out.Extra.Mirrors)
		mirrors[i] = u
		out.Extra.Mirrors = mirrors
	}
	return out, nil
}
