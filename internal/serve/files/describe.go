package files

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/hashstore"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrtp"
)

// Describing gives content information in the place of files to clients that ask for it (PCCRTP,
// peercache.md 6). Whoever may not read a file does not come here: content information is as precious as
// the file, since it has the keys that its blocks travel under.
type Describing struct {
	Origin    *Origin
	PlainHTTP bool // also over connections that others can read
	Second    bool // of version 2, to clients that know it
}

// Origin is what all groups share that describe their files: hashes, and the keys of the server.
type Origin struct {
	hashes *hashstore.Store
	keys   map[peerdist.Algorithm]peerdist.Secret
	count  func(answer string, bytes int64)
	memory atomic.Int64 // bytes of content information under way
}

// NewOrigin makes an origin with the server's secret. count is told of each answer to a client that speaks
// the protocol: "v1" or "v2" with the bytes that content information stands for, "not_ready", "none" for
// files that are not described, or "missing" of a request for bytes that no peer had.
func NewOrigin(hashes *hashstore.Store, secret []byte, count func(answer string, bytes int64)) *Origin {
	o := &Origin{hashes: hashes, count: count, keys: map[peerdist.Algorithm]peerdist.Secret{}}
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
		o.keys[a] = a.ServerKey(secret)
	}
	return o
}

const (
	// hashPatience is how long a client that asks again waits for what is being made (section 6.3).
	hashPatience = 2 * time.Second
	// largestSecond is of what size a file is described in version 2 at most: a key is derived for each
	// 64 KiB, which takes 0.2 s of a core for as much. In version 1 it is one for each 32 MiB.
	largestSecond = 4 << 30
	// largestFirst is the largest file whose content information clients take: 32 bytes for 64 KiB.
	largestFirst = peerdist.MaxInfo / 33 * peerdist.BlockSize
	// mostMemory bounds the content information that is sent at the same time. Whoever comes when there is
	// more gets the file.
	mostMemory = 256 << 20
)

// description is a file's content information, for an answer that is not begun.
type description struct {
	origin *Origin
	hashes *peerdist.Hashes
	answer pccrtp.Answer
	taken  int64
}

// close gives back what the description took.
func (d *description) close() { d.origin.memory.Add(-d.taken) }

// describe decides whether a request is answered with content information, by the table in section 6.3; nil
// is the file. It sets what both answers have.
func (g *Describing) describe(w http.ResponseWriter, r *http.Request, s stamp, settled bool, open hashstore.Open) *description {
	if g == nil || r.TLS == nil && !g.PlainHTTP {
		return nil
	}
	head := w.Header()
	head.Add("Vary", pccrtp.Vary)
	want, ok := pccrtp.Wanted(r)
	if !ok {
		if pccrtp.Missing(r) {
			g.Origin.count("missing", 0)
		}
		return nil
	}
	answer := pccrtp.Answer{Version: want.Version}
	d, err := g.Origin.describe(r, s, settled, want, g.Second, open)
	if err == nil {
		d.answer = answer
		return d
	}
	if errors.Is(err, hashstore.ErrNotReady) {
		// A client of version 1.0 does not know the header: it asks again in any case.
		answer.MakeHash = want.Version.Compare(pccrtp.Version11) >= 0
		g.Origin.count("not_ready", 0)
	} else {
		g.Origin.count("none", 0)
	}
	answer.Set(head) // so that the client goes on to ask for other files
	return nil
}

// errPlain says that a file is not described, or not now.
var errPlain = errors.New("the file is not described")

func (o *Origin) describe(r *http.Request, s stamp, settled bool, want pccrtp.Want, second bool, open hashstore.Open) (*description, error) {
	// Without a validator nothing binds a description to a version. Several ranges have no description
	// (section 6.4).
	if !settled || s.size < pccrtp.LeastSize || s.size > largestFirst || noStore(r) || strings.Contains(r.Header.Get("Range"), ",") {
		return nil, errPlain
	}
	a, each := peerdist.SHA256, int64(100) // bytes of memory that a block of 64 KiB takes
	if second && want.Second && s.size <= largestSecond {
		a, each = peerdist.TruncatedSHA512, 400
	}
	d := &description{origin: o, taken: s.size / peerdist.BlockSize * each}
	if o.memory.Add(d.taken) > mostMemory {
		d.close()
		return nil, errPlain
	}
	wait := time.Duration(0)
	if want.Hash {
		wait = hashPatience
	}
	var err error
	if d.hashes, err = o.hashes.Hashes(r.Context(), s.key(), a, open, wait); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// noStore reports whether a client wants nobody to keep what it gets.
func noStore(r *http.Request) bool {
	return strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Cache-Control"), ",")), "no-store")
}

// key is the version of the file for those who keep hashes.
func (s stamp) key() hashstore.Key {
	return hashstore.Key{Device: s.device, Inode: s.inode, Size: s.size, Modified: s.mtime, Changed: s.ctime}
}

// reopen returns how a file is opened another time, to be hashed after the request ended.
func (h *Handler) reopen(name string) hashstore.Open {
	return func() (*os.File, hashstore.Key, error) {
		f, info, err := h.open(name)
		if err != nil {
			return nil, hashstore.Key{}, err
		}
		if !info.Mode().IsRegular() {
			_ = f.Close()
			return nil, hashstore.Key{}, os.ErrInvalid
		}
		return f, stampOf(info).key(), nil
	}
}

// describer puts content information into the place of the bytes of an answer. What was asked for, and with
// which conditions, is for http.ServeContent to know: the describer waits for what it says.
type describer struct {
	*writer
	*description
	body []byte // nil: the answer is another than the file or a part of it, and stays as it is
}

// WriteHeader implements http.ResponseWriter.
func (w *describer) WriteHeader(status int) {
	head := w.Header()
	part := bits.Range{Length: w.hashes.Size}
	ok := status == http.StatusOK
	if status == http.StatusPartialContent {
		part, ok = contentRange(head.Get("Content-Range"))
	}
	if ok {
		a := w.hashes.Algorithm
		if info, err := w.hashes.Info(w.origin.keys[a], part); err == nil {
			w.body = info.Append(make([]byte, 0, info.Size()))
			w.answer.Encoded, w.answer.Length = true, part.Length
			w.answer.Set(head)
			head.Set("Content-Length", strconv.Itoa(len(w.body)))
			head.Set("Cache-Control", "no-transform")
			w.origin.count("v"+strconv.Itoa(a.Version()), part.Length)
		}
	}
	w.writer.WriteHeader(status)
}

// contentRange reads "bytes FIRST-LAST/TOTAL", as http.ServeContent writes it.
func contentRange(text string) (r bits.Range, ok bool) {
	text, ok = strings.CutPrefix(text, "bytes ")
	text, _, slash := strings.Cut(text, "/")
	first, last, dash := strings.Cut(text, "-")
	a, errA := strconv.ParseInt(first, 10, 64)
	b, errB := strconv.ParseInt(last, 10, 64)
	return bits.Range{Offset: a, Length: b - a + 1}, ok && slash && dash && errA == nil && errB == nil && b >= a
}

// errDescribed ends the copying of a file that content information stands for.
var errDescribed = errors.New("content information is sent instead")

// ReadFrom implements io.ReaderFrom. What it does not read is not sent.
func (w *describer) ReadFrom(src io.Reader) (int64, error) {
	if w.body == nil {
		return w.writer.ReadFrom(src)
	}
	if _, err := w.Write(w.body); err != nil {
		return 0, err
	}
	return 0, errDescribed
}
