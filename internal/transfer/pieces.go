package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/extent"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

const (
	// urgentEvery is the spacing of checkpoints while somebody waits for parts of the file.
	urgentEvery = 250 * time.Millisecond

	// settleTime is how long to wait for a file that was changed this very moment: its date has whole
	// seconds, so that parts of it cannot be told from parts of the next version.
	settleTime = 2500 * time.Millisecond
)

// inPieces reports whether a file does not simply move from front to back.
func (j *Job) inPieces(f *store.File) bool {
	if j.Type != bits.Download || j.whole() {
		return false
	}
	if x := f.Extra; x != nil && (len(x.Ranges) > 0 || len(x.Wanted) > 0 || x.Position > 0) {
		return true
	}
	return j.OnDemand || f.Part != nil && len(f.Part.Filled) > 0
}

// Filled returns which bytes of a file's part file, or of the file in its place, are here and durable,
// sorted and disjoint.
func Filled(f *store.File) extent.Set {
	if f.State == store.FilePending && f.Part != nil && len(f.Part.Filled) > 0 {
		return f.Part.Filled
	}
	if f.Done <= 0 {
		return nil
	}
	return extent.Set{{Offset: 0, Length: f.Done}}
}

// Wanted returns the parts of a file that were asked for and are not here.
func Wanted(f *store.File) []bits.Range {
	if f.Extra == nil || f.State != store.FilePending {
		return nil
	}
	var out []bits.Range
	here := Filled(f)
	for _, w := range f.Extra.Wanted {
		if w = clip(w, f.Size); w.Length == bits.ToEOF {
			return append(out, w) // the size is not known, so nothing is here
		}
		for _, m := range here.Missing(w) {
			out = append(out, m)
			here = here.Add(m)
		}
	}
	return out
}

// clip cuts off what lies beyond a size, if that is known.
func clip(r bits.Range, size int64) bits.Range {
	if size < 0 {
		return r
	}
	first := min(r.Offset, size)
	return bits.Range{Offset: first, Length: min(r.End(), size) - first}
}

// span is a run of bytes: where they stand in the file on the server and in the one here.
type span struct{ remote, local, length int64 }

// layout says where the parts of a file stand here: back to back, in the order in which they were given.
type layout struct {
	spans []span // by local
	size  int64  // of the file here; -1 if it takes the size on the server to know
}

// newLayout lays out the ranges of a file, all of it if there are none. total is the size on the
// server, -1 if it is not known.
func newLayout(ranges []bits.Range, total int64) layout {
	if len(ranges) == 0 {
		ranges = []bits.Range{{Offset: 0, Length: bits.ToEOF}}
	}
	l := layout{spans: make([]span, 0, len(ranges))}
	for _, r := range ranges {
		n := r.Length
		if n == bits.ToEOF {
			if total < 0 {
				return layout{size: -1}
			}
			n = total - r.Offset
		}
		l.spans = append(l.spans, span{r.Offset, l.size, n})
		l.size += n
	}
	return l
}

// add appends to todo where the bytes of a local range come from, up to most spans. It reports whether
// all of it found room.
func (l *layout) add(todo []span, r bits.Range, most int) ([]span, bool) {
	at, end := r.Offset, r.End()
	i, found := slices.BinarySearchFunc(l.spans, at, func(s span, at int64) int { return cmp.Compare(s.local, at) })
	if !found {
		i--
	}
	for ; at < end; i++ {
		s := l.spans[i]
		skip := at - s.local
		next := span{s.remote + skip, at, min(s.length-skip, end-at)}
		if k := len(todo) - 1; k >= 0 && todo[k].remote+todo[k].length == next.remote && todo[k].local+todo[k].length == next.local {
			todo[k].length += next.length
		} else if len(todo) < most {
			todo = append(todo, next)
		} else {
			return todo, false
		}
		at += next.length
	}
	return todo, true
}

// pieces is one file on its way of which parts are fetched, or whose parts come out of order.
type pieces struct {
	transit
	file   *localfile.Sparse // nil until there is something to write
	layout layout
	filled extent.Set // accepted
	now    bits.Range // accepted and not in filled yet
	single bool       // the server takes one range a request
	waits  int        // for the file to settle
}

// errInOrder means that the server cannot send parts of a file that may as well be fetched from front
// to back.
var errInOrder = errors.New("the file has to be fetched in order")

// fetch moves what is wanted of the file.
func (p *pieces) fetch(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p.live = p.run.live.begin(p.index, &p.f, stop)
	defer p.run.live.end(p.index)
	p.answer.begin(&p.f, p.live)
	err := p.connect(ctx)
	if err == nil {
		defer p.disconnect()
		p.began = time.Now()
		err = p.open()
	}
	if err == nil {
		err = p.move(ctx)
	}
	if err == nil && p.whole() {
		err = p.finish(ctx)
	}
	err = errors.Join(p.told(err), p.leave(err))
	if p.answer.keep(&p.f) {
		f := p.f
		p.sink.File(p.index, &f)
	}
	if errors.Is(err, errInOrder) {
		return p.inOrder()
	}
	return err
}

// told gives an error the code that fits how the file is fetched.
func (p *pieces) told(err error) error {
	var e *bits.Error
	if !errors.As(err, &e) || e.Code != bits.InsufficientRangeSupport || len(p.ranges()) > 0 {
		return err
	}
	if !p.job.OnDemand {
		return errInOrder
	}
	told := *e
	told.Code = bits.RandomAccessNotSupported
	return &told
}

// inOrder gives up fetching parts of the file: it starts again, from front to back.
func (p *pieces) inOrder() error {
	if p.f.Extra != nil {
		x := *p.f.Extra
		x.Wanted, x.Position = nil, 0
		p.f.Extra = &x
	}
	if p.f.Part == nil {
		p.f.Part = &store.Part{}
	}
	p.f.Part = &store.Part{Note: "the server cannot send parts of the file, so it is fetched from front to back", Peak: max(p.f.Part.Peak, p.f.Done)}
	if err := p.forget(); err != nil {
		return err
	}
	return errInOrder
}

func (p *pieces) ranges() []bits.Range {
	if p.f.Extra == nil {
		return nil
	}
	return p.f.Extra.Ranges
}

func (p *pieces) wanted() []bits.Range {
	if p.f.Extra == nil {
		return nil
	}
	return p.f.Extra.Wanted
}

// whole reports whether all bytes are here.
func (p *pieces) whole() bool {
	return p.f.Size >= 0 && p.filled.Has(bits.Range{Offset: 0, Length: p.f.Size})
}

// open opens the part file if there is one that can be continued.
func (p *pieces) open() error {
	part := p.f.Part
	p.validator = httpget.Validator{Size: -1}
	filled := Filled(&p.f)
	total := p.f.Size
	if len(p.ranges()) > 0 {
		if total = -1; part != nil && part.Total > 0 {
			total = part.Total
		}
	}
	p.layout = newLayout(p.ranges(), total)
	if part == nil || len(filled) == 0 {
		p.resize()
		return nil
	}
	p.validator = httpget.Validator{ETag: part.ETag, LastModified: part.LastModified, Size: total}
	written, err := p.job.Owner.Watermark(p.path)
	switch {
	case err != nil || written < filled[len(filled)-1].End():
		return p.restart("the part file is gone or was cut", false)
	case !p.validator.Usable() || p.layout.size != p.f.Size || !filled.Valid(p.f.Size):
		return p.restart("the server gives no means to tell versions of the file apart", false)
	}
	file, err := localfile.OpenSparse(p.job.Owner, p.path, true, p.reserve())
	if err != nil {
		return localfile.Err(err, p.path)
	}
	p.file, p.filled = file, filled
	p.modified, _ = http.ParseTime(part.LastModified) // zero if the server gave none
	p.live.done.Store(filled.Bytes())
	p.live.size.Store(p.f.Size)
	return nil
}

// reserve is the size for which space is reserved: whoever reads a file on demand may want little of it.
func (p *pieces) reserve() int64 {
	if p.job.OnDemand {
		return -1
	}
	return p.f.Size
}

// leave closes what is open, recording how far the file is if it is not done.
func (p *pieces) leave(why error) error {
	if p.alone {
		p.feed.unclaim(true)
	}
	if p.file == nil {
		return nil
	}
	p.fold()
	if len(p.filled) == 0 && p.f.State == store.FilePending { // nothing worth keeping
		p.file.Close()
		if p.job.HighPerformance {
			return nil
		}
		return p.job.Owner.Remove(p.path)
	}
	if p.f.State == store.FilePending {
		if err := p.checkpoint(); err != nil {
			p.file.Close()
			return err
		}
	}
	return localErr(p.file.Close(), p.path)
}

// localErr is localfile.Err with an untyped nil.
func localErr(err error, path string) error {
	if err == nil {
		return nil
	}
	return localfile.Err(err, path)
}

// next returns what is asked for next, in order, up to as many spans as a request takes; nothing if
// all that is wanted is here.
func (p *pieces) next() []span {
	most := httpget.MaxRanges
	if p.single {
		most = 1
	}
	p.fold()
	var todo []span
	here := p.filled
	add := func(r bits.Range) bool {
		for _, m := range here.Missing(r) {
			var all bool
			if todo, all = p.layout.add(todo, m, most); !all {
				return false
			}
			here = here.Add(m)
		}
		return true
	}
	for _, w := range p.wanted() {
		if !add(clip(w, p.f.Size)) {
			return todo
		}
	}
	if len(todo) > 0 || p.job.OnDemand {
		return todo
	}
	from := int64(0)
	if p.f.Extra != nil {
		from = min(p.f.Extra.Position, p.f.Size)
	}
	if add(bits.Range{Offset: from, Length: p.f.Size - from}) {
		add(bits.Range{Offset: 0, Length: from})
	}
	return todo
}

// move makes requests until all that is wanted is here.
func (p *pieces) move(ctx context.Context) error {
	for tries := 0; ; {
		if err := p.feed.sized(&p.alone, p.layout.size); err != nil {
			return err
		}
		var todo []span
		if p.f.Size >= 0 {
			if todo = p.next(); len(todo) == 0 {
				return p.atLeastEmpty()
			}
		}
		before := p.here()
		err := p.request(ctx, todo)
		if err == nil {
			tries = 0
			continue
		}
		if p.here() > before {
			tries = 0
		}
		tries++
		if err == errSettle {
			if p.waits++; p.waits > maxRestarts {
				return &bits.Error{Code: bits.RemoteFileChanged, Context: bits.ContextRemoteFile, File: p.f.Remote}
			}
			if err := sleep(ctx, settleTime); err != nil {
				return err
			}
			tries = 0
			continue
		}
		if !quick(err) || p.job.OnDemand && errors.Is(err, errRestart) || tries > quickTries {
			return err
		}
		pause := time.Duration(float64(quickPause) * (0.5 + rand.Float64()))
		if p.here() > before {
			pause /= 4
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// resize takes over the size that the layout tells.
func (p *pieces) resize() {
	p.f.Size = p.layout.size
	p.live.size.Store(p.f.Size)
}

// atLeastEmpty makes the part file of a file that is whole without a byte.
func (p *pieces) atLeastEmpty() error {
	if p.file != nil || !p.whole() {
		return nil
	}
	var err error
	p.file, err = localfile.OpenSparse(p.job.Owner, p.path, false, -1)
	return localErr(err, p.path)
}

func (p *pieces) here() int64 { return p.filled.Bytes() + p.now.Length }

// request asks for parts of the file; for nothing but its size if todo is empty.
func (p *pieces) request(ctx context.Context, todo []span) error {
	ctx, under := p.ask(ctx, p.f.Remote)
	defer under.end()
	req := httpget.PartsRequest{URL: p.f.Remote, Header: p.job.Header, Validator: p.known(), Class: p.job.Class, Got: under.got, Answered: p.answer.came}
	for _, s := range todo {
		req.Ranges = append(req.Ranges, bits.Range{Offset: s.remote, Length: s.length})
	}
	if len(todo) == 0 {
		req.Ranges = []bits.Range{{Offset: 0, Length: 1}}
	}
	resp, err := p.http.GetParts(guard(ctx, &p.f, p.f.Remote), req)
	var e *bits.Error
	switch {
	case errors.Is(err, httpget.ErrManyRanges):
		p.single = true
		return nil
	case errors.As(err, &e) && e.Code == bits.InvalidRange && resp != nil && resp.Validator.Size == 0 && len(todo) == 0:
		// an empty file has no byte 0
		if err := p.accept(resp, nil); err != nil {
			return err
		}
		p.once.Do(p.sink.Connected)
		p.record()
		return nil
	case errors.As(err, &e) && e.Code == bits.InvalidRange && resp != nil && resp.Validator.Size >= 0 && resp.Validator.Size != p.f.Size && len(p.ranges()) == 0:
		// it is shorter now than when its size was learnt, and nothing of it is here
		p.layout = newLayout(nil, resp.Validator.Size)
		p.resize()
		return nil
	case err != nil:
		return err
	case resp.Restart != "":
		return p.changed(resp.Restart)
	}
	defer resp.Close()
	if err := p.accept(resp, todo); err != nil {
		return err
	}
	p.once.Do(p.sink.Connected)
	if len(todo) == 0 {
		p.record() // the size is news
		return nil
	}
	slices.SortFunc(todo, func(a, b span) int { return cmp.Compare(a.remote, b.remote) })
	before := p.here()
	for {
		under.patience.Wait(httpconn.Arrival, p.stallTime())
		part, body, err := resp.Next(ctx)
		under.patience.Rest()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = p.take(ctx, part, body, todo, under.patience)
		}
		if err != nil {
			return err
		}
	}
	if len(p.wanted()) > 0 {
		if err := p.checkpoint(); err != nil { // somebody waits
			return err
		}
	}
	if p.here() == before {
		return &bits.Error{Code: bits.InvalidServerResponse, Context: bits.ContextRemoteFile, File: p.f.Remote, Message: "the server sent nothing of what was asked for"}
	}
	return nil
}

// known is the validator of what is here; all zero if nothing is.
func (p *pieces) known() httpget.Validator {
	if len(p.filled) == 0 && p.now.Length == 0 {
		return httpget.Validator{}
	}
	return p.validator
}

// errSettle makes move ask again when the file, which was changed this very moment, has settled.
var errSettle = errors.New("the file was changed on the server this very moment")

// accept prepares the part file for an answer.
func (p *pieces) accept(resp *httpget.Parts, todo []span) error {
	v := resp.Validator
	l := newLayout(p.ranges(), v.Size)
	for _, r := range p.ranges() {
		if r.Offset >= v.Size || r.Length != bits.ToEOF && r.End() > v.Size {
			return &bits.Error{Code: bits.InvalidRange, Context: bits.ContextRemoteFile, File: p.f.Remote,
				Message: fmt.Sprintf("the range %v lies outside the file, which has %d bytes", r, v.Size)}
		}
	}
	var asked int64
	for _, s := range todo {
		asked += s.length
	}
	if !v.Usable() && p.here()+asked < l.size {
		// More answers will have to be joined to this one, and nothing proves that they may.
		if !v.Fresh {
			return &bits.Error{Code: bits.InsufficientRangeSupport, Context: bits.ContextRemoteFile, File: p.f.Remote,
				Message: "the server gives no means to tell versions of the file apart, so that its parts cannot be joined"}
		}
		if len(todo) > 0 {
			return errSettle
		}
	}
	if resp.Moved != "" {
		movedTo(&p.f, resp.Moved)
	}
	p.validator, p.modified, p.layout = v, resp.Modified, l
	p.resize()
	p.live.fixed.Store(!v.Usable())
	if err := p.budget.set(p.index, l.size); err != nil {
		return err
	}
	if p.file == nil && len(todo) > 0 {
		file, err := localfile.OpenSparse(p.job.Owner, p.path, false, p.reserve())
		if err != nil {
			return localfile.Err(err, p.path)
		}
		p.file, p.saved = file, time.Now()
	}
	return nil
}

// take writes what was asked for of one part of an answer. todo is sorted by remote.
func (p *pieces) take(ctx context.Context, part bits.Range, body io.Reader, todo []span, patience *httpconn.Patience) error {
	at := part.Offset
	for _, s := range todo {
		from, to := max(at, s.remote), min(part.End(), s.remote+s.length)
		if from >= to {
			continue
		}
		if err := p.skip(ctx, body, from-at, patience); err != nil {
			return err
		}
		if err := p.write(ctx, body, bits.Range{Offset: s.local + from - s.remote, Length: to - from}, patience); err != nil {
			return err
		}
		at = to
	}
	return p.skip(ctx, body, part.End()-at, patience)
}

// skip reads bytes that nobody asked for.
func (p *pieces) skip(ctx context.Context, body io.Reader, n int64, patience *httpconn.Patience) error {
	patience.Wait(httpconn.Arrival, p.stallTime())
	defer patience.Rest()
	if _, err := io.CopyN(io.Discard, body, n); err != nil {
		return p.broken(ctx, err)
	}
	return nil
}

// broken is the error for a body that ends early.
func (p *pieces) broken(ctx context.Context, err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return httpconn.TransportError(ctx, err, p.f.Remote)
}

// write copies the next bytes of a body to a place in the part file.
func (p *pieces) write(ctx context.Context, body io.Reader, to bits.Range, patience *httpconn.Patience) error {
	p.fold()
	if err := p.file.GoTo(to.Offset); err != nil {
		return localfile.Err(err, p.path)
	}
	p.now = bits.Range{Offset: to.Offset}
	every := checkpointEvery
	if len(p.wanted()) > 0 {
		every = urgentEvery
	}
	for left := to.Length; left > 0; {
		patience.Wait(httpconn.Arrival, p.stallTime())
		space := p.file.Space()
		n, err := body.Read(space[:min(int64(len(space)), left)])
		patience.Rest() // what follows is the disk's time
		if n > 0 {
			left -= int64(n)
			if err := p.file.Advance(n); err != nil {
				return localfile.Err(err, p.path)
			}
			p.now.Length += int64(n)
			p.live.done.Add(int64(n))
			p.run.live.moved.Add(int64(n))
		}
		if err != nil && left > 0 {
			return p.broken(ctx, err)
		}
		if time.Since(p.saved) >= every {
			if err := p.checkpoint(); err != nil {
				return err
			}
			p.now = bits.Range{Offset: to.End() - left}
		}
	}
	return nil
}

// fold adds what was accepted since to what is here.
func (p *pieces) fold() {
	if p.now.Length > 0 {
		p.filled = p.filled.Add(p.now)
		p.now = bits.Range{}
		p.live.done.Store(p.filled.Bytes())
	}
}

// changed deals with a file that is another one on the server than the one of which bytes are here.
func (p *pieces) changed(why string) error {
	if err := p.restart(why, true); err != nil {
		return err
	}
	if p.job.OnDemand {
		// Whoever reads parts of the file would get parts of two.
		return &bits.Error{Code: bits.RemoteFileChanged, Context: bits.ContextRemoteFile, File: p.f.Remote, Message: why + "; what was here of it is gone"}
	}
	return errRestart
}

// restart throws away what is here, as it cannot be continued.
func (p *pieces) restart(why string, changed bool) error {
	if changed {
		p.restarts++
	}
	if p.restarts > maxRestarts {
		return &bits.Error{Code: bits.RemoteFileChanged, Context: bits.ContextRemoteFile, File: p.f.Remote}
	}
	if p.f.Part == nil {
		p.f.Part = &store.Part{}
	}
	p.fold()
	p.f.Part = &store.Part{Note: why + "; it was started again", Peak: max(p.f.Part.Peak, p.f.Done, p.filled.Bytes())}
	if err := p.forget(); err != nil {
		return err
	}
	if p.file != nil {
		return localErr(p.file.Restart(), p.path)
	}
	return nil
}

// forget makes durable that nothing of the file is here.
func (p *pieces) forget() error {
	p.validator = httpget.Validator{Size: -1}
	p.layout = newLayout(p.ranges(), -1)
	p.filled, p.now = nil, bits.Range{}
	p.f.Size, p.f.Done = p.layout.size, 0
	p.f.Part = &store.Part{Note: p.f.Part.Note, Peak: p.f.Part.Peak, Headers: p.answer.text()}
	p.live.done.Store(0)
	p.live.size.Store(p.f.Size)
	f := p.f
	return p.sink.Save(p.index, &f)
}

// checkpoint makes what is here durable, then says so.
func (p *pieces) checkpoint() error {
	p.saved = time.Now()
	if err := p.file.Sync(); err != nil {
		return localfile.Err(err, p.path)
	}
	p.fold()
	p.record()
	return nil
}

// record reports the file's record with what is here, which is durable.
func (p *pieces) record() {
	p.has(p.filled.Clone())
	f := p.f
	p.sink.File(p.index, &f)
}

// finish checks the whole file and makes it durable.
func (p *pieces) finish(ctx context.Context) error {
	again := func() error {
		if err := p.move(ctx); err != nil {
			return err
		}
		return p.finish(ctx)
	}
	p.fold()
	if p.mustConfirm(p.f.Size) {
		why, err := p.http.Changed(guard(ctx, &p.f, p.f.Remote), p.f.Remote, p.job.Header, p.validator, p.job.Class)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && why != "" {
			if err := p.changed(why); err != errRestart {
				return err
			}
			return again()
		}
	}
	err := p.seal(ctx, p.file, p.expected())
	var wrong wrongSum
	switch {
	case errors.As(err, &wrong) && p.f.Part != nil && p.f.Part.Peers+p.f.Part.Cached > 0:
		// Peers may have described it before the transfer was stopped: now the server's own word counts.
		if err := p.restart("what came from peers did not have the checksum", false); err != nil {
			return err
		}
		return again()
	case errors.As(err, &wrong):
		return p.mismatch(string(wrong))
	case errors.Is(err, errGone):
		p.file.Close()
		p.file = nil
		if err := p.restart(errGone.Error(), true); err != nil {
			return err
		}
		return again()
	}
	return err
}

// mismatch ends a file whose content is not what was expected.
func (p *pieces) mismatch(got string) error {
	want := p.expected()
	p.file.Close()
	p.file = nil
	p.filled, p.layout = nil, newLayout(p.ranges(), -1)
	p.f.Size, p.f.Done, p.f.Part = p.layout.size, 0, &store.Part{Headers: p.answer.text()}
	f := p.f
	p.sink.File(p.index, &f)
	return errors.Join(&bits.Error{Code: bits.ValidationFailed, Context: bits.ContextRemoteFile, File: p.f.Remote,
		Message: fmt.Sprintf("the checksum of %s is %s, expected was %s", bits.RedactURL(p.f.Remote), got, want)}, p.job.Owner.Remove(p.path))
}
