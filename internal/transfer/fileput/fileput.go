// Package fileput uploads to files of this machine, and of shares that are mounted here: the URLs of
// package fileget (client.md 3.6).
//
// A target gets its name when all of it is there and durable, as a download does, and goes on after an
// interruption where it was durable. All is done with the rights of the job's owner.
package fileput

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/transfer/fileget"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// saveEvery bounds the work that a crash costs.
const saveEvery = time.Second

// Client uploads the file of one job.
type Client struct {
	Owner localfile.Owner
	// Part returns where the bytes of a target go until it is whole: in its directory.
	Part func(target string) string
	// Rights returns what the target gets of the source's rights; nil for those of a new file.
	Rights func() (*localfile.Rights, error)
}

var _ upload.Uploader = (*Client)(nil)

// target is a file that is uploaded to.
type target struct {
	*Client
	url        string
	path, part string
}

func (c *Client) target(url string) (*target, error) {
	path, err := fileget.Path(url)
	if err != nil {
		return nil, err
	}
	return &target{c, url, path, c.Part(path)}, nil
}

// err gives a failure to write the target its code: it is about the remote file.
func (t *target) err(err error) error {
	if err == nil {
		return nil
	}
	e := *localfile.Err(err, t.path)
	e.Context, e.File, e.Cause = bits.ContextRemoteFile, t.url, err
	return &e
}

// Upload implements upload.Uploader. The state has the inode of the part file as its ID, and as its
// offset what of it is durable.
func (c *Client) Upload(ctx context.Context, t *upload.Task) error {
	if t.State.Done {
		return nil
	}
	to, err := c.target(t.URL)
	if err != nil {
		return err
	}
	t.State.Protocol = upload.File
	if to.placed(t) {
		return to.done(t)
	}
	p, err := to.open(ctx, t)
	if err != nil {
		return err
	}
	if err := errors.Join(to.copy(ctx, t, p), to.err(p.Close())); err != nil {
		return err
	}
	if err := c.Owner.Place(to.part, to.path, p.Inode()); err != nil {
		return to.err(err)
	}
	return to.done(t)
}

// placed reports whether the target has its name, which a crash kept from being recorded.
func (t *target) placed(task *upload.Task) bool {
	inode, err := strconv.ParseUint(task.State.ID, 10, 64)
	if err != nil {
		return false
	}
	if _, err := t.Owner.Look(t.part); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	size, err := t.Owner.Watermark(t.path)
	return err == nil && size == task.Source.Size() && t.Owner.Place(t.part, t.path, inode) == nil
}

// open opens the part file where what is durable of it ends.
func (t *target) open(ctx context.Context, task *upload.Task) (*localfile.Part, error) {
	if err := t.Owner.Reclaim(t.part); err != nil {
		return nil, t.err(err)
	}
	st := &task.State
	known := st.ID != "" // a Cancel is told of the part file
	p, err := localfile.Open(ctx, t.part, localfile.Options{Owner: t.Owner, Keep: st.Offset, Size: task.Source.Size()})
	if err != nil {
		if !known {
			t.discard()
		}
		return nil, t.err(err)
	}
	if id := strconv.FormatUint(p.Inode(), 10); st.ID != id || p.Offset() < st.Offset {
		// It is another file, or was cut. What was durable is forgotten before other bytes come: after a
		// power loss they may not be there.
		err = t.err(p.Restart())
		if err == nil && st.ID != "" {
			st.ID, st.Offset = "", 0
			err = task.Save(*st)
		}
		if err == nil {
			st.ID = id
			err = task.Save(*st)
		}
	}
	if err != nil {
		err = errors.Join(err, t.err(p.Close()))
		if !known {
			t.discard()
		}
		return nil, err
	}
	return p, nil
}

// discard takes away an empty part file of which nothing is recorded. Opening a file may fail and yet have
// made it: the disk has no room for all of it, or a share refuses what it has just created.
func (t *target) discard() {
	if size, err := t.Owner.Watermark(t.part); err == nil && size == 0 {
		_ = t.Owner.Remove(t.part) // the failure before it is what counts
	}
}

// copy brings all bytes of the source into the part file and makes them durable.
func (t *target) copy(ctx context.Context, task *upload.Task, p *localfile.Part) error {
	size, saved := task.Source.Size(), time.Now()
	save := func() error {
		durable, err := p.Checkpoint()
		if err != nil {
			return t.err(err)
		}
		task.State.Offset, saved = durable, time.Now()
		return task.Save(task.State)
	}
	task.Sent(p.Offset())
	task.Connected()
	for p.Offset() < size {
		err := context.Cause(ctx)
		if err == nil {
			err = t.fill(task.Source, p, size)
		}
		if err != nil {
			return errors.Join(err, save())
		}
		task.Sent(p.Offset())
		if time.Since(saved) >= saveEvery {
			if err := save(); err != nil {
				return err
			}
		}
	}
	rights, err := t.Rights()
	if err != nil {
		return err
	}
	p.SetRights(rights)
	return t.err(p.Finish(task.Source.Modified()))
}

// fill copies the next bytes of the source.
func (t *target) fill(source io.ReaderAt, p *localfile.Part, size int64) error {
	space := p.Space()
	n, err := source.ReadAt(space[:min(int64(len(space)), size-p.Offset())], p.Offset())
	if n > 0 {
		return t.err(p.Advance(n))
	}
	if err == nil || err == io.EOF { // a source that is as it should be has more
		err = io.ErrUnexpectedEOF
	}
	return err
}

// done makes the target's name durable, and says so.
func (t *target) done(task *upload.Task) error {
	if err := t.Owner.SyncDir(filepath.Dir(t.path)); err != nil {
		return t.err(err)
	}
	task.State.Offset, task.State.Done = task.Source.Size(), true
	task.Sent(task.State.Offset)
	return task.Save(task.State)
}

// Close implements upload.Uploader; there is nobody to tell.
func (c *Client) Close(context.Context, *upload.Task) error { return nil }

// Cancel implements upload.Uploader: the part file goes.
func (c *Client) Cancel(_ context.Context, t *upload.Task) error {
	to, err := c.target(t.URL)
	if err != nil {
		return err
	}
	return to.err(c.Owner.Remove(to.part))
}
