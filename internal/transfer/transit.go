package transfer

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/internal/extent"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

// transit is what there is of each file on its way, however it comes.
type transit struct {
	*run
	index     int // in the job
	f         store.File
	path      string            // of the part file
	validator httpget.Validator // of the bytes that are here; its size is that on the server
	modified  time.Time
	live      *liveFile
	answer    answer
	alone     bool // has the feed's claim
	restarts  int
	began     time.Time
	saved     time.Time // last checkpoint
}

// has makes the file's record one that says which bytes are here and durable.
func (t *transit) has(filled extent.Set) {
	part := store.Part{Total: t.validator.Size, Filled: filled, Headers: t.answer.text()}
	if t.validator.Usable() {
		part.ETag, part.LastModified = t.validator.ETag, t.validator.LastModified
	}
	if old := t.f.Part; old != nil {
		part.Note, part.Peak = old.Note, old.Peak
		part.Peers, part.Cached = old.Peers, old.Cached
		if len(old.Filled) > 0 {
			part.Digest = old.Digest
		}
	}
	t.f.Done = filled.Bytes()
	part.Peak = max(part.Peak, t.f.Done)
	t.f.Part = &part
}

// mustConfirm reports whether the server of a file of n bytes is asked once more, at the end, whether the file is
// still the same: a change of the file in place, under a running answer, shows in no header. A
// small file that came at once is spared the question; the server has it in one piece.
func (t *transit) mustConfirm(n int64) bool {
	named := t.validator.ETag != "" || t.validator.LastModified != ""
	return named && (n >= largeFile || time.Since(t.began) >= confirmAfter)
}

// confirmAfter is how long a small file may take without being confirmed.
const confirmAfter = time.Second

// wrongSum is the checksum of a file that should have another one.
type wrongSum string

func (w wrongSum) Error() string { return "the checksum is " + string(w) }

// errGone says that somebody deleted a part file, perhaps with its directory, while it was written.
var errGone = errors.New("the part file was deleted")

// seal ends a file all bytes of which are in its part file: it holds them against the checksum that is wanted, if one
// is, makes them durable, and reports the file as done. The error is a wrongSum or errGone where the caller has
// to throw away what is here.
func (t *transit) seal(ctx context.Context, file *localfile.Sparse, want string) error {
	if h := newHash(want); h != nil {
		if err := file.Hash(ctx, h, t.f.Size); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return localfile.Err(err, t.path)
		}
		algorithm, _, _ := strings.Cut(want, ":")
		if got := algorithm + ":" + hex.EncodeToString(h.Sum(nil)); got != want {
			return wrongSum(got)
		}
	}
	if err := file.Finish(t.f.Size, t.modified); err != nil {
		return localfile.Err(err, t.path)
	}
	if _, err := t.job.Owner.Watermark(t.path); errors.Is(err, fs.ErrNotExist) {
		return errGone
	}
	part := store.Part{Inode: file.Inode(), Headers: t.answer.text()}
	if old := t.f.Part; old != nil {
		part.Note, part.Peers, part.Cached = old.Note, old.Peers, old.Cached
	}
	t.f.State, t.f.Done, t.f.Part = store.FileDone, t.f.Size, &part
	f := t.f
	t.sink.File(t.index, &f)
	return nil
}
