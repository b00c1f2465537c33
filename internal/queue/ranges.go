package queue

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/extent"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
	"github.com/ebbtransfer/ebb/internal/transfer/fileget"
)

// set reports whether an option that is true or false is true.
func (v *version) set(option func(*bits.Options) *bool) bool {
	d := v.rec.Detail
	if d == nil || d.Options == nil {
		return false
	}
	b := option(d.Options)
	return b != nil && *b
}

func (v *version) onDemand() bool {
	return v.set(func(o *bits.Options) *bool { return o.OnDemand })
}

// noPeers reports whether the job's owner wants it to have no part in peer caching.
func (v *version) noPeers() bool {
	if d := v.rec.Detail; d != nil && d.Options != nil && d.Options.PeerCachingFlags != nil {
		return *d.Options.PeerCachingFlags&bits.PeerDisableBranch != 0
	}
	return false
}

func (v *version) dynamic() bool {
	return v.set(func(o *bits.Options) *bool { return o.DynamicContent })
}

func (v *version) highPerformance() bool {
	return v.set(func(o *bits.Options) *bool { return o.HighPerformance })
}

// httpMethod returns the job's own HTTP method, empty if it has none.
func (v *version) httpMethod() string {
	if d := v.rec.Detail; d != nil && d.Options != nil && d.Options.HTTPMethod != nil {
		return *d.Options.HTTPMethod
	}
	return ""
}

// eligible reports whether a job that is QUEUED may run at all: one of dynamic content, which cannot be
// slowed down for others, may in the foreground only (client.md 1.6).
func (v *version) eligible() bool { return !v.dynamic() || v.rec.Priority == bits.Foreground }

// maximumDownloadSize returns how many bytes all files may have; 0 for any number.
func (v *version) maximumDownloadSize() int64 {
	if d := v.rec.Detail; d != nil && d.Options != nil && d.Options.MaximumDownloadSize != nil {
		return int64(*d.Options.MaximumDownloadSize)
	}
	return 0
}

// aclFlags returns what copies of files get of the rights of their sources.
func (v *version) aclFlags() bits.ACLFlags {
	if d := v.rec.Detail; d != nil && d.Options != nil && d.Options.ACLFlags != nil {
		return *d.Options.ACLFlags
	}
	return 0
}

// path returns where the bytes of a file go until the job is completed.
func (v *version) path(i int, f *store.File) string {
	j := transfer.Job{ID: v.rec.ID, HighPerformance: v.highPerformance() && !v.isReply(i)}
	return j.Path(f.Local, i)
}

// wants reports whether parts of the job's files were asked for that are not here.
func (v *version) wants() bool {
	return slices.ContainsFunc(v.files, func(f *store.File) bool { return len(transfer.Wanted(f)) > 0 })
}

// takes refuses files that do not go with the job's properties.
func (v *version) takes(files []*store.File) error {
	if err := v.checkMethod(files); err != nil {
		return err
	}
	return v.checkRanged(files)
}

// checkRanged refuses files with ranges in a job that cannot have them, and files of which no parts can
// be had in a job that fetches parts.
func (v *version) checkRanged(files []*store.File) error {
	for _, f := range files {
		if f.State == store.FileRemoved {
			continue
		}
		if ranged(f) {
			if e := bits.CheckRanged(f.Remote, f.Extra.Mirrors, f.Extra.OnlyIfNewer); e != nil {
				return e
			}
		}
		if v.onDemand() && fileget.Is(f.Remote) {
			return notFromFiles(f)
		}
	}
	if !slices.ContainsFunc(files, ranged) {
		return nil
	}
	switch {
	case v.dynamic():
		return bits.Errorf(bits.UnsupportedConfiguration, "dynamic content has no ranges")
	case v.httpMethod() != "":
		return bits.Errorf(bits.NotWithCustomMethod, "a job with the HTTP method %s fetches no ranges", v.httpMethod())
	}
	return nil
}

func ranged(f *store.File) bool { return f.Extra != nil && len(f.Extra.Ranges) > 0 }

// tooManyRanges refuses files with more ranges than the caller's files may have.
func (q *Queue) tooManyRanges(c Caller, specs []bits.FileSpec) error {
	q.mu.RLock()
	most := q.policy.Jobs.MaxRanges
	q.mu.RUnlock()
	if c.exempt() {
		return nil // up to what bits.CheckRanges allows
	}
	for i := range specs {
		if n := len(specs[i].Ranges); n > most {
			e := bits.Errorf(bits.TooManyRangesInFile, "the file has %d ranges; %d are allowed (jobs.max_ranges)", n, most)
			e.Context, e.File = bits.ContextRemoteFile, bits.RedactURL(specs[i].Remote)
			q.overQuota(c, audit.TooManyRanges, e)
			return e
		}
	}
	return nil
}

// File returns all that is known of a file of a job.
func (q *Queue) File(c Caller, id bits.ID, index int) (bits.FileDetail, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	j := q.byID[id]
	if j == nil || !c.may(j.now.rec.UID) {
		return bits.FileDetail{}, noSuchJob(id.String())
	}
	v := j.now
	if index < 0 || index >= len(v.files) || v.files[index].State == store.FileRemoved {
		return bits.FileDetail{}, noSuchFile(v, index)
	}
	f := v.files[index]
	out := bits.FileDetail{File: v.file(index, j.moving()), Filled: []bits.Range{}}
	if v.rec.Type == bits.Download {
		out.Filled = append(out.Filled, transfer.Filled(f)...)
		out.Wanted = transfer.Wanted(f)
		out.BytesFromOrigin = max(0, out.BytesTransferred-out.BytesFromPeers-out.BytesFromCache)
		if f.Extra != nil && f.State == store.FilePending {
			out.Position = f.Extra.Position
		}
	}
	if f.Part != nil {
		out.ResponseHeaders = f.Part.Headers
	}
	if j.live != nil {
		out.ResponseHeaders = cmp.Or(j.live.Answer(index), out.ResponseHeaders)
	}
	return out, nil
}

// fileOf returns a file of a job that the caller may change, as far as the state machine lets m change it.
func (t *tx) fileOf(c Caller, id bits.ID, index int, m bits.Method, verb string) (*job, *version, *store.File, error) {
	j, v, err := t.lookup(c, id)
	if err != nil {
		return nil, nil, nil, err
	}
	if j.op != nil {
		return nil, nil, nil, busy(v)
	}
	if index < 0 || index >= len(v.files) || v.files[index].State == store.FileRemoved {
		return nil, nil, nil, noSuchFile(v, index)
	}
	f := v.files[index]
	facts := v.facts()
	facts.FileDone = f.State == store.FileDone || f.State == store.FilePlaced
	if err := refused(v, bits.Decide(v.rec.State, m, facts), verb); err != nil {
		return nil, nil, nil, err
	}
	return j, v, f, nil
}

// randomAccess refuses to fetch parts of a file that cannot be had in parts.
func (v *version) randomAccess(f *store.File) error {
	why := ""
	switch {
	case fileget.Is(f.Remote):
		return notFromFiles(f)
	case v.rec.Type != bits.Download:
		why = "an upload fetches no parts of files"
	case v.dynamic():
		why = "dynamic content cannot be fetched in parts"
	case v.httpMethod() != "":
		why = "what another HTTP method than GET brings cannot be fetched in parts"
	default:
		return nil
	}
	return &bits.Error{Code: bits.RandomAccessNotSupported, Context: bits.ContextGeneralQueueManager, Message: why}
}

// notFromFiles refuses parts of a file of this machine or of a share (client.md 6.9).
func notFromFiles(f *store.File) error {
	return &bits.Error{Code: bits.RandomAccessNotSupported, Context: bits.ContextRemoteFile, File: f.Remote,
		Message: "a file of this machine or of a share is copied whole: parts can be fetched from http and https servers only"}
}

// SetPosition has what is missing at and after an offset of a file fetched first (client.md 1.7).
func (q *Queue) SetPosition(c Caller, id bits.ID, index int, offset int64) (bits.Summary, error) {
	if offset < 0 {
		return bits.Summary{}, bits.Errorf(bits.InvalidArg, "the position %d lies before the file", offset)
	}
	return q.change(c, id, func(t *tx, _ *job, _ *version) error {
		j, v, f, err := t.fileOf(c, id, index, bits.MethodSetProperty, "changed")
		if err == nil {
			err = v.randomAccess(f)
		}
		if err != nil || f.State != store.FilePending {
			return err
		}
		if f.Size >= 0 && offset > f.Size {
			return &bits.Error{Code: bits.InvalidRange, Context: bits.ContextGeneralQueueManager, Message: fmt.Sprintf("the position %d lies outside the file, which has %d bytes", offset, f.Size)}
		}
		g := edited(f)
		g.Extra.Position = offset
		t.steer(j, index, g)
		t.auditReading(c, j, "file is fetched from another position", f, "offset", offset)
		return nil
	})
}

// steer stages a file's record with other wishes, and lets the job's transfer follow them.
func (t *tx) steer(j *job, index int, f *store.File) {
	t.edit(j, func(_ *store.Job, d *store.Detail) { d.Changed = changed(d, t.now) })
	t.changeFile(j, index, f)
}

// mostWanted bounds the parts of a file that are asked for and not here.
const mostWanted = 10_000

// RequestRanges has parts of a file fetched before all others (client.md 1.7, 6.10). They may overlap
// what is here and each other. A job that is SUSPENDED because nothing was wanted any more goes on.
func (q *Queue) RequestRanges(c Caller, id bits.ID, index int, ranges []bits.Range) (bits.Summary, error) {
	if len(ranges) == 0 {
		return bits.Summary{}, bits.Errorf(bits.InvalidArg, "there are no ranges")
	}
	for _, r := range ranges {
		if e := bits.CheckRange(r); e != nil {
			return bits.Summary{}, e
		}
	}
	return q.change(c, id, func(t *tx, _ *job, _ *version) error {
		j, v, f, err := t.fileOf(c, id, index, bits.MethodSetProperty, "asked for parts of its files")
		if err == nil {
			err = v.randomAccess(f)
		}
		if err != nil {
			return err
		}
		if f.Size >= 0 {
			for _, r := range ranges {
				if r.Offset >= f.Size || r.Length != bits.ToEOF && r.End() > f.Size {
					return &bits.Error{Code: bits.InvalidRange, Context: bits.ContextGeneralQueueManager, Message: fmt.Sprintf("the range %v lies outside the file, which has %d bytes", r, f.Size)}
				}
			}
		}
		if f.State != store.FilePending {
			return nil // it is all here
		}
		g := edited(f)
		g.Extra.Wanted = append(transfer.Wanted(f), ranges...)
		g.Extra.Wanted = transfer.Wanted(g) // without what is here
		if n := len(g.Extra.Wanted); n > mostWanted {
			return &bits.Error{Code: bits.TooManyRangesInFile, Context: bits.ContextGeneralQueueManager, Message: fmt.Sprintf("%d ranges of the file would be asked for and not be here; %d may be", n, mostWanted)}
		}
		if len(g.Extra.Wanted) == 0 {
			return nil
		}
		t.steer(j, index, g)
		t.auditReading(c, j, "parts of a file asked for", f, "ranges", len(ranges))
		if v.rec.State == bits.Suspended && v.detail().Exhausted {
			t.edit(j, func(_ *store.Job, d *store.Detail) { d.Active, d.Exhausted = 0, false })
			t.setState(j, bits.Queued)
		} else if j.run != nil && !j.run.live.Moves(index) {
			// Its turn would come after other files: begin anew with those that somebody waits for.
			t.then = append(t.then, j.run.stop)
		}
		return nil
	})
}

// SetValidated takes the owner's word on the content of a file that is transferred (client.md 1.7). If it is
// not right the job becomes ERROR, and Resume fetches the file again; what came from peers is fetched again
// from its server at once.
func (q *Queue) SetValidated(c Caller, id bits.ID, index int, right bool) (bits.Summary, error) {
	return q.change(c, id, func(t *tx, _ *job, _ *version) error {
		j, v, f, err := t.fileOf(c, id, index, bits.MethodSetValidationState, "told whether its files are right")
		if err != nil {
			return err
		}
		switch {
		case v.rec.Type != bits.Download:
			return &bits.Error{Code: bits.NotImplemented, Context: bits.ContextGeneralQueueManager, Message: "only downloads are validated"}
		case !right && f.State == store.FilePlaced:
			return &bits.Error{Code: bits.InvalidState, Context: bits.ContextLocalFile, File: f.Local, Message: "the file is in its place and cannot be fetched again by this job"}
		}
		t.auditFile(c, j, "file validated", f, "right", right)
		if right {
			part := store.Part{}
			if f.Part != nil {
				part = *f.Part
			}
			part.Validated = true
			g := *f
			g.Part = &part
			t.setFile(j, index, &g)
			t.edit(j, func(_ *store.Job, d *store.Detail) { d.Changed = changed(d, t.now) })
			t.event(j, bits.EventModified, nil)
			return nil
		}
		g := edited(f) // so that no late news of its transfer undo this
		g.State, g.Size, g.Done, g.Part = store.FilePending, -1, 0, nil
		g.Extra.Distrusted = f.Part != nil && f.Part.Peers+f.Part.Cached > 0
		t.setFile(j, index, g)
		if g.Extra.Distrusted { // its server has the last word
			if v.rec.State == bits.Transferred {
				t.setState(j, bits.Queued)
			}
			t.modified(j)
			return nil
		}
		t.edit(j, func(_ *store.Job, d *store.Detail) {
			d.ErrorCount++
			d.Error = &store.ErrorRow{Code: bits.ValidationFailed, Context: bits.ContextRemoteFile, File: f.Remote, Message: "the job's owner said that the content is not right"}
		})
		t.setState(j, bits.Errored)
		return nil
	})
}

// rangesNews tells of parts of a file that were asked for and have come.
func (s sink) rangesNews(t *tx, index int, old, f *store.File) {
	if f.Extra == nil || len(f.Extra.Wanted) == 0 || old == nil {
		return
	}
	before, after := transfer.Filled(old), transfer.Filled(f)
	var come extent.Set
	for _, w := range f.Extra.Wanted {
		if f.Size >= 0 {
			w = bits.Range{Offset: min(w.Offset, f.Size), Length: min(w.End(), f.Size) - min(w.Offset, f.Size)}
		}
		for _, m := range before.Missing(w) {
			for at := m.Offset; at < m.End(); {
				gaps := after.Missing(bits.Range{Offset: at, Length: m.End() - at})
				end := m.End()
				if len(gaps) > 0 {
					end = gaps[0].Offset
				}
				come = come.Add(bits.Range{Offset: at, Length: end - at})
				if at = end; len(gaps) > 0 {
					at = gaps[0].End()
				}
			}
		}
	}
	if len(come) > 0 {
		view := t.get(s.j).file(index, nil)
		t.event(s.j, bits.EventRanges, &view)
		t.news[len(t.news)-1].Ranges = come
	}
}

// before returns the bytes of the files that are done.
func (v *version) before() int64 {
	var n int64
	for _, f := range v.files {
		if f.State != store.FilePending {
			n += f.Done
		}
	}
	return n
}

// class says what becomes of the job after an error. What another method than GET did cannot be gone on
// with by itself, and who reads parts of a file must know that it is another one now.
func (v *version) class(c bits.Code) bits.Class {
	class := c.Class()
	if class == bits.Transient && v.httpMethod() != "" || c == bits.RemoteFileChanged && v.onDemand() {
		return bits.Fatal
	}
	return class
}
