package queue

import (
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// version is a job as it is on disk. It is never changed once published.
type version struct {
	rec   *store.Job
	files []*store.File
	reply *store.File // of an upload-reply, once its download began; file transfer.ReplyIndex of the record
	// What the files add up to.
	total   int64 // bytes of the files whose size is known
	done    int64 // durable bytes
	unknown int   // files of unknown size
	ready   int   // files that are transferred, or need not be
	gone    int   // files of these that were removed
	// ownFiles says that files belongs to the batch being staged, which may change it.
	ownFiles bool
}

// attach gives the version of a loaded job its files. Those that an acknowledged job put on this machine are
// in their places: that is in the job's record alone, as they may be tens of thousands.
func (v *version) attach(files []*store.File) {
	if v.rec.Type == bits.UploadReply && len(files) > transfer.ReplyIndex {
		v.reply, files = files[transfer.ReplyIndex], files[:transfer.ReplyIndex]
	}
	v.files = files
	if v.rec.State != bits.Acknowledged {
		return
	}
	for i, f := range v.fetched() {
		if f.State != store.FileDone {
			continue
		}
		if v.isReply(i) {
			v.reply = placedFile(f)
		} else {
			v.files[i] = placedFile(f)
		}
	}
}

// at returns the file with an index of the record.
func (v *version) at(i int) *store.File {
	if v.isReply(i) {
		return v.reply
	}
	return v.files[i]
}

func (v *version) isReply(i int) bool {
	return v.rec.Type == bits.UploadReply && i == transfer.ReplyIndex
}

// fetched yields the files that the job puts on this machine, with their indexes in the record.
func (v *version) fetched() iter.Seq2[int, *store.File] {
	return func(yield func(int, *store.File) bool) {
		if v.rec.Type == bits.Download {
			for i, f := range v.files {
				if !yield(i, f) {
					return
				}
			}
			return
		}
		if v.reply != nil {
			yield(transfer.ReplyIndex, v.reply)
		}
	}
}

// begun returns what is known of the job's upload, nil before it began.
func (v *version) begun() *store.Upload {
	if v.rec.Type == bits.Download || len(v.files) == 0 || v.files[0].Part == nil {
		return nil
	}
	return v.files[0].Part.Upload
}

// unfinished returns how many files have something left to do. An upload has until its reply is
// here and the server was told.
func (v *version) unfinished() int {
	n := len(v.files) - v.ready
	if v.rec.Type == bits.Download || n > 0 || len(v.files) == 0 {
		return n
	}
	up := v.begun()
	if up == nil || !up.Closed || v.rec.Type == bits.UploadReply && (v.reply == nil || v.reply.State == store.FilePending) {
		return len(v.files)
	}
	return 0
}

// protocol returns how an upload's file is sent; empty for a download.
func (v *version) protocol() bits.Protocol {
	switch d := v.rec.Detail; {
	case v.rec.Type == bits.Download:
		return ""
	case v.rec.Type == bits.Upload && d != nil && d.Protocol != "":
		return d.Protocol
	}
	return bits.ProtocolBITS
}

// replyFile returns the path of the reply; empty as long as nothing tells where it goes.
func (v *version) replyFile() string {
	switch d := v.rec.Detail; {
	case v.rec.Type != bits.UploadReply:
		return ""
	case d != nil && d.ReplyFile != "":
		return d.ReplyFile
	case v.reply != nil:
		return v.reply.Local
	case len(v.files) > 0:
		return transfer.ReplyName(v.files[0].Local, v.rec.ID)
	}
	return ""
}

// count adds the files up.
func (v *version) count() {
	v.total, v.done, v.unknown, v.ready, v.gone = 0, 0, 0, 0, 0
	for _, f := range v.files {
		v.tally(f, 1)
	}
}

func (v *version) tally(f *store.File, sign int) {
	if f.State == store.FileSkipped || f.State == store.FileRemoved {
		v.ready += sign
		if f.State == store.FileRemoved {
			v.gone += sign
		}
		return
	}
	if f.Size < 0 {
		v.unknown += sign
	} else {
		v.total += int64(sign) * f.Size
	}
	v.done += int64(sign) * f.Done
	if f.State != store.FilePending {
		v.ready += sign
	}
}

// replace changes one file of a version whose files are its own.
func (v *version) replace(i int, f *store.File) {
	v.tally(v.files[i], -1)
	v.files[i] = f
	v.tally(f, 1)
}

// number returns how many files the job has.
func (v *version) number() int { return len(v.files) - v.gone }

// fromPeers returns how many bytes of the files came from peers.
func (v *version) fromPeers() (sum int64) {
	for _, f := range v.files {
		if f != nil && f.Part != nil {
			sum += f.Part.Peers
		}
	}
	return sum
}

func (v *version) detail() store.Detail {
	if v.rec.Detail == nil {
		return store.Detail{}
	}
	return *v.rec.Detail
}

func (v *version) facts() bits.Facts {
	return bits.Facts{Type: v.rec.Type, Files: v.number(), Unfinished: v.unfinished(), Resumed: v.rec.Resumed, ErrorKept: v.detail().Error != nil,
		ReplyStarted: v.reply != nil && v.reply.Size >= 0}
}

// failure returns the job's error; nil if it has none.
func (v *version) failure() *bits.Error {
	d := v.rec.Detail
	if d == nil || d.Error == nil {
		return nil
	}
	return &bits.Error{Code: d.Error.Code, Context: d.Error.Context, File: d.Error.File, Message: d.Error.Message}
}

// errorInfo returns the error if the state machine lets it be seen.
func (v *version) errorInfo() *bits.ErrorInfo {
	e := v.failure()
	if e == nil || bits.Decide(v.rec.State, bits.MethodGetError, v.facts()).Code.Failed() {
		return nil
	}
	if v.rec.Type != bits.Download && len(v.files) > 0 && e.File == v.files[0].Remote {
		e.File = target(v.files[0])
		e.Message = strings.ReplaceAll(e.Message, v.files[0].Remote, e.File)
	}
	info := e.Info()
	if v.rec.Type != bits.Download && v.reply == nil {
		info.Hint = e.Code.UploadHint()
	}
	return info
}

// target returns the URL of the file that an upload makes; the record has that of its directory
// where the job's owner gave it.
func target(f *store.File) string {
	if to, err := upload.Target(f.Remote, filepath.Base(f.Local)); err == nil {
		return to
	}
	return f.Remote
}

func (v *version) retryAt() *time.Time {
	if d := v.rec.Detail; d != nil && d.RetryAt != 0 {
		return moment(d.RetryAt)
	}
	return nil
}

func (v *version) minimumRetryDelay() time.Duration {
	if d := v.rec.Detail; d != nil && d.MinimumRetryDelay != nil {
		return time.Duration(*d.MinimumRetryDelay) * time.Second
	}
	return bits.DefaultMinimumRetryDelay
}

func (v *version) noProgressTimeout() time.Duration {
	if d := v.rec.Detail; d != nil && d.NoProgressTimeout != nil {
		return time.Duration(*d.NoProgressTimeout) * time.Second
	}
	return bits.DefaultNoProgressTimeout
}

func (v *version) connections() int {
	if d := v.rec.Detail; d != nil && d.Connections != 0 {
		return d.Connections
	}
	return bits.DefaultConnections
}

// transferPolicy returns the job's own transfer policy, TransferDefault if it has none.
func (v *version) transferPolicy() bits.Cost {
	if d := v.rec.Detail; d != nil {
		return d.TransferPolicy
	}
	return bits.TransferDefault
}

// maxDownloadTime returns how long the job may be active, 0 for as long as it takes; byPolicy is
// that of jobs that do not say.
func (v *version) maxDownloadTime(byPolicy policy.Duration) time.Duration {
	if d := v.rec.Detail; d != nil && d.MaximumDownloadTime != nil {
		return time.Duration(*d.MaximumDownloadTime) * time.Second
	}
	return time.Duration(byPolicy)
}

// waits reports whether the job waits for a hold to end.
func (v *version) waits() bool {
	return v.rec.State == bits.TransientError && isHold(v.detail().Error)
}

// lastActivity returns when bytes last moved or the owner last changed something.
func (v *version) lastActivity() int64 {
	if d := v.rec.Detail; d != nil && d.StuckSince != 0 {
		return max(d.StuckSince, d.Changed) // attempts modify the job too
	}
	return v.rec.Modified
}

// deadline returns when a timer must look at the job; zero for never.
func (v *version) deadline(now time.Time, keep time.Duration) time.Time {
	d := v.rec.Detail
	switch {
	case d == nil:
		return time.Time{}
	case v.rec.State == bits.TransientError:
		// In terms of now, so that the clock may be set without moving timers.
		at := now.Add(time.Duration(d.StuckSince-now.UnixNano()) + v.noProgressTimeout())
		if d.RetryAt != 0 {
			if retry := now.Add(time.Duration(d.RetryAt - now.UnixNano())); retry.Before(at) {
				at = retry
			}
		}
		return at
	case v.rec.State.Final() && d.Farewell != 0:
		return now.Add(time.Duration(d.Farewell - now.UnixNano()))
	case v.rec.State.Final() && !d.Cleanup:
		return now.Add(time.Duration(d.Finished-now.UnixNano()) + keep)
	}
	return time.Time{}
}

func moment(unixNano int64) *time.Time {
	t := time.Unix(0, unixNano).UTC()
	return &t
}

// properties returns the job's properties as they are in effect. maxTime is the policy's time for
// jobs that do not say.
func (v *version) properties(maxTime policy.Duration) bits.Properties {
	d := v.rec.Detail
	if d == nil {
		d = &store.Detail{}
	}
	p := d.Options.Properties()
	p.Description = d.Description
	p.MinimumRetryDelay = int64(v.minimumRetryDelay() / time.Second)
	p.NoProgressTimeout = int64(v.noProgressTimeout() / time.Second)
	p.Connections = v.connections()
	p.AutoComplete = d.AutoComplete
	p.TransferPolicy = d.TransferPolicy
	p.MaximumDownloadTime = int64(v.maxDownloadTime(maxTime) / time.Second)
	p.Protocol = v.protocol()
	p.ClientCertificate = d.ClientCertificate
	p.HeaderNames = d.HeaderNames
	p.Credentials = credentialNames(d)
	return p
}

// view makes the snapshot that others see. live are the files on their way.
func (v *version) view(names *userNames, maxTime policy.Duration, withFiles bool, live map[int]transfer.Moving) bits.Job {
	r, d := v.rec, v.detail()
	j := bits.Job{
		ID: r.ID, Name: r.Name, Type: r.Type, Priority: r.Priority, State: r.State, Owner: names.name(r.UID),
		Error: v.errorInfo(), ErrorCount: d.ErrorCount,
		Times:      bits.Times{Created: *moment(r.Created), Modified: *moment(r.Modified), RetryAt: v.retryAt()},
		Properties: v.properties(maxTime),
		Note:       v.note(),
		Failure:    v.notification(),
		Hook:       v.hookFailure(),
		Progress:   v.progress(live),
		Reply:      v.replyView(live),
	}
	if d.Transferred != 0 {
		j.Times.Transferred = moment(d.Transferred)
	}
	if withFiles {
		j.Files = make([]bits.File, 0, v.number())
		for i, f := range v.files {
			if f.State != store.FileRemoved {
				j.Files = append(j.Files, v.file(i, live))
			}
		}
	}
	return j
}

// note is what a person should know of the job.
func (v *version) note() string {
	d := v.detail()
	if !v.leaves() {
		return d.Note
	}
	return join(d.Note, bits.NoteServerUntold)
}

func (v *version) progress(live map[int]transfer.Moving) bits.Progress {
	p := bits.Progress{BytesTotal: bits.Size(v.total), BytesTransferred: v.done, FilesTotal: v.number(), FilesTransferred: v.ready - v.gone}
	unknown := v.unknown
	for i, m := range live {
		f := v.at(i)
		if v.isReply(i) || f.State != store.FilePending {
			continue // its record is newer
		}
		p.BytesTransferred += m.Done - f.Done
		if f.Size < 0 && m.Size >= 0 {
			unknown--
			p.BytesTotal += bits.Size(m.Size)
		}
	}
	if unknown > 0 {
		p.BytesTotal = bits.Unknown
	}
	return p
}

// replyView makes the snapshot of the reply, nil for a job that gets none.
func (v *version) replyView(live map[int]transfer.Moving) *bits.Reply {
	if v.rec.Type != bits.UploadReply {
		return nil
	}
	out := &bits.Reply{File: v.replyFile(), BytesTotal: bits.Unknown}
	if v.reply != nil {
		f := v.file(transfer.ReplyIndex, live)
		out.Remote, out.BytesTotal, out.BytesTransferred, out.Completed = f.Remote, f.BytesTotal, f.BytesTransferred, f.Completed
	}
	return out
}

// begun reports whether a download has a part file, as far as its record tells.
func begun(f *store.File) bool {
	return f.Done > 0 || f.State == store.FileDone || f.Part != nil && f.Part.Boot != ""
}

// file makes the snapshot of the file with an index of the record.
func (v *version) file(i int, live map[int]transfer.Moving) bits.File {
	f := v.at(i)
	sends := v.rec.Type != bits.Download && !v.isReply(i)
	out := bits.File{Index: i, Remote: f.Remote, Local: f.Local, BytesTotal: bits.Size(f.Size), BytesTransferred: f.Done, Completed: f.State == store.FilePlaced, Checksum: f.Checksum}
	if sends {
		out.Remote = target(f)
		out.Completed = f.State != store.FilePending
		if out.Protocol = v.protocol(); f.Part != nil && f.Part.Upload != nil && f.Part.Upload.State.Protocol != "" {
			out.Protocol = f.Part.Upload.State.Protocol
		}
		if out.Protocol == bits.ProtocolAuto {
			out.Protocol = ""
		}
	}
	if m, ok := live[i]; ok && f.State == store.FilePending {
		out.BytesTransferred = m.Done
		if m.Size >= 0 {
			out.BytesTotal = bits.Size(m.Size)
		}
		out.BytesFromPeers, out.BytesFromCache = m.Peers, m.Cached
	} else if f.Part != nil {
		out.BytesFromPeers, out.BytesFromCache = f.Part.Peers, f.Part.Cached
	}
	if x := f.Extra; x != nil {
		out.Mirrors, out.OnlyIfNewer, out.Ranges = x.Mirrors, x.OnlyIfNewer, x.Ranges
	}
	out.Skipped, out.Validated = f.State == store.FileSkipped, f.State == store.FilePlaced
	if f.Part != nil {
		out.Note, out.Source, out.Validated = f.Part.Note, f.Part.Source, out.Validated || f.Part.Validated
	}
	if _, moves := live[i]; (begun(f) || moves) && !sends && f.State != store.FilePlaced && !v.rec.State.Final() {
		out.Temporary = v.path(i, f)
	}
	return out
}

// pendingFiles returns the files that are not transferred yet; of an upload its one file, which
// the reply and the end of the session need too.
func (v *version) pendingFiles() []store.FileRow {
	if v.rec.Type != bits.Download {
		return []store.FileRow{{Job: v.rec.Num, File: v.files[0]}}
	}
	rows := make([]store.FileRow, 0, len(v.files)-v.ready)
	for i, f := range v.files {
		if f.State == store.FilePending {
			rows = append(rows, store.FileRow{Job: v.rec.Num, Index: i, File: f})
		}
	}
	slices.SortStableFunc(rows, func(a, b store.FileRow) int { return urgency(b.File) - urgency(a.File) })
	return slices.Clip(rows)
}

// urgency is 1 for a file that somebody waits for parts of, else 0.
func urgency(f *store.File) int {
	if len(transfer.Wanted(f)) > 0 {
		return 1
	}
	return 0
}
