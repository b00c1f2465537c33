package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
	"github.com/ebbtransfer/ebb/internal/transfer/fileget"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// secondFile refuses more than one file in an upload.
func secondFile() error {
	return &bits.Error{Code: bits.TooManyFiles, Context: bits.ContextGeneralQueueManager}
}

// checkSource validates the file to be uploaded.
func checkSource(owner localfile.Owner, kind bits.Type, specs []bits.FileSpec) ([]*store.File, error) {
	if len(specs) > 1 {
		return nil, secondFile()
	}
	s := &specs[0]
	if e := s.Check(kind); e != nil {
		return nil, e
	}
	if s.Checksum != "" {
		return nil, &bits.Error{Code: bits.NotImplemented, Context: bits.ContextLocalFile, File: s.Local, Message: "an upload takes no checksum"}
	}
	size, err := transfer.CheckSource(owner, s.Local)
	if err != nil {
		return nil, err
	}
	return []*store.File{{Remote: s.Remote, Local: s.Local, Size: size}}, nil
}

// checkUpload refuses settings that a job of a type cannot have. files are those that it begins
// with.
func checkUpload(owner localfile.Owner, kind bits.Type, s *bits.Settings, files []*store.File) error {
	switch {
	case s.Protocol != nil && kind == bits.Download:
		return bits.Errorf(bits.NotImplemented, "only uploads have a protocol")
	case s.Protocol != nil && kind == bits.UploadReply && *s.Protocol != bits.ProtocolBITS && *s.Protocol != bits.ProtocolAuto:
		return bits.Errorf(bits.InvalidArg, "a reply comes with the protocol bits only, not with %s", *s.Protocol)
	case s.ReplyFile != nil && kind != bits.UploadReply:
		return bits.Errorf(bits.NotImplemented, "only jobs of type %s have a reply", bits.UploadReply)
	case s.ReplyFile == nil || *s.ReplyFile == "":
		return nil
	}
	if err := checkReplyFile(owner, *s.ReplyFile); err != nil {
		return err
	}
	if len(files) > 0 {
		return replyOverFile(*s.ReplyFile, files[0].Local)
	}
	return nil
}

// checkReplyFile says whether the owner can make a file at path.
func checkReplyFile(owner localfile.Owner, path string) error {
	if err := owner.CheckDir(filepath.Dir(path)); err != nil {
		return notMade(err, path)
	}
	if kind, err := owner.Look(path); err == nil && kind != localfile.Regular {
		e := bits.Errorf(bits.InvalidArg, "%s is not a file that can be replaced", path)
		e.Context, e.File = bits.ContextLocalFile, path
		return e
	}
	return nil
}

// replyOverFile refuses a reply that would replace the file it is the reply to.
func replyOverFile(reply, local string) error {
	if reply == "" || reply != local {
		return nil
	}
	return &bits.Error{Code: bits.InvalidArg, Context: bits.ContextLocalFile, File: local, Message: fmt.Sprintf("the reply would replace the uploaded file %s", local)}
}

// typeOf returns the type of a job, which never changes, and with whose rights its files are used.
func (q *Queue) typeOf(c Caller, id bits.ID) (bits.Type, localfile.Owner, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	j := q.byID[id]
	if j == nil || !c.may(j.now.rec.UID) {
		return 0, localfile.Owner{}, noSuchJob(id.String())
	}
	if !c.Changes(j.now.rec.UID) {
		return 0, localfile.Owner{}, noChange() // before files are looked at with root's rights
	}
	return j.now.rec.Type, q.as(j.now.rec.UID), nil
}

// setUpload asks the state machine for the settings that only uploads have.
func (t *tx) setUpload(j *job, v *version, s *bits.Settings) error {
	if s.Protocol != nil && *s.Protocol != v.protocol() {
		if err := t.setProtocol(j, v); err != nil {
			return err
		}
	}
	if s.ReplyFile == nil || *s.ReplyFile == v.detail().ReplyFile {
		return nil
	}
	facts := v.facts()
	if m, ok := j.moving()[transfer.ReplyIndex]; ok && m.Size >= 0 { // the record tells of it later
		facts.ReplyStarted = true
	}
	if err := refused(v, bits.Decide(v.rec.State, bits.MethodSetReplyFileName, facts), "given another reply file"); err != nil {
		return err
	}
	if len(v.files) > 0 {
		if err := replyOverFile(*s.ReplyFile, v.files[0].Local); err != nil {
			return err
		}
	}
	if j.run != nil { // it was told the old name
		t.then = append(t.then, j.run.stop)
	}
	return nil
}

// checkMethod refuses a method of the job's own where the protocol of its upload to the files has its own.
func (v *version) checkMethod(files []*store.File) error {
	if v.rec.Type == bits.Download || v.httpMethod() == "" {
		return nil
	}
	p := v.protocol()
	for _, f := range files {
		switch scheme, _, _ := strings.Cut(f.Remote, ":"); {
		case fileget.Is(f.Remote):
			p = bits.ProtocolFile
		case p == bits.ProtocolAuto && strings.EqualFold(scheme, "s3"):
			p = bits.ProtocolS3
		}
	}
	switch p {
	case bits.ProtocolBITS, bits.ProtocolPut, bits.ProtocolAuto:
		return nil
	}
	return bits.Errorf(bits.NotWithCustomMethod, "an upload by the protocol %s has its own methods, and not %s; with a method of the job's own go the protocols %s, %s and %s", p, v.httpMethod(),
		bits.ProtocolBITS, bits.ProtocolPut, bits.ProtocolAuto)
}

// setProtocol makes a job ready for another protocol, or refuses: what a server has of an upload
// is of no use by another one.
func (t *tx) setProtocol(j *job, v *version) error {
	up := v.begun()
	if j.run != nil || j.op != nil || v.done > 0 || up != nil && (up.Closed || up.State.Done || up.State.Offset > 0 || transfer.Open(up)) {
		return refused(v, bits.Decide(v.rec.State, bits.MethodSetBeforeResume, v.facts()), "changed")
	}
	if up == nil {
		return nil
	}
	f := *v.files[0]
	part, fresh := *f.Part, *up
	fresh.State = upload.State{} // it may name the protocol that auto chose
	part.Upload, f.Part = &fresh, &part
	t.setFile(j, 0, &f)
	return nil
}

// ReplyData returns the reply of an upload-reply job that is TRANSFERRED or completed; it is empty
// if the server had nothing to say. One of more than bits.MaxReplyData bytes is TooLarge.
func (q *Queue) ReplyData(c Caller, id bits.ID) ([]byte, error) {
	q.mu.RLock()
	j := q.byID[id]
	if j == nil || !c.may(j.now.rec.UID) {
		q.mu.RUnlock()
		return nil, noSuchJob(id.String())
	}
	v := j.now
	q.mu.RUnlock()
	if !c.Changes(v.rec.UID) {
		return nil, noChange() // it is a file that only root may read
	}
	if err := refused(v, bits.Decide(v.rec.State, bits.MethodGetReplyData, v.facts()), "asked for its reply"); err != nil {
		return nil, err
	}
	if v.reply == nil {
		return nil, nil
	}
	if v.reply.Size > bits.MaxReplyData {
		e := bits.Errorf(bits.TooLarge, "the reply has %d bytes; as data %d can be had, all of it is in %s", v.reply.Size, bits.MaxReplyData, v.reply.Local)
		e.Context = bits.ContextGeneralQueueManager
		return nil, e
	}
	owner := q.as(v.rec.UID)
	f, err := owner.Open(transfer.PartName(v.reply.Local, v.rec.ID, transfer.ReplyIndex))
	if errors.Is(err, os.ErrNotExist) { // a Complete is faster
		f, err = owner.Open(v.reply.Local)
	}
	if err != nil {
		return nil, lostReply(v, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, bits.MaxReplyData+1))
	if err == nil && int64(len(data)) != v.reply.Size {
		err = fmt.Errorf("it has %d bytes, the reply had %d", len(data), v.reply.Size)
	}
	if err != nil {
		return nil, lostReply(v, err)
	}
	return data, nil
}

func lostReply(v *version, err error) error {
	e := &bits.Error{Code: bits.FileNotFound, Context: bits.ContextLocalFile, File: v.reply.Local, Cause: err,
		Message: fmt.Sprintf("the reply file %s is gone or was changed", v.reply.Local)}
	if errors.Is(err, os.ErrPermission) {
		e.Code, e.Message = bits.AccessDenied, ""
	}
	return e
}

const (
	// farewellTime is for how long the server of a cancelled upload is told at most (client.md 5.1).
	farewellTime = 24 * time.Hour
	// farewellLimit is how long one attempt may take.
	farewellLimit = 2 * time.Minute
	// mostPartings bounds the servers that are told at once.
	mostPartings = 8
	// farewellDelay and maxFarewellDelay are the first and the longest pause between attempts: the
	// server may be back soon, and holds what nobody wants.
	farewellDelay    = 5 * time.Second
	maxFarewellDelay = 10 * time.Minute
)

// leaves reports whether the job is over but for its server, which has to be told.
func (v *version) leaves() bool {
	return v.rec.Detail != nil && v.rec.Detail.Farewell != 0 && v.rec.State.Final()
}

// part tells the server of a cancelled job to forget what it has of the upload.
func (q *Queue) part(j *job, v *version) {
	j.parting = true
	known, err := q.open(v)
	spec := transfer.Job{ID: j.id, Owner: q.as(v.rec.UID), Type: v.rec.Type, Protocol: v.protocol(), Method: v.httpMethod(), Header: known.header, Class: terms(v.rec.Priority), Files: v.pendingFiles(), Access: q.access(v, known)}
	q.work.Go(func() {
		var out transfer.Outcome
		select {
		case q.partings <- struct{}{}:
			ctx, cancel := context.WithTimeout(q.runs, farewellLimit)
			if out.Err = asError(err); err == nil {
				out = q.engine.Cancel(ctx, spec)
			}
			cancel()
			<-q.partings
		case <-q.runs.Done():
		}
		if q.runs.Err() != nil {
			return // the next start goes on
		}
		q.post(func(t *tx) error {
			q.parted(t, j, out)
			return nil
		})
	})
}

// parted decides whether the server of a cancelled job is told once more.
func (q *Queue) parted(t *tx, j *job, out transfer.Outcome) {
	j.parting = false
	t.unwind = append(t.unwind, func() { q.enroll(j, j.now, t.now) })
	v := t.get(j)
	d := v.detail()
	next := int64(0)
	switch since := time.Duration(t.now.UnixNano() - d.Finished); {
	case out.Err == nil && !out.Stopped:
		q.log.Info("server told of the cancelled upload", "job", j.id, "name", v.rec.Name)
	case out.Err != nil && out.Err.Code.Class() == bits.Fatal, since >= min(farewellTime, v.noProgressTimeout()):
		q.log.Warn("server could not be told of the cancelled upload", "job", j.id, "name", v.rec.Name, "err", out.Err)
	default:
		pause := min(farewellDelay<<min(d.Attempts, 10), maxFarewellDelay)
		wait := max(pause+rand.N(pause/4), out.RetryAfter)
		next = t.now.Add(wait).UnixNano()
		q.log.Debug("server is told of the cancelled upload later", "job", j.id, "in", wait, "err", out.Err)
	}
	t.edit(j, func(_ *store.Job, d *store.Detail) {
		d.Farewell = next
		d.Attempts++
	})
}
