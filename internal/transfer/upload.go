package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/fileget"
	"github.com/ebbtransfer/ebb/internal/transfer/fileput"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// ReplyIndex is the index of the reply among the files of an upload-reply job.
const ReplyIndex = 1

// ReplyName returns the path of the reply to a file, where the job's owner gave none: beside the
// file, and different for every job.
func ReplyName(local string, id bits.ID) string {
	dir, base := filepath.Split(local)
	tail := fmt.Sprintf(".%x.reply", id[:6])
	return filepath.Join(dir, base[:min(len(base), 255-len(tail))]+tail)
}

// sending is an upload on its way.
type sending struct {
	*run
	index    int
	live     *liveFile
	answer   answer
	uploader upload.Uploader
	task     upload.Task

	mu    sync.Mutex // guards what follows: a protocol may move parts side by side
	f     store.File
	up    store.Upload
	saved time.Time // when the record was last reported
}

// upload moves the file of an upload job to its server, fetches the reply if there is to be one,
// and tells the server that all is done (client.md 3.6, server.md 1.6).
func (r *run) upload(ctx context.Context) error {
	row := r.job.Files[0]
	ctx = abroad(ctx, row.Remote)
	s := &sending{run: r, index: row.Index, f: *row.File}
	begun := s.f.Part != nil && s.f.Part.Upload != nil
	if begun {
		s.up = *s.f.Part.Upload
	}
	s.live = r.live.begin(row.Index, row.File, nil)
	defer r.live.end(row.Index)
	s.answer.begin(&s.f, s.live)
	s.task = upload.Task{
		URL: s.f.Remote, Header: r.job.Header, Method: r.job.Method, Class: r.job.Class, State: s.up.State, Stall: r.stallTime, Reply: r.job.Type == bits.UploadReply,
		Save: s.save, Sent: s.sent, Connected: func() { r.once.Do(r.sink.Connected) }, On: r.live.took,
		Answered: s.answer.came, Waits: &r.live.asking, Note: s.note,
	}
	if !s.up.State.Done {
		if err := s.send(ctx, begun); err != nil {
			s.leave()
			return err
		}
	}
	if err := s.choose(); err != nil {
		return err
	}
	if r.job.Type == bits.UploadReply {
		if err := s.reply(ctx); err != nil {
			return err
		}
	}
	if s.up.Closed {
		return nil
	}
	if err := s.try(ctx, s.uploader.Close); err != nil {
		s.leave()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up.Closed = true
	s.report()
	return nil
}

// choose sets the uploader: that of the protocol that the upload began with, else the job's.
func (s *sending) choose() error {
	p := cmp.Or(s.task.State.Protocol, s.job.Protocol)
	s.live.fixed.Store(p == upload.Put || s.job.Method != "")
	var err error
	s.uploader, err = s.uploaderFor(&s.job, p, func() (*localfile.Rights, error) {
		return localfile.RightsOf(s.task.Source.(*source).f, s.job.ACLFlags)
	})
	return err
}

// uploaderFor returns what carries a protocol out. rights are those for a target that is a file.
func (e *Engine) uploaderFor(job *Job, p upload.Protocol, rights func() (*localfile.Rights, error)) (upload.Uploader, error) {
	if f := job.Files[0]; fileget.Is(f.Remote) {
		if p != upload.File && p != upload.Auto && p != upload.BITS { // of which the last is what nobody chose
			return nil, &bits.Error{Code: bits.InvalidArg, Context: bits.ContextRemoteFile, File: f.Remote,
				Message: fmt.Sprintf("the target is a file, to which nothing can be sent with the protocol %s", p)}
		}
		return &fileput.Client{Owner: job.Owner, Rights: rights, Part: func(target string) string { return PartName(target, job.ID, f.Index) }}, nil
	}
	u, ok := e.uploaders[p]
	if !ok {
		return nil, &bits.Error{Code: bits.NotImplemented, Context: bits.ContextGeneralQueueManager, Message: fmt.Sprintf("ebb does not upload with the protocol %q", p)}
	}
	return u, nil
}

// send moves the file until the server has confirmed all of it.
func (s *sending) send(ctx context.Context, begun bool) error {
	src, err := openSource(s.job.Owner, s.f.Local)
	if err != nil {
		return err
	}
	defer src.Close()
	if begun {
		was := localfile.Version{Size: s.f.Size, Modified: s.up.Modified, Changed: s.up.Changed, Inode: s.up.Inode}
		if was != src.want {
			return src.changed()
		}
	} else if err := s.begin(ctx, src); err != nil {
		return err
	}
	s.task.Source = src
	if err := s.choose(); err != nil {
		return err
	}
	if err := s.try(ctx, s.uploader.Upload); err != nil {
		return err
	}
	s.task.Source = nil // for Close it may be gone
	s.task.State.Done = true
	s.sent(src.Size())
	s.mu.Lock()
	saved := s.up.State.Done
	s.mu.Unlock()
	if saved {
		return nil
	}
	return s.save(s.task.State)
}

// begin records which file it is that is uploaded.
func (s *sending) begin(ctx context.Context, src *source) error {
	if err := src.settle(ctx); err != nil {
		return err
	}
	s.up = store.Upload{Modified: src.want.Modified, Changed: src.want.Changed, Inode: src.want.Inode}
	s.f.Size, s.f.Done, s.f.Part = src.Size(), 0, &store.Part{}
	s.live.size.Store(s.f.Size)
	s.live.done.Store(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report() // durable with the session, or with whatever else is the first to be saved
	return nil
}

// try calls an uploader, and again at once when a connection broke, a few times without progress.
func (s *sending) try(ctx context.Context, do func(context.Context, *upload.Task) error) error {
	for tries := 0; ; {
		s.mu.Lock()
		before := s.best()
		s.mu.Unlock()
		err := do(ctx, &s.task)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.mu.Lock()
		if s.best() > before {
			tries = 0
		}
		s.mu.Unlock()
		if tries++; !quick(err) || tries > quickTries {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(float64(quickPause) * (0.5 + rand.Float64()))):
		}
	}
}

// best is how far the server ever acknowledged the file.
func (s *sending) best() int64 {
	if s.f.Part == nil {
		return 0
	}
	return max(s.f.Part.Peak, acknowledged(s.up.State))
}

// acknowledged returns how many bytes a server has by a protocol's state.
func acknowledged(st upload.State) int64 {
	var parts int64
	for _, p := range st.Parts {
		if p.ETag != "" {
			parts += p.Size
		} else {
			parts += p.Offset
		}
	}
	return max(st.Offset, parts)
}

// saveEvery bounds how often a mere offset is recorded. It need not be durable at once: the
// server knows it better.
const saveEvery = time.Second

// save is the task's Save.
func (s *sending) save(st upload.State) error {
	st.Parts = slices.Clone(st.Parts) // the protocol goes on with its own
	s.mu.Lock()
	old := s.up.State
	again := old.ID != "" && st.ID != old.ID || old.URL != "" && st.URL != old.URL
	if again && !st.Done && s.job.Method == "" {
		s.setNote("what was sent is not there any more; the upload was started again")
	}
	if st.Done {
		s.f.State, st.Offset = store.FileDone, s.f.Size
	}
	s.up.State = st
	s.live.fixed.Store(st.Protocol == upload.Put || s.job.Method != "")
	if !st.Done && same(old, st) {
		defer s.mu.Unlock()
		if time.Since(s.saved) >= saveEvery {
			s.report()
		}
		return nil
	}
	f := s.record()
	s.mu.Unlock()
	return s.sink.Save(s.index, f)
}

// note is the task's Note.
func (s *sending) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setNote(text)
}

// setNote changes the note of the next record; mu is held. The last one is not ours any more.
func (s *sending) setNote(text string) {
	part := *s.f.Part
	part.Note = text
	s.f.Part = &part
}

// same reports whether two states say the same but for how far the upload is.
func same(a, b upload.State) bool { return reflect.DeepEqual(still(a), still(b)) }

// still returns a state without what the server knows better.
func still(st upload.State) upload.State {
	st.Offset = 0
	st.Parts = slices.Clone(st.Parts)
	for i := range st.Parts {
		st.Parts[i].Offset = 0
	}
	return st
}

// record returns the file's record as it is now; mu is held.
func (s *sending) record() *store.File {
	part := *s.f.Part
	up := s.up
	part.Upload, part.Headers = &up, s.answer.text()
	s.f.Done = acknowledged(up.State)
	part.Peak = max(part.Peak, s.f.Done)
	s.f.Part = &part
	s.saved = time.Now()
	f := s.f
	return &f
}

// report tells the file's record without waiting; mu is held.
func (s *sending) report() { s.sink.File(s.index, s.record()) }

// sent is the task's Sent.
func (s *sending) sent(offset int64) {
	was := s.live.done.Swap(offset)
	if offset > was {
		s.run.live.moved.Add(offset - was)
	}
}

// leave records how far the server acknowledged the file that cannot go on, and what it said last.
func (s *sending) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f.Part == nil || s.f.Part.Upload == nil {
		return // it never began
	}
	if s.f.Done != acknowledged(s.up.State) || s.f.Part.Headers != s.answer.text() {
		s.report()
	}
}

// reply fetches the reply into its part file, as a download.
func (s *sending) reply(ctx context.Context) error {
	remote, err := s.replyURL()
	if err != nil {
		return err
	}
	f, err := s.replyRecord(remote)
	if err != nil || f.State != store.FilePending {
		return err
	}
	if remote == "" {
		return s.emptyReply(ctx, f)
	}
	row := store.FileRow{Index: ReplyIndex, File: f}
	r := s.newRun(Job{ID: s.job.ID, Owner: s.job.Owner, Header: s.replyHeader(remote), Class: s.job.Class, Files: []store.FileRow{row}}, s.sink, s.run.live)
	r.once.Do(func() {}) // that bytes flow was said when the file went
	s.once.Do(s.sink.Connected)
	i, alone, _ := r.feed.take()
	return r.fetch(httpconn.OnRedirect(ctx, upload.Allowed), i, alone)
}

// replyURL returns where the reply is; empty if there is none. The protocol made the URL of what the
// server said: it is not less safe than the upload's.
func (s *sending) replyURL() (string, error) {
	raw := s.task.State.Reply
	if raw == "" {
		return "", nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || len(raw) > bits.MaxURLLen {
		return "", &bits.Error{Code: bits.InvalidServerResponse, Context: bits.ContextRemoteFile, File: s.f.Remote,
			Message: fmt.Sprintf("the server names a reply at %.200q, which is no http or https URL", bits.RedactURL(raw))}
	}
	u.User = nil
	if from, err := url.Parse(s.f.Remote); err == nil && httpconn.SameOrigin(from, u) {
		u.User = from.User // whose password the job has
	}
	return u.String(), nil
}

// replyHeader returns the headers of the job's owner if the reply is at the server of the upload: they are
// for no other.
func (s *sending) replyHeader(remote string) http.Header {
	from, err := url.Parse(s.f.Remote)
	if err != nil {
		return nil
	}
	if to, err := url.Parse(remote); err != nil || !httpconn.SameOrigin(from, to) {
		return nil
	}
	return s.job.Header
}

// replyRecord returns the record of the reply, which it makes if there is none that fits.
func (s *sending) replyRecord(remote string) (*store.File, error) {
	old := s.job.Reply
	if old != nil && old.Local == s.job.ReplyFile && old.Remote == remote {
		return old, nil
	}
	if old != nil { // another name, or another upload's
		if old.State == store.FilePlaced {
			return old, nil
		}
		if err := s.job.Owner.Remove(PartName(old.Local, s.job.ID, ReplyIndex)); err != nil {
			return nil, localfile.Err(err, old.Local)
		}
	}
	f := &store.File{Remote: remote, Local: s.job.ReplyFile, Size: -1, Part: &store.Part{}}
	return f, s.sink.Save(ReplyIndex, f)
}

// emptyReply makes the reply file of a server that has nothing to say.
func (s *sending) emptyReply(ctx context.Context, f *store.File) error {
	path := PartName(f.Local, s.job.ID, ReplyIndex)
	part, err := localfile.Open(ctx, path, localfile.Options{Owner: s.job.Owner, Size: 0})
	if err == nil {
		err = errors.Join(part.Finish(time.Time{}), part.Close())
	}
	if err != nil {
		return localfile.Err(err, path)
	}
	done := *f
	done.State, done.Size, done.Part = store.FileDone, 0, &store.Part{Inode: part.Inode()}
	s.sink.File(ReplyIndex, &done)
	return nil
}

// Restart has an upload to a file begin anew, for another owner: what is there belongs to the old one.
func Restart(owner localfile.Owner, id bits.ID, f *store.File) error {
	if !fileget.Is(f.Remote) {
		return nil
	}
	path, err := fileget.Path(f.Remote)
	if err != nil {
		return err
	}
	return owner.Remove(PartName(path, id, 0))
}

// Cancel tells the server of a cancelled job to forget the upload.
func (e *Engine) Cancel(ctx context.Context, job Job) Outcome {
	f := job.Files[0]
	access, err := e.http.Open(job.Access)
	if err != nil {
		return outcome(err)
	}
	defer access.Close()
	ctx = abroad(access.With(ctx), f.Remote)
	u, err := e.uploaderFor(&job, cmp.Or(f.Part.Upload.State.Protocol, job.Protocol), nil)
	if err == nil {
		err = u.Cancel(ctx, &upload.Task{
			URL: f.Remote, Header: job.Header, Method: job.Method, Class: job.Class, State: f.Part.Upload.State, Stall: e.stallTime, Reply: job.Type == bits.UploadReply,
			Save: func(upload.State) error { return nil }, Sent: func(int64) {}, Connected: func() {}, On: func(*governor.Conn) {}, Answered: func(*http.Response) {}, Waits: &httpconn.Waits{},
		})
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return outcome(err)
}

// Open reports whether a server still holds something of an upload that it should be told to
// forget. A finished upload of the other protocols is the file itself.
func Open(u *store.Upload) bool {
	if u == nil || u.Closed {
		return false
	}
	s := u.State
	return (s.ID != "" || s.URL != "" || len(s.Parts) > 0) && (!s.Done || s.Protocol == upload.BITS)
}
