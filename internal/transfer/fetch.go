package transfer

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/fileget"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

const (
	// largeFile is the size from which a file moves alone in its job: below it, waiting for
	// answers costs more than moving bytes.
	largeFile = 1 << 20

	// checkpointEvery bounds the work that a power failure costs. (After kill -9 the part
	// file itself tells how far it is.) A checkpoint of a file written past the page cache
	// costs about a millisecond.
	checkpointEvery = time.Second

	// quickTries is how often a broken connection is made again at once before the job goes
	// to TRANSIENT_ERROR; progress in between starts the count anew.
	quickTries = 3
	quickPause = 250 * time.Millisecond

	// maxRestarts is how often a file may change on the server in one go before the job
	// waits for it to settle.
	maxRestarts = 5
)

// PartName returns the path of the part file of a job's file: in the directory of the finished
// file, hidden, and different for every file of every job.
func PartName(local string, id bits.ID, index int) string {
	dir, base := filepath.Split(local)
	tail := "." + hex.EncodeToString(id[:6]) + "-" + strconv.Itoa(index) + ".ebbpart"
	return filepath.Join(dir, "."+base[:min(len(base), 255-1-len(tail))]+tail)
}

// newHash returns the hash of a checksum as bits.ParseChecksum returns it, and nil for none.
func newHash(checksum string) hash.Hash {
	algorithm, _, _ := strings.Cut(checksum, ":")
	switch algorithm {
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	case "blake3":
		return blake3.New()
	}
	return nil
}

// download is one file on its way.
type download struct {
	transit
	src       sources
	part      *localfile.Part // nil until there is something to write
	hash      hash.Hash
	share     *share // nil if it shares its content with no other job
	parts     bool   // the server sends parts of a version that it names
	plain     bool   // no description is asked for
	about     *description
	makes     bool              // the origin is about to describe the file
	makesAt   time.Time         // when it is asked for that again
	makesIn   time.Duration     // after which it was last
	damaged   bool              // the description was of no use
	known     []byte            // the digest of the file that others may know it by; nil for none
	sought    chan *description // told what a peer says of the file; nil if none is asked
	borrowed  bool              // bytes of another job are here
	connected bool              // is among the files that may ask their servers
}

// fetch moves one file. i counts in the transfer's own list.
func (r *run) fetch(ctx context.Context, i int, alone bool) error {
	row := r.job.Files[i]
	f := row.File
	plain, restarts := false, 0
	for {
		f = r.live.newest(row.Index, f)
		if f.State != store.FilePending { // skipped or removed meanwhile
			return r.drop(row.Index, f, alone)
		}
		now := transit{run: r, alone: alone, index: row.Index, f: *f, path: r.job.Path(f.Local, row.Index)}
		var err error
		if r.job.inPieces(f) && (plain || !r.peerable(f)) {
			p := &pieces{transit: now}
			err = p.fetch(ctx)
			f = &p.f
		} else {
			now.restarts = restarts
			d := &download{transit: now, plain: plain}
			err = d.fetch(ctx)
			f, restarts = &d.f, d.restarts
		}
		if errors.Is(err, errPlain) {
			plain = true
		} else if !errors.Is(err, errChanged) && !errors.Is(err, errInOrder) && !errors.Is(err, errAnew) {
			return err
		}
		alone = false
	}
}

// fetch moves the file.
func (d *download) fetch(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	d.live = d.run.live.begin(d.index, &d.f, stop)
	defer d.run.live.end(d.index)
	d.answer.begin(&d.f, d.live)
	d.hash = newHash(d.f.Checksum)
	end, err := d.join(ctx)
	if err != nil {
		return err
	}
	defer end()
	defer d.letOthers()
	err = d.takeTurn(ctx)
	if err == nil {
		d.began = time.Now()
		err = d.openDescribed(ctx)
	}
	if err == nil {
		err = d.open(ctx)
	}
	if err == nil {
		err = d.borrow(ctx)
	}
	if err == nil {
		err = d.move(ctx)
	}
	if err == nil {
		err = d.finish(ctx)
	}
	if errors.Is(err, errDescribed) {
		err = d.swarm(ctx)
	}
	if errors.Is(err, errHere) {
		d.skip()
		err = nil
	}
	err = errors.Join(err, d.leave(err))
	if d.answer.keep(&d.f) {
		f := d.f
		d.sink.File(d.index, &f)
	}
	return err
}

// takeTurn waits until the file may ask its server, if it may not yet.
func (d *download) takeTurn(ctx context.Context) error {
	if d.connected {
		return nil
	}
	err := d.connect(ctx)
	d.connected = err == nil
	return err
}

// letOthers lets another file of the job ask its server.
func (d *download) letOthers() {
	if d.connected {
		d.connected = false
		d.disconnect()
	}
}

// open opens the part file if there is one that can be continued.
func (d *download) open(ctx context.Context) error {
	p := d.f.Part
	d.findSources()
	if d.job.ACLFlags != 0 && !d.job.HighPerformance {
		if err := d.job.Owner.Reclaim(d.path); err != nil {
			return localfile.Err(err, d.path)
		}
	}
	if p == nil || d.f.Done == 0 && p.Boot == "" {
		return nil
	}
	d.validator = httpget.Validator{ETag: p.ETag, LastModified: p.LastModified, Size: d.f.Size}
	d.elsewhere()
	written, err := d.job.Owner.Watermark(d.path)
	keep := d.f.Done
	switch {
	case err != nil || written < keep:
		if keep == 0 {
			return d.forget()
		}
		return d.restart("the part file is gone or was cut", false)
	case !d.validator.Usable():
		return d.restart("the server gives no means to tell versions of the file apart", false)
	case p.Boot != "" && p.Boot == localfile.BootID():
		// The machine did not go down since, so everything that was written is still there,
		// also what was not made durable.
		keep = written
	}
	if d.f.Size >= 0 {
		keep = min(keep, d.f.Size)
	}
	if keep == 0 {
		return d.forget()
	}
	d.part, err = localfile.Open(ctx, d.path, localfile.Options{Owner: d.job.Owner, Keep: keep, Size: d.f.Size, Hash: d.hash})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return localfile.Err(err, d.path)
	}
	d.live.done.Store(d.part.Offset())
	// Nothing may be left to ask for, so what an answer would bring is taken from the record:
	// the date, and that the file has been under way for long enough to be confirmed.
	d.modified, _ = http.ParseTime(p.LastModified) // zero if the server gave none
	d.began = time.Time{}
	return d.feed.sized(&d.alone, d.f.Size)
}

// leave closes what is open, recording how far the file is if it is not done.
func (d *download) leave(why error) error {
	if d.alone {
		d.feed.unclaim(true)
	}
	if d.part == nil {
		return nil
	}
	if d.part.Offset() == 0 && why != nil { // nothing worth keeping
		d.part.Close()
		if d.job.HighPerformance {
			return nil
		}
		return d.job.Owner.Remove(d.path)
	}
	if why != nil && d.f.State == store.FilePending {
		if err := d.checkpoint(); err != nil {
			d.part.Close()
			return err
		}
	}
	if err := d.part.Close(); err != nil {
		return localfile.Err(err, d.path)
	}
	return nil
}

// pull makes requests to one source until all bytes are here.
func (d *download) pull(ctx context.Context) error {
	for tries := 0; ; {
		if d.part != nil && d.f.Size >= 0 && d.part.Offset() >= d.f.Size {
			return nil // the last byte came before the last interruption
		}
		before := d.offset()
		err := d.request(ctx)
		if err == nil {
			return nil
		}
		if d.job.Method != "" {
			return err // the server may have done what was asked of it: whether once more is right is for the owner to say
		}
		if d.offset() > before {
			tries = 0
		}
		if err == errShort && d.offset() > before {
			continue
		}
		tries++
		if !quick(err) || tries > quickTries {
			return err
		}
		// Somewhat random, so that the clients of a server that went down do not come back
		// all at once.
		pause := time.Duration(float64(quickPause) * (0.5 + rand.Float64()))
		if d.offset() > before {
			pause /= 4
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// quick reports whether an error is worth another try at once: the connection broke, could not
// be made or stood still, or the file must be started again.
func quick(err error) bool {
	var retry *httpconn.RetryError
	if errors.As(err, &retry) || errors.Is(err, errOther) {
		return false
	}
	var e *bits.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case bits.ConnectionError, bits.CannotConnect, bits.WinHTTPTimeout, errRestart.Code:
		return true
	}
	return false
}

// errRestart makes move ask again, from the start.
var errRestart = &bits.Error{Code: bits.RemoteFileChanged, Context: bits.ContextRemoteFile}

func (d *download) offset() int64 {
	if d.part == nil {
		return 0
	}
	return d.part.Offset()
}

// request makes one request and appends its body to the part file. It returns nil when the
// file has all its bytes.
func (d *download) request(ctx context.Context) error {
	if d.offset() > 0 && (!d.validator.Usable() || d.job.whole()) {
		// Nothing proves that the rest would belong to what is here.
		if err := d.restart("the server gives no means to tell versions of the file apart", false); err != nil {
			return err
		}
	}
	ctx, under := d.ask(ctx, d.src.url)
	defer under.end()

	about := d.peerDist()
	resp, err := d.get(ctx, httpget.Request{URL: d.src.url, Header: d.job.Header, Offset: d.offset(), Validator: d.validator, Whole: d.job.whole(),
		PeerDist: about, Class: d.job.Class, Got: under.got, Answered: d.answer.came})
	if err != nil {
		return err
	}
	if about.Version > 0 {
		if err := d.described(ctx, resp, under); err != nil {
			resp.Body.Close()
			return err
		}
	}
	if err := d.mayRestart(resp); err != nil {
		if resp.Body != nil {
			resp.Body.Close()
		}
		return err
	}
	if resp.Body == nil { // the rest of another version: ask for the whole
		if err := d.restart(resp.Restart, true); err != nil {
			return err
		}
		return errRestart
	}
	defer resp.Body.Close()
	d.moved(resp.Moved)
	if err := d.accept(ctx, resp); err != nil {
		return err
	}
	d.once.Do(d.sink.Connected)
	d.seek(ctx, resp)
	return d.copy(ctx, resp, under.patience)
}

// asked is a request that is under way: on which connection, and how long nothing may come.
type asked struct {
	*run
	ctx      context.Context
	cancel   context.CancelCauseFunc
	patience *httpconn.Patience
	conn     *governor.Conn // nil while it has none
}

// ask begins a request to u, which ends with an error if its answer does not begin in time. end
// must be called.
func (r *run) ask(ctx context.Context, u string) (context.Context, *asked) {
	ctx, cancel := context.WithCancelCause(ctx)
	ctx, patience := r.live.asking.Begin(ctx, headerPatience(r.stallTime()), func(s httpconn.Silence) { cancel(s.Err(u)) })
	return ctx, &asked{run: r, ctx: ctx, cancel: cancel, patience: patience}
}

// got is told which connection the request goes over.
func (a *asked) got(c *governor.Conn) {
	a.leave() // that of the request that was redirected
	a.live.took(c)
	a.patience.Rest() // the wait for room is not the server's
	if err := c.Begin(a.ctx); err == nil {
		a.conn = c
	}
	a.patience.Wait(httpconn.Reply, headerPatience(a.stallTime()))
}

func (a *asked) leave() {
	if a.conn != nil {
		a.conn.End()
		a.conn = nil
	}
}

func (a *asked) end() {
	a.leave()
	a.patience.End()
	a.cancel(nil)
}

// headerPatience is how long an answer may take to begin: a server may have to fetch or make
// the file first.
func headerPatience(stall time.Duration) time.Duration {
	return min(2*stall, httpconn.HeaderTimeout)
}

// accept prepares the part file for an answer.
func (d *download) accept(ctx context.Context, resp *httpget.Response) error {
	size := resp.Validator.Size
	if d.here(resp) {
		return errHere
	}
	if err := d.feed.sized(&d.alone, size); err != nil {
		return err
	}
	d.learn(resp)
	if d.part == nil {
		part, err := localfile.Open(ctx, d.path, localfile.Options{Owner: d.job.Owner, Size: size, Hash: d.hash})
		if err != nil {
			return localfile.Err(err, d.path)
		}
		d.part = part
	} else if resp.Offset == 0 && d.part.Offset() > 0 {
		if err := d.restart(resp.Restart, resp.Changed); err != nil {
			return err
		}
	}
	d.joins(resp)
	d.validator, d.modified = resp.Validator, resp.Modified
	if d.job.whole() {
		d.validator = httpget.Validator{Size: size} // what others say of other answers
	}
	d.shareable(resp)
	d.live.fixed.Store(!d.validator.Usable())
	if size != d.f.Size {
		d.f.Size = size
		d.live.size.Store(size)
		if size >= 0 {
			if err := d.part.SetSize(size); err != nil {
				return localfile.Err(err, d.path)
			}
		}
	}
	d.saved = time.Now()
	if err := d.budget.set(d.index, max(size, d.part.Offset())); err != nil {
		return err
	}
	if !d.job.HighPerformance && (size < 0 || size >= largeFile) {
		// Recorded before the first byte, so that after kill -9 the bytes have a validator.
		d.record(d.f.Done)
	}
	return nil
}

// copy appends the body. It returns nil when the file is whole.
func (d *download) copy(ctx context.Context, resp *httpget.Response, patience *httpconn.Patience) error {
	left := resp.Length
	for {
		patience.Wait(httpconn.Arrival, d.stallTime())
		n, err := resp.Body.Read(d.part.Space())
		patience.Rest() // what follows is the disk's time
		if n > 0 {
			if left >= 0 {
				if left -= int64(n); left < 0 {
					return &bits.Error{Code: bits.InvalidServerResponse, Context: bits.ContextRemoteFile, File: d.src.url,
						Message: "the server sent more than it announced"}
				}
			}
			if d.f.Size < 0 {
				if err := d.budget.set(d.index, d.part.Offset()+int64(n)); err != nil {
					return err
				}
			}
			if err := d.part.Advance(n); err != nil {
				return localfile.Err(err, d.path)
			}
			d.live.done.Add(int64(n))
			d.run.live.moved.Add(int64(n))
		}
		switch {
		case err == io.EOF && left > 0:
			return httpconn.TransportError(ctx, io.ErrUnexpectedEOF, d.src.url)
		case err == io.EOF && d.f.Size >= 0 && d.part.Offset() < d.f.Size:
			return errShort // a server may send less than was asked for: ask for the rest
		case err == io.EOF:
			return nil
		case err != nil:
			return httpconn.TransportError(ctx, err, d.src.url)
		}
		if d.found(left) {
			return errDescribed
		}
		if now := time.Now(); now.Sub(d.saved) >= checkpointEvery && !d.job.HighPerformance {
			if err := d.checkpoint(); err != nil {
				return err
			}
			if d.describedNow(ctx, left) {
				return errDescribed
			}
		}
	}
}

// errShort makes move ask for the rest.
var errShort = &bits.Error{Code: bits.ConnectionError, Context: bits.ContextGeneralTransport, Message: "the server sent less than was asked for"}

// restart throws away what is here, because it cannot be continued. changed tells whether the
// file changed on the server: that may not go on for ever.
func (d *download) restart(why string, changed bool) error {
	if changed {
		d.restarts++
	}
	if d.restarts > maxRestarts {
		return &bits.Error{Code: bits.RemoteFileChanged, Context: bits.ContextRemoteFile, File: d.src.url}
	}
	if d.f.Part == nil {
		d.f.Part = &store.Part{}
	}
	peak := max(d.f.Part.Peak, d.f.Done)
	if d.part != nil {
		peak = max(peak, d.part.Offset())
	}
	d.f.Part = &store.Part{Note: why + "; it was started again", Peak: peak, Duplicates: d.f.Part.Duplicates, Digest: d.kept()}
	if err := d.forget(); err != nil {
		return err
	}
	if d.part != nil {
		if err := d.part.Restart(); err != nil {
			return localfile.Err(err, d.path)
		}
	}
	return nil
}

// forget makes durable that nothing of the file is here, before bytes of perhaps another
// version come: a crash must not leave these with the old ones' validator.
func (d *download) forget() error {
	d.validator = httpget.Validator{Size: -1}
	d.f.Size, d.f.Done = -1, 0
	d.f.Part = &store.Part{Note: d.f.Part.Note, Peak: d.f.Part.Peak, Duplicates: d.f.Part.Duplicates, Digest: d.kept(), Headers: d.answer.text()}
	d.live.done.Store(0)
	d.live.size.Store(-1)
	f := d.f
	return d.sink.Save(d.index, &f)
}

// record reports the file's record with so many durable bytes.
func (d *download) record(durable int64) {
	part := store.Part{Boot: localfile.BootID(), Headers: d.answer.text()}
	if d.validator.Usable() {
		part.ETag, part.LastModified = d.validator.ETag, d.validator.LastModified
	}
	if d.f.Part != nil {
		part.Note, part.Peak = d.f.Part.Note, d.f.Part.Peak
		part.Duplicates, part.Digest = d.f.Part.Duplicates, d.f.Part.Digest
	}
	part.Source = d.source()
	part.Peak = max(part.Peak, durable)
	d.f.Done, d.f.Part = durable, &part
	f := d.f
	d.sink.File(d.index, &f)
}

// checkpoint makes what is here durable, then says so.
func (d *download) checkpoint() error {
	durable, err := d.part.Checkpoint()
	if err != nil {
		return localfile.Err(err, d.path)
	}
	d.record(durable)
	d.saved = time.Now()
	return nil
}

// finish checks the whole file and makes it durable.
func (d *download) finish(ctx context.Context) error {
	if d.part == nil { // no byte was ever asked for; cannot happen
		return bits.Errorf(bits.Unexpected, "there is no part file")
	}
	again := func() error {
		if err := d.takeTurn(ctx); err != nil {
			return err
		}
		if err := d.move(ctx); err != nil {
			return err
		}
		return d.finish(ctx)
	}
	if d.makes && d.askInfo(ctx) { // for others; and it proves every byte
		return errDescribed
	}
	if d.mustConfirm(d.part.Offset()) {
		why, err := d.confirm(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && why != "" {
			if err := d.restart(why, true); err != nil {
				return err
			}
			return again()
		}
	}
	if d.job.ACLFlags != 0 && fileget.Is(d.src.url) {
		rights, why, err := fileget.Rights(d.job.Owner, d.src.url, d.validator, d.job.ACLFlags)
		switch {
		case err != nil:
			return err
		case why != "":
			if err := d.restart(why, true); err != nil {
				return err
			}
			return again()
		}
		d.part.SetRights(rights)
	}
	d.letOthers() // the rest is the disk's work
	size := d.part.Offset()
	if err := d.part.Finish(d.modified); err != nil {
		return localfile.Err(err, d.path)
	}
	if _, err := d.job.Owner.Watermark(d.path); errors.Is(err, fs.ErrNotExist) {
		// Somebody deleted it, perhaps with its directory, while it was written.
		d.part.Close()
		d.part = nil
		if err := d.restart("the part file was deleted", true); err != nil {
			return err
		}
		return again()
	}
	if d.hash != nil && d.expected() != "" {
		if got := d.digest(); got != d.expected() {
			err := d.mismatch(got)
			if d.borrowed { // they may be as wrong in that job: the server's own word counts
				d.borrowed = false
			} else if !d.retryElsewhere(err) {
				return err
			}
			return again()
		}
	}
	d.publish(ctx)
	note := ""
	if d.f.Part != nil {
		note = d.f.Part.Note
	}
	d.f.State, d.f.Size, d.f.Done = store.FileDone, size, size
	d.f.Part = &store.Part{Inode: d.part.Inode(), Note: note, Source: d.source(), Headers: d.answer.text()}
	d.healthy()
	d.live.size.Store(size)
	f := d.f
	d.sink.File(d.index, &f)
	return nil
}

func (d *download) digest() string {
	algorithm, _, _ := strings.Cut(d.expected(), ":")
	return algorithm + ":" + hex.EncodeToString(d.hash.Sum(nil))
}

// mismatch ends a file whose content is not what was expected: what is here is thrown away, so
// that Resume fetches it again.
func (d *download) mismatch(got string) error {
	if d.part != nil {
		d.part.Close()
		d.part = nil
	}
	want := d.expected()
	d.f.Size, d.f.Done = -1, 0
	part := store.Part{Headers: d.answer.text()}
	if d.f.Part != nil {
		part.Digest, part.Duplicates = d.f.Part.Digest, d.f.Part.Duplicates
	}
	d.f.Part = &part
	f := d.f
	d.sink.File(d.index, &f)
	err := d.job.Owner.Remove(d.path)
	return errors.Join(&bits.Error{Code: bits.ValidationFailed, Context: bits.ContextRemoteFile, File: d.src.url,
		Message: fmt.Sprintf("the checksum of %s is %s, expected was %s", bits.RedactURL(d.src.url), got, want)}, err)
}
