package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
)

// Own makes the caller, an administrator, the owner of a job: what its transfers do from then on
// they do with the caller's rights. It returns what the job lost, as only the old owner may use it: the
// secrets, the headers, and what would run as the owner. What was fetched is copied, so that it
// belongs to the new owner; NewOwnerNoFileAccess says that the new owner may not do that.
func (q *Queue) Own(c Caller, id bits.ID) (dropped []string, err error) {
	var op *operation
	_, err = q.operate(c, id, func(t *tx, j *job, v *version) (*operation, error) {
		switch {
		case !c.Admin():
			return nil, denied("only an administrator takes a job over")
		case j.op != nil:
			return nil, busy(v)
		}
		if err := refused(v, bits.Decide(v.rec.State, bits.MethodTakeOwnership, v.facts()), "taken over"); err != nil {
			return nil, err
		}
		if v.rec.UID == c.UID {
			op = &operation{done: make(chan struct{})}
			close(op.done)
			return op, nil
		}
		op = t.begin(j, &operation{heir: &c.UID, by: &c})
		return op, nil
	})
	if err != nil {
		return nil, err
	}
	return op.dropped, nil
}

// handOver gives a job to its new owner.
func (q *Queue) handOver(j *job, v *version, op *operation) {
	heir := *op.heir
	inodes, err := copyParts(q.runs, q.as(v.rec.UID), q.as(heir), v)
	q.post(func(t *tx) error {
		if err != nil {
			t.finish(j, err)
			return nil
		}
		for i, inode := range inodes {
			f := *t.get(j).at(i)
			part := *f.Part
			part.Inode, f.Part = inode, &part
			t.setFile(j, i, &f)
		}
		was := v.rec.UID
		t.event(j, bits.EventModified, nil) // the last one that the old owner sees
		t.edit(j, func(r *store.Job, d *store.Detail) {
			op.dropped = forget(d)
			r.UID = heir
			d.Changed = changed(d, t.now)
		})
		t.event(j, bits.EventModified, nil)
		t.finish(j, nil)
		t.audit(*op.by, audit.Taken, j, "job was taken over", "from", q.names.name(was), "dropped", strings.Join(op.dropped, ","))
		return nil
	})
}

// forget removes what only the old owner of a job may use, and returns the names of that.
func forget(d *store.Detail) (dropped []string) {
	if slices.ContainsFunc(d.Secrets, func(s store.Secret) bool { return s.Kind == secretCredential || s.Kind == secretURL }) {
		dropped = append(dropped, "credentials")
	}
	if d.ClientCertificate != nil {
		dropped = append(dropped, "client_certificate")
	}
	if len(d.HeaderNames) > 0 {
		dropped = append(dropped, "headers")
	}
	d.Secrets, d.ClientCertificate, d.HeaderNames = nil, nil, nil
	if d.Notice != nil { // what the old owner's program said is that owner's affair; who was told stays so
		n := *d.Notice
		if n.Failed, n.Retry, n.Error = 0, 0, ""; n == (store.Notice{}) {
			d.Notice = nil
		} else {
			d.Notice = &n
		}
	}
	if d.Options == nil {
		return dropped
	}
	o := *d.Options // never changed in place
	if o.NotifyCommand != nil {
		o.NotifyCommand, dropped = nil, append(dropped, "notify_command")
	}
	if o.NotifyURL != nil { // it would be reached with the new owner's rights
		o.NotifyURL, dropped = nil, append(dropped, "notify_url")
	}
	if o.UseStoredCredentials != nil { // the old owner chose the proxy that would get the new one's
		o.UseStoredCredentials, dropped = nil, append(dropped, "use_stored_credentials")
	}
	d.Options = nil
	if o != (bits.Options{}) {
		d.Options = &o
	}
	return dropped
}

// heirName is where a part file is copied to, before it takes the place of the old owner's.
func heirName(local string, id bits.ID, index int) string {
	return filepath.Join(filepath.Dir(local), fmt.Sprintf(".%x-%d.ebbown", id[:6], index))
}

// copied is a part file on its way to the new owner of a job.
type copied struct {
	index     int
	tmp, part string
	inode     uint64
	done      bool
}

// copyParts makes the part files of a job the new owner's, all or none but for a crash, and returns
// the inodes of those that are finished.
func copyParts(ctx context.Context, from, to localfile.Owner, v *version) (inodes map[int]uint64, err error) {
	if from == to {
		return nil, nil
	}
	refuse := func(err error, file string) error {
		if localfile.Err(err, file).Code != bits.AccessDenied {
			return localfile.Err(err, file)
		}
		return &bits.Error{Code: bits.NewOwnerNoFileAccess, Context: bits.ContextLocalFile, File: file, Cause: err,
			Message: "the new owner may not use " + file + ": " + err.Error()}
	}
	if v.rec.Type != bits.Download && len(v.files) > 0 && v.unfinished() > 0 {
		if _, err := transfer.CheckSource(to, v.files[0].Local); err != nil {
			return nil, refuse(err, v.files[0].Local)
		}
		if err := transfer.Restart(from, v.rec.ID, v.files[0]); err != nil {
			return nil, refuse(err, v.files[0].Remote)
		}
	}
	var all []copied
	defer func() {
		if err != nil {
			for _, c := range all {
				_ = to.Remove(c.tmp)
			}
		}
	}()
	var dirs []string
	for i, f := range v.fetched() {
		if f.State == store.FilePlaced {
			continue
		}
		dir := filepath.Dir(f.Local)
		if !slices.Contains(dirs, dir) {
			if err := to.CheckDir(dir); err != nil {
				return nil, refuse(err, f.Local)
			}
			dirs = append(dirs, dir)
		}
		c := copied{index: i, part: v.path(i, f), tmp: heirName(f.Local, v.rec.ID, i), done: f.State == store.FileDone}
		if f.Part == nil {
			continue
		}
		if kind, err := from.Look(c.part); err != nil || kind != localfile.Regular {
			continue // it is gone, and will be fetched again
		}
		if c.inode, err = copyPart(ctx, from, to, c, v.aclFlags()); err != nil {
			return nil, refuse(err, f.Local)
		}
		all = append(all, c)
	}
	inodes = map[int]uint64{}
	for _, c := range all {
		err := to.Place(c.tmp, c.part, c.inode)
		if err != nil { // a sticky directory: only its owner takes a name away
			if err = from.Remove(c.part); err == nil {
				err = to.Place(c.tmp, c.part, c.inode)
			}
		}
		if err != nil {
			return nil, refuse(err, c.part)
		}
		if c.done {
			inodes[c.index] = c.inode
		}
	}
	for _, dir := range dirs {
		if err := to.SyncDir(dir); err != nil {
			return nil, localfile.Err(err, dir)
		}
	}
	return inodes, nil
}

// copyPart copies one part file. Who may use a finished one stays as the job's flags had it.
func copyPart(ctx context.Context, from, to localfile.Owner, c copied, flags bits.ACLFlags) (inode uint64, err error) {
	src, err := from.Open(c.part)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return 0, err
	}
	dst, err := localfile.Open(ctx, c.tmp, localfile.Options{Owner: to, Size: info.Size()})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if c.done {
		rights, err := localfile.RightsOf(src, flags&bits.ACLDACL)
		if err != nil {
			return 0, err
		}
		dst.SetRights(rights)
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, ErrClosed
		}
		n, err := src.Read(dst.Space())
		if aerr := dst.Advance(n); aerr != nil {
			return 0, aerr
		}
		if err == io.EOF {
			return dst.Inode(), dst.Finish(info.ModTime())
		}
		if err != nil {
			return 0, err
		}
	}
}
