package files

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io/fs"
	"time"
)

// stamp is what the file system tells of a version of a file.
type stamp struct {
	device, inode uint64
	size          int64
	mtime         int64 // Unix nanoseconds
	ctime         int64
}

// granule is how long after a change a further one may leave the same times behind: kernels take
// them from a clock that ticks every 1 to 10 ms, and some file systems keep whole seconds, of which
// FAT only the even ones.
func (s stamp) granule() time.Duration {
	if s.ctime%int64(time.Second) == 0 && s.mtime%int64(time.Second) == 0 {
		return 2 * time.Second
	}
	return 20 * time.Millisecond
}

// settles returns how long it takes from now until any further change of the file shows in its
// stamp; 0 or less means that it does already. Times in the future settle when they are past.
func (s stamp) settles(now time.Time) time.Duration {
	return time.Unix(0, max(s.mtime, s.ctime)).Add(s.granule()).Sub(now)
}

// etag returns the entity tag of the version. It is strong, so it must change with any byte, and
// it must survive restarts of the server and of the machine, so it is made of what the disk keeps.
// Time of modification and size alone would not do: tools that copy or restore set the time
// (rsync -t, cp -p, tar), so that another content can come with both unchanged. The time of the
// inode's change cannot be set, and a file that was put in the place of another has another
// inode. The price is that chmod or a new hard link changes the tag too, and a download begins
// again that could have gone on. Where the times are not settled the tag is weak, which no
// range request accepts.
func (s stamp) etag(settled bool) string {
	b := make([]byte, 0, 32)
	for _, n := range []uint64{s.inode, uint64(s.size), uint64(s.mtime), uint64(s.ctime)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	sum := sha256.Sum256(b) // so that it tells nothing of the disk
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	if !settled {
		return "W/" + tag
	}
	return tag
}

// modified is the time of modification that Last-Modified tells, in whole seconds: the zero time
// as long as another change could fall into the same second.
func (s stamp) modified(now time.Time) time.Time {
	m := time.Unix(0, s.mtime)
	if now.Sub(m) < 2*time.Second && m.Sub(now) < 2*time.Second {
		return time.Time{}
	}
	return m
}

// sameContent reports whether nobody wrote to the open file in between. The inode's change is
// not asked: a file that is replaced by a rename changes in that way while it is sent.
func (s stamp) sameContent(info fs.FileInfo) bool {
	return info.Size() == s.size && info.ModTime().UnixNano() == s.mtime
}
